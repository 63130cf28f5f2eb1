//! What a local client may put into `m.room.canonical_alias`: only aliases that lead to the room (client-server API, "Room aliases").

use ruma::{
    OwnedRoomAliasId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use storage::{Text, schema::rooms::Aliases};

use crate::{
    current::Current,
    outgoing::{Outgoing, SendError},
    room::Room,
};

/// Checks an event that is about to be sent, if it is one of these. Aliases that the room's event names already are not asked about again.
pub(crate) async fn check(room: &Room, outgoing: &Outgoing) -> Result<(), SendError> {
    if outgoing.event_type != "m.room.canonical_alias" || outgoing.state_key.as_deref() != Some("") {
        return Ok(());
    }
    let named = named(&outgoing.content)?;
    let current = Current::read(room.context(), room.info()).await?.ok_or(SendError::UnknownRoom)?;
    let before = current.event("m.room.canonical_alias", "").await?;
    let before = before.and_then(|event| event.content_as::<CanonicalJsonObject>().ok());
    let before = before.and_then(|content| self::named(&content).ok()).unwrap_or_default();
    for alias in named.into_iter().filter(|alias| !before.contains(alias)) {
        let row = current.view().get::<Aliases>(&(Text::new(alias.as_str()),)).await?;
        if row.is_none_or(|row| row.room_id != current.room_id().as_str()) {
            return Err(SendError::BadAlias { alias: alias.to_string() });
        }
    }
    Ok(())
}

/// The aliases in a content.
pub(crate) fn named(content: &CanonicalJsonObject) -> Result<Vec<OwnedRoomAliasId>, SendError> {
    let mut texts = Vec::new();
    match content.get("alias") {
        None | Some(CanonicalJsonValue::Null) => {}
        Some(value) => texts.push(value.as_str().ok_or_else(|| SendError::bad("alias is not a string"))?),
    }
    if let Some(list) = content.get("alt_aliases") {
        for value in list.as_array().ok_or_else(|| SendError::bad("alt_aliases is not a list"))? {
            texts.push(value.as_str().ok_or_else(|| SendError::bad("alt_aliases holds something else than strings"))?);
        }
    }
    let parse =
        |text: &str| OwnedRoomAliasId::try_from(text).map_err(|_| SendError::InvalidAlias { alias: text.to_owned() });
    texts.into_iter().filter(|text| !text.is_empty()).map(parse).collect()
}
