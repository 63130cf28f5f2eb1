//! The engine as a whole, on the memory engine and a manual clock. Numbers are those of the list of edge cases.

mod acting;
mod crash;
mod firing;
mod groups;
mod operating;
mod reading;
mod scheduling;
mod support;
mod verify;
