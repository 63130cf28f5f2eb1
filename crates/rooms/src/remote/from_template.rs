//! A member event made of what another server offers (SECURITY 2): of the template only the place in the graph is taken, and of its content what is listed
//! here. Everything else this server writes itself.

use std::collections::BTreeMap;

use federation_client::{RemoteError, calls::membership::Template};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};

use super::RemoteMembershipError;
use crate::{
    Pdu, RoomVersion,
    context::Context,
    membership::AUTHORISER,
    pdu::{BuildInput, MAX_AUTH_EVENTS, MAX_PREV_EVENTS, build},
};

/// The room's version, if this server knows it.
pub(super) fn version_of(template: &Template) -> Result<RoomVersion, RemoteMembershipError> {
    let name = template.room_version.as_deref().unwrap_or("1");
    RoomVersion::parse(name).ok_or_else(|| RemoteMembershipError::UnsupportedVersion(name.to_owned()))
}

/// The event for a user of this server, signed. Of the template's content, only who vouches for a join is taken over.
pub(super) fn from_template(
    context: &Context,
    room_id: &RoomId,
    user: &UserId,
    mut content: CanonicalJsonObject,
    template: &Template,
) -> Result<Pdu, RemoteMembershipError> {
    let version = version_of(template)?;
    let event = &template.event;
    let text = |field: &str| event.get(field).and_then(CanonicalJsonValue::as_str);
    if text("type") != Some("m.room.member")
        || text("room_id") != Some(room_id.as_str())
        || text("sender") != Some(user.as_str())
        || text("state_key") != Some(user.as_str())
    {
        return Err(malformed("the template is of another event"));
    }
    if let Some(authoriser) = authoriser(version, &content, event) {
        content.insert(AUTHORISER.to_owned(), authoriser.as_str().into());
    }
    let mut hashes = BTreeMap::new();
    let prev_events = references(version, event.get("prev_events"), MAX_PREV_EVENTS, &mut hashes)?;
    let auth_events = references(version, event.get("auth_events"), MAX_AUTH_EVENTS, &mut hashes)?;
    let depth = event.get("depth").and_then(CanonicalJsonValue::as_integer).map_or(0, i64::from);
    let input = BuildInput {
        version,
        room_id: Some(room_id),
        sender: user,
        event_type: "m.room.member",
        state_key: Some(user.as_str()),
        content,
        redacts: None,
        prev_events: &prev_events,
        auth_events: &auth_events,
        reference_hashes: version.references_are_pairs().then_some(&hashes),
        depth: u64::try_from(depth).unwrap_or(0),
        origin_server_ts: context.clock.now(),
        extra: Vec::new(),
    };
    build(input, &context.key, &context.options.server_name).map_err(|error| malformed(error.to_string()))
}

fn authoriser(
    version: RoomVersion,
    content: &CanonicalJsonObject,
    template: &CanonicalJsonObject,
) -> Option<OwnedUserId> {
    let is_join = content.get("membership").and_then(CanonicalJsonValue::as_str) == Some("join");
    if !is_join || !version.authorization().restricted_join_rule {
        return None;
    }
    OwnedUserId::try_from(template.get("content")?.as_object()?.get(AUTHORISER)?.as_str()?).ok()
}

/// The events that a field names; in room versions 1 and 2 with their hashes.
fn references(
    version: RoomVersion,
    field: Option<&CanonicalJsonValue>,
    most: usize,
    hashes: &mut BTreeMap<OwnedEventId, String>,
) -> Result<Vec<OwnedEventId>, RemoteMembershipError> {
    let Some(CanonicalJsonValue::Array(list)) = field else { return Err(malformed("the template names no events")) };
    if list.len() > most {
        return Err(malformed("the template names too many events"));
    }
    let mut ids = Vec::with_capacity(list.len());
    for reference in list {
        let id = if version.references_are_pairs() {
            let (id, hash) = pair(reference).ok_or_else(|| malformed("an event is named without its hash"))?;
            hashes.insert(id.clone(), hash);
            id
        } else {
            let id = reference.as_str().and_then(|id| OwnedEventId::try_from(id).ok());
            id.ok_or_else(|| malformed("something that is no event is named"))?
        };
        ids.push(id);
    }
    Ok(ids)
}

fn pair(reference: &CanonicalJsonValue) -> Option<(OwnedEventId, String)> {
    let [id, hashes] = reference.as_array()? else { return None };
    let hash = hashes.as_object()?.get("sha256")?.as_str()?;
    Some((OwnedEventId::try_from(id.as_str()?).ok()?, hash.to_owned()))
}

fn malformed(reason: impl Into<String>) -> RemoteMembershipError {
    RemoteError::Malformed(reason.into()).into()
}
