// What the scripts share: users of the server under test, waiting, and the telling of steps.
import * as sdk from "matrix-js-sdk";
import { logger } from "matrix-js-sdk/lib/logger.js";

logger.setLevel("error");
for (const name of ["debug", "info", "warn", "trace"]) console[name] = () => {};

export const PASSWORD = "a long password";
export const MEMBERSHIP = "org.matrix.msc3401.call.member";
export const suffix = Math.random().toString(36).slice(2, 8);
export const sleep = (ms) => new Promise((next) => setTimeout(next, ms));

/// Clients that were started, for the end of the script.
export const clients = [];

/// Waits until the probe finds something.
export const eventually = async (what, probe, ms = 10_000) => {
    const end = Date.now() + ms;
    for (;;) {
        const found = await probe();
        if (found) return found;
        if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
        await sleep(25);
    }
};

export const register = (baseUrl, name) =>
    sdk.createClient({ baseUrl }).registerRequest({ username: `${name}-${suffix}`, password: PASSWORD, auth: { type: "m.login.dummy" } });

/// The session of another device of a user.
export const device = (baseUrl, user) =>
    sdk.createClient({ baseUrl }).loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password: PASSWORD });

/// A client of a session that has synced.
export const started = async (baseUrl, session, { threadSupport = false, crypto = false, ...options } = {}) => {
    const client = sdk.createClient({
        baseUrl,
        userId: session.user_id,
        accessToken: session.access_token,
        deviceId: session.device_id,
        timelineSupport: true,
        ...options,
    });
    clients.push(client);
    if (crypto) await client.initRustCrypto({ useIndexedDB: false });
    await client.startClient({ lazyLoadMembers: true, initialSyncLimit: 5, threadSupport });
    await eventually("first sync", () => client.isInitialSyncComplete());
    return client;
};

/// A room in which everybody may say that they are in a call.
export const callRoom = async (alice, bob) => {
    const power_level_content_override = { events: { [MEMBERSHIP]: 0 } };
    const { room_id } = await alice.createRoom({ preset: "private_chat", invite: [bob.getUserId()], power_level_content_override });
    await eventually("the invitation", () => bob.getRoom(room_id)?.getMyMembership() === "invite");
    await bob.joinRoom(room_id);
    await eventually("both are in the room", () => [alice, bob].every((client) => client.getRoom(room_id)?.getJoinedMemberCount() === 2));
    return room_id;
};

export const step = async (name, run) => {
    const start = Date.now();
    const value = await run();
    console.log(`ok ${name} (${Date.now() - start} ms)`);
    return value;
};

/// Runs a script to its end and says whether it passed.
export const script = async (name, run) => {
    try {
        await run();
        console.log(`${name}: all passed`);
    } catch (error) {
        console.error(error);
        process.exitCode = 1;
    } finally {
        for (const client of clients) client.stopClient();
        setTimeout(() => process.exit(), 200);
    }
};
