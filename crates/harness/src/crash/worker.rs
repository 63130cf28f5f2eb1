//! One client that writes until the server dies.

use std::{sync::Arc, time::Duration};

use primitives::Random;
use serde_json::json;

use super::{
    User,
    ledger::{Delayed, Entry, Ledger, Message},
};
use crate::client::Client;

/// A client of one round.
pub(super) struct Worker {
    client: Client,
    room: String,
    ledger: Arc<Ledger>,
    only_delayed: bool,
    prefix: String,
    user: usize,
    random: Random,
    /// Delay ids and markers that this worker may still act on.
    mine: Vec<(String, String)>,
}

impl Worker {
    /// A worker for one user in one round.
    pub(super) fn new(
        user: &User,
        base: &str,
        ledger: &Arc<Ledger>,
        only_delayed: bool,
        round: usize,
        index: usize,
    ) -> Self {
        Self {
            client: user.client.at(base),
            room: user.room.clone(),
            ledger: Arc::clone(ledger),
            only_delayed,
            prefix: format!("r{round}u{index}"),
            user: index,
            random: Random::os(),
            mine: Vec::new(),
        }
    }

    /// Writes until a request has no answer.
    pub(super) async fn work(mut self) {
        for count in 0_u32.. {
            let marker = format!("{}n{count}", self.prefix);
            let dice = self.random.below(10);
            let goes_on = match dice {
                0..4 if !self.only_delayed => self.send(&marker).await,
                4 if !self.only_delayed => self.set_state(&marker).await,
                0..7 => self.schedule(&marker).await,
                7 => self.act("restart").await,
                8 => self.act("send").await,
                _ => self.act("cancel").await,
            };
            if !goes_on {
                return;
            }
        }
    }

    async fn send(&mut self, marker: &str) -> bool {
        let entry = Entry { user: self.user, txn: marker.to_owned(), state: Message::Open };
        self.ledger.messages.lock().await.insert(marker.to_owned(), entry);
        let Ok(event_id) = self.client.send(&self.room, marker, marker).await else {
            return false;
        };
        self.acknowledge(marker, event_id).await;
        true
    }

    async fn set_state(&mut self, marker: &str) -> bool {
        let content = json!({ "marker": marker });
        let key = format!("{}{}", self.user, self.random.below(20));
        let answer = self.client.state(&self.room, "test.harness.state", &key, content).await;
        if answer.is_ok() {
            self.ledger.count();
        }
        answer.is_ok()
    }

    async fn acknowledge(&self, marker: &str, event_id: String) {
        if let Some(entry) = self.ledger.messages.lock().await.get_mut(marker) {
            entry.state = Message::Sent(event_id);
        }
        self.ledger.count();
    }

    async fn schedule(&mut self, marker: &str) -> bool {
        let entry = Entry { user: self.user, txn: marker.to_owned(), state: Delayed::Open };
        self.ledger.delayed.lock().await.insert(marker.to_owned(), entry);
        let delay = Duration::from_millis(20 + self.random.below(1_500));
        let Ok(delay_id) = self.client.schedule(&self.room, marker, marker, delay).await else {
            return false;
        };
        self.set(marker, Delayed::Scheduled(delay_id.clone())).await;
        self.ledger.count();
        self.mine.push((delay_id, marker.to_owned()));
        true
    }

    async fn set(&self, marker: &str, state: Delayed) {
        if let Some(entry) = self.ledger.delayed.lock().await.get_mut(marker) {
            entry.state = state;
        }
    }

    /// Acts on one of the scheduled events. That it has fired meanwhile is a fair answer.
    async fn act(&mut self, action: &str) -> bool {
        if self.mine.is_empty() {
            return true;
        }
        let index = usize::try_from(self.random.below(self.mine.len() as u64)).expect("below a length");
        let (delay_id, marker) = self.mine[index].clone();
        if action == "cancel" {
            self.set(&marker, Delayed::MaybeCancelled).await;
        }
        match self.client.act(&delay_id, action).await {
            Ok(()) if action == "cancel" => self.set(&marker, Delayed::Cancelled).await,
            Err(error) if error.is_open() => return false,
            // Refused, so it was too late: it has been sent.
            Err(_) if action == "cancel" => self.set(&marker, Delayed::Scheduled(delay_id)).await,
            Ok(()) | Err(_) => {}
        }
        self.ledger.count();
        if action != "restart" {
            self.mine.swap_remove(index);
        }
        true
    }
}
