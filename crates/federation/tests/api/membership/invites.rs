//! Invites across servers: taken, accepted, refused, withdrawn.

use federation_client::{RemoteError, calls::membership::Invite};
use rooms::{CreateRoom, Details, Outgoing, Preset, Room, SendError, resident::ResidentError};
use ruma::{RoomId, UserId};
use serde_json::{Value, json};
use testkit::world::{Server, World};
use users::account_data::DataKey;

use super::{check, create, hand_in, join, member_pdu, membership, told, two};
use crate::far::object;

async fn room(server: &Server, room: &RoomId) -> Room {
    server.parts.rooms.room(room).await.expect("there")
}

async fn invite(server: &Server, by: &UserId, to: &RoomId, who: &UserId) -> Result<(), SendError> {
    room(server, to).await.invite(by, who, Details::default()).await.map(drop)
}

/// The last event that a sync shows of a room that the user is out of.
async fn last_told(server: &Server, user: &UserId, room: &RoomId) -> Value {
    let told = told(server, user, "leave", room).await.expect("told");
    told["timeline"]["events"].as_array().and_then(|events| events.last()).cloned().expect("an event")
}

fn types(told: &Value, part: &str) -> Vec<String> {
    let events = told[part]["events"].as_array().expect("a list").iter();
    events.map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
}

#[tokio::test]
async fn an_invite_is_shown_with_the_room_and_can_be_accepted() {
    for version in ["1", "2", "3", "10", "11", "12"] {
        let world = World::new();
        let (a, alice, b, bob) = two(&world).await;
        let private = create(&a, &alice, version, Preset::PrivateChat).await;
        invite(&a, &alice, &private, &bob).await.expect("invited");
        assert_eq!(membership(&a, &alice, &private, &bob).await.as_deref(), Some("invite"));
        let shown = told(&b, &bob, "invite", &private).await.expect("told");
        let events = types(&shown, "invite_state");
        for expected in ["m.room.create", "m.room.join_rules", "m.room.member"] {
            assert!(events.contains(&expected.to_owned()), "{version}: {events:?}");
        }
        assert!(!shown.to_string().contains("signatures"), "clients see stripped state");
        // The inviter's server is asked though nobody names it.
        join(&b, &bob, &private, &[]).await.expect("joined");
        assert_eq!(membership(&b, &bob, &private, &alice).await.as_deref(), Some("join"));
        assert_eq!(membership(&a, &alice, &private, &bob).await.as_deref(), Some("join"));
        assert_eq!(told(&b, &bob, "invite", &private).await, None);
        check(&a).await;
        check(&b).await;
    }
}

#[tokio::test]
async fn who_is_invited_to_a_direct_chat_is_told_so_also_after_joining() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let request = CreateRoom { invite: vec![bob.clone()], is_direct: true, ..CreateRoom::new(alice.clone()) };
    let private = a.parts.rooms.create(request).await.expect("created");
    let shown = told(&b, &bob, "invite", &private).await.expect("told");
    let events = shown["invite_state"]["events"].as_array().expect("a list");
    let own = events.iter().find(|event| event["state_key"] == bob.as_str()).expect("there");
    assert_eq!(own["content"]["is_direct"], true);
    let create = events.iter().find(|event| event["type"] == "m.room.create").expect("there");
    assert!(create["origin_server_ts"].is_u64());
    join(&b, &bob, &private, &[]).await.expect("joined");
    // What the sender says of themselves in the room goes along.
    let name = object(&json!({ "membership": "join", "displayname": "A" }));
    let event = Outgoing::state(alice.clone(), "m.room.member", alice.as_str(), name);
    room(&a, &private).await.send(event).await.expect("sent");
}

#[tokio::test]
async fn a_refused_invite_is_refused_on_both_servers_or_at_least_here() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let private = create(&a, &alice, "12", Preset::PrivateChat).await;
    invite(&a, &alice, &private, &bob).await.expect("invited");
    let details = Details { reason: Some("no time".to_owned()), ..Details::default() };
    b.parts.rooms.leave(&bob, &private, details).await.expect("left");
    assert_eq!(membership(&a, &alice, &private, &bob).await.as_deref(), Some("leave"));
    assert_eq!(member_pdu(&a, &alice, &private, &bob).await["content"]["reason"], "no time");
    assert_eq!(told(&b, &bob, "invite", &private).await, None);
    assert_eq!(last_told(&b, &bob, &private).await["content"]["reason"], "no time");
    b.parts.rooms.forget(&bob, &private).await.expect("forgotten");
    assert_eq!(told(&b, &bob, "leave", &private).await, None);
    assert!(b.parts.rooms.forget(&bob, &private).await.is_err(), "nothing is left of it");

    // Again, and this time nobody answers.
    invite(&a, &alice, &private, &bob).await.expect("invited again");
    assert!(told(&b, &bob, "invite", &private).await.is_some());
    assert!(b.parts.rooms.forget(&bob, &private).await.is_err(), "it has to be left first");
    world.servers.remove(&a.name);
    let details = Details { reason: Some("gone".to_owned()), ..Details::default() };
    b.parts.rooms.leave(&bob, &private, details).await.expect("left");
    assert_eq!(told(&b, &bob, "invite", &private).await, None);
    let leave = last_told(&b, &bob, &private).await;
    assert_eq!((&leave["content"]["reason"], &leave["sender"]), (&json!("gone"), &json!(bob)));
    let nothing = b.parts.rooms.leave(&bob, &private, Details::default()).await;
    assert!(matches!(nothing, Err(SendError::UnknownRoom)), "{nothing:?}");
    check(&b).await;
}

#[tokio::test]
async fn only_who_invited_withdraws() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let carol = a.user("carol").await;
    let public = create(&a, &alice, "11", Preset::PublicChat).await;
    join(&a, &carol, &public, &[]).await.expect("joined");
    let levels = object(&json!({ "users": { alice.as_str(): 100, carol.as_str(): 50 } }));
    let levels = Outgoing::state(alice.clone(), "m.room.power_levels", "", levels);
    room(&a, &public).await.send(levels).await.expect("sent");
    invite(&a, &carol, &public, &bob).await.expect("invited");
    room(&a, &public).await.kick(&alice, &bob, Details::default()).await.expect("kicked");
    let kicked = member_pdu(&a, &alice, &public, &bob).await;
    assert!(!hand_in(&a, &b, &public, &kicked).await);
    assert!(told(&b, &bob, "invite", &public).await.is_some());

    let other = create(&a, &alice, "11", Preset::PrivateChat).await;
    invite(&a, &alice, &other, &bob).await.expect("invited");
    room(&a, &other).await.kick(&alice, &bob, Details::default()).await.expect("kicked");
    let kicked = member_pdu(&a, &alice, &other, &bob).await;
    let mut forged = kicked.clone();
    forged["content"]["reason"] = json!("forged");
    forged["signatures"] = json!({});
    assert!(!hand_in(&a, &b, &other, &forged).await, "not signed");
    assert!(told(&b, &bob, "invite", &other).await.is_some());
    assert!(hand_in(&a, &b, &other, &kicked).await);
    assert_eq!(told(&b, &bob, "invite", &other).await, None);
    let shown = last_told(&b, &bob, &other).await;
    assert_eq!((&shown["content"]["membership"], &shown["sender"]), (&json!("leave"), &json!(alice)));
}

#[tokio::test]
async fn what_ended_an_earlier_invite_does_not_end_a_later_one() {
    for version in ["3", "11", "12"] {
        let world = World::new();
        let (a, alice, b, bob) = two(&world).await;
        let private = create(&a, &alice, version, Preset::PrivateChat).await;
        invite(&a, &alice, &private, &bob).await.expect("invited");
        room(&a, &private).await.kick(&alice, &bob, Details::default()).await.expect("kicked");
        let earlier = member_pdu(&a, &alice, &private, &bob).await;
        invite(&a, &alice, &private, &bob).await.expect("invited again");
        // It comes by another way than the invite, and later.
        assert!(!hand_in(&a, &b, &private, &earlier).await, "{version}");
        assert!(told(&b, &bob, "invite", &private).await.is_some(), "{version}");
        room(&a, &private).await.kick(&alice, &bob, Details::default()).await.expect("kicked again");
        let end = member_pdu(&a, &alice, &private, &bob).await;
        assert!(hand_in(&a, &b, &private, &end).await, "{version}");
        assert_eq!(told(&b, &bob, "invite", &private).await, None, "{version}");
    }
}

#[tokio::test]
async fn a_second_user_of_a_server_in_the_room_is_invited_by_the_rooms_own_events() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let dora = b.user("dora").await;
    let private = create(&a, &alice, "12", Preset::PrivateChat).await;
    for user in [&bob, &dora] {
        invite(&a, &alice, &private, user).await.expect("invited");
    }
    // Both know of it from outside; with the first one's join the room itself says so.
    join(&b, &bob, &private, &[]).await.expect("joined");
    assert_eq!(membership(&b, &bob, &private, &dora).await.as_deref(), Some("invite"));
    assert!(told(&b, &dora, "invite", &private).await.is_some());
    b.parts.rooms.leave(&dora, &private, Details::default()).await.expect("left");
    assert_eq!(membership(&b, &bob, &private, &dora).await.as_deref(), Some("leave"));
    let eve = b.user("eve").await;
    invite(&a, &alice, &private, &eve).await.expect("invited");
    assert_eq!(told(&b, &eve, "invite", &private).await.map(|_| ()), Some(()));
    join(&b, &eve, &private, &[]).await.expect("joined");
    check(&b).await;
}

#[tokio::test]
async fn users_who_take_no_invites_get_none() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let private = create(&a, &alice, "12", Preset::PrivateChat).await;
    let nobody = <&UserId>::try_from("@nobody:b.test").expect("a user id");
    let refused = invite(&a, &alice, &private, nobody).await;
    assert!(matches!(&refused, Err(SendError::Remote(RemoteError::Refused { status, .. })) if status.as_u16() == 403));
    assert_eq!(membership(&a, &alice, &private, nobody).await, None, "nothing is stored");

    let nid = b.parts.users.nid(&bob).await.expect("readable").expect("an account");
    let config = serde_json::Map::from_iter([("default_action".to_owned(), json!("block"))]);
    let key = DataKey { user: nid, room: None, data_type: "m.invite_permission_config" };
    b.parts.users.account_data().set(key, &config).await.expect("set");
    let refused = invite(&a, &alice, &private, &bob).await;
    let blocked = |error: &SendError| matches!(error, SendError::Remote(RemoteError::Refused { errcode, .. }) if errcode == "M_INVITE_BLOCKED");
    assert!(refused.as_ref().is_err_and(blocked), "{refused:?}");
    assert_eq!(told(&b, &bob, "invite", &private).await, None);
}

#[tokio::test]
async fn invites_from_other_servers_are_limited() {
    let world = World::new();
    let a = world.server("a.test", 1).await;
    let alice = a.user("alice").await;
    let limits = users::Limits { remote_invites_per_user: users::Rate::new(0.01, 1), ..users::Limits::default() };
    let b = world.limited_server("b.test", 2, limits).await;
    let bob = b.user("bob").await;
    let one = create(&a, &alice, "12", Preset::PrivateChat).await;
    let two = create(&a, &alice, "12", Preset::PrivateChat).await;
    invite(&a, &alice, &one, &bob).await.expect("invited");
    let refused = invite(&a, &alice, &two, &bob).await;
    let limited = |error: &SendError| matches!(error, SendError::Remote(RemoteError::Refused { errcode, .. }) if errcode == "M_LIMIT_EXCEEDED");
    assert!(refused.as_ref().is_err_and(limited), "{refused:?}");
    assert_eq!(told(&b, &bob, "invite", &two).await, None);
}

/// Sends an invite of `a.test` to `b.test` after a change; what `b.test` says of it.
async fn sent(change: fn(&mut Value)) -> Result<(), String> {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let private = create(&a, &alice, "12", Preset::PrivateChat).await;
    invite(&a, &alice, &private, &bob).await.expect("invited");
    b.parts.rooms.leave(&bob, &private, Details::default()).await.expect("left");
    let mut event = member_pdu(&a, &alice, &private, &alice).await;
    change(&mut event);
    let id = rooms::Pdu::parse(rooms::RoomVersion::DEFAULT, event.to_string().as_bytes());
    let Ok(id) = id.map(|pdu| pdu.event_id().clone()) else { return Err("no event".to_owned()) };
    let event = object(&event);
    let body = Invite { room_version: "12", event: &event, invite_room_state: Vec::new() };
    let answer = a.client.invite(&b.name, &private, &id, body).await;
    assert_eq!(told(&b, &bob, "invite", &private).await, None);
    match answer {
        Ok(_) => Ok(()),
        Err(RemoteError::Refused { status, errcode, .. }) if status.as_u16() == 400 => Err(errcode),
        Err(other) => Err(other.to_string()),
    }
}

#[tokio::test]
async fn what_is_no_invite_of_a_user_here_is_not_signed() {
    let invalid = Err("M_INVALID_PARAM".to_owned());
    // A join, a name, an invite without a good signature, of somebody elsewhere, by somebody elsewhere.
    assert_eq!(sent(|_| {}).await, invalid);
    assert_eq!(sent(|event| event["type"] = json!("m.room.name")).await, invalid);
    assert_eq!(
        sent(|event| {
            event["content"] = json!({ "membership": "invite" });
            event["state_key"] = json!("@bob:b.test");
        })
        .await,
        invalid
    );
    assert_eq!(
        sent(|event| {
            event["content"] = json!({ "membership": "invite" });
            event["sender"] = json!("@mallory:c.test");
            event["state_key"] = json!("@bob:b.test");
        })
        .await,
        invalid
    );
}

#[tokio::test]
async fn an_invite_to_a_room_whose_create_event_is_not_shown_is_not_signed() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let private = create(&a, &alice, "12", Preset::PrivateChat).await;
    invite(&a, &alice, &private, &bob).await.expect("invited");
    let event = member_pdu(&a, &alice, &private, &bob).await;
    let id = rooms::Pdu::parse(rooms::RoomVersion::DEFAULT, event.to_string().as_bytes()).expect("an event");
    let event = object(&event);
    let bare = Invite { room_version: "12", event: &event, invite_room_state: Vec::new() };
    let answer = a.client.invite(&b.name, &private, id.event_id(), bare).await;
    assert!(matches!(&answer, Err(RemoteError::Refused { errcode, .. }) if errcode == "M_INVALID_PARAM"), "{answer:?}");
    let unknown = Invite { room_version: "99", event: &event, invite_room_state: Vec::new() };
    let answer = a.client.invite(&b.name, &private, id.event_id(), unknown).await;
    assert!(
        matches!(&answer, Err(RemoteError::Refused { errcode, .. }) if errcode == "M_INCOMPATIBLE_ROOM_VERSION"),
        "{answer:?}"
    );
    let direct = b.parts.rooms.receive_invite(rooms::IncomingInvite {
        origin: ruma::server_name!("c.test").to_owned(),
        room_id: private.clone(),
        event_id: id.event_id().clone(),
        room_version: "12".to_owned(),
        event: serde_json::to_vec(&event).expect("JSON"),
        invite_room_state: Vec::new(),
    });
    assert!(matches!(direct.await, Err(ResidentError::Invalid(_))), "sent by somebody else");
}
