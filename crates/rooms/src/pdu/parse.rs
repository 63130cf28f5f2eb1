//! From the bytes that another server sent to a [`Pdu`].

use super::{
    Pdu, PduError,
    fields::{Fields, Limits},
    json::EventJson,
    sign::event_id_of,
};
use crate::RoomVersion;

/// Reads a received event; see [`Pdu::parse`].
pub(super) fn parse(version: RoomVersion, json: &[u8]) -> Result<Pdu, PduError> {
    from_json(version, &EventJson::parse(version, json)?, Limits::Inbound)
}

/// The event that an object is, with the id that it has or spells.
pub(super) fn from_json(version: RoomVersion, event: &EventJson, limits: Limits) -> Result<Pdu, PduError> {
    let event_id =
        if version.has_server_event_ids() { None } else { Some(event_id_of(version, &event.signed_text(version)?)?) };
    Ok(Pdu::new(Fields::read(version, event_id, event.text(), limits)?))
}
