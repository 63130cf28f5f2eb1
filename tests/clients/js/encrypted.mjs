// Two users of matrix-js-sdk and one of matrix-nio in an encrypted room: verified, through a device added, deleted and logged out, a server
// killed in the middle of a claim of keys, and a key backup restored on a fresh device. Every message is decrypted by every device that
// should, and by none that shouldn't. Usage: node encrypted.mjs BASE PYTHON NIO-SCRIPT PID-FILE
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { MatrixEvent } from "matrix-js-sdk";
import { VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/verification.js";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/CryptoEvent.js";
import { clients, device, eventually, PASSWORD, register, script, sleep, started, step, suffix } from "./common.mjs";

const [baseUrl, python, nioScript, pidFile] = process.argv.slice(2);

/// The keys of secret storages, which a person would keep on paper.
const paper = new Map();
const cryptoCallbacks = {
    getSecretStorageKey: async ({ keys }) => Object.keys(keys).map((id) => [id, paper.get(id)]).find(([, key]) => key),
    cacheSecretStorageKey: (id, _, key) => paper.set(id, key),
};

/// The server goes away and devices are logged out: what the SDK has to say of that is expected.
const silence = () => {};
const logger = { trace: silence, debug: silence, info: silence, warn: silence, error: silence, getChild: () => logger };

/// A password once more, as the server asks for it.
const again = (client) => async (request) => {
    try {
        return await request(null);
    } catch (error) {
        const identifier = { type: "m.id.user", user: client.getUserId() };
        return await request({ type: "m.login.password", identifier, password: PASSWORD, session: error.data.session });
    }
};

/// A client with encryption. Its requests pass `fetchFn`.
const encrypted = async (session, options = {}) => {
    const client = await started(baseUrl, session, { crypto: true, cryptoCallbacks, logger, ...options });
    await eventually("own keys are published", async () => (await client.getCrypto().getDeviceVerificationStatus(client.getUserId(), client.getDeviceId())) !== null);
    return client;
};

/// matrix-nio in a process of its own.
class Nio {
    #heard = [];
    #process;
    constructor(name) {
        const folder = mkdtempSync(join(tmpdir(), "nio-"));
        this.#process = spawn(python, [nioScript, baseUrl, name, folder], { stdio: ["pipe", "pipe", "inherit"] });
        createInterface({ input: this.#process.stdout }).on("line", (line) => this.#heard.push(JSON.parse(line)));
    }
    heard(what, probe, ms = 20_000) {
        return eventually(what, () => this.#heard.find(probe), ms);
    }
    async do(command) {
        const from = this.#heard.length;
        this.#process.stdin.write(`${JSON.stringify(command)}\n`);
        const answer = await eventually(`nio: ${command.do}`, () => this.#heard.slice(from).find(({ done, failed }) => done === command.do || failed), 30_000);
        assert.equal(answer.failed, undefined);
        return answer.event;
    }
    end() {
        this.#process.stdin.end();
        setTimeout(() => this.#process.kill(), 2_000).unref();
    }
}

/// Whether a client knows of another's device, as its own syncs have told.
const knows = async (client, other) => {
    const devices = await client.getCrypto().getUserDeviceInfo([other.getUserId()]);
    return devices.get(other.getUserId())?.has(other.getDeviceId()) ?? false;
};
const known = (client, other) => eventually(`${other.getDeviceId()} is known`, () => knows(client, other), 20_000);
const gone = (client, other) => eventually(`${other.getDeviceId()} is gone`, async () => !(await knows(client, other)), 20_000);

const clear = (client, room, id) => {
    const event = client.getRoom(room)?.findEventById(id);
    return event && !event.isBeingDecrypted() && !event.isDecryptionFailure() ? event.getClearContent()?.body : undefined;
};

const send = async (client, room, body) => (await client.sendTextMessage(room, body)).event_id;

/// All of these devices read a message.
const allRead = (devices, room, id, body) =>
    Promise.all(devices.map((client) => eventually(`${client.getUserId()} on ${client.getDeviceId()} reads ${body}`, () => clear(client, room, id) === body, 30_000)));

/// A device that has lost its place is handed the ciphertext nevertheless, and can do nothing with it.
const cannotRead = async (client, witness, room, id) => {
    const raw = await witness.fetchRoomEvent(room, id);
    assert.equal(raw.type, "m.room.encrypted");
    const event = new MatrixEvent({ ...raw, room_id: room });
    await event.attemptDecryption(client.getCrypto(), { isRetry: true }).catch(() => {});
    assert.ok(event.isDecryptionFailure(), `${client.getDeviceId()} must not be able to read ${id}`);
};

/// Two people compare emojis.
const compareEmojis = async (one, other, room) => {
    const incoming = new Promise((resolve) => other.once(CryptoEvent.VerificationRequestReceived, resolve));
    const asking = await one.getCrypto().requestVerificationDM(other.getUserId(), room);
    const asked = await Promise.race([incoming, sleep(20_000).then(() => assert.fail("the request to verify never came"))]);
    await asked.accept();
    await eventually("the request is accepted", () => asking.phase === VerificationPhase.Ready, 20_000);
    const seen = [];
    const confirm = (verifier) => {
        verifier.on(VerifierEvent.ShowSas, (sas) => {
            seen.push(JSON.stringify(sas.sas.emoji));
            void sas.confirm();
        });
        return verifier.verify();
    };
    const first = confirm(await asking.startVerification("m.sas.v1"));
    const second = confirm(await eventually("the other has a verifier", () => asked.verifier, 20_000));
    await Promise.all([first, second]);
    assert.equal(seen.length, 2);
    assert.equal(seen[0], seen[1]);
};

await script("encrypted", async () => {
    const [aliceSession, bobSession] = await Promise.all([register(baseUrl, "enc-alice"), register(baseUrl, "enc-bob")]);
    // Alice's requests go through here, so that the server can be killed at a moment of our choosing.
    let atClaim = null;
    const fetchFn = async (url, options) => {
        if (atClaim && new URL(url).pathname.endsWith("/keys/claim")) {
            const act = atClaim;
            atClaim = null;
            const request = fetch(url, options);
            act();
            return await request;
        }
        return await fetch(url, options);
    };
    const [alice, bob] = await Promise.all([encrypted(aliceSession, { fetchFn }), encrypted(bobSession)]);
    const carol = new Nio(`enc-carol-${suffix}`);
    const { session: carolSession } = await carol.heard("nio has come up", ({ session }) => session);

    await step("cross-signing, secret storage and a key backup", async () => {
        for (const client of [alice, bob]) {
            await client.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys: again(client) });
            const createSecretStorageKey = () => client.getCrypto().createRecoveryKeyFromPassphrase();
            await client.getCrypto().bootstrapSecretStorage({ createSecretStorageKey, setupNewSecretStorage: true, setupNewKeyBackup: true });
            assert.ok(await client.getCrypto().isCrossSigningReady());
            assert.ok(await client.getCrypto().isSecretStorageReady());
        }
    });

    const room = await step("an encrypted room of three", async () => {
        const content = { algorithm: "m.megolm.v1.aes-sha2" };
        const initial_state = [{ type: "m.room.encryption", state_key: "", content }];
        const invite = [bob.getUserId(), carolSession.user_id];
        const { room_id } = await alice.createRoom({ preset: "private_chat", initial_state, invite });
        await eventually("the invitation", () => bob.getRoom(room_id)?.getMyMembership() === "invite");
        await bob.joinRoom(room_id);
        await carol.do({ do: "join", room: room_id });
        await eventually("all are in", () => [alice, bob].every((client) => client.getRoom(room_id)?.getJoinedMemberCount() === 3));
        await eventually("it is encrypted", () => alice.isRoomEncrypted(room_id) && bob.isRoomEncrypted(room_id));
        return room_id;
    });

    await step("all verify each other", async () => {
        await compareEmojis(alice, bob, room);
        for (const [one, other] of [[alice, bob], [bob, alice]]) {
            const trusted = async () => (await one.getCrypto().getDeviceVerificationStatus(other.getUserId(), other.getDeviceId()))?.crossSigningVerified;
            await eventually("the other's device is verified by its owner's signature", trusted);
        }
        for (const client of [alice, bob]) {
            const { ed25519 } = await client.getCrypto().getOwnDeviceKeys();
            await carol.do({ do: "verify", user: client.getUserId(), device: client.getDeviceId(), ed25519 });
            const devices = await client.getCrypto().getUserDeviceInfo([carolSession.user_id], true);
            const hers = devices.get(carolSession.user_id).get(carolSession.device_id);
            assert.equal(hers.getFingerprint(), carolSession.ed25519);
            await client.getCrypto().setDeviceVerified(carolSession.user_id, carolSession.device_id);
        }
    });

    const everybodyReads = async (client, body, others) => {
        const id = await send(client, room, body);
        await allRead(others, room, id, body);
        await carol.heard(`nio reads ${body}`, ({ got }) => got === body);
        return id;
    };

    const early = await step("each talks, each reads", async () => {
        const id = await everybodyReads(alice, "from alice", [alice, bob]);
        await everybodyReads(bob, "from bob", [alice, bob]);
        const hers = await carol.do({ do: "send", room, body: "from carol" });
        await allRead([alice, bob], room, hers, "from carol");
        return id;
    });

    const second = await step("a device is added", async () => {
        const added = await encrypted(await device(baseUrl, alice.getUserId()));
        await known(bob, added);
        const { ed25519 } = await added.getCrypto().getOwnDeviceKeys();
        await carol.do({ do: "verify", user: added.getUserId(), device: added.getDeviceId(), ed25519 });
        await everybodyReads(bob, "to both of alice", [alice, bob, added]);
        const hers = await carol.do({ do: "send", room, body: "carol to both of alice" });
        await allRead([alice, bob, added], room, hers, "carol to both of alice");
        return added;
    });

    await step("a device is deleted", async () => {
        await again(alice)((auth) => alice.deleteDevice(second.getDeviceId(), auth ?? undefined));
        await gone(bob, second);
        const id = await everybodyReads(bob, "without the second of alice", [alice, bob]);
        await cannotRead(second, alice, room, id);
        second.stopClient();
    });

    await step("a device logs out", async () => {
        const third = await encrypted(await device(baseUrl, bob.getUserId()));
        await known(alice, third);
        await everybodyReads(alice, "to both of bob", [alice, bob, third]);
        await third.logout(false);
        await gone(alice, third);
        const id = await everybodyReads(alice, "without the third of bob", [alice, bob]);
        await cannotRead(third, alice, room, id);
        third.stopClient();
    });

    await step("the server is killed in the middle of a claim", async () => {
        const fourth = await encrypted(await device(baseUrl, bob.getUserId()));
        let killed = false;
        atClaim = () => {
            process.kill(Number(readFileSync(pidFile, "utf8")), "SIGKILL");
            killed = true;
        };
        await known(alice, fourth);
        const id = await eventually("the message is sent", () => send(alice, room, "across a kill").catch(() => null), 60_000);
        assert.ok(killed, "keys were claimed");
        await allRead([alice, bob, fourth], room, id, "across a kill");
        await carol.heard("nio reads on", ({ got }) => got === "across a kill", 60_000);
        await everybodyReads(bob, "after the kill", [alice, bob, fourth]);
    });

    await step("a fresh device restores the backup and reads what was said before it came", async () => {
        const keys = async () => (await alice.getCrypto().exportRoomKeys()).length;
        const kept = async () => (await alice.getCrypto().checkKeyBackupAndEnable())?.backupInfo.count;
        await eventually("all keys are in the backup", async () => (await kept()) >= (await keys()), 30_000);
        const fresh = await encrypted(await device(baseUrl, alice.getUserId()));
        await fresh.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
        const { total, imported } = await fresh.getCrypto().restoreKeyBackup();
        assert.ok(imported > 0 && imported === total, `${imported} of ${total} keys`);
        await eventually("the early message", async () => {
            await fresh.scrollback(fresh.getRoom(room), 100);
            return clear(fresh, room, early) === "from alice";
        }, 30_000);
    });

    carol.end();
    assert.ok(clients.length >= 6);
});

