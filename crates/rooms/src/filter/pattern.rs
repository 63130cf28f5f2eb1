//! Event types with `*` in filters.

use serde::{Deserialize, Deserializer};

/// An event type in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// Without `*`.
    Exact(Box<str>),
    /// The pieces between the `*`s: two or more.
    Wild(Box<[Box<str>]>),
}

impl Pattern {
    fn new(text: &str) -> Self {
        if text.contains('*') {
            Self::Wild(text.split('*').map(Into::into).collect())
        } else {
            Self::Exact(text.into())
        }
    }

    /// Whether the whole of an event type fits. Each piece is looked for once, from left to right: linear in the type's length for
    /// each piece.
    pub(super) fn matches(&self, event_type: &str) -> bool {
        let pieces = match self {
            Self::Exact(text) => return **text == *event_type,
            Self::Wild(pieces) => pieces,
        };
        let [first, middle @ .., last] = &**pieces else { return false };
        let Some(mut rest) = event_type.strip_prefix(&**first) else { return false };
        for piece in middle {
            match rest.find(&**piece) {
                Some(at) => rest = &rest[at + piece.len()..],
                None => return false,
            }
        }
        rest.ends_with(&**last)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_sequence_and_everything_else_is_itself() {
        let fits = |pattern: &str, event_type: &str| Pattern::new(pattern).matches(event_type);
        assert!(fits("m.room.message", "m.room.message"));
        assert!(!fits("m.room.message", "m.room.messages"));
        assert!(fits("m.room.*", "m.room.message"));
        assert!(fits("m.room.*", "m.room."));
        assert!(!fits("m.room.*", "m.roommate"));
        assert!(fits("*", ""));
        assert!(fits("*.member", "m.room.member"));
        assert!(fits("m.*.m*r", "m.room.member"));
        assert!(!fits("m.*.m*x", "m.room.member"));
        assert!(fits("a**b", "ab"));
        assert!(!fits("ab*ba", "aba"));
        assert!(!fits("m.room.?", "m.room.x"));
    }
}
