//! Knocks across servers.

use rooms::{Details, Outgoing, Preset, RemoteMembershipError};
use ruma::{OwnedRoomId, UserId};
use serde_json::json;
use testkit::world::{Server, World};

use super::{check, create, hand_in, join, member_pdu, membership, told, two};
use crate::far::object;

async fn knockable(server: &Server, by: &UserId, version: &str) -> OwnedRoomId {
    let room = create(server, by, version, Preset::PrivateChat).await;
    let rules = object(&json!({ "join_rule": "knock" }));
    let rules = Outgoing::state(by.to_owned(), "m.room.join_rules", "", rules);
    server.parts.rooms.room(&room).await.expect("there").send(rules).await.expect("sent");
    room
}

async fn knock(server: &Server, user: &UserId, room: &ruma::RoomId, at: &Server) -> Result<(), RemoteMembershipError> {
    let details = Details { reason: Some("please".to_owned()), ..Details::default() };
    server.parts.rooms.knock(user, room, std::slice::from_ref(&at.name), details).await
}

#[tokio::test]
async fn who_knocks_is_seen_and_can_be_let_in_or_sent_away() {
    for version in ["7", "10", "12"] {
        let world = World::new();
        let (a, alice, b, bob) = two(&world).await;
        let room = knockable(&a, &alice, version).await;
        let refused = join(&b, &bob, &room, &[&a]).await;
        assert!(refused.is_err(), "a knock has to come first");
        knock(&b, &bob, &room, &a).await.expect("knocked");
        assert_eq!(membership(&a, &alice, &room, &bob).await.as_deref(), Some("knock"));
        assert_eq!(member_pdu(&a, &alice, &room, &bob).await["content"]["reason"], "please");
        let shown = told(&b, &bob, "knock", &room).await.expect("told");
        assert!(shown.to_string().contains("m.room.join_rules"), "{version}: {shown}");

        // Sent away by the server that was knocked at.
        let there = a.parts.rooms.room(&room).await.expect("there");
        there.kick(&alice, &bob, Details::default()).await.expect("kicked");
        let kicked = member_pdu(&a, &alice, &room, &bob).await;
        assert!(hand_in(&a, &b, &room, &kicked).await);
        assert_eq!(told(&b, &bob, "knock", &room).await, None);

        // Again, and withdrawn.
        knock(&b, &bob, &room, &a).await.expect("knocked");
        b.parts.rooms.leave(&bob, &room, Details::default()).await.expect("withdrawn");
        assert_eq!(membership(&a, &alice, &room, &bob).await.as_deref(), Some("leave"));
        assert_eq!(told(&b, &bob, "knock", &room).await, None);

        // Again, and let in.
        knock(&b, &bob, &room, &a).await.expect("knocked");
        there.invite(&alice, &bob, Details::default()).await.expect("invited");
        assert!(told(&b, &bob, "invite", &room).await.is_some());
        assert_eq!(told(&b, &bob, "knock", &room).await, None);
        join(&b, &bob, &room, &[]).await.expect("joined");
        check(&a).await;
        check(&b).await;
    }
}

#[tokio::test]
async fn where_nobody_may_knock_the_knock_is_refused() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    for version in ["6", "12"] {
        let room = create(&a, &alice, version, Preset::PrivateChat).await;
        let refused = knock(&b, &bob, &room, &a).await;
        assert!(matches!(&refused, Err(RemoteMembershipError::Remote(_))), "{version}: {refused:?}");
        assert_eq!(told(&b, &bob, "knock", &room).await, None);
    }
}
