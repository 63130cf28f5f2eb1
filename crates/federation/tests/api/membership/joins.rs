//! Joins, both sides.

use rooms::{Details, Outgoing, Preset, RemoteMembershipError, SendError};
use serde_json::json;
use testkit::world::World;

use super::{asked, check, create, join, membership, state, two};
use crate::far::object;

#[tokio::test]
async fn a_room_of_each_version_is_joined_and_is_the_same_on_both_servers() {
    for version in ["1", "2", "3", "6", "9", "10", "11", "12"] {
        let world = World::new();
        let (a, alice, b, bob) = two(&world).await;
        let room = create(&a, &alice, version, Preset::PublicChat).await;
        let topic = Outgoing::state(alice.clone(), "m.room.topic", "", object(&json!({ "topic": "t" })));
        a.parts.rooms.room(&room).await.expect("there").send(topic).await.expect("sent");
        join(&b, &bob, &room, &[&a]).await.expect("joined");
        for (server, reader) in [(&a, &alice), (&b, &bob)] {
            for member in [&alice, &bob] {
                assert_eq!(membership(server, reader, &room, member).await.as_deref(), Some("join"), "{version}");
            }
            assert_eq!(state(server, reader, &room, "m.room.topic", "").await, Some(json!({ "topic": "t" })));
            check(server).await;
        }
        // The room goes on at both ends.
        let name = Outgoing::message(bob.clone(), "m.room.message", object(&json!({ "body": "hello" })));
        b.parts.rooms.room(&room).await.expect("there").send(name).await.expect("sent");
        // Who is there already stays, and nobody is asked for it.
        let before = world.servers.asked().len();
        join(&b, &bob, &room, &[&a]).await.expect("joined");
        assert_eq!(world.servers.asked().len(), before);
    }
}

#[tokio::test]
async fn users_who_join_at_once_bring_the_room_once() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let carol = b.user("carol").await;
    let room = create(&a, &alice, "12", Preset::PublicChat).await;
    let via = [&a];
    let (one, two) = tokio::join!(join(&b, &bob, &room, &via), join(&b, &carol, &room, &via));
    one.expect("joined");
    two.expect("joined");
    assert_eq!(asked(&world, &a, "/send_join/"), 1);
    for member in [&bob, &carol] {
        assert_eq!(membership(&b, member, &room, member).await.as_deref(), Some("join"));
    }
    check(&b).await;
}

#[tokio::test]
async fn servers_are_asked_in_turn_until_one_helps() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let c = world.server("c.test", 3).await;
    let gone = world.server("gone.test", 4).await;
    world.servers.remove(&gone.name);
    let room = create(&a, &alice, "11", Preset::PublicChat).await;
    // One can't be reached, one isn't in the room.
    join(&b, &bob, &room, &[&gone, &c, &a]).await.expect("joined");
    assert_eq!((asked(&world, &c, "/make_join/"), asked(&world, &c, "/send_join/")), (1, 0));
    // A third joins through the second, though the first has gone.
    world.servers.remove(&a.name);
    let carol = c.user("carol").await;
    let refused = join(&c, &carol, &room, &[&b]).await;
    // The keys of the first server's events can't be had: what it signed can't be believed.
    assert!(matches!(refused, Err(RemoteMembershipError::Unusable(_))), "{refused:?}");
}

#[tokio::test]
async fn who_may_not_come_in_is_told_so() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let private = create(&a, &alice, "12", Preset::PrivateChat).await;
    let refused = join(&b, &bob, &private, &[&a]).await;
    let is_403 = |error: &RemoteMembershipError| match error {
        RemoteMembershipError::Remote(federation_client::RemoteError::Refused { status, errcode, .. }) => {
            status.as_u16() == 403 && errcode == "M_FORBIDDEN"
        }
        _ => false,
    };
    assert!(refused.as_ref().is_err_and(is_403), "{refused:?}");

    let public = create(&a, &alice, "12", Preset::PublicChat).await;
    let here = a.parts.rooms.room(&public).await.expect("there");
    here.ban(&alice, &bob, Details::default()).await.expect("banned");
    let refused = join(&b, &bob, &public, &[&a]).await;
    assert!(refused.as_ref().is_err_and(is_403), "{refused:?}");
    here.unban(&alice, &bob, Details::default()).await.expect("unbanned");
    join(&b, &bob, &public, &[&a]).await.expect("joined");

    let acl = object(&json!({ "allow": ["*"], "deny": ["b.test"] }));
    let other = create(&a, &alice, "12", Preset::PublicChat).await;
    let acl = Outgoing::state(alice.clone(), "m.room.server_acl", "", acl);
    a.parts.rooms.room(&other).await.expect("there").send(acl).await.expect("sent");
    let refused = join(&b, &bob, &other, &[&a]).await;
    assert!(refused.as_ref().is_err_and(is_403), "{refused:?}");

    let unknown = ruma::room_id!("!nothing:a.test");
    let refused = join(&b, &bob, unknown, &[&a]).await;
    assert!(
        matches!(&refused, Err(RemoteMembershipError::Remote(federation_client::RemoteError::Refused { status, .. })) if status.as_u16() == 404),
        "{refused:?}"
    );
    let nobody = join(&b, &bob, ruma::room_id!("!JnfP3n5a8d8a1cLhwHpaJnG1hNdo7tIVVxUHnRsVpEc"), &[]).await;
    assert!(matches!(nobody, Err(RemoteMembershipError::NobodyToAsk)), "{nobody:?}");
}

#[tokio::test]
async fn a_room_that_was_left_is_joined_again_as_it_is_by_then() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let room = create(&a, &alice, "11", Preset::PublicChat).await;
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    b.parts.rooms.room(&room).await.expect("there").leave(&bob, Details::default()).await.expect("left");
    let topic = Outgoing::state(alice.clone(), "m.room.topic", "", object(&json!({ "topic": "later" })));
    a.parts.rooms.room(&room).await.expect("there").send(topic).await.expect("sent");
    // The servers that were in the room are remembered.
    join(&b, &bob, &room, &[]).await.expect("joined again");
    assert_eq!(state(&b, &bob, &room, "m.room.topic", "").await, Some(json!({ "topic": "later" })));
    check(&b).await;
}

#[tokio::test]
async fn joins_through_other_servers_are_limited() {
    let world = World::new();
    let a = world.server("a.test", 1).await;
    let alice = a.user("alice").await;
    let limits = users::Limits { remote_joins_per_user: users::Rate::new(0.01, 1), ..users::Limits::default() };
    let b = world.limited_server("b.test", 2, limits).await;
    let bob = b.user("bob").await;
    let (one, two) =
        (create(&a, &alice, "12", Preset::PublicChat).await, create(&a, &alice, "12", Preset::PublicChat).await);
    join(&b, &bob, &one, &[&a]).await.expect("joined");
    let refused = join(&b, &bob, &two, &[&a]).await;
    let limited = matches!(refused, Err(RemoteMembershipError::Here(SendError::LimitExceeded { .. })));
    assert!(limited, "{refused:?}");
}
