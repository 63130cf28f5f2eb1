//! Reading the rooms into the index, and keeping up with them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use primitives::{Rix, RoomNid, StreamPosition};
use tokio_util::sync::CancellationToken;

use crate::{Search, SearchError, blocking, index::RoomPart};

/// How often the rooms that have changed are read. A search does not wait for it: it reads the rooms that it searches first.
const EVERY: Duration = Duration::from_secs(5);
/// How long to wait after something failed.
const AFTER_FAILURE: Duration = Duration::from_mins(1);
/// Rooms whose ends are compared at once.
const ROOMS: usize = 500;
/// Events that are read, and written in one transaction.
const EVENTS: usize = 1_000;
/// Events that a search reads before it answers: more are missing only while an index is being made.
pub(crate) const BEFORE_A_SEARCH: usize = 5_000;

impl Search {
    /// Keeps the index up with the rooms until told to stop.
    pub async fn run(&self, stop: CancellationToken) {
        let mut since = None;
        while !stop.is_cancelled() {
            let pause = match self.sweep(since, &stop).await {
                Ok(position) => {
                    since = Some(position);
                    EVERY
                }
                Err(error) => {
                    tracing::error!(%error, "the search index does not keep up");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = self.0.clock.sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Reads every room whose end the index hasn't reached.
    pub async fn catch_up_all(&self, stop: &CancellationToken) -> Result<(), SearchError> {
        let mut from = RoomNid(0);
        while !stop.is_cancelled() {
            let ends = self.0.reads.room_ends(from, ROOMS).await?;
            let Some((last, _)) = ends.last() else { return Ok(()) };
            from = RoomNid(last.0 + 1);
            for end in ends {
                while !stop.is_cancelled() && self.read_rooms(&[end], EVENTS).await? {}
            }
        }
        Ok(())
    }

    /// One round: of all rooms the first time, and then of those that changed. Answers up to where it was.
    async fn sweep(
        &self,
        since: Option<StreamPosition>,
        stop: &CancellationToken,
    ) -> Result<StreamPosition, SearchError> {
        let (changed, position) = self.0.reads.changed_rooms(since.unwrap_or_default()).await?;
        if since.is_none() {
            self.catch_up_all(stop).await?;
            return Ok(position);
        }
        for end in changed {
            while !stop.is_cancelled() && self.read_rooms(&[end], EVENTS).await? {}
        }
        Ok(position)
    }

    /// Reads what the index lacks of some rooms, up to a number of events. Whether there is more.
    pub(crate) async fn read_rooms(&self, ends: &[(RoomNid, Rix)], at_most: usize) -> Result<bool, SearchError> {
        if ends.iter().all(|(room, end)| self.cursor(*room) >= *end) {
            return Ok(false);
        }
        let _reading = self.0.reading.lock().await;
        let mut left = at_most;
        let mut parts = Vec::new();
        for (room, end) in ends {
            let mut cursor = self.cursor(*room);
            while cursor < *end && left > 0 {
                let page = self.0.reads.index_page(*room, cursor, left.min(EVENTS)).await?;
                // Numbers without an event were given out and not used, or are gone with their room.
                let next = if page.next > cursor { page.next } else { *end };
                left = left.saturating_sub((next.0 - cursor.0) as usize);
                cursor = next;
                parts.push(RoomPart { room: *room, next, entries: page.entries });
                if parts.iter().map(|part| part.entries.len()).sum::<usize>() >= EVENTS {
                    self.write(std::mem::take(&mut parts)).await?;
                }
            }
        }
        self.write(parts).await?;
        Ok(ends.iter().any(|(room, end)| self.cursor(*room) < *end))
    }

    fn cursor(&self, room: RoomNid) -> Rix {
        self.0.cursors.lock().get(&room).copied().unwrap_or_default()
    }

    async fn write(&self, parts: Vec<RoomPart>) -> Result<(), SearchError> {
        if parts.is_empty() {
            return Ok(());
        }
        let index = Arc::clone(&self.0.index);
        let parts = blocking(move || index.write(&parts).map(|()| parts)).await?;
        let mut cursors = self.0.cursors.lock();
        let mut indexed = 0;
        for part in parts {
            indexed += part.entries.len() as u64;
            cursors.insert(part.room, part.next);
        }
        self.0.indexed.fetch_add(indexed, Ordering::Relaxed);
        Ok(())
    }
}
