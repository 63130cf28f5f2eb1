//! Durable work across rooms and users: what a request causes and cannot finish itself, taken up again after a restart.
//!
//! # Jobs
//!
//! A job is a row `kind ‖ id → cursor` ([`storage::schema::jobs::Jobs`]), written in the batch of its cause: users and rooms take a rider for that,
//! and `rooms` itself writes the row where it sees the cause. [`Jobs::run`] finds the rows at the start, when somebody rings and now and then, and
//! takes each job a step at a time: a step does a bounded piece of work that may be done twice, then moves the cursor in a batch that asserts the row
//! as it was read. So
//!
//! - a kill between any two writes leaves a row from which the work goes on;
//! - a newer cause, which overwrites the row with one of its own position, makes the step under way lose, and the job begins anew: the newest wins;
//! - two runs of one job never overlap, and each job waits for its next step behind the others of its kind, the kinds in turn.
//!
//! A step that fails is tried again after a pause that doubles; after so many failures in a row the job is *set aside* and tried only now and then, and
//! the operator sees it in the metrics. It is never dropped.
//!
//! # Projections
//!
//! What can be derived from the rooms at any time is no job: [`projections`] says how it is kept.
//!
//! # More
//!
//! To add a kind of job: a number in [`storage::schema::jobs::JobKind`], a file here with a [`Kind`] and a `rider`, and a line in [`Jobs::open`].

mod board;
mod close_replaced;
pub mod deactivation;
mod device_list;
mod device_marks;
mod fetch_device_lists;
mod forget_device_lists;
mod guests;
mod kind;
mod made_whole;
mod memberships;
mod meters;
mod options;
pub mod profile;
pub mod projections;
mod remote_device_list;
mod resync;
mod runner;
#[cfg(test)]
mod tests;
mod upgrade;
pub mod verify;

pub use kind::{Kind, Next, StepError};
pub use options::Options;
pub use projections::Projections;
pub use runner::Jobs;
