//! What is asked of a search.

use rooms::{filter::RoomEventFilter, read::Around};
use serde::Deserialize;

/// Where words are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Key {
    /// The bodies of messages.
    #[serde(rename = "content.body")]
    Body,
    /// Names of rooms.
    #[serde(rename = "content.name")]
    Name,
    /// Topics of rooms.
    #[serde(rename = "content.topic")]
    Topic,
}

impl Key {
    /// Every key.
    pub const ALL: [Self; 3] = [Self::Body, Self::Name, Self::Topic];

    /// The index's name for it.
    pub(crate) fn column(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Name => "name",
            Self::Topic => "topic",
        }
    }
}

/// The order of the results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The best first.
    #[default]
    Rank,
    /// The newest first.
    Recent,
}

/// By what results are put into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The room.
    RoomId,
    /// The sender.
    Sender,
}

impl GroupBy {
    /// The specification's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoomId => "room_id",
            Self::Sender => "sender",
        }
    }
}

/// A search for events of rooms.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// The words; those in double quotes have to follow each other.
    pub term: String,
    /// Where they are looked for.
    pub keys: Vec<Key>,
    /// Which rooms and events are searched, and how many results a page has.
    pub filter: RoomEventFilter,
    /// In which order.
    pub order: Order,
    /// What is shown of what was around each result.
    pub around: Option<Around>,
    /// Whether the state of the results' rooms is shown too.
    pub include_state: bool,
    /// By what the results are put into groups.
    pub group_by: Vec<GroupBy>,
    /// The token that the page before ended with.
    pub next_batch: Option<String>,
}
