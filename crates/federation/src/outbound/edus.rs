//! Ephemeral EDUs that wait for one server (server-server API, "EDUs"): of each user, room and thread the newest word only.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::{Map, Value, json};

/// Users whose presence one EDU tells.
const USERS_AN_EDU: usize = 100;

/// An EDU: its `edu_type` and its `content`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edu {
    pub(super) edu_type: &'static str,
    pub(super) content: Value,
}

/// A receipt as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReceiptTold {
    pub(super) event_id: String,
    pub(super) ts: u64,
}

/// What waits. Later words take the place of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Ephemeral {
    /// An element of `push` in `m.presence`.
    presence: BTreeMap<OwnedUserId, Value>,
    typing: BTreeMap<(OwnedRoomId, OwnedUserId), bool>,
    /// By room, user, and thread.
    receipts: BTreeMap<(OwnedRoomId, String, Option<String>), ReceiptTold>,
}

impl Ephemeral {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.presence.len() + self.typing.len() + self.receipts.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A user's presence has changed. `most` is how much may wait in all.
    pub(super) fn presence(&mut self, user: OwnedUserId, told: Value, most: usize) {
        if self.len() < most || self.presence.contains_key(&user) {
            self.presence.insert(user, told);
        } else {
            super::meters::dropped_edu();
        }
    }

    /// A user has begun or ended to type.
    pub(super) fn typing(&mut self, key: (OwnedRoomId, OwnedUserId), typing: bool, most: usize) {
        if self.len() < most || self.typing.contains_key(&key) {
            self.typing.insert(key, typing);
        } else {
            super::meters::dropped_edu();
        }
    }

    /// A user has read on.
    pub(super) fn receipt(&mut self, key: (OwnedRoomId, String, Option<String>), told: ReceiptTold, most: usize) {
        if self.len() < most || self.receipts.contains_key(&key) {
            self.receipts.insert(key, told);
        } else {
            super::meters::dropped_edu();
        }
    }

    /// Takes up to `limit` EDUs.
    pub(super) fn take(&mut self, limit: usize) -> Vec<Edu> {
        let mut edus = Vec::new();
        while edus.len() < limit {
            let Some(edu) = self.take_typing().or_else(|| self.take_receipts()).or_else(|| self.take_presence()) else {
                break;
            };
            edus.push(edu);
        }
        edus
    }

    fn take_typing(&mut self) -> Option<Edu> {
        let ((room_id, user_id), typing) = self.typing.pop_first()?;
        let content = json!({ "room_id": room_id, "user_id": user_id, "typing": typing });
        Some(Edu { edu_type: "m.typing", content })
    }

    /// One EDU with one receipt of each user in each room: who has read in several threads is in several EDUs.
    fn take_receipts(&mut self) -> Option<Edu> {
        let mut told: BTreeSet<(OwnedRoomId, String)> = BTreeSet::new();
        let now = self.receipts.keys().filter(|(room, user, _)| told.insert((room.clone(), user.clone())));
        let now: Vec<_> = now.cloned().collect();
        let mut rooms: BTreeMap<OwnedRoomId, Map<String, Value>> = BTreeMap::new();
        for key in now {
            let Some(ReceiptTold { event_id, ts }) = self.receipts.remove(&key) else { continue };
            let (room, user, thread) = key;
            let mut data = json!({ "ts": ts });
            if let Some(thread) = thread {
                data["thread_id"] = thread.into();
            }
            rooms.entry(room).or_default().insert(user, json!({ "data": data, "event_ids": [event_id] }));
        }
        let content: Map<String, Value> =
            rooms.into_iter().map(|(room, users)| (room.to_string(), json!({ "m.read": users }))).collect();
        (!content.is_empty()).then(|| Edu { edu_type: "m.receipt", content: content.into() })
    }

    fn take_presence(&mut self) -> Option<Edu> {
        let mut push = Vec::new();
        while push.len() < USERS_AN_EDU
            && let Some((_, told)) = self.presence.pop_first()
        {
            push.push(told);
        }
        (!push.is_empty()).then(|| Edu { edu_type: "m.presence", content: json!({ "push": push }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> OwnedRoomId {
        "!r:hs.test".try_into().expect("a room id")
    }

    fn user(name: &str) -> OwnedUserId {
        format!("@{name}:hs.test").try_into().expect("a user id")
    }

    #[test]
    fn the_newest_word_counts_and_threads_are_told_apart() {
        let mut waiting = Ephemeral::default();
        for typing in [true, false] {
            waiting.typing((room(), user("a")), typing, 9);
        }
        for (thread, event) in [(None, "$1"), (None, "$2"), (Some("main"), "$3")] {
            let key = (room(), user("a").to_string(), thread.map(ToOwned::to_owned));
            waiting.receipt(key, ReceiptTold { event_id: event.to_owned(), ts: 7 }, 9);
        }
        waiting.presence(user("a"), json!({ "presence": "online" }), 9);
        let edus = waiting.take(100);
        let types: Vec<_> = edus.iter().map(|edu| edu.edu_type).collect();
        assert_eq!(types, ["m.typing", "m.receipt", "m.receipt", "m.presence"]);
        assert_eq!(edus[0].content["typing"], json!(false));
        let user = |edu: &Edu| edu.content["!r:hs.test"]["m.read"]["@a:hs.test"].clone();
        assert_eq!(user(&edus[1]), json!({ "data": { "ts": 7 }, "event_ids": ["$2"] }));
        assert_eq!(user(&edus[2]), json!({ "data": { "ts": 7, "thread_id": "main" }, "event_ids": ["$3"] }));
        assert!(waiting.is_empty() && waiting.take(100).is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_known_words_still_change() {
        let mut waiting = Ephemeral::default();
        for name in ["a", "b", "c"] {
            waiting.typing((room(), user(name)), true, 2);
        }
        waiting.typing((room(), user("a")), false, 2);
        let told: Vec<_> = waiting.take(100).into_iter().map(|edu| edu.content["typing"].clone()).collect();
        assert_eq!(told, [json!(false), json!(true)]);
        (0..250).for_each(|number| waiting.presence(user(&number.to_string()), json!({}), 1_000));
        assert_eq!(waiting.take(2).len(), 2);
        assert_eq!(waiting.take(2)[0].content["push"].as_array().map(Vec::len), Some(50));
    }
}
