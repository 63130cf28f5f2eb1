//! History, for other servers: what precedes some events, and what lies between.

use std::collections::{BTreeSet, VecDeque};

use primitives::{Rank, Rix};
use ruma::OwnedEventId;
use storage::schema::rooms::{EventHeaders, Verdict};

use super::{ServeError, ServedPdu, ServedRoom};

/// Events looked at for one that is sent, at most: rejected ones are not sent, but followed.
const LOOKED_AT_PER_EVENT: usize = 10;

/// Which events another server misses (`POST /get_missing_events/{roomId}`).
#[derive(Clone, Debug)]
pub struct MissingEventsRequest {
    /// Those that it has: neither they nor what only they follow is wanted.
    pub earliest_events: Vec<OwnedEventId>,
    /// Those whose previous events it lacks.
    pub latest_events: Vec<OwnedEventId>,
    /// Events of a lower depth are not wanted.
    pub min_depth: u64,
    /// At most how many.
    pub limit: usize,
}

impl ServedRoom {
    /// Events and what precedes them, newest first in topological order (`GET /backfill/{roomId}`). Of the events that it is to start from, those that are
    /// not of this room are left out.
    ///
    /// # Errors
    /// Not found, if none of them is.
    pub async fn backfill(&self, from: &[OwnedEventId], limit: usize) -> Result<Vec<ServedPdu>, ServeError> {
        let room = self.room_view().await?;
        let anchors = self.anchors(&room, from).await?;
        if anchors.is_empty() {
            return Err(ServeError::NotFound);
        }
        let mut open: BTreeSet<(Rank, Rix)> = anchors.iter().map(|anchor| (anchor.header.rank, anchor.rix)).collect();
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while found.len() < limit
            && looked_at < limit * LOOKED_AT_PER_EVENT
            && let Some((_, rix)) = open.pop_last()
        {
            looked_at += 1;
            let Some(header) = room.view.get::<EventHeaders>(&(room.nid, rix)).await? else { continue };
            if !matches!(header.value.verdict, Verdict::Rejected(_)) {
                found.push(rix);
            }
            // What precedes an event has a lower rank: nothing comes onto the heap twice once it is off it.
            let keys: Vec<_> = header.value.prev.iter().map(|prev| (room.nid, *prev)).collect();
            let previous = room.view.multi_get::<EventHeaders>(&keys).await?;
            let ranked = keys.iter().zip(previous).filter_map(|((_, prev), row)| Some((row?.value.rank, *prev)));
            open.extend(ranked);
        }
        Ok(self.server_shower(&room).show(&found).await?)
    }

    /// The events between those that a server has and others, oldest first (`POST /get_missing_events/{roomId}`). They are looked for breadth
    /// first from the latest ones, so that what is left out beyond the limit is the oldest.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn missing_events(&self, request: &MissingEventsRequest) -> Result<Vec<ServedPdu>, ServeError> {
        let room = self.room_view().await?;
        let mut seen = BTreeSet::new();
        for id in &request.earliest_events {
            seen.extend(room.find_event(id).await?);
        }
        let mut front = VecDeque::new();
        for anchor in self.anchors(&room, &request.latest_events).await? {
            if seen.insert(anchor.rix) {
                front.push_back(anchor.header.prev);
            }
        }
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some(prev) = front.pop_front() {
            for rix in prev {
                let enough = found.len() >= request.limit || looked_at >= request.limit * LOOKED_AT_PER_EVENT;
                if enough || !seen.insert(rix) {
                    continue;
                }
                looked_at += 1;
                let Some(header) = room.view.get::<EventHeaders>(&(room.nid, rix)).await? else { continue };
                if header.value.depth < request.min_depth {
                    continue;
                }
                if !matches!(header.value.verdict, Verdict::Rejected(_)) {
                    found.push((header.value.rank, rix));
                }
                front.push_back(header.value.prev);
            }
        }
        found.sort_unstable();
        let found: Vec<_> = found.into_iter().map(|(_, rix)| rix).collect();
        Ok(self.server_shower(&room).show(&found).await?)
    }
}
