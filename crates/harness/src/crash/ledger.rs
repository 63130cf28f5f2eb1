//! What was asked for and what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::Mutex;

/// What is known of a message's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// No answer yet: it may or may not have happened.
    Open,
    /// Acknowledged with this event id.
    Sent(String),
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
    /// Delayed events by marker.
    pub delayed: Mutex<BTreeMap<String, Entry<Delayed>>>,
    acknowledged: AtomicU64,
}

impl Ledger {
    /// Counts one acknowledged request.
    pub fn count(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }
}
