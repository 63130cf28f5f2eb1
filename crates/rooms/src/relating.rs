//! What is asked of a local client's events that relate to others: threads start at events that relate to none (specification, "Validation of
//! `m.thread` relationships"), and nobody annotates an event twice with the same key ("Avoiding duplicate annotations").

use ruma::{EventId, canonical_json::CanonicalJsonValue};
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{RelationKind, Relations},
};

use crate::{
    event_key::find_event,
    load,
    outgoing::{Outgoing, SendError},
    room::Room,
};

/// Annotations of one event that are looked at, from the newest on.
const ANNOTATIONS_LOOKED_AT: usize = 1_000;

/// Checks an event that is about to be sent, if it relates to another.
pub(crate) async fn check(room: &Room, outgoing: &Outgoing) -> Result<(), SendError> {
    if outgoing.state_key.is_some() {
        return Ok(());
    }
    let relates_to = outgoing.content.get("m.relates_to").and_then(CanonicalJsonValue::as_object);
    let text = |key: &str| relates_to.and_then(|relates_to| relates_to.get(key)?.as_str());
    let (Some(rel_type), Some(target)) = (text("rel_type"), text("event_id")) else { return Ok(()) };
    let Ok(target) = <&EventId>::try_from(target) else { return Ok(()) };
    match rel_type {
        "m.thread" => check_root(room, target).await,
        "m.annotation" => check_annotation(room, outgoing, target, text("key")).await,
        _ => Ok(()),
    }
}

/// A root that isn't known here can't be judged.
async fn check_root(room: &Room, root: &EventId) -> Result<(), SendError> {
    let view = room.context().storage.view();
    let info = room.info();
    let Some(rix) = find_event(&view, info.nid, root).await? else { return Ok(()) };
    let root = load::event(&view, info.nid, info.version, rix).await?;
    let relation = crate::persist::relation_of(&root.pdu, room.context().storage.hash());
    if relation.is_some() { Err(SendError::NoThreadRoot) } else { Ok(()) }
}

async fn check_annotation(
    room: &Room,
    outgoing: &Outgoing,
    target: &EventId,
    key: Option<&str>,
) -> Result<(), SendError> {
    let view = room.context().storage.view();
    let hash = room.context().storage.hash().hash16(&[target.as_bytes()]);
    let range = KeyRange::prefix(&(room.nid(), hash, RelationKind::Other));
    let page = view.scan::<Relations>(&range, ANNOTATIONS_LOOKED_AT, Direction::Backward).await?;
    for ((.., rix), row) in page.rows {
        if row.rel_type == "m.annotation"
            && row.sender == outgoing.sender.as_str()
            && row.event_type == outgoing.event_type
            && key_of(room, &view, rix).await?.as_deref() == key
        {
            return Err(SendError::DuplicateAnnotation);
        }
    }
    Ok(())
}

/// The key of a stored annotation.
async fn key_of(room: &Room, view: &View, rix: primitives::Rix) -> Result<Option<String>, ReadError> {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: RelatesTo,
    }
    #[derive(serde::Deserialize)]
    struct RelatesTo {
        key: Option<String>,
    }
    let event = load::event(view, room.nid(), room.version(), rix).await?;
    Ok(event.pdu.content_as::<Content>().ok().and_then(|content| content.relates_to.key))
}
