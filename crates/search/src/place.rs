//! Where a result stands among the others, and the tokens that say where a page ended.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::{Order, SearchError};

/// A result's place: results come from the highest to the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The bits of the score, which sort as it does; 0 where scores don't order the results.
    score: u64,
    ts: u64,
    rix: u32,
    room: u32,
}

impl Place {
    pub(crate) fn new(order: Order, score: f64, ts: u64, (room, rix): (u32, u32)) -> Self {
        let score = match order {
            Order::Rank => score.max(0.0).to_bits(),
            Order::Recent => 0,
        };
        Self { score, ts, rix, room }
    }
}

/// Where a page ended, and if it was of one group, of which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Continuation {
    pub(crate) after: Place,
    pub(crate) group: Option<(String, String)>,
}

impl Continuation {
    /// The token of the next page.
    pub(crate) fn again(after: Place, group: Option<(String, String)>) -> String {
        let json = serde_json::to_vec(&Self { after, group }).expect("a place is JSON");
        URL_SAFE_NO_PAD.encode(json)
    }

    pub(crate) fn parse(token: &str) -> Result<Self, SearchError> {
        let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| SearchError::BadToken)?;
        serde_json::from_slice(&json).map_err(|_| SearchError::BadToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_garbage_is_refused() {
        let place = Place::new(Order::Rank, 1.5, 7, (3, 9));
        let token = Continuation::again(place, Some(("sender".to_owned(), "@a:x".to_owned())));
        let read = Continuation::parse(&token).expect("a token");
        assert_eq!(read, Continuation { after: place, group: Some(("sender".to_owned(), "@a:x".to_owned())) });
        for bad in ["", "nonsense", "s1", "e30", "bnVsbA"] {
            assert!(Continuation::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_sort_by_what_was_asked_for() {
        let place = |order, score, ts| Place::new(order, score, ts, (1, 1));
        assert!(place(Order::Rank, 2.0, 1) > place(Order::Rank, 1.0, 9));
        assert!(place(Order::Rank, 1.0, 2) > place(Order::Rank, 1.0, 1));
        assert!(place(Order::Recent, 1.0, 9) > place(Order::Recent, 2.0, 1));
    }
}
