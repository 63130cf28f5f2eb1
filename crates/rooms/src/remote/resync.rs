//! Fetching the whole state of a room that was joined with a part of it (MSC3902), beside everything else: from the server through which it was joined, and where
//! that fails from the others that are said to be in the room, until it is here.
//!
//! What has been fetched is stored as it comes, so that after a kill the same work goes on with what is there. The job that keeps it going is in `jobs`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use federation_client::calls::membership::JoinedRoomParts;
use parking_lot::Mutex;
use primitives::{NodeId, RoomNid};
use ruma::{OwnedEventId, OwnedServerName, ServerName};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{PartialEvent, PartialEvents},
};
use tokio::sync::{Semaphore, oneshot};

use super::{Remote, RemoteMembershipError, given::given, join::take_in, missing::Pull};
use crate::{
    StageError,
    partial::{PartialRequest, Period, Replayed, noted_servers},
    registry::{RoomError, Rooms},
    room::Room,
    worker::Request,
};

/// Rooms whose states are fetched at the same time.
const AT_ONCE: usize = 4;
/// Servers that are asked in one round.
const SERVERS: usize = 20;
/// Events that are fetched one by one; of more, the whole state is fetched.
const ONE_BY_ONE: usize = 50;
/// The most events of a state and its auth chain.
const STATE_MAX: usize = 300_000;
/// The pause after the first round that failed. It doubles with each,
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Notes that one page of a scan reads.
const PAGE: usize = 200;

/// Which rooms' states are being fetched.
#[derive(Debug)]
pub(crate) struct Resyncs {
    rooms: Mutex<HashSet<RoomNid>>,
    places: Semaphore,
}

impl Default for Resyncs {
    fn default() -> Self {
        Self { rooms: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }
}

impl Resyncs {
    /// The rooms whose states are being fetched.
    pub(crate) fn under_way(&self) -> Vec<RoomNid> {
        self.rooms.lock().iter().copied().collect()
    }
}

/// A room whose state is being fetched, until it is dropped.
struct Resyncing {
    resyncs: Arc<Resyncs>,
    room: RoomNid,
}

impl Drop for Resyncing {
    fn drop(&mut self) {
        self.resyncs.rooms.lock().remove(&self.room);
    }
}

/// Why a state could not be made whole now.
#[derive(Debug, thiserror::Error)]
enum ResyncError {
    #[error("no server gives the state")]
    NotGiven,
    #[error("the state that was given does not allow the join")]
    Refused,
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("the store could not be read: {0}")]
    Read(#[from] ReadError),
}

impl Rooms {
    /// Sees to it that the state of a room is being made whole. Answers whether nothing is left to do: it is whole, or nobody of this server is in the room any
    /// more, for whom it would be fetched.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn resync(&self, nid: RoomNid) -> Result<bool, ReadError> {
        if Period::open(&self.context().storage.view(), nid).await?.is_none() {
            return Ok(true);
        }
        let room = match self.room_by_number(nid).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Ok(true),
            Err(RoomError::Storage(error)) => return Err(error),
        };
        let (Some(remote), true) = (self.remote(), room.has_server(&self.options().server_name).await?) else {
            return Ok(true);
        };
        let resyncs = Arc::clone(self.resyncs());
        if !resyncs.rooms.lock().insert(nid) {
            return Ok(false);
        }
        let (held, remote) = (Resyncing { resyncs, room: nid }, remote.clone());
        self.spawn(async move {
            let held = held;
            room.make_whole(&remote, &held.resyncs.places).await;
        });
        Ok(false)
    }
}

impl Room {
    /// Tries until the state is whole, or nobody of this server is in the room any more.
    async fn make_whole(&self, remote: &Remote, places: &Semaphore) {
        let clock = &self.context().clock;
        let began = clock.monotonic();
        for round in 0_u32.. {
            let Ok(place) = places.acquire().await else { return };
            let outcome = self.resync_once(remote, round as usize).await;
            drop(place);
            let error = match outcome {
                Ok(()) => {
                    let took = clock.monotonic().saturating_sub(began);
                    metrics::histogram!("sundial_partial_state_seconds").record(took.as_secs_f64());
                    tracing::info!(room_id = %self.id(), ?took, "the state of a room is whole");
                    return;
                }
                Err(error) => error,
            };
            metrics::counter!("sundial_partial_state_failures_total").increment(1);
            tracing::info!(room_id = %self.id(), %error, round, "the state of a room could not be made whole and is tried again");
            clock.sleep(FIRST_PAUSE.saturating_mul(1 << round.min(16)).min(LONGEST_PAUSE)).await;
            match self.has_server(&self.context().options.server_name).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(room_id = %self.id(), %error, "a room could not be read"),
            }
        }
    }

    /// Fetches what is lacking, and replays what has arrived.
    async fn resync_once(&self, remote: &Remote, round: usize) -> Result<(), ResyncError> {
        let servers = self.servers_to_ask(round).await?;
        while let Some((number, note)) = self.next_lacking().await? {
            let mut given = Vec::with_capacity(note.awaits.len());
            for id in &note.awaits {
                let id = OwnedEventId::try_from(id.as_str()).map_err(|_| ResyncError::NotGiven)?;
                given.push(self.fetch_state_after(remote, &servers, &id).await?);
            }
            self.ask_partial(|reply| PartialRequest::Give { number, given: Ok(given), reply }).await?;
        }
        loop {
            match self.ask_partial(|reply| PartialRequest::Replay { reply }).await? {
                Replayed::Whole => return Ok(()),
                Replayed::More => {}
                Replayed::Waits => return Err(ResyncError::NotGiven),
                Replayed::Refused(number, note) => {
                    let lacking = self.lacking_at(&note).await?;
                    self.ask_partial(|reply| PartialRequest::Give { number, given: Err(lacking), reply }).await?;
                    return Err(ResyncError::Refused);
                }
            }
        }
    }

    /// Whom to ask: first the server through which the room was joined, in later rounds the others first, so that none can hold up the room.
    async fn servers_to_ask(&self, round: usize) -> Result<Vec<OwnedServerName>, ReadError> {
        let view = self.context().storage.view();
        let via = Period::open(&view, self.nid()).await?.and_then(|period| OwnedServerName::try_from(period.via).ok());
        let mut servers: Vec<_> = via.into_iter().collect();
        let others = noted_servers(&view, self.nid()).await?.into_iter().chain(self.other_servers(SERVERS).await?);
        let own = &self.context().options.server_name;
        for server in others {
            if server != *own && !servers.contains(&server) {
                servers.push(server);
            }
        }
        if !servers.is_empty() {
            let by = round % servers.len();
            servers.rotate_left(by);
        }
        servers.truncate(SERVERS);
        Ok(servers)
    }

    /// The first note that lacks a state.
    async fn next_lacking(&self) -> Result<Option<(u32, PartialEvent)>, ReadError> {
        let view = self.context().storage.view();
        let mut rest = Some(KeyRange::prefix(&(self.nid(),)));
        while let Some(range) = rest {
            let page = view.scan::<PartialEvents>(&range, PAGE, Direction::Forward).await?;
            if let Some(((_, number), note)) = page.rows.into_iter().find(|(_, note)| !note.awaits.is_empty()) {
                return Ok(Some((number, note)));
            }
            rest = page.rest;
        }
        Ok(None)
    }

    /// The events the states after which were given to a note.
    async fn lacking_at(&self, note: &PartialEvent) -> Result<Vec<String>, ReadError> {
        let view = self.context().storage.view();
        let event = crate::load::event(&view, self.nid(), self.version(), note.rix).await?;
        let mut lacking = Vec::new();
        for id in event.pdu.prev_events() {
            let known = crate::event_key::find_event(&view, self.nid(), id).await?;
            if known.is_none_or(|rix| !note.prev.contains(&rix)) {
                lacking.push(id.to_string());
            }
        }
        Ok(lacking)
    }

    /// The root of the state after an event, as the first server gives it that gives it whole.
    async fn fetch_state_after(
        &self,
        remote: &Remote,
        servers: &[OwnedServerName],
        id: &OwnedEventId,
    ) -> Result<NodeId, ResyncError> {
        for server in servers {
            match self.state_after_from(remote, server, servers, id).await {
                Ok(Some(root)) => return Ok(root),
                Ok(None) => tracing::info!(%server, room_id = %self.id(), "a server doesn't give the whole state"),
                Err(error) => {
                    tracing::info!(%server, room_id = %self.id(), %error, "a server doesn't give the state of a room");
                }
            }
        }
        Err(ResyncError::NotGiven)
    }

    async fn state_after_from(
        &self,
        remote: &Remote,
        server: &ServerName,
        servers: &[OwnedServerName],
        id: &OwnedEventId,
    ) -> Result<Option<NodeId>, RemoteMembershipError> {
        let ids = remote.client.whole_state_ids(server, self.id(), id).await?;
        if ids.pdu_ids.len() + ids.auth_chain_ids.len() > STATE_MAX {
            return Err(RemoteMembershipError::Unusable("its state is too large".to_owned()));
        }
        let mut order = vec![server.to_owned()];
        order.extend(servers.iter().filter(|other| *other != server).cloned());
        let pull = Pull::of(self, remote, order);
        let all: Vec<_> = ids.pdu_ids.iter().chain(&ids.auth_chain_ids).chain([id]).cloned().collect();
        let unknown = pull.unknown(&all).await?;
        if unknown.len() > ONE_BY_ONE {
            self.take_in_whole(remote, server, id).await?;
        }
        // One by one, also what the whole state lacks.
        let unknown = pull.unknown(&all).await?;
        let events = pull.events(&unknown[..unknown.len().min(ONE_BY_ONE)]).await;
        pull.take_outliers(events).await?;
        let mut state = ids.pdu_ids;
        state.push(id.clone());
        if !pull.unknown(&state).await?.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.put_state_together(&state).await?))
    }

    async fn take_in_whole(
        &self,
        remote: &Remote,
        server: &ServerName,
        id: &OwnedEventId,
    ) -> Result<(), RemoteMembershipError> {
        let answer = remote.client.whole_state(server, self.id(), id).await?;
        let parts = answer.read()?;
        let parts = JoinedRoomParts {
            event: None,
            state: parts.pdus,
            auth_chain: parts.auth_chain,
            members_omitted: false,
            servers_in_room: Vec::new(),
        };
        let staging = self.rooms().stage(self.id(), self.version()).await?;
        let given = given(self.version(), self.id(), &parts).await?;
        take_in(&staging, remote, given).await.map(drop)
    }

    async fn ask_partial<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StageError>>) -> PartialRequest,
    ) -> Result<T, StageError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.rooms().ask(self.info(), Request::Partial(request(reply))).await;
        asked.map_err(|_| StageError::Unavailable)?;
        answer.await.unwrap_or(Err(StageError::Unavailable))
    }
}
