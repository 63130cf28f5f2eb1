//! Restricted joins (room version 8 and later): a member vouches, and their server signs.

use federation_client::RemoteError;
use rooms::{CreateRoom, InitialState, Outgoing, Preset, RemoteMembershipError};
use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::json;
use testkit::world::{Server, World};

use super::{asked, check, create, join, member_pdu, membership, two};
use crate::far::object;

/// A room that members of another may join.
async fn restricted(server: &Server, by: &UserId, version: &str, of: &RoomId) -> OwnedRoomId {
    let allow = json!([{ "type": "m.room_membership", "room_id": of }]);
    let name = if matches!(version, "8" | "9") { "restricted" } else { "knock_restricted" };
    let rule = object(&json!({ "join_rule": name, "allow": allow }));
    let request = CreateRoom {
        version: Some(version.to_owned()),
        initial_state: vec![InitialState {
            event_type: "m.room.join_rules".to_owned(),
            state_key: String::new(),
            content: rule,
        }],
        ..CreateRoom::new(by.to_owned())
    };
    server.parts.rooms.create(request).await.expect("created")
}

fn errcode(joined: &Result<(), RemoteMembershipError>) -> Option<&str> {
    match joined {
        Err(RemoteMembershipError::Remote(RemoteError::Refused { errcode, .. })) => Some(errcode),
        _ => None,
    }
}

#[tokio::test]
async fn members_of_the_other_room_are_let_in_and_nobody_else() {
    for version in ["8", "9", "10", "11", "12"] {
        let world = World::new();
        let (a, alice, b, bob) = two(&world).await;
        let space = create(&a, &alice, version, Preset::PublicChat).await;
        let room = restricted(&a, &alice, version, &space).await;
        let refused = join(&b, &bob, &room, &[&a]).await;
        assert_eq!(errcode(&refused), Some("M_FORBIDDEN"), "{version}: {refused:?}");
        join(&b, &bob, &space, &[&a]).await.expect("joined");
        join(&b, &bob, &room, &[&a]).await.expect("joined");
        let event = member_pdu(&b, &bob, &room, &bob).await;
        assert_eq!(event["content"]["join_authorised_via_users_server"], alice.as_str());
        assert!(event["signatures"]["a.test"].is_object() && event["signatures"]["b.test"].is_object());
        assert_eq!(membership(&a, &alice, &room, &bob).await.as_deref(), Some("join"));
        check(&a).await;
        check(&b).await;
    }
}

#[tokio::test]
async fn a_server_that_cannot_tell_or_cannot_vouch_sends_on_to_another() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let c = world.server("c.test", 3).await;
    let carol = c.user("carol").await;
    let space = create(&a, &alice, "11", Preset::PublicChat).await;
    let room = restricted(&a, &alice, "11", &space).await;
    join(&b, &bob, &space, &[&a]).await.expect("joined");
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    // b.test knows that carol is in the space, but bob may not invite; nobody else is asked.
    join(&c, &carol, &space, &[&a]).await.expect("joined");
    let join_event = member_pdu(&a, &alice, &space, &carol).await;
    assert!(super::hand_in(&a, &b, &space, &join_event).await);
    let levels = object(&json!({ "users": { alice.as_str(): 100 }, "invite": 50 }));
    let levels = Outgoing::state(alice.clone(), "m.room.power_levels", "", levels);
    a.parts.rooms.room(&room).await.expect("there").send(levels).await.expect("sent");
    let levels = super::state_pdu(&a, &alice, &room, "m.room.power_levels", "").await;
    assert!(super::hand_in(&a, &b, &room, &levels).await);
    let before = asked(&world, &a, "/send_join/");
    join(&c, &carol, &room, &[&b, &a]).await.expect("joined");
    assert_eq!(asked(&world, &b, "/make_join/"), 1);
    assert_eq!((asked(&world, &b, "/send_join/"), asked(&world, &a, "/send_join/")), (0, before + 1));
    check(&c).await;
}

#[tokio::test]
async fn a_user_of_a_server_in_the_room_is_let_in_by_another_server_where_their_own_may_not() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let dora = b.user("dora").await;
    let space = create(&a, &alice, "11", Preset::PublicChat).await;
    let room = restricted(&a, &alice, "11", &space).await;
    let levels = object(&json!({ "users": { alice.as_str(): 100 }, "invite": 50 }));
    let levels = Outgoing::state(alice.clone(), "m.room.power_levels", "", levels);
    a.parts.rooms.room(&room).await.expect("there").send(levels).await.expect("sent");
    for user in [&bob, &dora] {
        join(&b, user, &space, &[&a]).await.expect("joined");
        let event = member_pdu(&b, user, &space, user).await;
        super::hand_in(&b, &a, &space, &event).await;
    }
    join(&b, &bob, &room, &[&a]).await.expect("joined");
    join(&b, &dora, &room, &[]).await.expect("joined through the other server");
    assert_eq!(membership(&b, &bob, &room, &dora).await.as_deref(), Some("join"));
    assert_eq!(membership(&a, &alice, &room, &dora).await.as_deref(), Some("join"));
    check(&b).await;
}
