//! Which subscriptions to threads have changed, newest first (MSC4308).

use std::collections::BTreeMap;

use primitives::{RoomNid, StreamPosition, UserNid};
use ruma::OwnedRoomId;
use serde::Serialize;
use storage::{
    Direction, KeyRange, ReadError, Text,
    schema::history::{ThreadSubscriptionLog, ThreadSubscriptionLogRow, ThreadSubscriptions},
};

use crate::{Rooms, read::RoomView, tokens::SubscriptionToken};

/// Which changes are asked for.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionChangesRequest {
    /// Those before this; `None`: from the newest on.
    pub from: Option<SubscriptionToken>,
    /// Those after this; `None`: all.
    pub to: Option<SubscriptionToken>,
    /// The most changes.
    pub limit: usize,
}

/// How a thread is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Subscribed {
    automatic: bool,
    bump_stamp: u64,
}

/// A thread that is not followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Unsubscribed {
    bump_stamp: u64,
}

/// By room and root of the thread.
type ByThread<T> = BTreeMap<OwnedRoomId, BTreeMap<String, T>>;

/// Changes of subscriptions, each thread once, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubscriptionChanges {
    subscribed: ByThread<Subscribed>,
    unsubscribed: ByThread<Unsubscribed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<SubscriptionToken>,
}

impl Rooms {
    /// What has changed of the threads that a user follows.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn subscription_changes(
        &self,
        user: UserNid,
        request: SubscriptionChangesRequest,
    ) -> Result<SubscriptionChanges, ReadError> {
        let view = self.context().storage.view();
        let after = request.to.map_or(StreamPosition::ZERO, |to| to.0.next());
        let before = request.from.map_or_else(|| view.position().next(), |from| from.0);
        let mut changes = SubscriptionChanges::default();
        if before <= after {
            return Ok(changes);
        }
        let range = KeyRange::between(&(user, after), &(user, before));
        let page = view.scan::<ThreadSubscriptionLog>(&range, request.limit, Direction::Backward).await?;
        let last = page.rows.last().map(|((_, position), _)| SubscriptionToken(*position));
        changes.end = last.filter(|_| page.rest.is_some());
        let key = |row: &ThreadSubscriptionLogRow| (user, row.room, Text::new(&*row.root));
        let keys: Vec<_> = page.rows.iter().map(|(_, row)| key(row)).collect();
        let rows = view.multi_get::<ThreadSubscriptions>(&keys).await?;
        let mut rooms = BTreeMap::<RoomNid, Option<OwnedRoomId>>::new();
        for (((_, position), entry), row) in page.rows.into_iter().zip(rows) {
            let Some(row) = row.filter(|row| row.position == position) else { continue };
            let room = if let Some(known) = rooms.get(&entry.room) {
                known.clone()
            } else {
                let room = RoomView::by_number(&view, self.reads().caches(), entry.room).await?;
                rooms.entry(entry.room).or_insert(room.map(|room| room.room_id)).clone()
            };
            let Some(room) = room else { continue };
            let bump_stamp = position.0;
            if row.value.subscribed {
                let subscribed = Subscribed { automatic: row.value.automatic, bump_stamp };
                changes.subscribed.entry(room).or_default().insert(entry.root, subscribed);
            } else {
                changes.unsubscribed.entry(room).or_default().insert(entry.root, Unsubscribed { bump_stamp });
            }
        }
        Ok(changes)
    }
}
