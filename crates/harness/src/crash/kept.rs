//! What is kept beside events, account data and receipts: what was acknowledged is there after every start.

use std::time::Duration;

use serde_json::Value;

use super::{User, ledger::Ledger};
use crate::client::{Client, list, text};

/// The values that something may have.
#[derive(Clone, Debug, Default)]
pub struct Register {
    /// The last that was acknowledged.
    acknowledged: Option<String>,
    /// Asked for since then, without an answer.
    open: Vec<String>,
}

impl Register {
    /// Notes that a value is asked for.
    pub fn ask(&mut self, value: &str) {
        self.open.push(value.to_owned());
    }

    /// Notes that the value that was asked for last has been acknowledged.
    pub fn acknowledge(&mut self) {
        self.acknowledged = self.open.pop();
        self.open.clear();
    }

    /// Whether it may have this value, which it then is known to have.
    pub(super) fn settle(&mut self, found: Option<&str>) -> bool {
        let may = found == self.acknowledged.as_deref() || self.open.iter().any(|open| Some(&**open) == found);
        *self = Self { acknowledged: found.map(ToOwned::to_owned), open: Vec::new() };
        may
    }
}

/// How far a user has read, as the requests say. A receipt never moves back.
#[derive(Clone, Debug, Default)]
pub struct ReadUpTo {
    /// Events up to which reading was acknowledged.
    pub acknowledged: Vec<String>,
    /// Those of requests without an answer.
    pub open: Vec<String>,
}

/// What was acknowledged and is not there, or is there though nobody asked for it. To be called after a start, while nobody writes.
pub(super) async fn lost(ledger: &Ledger, users: &[User], base: &str) -> anyhow::Result<Vec<String>> {
    let mut lost = Vec::new();
    for (index, user) in users.iter().enumerate() {
        let synced = user.client.at(base).sync(None, Duration::ZERO).await?;
        let room = &synced["rooms"]["join"][user.room.as_str()];
        let mut data = ledger.data.lock().await;
        for ((_, of_room, data_type), register) in data.iter_mut().filter(|((owner, _, _), _)| *owner == index) {
            let events =
                list(if *of_room { &room["account_data"]["events"] } else { &synced["account_data"]["events"] });
            let event = events.iter().find(|event| event["type"] == **data_type);
            if !register.settle(event.and_then(|event| event["content"]["marker"].as_str())) {
                lost.push(format!("{}:{data_type}", user.client.user_id));
            }
        }
        drop(data);
        let history = user.client.at(base).history(&user.room).await?;
        for (receipt_type, read) in ledger.read.lock().await.entry(index).or_default() {
            let there = receipt(room, &user.client, receipt_type);
            if !is_kept(read, there, &history) {
                lost.push(format!("{}:{receipt_type}", user.client.user_id));
            }
        }
    }
    Ok(lost)
}

/// The event of a user's receipt, as a sync tells of it.
pub(super) fn receipt<'a>(room: &'a Value, client: &Client, receipt_type: &str) -> Option<&'a str> {
    let events = list(&room["ephemeral"]["events"]);
    let receipts = events.iter().find(|event| event["type"] == "m.receipt")?["content"].as_object()?;
    let is_own = |of_event: &Value| of_event[receipt_type][client.user_id.as_str()].is_object();
    receipts.iter().find(|(_, of_event)| is_own(of_event)).map(|(event_id, _)| event_id.as_str())
}

/// Whether a receipt is at an event that was asked for, and not before any that was acknowledged. `history` begins with the newest event.
fn is_kept(read: &ReadUpTo, there: Option<&str>, history: &[Value]) -> bool {
    let place = |id: &str| history.iter().position(|event| text(&event["event_id"]) == id);
    let Some(there) = there else { return read.acknowledged.is_empty() };
    let asked = read.acknowledged.iter().chain(&read.open).any(|id| id == there);
    let newest = read.acknowledged.iter().filter_map(|id| place(id)).min();
    asked && place(there).is_some_and(|there| newest.is_none_or(|newest| there <= newest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_the_last_acknowledged_or_one_without_an_answer() {
        let mut register = Register::default();
        assert!(register.settle(None));
        register.ask("a");
        register.acknowledge();
        register.ask("b");
        assert!(register.clone().settle(Some("a")));
        assert!(register.clone().settle(Some("b")));
        assert!(!register.clone().settle(None));
        register.acknowledge();
        assert!(!register.clone().settle(Some("a")));
        assert!(register.settle(Some("b")));
    }

    #[test]
    fn a_receipt_is_no_further_back_than_acknowledged() {
        let history: Vec<Value> = ["c", "b", "a"].map(|id| json!({ "event_id": id })).into();
        let read = |acknowledged: &[&str], open: &[&str]| {
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            ReadUpTo { acknowledged: owned(acknowledged), open: owned(open) }
        };
        assert!(is_kept(&read(&[], &["a"]), None, &history));
        assert!(!is_kept(&read(&["a"], &[]), None, &history));
        assert!(is_kept(&read(&["b", "a"], &["c"]), Some("b"), &history));
        assert!(is_kept(&read(&["b", "a"], &["c"]), Some("c"), &history));
        assert!(!is_kept(&read(&["b", "a"], &["c"]), Some("a"), &history));
        assert!(!is_kept(&read(&["b"], &[]), Some("c"), &history), "nobody asked for it");
    }
}
