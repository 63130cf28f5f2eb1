//! A room's state as a persistent tree over dense slots.

mod membership;

pub use membership::Membership;
