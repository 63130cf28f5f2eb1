//! What other servers are told of the devices of this server's users (server-server API, "Device Management").
//!
//! A user's devices are a stream of changes. Of each device its newest change has a row; the stream ids that other servers see are positions, so they
//! never go backwards, after a restored backup neither. Devices without keys have a place in it too: others see that they are there.
//!
//! An `m.device_list_update` names the one before it. What a server was told last is known by the position up to which it was (`since`): then the
//! changes after that follow on each other without a gap. Where they can't be told one by one, because there are too many of them or they are no longer
//! remembered, one update with a gap before it has the server fetch the list.

use primitives::{RoomNid, StreamPosition, UserNid};
use ruma::UserId;
use serde::Serialize;
use serde_json::value::RawValue;
use storage::{
    Batch, Direction, Key, KeyRange, Positioned, ReadError, Text, View,
    schema::{
        jobs::{self, EVERY_ROOM, JobKind, Jobs},
        keys::{self as tables},
        remote_devices::{DeviceStreamChangeRow, DeviceStreamChanges, DeviceStreamRow, DeviceStreams},
        rooms::Memberships,
        users::Devices,
    },
};

use super::{Keys, query::raw};
use crate::error::{StoreError, outcome};

/// Updates that are sent of one list at a time; more of them are told as a gap.
const MAX_UPDATES: usize = 20;
/// The most EDUs that tell of one user's devices.
pub const MAX_EDUS: usize = MAX_UPDATES + 1;
/// Stream ids that are remembered: those that a server may have been told last.
const RECENT: usize = 20;
/// Devices that have gone are remembered until there are more than this, and then half as many.
const MAX_GONE: usize = 100;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;
/// The device in whose place the cross-signing keys stand.
const CROSS_SIGNING: &str = "";
/// An update that no server has ever been sent.
const NO_UPDATE: StreamPosition = StreamPosition::ZERO;

/// A change that other servers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A device is new, or has another name or other keys.
    Device(&'a str),
    /// A device has gone.
    Deleted(&'a str),
    /// The master key or the self-signing key is another, or has another signature.
    CrossSigning,
}

/// An EDU to be sent.
#[derive(Debug)]
pub struct Edu {
    /// Its type.
    pub edu_type: &'static str,
    /// Its content.
    pub content: Box<RawValue>,
}

/// What `GET /user/devices/{userId}` answers.
#[derive(Debug, Serialize)]
pub struct DevicesOfUser {
    user_id: String,
    stream_id: u64,
    devices: Vec<DeviceOfUser>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct DeviceOfUser {
    device_id: String,
    keys: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_display_name: Option<String>,
}

#[derive(Serialize)]
struct DeviceListUpdate<'a> {
    user_id: &'a UserId,
    device_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_display_name: Option<String>,
    stream_id: u64,
    prev_id: Vec<u64>,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct SigningKeyUpdate<'a> {
    user_id: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    master_key: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing_key: Option<Box<RawValue>>,
}

/// The newest change of a device.
#[derive(Debug)]
struct Newest {
    device: String,
    position: StreamPosition,
    deleted: bool,
}

/// Adds to a batch what changes of a user's devices mean for other servers: the stream goes on, and a job begins that has the servers told. Once in a
/// batch; conflicts if the stream has gone on since the view. After the commit comes [`super::DeviceLists::ring`].
pub(crate) async fn publish(
    view: &View,
    batch: &mut Batch,
    user: UserNid,
    changes: &[Change<'_>],
) -> Result<(), ReadError> {
    let old = view.get::<DeviceStreams>(&(user,)).await?;
    let mut stream = match &old {
        Some(old) => {
            let mut stream = DeviceStreamRow { marked: marked(old), ..old.value.clone() };
            if old.value.of_device {
                stream.recent.push(old.position);
                let surplus = stream.recent.len().saturating_sub(RECENT);
                stream.recent.drain(..surplus);
            }
            stream
        }
        None => DeviceStreamRow::default(),
    };
    stream.of_device = changes.iter().any(|change| *change != Change::CrossSigning);
    if changes.iter().any(|change| matches!(change, Change::Deleted(_))) {
        stream.forgotten = forget_gone(view, batch, user).await?.max(stream.forgotten);
    }
    for change in changes {
        let (device, deleted) = match change {
            Change::Device(device) => (*device, false),
            Change::Deleted(device) => (*device, true),
            Change::CrossSigning => (CROSS_SIGNING, false),
        };
        let row = Positioned::pending(DeviceStreamChangeRow { deleted });
        batch.put::<DeviceStreamChanges>(&(user, Text::new(device)), &row);
    }
    // Nobody is told of a user who is in no room, like one who has just been registered.
    let page = view.scan_keys::<Memberships>(&KeyRange::prefix(&(user,)), 1, Direction::Forward).await?;
    stream.all_marked = page.keys.is_empty();
    if !stream.all_marked {
        jobs::begin(batch, JobKind::DEVICE_MARKS, &marking(user));
    }
    batch.assert_unchanged::<DeviceStreams>(&(user,), old.as_ref());
    batch.put::<DeviceStreams>(&(user,), &Positioned::pending(stream));
    Ok(())
}

/// The id of the job that marks all servers that share a room with a user.
fn marking(user: UserNid) -> (UserNid, RoomNid, Text) {
    (user, EVERY_ROOM, Text::new(""))
}

/// Up to where every server that shares a room has been marked.
fn marked(stream: &Positioned<DeviceStreamRow>) -> StreamPosition {
    if stream.value.all_marked { stream.position } else { stream.value.marked }
}

/// Forgets the older half of the devices that have gone, when they are many. Answers up to where.
async fn forget_gone(view: &View, batch: &mut Batch, user: UserNid) -> Result<StreamPosition, ReadError> {
    let mut gone: Vec<_> = newest_changes(view, user).await?.into_iter().filter(|change| change.deleted).collect();
    if gone.len() < MAX_GONE {
        return Ok(StreamPosition::ZERO);
    }
    gone.sort_unstable_by_key(|change| change.position);
    gone.truncate(MAX_GONE / 2);
    for change in &gone {
        batch.delete::<DeviceStreamChanges>(&(user, Text::new(&*change.device)));
    }
    Ok(gone.last().map_or(StreamPosition::ZERO, |last| last.position))
}

async fn newest_changes(view: &View, user: UserNid) -> Result<Vec<Newest>, ReadError> {
    let (mut changes, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(user,))));
    while let Some(range) = rest {
        let page = view.scan::<DeviceStreamChanges>(&range, PAGE, Direction::Forward).await?;
        changes.extend(page.rows.into_iter().map(|((_, Text(device)), row)| Newest {
            device,
            position: row.position,
            deleted: row.value.deleted,
        }));
        rest = page.rest;
    }
    Ok(changes)
}

/// The newest stream id that is not after a position: what a server that was told up to there was told last. `None`: nothing, or nothing that is known.
fn last_told(stream: &Positioned<DeviceStreamRow>, since: StreamPosition) -> Option<StreamPosition> {
    let newest = stream.value.of_device.then_some(stream.position);
    stream.value.recent.iter().copied().chain(newest).rfind(|position| *position <= since)
}

impl Keys {
    /// When a user's devices, as other servers see them, last changed, and up to where every server that shares a room has been marked.
    pub async fn stream_of(&self, user: UserNid) -> Result<Option<(StreamPosition, StreamPosition)>, ReadError> {
        let row = self.ground.storage.view().get::<DeviceStreams>(&(user,)).await?;
        Ok(row.map(|row| (row.position, marked(&row))))
    }

    /// The job that marks all servers that share a room with a user has come to its end: they are marked with the changes up to the one that began it.
    /// Does nothing if a newer one has begun it anew.
    pub async fn all_marked(&self, user: UserNid) -> Result<(), StoreError> {
        let view = self.ground.storage.view();
        let job = (JobKind::DEVICE_MARKS, marking(user).to_bytes().into_parts().0);
        let begun = view.get::<Jobs>(&job).await?;
        let (Some(begun), Some(old)) = (begun, view.get::<DeviceStreams>(&(user,)).await?) else { return Ok(()) };
        let mut new = old.clone();
        new.value.all_marked = begun.position == old.position;
        new.value.marked = begun.position;
        let mut batch = Batch::new();
        batch.assert_equals::<Jobs>(&job, &begun).assert_equals::<DeviceStreams>(&(user,), &old);
        batch.put::<DeviceStreams>(&(user,), &new);
        outcome(self.ground.storage.commit(batch).await)?;
        Ok(())
    }

    /// All devices of a user of this server that have keys, for another server; `None`: there is no such user.
    pub async fn devices_of_user(&self, user_id: &UserId) -> Result<Option<DevicesOfUser>, StoreError> {
        let Some(user) = self.accounts.nid(user_id).await? else { return Ok(None) };
        let view = self.ground.storage.view();
        let stream = view.get::<DeviceStreams>(&(user,)).await?;
        let last = stream.as_ref().and_then(|stream| last_told(stream, stream.position));
        let (mut devices, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(user,))));
        while let Some(range) = rest {
            let page = view.scan::<tables::DeviceKeys>(&range, PAGE, Direction::Forward).await?;
            for ((_, Text(device_id)), keys) in page.rows {
                let device_display_name = self.name_for_servers(&view, user, &device_id).await?;
                devices.push(DeviceOfUser { device_id, keys: raw(keys.json)?, device_display_name });
            }
            rest = page.rest;
        }
        let signing = self.signing_keys(&view, user).await?;
        Ok(Some(DevicesOfUser {
            user_id: user_id.to_string(),
            stream_id: last.unwrap_or(NO_UPDATE).0,
            devices,
            master_key: signing.0,
            self_signing_key: signing.1,
        }))
    }

    /// The EDUs that tell a server what has changed in a user's list since it was told last: up to `since`, zero if it was never told. At most
    /// `most`, of which there is at least one, and [`MAX_EDUS`]. They may be sent again; none if there is no such user.
    pub async fn edus_since(
        &self,
        user_id: &UserId,
        since: StreamPosition,
        most: usize,
    ) -> Result<Vec<Edu>, StoreError> {
        let Some(user) = self.accounts.nid(user_id).await? else { return Ok(Vec::new()) };
        let view = self.ground.storage.view();
        let Some(stream) = view.get::<DeviceStreams>(&(user,)).await? else { return Ok(Vec::new()) };
        let is_new = since == StreamPosition::ZERO;
        let is_forgotten = !is_new && since < stream.value.forgotten;
        let (signing, mut devices): (Vec<_>, Vec<_>) =
            newest_changes(&view, user).await?.into_iter().partition(|change| change.device == CROSS_SIGNING);
        let mut has_signing = signing.iter().any(|change| is_forgotten || change.position > since);
        devices.sort_unstable_by_key(|change| change.position);
        if is_new {
            devices.retain(|change| !change.deleted);
        } else if !is_forgotten {
            devices.retain(|change| change.position > since);
        }
        let mut prev = last_told(&stream, since).map_or_else(Vec::new, |last| vec![last]);
        let together = devices.windows(2).any(|pair| pair[0].position == pair[1].position);
        let room = most.saturating_sub(usize::from(has_signing)).min(MAX_UPDATES);
        if together || is_forgotten || devices.len() > room {
            // One update after a gap stands for all of them, and for the keys: the server fetches the list.
            has_signing &= devices.is_empty();
            prev = vec![NO_UPDATE];
            devices.drain(..devices.len().saturating_sub(1));
        }
        if let Some(change) = devices.first_mut().filter(|_| is_forgotten) {
            // A server may know the change itself, but nothing of this position.
            change.position = stream.position;
        }
        let mut edus = Vec::new();
        for change in devices {
            edus.push(self.device_list_update(&view, (user, user_id), &change, &prev).await?);
            prev = vec![change.position];
        }
        if has_signing {
            let (master_key, self_signing_key) = self.signing_keys(&view, user).await?;
            if master_key.is_some() {
                let content = SigningKeyUpdate { user_id, master_key, self_signing_key };
                edus.push(Edu { edu_type: "m.signing_key_update", content: content_of(&content) });
            }
        }
        Ok(edus)
    }

    async fn device_list_update(
        &self,
        view: &View,
        (user, user_id): (UserNid, &UserId),
        change: &Newest,
        prev: &[StreamPosition],
    ) -> Result<Edu, ReadError> {
        let key = (user, Text::new(&*change.device));
        let mut content = DeviceListUpdate {
            user_id,
            device_id: &change.device,
            device_display_name: None,
            stream_id: change.position.0,
            prev_id: prev.iter().map(|position| position.0).collect(),
            deleted: change.deleted,
            keys: None,
        };
        if !change.deleted {
            content.device_display_name = self.name_for_servers(view, user, &change.device).await?;
            let keys = view.get::<tables::DeviceKeys>(&key).await?;
            content.keys = keys.map(|keys| raw(keys.json)).transpose()?;
        }
        Ok(Edu { edu_type: "m.device_list_update", content: content_of(&content) })
    }

    /// The name of a device, if other servers are shown names.
    async fn name_for_servers(&self, view: &View, user: UserNid, device: &str) -> Result<Option<String>, ReadError> {
        if !self.names_for_servers {
            return Ok(None);
        }
        let row = view.get::<Devices>(&(user, Text::new(device))).await?;
        Ok(row.and_then(|row| row.display_name))
    }

    /// Master key and self-signing key, as everybody sees them.
    async fn signing_keys(
        &self,
        view: &View,
        user: UserNid,
    ) -> Result<(Option<Box<RawValue>>, Option<Box<RawValue>>), ReadError> {
        let keys = view.get::<tables::CrossSigning>(&(user,)).await?.unwrap_or_default();
        Ok((keys.master.map(raw).transpose()?, keys.self_signing.map(raw).transpose()?))
    }
}

fn content_of(content: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(content).expect("JSON is written as JSON")
}
