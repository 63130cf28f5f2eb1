// Delegation of a leave by its delay id, in the manner of a token service beside a LiveKit SFU: the member hands the id over, and the service,
// which has no access token, restarts the event for as long as the SFU says that the member is connected, and sends it when the SFU says
// that it is gone. Usage: node delegation.mjs http://127.0.0.1:8008
import assert from "node:assert/strict";
import * as common from "./common.mjs";
import { MEMBERSHIP, callRoom, eventually, script, sleep, step } from "./common.mjs";

const baseUrl = process.argv[2];
const started = async (name) => common.started(baseUrl, await common.register(baseUrl, name));

/// What such a service does with a delay id. Tries again only where the answer says that this can help.
class Service {
    constructor(delayId, timeout) {
        this.url = `${baseUrl}/_matrix/client/unstable/org.matrix.msc4140/delayed_events/${encodeURIComponent(delayId)}`;
        this.timeout = timeout;
        this.restarts = 0;
    }

    async act(action) {
        const response = await fetch(`${this.url}/${action}`, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
        return { status: response.status, body: await response.json() };
    }

    /// The SFU says that the member is there. Answers `gone` once the event is not scheduled any more.
    async connected() {
        this.present = true;
        while (this.present) {
            const { status } = await this.act("restart");
            if (status === 404) return "gone";
            assert.equal(status, 200);
            this.restarts += 1;
            for (let waited = 0; this.present && waited < this.timeout * 0.8; waited += 20) await sleep(20);
        }
        return "left";
    }

    /// The SFU says that the member has gone.
    disconnected() {
        this.present = false;
        return this.act("send");
    }
}

await script("delegation by delay id", async () => {
    const [alice, bob] = [await started("alice"), await started("bob")];
    const roomId = await callRoom(alice, bob);
    const key = `_${bob.getUserId()}_${bob.getDeviceId()}_m.call`;
    const member = () => alice.getRoom(roomId).currentState.getStateEvents(MEMBERSHIP, key)?.getContent();
    const join = async (delay) => {
        const { delay_id } = await bob._unstable_sendDelayedStateEvent(roomId, { delay }, MEMBERSHIP, {}, key);
        await bob.sendStateEvent(roomId, MEMBERSHIP, { application: "m.call", call_id: "" }, key);
        await eventually("the member is in the call", () => member()?.application === "m.call");
        return new Service(delay_id, delay);
    };
    const gone = () => eventually("the member has left", () => member() && !member().application, 3_000);

    await step("the homeserver says that it does not delegate by itself", async () => {
        const refused = bob._unstable_delegateDelayedLeave({ delay_id: "x" });
        await assert.rejects(refused, (error) => error.httpStatus === 404);
    });

    await step("the service keeps the member in the call and takes it out", async () => {
        const service = await join(500);
        const watching = service.connected();
        // The member itself is silent from now on, for much longer than its delay.
        await sleep(2_200);
        assert.equal(member().application, "m.call");
        assert.ok(service.restarts >= 4, `${service.restarts} restarts`);
        const told = Date.now();
        assert.equal((await service.disconnected()).status, 200);
        await gone();
        assert.ok(Date.now() - told < 500);
        assert.equal(await watching, "left");
        assert.equal((await service.act("send")).status, 200, "a repeat of what has happened is no error");
        const late = await service.act("restart");
        assert.deepEqual([late.status, late.body.errcode], [404, "M_NOT_FOUND"], "404 ends the service's work; a 409 it would repeat for ever");
    });

    await step("the service dies: the leave comes by itself", async () => {
        const service = await join(600);
        assert.equal((await service.act("restart")).status, 200);
        await gone();
    });

    await step("the member cancels: the service finds nothing more to do", async () => {
        const service = await join(400);
        const watching = service.connected();
        await sleep(100);
        await bob._unstable_cancelScheduledDelayedEvent(decodeURIComponent(service.url.split("/").at(-1)));
        assert.equal(await watching, "gone");
        assert.equal(member().application, "m.call");
    });

    await step("an id that was guessed does nothing", async () => {
        for (const id of ["guess", "..%2F", "x".repeat(32)]) {
            const { status, body } = await new Service(id, 1).act("send");
            assert.deepEqual([status, body.errcode], [404, "M_NOT_FOUND"]);
        }
    });
});
