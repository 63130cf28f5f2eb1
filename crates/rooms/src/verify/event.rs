//! One event by itself: header, text, id, hashes, and what authorises it.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use primitives::Rix;
use serde::Deserialize;
use storage::{
    ReadError,
    schema::rooms::{EventHeader, EventIds, EventPlace, Verdict},
};

use super::{FaultKind, RoomCheck};
use crate::{Pdu, event_key::event_key, load::StoredEvent, resolve::AuthPage};

impl RoomCheck<'_> {
    /// The header says what the text says.
    pub(super) fn check_header(&mut self, rix: Rix, event: &StoredEvent) {
        let (pdu, header) = (&event.pdu, &event.header);
        let said = EventHeader {
            origin_server_ts: pdu.origin_server_ts().0,
            sender: pdu.sender().to_string(),
            event_type: pdu.kind().to_owned(),
            state_key: pdu.state_key().map(ToOwned::to_owned),
            membership: pdu.membership(),
            depth: pdu.depth(),
            ..header.clone()
        };
        if said != *header {
            self.event_fault(FaultKind::Header, rix, event, "its header does not say what it says");
        }
        if pdu.room_id() != self.info.room_id {
            self.event_fault(FaultKind::Header, rix, event, "it is of another room");
        }
        if !content_is_whole(pdu) {
            self.event_fault(FaultKind::Hash, rix, event, "its content is neither what was hashed nor redacted");
        }
    }

    /// The text has the id, and the id finds the event: this one, and no other that has it too.
    pub(super) async fn check_id(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        if !id_is_of(&event.pdu) {
            self.event_fault(FaultKind::Hash, rix, event, "its text has another id");
        }
        let place = self.view.get::<EventIds>(&(event_key(event.pdu.event_id()),)).await?;
        match place {
            Some(place) if place == (EventPlace { room: self.info.nid, rix }) => {}
            Some(EventPlace { room, rix: other }) => {
                let what = format!("its id leads to event {other} of room {room}");
                self.event_fault(FaultKind::EventId, rix, event, &what);
            }
            None => self.event_fault(FaultKind::EventId, rix, event, "its id leads nowhere"),
        }
        Ok(())
    }

    /// Its auth events were here before it, and header and edges name just them.
    pub(super) async fn check_auth(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        let mut named = BTreeSet::new();
        let mut lacks = false;
        for id in event.pdu.auth_events() {
            match self.change.find(id).await? {
                Some(auth) => drop(named.insert(auth)),
                None => lacks = true,
            }
        }
        // One of another room makes the event a rejected one, and has no number here.
        if lacks && !matches!(event.header.verdict, Verdict::Rejected(_)) {
            self.event_fault(FaultKind::Auth, rix, event, "an auth event is not stored");
        }
        if named.last().is_some_and(|auth| *auth >= rix) {
            self.event_fault(FaultKind::Auth, rix, event, "an auth event came after it");
        }
        let auth = &event.header.auth;
        if !auth.is_sorted() || auth.iter().copied().collect::<BTreeSet<_>>() != named {
            self.event_fault(FaultKind::Auth, rix, event, "its header names other auth events");
        }
        let page = self.change.auth_page(AuthPage::of(rix)).await?;
        let edges: &[Rix] = if event.pdu.state_key().is_some() { auth } else { &[] };
        if page.get(rix) != edges {
            self.event_fault(FaultKind::Auth, rix, event, "its page of auth edges holds others");
        }
        Ok(())
    }
}

/// Whether the content is the one that was hashed, or what a redaction leaves.
fn content_is_whole(pdu: &Pdu) -> bool {
    pdu.content_hash_matches() || pdu.redacted().is_ok_and(|redacted| redacted.json() == pdu.json())
}

/// Whether the text has this id: as its hash, or in room versions 1 and 2 as a field.
fn id_is_of(pdu: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Named {
        event_id: String,
    }
    if pdu.version().has_server_event_ids() {
        return serde_json::from_str::<Named>(pdu.json()).is_ok_and(|named| named.event_id == *pdu.event_id().as_str());
    }
    let hash = pdu.reference_hash().ok().and_then(|hash| STANDARD_NO_PAD.decode(hash).ok());
    hash.is_some_and(|hash| hash == event_key(pdu.event_id()))
}
