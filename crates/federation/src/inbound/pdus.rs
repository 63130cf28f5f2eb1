//! The PDUs of a transaction: by room, the rooms beside each other, so that a slow one delays no other.

use std::{borrow::Cow, collections::BTreeMap};

use futures_util::{StreamExt, stream};
use ruma::{OwnedEventId, OwnedRoomId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::transaction::PduResult;
use crate::Federation;

/// Longest text that says why a PDU was not taken in, in characters.
const ERROR_MAX_CHARS: usize = 200;

/// What is looked at before the room's version is known.
#[derive(Deserialize)]
struct Located<'a> {
    #[serde(borrow)]
    room_id: Cow<'a, str>,
}

/// Takes the PDUs in. Answers for each that has an id: what is no event of a room that is known here has none. Of the events of a room that takes long nothing is
/// said.
pub(super) async fn take_in(
    federation: &Federation,
    origin: &ServerName,
    pdus: Vec<Box<RawValue>>,
) -> BTreeMap<OwnedEventId, PduResult> {
    let rooms = by_room(origin, pdus);
    let together = rooms.len().max(1);
    let answers = stream::iter(rooms)
        .map(|(room_id, pdus)| {
            let taken = federation.inbound.patiently(&federation.rooms, origin, room_id.clone(), pdus);
            async move { (taken.await, room_id) }
        })
        .buffer_unordered(together);
    let mut results = BTreeMap::new();
    let mut answers = std::pin::pin!(answers);
    while let Some((answer, room_id)) = answers.next().await {
        let Some(answer) = answer else {
            tracing::info!(%origin, %room_id, "events of a room wait for other servers");
            continue;
        };
        match answer {
            Ok(taken) => results.extend(taken.into_iter().map(|taken| {
                let error = taken.refused.map(|error| error.chars().take(ERROR_MAX_CHARS).collect());
                (taken.event_id, PduResult { error })
            })),
            Err(error) => tracing::debug!(%origin, %room_id, %error, "events were dropped"),
        }
    }
    results
}

/// The PDUs of each room, in the order in which they came. As there are few in a transaction, there are few rooms.
fn by_room(origin: &ServerName, pdus: Vec<Box<RawValue>>) -> BTreeMap<OwnedRoomId, Vec<Box<RawValue>>> {
    let mut rooms: BTreeMap<OwnedRoomId, Vec<_>> = BTreeMap::new();
    for pdu in pdus {
        let room = serde_json::from_str::<Located<'_>>(pdu.get()).ok();
        if let Some(room) = room.and_then(|located| RoomId::parse(located.room_id).ok()) {
            rooms.entry(room).or_default().push(pdu);
        } else {
            tracing::debug!(%origin, "something that is no event of a room was dropped");
        }
    }
    rooms
}
