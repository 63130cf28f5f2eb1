//! Walks over events that relate to each other, some of which are not here (MSC2836): other servers are asked for them.
//!
//! What they give is history like any other, and is taken in where something here follows it. Events that lie further back are reached through the history
//! between. So a walk finds in the end what is in the room's timeline here, and nothing else.

use std::{collections::BTreeSet, time::Duration};

use federation_client::calls::relationships::{RelatedEvents, RelationshipsQuery};
use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use storage::Direction;

use super::{
    Remote,
    reading::{PATIENCE, unwritten},
};
use crate::{
    Pdu, ReadRoomError, Reader, ReceiveError, Room, Rooms,
    read::{Relationships, RelationshipsRequest},
};

/// Events for which other servers are asked in one walk.
const QUESTIONS: usize = 5;
/// Servers that are asked for one event.
const SERVERS: usize = 3;
/// The most events that one question asks for.
const MAX_EVENTS: u64 = 100;
/// Events of an answer to which the history between is fetched.
const FETCHED_BACK_TO: usize = 5;

impl Rooms {
    /// Walks from an event over those that it relates to, or that relate to it, with what other servers have of them. Not found if the reader may not
    /// see the event. For an event that is not here at all servers in `room_id` are asked, if the reader is in that room.
    ///
    /// # Errors
    /// Not found, or the store could not be read.
    pub async fn relationships(
        &self,
        reader: &Reader,
        query: &RelationshipsQuery,
        room_id: Option<&RoomId>,
    ) -> Result<Relationships, ReadRoomError> {
        let request = RelationshipsRequest::of(query).map_err(|_| ReadRoomError::NotFound)?;
        let until = self.context().clock.monotonic().saturating_add(PATIENCE);
        let mut asked = BTreeSet::new();
        loop {
            let walked = self.reads().walk_relations(reader, &request).await;
            let (room_id, wanted) = match (&walked, room_id) {
                (Ok(walked), _) => (&*walked.room_id, walked.wanted.clone()),
                (Err(ReadRoomError::NotFound), Some(room_id))
                    if self.reads().may_ask_for(reader, room_id, &request.event_id).await? =>
                {
                    (room_id, vec![request.event_id.clone()])
                }
                _ => return walked.map(|walked| walked.found),
            };
            let next = wanted.into_iter().find(|id| !asked.contains(id)).filter(|_| asked.len() < QUESTIONS);
            let more = match next {
                Some(id) => {
                    asked.insert(id.clone());
                    self.fetch_related(room_id, query, id, until).await?
                }
                None => false,
            };
            if !more {
                return walked.map(|walked| walked.found);
            }
        }
    }

    /// Asks for an event and what it is related to. Whether it is worth to look again.
    async fn fetch_related(
        &self,
        room_id: &RoomId,
        query: &RelationshipsQuery,
        id: OwnedEventId,
        until: Duration,
    ) -> Result<bool, ReadRoomError> {
        let Ok(room) = self.room(room_id).await else { return Ok(false) };
        let Some(remote) = self.context().remote.clone() else { return Ok(false) };
        let query = RelationshipsQuery {
            event_id: id.to_string(),
            room_id: Some(room_id.to_string()),
            limit: query.limit.clamp(1, MAX_EVENTS),
            ..query.clone()
        };
        let asking = room.clone();
        let asked = room.in_turn(until, async move { asking.ask_for_related(&remote, &query, id).await }).await;
        let Some(found) = asked.transpose().map_err(unwritten)?.flatten() else { return Ok(false) };
        for (id, ts) in found.into_iter().take(FETCHED_BACK_TO) {
            room.fetch_back_to(&id, ts, until).await.map_err(unwritten)?;
        }
        Ok(true)
    }
}

impl Room {
    /// Asks servers for an event and what it is related to, until one gives something. What it says of events that are still not here: their ids and
    /// when they were sent. `None`: nobody is asked, or nobody has anything.
    async fn ask_for_related(
        &self,
        remote: &Remote,
        query: &RelationshipsQuery,
        id: OwnedEventId,
    ) -> Result<Option<Vec<(OwnedEventId, u64)>>, ReceiveError> {
        let (turns, clock) = (&self.context().history_turns, &self.context().clock);
        // Where nothing is missing, nothing can be had.
        let Some(highest) = self.gaps(Direction::Backward, 1).await?.pop() else { return Ok(None) };
        if turns.failed_lately(&id, clock.monotonic()) || !self.has_server(&self.context().options.server_name).await? {
            return Ok(None);
        }
        // What the answer lacks there is no use in asking for again soon.
        turns.failed(&id, clock.monotonic());
        for server in self.likely_servers(highest.rank).await? {
            let Some(found) = self.related(remote, &server, query, &id).await else { continue };
            let version = self.version();
            let pdus = found.events.iter().filter_map(|event| Pdu::parse(version, event.get().as_bytes()).ok());
            let sent: Vec<_> = pdus.map(|pdu| (pdu.event_id().clone(), pdu.origin_server_ts().0)).collect();
            self.take_history(remote, &server, found.events, found.auth_chain).await?;
            let ids: Vec<_> = sent.iter().map(|(id, _)| id.clone()).collect();
            let missing = self.not_in_timeline(&ids).await?;
            return Ok(Some(sent.into_iter().filter(|(id, _)| missing.contains(id)).collect()));
        }
        Ok(None)
    }

    async fn likely_servers(&self, rank: primitives::Rank) -> Result<Vec<OwnedServerName>, ReceiveError> {
        Ok(self.servers_with_history(rank).await?.into_iter().take(SERVERS).collect())
    }

    /// What one server gives: one that knows nothing of relationships, the event alone.
    async fn related(
        &self,
        remote: &Remote,
        server: &ServerName,
        query: &RelationshipsQuery,
        id: &OwnedEventId,
    ) -> Option<RelatedEvents> {
        let found = match remote.client.event_relationships(server, query).await {
            Ok(found) => Ok(found),
            Err(error) => {
                tracing::debug!(%server, room_id = %self.id(), %error, "a server gave no related events");
                remote
                    .client
                    .event(server, id)
                    .await
                    .map(|event| RelatedEvents { events: vec![event], ..RelatedEvents::default() })
            }
        };
        found.ok().filter(|found| !found.events.is_empty())
    }
}
