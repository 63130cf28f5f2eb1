//! A room as another server gives it: which events there are, and in what order they can be taken in. All of it is to be doubted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use federation_client::calls::membership::JoinedRoomParts;
use ruma::{OwnedEventId, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{RemoteMembershipError, keys::Wanted};
use crate::{Pdu, RoomVersion};

/// Events that are read before others get a turn.
const AT_ONCE: usize = 200;

/// The events of a state and of its auth chain.
#[derive(Debug, Default)]
pub(super) struct Given<'a> {
    /// In an order in which each comes after those that authorise it; each once. Those that can't be ordered are left out.
    pub(super) events: Vec<&'a str>,
    /// The events of the state, one for each type and state key.
    pub(super) state: BTreeSet<OwnedEventId>,
    /// The keys that they are signed with.
    pub(super) keys: Wanted,
}

/// One event, as far as it matters here.
struct Known<'a> {
    text: &'a str,
    auth: Vec<OwnedEventId>,
    is_create: bool,
}

/// Reads a state and its auth chain. What is no event of the room is left out.
///
/// # Errors
/// The state is not one of this room: two events stand under one type and state key, or the event that creates it is missing or says another version.
pub(super) async fn given<'a>(
    version: RoomVersion,
    room_id: &RoomId,
    parts: &JoinedRoomParts<'a>,
) -> Result<Given<'a>, RemoteMembershipError> {
    let mut reading = Reading { version, room_id, known: HashMap::new(), keys: Wanted::default() };
    let (mut state, mut slots) = (BTreeSet::new(), BTreeMap::new());
    let mut has_create = false;
    for events in parts.state.chunks(AT_ONCE) {
        for event in events {
            let Some(pdu) = reading.read(event) else { continue };
            let Some(state_key) = pdu.state_key() else { continue };
            let slot = (pdu.kind().to_owned(), state_key.to_owned());
            if let Some(other) = slots.insert(slot, pdu.event_id().clone())
                && other != *pdu.event_id()
            {
                return Err(unusable("two events of its state have one type and state key"));
            }
            has_create |= pdu.is_state("m.room.create", "") && creates(&pdu, version);
            state.insert(pdu.event_id().clone());
        }
        tokio::task::yield_now().await;
    }
    if !has_create {
        return Err(unusable("its state has no event that creates a room of its version"));
    }
    for events in parts.auth_chain.chunks(AT_ONCE) {
        for event in events {
            reading.read(event);
        }
        tokio::task::yield_now().await;
    }
    let Reading { known, keys, .. } = reading;
    Ok(Given { events: ordered(&known), state, keys })
}

struct Reading<'a, 'r> {
    version: RoomVersion,
    room_id: &'r RoomId,
    known: HashMap<OwnedEventId, Known<'a>>,
    keys: Wanted,
}

impl<'a> Reading<'a, '_> {
    fn read(&mut self, event: &'a RawValue) -> Option<Pdu> {
        let text = event.get();
        match Pdu::parse(self.version, text.as_bytes()) {
            Ok(pdu) if pdu.room_id() == self.room_id => {
                let id = pdu.event_id().clone();
                if !self.known.contains_key(&id) {
                    self.keys.add(&pdu);
                    let is_create = pdu.is_state("m.room.create", "");
                    self.known.insert(id, Known { text, auth: pdu.auth_events().to_vec(), is_create });
                }
                Some(pdu)
            }
            Ok(pdu) => {
                tracing::debug!(event_id = %pdu.event_id(), "an event of another room was sent with a room");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "something that is no event was sent with a room");
                None
            }
        }
    }
}

/// Whether an event creates a room of a version.
fn creates(pdu: &Pdu, version: RoomVersion) -> bool {
    #[derive(Deserialize)]
    struct Content {
        room_version: Option<String>,
    }
    let content = pdu.content_as::<Content>();
    content.is_ok_and(|content| content.room_version.as_deref().unwrap_or("1") == version.as_str())
}

/// The events in an order in which each comes after those of the list that authorise it: first the one that creates the room, for the events of room version
/// 12 don't name it. Events whose auth events lead in a circle are left out.
fn ordered<'a>(known: &HashMap<OwnedEventId, Known<'a>>) -> Vec<&'a str> {
    let mut after: HashMap<&OwnedEventId, Vec<&OwnedEventId>> = HashMap::new();
    let mut waiting: HashMap<&OwnedEventId, usize> = HashMap::with_capacity(known.len());
    let mut ready = BinaryHeap::new();
    for (id, event) in known {
        let auth: BTreeSet<_> = event.auth.iter().filter(|auth| known.contains_key(*auth)).collect();
        for auth in &auth {
            after.entry(*auth).or_default().push(id);
        }
        waiting.insert(id, auth.len());
        if auth.is_empty() {
            ready.push(Reverse((!event.is_create, id)));
        }
    }
    let mut order = Vec::with_capacity(known.len());
    while let Some(Reverse((_, id))) = ready.pop() {
        order.push(known[id].text);
        for next in after.remove(id).unwrap_or_default() {
            let left = waiting.get_mut(next).expect("every event is counted");
            *left -= 1;
            if *left == 0 {
                ready.push(Reverse((!known[next].is_create, next)));
            }
        }
    }
    order
}

fn unusable(reason: &str) -> RemoteMembershipError {
    RemoteMembershipError::Unusable(reason.to_owned())
}
