// matrix-js-sdk, unmodified, against a running server: two users, one of them on two devices.
// Usage: node spine.mjs http://127.0.0.1:8008
import assert from "node:assert/strict";
import * as sdk from "matrix-js-sdk";
import * as common from "./common.mjs";
import { MEMBERSHIP, PASSWORD, eventually, script, sleep, step } from "./common.mjs";

const baseUrl = process.argv[2];
const register = (name) => common.register(baseUrl, name);
const started = (session) => common.started(baseUrl, session);

const bodies = (client, roomId) =>
    (client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? []).filter((e) => e.getType() === "m.room.message").map((e) => e.getContent().body);

await script("matrix-js-sdk", async () => {
    const alice = await step("register and sync", async () => started(await register("alice")));
    const bob = await started(await register("bob"));

    const phone = await step("log in on a second device", async () => {
        const login = sdk.createClient({ baseUrl });
        const session = await login.loginRequest({
            type: "m.login.password",
            identifier: { type: "m.id.user", user: alice.getUserId() },
            password: PASSWORD,
            initial_device_display_name: "phone",
        });
        assert.notEqual(session.device_id, alice.getDeviceId());
        return await started(session);
    });

    await step("profile", async () => {
        await alice.setDisplayName("Alice");
        assert.equal((await bob.getProfileInfo(alice.getUserId())).displayname, "Alice");
        assert.equal((await alice.getDevices()).devices.length, 2);
    });

    const roomId = await step("create and invite", async () => {
        const { room_id } = await alice.createRoom({ name: "Spine", topic: "A test", preset: "private_chat", invite: [bob.getUserId()] });
        await eventually("bob is invited", () => bob.getRoom(room_id)?.getMyMembership() === "invite");
        assert.equal(bob.getRoom(room_id).name, "Spine");
        return room_id;
    });

    await step("join", async () => {
        await bob.joinRoom(roomId);
        await eventually("bob is in the room", () => bob.getRoom(roomId)?.getMyMembership() === "join");
        await eventually("both of alice's devices know", () => phone.getRoom(roomId)?.getJoinedMemberCount() === 2);
    });

    await step("talk", async () => {
        for (let i = 0; i < 30; i++) await (i % 2 ? alice : bob).sendTextMessage(roomId, `message ${i}`);
        const all = Array.from({ length: 30 }, (_, i) => `message ${i}`);
        for (const client of [alice, phone, bob]) {
            await eventually("all messages", () => all.every((body) => bodies(client, roomId).includes(body)));
        }
        // Who writes sees an own message at once, before earlier ones of others; who only reads sees the room's order.
        assert.deepEqual(bodies(phone, roomId).slice(-30), all);
    });

    await step("the local echo carries its transaction id to its own device only", async () => {
        const { event_id } = await alice.sendTextMessage(roomId, "echo", "txn-echo");
        const own = await eventually("own event", () => alice.getRoom(roomId).findEventById(event_id));
        const other = await eventually("other device's event", () => phone.getRoom(roomId).findEventById(event_id));
        await eventually("no second copy", () => bodies(alice, roomId).filter((body) => body === "echo").length === 1);
        assert.equal(other.getUnsigned().transaction_id, undefined);
        assert.ok(own);
    });

    await step("paginate back to the creation, lazily loaded", async () => {
        const fresh = await started(await common.device(baseUrl, bob.getUserId()));
        const room = fresh.getRoom(roomId);
        const timeline = room.getLiveTimeline();
        assert.ok(bodies(fresh, roomId).length <= 5);
        while (await fresh.paginateEventTimeline(timeline, { backwards: true, limit: 10 }));
        assert.equal(bodies(fresh, roomId).length, 31);
        assert.equal(timeline.getEvents()[0].getType(), "m.room.create");
        await room.loadMembersIfNeeded();
        assert.equal(room.getMembersWithMembership("join").length, 2);
    });

    await step("redact", async () => {
        const { event_id } = await bob.sendTextMessage(roomId, "a mistake");
        await eventually("it arrives", () => alice.getRoom(roomId).findEventById(event_id));
        await bob.redactEvent(roomId, event_id, undefined, { reason: "typo" });
        await eventually("it is redacted", () => alice.getRoom(roomId).findEventById(event_id).isRedacted());
        assert.deepEqual((await alice.fetchRoomEvent(roomId, event_id)).content, {});
    });

    await step("a last will: schedule, five heartbeats, stop, see it sent", async () => {
        const type = MEMBERSHIP;
        const key = `_${bob.getUserId()}_${bob.getDeviceId()}`;
        await alice.sendStateEvent(roomId, "m.room.power_levels", {
            ...alice.getRoom(roomId).currentState.getStateEvents("m.room.power_levels", "").getContent(),
            events: { [type]: 0 },
        });
        const delay = 1_000;
        const { delay_id } = await bob._unstable_sendDelayedStateEvent(roomId, { delay }, type, {}, key);
        await bob.sendStateEvent(roomId, type, { application: "m.call", call_id: "" }, key);
        const member = () => alice.getRoom(roomId).currentState.getStateEvents(type, key)?.getContent();
        await eventually("bob is in the call", () => member()?.application === "m.call");
        for (let beat = 0; beat < 5; beat++) {
            await sleep(delay / 2);
            await bob._unstable_restartScheduledDelayedEvent(delay_id);
            assert.equal(member().application, "m.call", "sent although it was restarted");
        }
        const last = Date.now();
        const listed = await bob._unstable_getDelayedEvents();
        assert.ok(JSON.stringify(listed).includes(delay_id));
        await eventually("bob has left the call", () => member() && !member().application, 3_000);
        const late = Date.now() - last - delay;
        assert.ok(late > -100 && late < 500, `sent ${late} ms after its time`);
    });

    await step("log out", async () => {
        await phone.logout(true);
        await assert.rejects(alice.http.authedRequest("GET", "/account/whoami", undefined, undefined, { headers: { Authorization: "Bearer gone" } }));
        assert.equal((await alice.getDevices()).devices.length, 1);
    });
});
