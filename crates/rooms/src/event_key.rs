//! Event ids as keys of [`storage::schema::rooms::EventIds`].

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use primitives::{Rix, RoomNid};
use ruma::{EventId, RoomId};
use storage::{ReadError, Text, View, schema::rooms};

use crate::RoomVersion;

const STRICT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone).with_encode_padding(false);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, STRICT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, STRICT);

/// The key under which an event's place is stored: the 32 bytes of the hash that the id spells, or `FF` and the id if it spells none.
///
/// Ids of room version 3 and of later ones spell hashes in different alphabets; two ids of one key can't both be events, but whoever looks
/// an id up compares it with that of the event found.
pub fn event_key(id: &EventId) -> Vec<u8> {
    let text = id.as_str();
    let hash = text.strip_prefix('$').filter(|hash| hash.len() == 43);
    let bytes = hash.and_then(|hash| URL_SAFE.decode(hash).or_else(|_| STANDARD.decode(hash)).ok());
    bytes.filter(|bytes| bytes.len() == 32).unwrap_or_else(|| [&[0xFF], text.as_bytes()].concat())
}

/// The number of an event in a room. An event of another room is as absent as one that doesn't exist.
pub(crate) async fn find_event(view: &View, room: RoomNid, id: &EventId) -> Result<Option<Rix>, ReadError> {
    let Some(place) = view.get::<rooms::EventIds>(&(event_key(id),)).await?.filter(|place| place.room == room) else {
        return Ok(None);
    };
    let header = view.get::<rooms::EventHeaders>(&(room, place.rix)).await?;
    Ok(header.filter(|header| header.value.event_id == id.as_str()).map(|_| place.rix))
}

/// The number and version of a room. A room that is being purged is as absent as one that doesn't exist.
pub(crate) async fn find_room(view: &View, id: &RoomId) -> Result<Option<(RoomNid, RoomVersion)>, ReadError> {
    let Some(nid) = view.get::<rooms::RoomIds>(&(Text::new(id.as_str()),)).await? else { return Ok(None) };
    let Some(row) = view.get::<rooms::Rooms>(&(nid,)).await? else { return Ok(None) };
    let purging = view.get::<rooms::RoomHeads>(&(nid,)).await?.is_none_or(|head| head.purging);
    Ok(RoomVersion::parse(&row.version).filter(|_| !purging).map(|version| (nid, version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Vec<u8> {
        event_key(<&EventId>::try_from(id).expect("an event id"))
    }

    #[test]
    fn hashes_are_32_bytes_and_other_ids_keep_their_text() {
        let standard = key("$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk");
        let url_safe = key("$acR1l0raoZnm60CBwAVgqbZqoO_mYU81xysh1u7XcJk");
        assert_eq!((standard.len(), &standard), (32, &url_safe));
        assert_eq!(key("$abc:example.org"), [&[0xFF], b"$abc:example.org".as_slice()].concat());
        assert_eq!(key("$short"), [&[0xFF], b"$short".as_slice()].concat());
        // 43 characters whose last one has bits that no byte holds.
        assert_eq!(key("$acR1l0raoZnm60CBwAVgqbZqoO_mYU81xysh1u7XcJl")[0], 0xFF);
    }
}
