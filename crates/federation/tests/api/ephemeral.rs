//! Typing, receipts and presence, between whole servers and from one that lies.

use std::time::Duration;

use federation_client::Transaction;
use primitives::UnixMillis;
use rooms::{Marks, Outgoing, Preset, Reader, ReceiptType, Room, Thread, receipts};
use ruma::{OwnedEventId, OwnedUserId, UserId, user_id};
use serde_json::{Value, json};
use testkit::world::{Server, World};
use users::presence::PresenceState;

use crate::{
    far::object,
    membership::{create, join, two},
    outbound::{Running, until},
};

/// Two servers with a user each in one room, at work.
struct Shared {
    world: World,
    a: Server,
    alice: OwnedUserId,
    b: Server,
    bob: OwnedUserId,
    /// The room on each of them.
    at_a: Room,
    at_b: Room,
}

impl Shared {
    async fn new() -> Self {
        let world = World::new();
        let (a, alice, b, bob) = two(&world).await;
        let id = create(&a, &alice, "11", Preset::PublicChat).await;
        join(&b, &bob, &id, &[&a]).await.expect("joined");
        let (at_a, at_b) =
            (a.parts.rooms.room(&id).await.expect("there"), b.parts.rooms.room(&id).await.expect("there"));
        for server in [&a, &b] {
            server.parts.projections.catch_up_all().await.expect("caught up");
        }
        Self { world, a, alice, b, bob, at_a, at_b }
    }

    /// Bob's server sends EDUs to Alice's.
    async fn forge(&self, id: &str, edus: &[(&str, Value)]) {
        let edus = edus.iter().map(|(kind, content)| object(&json!({ "edu_type": kind, "content": content })));
        let transaction = Transaction::new(id.to_owned(), &self.b.name, UnixMillis(1), Vec::new(), edus.collect());
        self.b.client.send_transaction(&self.a.name, &transaction).await.expect("accepted");
    }

    async fn say(&self, body: &str) -> OwnedEventId {
        let content = object(&json!({ "msgtype": "m.text", "body": body }));
        let message = Outgoing::message(self.alice.clone(), "m.room.message", content);
        self.at_a.send(message).await.expect("sent").event_id
    }
}

async fn reader(server: &Server, user: &UserId) -> Reader {
    let user_nid = server.parts.users.nid(user).await.expect("readable").expect("registered");
    Reader { user_id: user.to_owned(), user_nid, device_id: None }
}

/// How far a user has read in a room, as a server knows it: event and thread.
async fn read_up_to(server: &Server, room: &Room, user: &UserId) -> Vec<(String, Option<String>)> {
    let receipts = receipts::of_user(&server.parts.storage.view(), room.nid(), user).await.expect("read");
    receipts.into_iter().map(|one| (one.event_id, one.thread.thread_id().map(ToOwned::to_owned))).collect()
}

#[tokio::test]
async fn others_see_who_types_until_they_stop() {
    let shared = Shared::new().await;
    let (from_a, from_b) = (Running::of(&shared.a), Running::of(&shared.b));
    shared.at_a.set_typing(&shared.alice, Some(Duration::from_secs(20))).await.expect("types");
    until("Alice is seen to type", || shared.at_b.is_typing(&shared.alice)).await;
    shared.at_b.set_typing(&shared.bob, Some(Duration::from_secs(20))).await.expect("types");
    until("Bob is seen to type", || shared.at_a.is_typing(&shared.bob)).await;
    shared.at_b.set_typing(&shared.bob, None).await.expect("types");
    until("Bob is seen to have stopped", || !shared.at_a.is_typing(&shared.bob)).await;
    shared.world.clock.advance(Duration::from_secs(20));
    shared.a.parts.rooms.run_due().await;
    until("Alice's time is over", || !shared.at_b.is_typing(&shared.alice)).await;
    from_a.end().await;
    from_b.end().await;
}

#[tokio::test]
async fn public_receipts_go_out_with_their_threads_and_private_ones_never() {
    let shared = Shared::new().await;
    let running = Running::of(&shared.a);
    let (first, second) = (shared.say("1").await, shared.say("2").await);
    let alice = reader(&shared.a, &shared.alice).await;
    let marks = Marks {
        receipts: vec![
            (ReceiptType::Read, Thread::Unthreaded, first.clone()),
            (ReceiptType::Read, Thread::Main, second.clone()),
            (ReceiptType::ReadPrivate, Thread::Unthreaded, second.clone()),
        ],
        fully_read: None,
    };
    shared.at_a.mark_read(&alice, &marks).await.expect("marked");
    let mut read = Vec::new();
    for _ in 0..400 {
        read = read_up_to(&shared.b, &shared.at_b, &shared.alice).await;
        if read.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(read, [(first.to_string(), None), (second.to_string(), Some("main".to_owned()))]);
    running.end().await;
}

#[tokio::test]
async fn presence_goes_to_servers_that_share_a_room() {
    let shared = Shared::new().await;
    let stranger = shared.world.server("c.test", 3).await;
    let running = Running::of(&shared.a);
    let alice = reader(&shared.a, &shared.alice).await;
    let (who, said) = ((&*shared.alice, alice.user_nid), Some("here".to_owned()));
    let presence = shared.a.parts.users.presence();
    presence.set(who, None, PresenceState::Online, said.clone()).await.expect("set");
    shared.a.parts.rooms.run_due().await;
    let seen = || shared.b.parts.users.presence().of_remote(&shared.alice);
    until("Alice is seen", || seen().is_some()).await;
    let seen = seen().expect("seen");
    assert_eq!((seen.state, seen.status_msg, seen.currently_active), (PresenceState::Online, said, true));
    assert!(shared.world.servers.asked().iter().all(|(name, _)| *name != stranger.name));
    running.end().await;
}

#[tokio::test]
async fn a_server_speaks_only_for_its_users_and_only_where_they_are() {
    let shared = Shared::new().await;
    let (room, bob) = (shared.at_a.id().to_owned(), shared.bob.clone());
    let absent = user_id!("@absent:b.test");
    let said = shared.say("1").await;
    let typing = |user: &UserId| ("m.typing", json!({ "room_id": room, "user_id": user, "typing": true }));
    let read = |user: &UserId| {
        let receipt = json!({ "data": { "ts": 1 }, "event_ids": [said] });
        ("m.receipt", json!({ room.as_str(): { "m.read": { user.as_str(): receipt } } }))
    };
    let present = |user: &UserId| {
        let told = json!({ "user_id": user, "presence": "online", "last_active_ago": 1 });
        ("m.presence", json!({ "push": [told] }))
    };
    let mut forged = Vec::new();
    for user in [&*shared.alice, absent] {
        forged.extend([typing(user), read(user), present(user)]);
    }
    forged.push(("m.typing", json!({ "room_id": "!else:a.test", "user_id": bob, "typing": true })));
    forged.push(("m.receipt", json!("nonsense")));
    shared.forge("forged", &forged).await;
    let presences = shared.a.parts.users.presence();
    for user in [&*shared.alice, absent] {
        assert!(!shared.at_a.is_typing(user), "{user}");
        assert!(read_up_to(&shared.a, &shared.at_a, user).await.is_empty(), "{user}");
        assert_eq!(presences.of_remote(user), None);
    }
    shared.forge("good", &[typing(&bob), read(&bob), present(&bob)]).await;
    assert!(shared.at_a.is_typing(&bob));
    assert_eq!(read_up_to(&shared.a, &shared.at_a, &bob).await.len(), 1);
    assert_eq!(presences.of_remote(&bob).map(|told| told.state), Some(PresenceState::Online));
}

#[tokio::test]
async fn a_server_that_an_acl_denies_is_not_heard_in_that_room() {
    let shared = Shared::new().await;
    let (room, bob) = (shared.at_a.id().to_owned(), shared.bob.clone());
    let said = shared.say("1").await;
    let acl = object(&json!({ "allow": ["*"], "deny": ["b.test"] }));
    let acl = Outgoing::state(shared.alice.clone(), "m.room.server_acl", "", acl);
    shared.at_a.send(acl).await.expect("sent");
    let receipt = json!({ "data": { "ts": 1 }, "event_ids": [said] });
    let edus = [
        ("m.typing", json!({ "room_id": room, "user_id": bob, "typing": true })),
        ("m.receipt", json!({ room.as_str(): { "m.read": { bob.as_str(): receipt } } })),
    ];
    shared.forge("denied", &edus).await;
    assert!(!shared.at_a.is_typing(&bob));
    assert!(read_up_to(&shared.a, &shared.at_a, &bob).await.is_empty());
}
