//! What is aggregated of the events that relate to those of a page (specification, client-server API, "Aggregations of child events").
//!
//! One look-up for the whole page says which of its events have anything to aggregate; most have not.

use std::{collections::HashMap, sync::Arc};

use primitives::{Rank, Rix};
use storage::{
    Direction, KeyRange, ReadError,
    schema::{
        history::{RelationCountRow, RelationCounts, ThreadSenders},
        rooms::{RelationKind, RelationRow, Relations},
    },
};

use super::Shower;
use crate::render::{Bundle, ClientEvent, Reference, References, StoredEvent, ThreadSummary};
use crate::visibility::Standing;

/// Replacements of one event that are looked at, and how many valid ones are compared.
const REPLACEMENTS_LOOKED_AT: usize = 1_000;
const REPLACEMENTS_COMPARED: usize = 100;
/// References to one event that are listed.
const REFERENCES: usize = 100;
/// Events of a thread that are looked at for the newest that the reader sees.
const THREAD_LOOKED_AT: usize = 200;
/// Relations that are read at once.
const PAGE: usize = 20;
/// Events of a thread that are counted one by one, for those who have left the room.
const COUNTED: usize = 1_000;

/// What there is to aggregate, by the number of the event.
type Counts = HashMap<Rix, RelationCountRow>;

impl Shower<'_> {
    /// Shows events in their order, with what is aggregated of those that relate to them.
    pub(crate) async fn show_with_relations(
        &mut self,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<ClientEvent>, ReadError> {
        let mut bundles = self.bundles(events).await?;
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let mut event = self.show(event).await?;
            event.unsigned.relations = bundles.remove(&event.event.rix).map(Box::new);
            shown.push(event);
        }
        Ok(shown)
    }

    /// The bundles of a page's events; those with nothing to aggregate have none.
    async fn bundles(&mut self, events: &[Arc<StoredEvent>]) -> Result<HashMap<Rix, Bundle>, ReadError> {
        let counts = self.counts(events).await?;
        let mut bundles = HashMap::new();
        let mut latest = HashMap::new();
        for event in events {
            let Some(counts) = counts.get(&event.rix) else { continue };
            let bundle = self.without_thread(event, counts).await?;
            if !bundle.is_empty() {
                bundles.insert(event.rix, bundle);
            }
            if counts.threaded > 0
                && may_be_root(event)
                && let Some(newest) = self.newest_of_thread(event, counts).await?
            {
                latest.insert(event.rix, newest);
            }
        }
        // The newest events of threads have bundles of their own, but as they relate to their root, no threads.
        let newest: Vec<_> = latest.values().cloned().collect();
        let counts_of_newest = self.counts(&newest).await?;
        for event in events {
            let (Some(newest), Some(counts)) = (latest.get(&event.rix), counts.get(&event.rix)) else { continue };
            let mut latest_event = self.show(newest).await?;
            if let Some(counts) = counts_of_newest.get(&newest.rix) {
                let bundle = self.without_thread(newest, counts).await?;
                latest_event.unsigned.relations = (!bundle.is_empty()).then(|| Box::new(bundle));
            }
            let thread = ThreadSummary {
                latest_event,
                count: self.thread_size(event, counts).await?,
                current_user_participated: self.participated(event).await?,
            };
            bundles.entry(event.rix).or_default().thread = Some(thread);
        }
        Ok(bundles)
    }

    /// State events have no bundles.
    async fn counts(&self, events: &[Arc<StoredEvent>]) -> Result<Counts, ReadError> {
        let messages: Vec<_> = events.iter().filter(|event| event.header.state_key.is_none()).collect();
        let keys: Vec<_> = messages.iter().map(|event| (self.room.nid, self.room.target_hash(event))).collect();
        let rows = self.room.view.multi_get::<RelationCounts>(&keys).await?;
        Ok(messages.into_iter().zip(rows).filter_map(|(event, row)| Some((event.rix, row?))).collect())
    }

    async fn without_thread(&mut self, event: &StoredEvent, counts: &RelationCountRow) -> Result<Bundle, ReadError> {
        let mut bundle = Bundle::default();
        if counts.replacements > 0
            && let Some(newest) = self.newest_replacement(event).await?
        {
            bundle.replacement = Some(self.show(&newest).await?);
        }
        if counts.references > 0 {
            let chunk = self.references(event).await?;
            bundle.references = (!chunk.is_empty()).then_some(References { chunk });
        }
        Ok(bundle)
    }

    /// The newest valid replacement: by the time that its sender claims, then by its id.
    async fn newest_replacement(&mut self, event: &StoredEvent) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        if event.facts().rel_type == Some("m.replace") || self.is_emptied(event).await? {
            return Ok(None);
        }
        let range = KeyRange::prefix(&(self.room.nid, self.room.target_hash(event), RelationKind::Replace));
        let rows = self.room.view.scan::<Relations>(&range, REPLACEMENTS_LOOKED_AT, Direction::Backward).await?.rows;
        let may_replace = |row: &RelationRow| {
            row.sender == event.header.sender
                && row.event_type == event.header.event_type
                && row.target == event.header.event_id
        };
        let valid = rows.into_iter().filter(|(_, row)| may_replace(row)).map(|((.., rix), _)| rix);
        let candidates: Vec<_> = valid.take(REPLACEMENTS_COMPARED).collect();
        let mut newest: Option<Arc<StoredEvent>> = None;
        for candidate in self.room.events(&candidates).await? {
            let order = |event: &StoredEvent| (event.header.origin_server_ts, event.header.event_id.clone());
            if has_new_content(&candidate)
                && !self.is_emptied(&candidate).await?
                && newest.as_ref().is_none_or(|newest| order(newest) < order(&candidate))
                && self.eyes.sees(&candidate.header).await?
            {
                newest = Some(candidate);
            }
        }
        Ok(newest)
    }

    async fn references(&mut self, event: &StoredEvent) -> Result<Vec<Reference>, ReadError> {
        let range = KeyRange::prefix(&(self.room.nid, self.room.target_hash(event), RelationKind::Reference));
        let rows = self.room.view.scan::<Relations>(&range, REFERENCES, Direction::Forward).await?.rows;
        let rixes: Vec<_> = rows.into_iter().map(|((.., rix), _)| rix).collect();
        let mut chunk = Vec::with_capacity(rixes.len());
        for reference in self.room.events(&rixes).await? {
            if self.may_relate(&reference).await? {
                chunk.push(Reference { event_id: reference.header.event_id.clone() });
            }
        }
        Ok(chunk)
    }

    /// The newest event of a thread that the reader sees.
    async fn newest_of_thread(
        &mut self,
        root: &StoredEvent,
        counts: &RelationCountRow,
    ) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        if let Some((_, rix)) = counts.latest
            && let Some(event) = self.room.event(rix).await?
            && self.may_relate(&event).await?
        {
            return Ok(Some(event));
        }
        let mut rest = Some(KeyRange::prefix(&(self.room.nid, self.room.target_hash(root), RelationKind::Thread)));
        let mut looked_at = 0;
        while let Some(range) = rest.filter(|_| looked_at < THREAD_LOOKED_AT) {
            let page = self.room.view.scan_keys::<Relations>(&range, PAGE, Direction::Backward).await?;
            looked_at += page.keys.len();
            for (.., rix) in page.keys {
                if let Some(event) = self.room.event(rix).await?
                    && self.may_relate(&event).await?
                {
                    return Ok(Some(event));
                }
            }
            rest = page.rest;
        }
        Ok(None)
    }

    /// How many events a thread has for the reader: those of users whom they ignore don't count, and for one who has left, those since.
    async fn thread_size(&self, root: &StoredEvent, counts: &RelationCountRow) -> Result<u64, ReadError> {
        let hash = self.room.target_hash(root);
        if let Standing::Left { rank, rix, .. } = self.eyes.standing() {
            let stay = KeyRange::until(
                &(self.room.nid, hash, RelationKind::Thread),
                &(self.room.nid, hash, RelationKind::Thread, rank, rix),
            );
            let page = self.room.view.scan_keys::<Relations>(&stay, COUNTED, Direction::Backward).await?;
            return Ok(page.keys.len() as u64);
        }
        let key = |user: &str| (self.room.nid, hash, self.room.caches.hash.hash8(&[user.as_bytes()]));
        let ignored: Vec<_> = self.eyes.ignored().map(key).collect();
        let rows = self.room.view.multi_get::<ThreadSenders>(&ignored).await?;
        let ignored: u64 = rows.into_iter().flatten().map(|row| u64::from(row.count)).sum();
        Ok(u64::from(counts.threaded).saturating_sub(ignored))
    }

    /// Whether the reader sent a thread's root or an event of it.
    pub(super) async fn participated(&self, root: &StoredEvent) -> Result<bool, ReadError> {
        let user = self.reader().user_id.as_str();
        if root.header.sender == user {
            return Ok(true);
        }
        let user = self.room.caches.hash.hash8(&[user.as_bytes()]);
        self.room.view.contains::<ThreadSenders>(&(self.room.nid, self.room.target_hash(root), user)).await
    }

    /// Whether the reader is told of an event that relates to another.
    pub(super) async fn may_relate(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        Ok(!self.ignores(event) && self.eyes.sees(&event.header).await?)
    }
}

/// An event that itself relates to another is no root.
pub(crate) fn may_be_root(event: &StoredEvent) -> bool {
    event.header.state_key.is_none() && event.facts().rel_type.is_none()
}

/// What is encrypted hides whether it has.
fn has_new_content(event: &StoredEvent) -> bool {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        _new_content: serde_json::Map<String, serde_json::Value>,
    }
    event.header.event_type == "m.room.encrypted" || event.content_as::<Content>().is_some()
}

/// A place in topological order, of a key of [`Relations`].
pub(super) fn place_of<A, B, C>((_, _, _, rank, rix): &(A, B, C, Rank, Rix)) -> (Rank, Rix) {
    (*rank, *rix)
}
