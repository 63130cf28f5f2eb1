"""matrix-nio, unmodified, against a running server: two users in a room.

Usage: spine.py http://127.0.0.1:8008
"""

import asyncio
import secrets
import sys

from nio import (
    AsyncClient,
    JoinResponse,
    LoginResponse,
    RegisterResponse,
    RoomCreateResponse,
    RoomMessagesResponse,
    RoomMessageText,
    RoomRedactResponse,
    RoomSendResponse,
    SyncResponse,
)

PASSWORD = "a long password"


def expect(response, kind):
    assert isinstance(response, kind), response
    return response


async def sync(client):
    return expect(await client.sync(timeout=2_000), SyncResponse)


async def session(base, name, device=None):
    client = AsyncClient(base, name)
    if device is None:
        expect(await client.register(name, PASSWORD), RegisterResponse)
    else:
        expect(await client.login(PASSWORD, device_name=device), LoginResponse)
    return client


def texts(timeline):
    return [event.body for event in timeline if isinstance(event, RoomMessageText)]


async def talk(alice, bob, room):
    for count in range(20):
        content = {"msgtype": "m.text", "body": f"message {count}"}
        expect(await (alice if count % 2 else bob).room_send(room, "m.room.message", content), RoomSendResponse)
    seen = []
    while "message 19" not in seen:
        response = await sync(bob)
        joined = response.rooms.join.get(room)
        seen += texts(joined.timeline.events) if joined else []
    print("ok talk")


async def history(client, room):
    await sync(client)
    start, seen = client.rooms and client.next_batch, []
    while True:
        page = expect(await client.room_messages(room, start, limit=7), RoomMessagesResponse)
        seen += texts(page.chunk)
        if not page.end:
            break
        start = page.end
    assert seen == [f"message {count}" for count in reversed(range(20))], seen
    print("ok paginate")


async def main(base):
    suffix = secrets.token_hex(3)
    alice = await session(base, f"nio-alice-{suffix}")
    bob = await session(base, f"nio-bob-{suffix}")
    clients = [alice, bob]
    try:
        created = expect(await alice.room_create(name="nio", invite=[bob.user_id]), RoomCreateResponse)
        room = created.room_id
        await sync(bob)
        assert room in bob.invited_rooms, bob.invited_rooms
        expect(await bob.join(room), JoinResponse)
        await sync(bob)
        assert bob.rooms[room].name == "nio" and bob.rooms[room].member_count == 2
        print("ok create, invite, join")
        await talk(alice, bob, room)
        second = await session(base, alice.user_id, device="second")
        clients.append(second)
        await history(second, room)
        sent = await bob.room_send(room, "m.room.message", {"msgtype": "m.text", "body": "a mistake"})
        expect(await bob.room_redact(room, sent.event_id, reason="typo"), RoomRedactResponse)
        event = (await alice.room_get_event(room, sent.event_id)).event
        assert event.source["content"] == {}, event.source
        print("ok redact")
    finally:
        for client in clients:
            await client.close()
    print("matrix-nio: all passed")


asyncio.run(main(sys.argv[1]))
