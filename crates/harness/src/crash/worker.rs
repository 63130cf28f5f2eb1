//! One client that writes until the server dies.

use std::{sync::Arc, time::Duration};

use primitives::Random;
use serde_json::{Value, json};

use super::{
    User,
    ledger::{Delayed, Entry, Fate, Group, Ledger, Making, Message, Note},
};
use crate::client::{CallError, Client, text};

/// The delay of what is asked for again after a crash.
pub(super) const SHORT: Duration = Duration::from_millis(200);

/// What a token of a group is for.
#[derive(Clone, Debug)]
enum Power {
    /// Sends the event of this marker.
    Send(String),
    /// Cancels the group's only timeout.
    Cancel,
    /// Starts its timeout again.
    Refresh,
}

/// A group that may still be acted on.
struct Alive {
    marker: String,
    tokens: Vec<(String, Power)>,
}

/// The future with a timeout that a pair begins with.
pub(super) async fn timeout_future(
    client: &Client,
    room: &str,
    marker: &str,
    timeout: Duration,
) -> Result<Value, CallError> {
    let query = format!("future_timeout={}", timeout.as_millis());
    client.future(room, marker, &Group::timeout(marker), &query).await
}

/// A batch: a message at once, one after a timeout, one by an action.
pub(super) async fn batch(client: &Client, room: &str, marker: &str, timeout: Duration) -> Result<Value, CallError> {
    let event =
        |marker: String| json!({ "type": "m.room.message", "content": { "msgtype": "m.text", "body": marker } });
    let body = json!({
        "timeout": u64::try_from(timeout.as_millis()).expect("seconds"),
        "send_on_timeout": event(Group::timeout(marker)),
        "send_on_action": { "go": event(Group::action(marker)) },
        "send_now": event(Group::now(marker)),
    });
    client.batch(room, marker, body).await
}

/// A client of one round.
pub(super) struct Worker {
    client: Client,
    room: String,
    /// The user whose devices get messages.
    neighbour: String,
    device: String,
    /// Those whose keys are claimed.
    everybody: Vec<User>,
    ledger: Arc<Ledger>,
    only_delayed: bool,
    prefix: String,
    user: usize,
    random: Random,
    /// Delay ids and markers that this worker may still act on.
    mine: Vec<(String, String)>,
    groups: Vec<Alive>,
}

impl Worker {
    /// A worker for the user of that index in one round.
    pub(super) fn new(
        users: &[User],
        base: &str,
        ledger: &Arc<Ledger>,
        only_delayed: bool,
        round: usize,
        index: usize,
    ) -> Self {
        let user = &users[index];
        Self {
            client: user.client.at(base),
            room: user.room.clone(),
            neighbour: super::neighbour(users, index).client.user_id.clone(),
            device: user.device.clone(),
            everybody: users.to_vec(),
            ledger: Arc::clone(ledger),
            only_delayed,
            prefix: format!("r{round}u{index}"),
            user: index,
            random: Random::os(),
            mine: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Writes until a request has no answer.
    pub(super) async fn work(mut self) {
        for count in 0_u32.. {
            let marker = format!("{}n{count}", self.prefix);
            let dice = self.random.below(if self.only_delayed { 14 } else { 26 });
            let goes_on = match dice {
                0..4 if !self.only_delayed => self.send(&marker).await,
                4 if !self.only_delayed => self.set_state(&marker).await,
                0..7 => self.schedule(&marker).await,
                7 => self.act("restart").await,
                8 => self.act("send").await,
                9 => self.act("cancel").await,
                10 => self.pair(&marker).await,
                11 => self.batch(&marker).await,
                12 | 13 => self.spend().await,
                14 | 15 => self.note(&marker).await,
                16 | 17 => self.set_data(&marker).await,
                18 | 19 => self.read().await,
                20 => self.upload_keys(&marker).await,
                21..24 => self.claim_key().await,
                _ => self.rename(&marker).await,
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

    /// A message to the neighbour's devices.
    async fn note(&mut self, marker: &str) -> bool {
        let entry = Entry { user: self.user, txn: marker.to_owned(), state: Note::Open };
        self.ledger.notes.lock().await.insert(marker.to_owned(), entry);
        if self.client.send_to_devices(&self.neighbour, marker, marker).await.is_err() {
            return false;
        }
        if let Some(entry) = self.ledger.notes.lock().await.get_mut(marker) {
            entry.state = Note::Sent;
        }
        self.ledger.count();
        true
    }

    /// One-time keys of the own device.
    async fn upload_keys(&self, marker: &str) -> bool {
        let answered = self.ledger.keys.upload(&self.client, marker).await;
        if answered {
            self.ledger.count();
        }
        answered
    }

    /// A one-time key of anybody's device: as many as are uploaded, so that several often want the last one.
    async fn claim_key(&self) -> bool {
        let index = usize::try_from(self.random.below(self.everybody.len() as u64)).expect("below a length");
        let answer = self.ledger.keys.claim(&self.client, &self.everybody[index]).await;
        let answered = answer.is_ok_and(|(answered, _)| answered);
        if answered {
            self.ledger.count();
        }
        answered
    }

    /// Another name for the own device, of which those in the room are told.
    async fn rename(&self, marker: &str) -> bool {
        self.ledger.names.lock().await.entry(self.user).or_default().ask(marker);
        if self.client.name_device(&self.device, marker).await.is_err() {
            return false;
        }
        self.ledger.names.lock().await.entry(self.user).or_default().acknowledge();
        self.ledger.count();
        true
    }

    async fn set_data(&mut self, marker: &str) -> bool {
        let of_room = self.random.below(2) == 0;
        let data_type = format!("test.harness.data{}", self.random.below(5));
        let key = (self.user, of_room, data_type.clone());
        self.ledger.data.lock().await.entry(key.clone()).or_default().ask(marker);
        let room = of_room.then_some(&*self.room);
        if self.client.set_account_data(room, &data_type, json!({ "marker": marker })).await.is_err() {
            return false;
        }
        self.ledger.data.lock().await.entry(key).or_default().acknowledge();
        self.ledger.count();
        true
    }

    /// Moves a receipt to one of the newest messages of the room.
    async fn read(&mut self) -> bool {
        let sent = self.ledger.sent.lock().await.get(&self.room).map_or(0, Vec::len);
        if sent == 0 {
            return true;
        }
        let back = usize::try_from(self.random.below(10.min(sent as u64))).expect("below ten");
        let event_id = self.ledger.sent.lock().await[&self.room][sent - 1 - back].clone();
        let receipt_type = if self.random.below(2) == 0 { "m.read" } else { "m.read.private" };
        let mut read = self.ledger.read.lock().await;
        read.entry(self.user).or_default().entry(receipt_type).or_default().open.push(event_id.clone());
        drop(read);
        if self.client.receipt(&self.room, receipt_type, &event_id).await.is_err() {
            return false;
        }
        let mut read = self.ledger.read.lock().await;
        read.entry(self.user).or_default().entry(receipt_type).or_default().acknowledged.push(event_id);
        drop(read);
        self.ledger.count();
        true
    }

    async fn acknowledge(&self, marker: &str, event_id: String) {
        self.ledger.sent.lock().await.entry(self.room.clone()).or_default().push(event_id.clone());
        if let Some(entry) = self.ledger.messages.lock().await.get_mut(marker) {
            entry.state = Message::Sent(event_id);
        }
        self.ledger.count();
    }

    async fn schedule(&mut self, marker: &str) -> bool {
        let entry = Entry { user: self.user, txn: marker.to_owned(), state: Delayed::Open };
        self.ledger.delayed.lock().await.insert(marker.to_owned(), entry);
        let delay = self.delay();
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

    fn delay(&self) -> Duration {
        Duration::from_millis(20 + self.random.below(1_500))
    }

    async fn group(&self, marker: &str, making: Making) {
        let group = Group { user: self.user, making, fate: Fate::Open };
        self.ledger.groups.lock().await.insert(marker.to_owned(), group);
    }

    async fn fate(&self, marker: &str, fate: Fate) {
        if let Some(group) = self.ledger.groups.lock().await.get_mut(marker) {
            group.fate = fate;
        }
    }

    /// A future with a timeout and then one with an action, in one group.
    async fn pair(&mut self, marker: &str) -> bool {
        self.group(marker, Making::Pair).await;
        let Ok(timeout) = timeout_future(&self.client, &self.room, marker, self.delay()).await else { return false };
        self.fate(marker, Fate::One).await;
        self.ledger.count();
        let mut tokens = powers(&timeout, Group::timeout(marker));
        let query = format!("future_group_id={}", text(&timeout["future_group_id"]));
        let action = Group::action(marker);
        match self.client.future(&self.room, &action, &action, &query).await {
            Ok(answer) => {
                tokens.extend(powers(&answer, action).into_iter().filter(|(_, power)| matches!(power, Power::Send(_))));
                self.ledger.count();
            }
            Err(error) if error.is_open() => return false,
            // The timeout was faster: the group has ended.
            Err(_) => {}
        }
        self.groups.push(Alive { marker: marker.to_owned(), tokens });
        true
    }

    /// The same in one request, with a message that is sent at once.
    async fn batch(&mut self, marker: &str) -> bool {
        self.group(marker, Making::Batch).await;
        let Ok(answer) = batch(&self.client, &self.room, marker, self.delay()).await else { return false };
        self.fate(marker, Fate::One).await;
        self.ledger.note_now(self.user, marker, &answer).await;
        self.ledger.count();
        let mut tokens = powers(&answer["send_on_timeout"], Group::timeout(marker));
        tokens.extend(powers(&answer["send_on_action"]["go"], Group::action(marker)));
        self.groups.push(Alive { marker: marker.to_owned(), tokens });
        true
    }

    /// Uses a token of a group. That the group has ended meanwhile, or that too many such tokens came, is a fair answer.
    async fn spend(&mut self) -> bool {
        if self.groups.is_empty() {
            return true;
        }
        let index = usize::try_from(self.random.below(self.groups.len() as u64)).expect("below a length");
        let group = &self.groups[index];
        let chosen = usize::try_from(self.random.below(group.tokens.len() as u64)).expect("below a length");
        let (marker, (token, power)) = (group.marker.clone(), group.tokens[chosen].clone());
        if matches!(power, Power::Cancel) {
            self.fate(&marker, Fate::AtMostOne).await;
        }
        match (self.client.spend(&token).await, &power) {
            (Ok(()), Power::Send(sent)) => self.fate(&marker, Fate::Sent(sent.clone())).await,
            (Ok(()), Power::Cancel) => self.fate(&marker, Fate::None).await,
            (Err(error), _) if error.is_open() => return false,
            // Refused, so nothing was done: one of the group has been sent, or will be.
            (Err(_), Power::Cancel) => self.fate(&marker, Fate::One).await,
            (Ok(()) | Err(_), _) => {}
        }
        self.ledger.count();
        if !matches!(power, Power::Refresh) {
            self.groups.swap_remove(index);
        }
        true
    }
}

/// The tokens of a future, and what each is for.
fn powers(future: &Value, marker: String) -> Vec<(String, Power)> {
    let named =
        [("send_token", Power::Send(marker)), ("cancel_token", Power::Cancel), ("refresh_token", Power::Refresh)];
    named.into_iter().filter_map(|(name, power)| Some((future[name].as_str()?.to_owned(), power))).collect()
}
