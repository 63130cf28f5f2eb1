//! Delayed events (MSC4140 in all its revisions): scheduled now, sent by the server later, unless somebody says otherwise.
//!
//! One engine for every door. [`life`] draws the life of a delayed event; [`DelayedEvents`] is the front: [`DelayedEvents::schedule`],
//! [`DelayedEvents::act`], [`DelayedEvents::get`], [`DelayedEvents::list`], and [`DelayedEvents::run`], which sends what is due; for operators
//! [`DelayedEvents::list_all`], [`DelayedEvents::inspect`], [`DelayedEvents::cancel_number`] and [`DelayedEvents::drain`]. Nothing here knows
//! HTTP or the names that a door gives things.
//!
//! An event is sent the ordinary way through its room, with its own end as the rider: both are written or neither. Every change of a
//! scheduled event asserts its timer's row as it was read, so of two that race one wins, and the other looks again.

mod act;
mod end;
mod engine;
mod error;
mod event;
mod fire;
mod first;
pub mod life;
mod live;
mod meters;
mod operate;
mod options;
mod outside;
mod pace;
mod queue;
mod read;
mod recent;
mod run;
mod schedule;
mod steps;
mod sweep;
#[cfg(test)]
mod tests;
mod timeline;
mod timers;
pub mod verify;

pub use engine::DelayedEvents;
pub use error::{ActError, ListError, Refusal, ScheduleError, StoreError};
pub use event::{
    Answered, DelayId, DelayedEvent, Event, Group, ListQuery, Listed, NewDelayed, Receipt, Schedule, Scheduled, Status,
};
pub use operate::{AllListed, Drain, Drained, Found, GroupSeen, Number, OperatorCancel};
pub use options::Options;
pub use schedule::GROUP_MAX;
pub use storage::schema::delayed::{CancelReason, Failure, FailureKind, NewerState, Outcome, TimerAction};
pub use users::{Rate, TxnKey};
