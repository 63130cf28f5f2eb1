//! What the engine asks of rooms and users, and nothing more: the seam at which tests refuse, fail and stop.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::{StreamPosition, UnixMillis, UserNid};
use ruma::{
    CanonicalJsonValue, EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    canonical_json::CanonicalJsonObject,
};
use storage::{
    Batch,
    schema::{delayed::NewerState, rooms::EventLocal},
};

use crate::{StoreError, TxnKey, error::Refusal};

/// What goes along with an event in its own batch.
pub(crate) type Rider = Box<dyn Fn(&EventId) -> Batch + Send + Sync>;

/// An event to be sent.
pub(crate) struct Sending {
    pub(crate) sender: OwnedUserId,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) event_type: String,
    pub(crate) state_key: Option<String>,
    pub(crate) content: CanonicalJsonObject,
    pub(crate) sticky_duration: Option<Duration>,
    /// `None`: now.
    pub(crate) origin_server_ts: Option<UnixMillis>,
    pub(crate) local: EventLocal,
    /// For a state event that gives way to a newer one: since when, and to whose.
    pub(crate) gives_way: Option<(StreamPosition, NewerState)>,
    pub(crate) rider: Rider,
}

/// An event that is in its room.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) event_id: OwnedEventId,
    /// Of the batch that it and its rider were written in.
    pub(crate) position: StreamPosition,
}

/// Why an event was not sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The room refuses it, for good as far as this event goes.
    Refused(Refusal),
    /// An assert of the rider did not hold.
    Lost,
    /// A newer state event has its slot.
    NewerState,
    /// There is no such room.
    NoRoom,
    /// A fault that may pass.
    Fault(String),
}

/// A state event's slot.
pub(crate) struct SlotOf<'a> {
    pub(crate) room_id: &'a RoomId,
    pub(crate) event_type: &'a str,
    pub(crate) state_key: &'a str,
    pub(crate) owner: &'a UserId,
}

/// Rooms and users, as far as delayed events need them.
pub(crate) trait Outside: Send + Sync + 'static {
    /// Sends an event the ordinary way. Takes its place in the room's order when first polled.
    fn send(&self, event: Sending) -> BoxFuture<'_, Result<Accepted, NotSent>>;
    /// Whether the server knows a room.
    fn knows_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<bool, StoreError>>;
    /// Whether a newer state event has taken the slot since a position.
    fn slot_taken<'a>(
        &'a self,
        slot: SlotOf<'a>,
        since: StreamPosition,
        by: NewerState,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;
    /// A local user's number.
    fn nid<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserNid>, StoreError>>;
    /// The user of a number.
    fn name(&self, user: UserNid) -> BoxFuture<'_, Result<Option<OwnedUserId>, StoreError>>;
    /// The user of a number, if the account may still send: neither deactivated nor locked nor suspended.
    fn active(&self, user: UserNid) -> BoxFuture<'_, Result<Option<OwnedUserId>, StoreError>>;
    /// What a transaction answered the first time.
    fn answered<'a>(&'a self, txn: &'a TxnKey) -> BoxFuture<'a, Result<Option<String>, StoreError>>;
    /// Writes what a transaction answers; asserts that there is nothing yet.
    fn answer(&self, txn: &TxnKey, result: &str) -> Batch;
}

/// The bytes that an event takes as a PDU of this server: all that will be added to it is reckoned in.
pub(crate) fn pdu_size(
    sender: &UserId,
    room: &RoomId,
    event_type: &str,
    state_key: Option<&str>,
    content: &[u8],
    sticky: bool,
) -> usize {
    let text = |length: usize| CanonicalJsonValue::String("x".repeat(length));
    let object = |pairs: Vec<(&str, CanonicalJsonValue)>| {
        CanonicalJsonValue::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let mut pdu: CanonicalJsonObject = [
        ("auth_events", CanonicalJsonValue::Array(vec![text(44); 3])),
        ("content", object(Vec::new())),
        ("depth", CanonicalJsonValue::Integer(1_000_000.into())),
        ("hashes", object(vec![("sha256", text(43))])),
        ("origin_server_ts", CanonicalJsonValue::Integer(1_000_000_000_000_i64.try_into().expect("in range"))),
        ("prev_events", CanonicalJsonValue::Array(vec![text(44)])),
        ("room_id", CanonicalJsonValue::String(room.to_string())),
        ("sender", CanonicalJsonValue::String(sender.to_string())),
        ("signatures", object(vec![(sender.server_name().as_str(), object(vec![("ed25519:a_XXXX", text(86))]))])),
        ("type", CanonicalJsonValue::String(event_type.to_owned())),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    if let Some(state_key) = state_key {
        pdu.insert("state_key".to_owned(), CanonicalJsonValue::String(state_key.to_owned()));
    }
    if sticky {
        let duration = CanonicalJsonValue::Integer(1_000_000_000.into());
        pdu.insert("msc4354_sticky".to_owned(), object(vec![("duration_ms", duration)]));
    }
    primitives::canonical::to_bytes(&pdu).len() - "{}".len() + content.len()
}
