//! Creation.

use serde_json::{Value, json};
use storage::{
    Direction, KeyRange, Text,
    schema::rooms::{
        self as schema, EventHeaders, LocalMembers, Membership, Memberships, RoomLog, Timeline, UserLog, UserLogEntry,
    },
};

use super::{ALICE, BOB, Server, current, object, say, user};
use crate::{CreateError, CreateRoom, InitialState, Preset, Room, RoomVersion};

async fn types(server: &Server, room: &Room) -> Vec<String> {
    let view = server.storage.view();
    let page = view.scan::<Timeline>(&KeyRange::prefix(&(room.nid(),)), 100, Direction::Forward).await.expect("scan");
    let mut types = Vec::new();
    for ((nid, _, rix), ()) in page.rows {
        let header = view.get::<EventHeaders>(&(nid, rix)).await.expect("readable").expect("there").value;
        types.push(header.event_type);
    }
    types
}

fn content(pdu: &crate::Pdu) -> Value {
    pdu.content_as().expect("JSON")
}

#[tokio::test]
async fn every_version_can_be_made_and_spoken_in() {
    let server = Server::new().await;
    for version in RoomVersion::supported() {
        let room = server.public(version.as_str()).await;
        assert_eq!(room.version(), version);
        say(&room, ALICE, "hello").await.expect("sends");
        room.join(super::uid(BOB), crate::Details::default()).await.expect("joins");
        say(&room, BOB, "hi").await.expect("sends");
        let create = current(&room, "m.room.create", "").await.expect("there");
        assert_eq!(content(&create)["room_version"], version.as_str());
        assert_eq!(create.room_id(), room.id());
        assert_eq!(room.id().as_str().contains(':'), !version.room_id_is_create_hash());
    }
}

#[tokio::test]
async fn events_come_in_the_specified_order() {
    let server = Server::new().await;
    let request = CreateRoom {
        published: true,
        alias_localpart: Some("den".to_owned()),
        name: Some("Den".to_owned()),
        topic: Some("Foxes".to_owned()),
        invite: vec![user(BOB), user(BOB), user(ALICE)],
        is_direct: true,
        initial_state: vec![
            InitialState {
                event_type: "m.room.guest_access".to_owned(),
                state_key: String::new(),
                content: object(&json!({ "guest_access": "can_join" })),
            },
            InitialState {
                event_type: "org.example".to_owned(),
                state_key: "k".to_owned(),
                content: object(&json!({ "a": 1 })),
            },
        ],
        ..CreateRoom::new(user(ALICE))
    };
    let id = server.rooms.create(request).await.expect("creates");
    let room = server.rooms.room(&id).await.expect("known");
    assert_eq!(
        types(&server, &room).await,
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "org.example",
            "m.room.name",
            "m.room.topic",
            "m.room.member",
        ]
    );
    let topic = current(&room, "m.room.topic", "").await.expect("there");
    assert_eq!(content(&topic), json!({ "topic": "Foxes", "m.topic": { "m.text": [{ "body": "Foxes" }] } }));
    let invite = current(&room, "m.room.member", BOB).await.expect("there");
    assert_eq!(content(&invite), json!({ "membership": "invite", "is_direct": true }));
    let guests = current(&room, "m.room.guest_access", "").await.expect("there");
    assert_eq!(content(&guests)["guest_access"], "can_join");
    let levels = content(&current(&room, "m.room.power_levels", "").await.expect("there"));
    assert_eq!((&levels["events"]["m.room.tombstone"], &levels["users"]), (&json!(150), &json!({})));
}

#[tokio::test]
async fn i1_a_room_and_what_it_means_for_its_members_are_one_batch() {
    let server = Server::new().await;
    let before = server.storage.position();
    server.rooms.create(CreateRoom::new(user(ALICE))).await.expect("creates");
    let request = CreateRoom { invite: vec![user(BOB)], ..CreateRoom::new(user(ALICE)) };
    let second = server.storage.position();
    let id = server.rooms.create(request).await.expect("creates");
    assert_eq!(server.storage.position().0, second.0 + 1, "the room is one batch");
    assert_eq!(second.0, before.0 + 2, "room numbers and a room");
    let room = server.rooms.room(&id).await.expect("known");
    let (alice, bob) = (server.nid(ALICE).await, server.nid(BOB).await);
    let view = server.storage.view();
    for (nid, expected) in [(alice, Membership::Join), (bob, Membership::Invite)] {
        let row = view.get::<Memberships>(&(nid, room.nid())).await.expect("readable").expect("there");
        assert_eq!((row.value.membership, row.position), (expected, view.position()));
        assert_eq!(view.get::<LocalMembers>(&(room.nid(), nid)).await.expect("readable"), Some(expected));
        let log = view.scan::<UserLog>(&KeyRange::prefix(&(nid,)), 10, Direction::Backward).await.expect("readable");
        let ((_, position, _), entry) = log.rows.first().expect("a row");
        assert_eq!(*position, view.position());
        assert!(matches!(entry, UserLogEntry::Membership { membership, before: None, .. } if *membership == expected));
    }
    let log = view.scan::<RoomLog>(&KeyRange::prefix(&(room.nid(),)), 100, Direction::Forward).await.expect("readable");
    assert!(log.rows.iter().all(|((_, position, _), _)| *position == view.position()));
    assert_eq!(log.rows.len(), 7);
}

#[tokio::test]
async fn a_room_that_is_refused_leaves_nothing_behind() {
    let server = Server::new().await;
    let base = || CreateRoom { alias_localpart: Some("a".to_owned()), ..CreateRoom::new(user(ALICE)) };
    server.rooms.create(base()).await.expect("creates");
    let rooms = |server: &Server| {
        let view = server.storage.view();
        async move {
            view.scan::<schema::RoomIds>(&KeyRange::prefix(&()), 100, Direction::Forward)
                .await
                .expect("scan")
                .rows
                .len()
        }
    };
    let levels = |levels| CreateRoom { alias_localpart: None, power_level_content_override: object(&levels), ..base() };
    let refused = [
        (base(), "AliasInUse"),
        (CreateRoom { version: Some("nope".to_owned()), ..base() }, "UnsupportedVersion"),
        (CreateRoom { alias_localpart: Some("a:b".to_owned()), ..base() }, "BadAlias"),
        (CreateRoom { invite: vec![user("@far:away")], ..base() }, "RemoteUser"),
        (levels(json!({ "users": { ALICE: 100 } })), "BadRequest"),
        (CreateRoom { version: Some("11".to_owned()), ..levels(json!({ "users": { BOB: 100 } })) }, "BadRequest"),
        (
            CreateRoom {
                version: Some("11".to_owned()),
                name: Some("x".to_owned()),
                ..levels(json!({ "users": { ALICE: 10 } }))
            },
            "InvalidState",
        ),
        (levels(json!({ "users": 7 })), "BadRequest"),
    ];
    for (request, expected) in refused {
        let error = server.rooms.create(request).await.expect_err(expected);
        assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        assert_eq!(rooms(&server).await, 1);
    }
    let alias = server.storage.view().get::<schema::Aliases>(&(Text::new("#a:x"),)).await.expect("readable");
    assert_eq!(alias.expect("there").creator, ALICE);
}

#[tokio::test]
async fn additional_creators_are_checked_and_joined_by_the_invited() {
    let server = Server::new().await;
    let with = |creators: Value| CreateRoom {
        creation_content: object(&json!({ "additional_creators": creators })),
        ..CreateRoom::new(user(ALICE))
    };
    for bad in [json!("text"), json!(["@foo:example.com", 42]), json!(["not-a-user"]), json!(["@invalid:dom$ain$.com"])]
    {
        let error = server.rooms.create(with(bad)).await.expect_err("bad");
        assert!(matches!(error, CreateError::BadRequest(_)));
    }
    let trusted = CreateRoom {
        preset: Some(Preset::TrustedPrivateChat),
        invite: vec![user(BOB)],
        ..with(json!(["@foo:example.com"]))
    };
    let id = server.rooms.create(trusted).await.expect("creates");
    let room = server.rooms.room(&id).await.expect("known");
    let create = current(&room, "m.room.create", "").await.expect("there");
    assert_eq!(content(&create)["additional_creators"], json!(["@foo:example.com", BOB]));
}
