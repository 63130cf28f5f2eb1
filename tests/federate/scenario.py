"""Rooms that two Sundials and a Synapse share: made on each, in several versions, plain and encrypted, through an outage of one server.

Every step waits until all servers that it concerns show it, or fails. At the end the state of each room is the same on each server.
"""

import argparse
import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

from signedjson.key import encode_verify_key_base64, generate_signing_key, get_verify_key
from signedjson.sign import sign_json

PATIENCE = 30  # seconds for what must come
# How long a server is away: ten minutes at a tenth of their length. The pauses that servers make after failures are configured likewise (`run`), so that
# as many attempts fail as in ten minutes, and nobody would try again of themselves before the server is missed.
OUTAGE = 60  # seconds
FEW_EVENTS = 10  # sent in most rooms while a server is away
OUTAGE_EVENTS = 120  # sent while a server is away: more than a transaction, a sync or a page of missing events holds


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status, self.body = status, body


class Server:
    """A server's process."""

    def __init__(self, name, port, command, log):
        self.name, self.port, self.command, self.log = name, port, command, log
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        wait(f"{self.name} to answer", lambda: self.answers())

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} has ended: see {self.log}")
        try:
            return call(self.port, "GET", "/_matrix/client/versions")
        except (OSError, Refused):
            return None

    def stop(self, kill=False):
        if self.process:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None


def call(port, method, path, body=None, token=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode(errors="replace")) from None


def wait(what, look, patience=PATIENCE):
    """Looks again and again until it is answered with something true."""
    end, last = time.monotonic() + patience, None
    while time.monotonic() < end:
        last = look()
        if last:
            return last
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}; last seen: {last!r}")


def quoted(text):
    return urllib.parse.quote(text, safe="")


class User:
    """A user's client on one server."""

    def __init__(self, server, localpart):
        self.server, self.txn, self.syncs = server, 0, 0
        body = {"username": localpart, "password": "a long password", "auth": {"type": "m.login.dummy"}}
        answer = call(server.port, "POST", "/_matrix/client/v3/register", body)
        self.id, self.token, self.device = answer["user_id"], answer["access_token"], answer["device_id"]
        self.key = generate_signing_key(self.device)

    def api(self, method, path, body=None):
        return call(self.server.port, method, f"/_matrix/client/v3{path}", body, self.token)

    def upload_keys(self):
        """Keys of the device, signed as they have to be. Nobody encrypts with them here."""
        def signed(what):
            return sign_json(what, self.id, self.key)
        self.txn += 1
        algorithms = ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"]
        keys = {f"ed25519:{self.device}": encode_verify_key_base64(get_verify_key(self.key)),
                f"curve25519:{self.device}": "A" * 43}
        device = {"user_id": self.id, "device_id": self.device, "algorithms": algorithms, "keys": keys}
        one_time = {f"signed_curve25519:{self.txn}{at}": signed({"key": "C" * 43}) for at in range(3)}
        self.api("POST", "/keys/upload", {"device_keys": signed(device), "one_time_keys": one_time})

    def send(self, room, body, kind="m.room.message"):
        self.txn += 1
        content = body if isinstance(body, dict) else {"msgtype": "m.text", "body": body}
        path = f"/rooms/{quoted(room)}/send/{kind}/t{self.txn}"
        return self.api("PUT", path, content)["event_id"]

    def set(self, room, kind, content, key=""):
        return self.api("PUT", f"/rooms/{quoted(room)}/state/{kind}/{quoted(key)}", content)["event_id"]

    def event(self, room, event):
        try:
            return self.api("GET", f"/rooms/{quoted(room)}/event/{quoted(event)}")
        except Refused:
            return None

    def state(self, room):
        """The room's state: what stands under each type and key."""
        events = self.api("GET", f"/rooms/{quoted(room)}/state")
        return {(event["type"], event["state_key"]): event["event_id"] for event in events}

    def membership(self, room, user):
        try:
            return self.api("GET", f"/rooms/{quoted(room)}/state/m.room.member/{quoted(user.id)}")["membership"]
        except Refused:
            return None

    def sync(self, since=None):
        # Synapse answers the same question with the same answer for two minutes: no two are the same.
        self.syncs += 1
        wanted = json.dumps({"room": {"timeline": {"limit": 20 + self.syncs}}})
        path = f"/sync?timeout=0&filter={quoted(wanted)}" + (f"&since={quoted(since)}" if since else "")
        return self.api("GET", path)

    def invited(self, room):
        return room in self.sync().get("rooms", {}).get("invite", {})

    def history(self, room):
        """Ids of all events that the user can page back to."""
        ids, at = [], ""
        while True:
            page = self.api("GET", f"/rooms/{quoted(room)}/messages?dir=b&limit=100{at}")
            ids += [event["event_id"] for event in page["chunk"]]
            if "end" not in page:
                return ids
            at = f"&from={quoted(page['end'])}"

    def join(self, room, via):
        return self.api("POST", f"/join/{quoted(room)}?server_name={quoted(via.name)}&via={quoted(via.name)}", {})


class Room:
    """A room with a member on each server, the creator first."""

    def __init__(self, version, creator, others, encrypted):
        self.creator, self.others = creator, others
        alias = f"shared{version}{'e' if encrypted else 'p'}"
        body = {"room_version": version, "preset": "public_chat", "room_alias_name": alias, "name": f"Version {version}"}
        # Whoever is there in an outage changes the topic.
        body["power_level_content_override"] = {"events": {"m.room.topic": 0}}
        if encrypted:
            algorithm = {"algorithm": "m.megolm.v1.aes-sha2"}
            body["initial_state"] = [{"type": "m.room.encryption", "state_key": "", "content": algorithm}]
        self.id = creator.api("POST", "/createRoom", body)["room_id"]
        self.alias = f"#{alias}:{creator.server.name}"
        self.encrypted, self.version = encrypted, version

    @property
    def members(self):
        return [self.creator, *self.others]

    def all_see(self, event, members=None):
        for member in members or self.members:
            wait(f"{event} at {member.id}", lambda: member.event(self.id, event))

    def all_have(self, user, membership, members=None):
        for member in members or self.members:
            wait(f"{user.id}: {membership} at {member.id}", lambda: member.membership(self.id, user) == membership)

    def agree(self):
        """All servers have the same state."""
        def same():
            states = [member.state(self.id) for member in self.members]
            return all(state == states[0] for state in states)
        wait(f"the same state of {self.id} everywhere", same)


def gather(room):
    """The first of the others joins by alias, the second is invited."""
    by_alias, invited = room.others
    early = [room.creator.send(room.id, f"before anybody came {number}") for number in range(30)]
    by_alias.join(room.alias, room.creator.server)
    room.creator.api("POST", f"/rooms/{quoted(room.id)}/invite", {"user_id": invited.id})
    wait(f"the invite at {invited.id}", lambda: invited.invited(room.id))
    invited.join(room.id, room.creator.server)
    for member in room.members:
        room.all_have(member, "join")
    for member in room.others:
        wait(f"history at {member.id}", lambda: set(early) <= set(member.history(room.id)))


def talk(room):
    kind = "m.room.encrypted" if room.encrypted else "m.room.message"
    cipher = {"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AwgAEn", "session_id": "s"}
    sent = [member.send(room.id, cipher if room.encrypted else "hello", kind) for member in room.members]
    for event in sent:
        room.all_see(event)
    for member, event in zip(room.members, sent):
        room.creator.txn += 1
        path = f"/rooms/{quoted(room.id)}/redact/{quoted(event)}/r{room.creator.txn}"
        room.creator.api("PUT", path, {})
        for other in room.members:
            wait(f"{event} redacted at {other.id}", lambda: not other.event(room.id, event)["content"])


def move(room):
    """Kick, invite back, ban, unban, reject, knock."""
    path = f"/rooms/{quoted(room.id)}"
    for target in room.others:
        def act(action):
            room.creator.api("POST", f"{path}/{action}", {"user_id": target.id})
        witnesses = [member for member in room.members if member is not target]
        act("kick")
        room.all_have(target, "leave", witnesses)
        # An invite takes a shorter way than the kick before it.
        wait(f"the kick at {target.id}", lambda: room.id not in target.api("GET", "/joined_rooms")["joined_rooms"])
        act("invite")
        wait(f"the invite at {target.id}", lambda: target.invited(room.id))
        target.api("POST", f"{path}/leave", {})
        room.all_have(target, "leave", witnesses)
        act("ban")
        room.all_have(target, "ban", witnesses)
        try:
            target.join(room.id, room.creator.server)
            raise AssertionError(f"{target.id} is banned and has joined")
        except Refused as refused:
            assert refused.status == 403, refused
        act("unban")
        room.all_have(target, "leave", witnesses)
        rule = room.creator.set(room.id, "m.room.join_rules", {"join_rule": "knock"})
        room.all_see(rule, witnesses)
        target.api("POST", f"/knock/{quoted(room.id)}?server_name={quoted(room.creator.server.name)}", {})
        room.all_have(target, "knock", witnesses)
        act("invite")
        wait(f"the invite at {target.id}", lambda: target.invited(room.id))
        target.join(room.id, room.creator.server)
        room.all_have(target, "join")
        room.creator.set(room.id, "m.room.join_rules", {"join_rule": "public"})
    room.agree()


def whisper(room):
    """Typing, receipts and profiles."""
    path = f"/rooms/{quoted(room.id)}"
    since = {member.id: member.sync()["next_batch"] for member in room.members}

    def heard(member, kind, user):
        rooms = member.sync(since[member.id]).get("rooms", {}).get("join", {})
        events = rooms.get(room.id, {}).get("ephemeral", {}).get("events", [])
        return any(event["type"] == kind and user.id in json.dumps(event["content"]) for event in events)

    for member in room.members:
        others = [other for other in room.members if other is not member]
        member.api("PUT", f"{path}/typing/{quoted(member.id)}", {"typing": True, "timeout": 30000})
        event = member.send(room.id, "read this")
        room.all_see(event)
        member.api("POST", f"{path}/receipt/m.read/{quoted(event)}", {})
        for other in others:
            wait(f"typing of {member.id} at {other.id}", lambda: heard(other, "m.typing", member))
            wait(f"the receipt of {member.id} at {other.id}", lambda: heard(other, "m.receipt", member))
        member.api("PUT", f"/profile/{quoted(member.id)}/displayname", {"displayname": f"The one of {member.id}"})
        for other in others:
            path_of = f"/profile/{quoted(member.id)}/displayname"
            wait(f"the name of {member.id}", lambda: other.api("GET", path_of)["displayname"].startswith("The one"))


def exchange_keys(room):
    """Device keys, one-time keys and messages from device to device."""
    for member in room.members:
        member.upload_keys()
    for member in room.members:
        for other in room.members:
            query = {"device_keys": {other.id: []}}

            def known():
                return other.device in member.api("POST", "/keys/query", query).get("device_keys", {}).get(other.id, {})
            wait(f"the keys of {other.id} at {member.id}", known)
            if other is member:
                continue
            claim = {"one_time_keys": {other.id: {other.device: "signed_curve25519"}}}
            claimed = member.api("POST", "/keys/claim", claim)["one_time_keys"]
            assert claimed[other.id][other.device], f"{member.id} got no key of {other.id}"
            member.txn += 1
            message = {"messages": {other.id: {other.device: {"from": member.id}}}}
            since = other.sync()["next_batch"]
            member.api("PUT", f"/sendToDevice/x.test/d{member.txn}", message)

            def got():
                events = other.sync(since).get("to_device", {}).get("events", [])
                return any(event["sender"] == member.id for event in events)
            wait(f"the message of {member.id} at {other.id}", got)


def outage(rooms, absent):
    """A server is killed; the others talk on; it comes back, and once it has said a word it has all of it."""
    absent.stop(kill=True)
    killed, sent = time.monotonic(), []
    for place, room in enumerate(rooms):
        present = [member for member in room.members if member.server is not absent]
        # Every fifth room: of all the servers that make rooms in turn, and plain and encrypted.
        for number in range(FEW_EVENTS if place % 5 else OUTAGE_EVENTS):
            sent.append((room, present[number % 2].send(room.id, f"while you were away {number}")))
        topic = present[0].set(room.id, "m.room.topic", {"topic": f"Without {absent.name}"})
        room.all_see(topic, present)
    time.sleep(max(0, OUTAGE - (time.monotonic() - killed)))
    absent.start()
    for room in rooms:
        here = next(member for member in room.members if member.server is absent)
        for member in sorted(room.members, key=lambda member: member is not here):
            room.all_see(member.send(room.id, "are you back?"))
        wanted = {event for of, event in sent if of is room}
        wait(f"what {here.id} missed in {room.id}", lambda: wanted <= set(here.history(room.id)), 60)
        room.agree()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--base", type=int, required=True)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("versions", nargs="+")
    options = parser.parse_args()
    folder, base = options.folder, options.base
    servers = [
        Server(f"localhost:{base + 1 + 2 * at}", base + 2 * at, [options.binary, "serve", "--config", f"{folder}/{name}.toml"],
               f"{folder}/{name}.log")
        for at, name in enumerate(["one", "two"])
    ]
    command = [options.python, "-m", "synapse.app.homeserver", "--config-path", f"{folder}/synapse.yaml"]
    servers.append(Server(f"localhost:{base + 5}", base + 4, command, f"{folder}/synapse.log"))
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.start()
        play(servers, options.versions)


def play(servers, versions):
    users, rooms, failed = {server: User(server, "ann") for server in servers}, [], []
    for version in versions:
        for creator in servers:
            others = [users[server] for server in servers if server is not creator]
            for encrypted in (False, True):
                room = Room(version, users[creator], others, encrypted)
                steps = [gather, talk, move, *([exchange_keys] if encrypted else [whisper])]
                for step in steps:
                    label = f"{'encrypted' if encrypted else 'plain'} room of version {version} made on {creator.name}"
                    began = time.monotonic()
                    try:
                        step(room)
                        print(f"passed  {step.__name__:<14} {label} ({time.monotonic() - began:.1f} s)", flush=True)
                    except (AssertionError, Refused) as error:
                        failed.append(step)
                        print(f"FAILED  {step.__name__:<14} {label}: {error}", flush=True)
                        break
                else:
                    rooms.append(room)
    for absent in servers:
        began = time.monotonic()
        try:
            outage(rooms, absent)
            print(f"passed  outage of {absent.name} ({time.monotonic() - began:.1f} s)", flush=True)
        except (AssertionError, Refused) as error:
            failed.append(outage)
            print(f"FAILED  outage of {absent.name}: {error}", flush=True)
            if absent.process is None:
                absent.start()
    print(f"{len(rooms)} rooms shared; {len(failed)} steps failed", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
