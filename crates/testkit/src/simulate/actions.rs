//! What users do.

use std::time::Duration;

use rooms::{Details, Outgoing};
use ruma::UserId;
use serde_json::{Value, json};

use super::Simulation;
use crate::hostile::Draft;

/// How long a user waits, in the servers' time, for what asks other servers.
const PATIENCE: Duration = Duration::from_mins(2);

impl Simulation {
    /// A user of some server does something. That it fails on a bad network, or by the rules, is as good as any other outcome.
    pub(super) async fn act(&mut self) {
        let at = self.pick(self.servers.len());
        let anchor = self.anchors[at].clone();
        match self.random.below(12) {
            0 => self.guest_joins(at).await,
            1 => self.guest_leaves(at).await,
            2 => {
                let whom = self.guests[self.pick(self.guests.len())].clone();
                self.send(at, &Draft::member(anchor.as_str(), whom.as_str(), "leave")).await;
            }
            3 => {
                let whom = self.guests[self.pick(self.guests.len())].clone();
                let to = ["ban", "leave", "invite"][self.pick(3)];
                self.send(at, &Draft::member(anchor.as_str(), whom.as_str(), to)).await;
            }
            4 => {
                let content = json!({ "topic": self.random.letters(8) });
                self.send(at, &Draft::state(anchor.as_str(), "m.room.topic", "", content)).await;
            }
            5 => {
                let content = json!({ "value": self.random.letters(8) });
                let key = ["a", "b"][self.pick(2)];
                self.send(at, &Draft::state(anchor.as_str(), "test.state", key, content)).await;
            }
            6 => {
                let rule = ["public", "invite"][self.pick(2)];
                self.send(at, &Draft::state(anchor.as_str(), "m.room.join_rules", "", json!({ "join_rule": rule })))
                    .await;
            }
            7 => self.redact(at).await,
            8 => {
                let guest = self.guests[at].clone();
                self.send(at, &Draft::message(guest.as_str(), &self.random.letters(8))).await;
            }
            _ => {
                self.send(at, &Draft::message(anchor.as_str(), &self.random.letters(8))).await;
            }
        }
    }

    pub(super) fn pick(&self, of: usize) -> usize {
        usize::try_from(self.random.below(of as u64)).unwrap_or_default()
    }

    /// Sends an event of a user of that server.
    pub(super) async fn send(&mut self, at: usize, draft: &Draft) {
        let sender = UserId::parse(draft.sender.as_str()).expect("a user id");
        let content = serde_json::from_value(draft.content.clone()).expect("canonical JSON");
        let outgoing = match &draft.state_key {
            Some(key) => Outgoing::state(sender, draft.kind.as_str(), key.as_str(), content),
            None => Outgoing::message(sender, draft.kind.as_str(), content),
        };
        if let Ok(sent) = self.room(at).await.send(outgoing).await {
            self.note(sent.event_id);
        }
    }

    fn note(&mut self, id: ruma::OwnedEventId) {
        if !self.sent.contains(&id) {
            self.sent.push(id);
        }
    }

    async fn redact(&mut self, at: usize) {
        if self.sent.is_empty() {
            return;
        }
        let target = self.sent[self.pick(self.sent.len())].clone();
        let content: Value = json!({ "reason": "at random" });
        let content = serde_json::from_value(content).expect("canonical JSON");
        let mut redaction = Outgoing::message(self.anchors[at].clone(), "m.room.redaction", content);
        redaction.redacts = Some(target);
        if let Ok(sent) = self.room(at).await.send(redaction).await {
            self.note(sent.event_id);
        }
    }

    async fn guest_joins(&mut self, at: usize) {
        let via: Vec<_> = self.servers.iter().map(|server| server.name.clone()).collect();
        let (server, guest) = (self.servers[at].clone(), self.guests[at].clone());
        let joining = server.parts.rooms.join(&guest, &self.room_id, &via, Details::default());
        self.patiently(joining).await;
    }

    async fn guest_leaves(&mut self, at: usize) {
        let guest = self.guests[at].clone();
        let left = self.room(at).await.leave(&guest, Details::default()).await;
        if let Ok(sent) = left {
            self.note(sent.event_id);
        }
    }

    async fn patiently<T>(&self, future: impl Future<Output = T>) {
        tokio::select! {
            _ = future => {}
            () = self.settle(PATIENCE) => {}
        }
    }
}
