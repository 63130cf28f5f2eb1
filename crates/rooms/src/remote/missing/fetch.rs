//! The questions: each bounded in what it brings, all together in number and time.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use federation_client::{
    RemoteError,
    calls::events::{MissingEvents, RawPdu, StateIds},
};
use futures_util::{StreamExt, stream};
use primitives::SharedClock;
use ruma::{EventId, OwnedEventId, ServerName};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventHeaders, EventIds, EventKind, RoomHeads, Timeline},
};

use super::{Pull, order};
use crate::{
    Pdu, ReceiveError, Room,
    event_key::{event_key, find_event},
    receive::Prepared,
};

/// Questions for one event that was sent, those for single events included.
const QUESTIONS: usize = 600;
/// The longest that is asked for one event that was sent: no question is begun after this.
const LONGEST: Duration = Duration::from_mins(2);
/// Events that are asked for beside each other.
const AT_ONCE: usize = 8;
/// Events of a state that are asked for one by one at most; of more the whole state is asked for.
const ONE_BY_ONE: usize = 500;
/// The same where they are more than a tenth of the state.
const ONE_BY_ONE_OF_MANY: usize = 50;
/// The most events of a state and its auth chain that are looked at.
const STATE_MAX: usize = 300_000;
/// The most events of an auth chain that are taken in for one event.
const CHAIN_MAX: usize = 10_000;
/// Ids that are looked up at once.
const PAGE: usize = 500;

/// What may still be asked.
pub(super) struct Budget {
    clock: SharedClock,
    until: Duration,
    questions: AtomicUsize,
}

impl Budget {
    pub(super) fn new(clock: SharedClock) -> Self {
        let until = clock.monotonic().saturating_add(LONGEST);
        Self { clock, until, questions: AtomicUsize::new(QUESTIONS) }
    }

    /// Takes one question; `false`: there has been enough.
    fn take(&self) -> bool {
        let one_less = |left: usize| left.checked_sub(1);
        self.clock.monotonic() < self.until
            && self.questions.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).is_ok()
    }
}

impl Pull<'_> {
    /// The events that lie between an event and what is known here, as far as the servers give them: each after those that it follows.
    pub(super) async fn between(&self, pdu: &Pdu) -> Result<Vec<Prepared>, ReceiveError> {
        let (earliest, min_depth) = self.room.known_edge().await?;
        let latest = [pdu.event_id().clone()];
        let limit = self.room.context().options.missing_events_max;
        let missing = MissingEvents { earliest: &earliest, latest: &latest, limit, min_depth };
        for server in &self.servers {
            if !self.budget.take() {
                break;
            }
            let given = self.remote.client.get_missing_events(server, self.room.id(), missing).await;
            if let Some(events) = self.noted(server, "get_missing_events", given)
                && !events.is_empty()
            {
                let pulled = self.prepare(events, false).await?;
                return Ok(order::each_after(pulled, |pdu| pdu.prev_events()));
            }
        }
        Ok(Vec::new())
    }

    /// The auth chain of an event, from the first server that gives it.
    pub(super) async fn auth_chain(&self, id: &EventId) -> Vec<RawPdu> {
        for server in &self.servers {
            if !self.budget.take() {
                break;
            }
            let given = self.remote.client.event_auth(server, self.room.id(), id).await;
            if let Some(mut chain) = self.noted(server, "event_auth", given) {
                chain.truncate(CHAIN_MAX);
                return chain;
            }
        }
        Vec::new()
    }

    /// The ids of the state before an event and of its auth chain.
    pub(super) async fn state_ids(&self, server: &ServerName, id: &EventId) -> Option<StateIds> {
        if !self.budget.take() {
            return None;
        }
        let given = self.remote.client.state_ids(server, self.room.id(), id).await;
        let ids = self.noted(server, "state_ids", given)?;
        if ids.pdu_ids.len() + ids.auth_chain_ids.len() > STATE_MAX {
            tracing::warn!(%server, room_id = %self.room.id(), "a server gives a state that is too large");
            return None;
        }
        Some(ids)
    }

    /// Those events that are unknown of the `all` events of the state before an event, of its auth chain, and that event: one by one, or if they are many all
    /// at once.
    pub(super) async fn state_events(
        &self,
        server: &ServerName,
        id: &OwnedEventId,
        unknown: &[OwnedEventId],
        all: usize,
    ) -> Vec<RawPdu> {
        let few = unknown.len() <= ONE_BY_ONE_OF_MANY || unknown.len() <= ONE_BY_ONE && unknown.len() * 10 <= all;
        if few {
            return self.events(unknown).await;
        }
        if !self.budget.take() {
            return Vec::new();
        }
        let given = self.remote.client.state(server, self.room.id(), id).await;
        let mut events = self.events(std::slice::from_ref(id)).await;
        if let Some(state) = self.noted(server, "state", given) {
            events.extend(state.pdus.into_iter().chain(state.auth_chain).take(STATE_MAX));
        }
        events
    }

    /// Single events, a few at a time. Those that can't be had are left out, and whatever is another event than was asked for.
    pub(in crate::remote) async fn events(&self, ids: &[OwnedEventId]) -> Vec<RawPdu> {
        let asked = stream::iter(ids.to_vec()).map(|id| self.event(id)).buffer_unordered(AT_ONCE);
        asked.filter_map(std::future::ready).collect().await
    }

    async fn event(&self, id: OwnedEventId) -> Option<RawPdu> {
        for server in &self.servers {
            if !self.budget.take() {
                break;
            }
            let given = self.remote.client.event(server, &id).await;
            let Some(event) = self.noted(server, "event", given) else { continue };
            match Pdu::parse(self.room.version(), event.get().as_bytes()) {
                Ok(pdu) if *pdu.event_id() == id => return Some(event),
                _ => tracing::debug!(%server, event_id = %id, "a server gave another event than it was asked for"),
            }
        }
        None
    }

    fn noted<T>(&self, server: &ServerName, asked: &str, given: Result<T, RemoteError>) -> Option<T> {
        given
            .inspect_err(|error| {
                tracing::debug!(%server, room_id = %self.room.id(), asked, %error, "a server did not answer");
            })
            .ok()
    }

    /// Those events that are not stored in this room, each once.
    pub(in crate::remote) async fn unknown(&self, ids: &[OwnedEventId]) -> Result<Vec<OwnedEventId>, ReceiveError> {
        let (view, room) = (self.room.context().storage.view(), self.room.nid());
        let ids: BTreeSet<_> = ids.iter().collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let mut unknown = Vec::new();
        for ids in ids.chunks(PAGE) {
            let keys: Vec<_> = ids.iter().map(|id| (event_key(id),)).collect();
            for (id, place) in ids.iter().zip(view.multi_get::<EventIds>(&keys).await?) {
                if place.is_none_or(|place| place.room != room) {
                    unknown.push((*id).clone());
                }
            }
        }
        Ok(unknown)
    }
}

impl Room {
    /// The room's extremities, and the depth of the oldest event of its timeline here.
    async fn known_edge(&self) -> Result<(Vec<OwnedEventId>, u64), ReadError> {
        let (view, room) = (self.context().storage.view(), self.nid());
        let head = view.get::<RoomHeads>(&(room,)).await?.unwrap_or_default();
        let mut ids = Vec::new();
        for rix in head.extremities {
            let header = view.get::<EventHeaders>(&(room, rix)).await?;
            ids.extend(header.and_then(|header| OwnedEventId::try_from(header.value.event_id).ok()));
        }
        let oldest = view.scan::<Timeline>(&KeyRange::prefix(&(room,)), 1, Direction::Forward).await?.rows;
        let depth = match oldest.first() {
            Some(((_, _, rix), ())) => view.get::<EventHeaders>(&(room, *rix)).await?.map(|header| header.value.depth),
            None => None,
        };
        Ok((ids, depth.unwrap_or(0)))
    }

    /// Those events that are not part of the room's DAG here, though they may be part of its auth chains and states.
    pub(in crate::remote) async fn not_in_timeline(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<Vec<OwnedEventId>, ReadError> {
        let (view, room) = (self.context().storage.view(), self.nid());
        let mut missing = Vec::new();
        for id in ids {
            let header = match find_event(&view, room, id).await? {
                Some(rix) => view.get::<EventHeaders>(&(room, rix)).await?,
                None => None,
            };
            if header.is_none_or(|header| header.value.kind == EventKind::Outlier) {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }
}
