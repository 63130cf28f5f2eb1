// What people do all day, with matrix-js-sdk, unmodified: two users on two devices each. After every step the unread counts that the SDK
// has on each device are those that the server tells a device that has seen nothing, and those that the step must have led to.
// Usage: node everyday.mjs http://127.0.0.1:8008
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { ThreadFilterType } from "matrix-js-sdk/lib/models/thread.js";
import { RoomHierarchy } from "matrix-js-sdk/lib/room-hierarchy.js";
import * as common from "./common.mjs";
import { eventually, script, step, suffix } from "./common.mjs";

const baseUrl = process.argv[2];
const [MESSAGE, REACTION] = ["m.room.message", "m.reaction"];
const [READ, PRIVATE] = ["m.read", "m.read.private"];

/// A user on two devices, with a third session that never goes on from anywhere: it asks what the server says.
const user = async (name) => {
    const session = await common.register(baseUrl, name);
    const [second, witness] = [await common.device(baseUrl, session.user_id), await common.device(baseUrl, session.user_id)];
    const start = (session) => common.started(baseUrl, session, { threadSupport: true });
    const devices = [await start(session), await start(second)];
    return { id: session.user_id, token: witness.access_token, desk: devices[0], phone: devices[1], devices };
};

const get = async (user, path, query = {}) => {
    const url = new URL(`${baseUrl}/_matrix/client/${path}`);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const response = await fetch(url, { headers: { authorization: `Bearer ${user.token}` } });
    assert.equal(response.status, 200, `${path}: ${await response.clone().text()}`);
    return response.json();
};

/// Unread counts of a room, as the server tells them: outside threads, and of each thread that has any.
const served = async (user, roomId) => {
    const filter = { room: { rooms: [roomId], timeline: { limit: 1, unread_thread_notifications: true } } };
    const synced = await get(user, "v3/sync", { filter: JSON.stringify(filter), set_presence: "offline" });
    const room = synced.rooms.join[roomId];
    const pair = ({ notification_count, highlight_count }) => [notification_count, highlight_count];
    const threads = Object.entries(room.unread_thread_notifications ?? {}).map(([root, counts]) => [root, pair(counts)]);
    return { main: pair(room.unread_notifications), threads: Object.fromEntries(threads) };
};

/// The same as the SDK has them on one device, for these threads.
const known = (client, roomId, roots) => {
    const room = client.getRoom(roomId);
    const pair = (count) => ["total", "highlight"].map(count);
    const threads = roots
        .map((root) => [root, pair((type) => room.getThreadUnreadNotificationCount(root, type))])
        .filter(([, counts]) => counts.some((count) => count > 0));
    return { main: pair((type) => room.getRoomUnreadNotificationCount(type)), threads: Object.fromEntries(threads) };
};

/// A room in which both are and how it is talked in; `sent` waits until all four devices have what was sent.
class Talk {
    constructor(users, roomId) {
        this.users = users;
        this.roomId = roomId;
        this.roots = [];
        this.everywhere = users.flatMap((user) => user.devices);
    }

    event(client, id) {
        return client.getRoom(this.roomId).findEventById(id);
    }

    async sent(client, type, content, thread = null) {
        const { event_id } = await client.sendEvent(this.roomId, thread, type, content);
        await eventually(`${type} on every device`, () => this.everywhere.every((client) => this.event(client, event_id)));
        return event_id;
    }

    say(client, body, more = {}) {
        return this.sent(client, MESSAGE, { msgtype: "m.text", body, ...more });
    }

    inThread(client, root, body, more = {}) {
        const room = client.getRoom(this.roomId);
        // As a client does that shows the thread which is written to.
        if (!room.getThread(root)) room.createThread(root, room.findEventById(root), [], false);
        return this.sent(client, MESSAGE, { msgtype: "m.text", body, ...more }, root);
    }

    async read(client, id, type = READ, unthreaded = false) {
        await client.sendReadReceipt(this.event(client, id), type, unthreaded);
    }

    /// Each user's counts, `{ main: [total, highlights], threads: { root: […] } }`, on every device and as the server tells them.
    async counts(...expected) {
        for (const [index, { main, threads = {} }] of expected.entries()) {
            const user = this.users[index];
            const wanted = { main, threads };
            const said = await served(user, this.roomId);
            assert.deepEqual(said, wanted, `${user.id}: what the server says`);
            for (const client of user.devices) {
                const has = () => known(client, this.roomId, this.roots);
                await eventually("the SDK's counts", () => isDeepStrictEqual(has(), wanted)).catch(() => {
                    assert.deepEqual(has(), wanted, `${user.id} on ${client.getDeviceId()}: what the SDK has`);
                });
            }
        }
    }
}

const NONE = { main: [0, 0] };

const talkOf = async (alice, bob) => {
    const { room_id } = await alice.desk.createRoom({ name: "Everyday", preset: "private_chat", invite: [bob.id] });
    await eventually("the invitation on both devices", () => bob.devices.every((client) => client.getRoom(room_id)?.getMyMembership() === "invite"));
    await bob.desk.joinRoom(room_id);
    const talk = new Talk([alice, bob], room_id);
    await eventually("both are there", () => talk.everywhere.every((client) => client.getRoom(room_id)?.getJoinedMemberCount() === 2));
    return talk;
};

const receipts = async (talk, alice, bob) => {
    const ids = [];
    for (const body of ["one", "two", "three"]) ids.push(await talk.say(alice.desk, body));
    const mention = await talk.say(alice.phone, "look here", { "m.mentions": { user_ids: [bob.id] } });
    await talk.sent(alice.desk, MESSAGE, { msgtype: "m.notice", body: "a machine speaks" });
    await talk.counts(NONE, { main: [4, 1] });

    await talk.read(bob.desk, ids[1]);
    await talk.counts(NONE, { main: [2, 1] });
    const readUpTo = (client) => client.getRoom(talk.roomId).getEventReadUpTo(bob.id, true);
    await eventually("the receipt on alice's devices", () => alice.devices.every((client) => readUpTo(client) === ids[1]));

    await talk.read(bob.phone, mention, PRIVATE);
    await talk.counts(NONE, NONE);
    await eventually("the private receipt on bob's other device", () => readUpTo(bob.desk) === mention);
    assert.ok(alice.devices.every((client) => readUpTo(client) === ids[1]), "alice is told of a private receipt");

    await talk.read(bob.desk, ids[0]);
    await talk.say(bob.desk, "I have read it all");
    await talk.counts({ main: [1, 0] }, NONE);
    const last = await talk.say(alice.desk, "so have I");
    await talk.counts(NONE, { main: [1, 0] });

    const event = talk.event(bob.desk, last);
    await bob.desk.setRoomReadMarkers(talk.roomId, last, event);
    await talk.counts(NONE, NONE);
    const marker = (client) => client.getRoom(talk.roomId).getAccountData("m.fully_read")?.getContent().event_id;
    await eventually("the fully-read marker on both devices", () => bob.devices.every((client) => marker(client) === last));
    assert.ok(alice.devices.every((client) => marker(client) !== last));
};

const threads = async (talk, alice, bob) => {
    const root = await talk.say(alice.desk, "a thread begins here");
    talk.roots.push(root);
    const first = await talk.inThread(bob.desk, root, "first");
    await talk.inThread(bob.phone, root, "second", { "m.mentions": { user_ids: [alice.id] } });
    await talk.counts({ main: [0, 0], threads: { [root]: [2, 1] } }, { main: [1, 0] });
    for (const client of alice.devices) {
        await eventually("the thread in the SDK", () => client.getRoom(talk.roomId).getThread(root)?.length === 2);
    }
    const bundle = (await get(alice, `v3/rooms/${encodeURIComponent(talk.roomId)}/event/${encodeURIComponent(root)}`)).unsigned["m.relations"]["m.thread"];
    assert.deepEqual([bundle.count, bundle.current_user_participated, bundle.latest_event.content.body], [2, true, "second"]);

    await talk.read(alice.desk, first);
    await talk.counts({ main: [0, 0], threads: { [root]: [1, 1] } });
    await talk.say(bob.desk, "beside the thread");
    await talk.counts({ main: [1, 0], threads: { [root]: [1, 1] } }, NONE);
    const answer = await talk.inThread(alice.phone, root, "third");
    await talk.counts({ main: [1, 0] }, { main: [0, 0], threads: { [root]: [1, 0] } });
    await talk.read(bob.phone, answer, PRIVATE);
    await talk.counts({ main: [1, 0] }, NONE);

    const more = await talk.inThread(bob.desk, root, "fourth");
    await talk.counts({ main: [1, 0], threads: { [root]: [1, 0] } }, NONE);
    await talk.read(alice.desk, more, READ, true);
    await talk.counts(NONE, NONE);

    // The SDK turns a page round: what is newest comes last.
    const listed = async (user, type) => (await user.desk.createThreadListMessagesRequest(talk.roomId, null, 10, "b", type)).chunk.map((event) => event.event_id);
    const other = await talk.say(alice.desk, "a thread of alice's alone");
    talk.roots.push(other);
    const reply = await talk.inThread(alice.desk, other, "nobody answers");
    assert.deepEqual(await listed(bob, ThreadFilterType.All), [root, other]);
    assert.deepEqual(await listed(bob, ThreadFilterType.My), [root]);
    await talk.read(bob.desk, other, READ, true);
    await talk.counts(NONE, { main: [0, 0], threads: { [other]: [1, 0] } });
    await talk.read(bob.desk, reply);
    await talk.counts(NONE, NONE);
};

const edits = async (talk, alice, bob) => {
    const first = await talk.say(alice.desk, "teh message");
    await talk.counts(NONE, { main: [1, 0] });
    for (const body of ["the massage", "the message"]) {
        await talk.say(alice.phone, `* ${body}`, { "m.new_content": { msgtype: "m.text", body }, "m.relates_to": { rel_type: "m.replace", event_id: first } });
    }
    await talk.counts(NONE, { main: [1, 0] });
    const shown = (client) => talk.event(client, first).getContent().body;
    await eventually("the edit everywhere", () => talk.everywhere.every((client) => shown(client) === "the message"));
    const served = await bob.desk.fetchRoomEvent(talk.roomId, first);
    assert.equal(served.content.body, "teh message");
    assert.equal(served.unsigned["m.relations"]["m.replace"].content["m.new_content"].body, "the message");
    const { events } = await bob.phone.relations(talk.roomId, first, "m.replace", MESSAGE);
    assert.deepEqual(events.map((event) => event.getContent()["m.new_content"].body), ["the message", "the massage"]);
    const late = await common.started(baseUrl, await common.device(baseUrl, bob.id), { threadSupport: true });
    await eventually("the edit on a device that comes later", () => late.getRoom(talk.roomId)?.findEventById(first)?.getContent().body === "the message");
    assert.deepEqual(known(late, talk.roomId, talk.roots), { main: [1, 0], threads: {} });
    late.stopClient();
    await talk.read(bob.desk, first);
    await talk.counts(NONE, NONE);
};

const reactions = async (talk, alice, bob) => {
    const message = await talk.say(alice.desk, "what do you think?");
    await talk.read(bob.desk, message);
    const react = (client, key) => talk.sent(client, REACTION, { "m.relates_to": { rel_type: "m.annotation", event_id: message, key } });
    const thumb = await react(bob.desk, "👍");
    await react(bob.phone, "🎉");
    await react(alice.desk, "👍");
    await talk.counts(NONE, NONE);
    const tally = (client) => {
        const relations = client.getRoom(talk.roomId).relations.getChildEventsForEvent(message, "m.annotation", REACTION);
        return Object.fromEntries((relations?.getSortedAnnotationsByKey() ?? []).map(([key, events]) => [key, events.size]));
    };
    const everywhere = (expected) => eventually(JSON.stringify(expected), () => talk.everywhere.every((client) => isDeepStrictEqual(tally(client), expected)));
    await everywhere({ "👍": 2, "🎉": 1 });
    const path = `/rooms/${encodeURIComponent(talk.roomId)}/send/${REACTION}/again`;
    const again = bob.phone.http.authedRequest("PUT", path, undefined, { "m.relates_to": { rel_type: "m.annotation", event_id: message, key: "👍" } });
    await assert.rejects(again, (error) => error.errcode === "M_DUPLICATE_ANNOTATION");
    await bob.phone.redactEvent(talk.roomId, thumb);
    await everywhere({ "👍": 1, "🎉": 1 });
    const { chunk } = await alice.phone.fetchRelations(talk.roomId, message, "m.annotation", REACTION);
    assert.deepEqual(chunk.map((event) => event.content["m.relates_to"].key).sort(), ["🎉", "👍"].sort());
};

const redactions = async (talk, alice, bob) => {
    const [first, second] = [await talk.say(alice.desk, "kept"), await talk.say(alice.desk, "taken back", { "m.mentions": { user_ids: [bob.id] } })];
    await talk.counts(NONE, { main: [2, 1] });
    await alice.phone.redactEvent(talk.roomId, second);
    await eventually("it is redacted everywhere", () => talk.everywhere.every((client) => talk.event(client, second).isRedacted()));
    await talk.counts(NONE, { main: [1, 0] });
    await talk.read(bob.phone, first);
    await talk.counts(NONE, NONE);
};

const rules = async (talk, alice, bob) => {
    await bob.desk.setRoomMutePushRule("global", talk.roomId, true);
    await talk.say(alice.desk, "nobody hears this");
    await talk.counts(NONE, NONE);
    await bob.phone.setRoomMutePushRule("global", talk.roomId, false);
    await eventually("the rule is gone on both devices", () => bob.devices.every((client) => !client.getRoomPushRule("global", talk.roomId)));
    const heard = await talk.say(alice.desk, "this is heard");
    // What a rule hushed counts again when it is gone: the counts are those of the rules as they are.
    await talk.counts(NONE, { main: [2, 0] });
    await talk.read(bob.desk, heard);
    await talk.counts(NONE, NONE);
};

const typing = async (talk, alice, bob) => {
    const types = (client) => client.getRoom(talk.roomId).getMember(bob.id)?.typing === true;
    const on = (wanted) => eventually(`typing: ${wanted}`, () => alice.devices.every((client) => types(client) === wanted));
    await bob.desk.sendTyping(talk.roomId, true, 20_000);
    await on(true);
    await bob.desk.sendTyping(talk.roomId, false, 0);
    await on(false);
    await bob.phone.sendTyping(talk.roomId, true, 700);
    await on(true);
    await on(false);
    await talk.counts(NONE, NONE);
};

const presence = async (alice, bob) => {
    const seen = (check, what) => eventually(what, () => alice.devices.every((client) => check(client.getUser(bob.id) ?? {})), 60_000);
    // The SDK says it with its next sync: some news ends the one that waits.
    let changes = 0;
    const become = async (state, devices = bob.devices) => {
        for (const client of devices) await client.setSyncPresence(state);
        await bob.desk.setAccountData("org.example.presence", { changes: ++changes });
    };
    await seen((user) => user.presence === "online", "bob is there");
    await bob.desk.setPresence({ presence: "online", status_msg: "writing tests" });
    await seen((user) => user.presenceStatusMsg === "writing tests", "his status");
    assert.equal((await alice.desk.getPresence(bob.id)).status_msg, "writing tests");
    await become("unavailable");
    await seen((user) => user.presence === "unavailable", "bob is away on all his devices");
    await become("online", [bob.phone]);
    await seen((user) => user.presence === "online", "bob is back on one");
    await become("offline");
    await seen((user) => user.presence === "offline", "bob is not to be seen");
    await become(undefined);
    await seen((user) => user.presence === "online", "bob is back");
};

const accountData = async (talk, alice, bob) => {
    await bob.desk.setAccountData("org.example.settings", { colour: "green" });
    await bob.desk.setRoomAccountData(talk.roomId, "org.example.notes", { text: "a note" });
    await bob.phone.setRoomTag(talk.roomId, "m.favourite", { order: 0.25 });
    const room = (client) => client.getRoom(talk.roomId);
    await eventually("account data and tags on both devices", () =>
        bob.devices.every(
            (client) =>
                client.getAccountData("org.example.settings")?.getContent().colour === "green" &&
                room(client).getAccountData("org.example.notes")?.getContent().text === "a note" &&
                room(client).tags["m.favourite"]?.order === 0.25,
        ),
    );
    assert.ok(alice.devices.every((client) => !room(client).getAccountData("org.example.notes")));
    await bob.desk.deleteRoomTag(talk.roomId, "m.favourite");
    await eventually("the tag is gone", () => bob.devices.every((client) => !("m.favourite" in room(client).tags)));
};

const search = async (talk, alice, bob) => {
    const word = `needle${suffix}`;
    for (let count = 0; count < 12; count++) await talk.say(alice.desk, `straw, ${word} ${count}, straw`);
    const { room_id: hidden } = await alice.desk.createRoom({ preset: "private_chat" });
    await alice.desk.sendTextMessage(hidden, `${word} in another room`);
    const found = await eventually("all are found", async () => {
        const found = await bob.desk.searchRoomEvents({ term: word });
        return found.count === 12 && found;
    });
    assert.ok(found.highlights.includes(word));
    while (found.next_batch) await bob.desk.backPaginateRoomEventsSearch(found);
    const bodies = found.results.map((result) => result.context.getEvent().getContent().body);
    assert.deepEqual(new Set(bodies), new Set(Array.from({ length: 12 }, (_, count) => `straw, ${word} ${count}, straw`)));
    assert.equal(bodies.length, 12);
    const one = await alice.desk.searchMessageText({ query: `${word} another` });
    assert.deepEqual(one.search_categories.room_events.results.map(({ result }) => result.room_id), [hidden]);
    const taken = found.results[0].context.getEvent().getId();
    await alice.desk.redactEvent(talk.roomId, taken);
    await eventually("what is redacted is not found", async () => (await bob.desk.searchRoomEvents({ term: word })).count === 11);
    const last = await talk.say(alice.desk, "enough");
    await talk.read(bob.desk, last);
    await talk.counts(NONE, NONE);
};

const spaces = async (talk, alice, bob) => {
    const via = ["clients.test"];
    const room = async (options, children = []) => {
        const initial_state = children.map(([state_key, content]) => ({ type: "m.space.child", state_key, content: { via, ...content } }));
        return (await alice.desk.createRoom({ preset: "public_chat", ...options, initial_state })).room_id;
    };
    const asSpace = { creation_content: { type: "m.space" } };
    const [open, secret] = [await room({ name: "Open" }), await room({ name: "Secret", preset: "private_chat" })];
    const inner = await room({ name: "Inner", ...asSpace }, [[open, {}]]);
    const outer = await room({ name: "Outer", ...asSpace }, [[inner, { suggested: true, order: "a" }], [secret, { order: "b" }], [talk.roomId, { order: "c" }]]);
    const tree = async (client, ...more) => {
        const hierarchy = new RoomHierarchy(client.getRoom(outer), ...more);
        while (hierarchy.canLoadMore) await hierarchy.load();
        return hierarchy;
    };
    await bob.desk.joinRoom(outer);
    await eventually("the space on both devices", () => bob.devices.every((client) => client.getRoom(outer)?.isSpaceRoom()));
    const all = await tree(bob.desk);
    assert.deepEqual(all.rooms.map((room) => room.room_id), [outer, inner, open, talk.roomId], "depth first, without what bob may not see");
    assert.ok(all.isSuggested(outer, inner));
    assert.deepEqual((await tree(bob.phone, 1)).rooms.map((room) => room.room_id), all.rooms.map((room) => room.room_id), "the same a room at a time");
    assert.deepEqual((await tree(bob.phone, 10, 1)).rooms.map((room) => room.room_id), [outer, inner, talk.roomId]);
    assert.deepEqual((await tree(bob.phone, 10, undefined, true)).rooms.map((room) => room.room_id), [outer, inner]);
    assert.ok((await tree(alice.desk)).rooms.some((room) => room.room_id === secret));
    await alice.phone.sendStateEvent(outer, "m.space.child", {}, inner);
    await eventually("the child is taken out", async () => (await tree(bob.phone)).rooms.length === 2);
};

await script("matrix-js-sdk, everyday", async () => {
    const [alice, bob] = await step("two users on two devices each", () => Promise.all(["alice", "bob"].map(user)));
    const talk = await step("a room", () => talkOf(alice, bob));
    await step("account data and tags", () => accountData(talk, alice, bob));
    await step("receipts and unread counts", () => receipts(talk, alice, bob));
    await step("threads", () => threads(talk, alice, bob));
    await step("edits", () => edits(talk, alice, bob));
    await step("reactions", () => reactions(talk, alice, bob));
    await step("redactions", () => redactions(talk, alice, bob));
    await step("push rules", () => rules(talk, alice, bob));
    await step("typing", () => typing(talk, alice, bob));
    await step("presence", () => presence(alice, bob));
    await step("search", () => search(talk, alice, bob));
    await step("spaces", () => spaces(talk, alice, bob));
});
