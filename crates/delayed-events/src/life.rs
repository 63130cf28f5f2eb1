//! The life of a delayed event: every state, every transition, and who may cause it. Pure; what decides races is the store.
//!
//! ```text
//!                     restart (holder): due = now + delay
//!                        ┌────┐
//!                        │    ▼
//!  schedule ─────────▶ ┌───────────┐  fire (timer), accepted by the room
//!   (owner)            │ SCHEDULED │ ─────────────────────────────────────▶ SENT
//!                      └───────────┘  send (holder), accepted by the room
//!                        │  │  ▲ │
//!                        │  │  └─┘ send (holder) refused, or a transient fault at fire: stays as it was
//!                        │  │
//!                        │  └─ fire (timer) refused by auth, size or send limit ─▶ FAILED
//!                        │
//!                        └─ cancel (holder)
//!                           another of its group sent, its group's last timer gone (group)
//!                           a newer event in its slot, where that cancels (room)
//!                           account deactivated, locked, suspended (account)
//!                           room purged (room), drained (operator) ─────────────▶ CANCELLED
//! ```
//!
//! The *holder* is the owner with an access token, or who holds the delay id or a token made for the action. An event without a timer
//! (one of a group) knows neither fire nor restart. SENT, FAILED and CANCELLED are final. Each arrow is one batch that asserts the timer's
//! row as it was read, so that of two arrows from one state exactly one is taken; the loser looks again and is told what this table says:
//!
//! | asked for | SCHEDULED | SENT     | CANCELLED | FAILED   |
//! |-----------|-----------|----------|-----------|----------|
//! | send      | attempt   | done     | conflict  | conflict |
//! | cancel    | cancel    | conflict | done      | done     |
//! | restart   | rearm     | conflict | conflict  | conflict |
//! | fire      | attempt   | done     | done      | done     |

use storage::schema::delayed::{CancelReason, Outcome, TimerAction};

/// Where a delayed event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting for its timer, or for an action if it has none.
    Scheduled {
        /// Whether it has a timer.
        timed: bool,
    },
    /// In the room.
    Sent,
    /// Given up before it was due.
    Cancelled,
    /// Refused when it was due.
    Failed,
}

impl State {
    /// The state that an outcome stands for.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Sent { .. } => Self::Sent,
            Outcome::Cancelled(_) => Self::Cancelled,
            Outcome::Failed(_) => Self::Failed,
        }
    }
}

/// Who wants a delayed event to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The holder asks for an action.
    Holder(TimerAction),
    /// The timer has run out.
    Timer,
    /// Whatever else ends it unsent.
    End(CancelReason),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Offer the event to the room; accepted it is SENT, refused it is what [`after_refusal`] says.
    Attempt,
    /// Start the delay again.
    Rearm,
    /// End as CANCELLED.
    Cancel(CancelReason),
    /// Nothing: what was asked for has happened already.
    Done,
    /// Nothing: what has happened already rules it out.
    Conflict,
}

/// What a cause does to an event in a state.
pub fn step(state: State, cause: Cause) -> Step {
    use TimerAction::{Cancel, Restart, Send};
    match (state, cause) {
        (State::Scheduled { .. }, Cause::Holder(Send)) | (State::Scheduled { timed: true }, Cause::Timer) => {
            Step::Attempt
        }
        (State::Scheduled { timed: true }, Cause::Holder(Restart)) => Step::Rearm,
        (State::Scheduled { .. }, Cause::Holder(Cancel)) => Step::Cancel(CancelReason::Action),
        (State::Scheduled { .. }, Cause::End(reason)) => Step::Cancel(reason),
        (State::Sent, Cause::Holder(Send))
        | (State::Cancelled | State::Failed, Cause::Holder(Cancel))
        | (_, Cause::Timer | Cause::End(_)) => Step::Done,
        (State::Scheduled { timed: false }, Cause::Holder(Restart))
        | (State::Sent, Cause::Holder(Cancel | Restart))
        | (State::Cancelled | State::Failed, Cause::Holder(Send | Restart)) => Step::Conflict,
    }
}

/// What becomes of an event that the room refused for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AfterRefusal {
    /// It stays scheduled; whoever asked is told.
    Stays,
    /// It ends as FAILED.
    Fails,
}

/// What becomes of an event that the room refused for good, by who had it sent.
pub fn after_refusal(cause: Cause) -> AfterRefusal {
    match cause {
        Cause::Timer => AfterRefusal::Fails,
        Cause::Holder(_) | Cause::End(_) => AfterRefusal::Stays,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] = [
        State::Scheduled { timed: true },
        State::Scheduled { timed: false },
        State::Sent,
        State::Cancelled,
        State::Failed,
    ];

    #[test]
    fn the_table_of_actions_is_the_one_in_the_documentation() {
        use Step::{Attempt, Conflict, Done, Rearm};
        let row = |cause| STATES.map(|state| step(state, cause));
        let cancel = Step::Cancel(CancelReason::Action);
        assert_eq!(row(Cause::Holder(TimerAction::Send)), [Attempt, Attempt, Done, Conflict, Conflict]);
        assert_eq!(row(Cause::Holder(TimerAction::Cancel)), [cancel, cancel, Conflict, Done, Done]);
        assert_eq!(row(Cause::Holder(TimerAction::Restart)), [Rearm, Conflict, Conflict, Conflict, Conflict]);
        assert_eq!(row(Cause::Timer), [Attempt, Done, Done, Done, Done]);
        let end = Step::Cancel(CancelReason::Account);
        assert_eq!(row(Cause::End(CancelReason::Account)), [end, end, Done, Done, Done]);
    }

    #[test]
    fn only_the_timer_turns_a_refusal_into_an_end() {
        assert_eq!(after_refusal(Cause::Timer), AfterRefusal::Fails);
        assert_eq!(after_refusal(Cause::Holder(TimerAction::Send)), AfterRefusal::Stays);
    }
}
