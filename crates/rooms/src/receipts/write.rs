//! Receipts that come in: from this server's users, and from others'.

use std::{collections::BTreeMap, sync::Arc};

use primitives::StreamPosition;
use ruma::{EventId, OwnedEventId, OwnedUserId};
use serde_json::json;
use storage::{
    Batch, CommitError, Direction, KeyRange, Positioned, ReadError, Text,
    schema::receipts::{ReceiptLog, ReceiptLogRow, ReceiptRow, Receipts},
};
use users::{AccountData, AccountDataError, DataKey, StoreError};

use super::{Place, ReceiptType, Thread, threads};
use crate::{
    context::read_error,
    read::{Reader, RoomView},
    room::Room,
    visibility::{Eyes, Standing},
};

/// Attempts at rows that others change meanwhile.
const ATTEMPTS: usize = 8;
/// Receipts of one type that a user has in a room, one for each thread. The one that has not moved for longest makes way for another.
const MAX_THREADS: usize = 1_000;
/// Receipts of other servers that are committed at once.
const AT_ONCE: usize = 500;
/// The account data that holds the fully-read marker.
const FULLY_READ: &str = "m.fully_read";

/// Why a receipt is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The user is not in the room.
    #[error("you are not in this room")]
    NotInRoom,
    /// There is no such event in the room, or the user may not see it.
    #[error("no such event")]
    UnknownEvent,
    /// The event has nothing to do with the thread.
    #[error("the event is not related to the thread")]
    OtherThread,
    /// The user has as much account data in the room as they may, so there is no place for a fully-read marker.
    #[error(transparent)]
    Marker(AccountDataError),
    /// The store can't take it now.
    #[error("receipts cannot be stored at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

/// What a user has read. What is further back than what is known already moves nothing.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// Up to which events, for whom and about what.
    pub receipts: Vec<(ReceiptType, Thread, OwnedEventId)>,
    /// The fully-read marker.
    pub fully_read: Option<OwnedEventId>,
}

/// The receipt of another server's user. Its event need not be known.
#[derive(Clone, Debug)]
pub struct RemoteReceipt {
    /// Whose.
    pub user_id: OwnedUserId,
    /// About what.
    pub thread: Thread,
    /// Up to which event: the id as the other server has it.
    pub event_id: String,
    /// When, as the other server says.
    pub ts: u64,
}

/// One receipt to be written.
struct Moved<'a> {
    user_id: &'a str,
    receipt_type: ReceiptType,
    thread: &'a Thread,
    event_id: &'a str,
    ts: u64,
    /// Where its event is, if it is known.
    place: Option<Place>,
}

impl Room {
    /// Takes what a user of this server has read, all of it in one batch.
    pub async fn mark_read(&self, reader: &Reader, marks: &Marks) -> Result<(), ReceiptError> {
        for _ in 0..ATTEMPTS {
            let view = self.context().storage.view();
            let room = RoomView::by_number(&view, &self.context().caches, self.nid()).await?;
            let room = room.ok_or(ReceiptError::NotInRoom)?;
            let mut eyes = Eyes::open(&room, &reader.user_id, reader.user_nid).await?;
            if eyes.standing() != Standing::Joined {
                return Err(ReceiptError::NotInRoom);
            }
            let (mut batch, mut written) = (Batch::new(), 0);
            let ts = self.context().clock.now().0;
            for (receipt_type, thread, event_id) in &marks.receipts {
                let place = Some(seen(&room, &mut eyes, event_id, thread).await?);
                let (user_id, receipt_type) = (reader.user_id.as_str(), *receipt_type);
                let moved = Moved { user_id, receipt_type, thread, event_id: event_id.as_str(), ts, place };
                write(&room, &mut batch, &moved, &mut written).await?;
            }
            let public = marks.receipts.iter().any(|(receipt_type, ..)| *receipt_type == ReceiptType::Read);
            if let Some(event_id) = &marks.fully_read {
                let place = seen(&room, &mut eyes, event_id, &Thread::Unthreaded).await?;
                self.write_fully_read(&room, reader, event_id, place, &mut batch).await?;
            }
            if batch.is_empty() {
                return Ok(());
            }
            if let Some(position) = self.commit_receipts(batch).await? {
                self.context().users.wakeups().wake(reader.user_nid, position);
                if public && written > 0 {
                    self.wake_members(position).await?;
                }
                return Ok(());
            }
        }
        Err(ReceiptError::Unavailable)
    }

    /// Keeps the public receipts of other servers' users, whom the caller has found to be in the room.
    pub async fn keep_receipts(&self, receipts: &[RemoteReceipt]) -> Result<(), ReceiptError> {
        for some in receipts.chunks(AT_ONCE) {
            self.keep_some(some).await?;
        }
        Ok(())
    }

    async fn keep_some(&self, receipts: &[RemoteReceipt]) -> Result<(), ReceiptError> {
        // A row is written once in a batch.
        let newest: BTreeMap<_, _> = receipts.iter().map(|r| ((&r.user_id, &r.thread), (&r.event_id, r.ts))).collect();
        for _ in 0..ATTEMPTS {
            let view = self.context().storage.view();
            let room = RoomView::by_number(&view, &self.context().caches, self.nid()).await?;
            let room = room.ok_or(ReceiptError::NotInRoom)?;
            let (mut batch, mut written) = (Batch::new(), 0);
            for ((user_id, thread), (event_id, ts)) in &newest {
                let place = Place::find(&room, event_id).await?;
                let (user_id, receipt_type) = (user_id.as_str(), ReceiptType::Read);
                let moved = Moved { user_id, receipt_type, thread, event_id, ts: *ts, place };
                write(&room, &mut batch, &moved, &mut written).await?;
            }
            if batch.is_empty() {
                return Ok(());
            }
            if let Some(position) = self.commit_receipts(batch).await? {
                return Ok(self.wake_members(position).await?);
            }
        }
        Err(ReceiptError::Unavailable)
    }

    /// Commits rows of receipts; `None` if they have changed meanwhile.
    ///
    /// Goes on if who asked goes away: what became of the commit has to be told to the readers.
    async fn commit_receipts(&self, batch: Batch) -> Result<Option<StreamPosition>, ReceiptError> {
        let (context, nid) = (Arc::clone(self.context()), self.nid());
        let committed = self.rooms().finish(async move {
            let writing = context.activity.writing(nid).of_receipts();
            let position = context.storage.commit(batch).await?;
            writing.committed(position);
            Ok(position)
        });
        match committed.await {
            Some(Ok(position)) => Ok(Some(position)),
            Some(Err(CommitError::Conflict(_))) => Ok(None),
            Some(Err(_)) | None => Err(ReceiptError::Unavailable),
        }
    }

    async fn write_fully_read(
        &self,
        room: &RoomView<'_>,
        reader: &Reader,
        event_id: &EventId,
        place: Place,
        batch: &mut Batch,
    ) -> Result<(), ReceiptError> {
        let key = DataKey { user: reader.user_nid, room: Some(self.nid()), data_type: FULLY_READ };
        let now = AccountData::read(room.view, key).await?;
        let now = now.and_then(|json| serde_json::from_str::<FullyRead>(&json).ok());
        if let Some(now) = now
            && Place::find(room, &now.event_id).await?.is_some_and(|now| now >= place)
        {
            return Ok(());
        }
        let content = json!({ "event_id": event_id });
        let content = content.as_object().expect("an object");
        let change = self.context().users.account_data().change(room.view, key, content).await;
        batch.merge(change.map_err(unmarked)?.unwrap_or_default());
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct FullyRead {
    event_id: String,
}

fn unmarked(error: AccountDataError) -> ReceiptError {
    match error {
        AccountDataError::Store(error @ StoreError::Read(_)) => read_error(error).into(),
        AccountDataError::Store(_) => ReceiptError::Unavailable,
        refused => ReceiptError::Marker(refused),
    }
}

/// The place of an event that the reader may see and that has to do with the thread.
async fn seen(
    room: &RoomView<'_>,
    eyes: &mut Eyes<'_>,
    event_id: &EventId,
    thread: &Thread,
) -> Result<Place, ReceiptError> {
    let rix = room.find_event(event_id).await?.ok_or(ReceiptError::UnknownEvent)?;
    let event = room.event(rix).await?.ok_or(ReceiptError::UnknownEvent)?;
    if !eyes.sees(&event.header).await? {
        return Err(ReceiptError::UnknownEvent);
    }
    if let Thread::Root(root) = thread
        && !(room.find_event(root).await?.is_some() && threads::is_related(room, &event, root).await?)
    {
        return Err(ReceiptError::OtherThread);
    }
    Ok(Place::of(&event))
}

/// Adds the rows of a receipt, unless it would move backwards or not at all. `written` counts the batch's rows of the log.
async fn write(room: &RoomView<'_>, batch: &mut Batch, moved: &Moved<'_>, written: &mut u16) -> Result<(), ReadError> {
    let (user, kind) = (Text::new(moved.user_id), moved.receipt_type.key());
    let key = (room.nid, user.clone(), kind, moved.thread.key());
    let old = room.view.get::<Receipts>(&key).await?;
    if let Some(old) = &old {
        let before = Place::find(room, &old.value.event_id).await?;
        // Where one of the two is not known, the later word counts.
        let forward = matches!((before, moved.place), (Some(before), Some(now)) if before < now);
        if old.value.event_id == moved.event_id || (before.is_some() && moved.place.is_some() && !forward) {
            return Ok(());
        }
        batch.delete::<ReceiptLog>(&(room.nid, old.position, old.value.log_index));
    } else {
        let range = KeyRange::prefix(&(room.nid, user, kind));
        let others = room.view.scan::<Receipts>(&range, MAX_THREADS, Direction::Forward).await?.rows;
        if others.len() == MAX_THREADS
            && let Some((idle, row)) = others.into_iter().min_by_key(|(_, row)| row.position)
        {
            batch.assert_equals::<Receipts>(&idle, &row).delete::<Receipts>(&idle);
            batch.delete::<ReceiptLog>(&(room.nid, row.position, row.value.log_index));
        }
    }
    let log_index = *written;
    *written += 1;
    let row = ReceiptRow { event_id: moved.event_id.to_string(), ts: moved.ts, log_index };
    let thread = moved.thread.thread_id().unwrap_or_default().to_owned();
    let entry = ReceiptLogRow { user_id: moved.user_id.to_owned(), kind, thread };
    batch.assert_unchanged::<Receipts>(&key, old.as_ref());
    batch.put::<Receipts>(&key, &Positioned::pending(row));
    batch.put::<ReceiptLog>(&(room.nid, StreamPosition::PENDING, log_index), &entry);
    Ok(())
}
