//! Aliases.

use ruma::{OwnedRoomAliasId, RoomAliasId};
use serde_json::json;

use super::{ALICE, BOB, Server, current, set, uid};
use crate::{AliasError, Details, SendError};

fn alias(text: &str) -> OwnedRoomAliasId {
    RoomAliasId::parse(text).expect("an alias")
}

#[tokio::test]
async fn an_alias_is_made_once_found_and_removed_by_those_who_may() {
    let server = Server::new().await;
    let (room, den) = (server.public("12").await, alias("#den:x"));
    let rooms = &server.rooms;
    assert!(matches!(rooms.create_alias(uid(BOB), &den, room.id()).await, Err(AliasError::Forbidden(_))));
    rooms.create_alias(uid(ALICE), &den, room.id()).await.expect("makes");
    assert!(matches!(rooms.create_alias(uid(ALICE), &den, room.id()).await, Err(AliasError::Taken(_))));
    let far = alias("#den:away");
    assert!(matches!(rooms.create_alias(uid(ALICE), &far, room.id()).await, Err(AliasError::NotLocal(_))));
    assert_eq!(rooms.resolve_alias(&den).await.expect("found"), room.id());
    let view = server.storage.view();
    assert_eq!(crate::alias::aliases_of(&view, room.id()).await.expect("readable"), std::slice::from_ref(&den));

    room.join(uid(BOB), Details::default()).await.expect("joins");
    assert!(matches!(rooms.delete_alias(uid(BOB), false, &den).await, Err(AliasError::Forbidden(_))));
    let second = alias("#second:x");
    rooms.create_alias(uid(BOB), &second, room.id()).await.expect("makes");
    let content = json!({ "alias": den, "alt_aliases": [second] });
    set(&room, ALICE, "m.room.canonical_alias", "", content).await.expect("sends");
    rooms.delete_alias(uid(BOB), false, &second).await.expect("its maker may");
    rooms.delete_alias(uid(ALICE), false, &den).await.expect("power may");
    assert!(matches!(rooms.resolve_alias(&den).await, Err(AliasError::Unknown(_))));
    let named = current(&room, "m.room.canonical_alias", "").await.expect("there");
    assert_eq!(named.content().get(), r##"{"alt_aliases":["#second:x"]}"##, "Bob may not change the event, Alice may");
    assert!(matches!(rooms.delete_alias(uid(ALICE), false, &den).await, Err(AliasError::Unknown(_))));
}

#[tokio::test]
async fn a_canonical_alias_leads_to_its_room() {
    let server = Server::new().await;
    let (room, other) = (server.public("12").await, server.public("12").await);
    server.rooms.create_alias(uid(ALICE), &alias("#other:x"), other.id()).await.expect("makes");
    for bad in [json!({ "alias": "#none:x" }), json!({ "alt_aliases": ["#other:x"] })] {
        let refused = set(&room, ALICE, "m.room.canonical_alias", "", bad).await;
        assert!(matches!(refused, Err(SendError::BadAlias { .. })), "{refused:?}");
    }
    for bad in [json!({ "alias": 5 }), json!({ "alt_aliases": "x" })] {
        let refused = set(&room, ALICE, "m.room.canonical_alias", "", bad).await;
        assert!(matches!(refused, Err(SendError::BadContent { .. })), "{refused:?}");
    }
    let refused = set(&room, ALICE, "m.room.canonical_alias", "", json!({ "alt_aliases": ["x"] })).await;
    assert!(matches!(refused, Err(SendError::InvalidAlias { .. })), "{refused:?}");
    set(&other, ALICE, "m.room.canonical_alias", "", json!({ "alias": "#other:x" })).await.expect("sends");
    set(&other, ALICE, "m.room.canonical_alias", "", json!({ "alias": null })).await.expect("sends");
}
