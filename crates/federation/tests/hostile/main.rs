//! A hostile peer's scripts, one attack each. What is tried is refused, costs a bounded amount of work, leaves nothing in the room, and the room goes
//! on. `docs/testing.md` says how they are made.

mod authorship;
mod edus;
mod format;
mod identity;
mod invites;
mod joining;
mod membership;
mod missing;
mod reading;
mod rules;
mod stage;
