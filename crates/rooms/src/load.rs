//! Reading stored events whole.

use primitives::{Rix, RoomNid, StreamPosition};
use ruma::OwnedEventId;
use storage::{
    CorruptValue, ReadError, Table, View,
    schema::rooms::{EventHeader, EventHeaders, EventJson, Verdict},
};

use crate::{Pdu, RoomVersion};

/// A stored event.
#[derive(Clone, Debug)]
pub(crate) struct StoredEvent {
    pub(crate) position: StreamPosition,
    pub(crate) header: EventHeader,
    pub(crate) pdu: Pdu,
}

/// A value that must be there but isn't, or makes no sense.
pub(crate) fn corrupt<T: Table>(reason: impl Into<String>) -> ReadError {
    ReadError::Corrupt(CorruptValue { table: T::NAME, reason: reason.into() })
}

/// The header and the text of an event that must exist.
pub(crate) async fn event(
    view: &View,
    room: RoomNid,
    version: RoomVersion,
    rix: Rix,
) -> Result<StoredEvent, ReadError> {
    let header = view.get::<EventHeaders>(&(room, rix)).await?;
    let header = header.ok_or_else(|| corrupt::<EventHeaders>(format!("no event {rix} in room {room}")))?;
    let json = view.get::<EventJson>(&(room, rix)).await?;
    let json = json.ok_or_else(|| corrupt::<EventJson>(format!("no event {rix} in room {room}")))?;
    let pdu = parse(version, &header.value, json.0)?;
    Ok(StoredEvent { position: header.position, header: header.value, pdu })
}

fn parse(version: RoomVersion, header: &EventHeader, json: Vec<u8>) -> Result<Pdu, ReadError> {
    let text = String::from_utf8(json).map_err(|error| corrupt::<EventJson>(error.to_string()))?;
    let id = OwnedEventId::try_from(header.event_id.as_str());
    let id = id.map_err(|error| corrupt::<EventHeaders>(error.to_string()))?;
    let pdu = Pdu::from_stored(version, id, text).map_err(|error| corrupt::<EventJson>(error.to_string()))?;
    Ok(pdu.with_rejected(matches!(header.verdict, Verdict::Rejected(_))))
}
