// MatrixRTC with matrix-js-sdk's own session and membership manager: one of two clients is killed in a call, and its leave reaches the other
// no later than its delay and 50 ms after its last heartbeat. Usage: node matrixrtc.mjs http://127.0.0.1:8008 [RUNS]
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import * as common from "./common.mjs";
import { MEMBERSHIP, callRoom, eventually, script, sleep, step } from "./common.mjs";

const baseUrl = process.argv[2];
const RUNS = Number(process.argv[3] ?? 20);
const LATE = 50;
const [DELAY, RESTART] = [1_200, 400];
// As Element Call does it by default.
const [CALL_DELAY, CALL_RESTART] = [18_000, 4_000];

const started = async (name) => common.started(baseUrl, await common.register(baseUrl, name));

/// Lets a member join, beat and be killed. How many milliseconds after its last heartbeat the other saw it leave.
const killed = async (alice, bob, roomId, delay, restart, beats) => {
    const session = await common.device(baseUrl, bob.getUserId());
    const member = fork(new URL("member.mjs", import.meta.url).pathname, [baseUrl, JSON.stringify(session), roomId, delay, restart]);
    const heartbeats = [];
    let failure;
    member.on("message", ({ what, at }) => (what === "heartbeat" ? heartbeats.push(at) : (failure = what)));
    let left;
    const own = (event) => event.getType() === MEMBERSHIP && event.getStateKey()?.includes(session.device_id);
    const seen = (event) => {
        if (own(event) && Object.keys(event.getContent()).length === 0) left ??= Date.now();
    };
    alice.on("Room.timeline", seen);
    try {
        const rtc = alice.matrixRTC.getRoomSession(alice.getRoom(roomId));
        const present = () => rtc.memberships.some((membership) => membership.deviceId === session.device_id);
        await eventually("the member is in the call", present);
        await eventually(`${beats} heartbeats`, () => failure || heartbeats.length >= beats, delay + restart * (beats + 4));
        assert.equal(failure, undefined);
        assert.equal(left, undefined, "left although it was beating");
        // Between two heartbeats, so that it is certain which was the last.
        await sleep(restart * (0.1 + 0.5 * Math.random()));
        const exit = new Promise((ended) => member.on("exit", (_, signal) => ended(signal)));
        member.kill("SIGKILL");
        assert.equal(await exit, "SIGKILL");
        const last = heartbeats.at(-1);
        await eventually("its leave", () => left, delay + 5_000);
        await eventually("the other's session is without it", () => !present(), 1_000);
        return left - last;
    } finally {
        alice.off("Room.timeline", seen);
        member.kill("SIGKILL");
    }
};

/// The distribution of lateness in words.
const told = (late) => {
    const sorted = [...late].sort((a, b) => a - b);
    const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
    return `min ${sorted[0]}, p50 ${at(0.5)}, p90 ${at(0.9)}, max ${sorted.at(-1)} ms; all: ${sorted.join(" ")}`;
};

const check = (late) => {
    assert.ok(Math.max(...late) <= LATE, `later than ${LATE} ms: ${told(late)}`);
    assert.ok(Math.min(...late) >= 0, `early: ${told(late)}`);
};

await script("matrix-js-sdk, MatrixRTC", async () => {
    const [alice, bob] = [await started("alice"), await started("bob")];
    const roomId = await callRoom(alice, bob);

    await step("the SDK's own methods for delayed events", async () => {
        const message = (body) => ({ msgtype: "m.text", body });
        const delayed = (body, delay) => bob._unstable_sendDelayedEvent(roomId, { delay }, null, "m.room.message", message(body));
        const [due, sent, cancelled] = [await delayed("due", 700), await delayed("sent", 60_000), await delayed("cancelled", 60_000)];
        const state = await bob._unstable_sendDelayedStateEvent(roomId, { delay: 60_000 }, MEMBERSHIP, {}, `_${bob.getUserId()}_X`);
        assert.equal((await bob._unstable_getDelayedEvent(due.delay_id)).content.body, "due");
        const listed = await bob._unstable_getDelayedEvents("scheduled");
        assert.deepEqual(new Set(listed.scheduled.map((event) => event.delay_id)), new Set([due, sent, cancelled, state].map((event) => event.delay_id)));
        await bob._unstable_restartScheduledDelayedEvent(state.delay_id);
        await bob._unstable_cancelScheduledDelayedEvent(cancelled.delay_id);
        await bob._unstable_sendScheduledDelayedEvent(sent.delay_id);
        await bob._unstable_updateDelayedEvent(state.delay_id, "cancel");
        const bodies = () => alice.getRoom(roomId).getLiveTimeline().getEvents().map((event) => event.getContent().body);
        await eventually("what was sent and what was due", () => ["sent", "due"].every((body) => bodies().includes(body)));
        assert.ok(!bodies().includes("cancelled"));
        const ended = await bob._unstable_getDelayedEvents("finalised");
        assert.equal(ended.finalised.length, 4);
        const missing = (error) => error.errcode === "M_NOT_FOUND";
        await assert.rejects(bob._unstable_restartScheduledDelayedEvent(sent.delay_id), missing);
        await assert.rejects(alice._unstable_cancelScheduledDelayedEvent(due.delay_id), missing);
        const tooLong = bob._unstable_sendDelayedEvent(roomId, { delay: 86_400_001 }, null, "m.room.message", message("never"));
        await assert.rejects(tooLong, (error) => error.data["org.matrix.msc4140.errcode"] === "M_MAX_DELAY_EXCEEDED");
    });

    await step(`${RUNS} members killed, delay ${DELAY} ms, heartbeat every ${RESTART} ms`, async () => {
        const late = [];
        for (let run = 0; run < RUNS; run++) late.push((await killed(alice, bob, roomId, DELAY, RESTART, 2 + (run % 2))) - DELAY);
        console.log(`leaves seen after delay and last heartbeat: ${told(late)}`);
        check(late);
    });

    await step(`a member at the pace of Element Call (${CALL_DELAY} ms, ${CALL_RESTART} ms) killed`, async () => {
        const late = [(await killed(alice, bob, roomId, CALL_DELAY, CALL_RESTART, 2)) - CALL_DELAY];
        console.log(`leave seen after delay and last heartbeat: ${late} ms`);
        check(late);
    });
});
