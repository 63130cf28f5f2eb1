//! What was asked for and what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    kept::{ReadUpTo, Register},
    keys::Keys,
};
use crate::client::text;

/// What is known of a message's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// No answer yet: it may or may not have happened.
    Open,
    /// Acknowledged with this event id.
    Sent(String),
}

/// What is known of a message to a user's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// No answer yet: it may or may not have happened.
    Open,
    /// Acknowledged.
    Sent,
}

/// What is known of a delayed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delayed {
    /// The request to schedule it had no answer.
    Open,
    /// Acknowledged with this delay id; nobody cancels it, so it must arrive.
    Scheduled(String),
    /// A cancel had no answer: it may arrive or not.
    MaybeCancelled,
    /// The cancel was acknowledged: it must never arrive.
    Cancelled,
}

/// How a group of futures is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// A future with a timeout, and then one with an action.
    Pair,
    /// Both in one request, and a message at once.
    Batch,
}

/// What is known of a group of futures, of which at most one may ever arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The request that makes it had no answer yet.
    Open,
    /// Acknowledged, and nobody cancels it: exactly one arrives.
    One,
    /// The sending of this one was acknowledged: it arrives, and no other.
    Sent(String),
    /// A cancel had no answer: none or one arrives.
    AtMostOne,
    /// The cancel of its only timeout was acknowledged: none arrives.
    None,
}

/// A group of futures.
#[derive(Clone, Debug)]
pub struct Group {
    /// The index of the user.
    pub user: usize,
    /// How it is asked for.
    pub making: Making,
    /// What is known.
    pub fate: Fate,
}

impl Group {
    /// The marker of its future with a timeout.
    pub fn timeout(marker: &str) -> String {
        format!("{marker}-timeout")
    }

    /// The marker of its future with an action.
    pub fn action(marker: &str) -> String {
        format!("{marker}-action")
    }

    /// The marker of the message that a batch sends at once.
    pub fn now(marker: &str) -> String {
        format!("{marker}-now")
    }
}

/// One request by the marker in its message's body.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The index of the user.
    pub user: usize,
    /// The transaction id.
    pub txn: String,
    /// What is known.
    pub state: T,
}

/// Every request of the run. Written before a request is sent and after it is answered.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Messages by marker.
    pub messages: Mutex<BTreeMap<String, Entry<Message>>>,
    /// Messages to the next user's devices, by marker.
    pub notes: Mutex<BTreeMap<String, Entry<Note>>>,
    /// Delayed events by marker.
    pub delayed: Mutex<BTreeMap<String, Entry<Delayed>>>,
    /// Groups of futures by the marker that those of their events begin with.
    pub groups: Mutex<BTreeMap<String, Group>>,
    /// Account data by the index of the user, whether it is of the user's room, and its type.
    pub data: Mutex<BTreeMap<(usize, bool, String), Register>>,
    /// How far each user has read their room, by the type of the receipt.
    pub read: Mutex<BTreeMap<usize, BTreeMap<&'static str, ReadUpTo>>>,
    /// Messages that were acknowledged, by room.
    pub sent: Mutex<BTreeMap<String, Vec<String>>>,
    /// The names of the users' devices, by the index of the user.
    pub names: Mutex<BTreeMap<usize, Register>>,
    /// One-time keys.
    pub keys: Keys,
    acknowledged: AtomicU64,
}

impl Ledger {
    /// Counts one acknowledged request.
    pub fn count(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes the message that a batch has sent at once, from the batch's answer.
    pub async fn note_now(&self, user: usize, marker: &str, answer: &Value) {
        let event_id = text(&answer["send_now"]["event_id"]).to_owned();
        let entry = Entry { user, txn: marker.to_owned(), state: Message::Sent(event_id) };
        self.messages.lock().await.insert(Group::now(marker), entry);
    }

    /// How many requests were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}
