//! Messages to devices (specification, "Send-to-Device messaging"): sent once however often a request is repeated, kept until the device's
//! next sync proves that it got them, and in order.

mod bounds;
mod outbox;
mod queues;
mod received;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use primitives::{Noted, StreamPosition, UserNid};
use ruma::{DeviceId, OwnedServerName, OwnedUserId, UserId};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use storage::{
    Batch, Direction, KeyRange, ReadError, Text, View,
    schema::{
        to_device::{ToDevice as Rows, ToDeviceOutbox, ToDeviceOutboxRow, ToDeviceRow},
        users::{DeviceRow, Devices},
    },
};

use crate::{
    accounts::Accounts,
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    ground::Ground,
    options::ToDeviceSizes,
    transactions::{Transactions, TxnKey},
    wakeups::Wakeups,
};

pub use received::{DirectToDevice, ReceiveToDeviceError};

use bounds::Sweep;
use queues::{QueueKey, Queues};

/// Messages in one response of a sync.
pub const MESSAGES_A_SYNC: usize = 100;
/// All devices of a user, in place of a device id.
const ALL_DEVICES: &str = "*";
/// The longest type of a message, in bytes.
const MAX_TYPE_BYTES: usize = 255;
/// Devices that are read at a time.
const PAGE: usize = 500;
/// Devices that one batch writes to.
const DEVICES_A_BATCH: usize = 1_000;
/// Bytes of messages that one batch takes; a single message may be larger.
const BYTES_A_BATCH: usize = 4 << 20;
/// A counted queue may grow by this part of its bound before it is counted again.
const SLACK: usize = 64;

/// The content of a message.
pub type Content = Map<String, Value>;
/// Contents by user and device id, where `*` stands for all devices.
pub type Messages = BTreeMap<OwnedUserId, BTreeMap<String, Content>>;

/// Why messages are not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendToDeviceError {
    /// A message is larger than this server allows, in bytes.
    #[error("a message to a device can have at most {0} bytes")]
    TooLarge(usize),
    /// The request reaches more devices than it may.
    #[error("one request can send to at most {0} devices")]
    TooManyDevices(usize),
    /// The type is empty or too long.
    #[error("the type of a message to a device has 1 to {MAX_TYPE_BYTES} bytes")]
    BadType,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for SendToDeviceError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

/// Messages that wait for a device.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The events, oldest first, as the client gets them.
    pub events: Vec<Box<RawValue>>,
    /// Where the last of them is, if more wait after it.
    pub more_after: Option<StreamPosition>,
}

/// A message on its way to one device.
struct Target {
    user_id: OwnedUserId,
    user: UserNid,
    device: String,
    /// As it was read: a device that is deleted meanwhile gets nothing.
    row: DeviceRow,
    event: Arc<str>,
}

/// How far a request has come.
struct Progress {
    /// Batches that are done.
    batches: usize,
    /// The last user and device that one of them wrote to; none: nobody yet.
    after: Option<(OwnedUserId, String)>,
    done: bool,
}

/// The messages of all devices.
#[derive(Debug)]
pub struct ToDevice {
    ground: Ground,
    accounts: Arc<Accounts>,
    transactions: Transactions,
    wakeups: Wakeups,
    sizes: ToDeviceSizes,
    queues: Queues,
    sweep: Sweep,
    /// Servers whose outbox has got something.
    outboxes: Noted<OwnedServerName>,
}

impl ToDevice {
    pub(crate) fn new(
        ground: Ground,
        accounts: Arc<Accounts>,
        transactions: Transactions,
        wakeups: Wakeups,
        sizes: ToDeviceSizes,
    ) -> Self {
        Self {
            ground,
            accounts,
            transactions,
            wakeups,
            sizes,
            queues: Queues::default(),
            sweep: Sweep::default(),
            outboxes: Noted::default(),
        }
    }

    /// Sends messages from a user, once for each transaction: a repeated request goes on where the first one was interrupted. Users and devices
    /// that don't exist are passed over; what is for other servers waits for them in one batch with the first messages.
    ///
    /// `txn` is of this endpoint alone: its path need not say the type.
    pub async fn send(
        &self,
        sender: &UserId,
        txn: &TxnKey,
        event_type: &str,
        messages: &Messages,
    ) -> Result<(), SendToDeviceError> {
        self.check(event_type, messages)?;
        for _ in 0..MAX_ATTEMPTS {
            let mut progress = self.progress(txn, event_type).await?;
            while !progress.done {
                let targets = self.targets(&self.ground.storage.view(), sender, event_type, messages).await?;
                let Some(next) = self.send_part(sender, txn, event_type, messages, targets, &progress).await? else {
                    // A device has changed, or the same request came twice at once.
                    break;
                };
                progress = next;
            }
            if progress.done {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    fn check(&self, event_type: &str, messages: &Messages) -> Result<(), SendToDeviceError> {
        if event_type.is_empty() || event_type.len() > MAX_TYPE_BYTES {
            return Err(SendToDeviceError::BadType);
        }
        let max = self.sizes.message_max_bytes;
        let mut contents = messages.values().flat_map(BTreeMap::values);
        if contents.any(|content| json(content).len() > max) {
            return Err(SendToDeviceError::TooLarge(max));
        }
        Ok(())
    }

    /// The next batch of a request. `None` if what it was built on has changed.
    async fn send_part(
        &self,
        sender: &UserId,
        txn: &TxnKey,
        event_type: &str,
        messages: &Messages,
        targets: Vec<Target>,
        progress: &Progress,
    ) -> Result<Option<Progress>, SendToDeviceError> {
        let (part, done) = part(targets, progress.after.as_ref());
        let last = part.last().map(|target| (target.user_id.clone(), target.device.clone()));
        let mut batch = Batch::new();
        let result = if done { String::new() } else { json(&last) };
        batch.merge(self.transactions.record(&part_key(txn, event_type, progress.batches), &result));
        if progress.batches == 0 {
            self.put_outbox(&mut batch, sender, event_type, messages);
        }
        for Target { user, device, row, event, .. } in &part {
            batch.assert_equals::<Devices>(&(*user, Text::new(device)), row);
            let row = ToDeviceRow { received: self.ground.clock.now(), event: event.as_ref().to_owned() };
            batch.put::<Rows>(&(*user, Text::new(device), StreamPosition::PENDING), &row);
        }
        let keys: Vec<QueueKey> = part.iter().map(|target| (target.user, target.device.as_str().into())).collect();
        let delivered = self.deliver(batch, &keys).await?;
        if delivered && progress.batches == 0 {
            self.note_outboxes(messages);
        }
        Ok(delivered.then_some(Progress { batches: progress.batches + 1, after: last, done }))
    }

    /// Commits messages to these queues and wakes their devices; whether all asserts held.
    async fn deliver(&self, batch: Batch, keys: &[QueueKey]) -> Result<bool, StoreError> {
        self.queues.announce(keys);
        let many = self.sizes.queue_max_messages / SLACK;
        let position = match outcome(self.ground.storage.commit(batch).await) {
            Ok(Outcome::Done(position)) => position,
            Ok(Outcome::Again) => {
                self.queues.settle(keys, None, many);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let full = self.queues.settle(keys, Some(position), many);
        for user in keys.iter().map(|(user, _)| *user).collect::<BTreeSet<_>>() {
            self.wakeups.wake(user, position);
        }
        metrics::counter!("sundial_to_device_messages_total").increment(keys.len() as u64);
        for (user, device) in full {
            self.drop_surplus(user, device.as_str()).await?;
        }
        Ok(true)
    }

    /// How far earlier attempts at the request have come.
    async fn progress(&self, txn: &TxnKey, event_type: &str) -> Result<Progress, StoreError> {
        let mut progress = Progress { batches: 0, after: None, done: false };
        while let Some(result) = self.transactions.lookup(&part_key(txn, event_type, progress.batches)).await? {
            if result.is_empty() {
                return Ok(Progress { done: true, ..progress });
            }
            progress.batches += 1;
            progress.after = serde_json::from_str(&result).expect("written by this file");
        }
        Ok(progress)
    }

    /// The devices of this server that the request reaches, by user and device id.
    async fn targets(
        &self,
        view: &View,
        sender: &UserId,
        event_type: &str,
        messages: &Messages,
    ) -> Result<Vec<Target>, SendToDeviceError> {
        let mut targets = Vec::new();
        for (user_id, contents) in messages.iter().filter(|(user_id, _)| self.accounts.is_local(user_id)) {
            let Some(user) = self.accounts.nid(user_id).await? else { continue };
            let events: BTreeMap<&str, Arc<str>> =
                contents.iter().map(|(id, content)| (id.as_str(), event(sender, event_type, content))).collect();
            for (device, (row, event)) in devices(view, user, &events).await? {
                targets.push(Target { user_id: user_id.clone(), user, device, row, event });
            }
            if targets.len() > self.sizes.devices_per_request {
                return Err(SendToDeviceError::TooManyDevices(self.sizes.devices_per_request));
            }
        }
        Ok(targets)
    }

    /// Puts what is for other servers' users into their outboxes: one EDU for a server.
    fn put_outbox(&self, batch: &mut Batch, sender: &UserId, event_type: &str, messages: &Messages) {
        #[derive(Serialize)]
        struct DirectToDevice<'a> {
            message_id: String,
            messages: &'a BTreeMap<&'a UserId, &'a BTreeMap<String, Content>>,
            sender: &'a UserId,
            #[serde(rename = "type")]
            event_type: &'a str,
        }
        let mut servers: BTreeMap<OwnedServerName, BTreeMap<&UserId, &BTreeMap<String, Content>>> = BTreeMap::new();
        for (user_id, contents) in messages.iter().filter(|(user_id, _)| !self.accounts.is_local(user_id)) {
            servers.entry(user_id.server_name().to_owned()).or_default().insert(user_id, contents);
        }
        for (server, messages) in &servers {
            let message_id = self.ground.random.uppercase(32);
            let content = json(&DirectToDevice { message_id, messages, sender, event_type });
            let row = ToDeviceOutboxRow { received: self.ground.clock.now(), content };
            batch.put::<ToDeviceOutbox>(&(Text::new(server.as_str()), StreamPosition::PENDING), &row);
        }
    }

    /// What waits for a device after a position, as a view shows it; at most [`MESSAGES_A_SYNC`]. Reads nothing if the queue is certainly empty.
    pub async fn waiting(
        &self,
        view: &View,
        user: UserNid,
        device: &DeviceId,
        after: StreamPosition,
    ) -> Result<Waiting, ReadError> {
        if self.queues.is_empty(user, device) {
            return Ok(Waiting::default());
        }
        let key = (user, Text::new(device.as_str()));
        let range = KeyRange::from(&key, &(user, key.1.clone(), after.next()));
        let page = view.scan::<Rows>(&range, MESSAGES_A_SYNC, Direction::Forward).await?;
        if page.rows.is_empty() {
            // What is acknowledged may not be deleted yet: only a whole queue is found empty.
            let all = view.scan_keys::<Rows>(&KeyRange::prefix(&key), 1, Direction::Forward).await?;
            if all.keys.is_empty() {
                self.queues.found_empty(user, device, view.position());
            }
            return Ok(Waiting::default());
        }
        let more_after = page.rest.and(page.rows.last().map(|((.., position), _)| *position));
        let events = page
            .rows
            .into_iter()
            .map(|(_, row)| RawValue::from_string(row.event).expect("messages are stored as JSON"));
        Ok(Waiting { events: events.collect(), more_after })
    }

    /// A device has come back with a token: what was sent to it up to there has arrived, and is deleted before this returns.
    pub async fn acknowledge(&self, user: UserNid, device: &DeviceId, upto: StreamPosition) -> Result<(), StoreError> {
        if self.queues.is_empty(user, device) {
            return Ok(());
        }
        let key = (user, Text::new(device.as_str()));
        let mut rest = Some(KeyRange::until(&key, &(user, key.1.clone(), upto.next())));
        let view = self.ground.storage.view();
        while let Some(range) = rest {
            let page = view.scan_keys::<Rows>(&range, PAGE, Direction::Forward).await?;
            let arrived: Vec<_> = page.keys.into_iter().map(|(.., position)| position).collect();
            self.delete(user, device.as_str(), &arrived).await?;
            rest = page.rest;
        }
        Ok(())
    }

    /// Deletes a device's queue, with the device.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid, device: &DeviceId) {
        batch.delete_prefix::<Rows>(&(user, Text::new(device.as_str())));
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("JSON is written as JSON")
}

/// An event as the client gets it.
fn event(sender: &UserId, event_type: &str, content: &Content) -> Arc<str> {
    #[derive(Serialize)]
    struct Shown<'a> {
        content: &'a Content,
        sender: &'a UserId,
        #[serde(rename = "type")]
        event_type: &'a str,
    }
    json(&Shown { content, sender, event_type }).into()
}

/// The devices of a user that events are for. What is for one device comes before what is for all.
async fn devices(
    view: &View,
    user: UserNid,
    events: &BTreeMap<&str, Arc<str>>,
) -> Result<BTreeMap<String, (DeviceRow, Arc<str>)>, ReadError> {
    let mut devices = BTreeMap::new();
    if let Some(event) = events.get(ALL_DEVICES) {
        let mut rest = Some(KeyRange::prefix(&(user,)));
        while let Some(range) = rest {
            let page = view.scan::<Devices>(&range, PAGE, Direction::Forward).await?;
            devices.extend(page.rows.into_iter().map(|((_, Text(id)), row)| (id, (row, Arc::clone(event)))));
            rest = page.rest;
        }
    }
    let named: Vec<_> = events.iter().filter(|(id, _)| **id != ALL_DEVICES).collect();
    let keys: Vec<_> = named.iter().map(|(id, _)| (user, Text::new(**id))).collect();
    let rows = view.multi_get::<Devices>(&keys).await?;
    for ((id, event), row) in named.into_iter().zip(rows) {
        devices.extend(row.map(|row| ((*id).to_owned(), (row, Arc::clone(event)))));
    }
    Ok(devices)
}

/// The targets after one, as many as a batch takes, and whether they are the last.
fn part(targets: Vec<Target>, after: Option<&(OwnedUserId, String)>) -> (Vec<Target>, bool) {
    let mut bytes = 0;
    let is_new =
        |target: &Target| after.is_none_or(|(user_id, device)| (&target.user_id, &target.device) > (user_id, device));
    let mut rest = targets.into_iter().filter(is_new).peekable();
    let mut part = Vec::new();
    while let Some(target) = rest.next_if(|_| part.len() < DEVICES_A_BATCH && bytes < BYTES_A_BATCH) {
        bytes += target.event.len();
        part.push(target);
    }
    (part, rest.peek().is_none())
}

/// The transaction of one batch of a request.
fn part_key(txn: &TxnKey, event_type: &str, part: usize) -> TxnKey {
    TxnKey { path: format!("sendToDevice/{part}/{event_type}"), ..txn.clone() }
}
