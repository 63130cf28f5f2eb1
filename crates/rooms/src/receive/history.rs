//! Taking in history: events that come before others that are here (`docs/ARCHITECTURE.md`, "History").
//!
//! ```text
//! known ◄── … ◄── oldest ◄── … ◄── newest ◄┄ gap ┄ event
//!                 states: upwards ──►
//!                          ◄── downwards: ranks
//! ```
//!
//! History gets ranks from its newest event downwards, so that it stands below what follows it, and states from its oldest event upwards. Where it doesn't reach
//! what is known, states go downwards too: the state before an event that follows one other alone is the state after that one, and what is no state changes
//! none. It is judged by its auth events and the state before it, not by the current state; it is in no sync, and nothing of the room's head changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use primitives::{NodeId, Rank};
use ruma::{EventId, OwnedEventId, UserId};
use storage::{
    ReadError,
    schema::rooms::{EventKind, EventLocal, Gaps, SlotKey, Verdict},
};
use tokio::sync::oneshot;

use super::{Prepared, ReceiveError, Received};
use crate::{
    change::Change,
    persist::Judged,
    room::Room,
    worker::{ReceiveRequest, Request},
};

impl Room {
    /// Takes in history. Of events that nothing follows that is here, or that comes with them, nothing is stored. Answers in the order given.
    pub(crate) async fn receive_history(&self, events: Vec<Prepared>) -> Result<Vec<Received>, ReceiveError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::History(ReceiveRequest { events, reply });
        self.rooms().ask(self.info(), request).await.map_err(|_| ReceiveError::Unavailable)?;
        answer.await.unwrap_or(Err(ReceiveError::Unavailable))
    }
}

/// Events of history and what follows what among them.
#[derive(Default)]
struct Order {
    /// Where each is in what was given.
    at: BTreeMap<OwnedEventId, usize>,
    /// How many of those that follow each have no rank yet.
    followers: Vec<usize>,
    /// The lowest rank of what follows each.
    below: Vec<Option<Rank>>,
    /// The state after each, where something follows it alone.
    after: Vec<Option<NodeId>>,
}

/// Where an event of history stands, as what follows it says.
struct Past {
    /// Its place in what was given.
    at: usize,
    rank: Rank,
    /// The state before it, if that is known.
    before: Option<NodeId>,
}

impl Change {
    /// Takes history in: the newest are given their ranks first, the oldest are stored first.
    pub(crate) async fn take_in_history(&mut self, events: &[Prepared]) -> Result<Vec<Received>, ReadError> {
        let unconnected = || Received::Invalid("nothing that is here follows it".to_owned());
        let mut answers: Vec<_> = events.iter().map(|_| unconnected()).collect();
        for past in self.rank_history(events).await?.into_iter().rev() {
            answers[past.at] = self.take_past(&events[past.at], &past).await?;
        }
        Ok(answers)
    }

    /// The events that something follows, each after all that follow it, with their ranks. No two of them have the same, nor that of a gap:
    /// a gap is kept by rank.
    async fn rank_history(&self, events: &[Prepared]) -> Result<Vec<Past>, ReadError> {
        let (followers, below, after) = (vec![0; events.len()], vec![None; events.len()], vec![None; events.len()]);
        let mut order = Order { followers, below, after, ..Order::default() };
        for (at, event) in events.iter().enumerate() {
            order.at.entry(event.pdu.event_id().clone()).or_insert(at);
        }
        for (id, at) in &order.at {
            for prev in previous(&events[*at]) {
                if let Some(before) = order.at.get(prev) {
                    order.followers[*before] += 1;
                }
            }
            for child in self.waiting_children(id).await? {
                let child = self.event(child).await?;
                order.below[*at] = order.below[*at].into_iter().chain([child.header.rank]).min();
                if child.pdu.prev_events().len() == 1 && child.header.kind != EventKind::Outlier {
                    order.after[*at] = Some(child.header.root_before);
                }
            }
        }
        let mut ready: VecDeque<usize> = order.at.values().copied().filter(|at| order.followers[*at] == 0).collect();
        let (mut ranked, mut used) = (Vec::new(), BTreeSet::new());
        while let Some(at) = ready.pop_front() {
            let mut rank = order.below[at].map(Rank::before);
            // Steps that double: strangers can leave many gaps one above the other.
            let mut step = 1;
            while let Some(taken) = rank
                && (used.contains(&taken) || self.is_gap(taken).await?)
            {
                rank = Some(Rank(taken.0.saturating_sub(step))).filter(|rank| rank.0 > 0);
                step *= 2;
            }
            let state_before = order.after[at].filter(|_| events[at].pdu.state_key().is_none());
            if let Some(rank) = rank {
                used.insert(rank);
                ranked.push(Past { at, rank, before: state_before });
            }
            let prevs = previous(&events[at]);
            for prev in &prevs {
                let Some(before) = order.at.get(*prev).copied() else { continue };
                if prevs.len() == 1 && state_before.is_some() {
                    order.after[before] = state_before;
                }
                let below = order.below[before];
                order.below[before] = below.into_iter().chain(rank).min();
                order.followers[before] -= 1;
                if order.followers[before] == 0 {
                    ready.push_back(before);
                }
            }
        }
        Ok(ranked)
    }

    async fn is_gap(&self, rank: Rank) -> Result<bool, ReadError> {
        self.view.contains::<Gaps>(&(self.memory.info.nid, rank)).await
    }

    async fn take_past(&mut self, event: &Prepared, past: &Past) -> Result<Received, ReadError> {
        let (known_as, auth) = match self.look_at(event).await? {
            Ok(looked_at) => looked_at,
            Err(received) => return Ok(received),
        };
        let id = event.pdu.event_id().clone();
        let mut place = match self.place_of(event, past.before).await? {
            Ok(place) => place,
            Err(missing) => return Ok(Received::Missing(id, missing)),
        };
        place.rank = past.rank;
        let begins = event.pdu.kind() == "m.room.create";
        let verdict = if begins && !self.is_create_event(&id).await? {
            Verdict::Rejected("the room has begun with another event".to_owned())
        } else if !begins && event.pdu.prev_events().is_empty() {
            Verdict::Rejected("the room has begun already".to_owned())
        } else {
            self.judge_in_place(&event.pdu, &auth, Some(place.root_before)).await?
        };
        let mut rixes: Vec<_> = auth.iter().flatten().map(|(rix, _)| *rix).collect();
        rixes.sort_unstable();
        self.persist(Judged {
            pdu: event.pdu.clone(),
            kind: EventKind::Backfilled,
            verdict: verdict.clone(),
            rank: place.rank,
            root_before: place.root_before,
            auth: rixes,
            prev: place.prev,
            missing_prev: place.missing_prev,
            local: EventLocal::default(),
            relay: false,
            known_as,
            given: place.given,
        })
        .await?;
        self.note_past_member(event, &verdict).await?;
        Ok(Received::Stored(id, verdict))
    }

    /// Whether the room began with this event.
    async fn is_create_event(&mut self, id: &EventId) -> Result<bool, ReadError> {
        let create = self.current("m.room.create", "").await?;
        Ok(create.is_some_and(|create| create.pdu.event_id() == id))
    }

    /// A user of another server who was in the room once: the server may see what they saw.
    async fn note_past_member(&mut self, event: &Prepared, verdict: &Verdict) -> Result<(), ReadError> {
        let (Some(_), Some(state_key), Verdict::Accepted) = (event.pdu.membership(), event.pdu.state_key(), verdict)
        else {
            return Ok(());
        };
        let Ok(user) = <&UserId>::try_from(state_key) else { return Ok(()) };
        if user.server_name() != self.context.options.server_name {
            let key = SlotKey { event_type: "m.room.member".to_owned(), state_key: state_key.to_owned() };
            let slot = self.slot(&key).await?;
            self.write_server_slot(user, slot, true);
        }
        Ok(())
    }
}

/// The events that an event follows, each once.
fn previous(event: &Prepared) -> BTreeSet<&OwnedEventId> {
    event.pdu.prev_events().iter().collect()
}
