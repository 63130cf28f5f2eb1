//! The power levels of a new room.

use ruma::canonical_json::{CanonicalJsonObject, CanonicalJsonValue};

use super::{
    CreateError, CreateRoom, Preset,
    events::{additional_creators, create_content},
};
use crate::RoomVersion;

/// The content of the first power levels event: the defaults, with the client's overrides put over them; or what `initial_state` says.
pub(crate) fn content(request: &CreateRoom, version: RoomVersion) -> Result<CanonicalJsonObject, CreateError> {
    let given = request.initial_state.iter().rfind(|state| state.is("m.room.power_levels"));
    let mut content = given.map_or_else(|| defaults(request, version), |state| state.content.clone());
    content.extend(request.power_level_content_override.clone());
    check_users(&content, request, version)?;
    Ok(content)
}

fn defaults(request: &CreateRoom, version: RoomVersion) -> CanonicalJsonObject {
    let mut users = CanonicalJsonObject::new();
    if !version.privileges_creators() {
        users.insert(request.creator.to_string(), int(100));
        if request.preset() == Preset::TrustedPrivateChat {
            users.extend(request.invitees().into_iter().map(|user| (user.to_string(), int(100))));
        }
    }
    // Above what an administrator has, so that only the creators replace a room (version 12).
    let tombstone = if version.privileges_creators() { 150 } else { 100 };
    let events = [
        ("m.room.avatar", 50),
        ("m.room.canonical_alias", 50),
        ("m.room.encryption", 100),
        ("m.room.history_visibility", 100),
        ("m.room.name", 50),
        ("m.room.power_levels", 100),
        ("m.room.server_acl", 100),
        ("m.room.tombstone", tombstone),
    ];
    let invite = if request.preset() == Preset::PublicChat { 50 } else { 0 };
    let levels = [
        ("ban", 50),
        ("events_default", 0),
        ("invite", invite),
        ("kick", 50),
        ("redact", 50),
        ("state_default", 50),
        ("users_default", 0),
    ];
    let mut content: CanonicalJsonObject = numbers(&levels);
    content.insert("events".to_owned(), numbers(&events).into());
    content.insert("users".to_owned(), users.into());
    content
}

fn int(value: i32) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(value.into())
}

fn numbers(values: &[(&str, i32)]) -> CanonicalJsonObject {
    values.iter().map(|(name, value)| ((*name).to_owned(), int(*value))).collect()
}

/// Before version 12 a list of users must have the creator in it, who could do nothing otherwise; from then on no creator may be in it.
fn check_users(content: &CanonicalJsonObject, request: &CreateRoom, version: RoomVersion) -> Result<(), CreateError> {
    let bad = |reason: String| Err(CreateError::BadRequest(reason));
    let users = match content.get("users").map(CanonicalJsonValue::as_object) {
        None => return Ok(()),
        Some(None) => return bad("users of the power levels is not an object".to_owned()),
        Some(Some(users)) => users,
    };
    if !version.privileges_creators() {
        let has_creator = users.contains_key(request.creator.as_str());
        return if has_creator { Ok(()) } else { bad("the power levels leave the creator out".to_owned()) };
    }
    let create = create_content(request, version)?;
    let mut creators = additional_creators(&create)?;
    creators.push(request.creator.clone());
    match creators.iter().find(|creator| users.contains_key(creator.as_str())) {
        Some(creator) => bad(format!("{creator} is a creator and can't have a power level")),
        None => Ok(()),
    }
}
