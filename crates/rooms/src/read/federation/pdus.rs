//! Events as another server is sent them: as they were received, or pruned.

use std::collections::BTreeMap;

use primitives::{Rix, RoomNid};
use ruma::OwnedEventId;
use serde::Serialize;
use serde_json::value::RawValue;
use storage::{
    ReadError,
    schema::rooms::{EventHeader, EventHeaders, EventJson, EventKind, Verdict},
};

use crate::{
    Pdu,
    load::corrupt,
    read::{Reads, RoomView},
    visibility::{ServerEyes, ServerStanding},
};

/// Events that are read and sent at once.
const PART: usize = 200;

/// An event in the format in which servers exchange them. Serialises as its JSON.
#[derive(Clone, Debug, Serialize)]
pub struct ServedPdu(Box<RawValue>);

impl ServedPdu {
    /// The JSON.
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl ServedPdu {
    /// The event with this, and nothing else, as its `unsigned`.
    pub(super) fn with_unsigned(&self, unsigned: &impl Serialize) -> Result<Self, serde_json::Error> {
        let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(self.json())?;
        fields.insert("unsigned".to_owned(), serde_json::value::to_raw_value(unsigned)?);
        serde_json::value::to_raw_value(&fields).map(Self)
    }
}

/// Shows the events of one room to one server.
pub(super) struct ServerShower<'a> {
    pub(super) room: &'a RoomView<'a>,
    eyes: ServerEyes<'a>,
    standing: ServerStanding,
}

impl<'a> ServerShower<'a> {
    pub(super) fn new(room: &'a RoomView<'a>, eyes: ServerEyes<'a>, standing: ServerStanding) -> Self {
        Self { room, eyes, standing }
    }

    /// Events in their order, as far as the server may have them. They must exist.
    pub(super) async fn show(&mut self, rixes: &[Rix]) -> Result<Vec<ServedPdu>, ReadError> {
        let mut shown = Vec::with_capacity(rixes.len());
        for (header, text) in self.room.texts(rixes).await? {
            let Some(whole) = self.judge(&header).await? else { continue };
            shown.push(self.room.served(&header, text, whole).await?);
        }
        Ok(shown)
    }

    /// Whether the server may have the event at all, and then whether with its content.
    pub(super) async fn judge(&mut self, header: &EventHeader) -> Result<Option<bool>, ReadError> {
        let joined = self.standing == ServerStanding::Joined;
        if matches!(header.verdict, Verdict::Rejected(_)) {
            return Ok(None);
        }
        if header.kind == EventKind::Outlier {
            // Nothing is known of its place, but that it is in the auth chains or the state that every server in the room is given.
            return Ok((joined && header.state_key.is_some()).then_some(true));
        }
        if !self.eyes.sees(header).await? {
            return Ok(joined.then_some(false));
        }
        // What a user said who asked to be erased is for those who were there; what they said of the room is the room's.
        let of_themselves = header.state_key.as_ref().is_none_or(|key| *key == header.sender);
        let erased =
            of_themselves && self.room.caches.may_be_erased() && self.room.caches.is_erased(&header.sender).await?;
        Ok(Some(!erased || self.eyes.was_there(header).await?))
    }
}

impl RoomView<'_> {
    /// The headers and texts of events, in their order. They must exist.
    async fn texts(&self, rixes: &[Rix]) -> Result<Vec<(EventHeader, Vec<u8>)>, ReadError> {
        let keys: Vec<_> = rixes.iter().map(|rix| (self.nid, *rix)).collect();
        let headers = self.view.multi_get::<EventHeaders>(&keys).await?;
        let texts = self.view.multi_get::<EventJson>(&keys).await?;
        let both = headers.into_iter().zip(texts).map(|both| match both {
            (Some(header), Some(text)) => Ok((header.value, text.0)),
            _ => Err(corrupt::<EventHeaders>(format!("an event of room {} is missing", self.nid))),
        });
        both.collect()
    }

    /// An event for another server; without its content if it may not have it, or if the event was redacted.
    async fn served(&self, header: &EventHeader, text: Vec<u8>, whole: bool) -> Result<ServedPdu, ReadError> {
        let corrupt_text = |error: &dyn std::fmt::Display| corrupt::<EventJson>(error.to_string());
        let text = String::from_utf8(text).map_err(|error| corrupt_text(&error))?;
        let emptied = !whole || self.redaction_of_id(&header.event_id).await?.is_some();
        let text = if emptied {
            let id = OwnedEventId::try_from(header.event_id.as_str()).map_err(|error| corrupt_text(&error))?;
            let pdu = Pdu::from_stored(self.version, id, text).and_then(|pdu| pdu.redacted());
            pdu.map_err(|error| corrupt_text(&error))?.json().to_owned()
        } else {
            text
        };
        RawValue::from_string(text).map(ServedPdu).map_err(|error| corrupt_text(&error))
    }
}

/// Events of a room that are read while they are sent, a part at a time: the state of a large room is never held whole.
///
/// Whether the server may have them was decided before.
#[derive(Clone, Debug)]
pub struct EventSeries {
    reads: Reads,
    room: RoomNid,
    rixes: Vec<Rix>,
    next: usize,
}

impl EventSeries {
    pub(crate) fn new(reads: Reads, room: RoomNid, rixes: Vec<Rix>) -> Self {
        Self { reads, room, rixes, next: 0 }
    }

    /// How many events are left.
    pub fn len(&self) -> usize {
        self.rixes.len() - self.next
    }

    /// Whether no event is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next events; none at the end.
    ///
    /// # Errors
    /// The store could not be read, or the room has gone meanwhile.
    pub async fn next_pdus(&mut self) -> Result<Vec<ServedPdu>, ReadError> {
        let (reads, view) = (self.reads.clone(), self.reads.0.storage.view());
        let room = RoomView::by_number(&view, reads.caches(), self.room).await?;
        let room = room.ok_or_else(|| corrupt::<storage::schema::rooms::Rooms>("the room has gone"))?;
        let mut pdus = Vec::new();
        for (header, text) in room.texts(self.take_part()).await? {
            pdus.push(room.served(&header, text, true).await?);
        }
        Ok(pdus)
    }

    /// The ids of the next events; none at the end.
    ///
    /// # Errors
    /// The store could not be read, or the room has gone meanwhile.
    pub async fn next_ids(&mut self) -> Result<Vec<String>, ReadError> {
        let (room, view) = (self.room, self.reads.0.storage.view());
        let keys: Vec<_> = self.take_part().iter().map(|rix| (room, *rix)).collect();
        let headers = view.multi_get::<EventHeaders>(&keys).await?;
        let missing = || corrupt::<EventHeaders>(format!("an event of room {room} is missing"));
        headers.into_iter().map(|header| Ok(header.ok_or_else(missing)?.value.event_id)).collect()
    }

    fn take_part(&mut self) -> &[Rix] {
        let from = self.next;
        self.next = (from + PART).min(self.rixes.len());
        &self.rixes[from..self.next]
    }
}
