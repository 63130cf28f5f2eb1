//! Delayed events. Table numbers 90–99. Written by the `delayed-events` crate only.
//!
//! Single events, groups and batches are one model: an event with a timer or without, in a group or in none. Keys of 16 bytes are
//! keyed hashes: of the delay id, the group id, the token. The ids themselves are secrets and stand in no key.

use primitives::{StreamPosition, UnixMillis, UserNid};
use serde::{Deserialize, Serialize};

use crate::Positioned;

use super::{tables, version_one};

tables! {
    /// What was scheduled, by hash of the delay id. Never rewritten; kept until retention ends.
    Delayed = 90, "delayed", ([u8; 16],) => Positioned<DelayedRow>;
    /// The events that are still scheduled, by hash of the delay id: the row that every action and the timer race for by `Equals`, and the
    /// only one that a restart writes. Gone once there is an outcome. Stamped with the position at which the event was scheduled.
    DelayedTimers = 91, "delayed_timer", ([u8; 16],) => Positioned<TimerRow>;
    /// How it ended, by hash of the delay id. Written in the batch that deletes the timer.
    DelayedOutcomes = 92, "delayed_outcome", ([u8; 16],) => OutcomeRow;
    /// A user's ended events in the order of their ends; the last part of the key is [`order`].
    Finalised = 93, "finalised", (UserNid, UnixMillis, u64) => HashRow;
    /// Groups, by hash of the group id.
    DelayedGroups = 94, "delayed_group", ([u8; 16],) => GroupRow;
    /// Tokens that stand for one action on one event, by hash of the token.
    DelayedTokens = 95, "delayed_token", ([u8; 16],) => TokenRow;
}

/// The order in which events were scheduled: by the position of their batch, then by their place in it.
pub fn order(scheduled: StreamPosition, place: u8) -> u64 {
    scheduled.0 << 8 | u64::from(place)
}

/// What was scheduled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayedRow {
    /// The delay id, for its owner's eyes.
    pub delay_id: String,
    /// The owner, who is the sender.
    pub user: UserNid,
    /// The device that scheduled it.
    pub device_id: Option<String>,
    /// The room.
    pub room_id: String,
    /// The event's type.
    pub event_type: String,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content, canonical JSON.
    pub content: Vec<u8>,
    /// The delay; `None`: there is no timer, only an action sends it.
    pub delay_ms: Option<u64>,
    /// When it was scheduled.
    pub scheduled_at: UnixMillis,
    /// The place in its batch, for [`order`].
    pub place: u8,
    /// The transaction id under which it was scheduled.
    pub transaction_id: Option<String>,
    /// The sticky duration that the event is to carry.
    pub sticky_duration_ms: Option<u64>,
    /// The `origin_server_ts` that the event is to carry; `None`: the time of sending.
    pub origin_server_ts: Option<UnixMillis>,
    /// What a newer state event in the same slot does.
    pub newer_state: NewerState,
    /// The id of its group.
    pub group_id: Option<String>,
    /// The name that its group knows it by.
    pub name: Option<String>,
    /// The tokens that act on it.
    pub tokens: Vec<(TimerAction, String)>,
}

/// What a state event in the slot of a delayed state event does to it, if it is newer than the scheduling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewerState {
    /// Nothing.
    #[default]
    Ignored,
    /// Cancels it, unless its sender is the owner.
    OtherSenderCancels,
    /// Cancels it.
    Cancels,
}

/// What can be done to a scheduled event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimerAction {
    /// Send it now.
    Send,
    /// Never send it.
    Cancel,
    /// Start its delay again.
    Restart,
}

/// The timer of an event that is still scheduled. Says all that is kept in memory, so that one scan of the table rebuilds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow {
    /// The owner.
    pub user: UserNid,
    /// The room, as 32 bits of a keyed hash of its id: enough to queue by.
    pub room: u32,
    /// The place in its batch, for [`order`].
    pub place: u8,
    /// Counts the restarts, so that no two versions of the row are equal.
    pub generation: u32,
    /// When it is due, and after what delay; `None`: only an action sends it.
    pub due: Option<Due>,
    /// The group, as in the key of [`DelayedGroups`].
    pub group: Option<[u8; 16]>,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The wall-clock time.
    pub at: UnixMillis,
    /// The delay that led there, counted from scheduling or from the latest restart.
    pub delay_ms: u64,
}

/// How a delayed event ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// The owner.
    pub user: UserNid,
    /// When it ended.
    pub at: UnixMillis,
    /// How.
    pub outcome: Outcome,
    /// When its delay had last begun.
    pub running_since: UnixMillis,
}

/// How a delayed event ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was sent.
    Sent {
        /// The event.
        event_id: String,
        /// By an action, before it was due.
        early: bool,
    },
    /// It will never be sent.
    Cancelled(CancelReason),
    /// It was due and was refused.
    Failed(Failure),
}

/// Why a delayed event was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CancelReason {
    /// Its owner, or who held its id or token, said so.
    Action,
    /// Another event of its group was sent, or its group's last timer went.
    Group,
    /// A newer state event took its slot.
    NewerState,
    /// The owner's account was deactivated, locked or suspended.
    Account,
    /// The room is no longer there.
    Room,
    /// An operator said so.
    Operator,
}

/// A refusal of the room, final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// The reason in words, for the owner.
    pub message: String,
}

/// The kinds of refusal that end a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// Not allowed by the room's state.
    Forbidden,
    /// The sender was over the send limit.
    LimitExceeded,
    /// Too large once built.
    TooLarge,
    /// The content is not what its type asks for.
    BadContent,
    /// Refused for any other reason.
    Other,
}

/// A hash of a delay id, as in the key of [`Delayed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashRow(pub [u8; 16]);

/// A group: of its events at most one is ever sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    /// The owner of the group and of every event in it.
    pub user: UserNid,
    /// Whether its events may still be sent, and new ones join.
    pub open: bool,
    /// Counts what happened to its events, so that of two happenings one sees the other.
    pub changes: u32,
    /// Every event that was ever in it, as in the key of [`Delayed`].
    pub members: Vec<[u8; 16]>,
}

/// What a token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The event, as in the key of [`Delayed`].
    pub event: [u8; 16],
    /// The action.
    pub action: TimerAction,
}

version_one!(DelayedRow, TimerRow, OutcomeRow, HashRow, GroupRow, TokenRow);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::golden::golden;

    #[test]
    fn a_timer_is_small_and_golden() {
        let timer = TimerRow {
            user: UserNid(7),
            room: 0x1234,
            place: 0,
            generation: 3,
            due: Some(Due { at: UnixMillis(1_700_000_000_000), delay_ms: 5_000 }),
            group: None,
        };
        let row = Positioned { position: StreamPosition(9), value: timer };
        insta::assert_snapshot!(golden::<DelayedTimers>(&([0xAB; 16],), &row), @"delayed_timer abababababababababababababababab = 00000000000000090107b42400030180d095ffbc31882700");
    }

    #[test]
    fn the_other_rows_are_golden() {
        let event = DelayedRow {
            delay_id: "id".to_owned(),
            user: UserNid(7),
            device_id: Some("D".to_owned()),
            room_id: "!r".to_owned(),
            event_type: "m.t".to_owned(),
            state_key: Some(String::new()),
            content: b"{}".to_vec(),
            delay_ms: None,
            scheduled_at: UnixMillis(1),
            place: 2,
            transaction_id: Some("t".to_owned()),
            sticky_duration_ms: Some(3),
            origin_server_ts: Some(UnixMillis(4)),
            newer_state: NewerState::Cancels,
            group_id: Some("g".to_owned()),
            name: Some("n".to_owned()),
            tokens: vec![(TimerAction::Restart, "k".to_owned())],
        };
        let outcome =
            |outcome| OutcomeRow { user: UserNid(7), at: UnixMillis(5), outcome, running_since: UnixMillis(6) };
        let failure = Failure { kind: FailureKind::LimitExceeded, message: "m".to_owned() };
        let rows = [
            golden::<Delayed>(&([1; 16],), &Positioned { position: StreamPosition(9), value: event }),
            golden::<DelayedOutcomes>(&([1; 16],), &outcome(Outcome::Sent { event_id: "$e".to_owned(), early: true })),
            golden::<DelayedOutcomes>(&([1; 16],), &outcome(Outcome::Cancelled(CancelReason::Operator))),
            golden::<DelayedOutcomes>(&([1; 16],), &outcome(Outcome::Failed(failure))),
            golden::<Finalised>(&(UserNid(7), UnixMillis(5), order(StreamPosition(9), 2)), &HashRow([1; 16])),
            golden::<DelayedGroups>(
                &([2; 16],),
                &GroupRow { user: UserNid(7), open: true, changes: 1, members: vec![[1; 16]] },
            ),
            golden::<DelayedTokens>(&([3; 16],), &TokenRow { event: [1; 16], action: TimerAction::Cancel }),
        ];
        insta::assert_snapshot!(rows.join("\n"), @r"
        delayed 01010101010101010101010101010101 = 00000000000000090102696407010144022172036d2e740100027b7d000102010174010301040201016701016e0102016b
        delayed_outcome 01010101010101010101010101010101 = 010705000224650106
        delayed_outcome 01010101010101010101010101010101 = 010705010506
        delayed_outcome 01010101010101010101010101010101 = 0107050201016d06
        finalised 0000000700000000000000050000000000000902 = 0101010101010101010101010101010101
        delayed_group 02020202020202020202020202020202 = 010701010101010101010101010101010101010101
        delayed_token 03030303030303030303030303030303 = 010101010101010101010101010101010101
        ");
    }
}
