"""matrix-nio, unmodified, as a user in an encrypted room who does what a parent process says.

Usage (by encrypted.mjs): encrypted.py BASE NAME FOLDER, one JSON object a line on standard input and output.
In: {"do": "join", "room"}, {"do": "send", "room", "body"}, {"do": "verify", "user", "device", "ed25519"}, {"do": "end"}.
Out: {"session": {user_id, device_id, ed25519}}, {"got": body, "sender"}, {"undecryptable": event id}, {"done": what, "event"}, {"failed": what}.
"""

import asyncio
import json
import sys

from aiohttp import ClientError
from nio import AsyncClient, AsyncClientConfig, JoinResponse, MegolmEvent, RegisterResponse, RoomMessageText, RoomSendResponse

PASSWORD = "a long password"


def tell(**said):
    print(json.dumps(said), flush=True)


def expect(response, kind):
    assert isinstance(response, kind), response
    return response


async def verify(client, wanted):
    """Trusts a device whose fingerprint is the one that was compared, as two people do by reading it aloud."""
    for _ in range(100):
        devices = client.device_store.active_user_devices(wanted["user"])
        for device in devices:
            if device.id == wanted["device"]:
                assert device.ed25519 == wanted["ed25519"], f"the key of {device.id} is {device.ed25519}"
                client.verify_device(device)
                return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the device {wanted['device']} is not known")


async def obey(client, command):
    match command["do"]:
        case "join":
            expect(await client.join(command["room"]), JoinResponse)
        case "send":
            content = {"msgtype": "m.text", "body": command["body"]}
            sent = await client.room_send(command["room"], "m.room.message", content, ignore_unverified_devices=True)
            return expect(sent, RoomSendResponse).event_id
        case "verify":
            await verify(client, command)
    return None


async def sync(client):
    """Syncs, and begins anew when the server has been away: nio leaves that to its caller."""
    while True:
        try:
            await client.sync_forever(timeout=5_000, full_state=client.next_batch is None)
        except ClientError:
            await asyncio.sleep(0.2)


async def listen(client):
    """Commands, one after the other, while the client syncs."""
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        command = json.loads(line) if line.strip() else {"do": "end"}
        if command["do"] == "end":
            return
        try:
            tell(done=command["do"], event=await obey(client, command))
        except Exception as error:  # the parent decides what it means
            tell(failed=f"{command}: {error!r}")


async def main(base, name, folder):
    options = AsyncClientConfig(encryption_enabled=True, max_timeouts=0, request_timeout=30)
    client = AsyncClient(base, name, store_path=folder, config=options)
    expect(await client.register(name, PASSWORD), RegisterResponse)
    client.load_store()
    await client.keys_upload()
    client.add_event_callback(lambda _, event: tell(got=event.body, sender=event.sender), RoomMessageText)
    client.add_event_callback(lambda _, event: tell(undecryptable=event.event_id), MegolmEvent)
    syncing = asyncio.create_task(sync(client))
    await client.synced.wait()
    keys = client.olm.account.identity_keys
    tell(session={"user_id": client.user_id, "device_id": client.device_id, "ed25519": keys["ed25519"]})
    await listen(client)
    syncing.cancel()
    await client.close()


asyncio.run(main(*sys.argv[1:]))
