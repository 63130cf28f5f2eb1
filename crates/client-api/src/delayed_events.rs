//! Delayed events (MSC4140): a module for each generation of the API. A door maps names and errors, and knows nothing else.
//!
//! | module | generation |
//! |---|---|
//! | [`query`] | query parameter on `/send` and `/state` |
//! | [`schedule`] | the dedicated path, stable and unstable |
//! | [`manage`] | actions: stable, unstable, in the path or in the body, with or without a token |
//! | [`read`] | one event and lists, stable and unstable |
//! | [`lists`] | the two lists of 2025 |
//! | [`futures`], [`batch`] | the futures of 2024 |

mod batch;
mod errors;
mod futures;
mod lists;
mod manage;
pub(crate) mod query;
mod read;
mod render;
mod schedule;

use std::time::Duration;

use ::delayed_events::{Event, Group, NewDelayed, Schedule};
use ruma::OwnedRoomId;
use users::tokens::Requester;

use crate::{error::ApiError, routes::Routes};

pub(crate) fn routes(routes: &mut Routes) {
    schedule::routes(routes);
    manage::routes(routes);
    read::routes(routes);
    lists::routes(routes);
    futures::routes(routes);
    batch::routes(routes);
}

/// Where the unstable paths begin.
macro_rules! msc4140 {
    ($path:literal) => {
        concat!("/_matrix/client/unstable/org.matrix.msc4140", $path)
    };
}
use msc4140;

/// A request to schedule one event that is in no group.
fn single(who: &Requester, room_id: OwnedRoomId, event: Event, delay: Duration) -> Schedule {
    let event = NewDelayed { event, delay: Some(delay), name: None, tokens: false };
    of(who, room_id, vec![event], Group::None)
}

/// A request to schedule events.
fn of(who: &Requester, room_id: OwnedRoomId, events: Vec<NewDelayed>, group: Group) -> Schedule {
    Schedule {
        user_id: who.user_id.clone(),
        device_id: who.device_id.clone(),
        room_id,
        events,
        group,
        now: None,
        txn: None,
    }
}

/// A number of milliseconds that was written as text: digits only. What is too great for a number is greater than any limit.
fn millis(text: &str, name: &str) -> Result<Duration, ApiError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ApiError::invalid_param(format!("`{name}` must be a whole number of milliseconds")));
    }
    Ok(Duration::from_millis(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_are_milliseconds() {
        for bad in ["", "-1", "1.5", "1e3", " 1", "+1", "abc", "٣", "0x10"] {
            assert!(millis(bad, "delay").is_err(), "{bad}");
        }
        assert_eq!(millis("0", "delay").expect("a number"), Duration::ZERO);
        assert_eq!(millis("9007199254740993", "delay").expect("a number").as_millis(), 9_007_199_254_740_993);
        assert_eq!(millis(&"9".repeat(100), "delay").expect("a number").as_millis(), u128::from(u64::MAX));
    }
}
