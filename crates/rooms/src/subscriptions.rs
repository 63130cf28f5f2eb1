//! Which threads users follow (MSC4306).
//!
//! A client also subscribes by itself, when an event mentions its user. So that it does not undo what the user decided meanwhile on another
//! device, an event that was there when the user unsubscribed is no cause: events and decisions are ordered by their positions in the stream.
//!
//! Clients read in pages what has changed (MSC4308).

mod changes;

pub use changes::{SubscriptionChanges, SubscriptionChangesRequest};

use std::sync::Arc;

use primitives::{RoomNid, StreamPosition, UserNid};
use ruma::{EventId, RoomId};
use storage::{
    Batch, CommitError, Positioned, ReadError, Text, View,
    schema::history::{ThreadSubscriptionLog, ThreadSubscriptionLogRow, ThreadSubscriptionRow, ThreadSubscriptions},
};

use crate::{
    Reader, Rooms,
    persist::relation_in,
    read::{RoomView, may_be_root},
    render::StoredEvent,
    visibility::Eyes,
};

/// Attempts at a subscription that another device changes meanwhile.
const ATTEMPTS: usize = 8;

/// Why a thread was not subscribed to, or its subscription can't be told.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// There is no such thread, or the user may not know that there is; or the user doesn't follow it (404, `M_NOT_FOUND`).
    #[error("there is no such thread, or no subscription to it")]
    NotFound,
    /// The event that is named as the cause is not in the thread (400, `M_NOT_IN_THREAD`).
    #[error("the event is not in the thread")]
    NotInThread,
    /// The user unsubscribed when that event was there already (409, `M_CONFLICTING_UNSUBSCRIPTION`).
    #[error("the thread was unsubscribed from after this event")]
    ConflictingUnsubscription,
    /// The store can't take it now.
    #[error("subscriptions cannot be changed at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

/// Whether a user follows a thread, as a view shows it: for push rules with the condition `thread_subscription`.
pub async fn is_subscribed(view: &View, user: UserNid, room: RoomNid, root: &EventId) -> Result<bool, ReadError> {
    let row = view.get::<ThreadSubscriptions>(&(user, room, Text::new(root.as_str()))).await?;
    Ok(row.is_some_and(|row| row.value.subscribed))
}

impl Rooms {
    /// How a user follows a thread: whether a client of theirs subscribed by itself.
    pub async fn thread_subscription(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        root: &EventId,
    ) -> Result<bool, SubscriptionError> {
        let view = self.context().storage.view();
        let room = self.room_of_thread(&view, reader, room_id, root).await?;
        let row = view.get::<ThreadSubscriptions>(&(reader.user_nid, room.nid, Text::new(root.as_str()))).await?;
        let row = row.filter(|row| row.value.subscribed).ok_or(SubscriptionError::NotFound)?;
        Ok(row.value.automatic)
    }

    /// Subscribes a user to a thread: because they want it, or because of an event of the thread (`cause`). What the user wants is not
    /// undone by the latter.
    pub async fn subscribe_to_thread(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        root: &EventId,
        cause: Option<&EventId>,
    ) -> Result<(), SubscriptionError> {
        self.change_subscription(reader, room_id, root, Wish::Subscribe { cause }).await
    }

    /// Ends a user's subscription to a thread. Doing it twice is doing it once.
    pub async fn unsubscribe_from_thread(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        root: &EventId,
    ) -> Result<(), SubscriptionError> {
        self.change_subscription(reader, room_id, root, Wish::Unsubscribe).await
    }

    async fn change_subscription(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        root: &EventId,
        wish: Wish<'_>,
    ) -> Result<(), SubscriptionError> {
        for _ in 0..ATTEMPTS {
            let view = self.context().storage.view();
            let room = self.room_of_thread(&view, reader, room_id, root).await?;
            let key = (reader.user_nid, room.nid, Text::new(root.as_str()));
            let row = view.get::<ThreadSubscriptions>(&key).await?;
            let cause = match wish {
                Wish::Subscribe { cause: Some(cause) } => Some(cause_in_thread(&room, reader, root, cause).await?),
                _ => None,
            };
            let Some(new) = decide(row.as_ref(), wish, cause.as_deref())? else { return Ok(()) };
            let mut batch = Batch::new();
            batch.assert_unchanged::<ThreadSubscriptions>(&key, row.as_ref());
            batch.put::<ThreadSubscriptions>(&key, &Positioned::pending(new));
            if let Some(old) = &row {
                batch.delete::<ThreadSubscriptionLog>(&(reader.user_nid, old.position));
            }
            let entry = ThreadSubscriptionLogRow { room: room.nid, root: root.to_string() };
            batch.put::<ThreadSubscriptionLog>(&(reader.user_nid, StreamPosition::PENDING), &entry);
            match self.context().storage.commit(batch).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(_)) => {}
                Err(_) => break,
            }
        }
        Err(SubscriptionError::Unavailable)
    }

    /// The room of a thread whose root the user sees.
    async fn room_of_thread<'a>(
        &'a self,
        view: &'a View,
        reader: &Reader,
        room_id: &RoomId,
        root: &EventId,
    ) -> Result<RoomView<'a>, SubscriptionError> {
        let room = self.reads().room(view, room_id).await?.ok_or(SubscriptionError::NotFound)?;
        let root = visible(&room, reader, root).await?.ok_or(SubscriptionError::NotFound)?;
        if may_be_root(&root) { Ok(room) } else { Err(SubscriptionError::NotFound) }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
enum Wish<'a> {
    Subscribe { cause: Option<&'a EventId> },
    Unsubscribe,
}

/// The row that is to be written; none if everything is as it should be.
fn decide(
    row: Option<&Positioned<ThreadSubscriptionRow>>,
    wish: Wish<'_>,
    cause: Option<&StoredEvent>,
) -> Result<Option<ThreadSubscriptionRow>, SubscriptionError> {
    let subscribed = |automatic| Some(ThreadSubscriptionRow { subscribed: true, automatic });
    let now = row.map(|row| row.value);
    Ok(match (wish, now, cause) {
        (Wish::Unsubscribe, Some(now), _) if now.subscribed => {
            Some(ThreadSubscriptionRow { subscribed: false, automatic: false })
        }
        (Wish::Unsubscribe, _, _) => None,
        (Wish::Subscribe { .. }, Some(now), None) if now.subscribed && !now.automatic => None,
        (Wish::Subscribe { .. }, _, None) => subscribed(false),
        (Wish::Subscribe { .. }, Some(now), Some(_)) if now.subscribed => None,
        (Wish::Subscribe { .. }, _, Some(cause)) => {
            if row.is_some_and(|row| cause.position <= row.position) {
                return Err(SubscriptionError::ConflictingUnsubscription);
            }
            subscribed(true)
        }
    })
}

/// The event that gives rise to a subscription, if it is in the thread.
async fn cause_in_thread(
    room: &RoomView<'_>,
    reader: &Reader,
    root: &EventId,
    cause: &EventId,
) -> Result<Arc<StoredEvent>, SubscriptionError> {
    let cause = visible(room, reader, cause).await?.ok_or(SubscriptionError::NotInThread)?;
    let relation = relation_in(cause.content().get());
    let in_thread = relation.is_some_and(|(rel_type, target)| rel_type == "m.thread" && target == root.as_str());
    if in_thread { Ok(cause) } else { Err(SubscriptionError::NotInThread) }
}

/// An event of the room that the user sees.
async fn visible(room: &RoomView<'_>, reader: &Reader, event: &EventId) -> Result<Option<Arc<StoredEvent>>, ReadError> {
    if room.head().await?.is_none() {
        return Ok(None);
    }
    let Some(rix) = room.find_event(event).await? else { return Ok(None) };
    let Some(event) = room.event(rix).await? else { return Ok(None) };
    let mut eyes = Eyes::open(room, &reader.user_id, reader.user_nid).await?;
    Ok(eyes.sees(&event.header).await?.then_some(event))
}

#[cfg(test)]
mod tests {
    use primitives::StreamPosition;

    use super::*;

    #[test]
    fn what_the_user_wants_is_not_undone() {
        let at = |subscribed, automatic| Positioned {
            position: StreamPosition(5),
            value: ThreadSubscriptionRow { subscribed, automatic },
        };
        let wanted = Wish::Subscribe { cause: None };
        let both = |row: &Positioned<_>, wish| decide(Some(row), wish, None).expect("decided");
        let (manual, automatic) = (at(true, false).value, at(true, true).value);
        assert_eq!(decide(None, wanted, None).expect("decided"), Some(manual));
        assert_eq!(decide(None, Wish::Unsubscribe, None).expect("decided"), None);
        assert_eq!(both(&at(true, true), wanted), Some(manual));
        assert_eq!(both(&at(true, false), wanted), None);
        assert_eq!(both(&at(false, false), wanted), Some(manual));
        assert_eq!(both(&at(true, true), Wish::Unsubscribe), Some(at(false, false).value));
        assert_eq!(both(&at(false, false), Wish::Unsubscribe), None);
        assert_ne!(manual, automatic);
    }
}
