//! Events that are missing before one that another server sent: asked for outside the room's worker (I13), in a bounded number of questions (I12).
//!
//! ```text
//! known ◄── gap ◄─┬─ pulled ◄── pulled ◄── sent
//!                 └─ the state after the newest event of the gap, by /state_ids
//! ```
//!
//! What comes before the event that was sent is pulled by `get_missing_events`. If that doesn't reach back to what is known here, the oldest events that were
//! pulled stand at a gap, with the state that the other server gives. The event that was sent itself never does: it could become the room's only
//! extremity, and its state the room's. What can't be judged is not stored, and judged afresh when it comes again.

mod fetch;
mod order;
mod turns;

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use ruma::{EventId, OwnedEventId, OwnedServerName, ServerName};
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::{
    Pdu, ReceiveError, Received, Room,
    receive::{GivenState, Prepared},
    remote::Remote,
};

use fetch::Budget;
pub(crate) use turns::Turns;

/// Servers that are asked, one after the other.
const SERVERS: usize = 4;
/// Events whose keys are fetched and signatures checked beside each other.
const PREPARED_AT_ONCE: usize = 16;

/// One room's fetching for one event that a server sent.
pub(super) struct Pull<'a> {
    room: &'a Room,
    remote: &'a Remote,
    /// Who is asked, one after the other.
    servers: Vec<OwnedServerName>,
    budget: Budget,
    /// States after events of the gap that were had: several events may follow the same one.
    states: Mutex<HashMap<OwnedEventId, GivenState>>,
}

impl Room {
    /// Takes in events that a server sent, with what is missing before them as far as it can be had.
    pub(super) async fn receive_with_missing(
        &self,
        remote: &Remote,
        origin: &ServerName,
        events: Vec<Prepared>,
    ) -> Result<Vec<Received>, ReceiveError> {
        let mut received = self.receive_prepared(events.clone()).await?;
        for (event, answer) in events.iter().zip(&mut received) {
            if matches!(answer, Received::Missing(..)) {
                *answer = self.complete(remote, origin, event).await?;
            }
        }
        Ok(received)
    }

    /// Fetches what one event misses. One room does so for one event at a time: what is fetched for one is often what the next misses.
    async fn complete(&self, remote: &Remote, origin: &ServerName, event: &Prepared) -> Result<Received, ReceiveError> {
        let turns = &self.context().turns;
        let turn = turns.of(self.nid());
        let _turn = turn.lock().await;
        let answer = self.receive_one(event.clone()).await?;
        let (id, clock) = (event.pdu.event_id(), &self.context().clock);
        if !matches!(answer, Received::Missing(..)) || turns.failed_lately(id, clock.monotonic()) {
            return Ok(answer);
        }
        let pull = Pull::new(self, remote, origin, &event.pdu).await?;
        let answer = pull.complete(event, answer).await?;
        if let Received::Missing(_, ids) = &answer {
            turns.failed(id, clock.monotonic());
            tracing::debug!(%origin, room_id = %self.id(), event_id = %id, missing = ids.len(), "an event can't be judged");
        }
        Ok(answer)
    }

    async fn receive_one(&self, event: Prepared) -> Result<Received, ReceiveError> {
        let received = self.receive_prepared(vec![event]).await?;
        received.into_iter().next().ok_or(ReceiveError::Unavailable)
    }
}

impl<'a> Pull<'a> {
    /// Asks the server that sent the event first, then its sender's own, then others of the room.
    async fn new(room: &'a Room, remote: &'a Remote, origin: &ServerName, pdu: &Pdu) -> Result<Self, ReceiveError> {
        let own_name = &room.context().options.server_name;
        let others = room.other_servers(SERVERS).await?;
        let mut servers = vec![origin.to_owned()];
        for server in std::iter::once(pdu.sender().server_name()).chain(others.iter().map(|server| &**server)) {
            if servers.len() < SERVERS && server != own_name && servers.iter().all(|known| known != server) {
                servers.push(server.to_owned());
            }
        }
        Ok(Self::of(room, remote, servers))
    }

    /// Fetching from some servers, one after the other, that is for no event that was sent.
    pub(super) fn of(room: &'a Room, remote: &'a Remote, servers: Vec<OwnedServerName>) -> Self {
        let budget = Budget::new(room.context().clock.clone());
        Self { room, remote, servers, budget, states: Mutex::default() }
    }

    /// What becomes of the event with all that can be had.
    async fn complete(&self, event: &Prepared, answer: Received) -> Result<Received, ReceiveError> {
        // What lies between often brings what authorises the event, and the state at a gap always does.
        if self.room.not_in_timeline(event.pdu.prev_events()).await?.is_empty() {
            return self.with_auth_events(event, answer).await;
        }
        for pulled in self.between(&event.pdu).await? {
            self.place(pulled).await?;
        }
        let answer = self.room.receive_one(event.clone()).await?;
        self.with_auth_events(event, answer).await
    }

    /// Takes in an event that was pulled; where it doesn't follow what is known, with the state there.
    async fn place(&self, mut event: Prepared) -> Result<(), ReceiveError> {
        for id in self.room.not_in_timeline(event.pdu.prev_events()).await? {
            let Some(state) = self.state_after(&id).await? else { return Ok(()) };
            event.given.push(state);
        }
        let answer = self.room.receive_one(event.clone()).await?;
        self.with_auth_events(&event, answer).await.map(drop)
    }

    /// What becomes of an event once the auth events that it misses are here, if they can be had.
    async fn with_auth_events(&self, event: &Prepared, answer: Received) -> Result<Received, ReceiveError> {
        let Received::Missing(_, ids) = &answer else { return Ok(answer) };
        let auth = event.pdu.auth_events().iter().cloned().chain(event.pdu.create_event_id());
        let wanted: Vec<_> = auth.filter(|id| ids.contains(id)).collect();
        if wanted.is_empty() {
            return Ok(answer);
        }
        self.fetch_auth_events(event.pdu.event_id(), &wanted).await?;
        self.room.receive_one(event.clone()).await
    }

    /// Takes in the auth events of an event that are not here, if they can be had.
    pub(super) async fn fetch_auth_events(
        &self,
        event_id: &EventId,
        auth_events: &[OwnedEventId],
    ) -> Result<(), ReceiveError> {
        if self.unknown(auth_events).await?.is_empty() {
            return Ok(());
        }
        let chain = self.auth_chain(event_id).await;
        self.take_outliers(chain).await?;
        let wanted = self.unknown(auth_events).await?;
        if !wanted.is_empty() {
            let events = self.events(&wanted).await;
            self.take_outliers(events).await?;
        }
        Ok(())
    }

    /// The state after an event that is not part of the room's DAG here, as another server gives it. `None`: it can't be had whole.
    pub(super) async fn state_after(&self, id: &OwnedEventId) -> Result<Option<GivenState>, ReceiveError> {
        let mut states = self.states.lock().await;
        if let Some(known) = states.get(id) {
            return Ok(Some(known.clone()));
        }
        for server in &self.servers {
            let Some(ids) = self.state_ids(server, id).await else { continue };
            let all: Vec<_> = ids.pdu_ids.iter().chain(&ids.auth_chain_ids).chain([id]).cloned().collect();
            let unknown = self.unknown(&all).await?;
            let events = self.state_events(server, id, &unknown, all.len()).await;
            self.take_outliers(events).await?;
            let mut state = ids.pdu_ids;
            state.push(id.clone());
            if !self.unknown(&state).await?.is_empty() {
                continue;
            }
            if let Ok(given) = self.room.given_state(state).await? {
                states.insert(id.clone(), given.clone());
                return Ok(Some(given));
            }
        }
        Ok(None)
    }

    /// Takes events in for their place in auth chains and states. Of those that are known already nothing is looked at.
    pub(super) async fn take_outliers(&self, events: Vec<Box<RawValue>>) -> Result<(), ReceiveError> {
        let prepared = self.prepare(events, true).await?;
        let ordered = order::each_after(prepared, |pdu| pdu.auth_events());
        self.room.receive_prepared(ordered).await.map(drop)
    }

    /// Those events that are of this room, properly signed and not known yet; an outlier counts as known only to who wants it as an outlier.
    pub(super) async fn prepare(
        &self,
        events: Vec<Box<RawValue>>,
        outlier: bool,
    ) -> Result<Vec<Prepared>, ReceiveError> {
        let version = self.room.version();
        let parsed = events.iter().filter_map(|event| match Pdu::parse(version, event.get().as_bytes()) {
            Ok(pdu) => Some((pdu.event_id().clone(), pdu)),
            Err(error) => {
                tracing::debug!(room_id = %self.room.id(), %error, "something that is no event was given");
                None
            }
        });
        let by_id: HashMap<_, _> = parsed.collect();
        let ids: Vec<_> = by_id.keys().cloned().collect();
        let unknown = if outlier { self.unknown(&ids).await? } else { self.room.not_in_timeline(&ids).await? };
        let prepared = stream::iter(unknown)
            .map(|id| {
                let pdu = by_id[&id].clone();
                async move { (self.room.prepare_parsed(pdu, outlier, self.remote).await, id) }
            })
            .buffer_unordered(PREPARED_AT_ONCE);
        let mut good = Vec::new();
        let mut prepared = std::pin::pin!(prepared);
        while let Some((prepared, id)) = prepared.next().await {
            match prepared {
                Ok(event) => good.push(event),
                Err(error) => tracing::debug!(event_id = %id, %error, "an event that was given is not good"),
            }
        }
        Ok(good)
    }
}
