//! Filling gaps in a room's history with what other servers have (server-server API, "Backfilling and retrieving missing events").
//!
//! A client that reads back meets a gap; before it is answered, the events before the gap are asked for. That takes a bounded number of questions, and the
//! client waits for a bounded time: what comes later is there for the next page. One room fills one gap at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use federation_client::calls::events::RawPdu;
use primitives::Rank;
use ruma::{OwnedEventId, OwnedServerName, ServerName};
use serde::Deserialize;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventHeaders, Gaps, Timeline},
};
use tokio::sync::oneshot;

use super::{Remote, missing::Pull};
use crate::{Pdu, ReceiveError, Received, Room, current::Current, receive::Prepared};

/// Servers that are asked for one part of the history.
const MAX_SERVERS: usize = 5;
/// Events that one question names.
const MAX_NAMED: usize = 20;
/// Events of one answer that may stand at a new gap, each with the state that the other server gives.
const MAX_OLDEST: usize = 5;
/// Servers in the room among which some are chosen.
const SERVERS_LOOKED_AT: usize = 20;
/// Users with power whose servers are asked.
const MAX_POWERFUL: usize = 10;

/// A place in the timeline before which events are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The rank of the event that they are missing before.
    pub(crate) rank: Rank,
    /// Which are missing.
    pub(crate) missing: Vec<OwnedEventId>,
}

/// What came of filling a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There is more history than before.
    More,
    /// Nobody who was asked has any, or nobody can be asked.
    Nothing,
    /// It takes longer than somebody waits.
    Later,
}

impl Room {
    /// Fills a gap with some of what is missing, and waits for that no longer than until a time of the monotonic clock.
    ///
    /// # Errors
    /// The store could not be read or written.
    pub(crate) async fn fill_gap(&self, gap: Gap, until: Duration) -> Result<Filled, ReceiveError> {
        let Some(remote) = self.context().remote.clone() else { return Ok(Filled::Nothing) };
        let room = self.clone();
        let filled = self.in_turn(until, async move { room.ask_for_history(&remote, &gap).await }).await;
        filled.unwrap_or(Ok(Filled::Later))
    }

    /// Does what fetches history of the room, when nobody else does, and waits for that no longer than until a time of the monotonic clock. `None`: it
    /// takes longer.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        until: Duration,
        work: impl Future<Output = Result<T, ReceiveError>> + Send + 'static,
    ) -> Option<Result<T, ReceiveError>> {
        let context = self.context();
        let late = context.clock.sleep(until.saturating_sub(context.clock.monotonic()));
        let (turn, (done, outcome)) = (context.history_turns.of(self.nid()), oneshot::channel());
        let work = async {
            let held = turn.lock_owned().await;
            // Goes on when nobody waits any more.
            self.rooms().spawn(async move {
                drop(done.send(work.await));
                drop(held);
            });
            outcome.await.unwrap_or(Err(ReceiveError::Unavailable))
        };
        tokio::select! {
            outcome = work => Some(outcome),
            () = late => None,
        }
    }

    /// The gap at a rank, as it is now.
    pub(crate) async fn gap_at(&self, rank: Rank) -> Result<Option<Gap>, ReadError> {
        let row = self.context().storage.view().get::<Gaps>(&(self.nid(), rank)).await?;
        Ok(row.map(|row| Gap::of(rank, &row.0)))
    }

    async fn ask_for_history(&self, remote: &Remote, gap: &Gap) -> Result<Filled, ReceiveError> {
        // Somebody else may have filled it meanwhile.
        if self.gap_at(gap.rank).await?.as_ref() != Some(gap) {
            return Ok(Filled::More);
        }
        let (turns, clock) = (&self.context().history_turns, &self.context().clock);
        let Some(first) = gap.missing.first() else { return Ok(Filled::Nothing) };
        if turns.failed_lately(first, clock.monotonic())
            || !self.has_server(&self.context().options.server_name).await?
        {
            return Ok(Filled::Nothing);
        }
        let named = &gap.missing[..gap.missing.len().min(MAX_NAMED)];
        for server in self.servers_with_history(gap.rank).await? {
            let limit = self.context().options.backfill_max;
            match remote.client.backfill(&server, self.id(), named, limit).await {
                Ok(events) => self.take_history(remote, &server, events, Vec::new()).await?,
                Err(error) => {
                    tracing::debug!(%server, room_id = %self.id(), %error, "a server gave no history");
                    continue;
                }
            }
            if self.gap_at(gap.rank).await?.as_ref() != Some(gap) {
                return Ok(Filled::More);
            }
        }
        turns.failed(first, clock.monotonic());
        Ok(Filled::Nothing)
    }

    /// Takes in what a server gave as history, with the auth events that it needs, which may be in the `chain` that came with it, and the states where it
    /// doesn't reach back to what is known and what follows doesn't say them.
    pub(super) async fn take_history(
        &self,
        remote: &Remote,
        server: &ServerName,
        events: Vec<RawPdu>,
        chain: Vec<RawPdu>,
    ) -> Result<(), ReceiveError> {
        let pull = Pull::of(self, remote, vec![server.to_owned()]);
        let prepared = pull.prepare(events, false).await?;
        let given: BTreeSet<_> = prepared.iter().map(|event| event.pdu.event_id().clone()).collect();
        let auth_of = |event: &Prepared| {
            let auth = event.pdu.auth_events().iter().cloned().chain(event.pdu.create_event_id());
            auth.filter(|id| !given.contains(id)).collect::<Vec<_>>()
        };
        let auth: Vec<_> = prepared.iter().flat_map(auth_of).collect();
        if !chain.is_empty() && !pull.unknown(&auth).await?.is_empty() {
            pull.take_outliers(chain).await?;
        }
        for event in &prepared {
            pull.fetch_auth_events(event.pdu.event_id(), &auth_of(event)).await?;
        }
        let mut received = self.receive_history(prepared.clone()).await?;
        let mut again = Vec::new();
        for (mut event, answer) in prepared.into_iter().zip(&received) {
            let Received::Missing(_, missing) = answer else { continue };
            let missing: Vec<_> = missing.iter().filter(|id| !given.contains(*id)).collect();
            if !missing.is_empty() && again.len() < MAX_OLDEST {
                for id in missing {
                    event.given.extend(pull.state_after(id).await?);
                }
            }
            again.push(event);
        }
        if again.iter().any(|event| !event.given.is_empty()) {
            received = self.receive_history(again).await?;
        }
        tracing::debug!(%server, room_id = %self.id(), events = received.len(), "history came");
        Ok(())
    }

    /// Servers in the room that are likely to have what is before an event: its sender's, the one that made the room, those of users with power, others.
    pub(crate) async fn servers_with_history(&self, rank: Rank) -> Result<Vec<OwnedServerName>, ReadError> {
        let mut likely = self.senders_at(rank).await?;
        let Some(current) = Current::read(self.context(), self.info()).await? else { return Ok(Vec::new()) };
        let create = current.event("m.room.create", "").await?;
        likely.extend(create.map(|create| create.sender().server_name().to_owned()));
        if let Some(levels) = current.event("m.room.power_levels", "").await? {
            likely.extend(powerful(&levels));
        }
        likely.extend(self.other_servers(SERVERS_LOOKED_AT).await?);
        let mut servers: Vec<OwnedServerName> = Vec::new();
        for server in likely {
            let own = server == self.context().options.server_name;
            if servers.len() < MAX_SERVERS && !own && !servers.contains(&server) && current.has_server(&server).await? {
                servers.push(server);
            }
        }
        Ok(servers)
    }

    async fn senders_at(&self, rank: Rank) -> Result<Vec<OwnedServerName>, ReadError> {
        let (view, room) = (self.context().storage.view(), self.nid());
        let range = KeyRange::prefix(&(room, rank));
        let mut servers = Vec::new();
        for (_, _, rix) in view.scan_keys::<Timeline>(&range, MAX_SERVERS, Direction::Forward).await?.keys {
            let header = view.get::<EventHeaders>(&(room, rix)).await?;
            let sender = header.and_then(|header| ruma::OwnedUserId::try_from(header.value.sender).ok());
            servers.extend(sender.map(|sender| sender.server_name().to_owned()));
        }
        Ok(servers)
    }
}

impl Gap {
    /// A gap as it is stored.
    pub(crate) fn of(rank: Rank, missing: &[String]) -> Self {
        Self { rank, missing: missing.iter().filter_map(|id| OwnedEventId::try_from(id.as_str()).ok()).collect() }
    }
}

/// The servers of the users with the most power.
fn powerful(levels: &Pdu) -> Vec<OwnedServerName> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default)]
        users: BTreeMap<ruma::OwnedUserId, serde_json::Value>,
    }
    let users = levels.content_as::<Content>().map(|content| content.users).unwrap_or_default();
    let mut users: Vec<_> = users.into_iter().map(|(user, level)| (level.as_i64().unwrap_or(0), user)).collect();
    users.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    users.into_iter().take(MAX_POWERFUL).map(|(_, user)| user.server_name().to_owned()).collect()
}
