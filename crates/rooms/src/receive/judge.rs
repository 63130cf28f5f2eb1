//! The worker's part: what is missing, where the event stands, and the verdict by its auth events, the state before it, and the current state.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{NodeId, Rank, Rix};
use ruma::OwnedEventId;
use storage::{
    ReadError,
    schema::rooms::{EventIds, EventKind, SlotKey, Verdict},
};

use super::{GivenState, Prepared, Received};
use crate::{
    AuthError, Pdu,
    auth::{authorise, check_auth_events, lookup_types_for},
    change::{Change, StateSlice},
    event_key::event_key,
    load::StoredEvent,
    merge::MAX_EXTREMITIES,
    persist::{Judged, MAX_WAITING},
    state,
};

/// Where a received event stands; an outlier stands nowhere.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) rank: Rank,
    pub(crate) root_before: NodeId,
    pub(crate) prev: Vec<Rix>,
    pub(crate) missing_prev: Vec<OwnedEventId>,
    /// The roots of the states that it was given in the place of those that are missing.
    pub(crate) given: Vec<NodeId>,
}

/// The auth events of an event; `None` in the place of one that belongs to another room.
type AuthEvents = Vec<Option<(Rix, StoredEvent)>>;

/// The number that an event has had as an outlier, and its auth events.
type LookedAt = (Option<Rix>, AuthEvents);

impl Change {
    /// Takes events in, in whatever order they need. Answers in the order given.
    pub(crate) async fn take_in(&mut self, events: &[Prepared]) -> Result<Vec<Received>, ReadError> {
        let mut answers: Vec<Option<Received>> = events.iter().map(|_| None).collect();
        let mut arrived = BTreeSet::new();
        loop {
            let mut progress = false;
            for (event, answer) in events.iter().zip(&mut answers) {
                // Looking again costs much where the state before is given: only for what has come since.
                let wanted = match answer {
                    None => true,
                    Some(Received::Missing(_, missing)) => missing.iter().any(|id| arrived.contains(id)),
                    Some(Received::Stored(..) | Received::Invalid(_)) => false,
                };
                if !wanted {
                    continue;
                }
                let received = self.take_one(event).await?;
                if let Received::Stored(id, _) = &received {
                    progress |= arrived.insert(id.clone());
                }
                *answer = Some(received);
            }
            if !progress {
                return Ok(answers.into_iter().flatten().collect());
            }
        }
    }

    async fn take_one(&mut self, event: &Prepared) -> Result<Received, ReadError> {
        let id = event.pdu.event_id().clone();
        let (known_as, auth) = match self.look_at(event).await? {
            Ok(looked_at) => looked_at,
            Err(received) => return Ok(received),
        };
        let place = if event.outlier {
            Place::default()
        } else {
            match self.place_of(event, None).await? {
                Ok(place) => place,
                Err(missing) => return Ok(Received::Missing(id, missing)),
            }
        };
        let Some(verdict) = self.judge(event, &auth, &place).await? else {
            return Ok(Received::Missing(id, Vec::new()));
        };
        let mut rixes: Vec<_> = auth.iter().flatten().map(|(rix, _)| *rix).collect();
        rixes.sort_unstable();
        self.persist(Judged {
            pdu: event.pdu.clone(),
            kind: if event.outlier { EventKind::Outlier } else { EventKind::Timeline },
            verdict: verdict.clone(),
            rank: place.rank,
            root_before: place.root_before,
            auth: rixes,
            prev: place.prev,
            missing_prev: place.missing_prev,
            local: event.local.clone(),
            relay: event.relay,
            known_as,
            given: place.given,
        })
        .await?;
        Ok(Received::Stored(id, verdict))
    }

    /// What there is of an event before it is judged: the number that it has had as an outlier, and its auth events. Or the answer, if no judgement is due
    /// or possible.
    pub(super) async fn look_at(&mut self, event: &Prepared) -> Result<Result<LookedAt, Received>, ReadError> {
        let id = event.pdu.event_id().clone();
        let known_as = self.find(&id).await?;
        if let Some(rix) = known_as {
            let header = self.header(rix).await?;
            // One that was wanted for its place in auth chains only can still arrive; a verdict against it stands.
            if header.kind != EventKind::Outlier || event.outlier || header.verdict != Verdict::Accepted {
                return Ok(Err(Received::Stored(id, header.verdict)));
            }
        }
        // Only in room versions 1 and 2 can an event have the id of one in another room; there the first one keeps it.
        if known_as.is_none() && self.view.get::<EventIds>(&(event_key(&id),)).await?.is_some() {
            return Ok(Err(Received::Invalid("its id is that of another event".to_owned())));
        }
        if let Some(missing) = self.create_event_missing(&event.pdu).await? {
            return Ok(Err(Received::Missing(id, vec![missing])));
        }
        let auth = match self.auth_events_of(&event.pdu).await? {
            Ok(auth) => auth,
            Err(missing) => return Ok(Err(Received::Missing(id, missing))),
        };
        Ok(Ok((known_as, auth)))
    }

    /// The auth events of an event; `None` in the place of one that belongs to another room. Or the ids of those that are not here.
    pub(crate) async fn auth_events_of(
        &mut self,
        pdu: &Pdu,
    ) -> Result<Result<AuthEvents, Vec<OwnedEventId>>, ReadError> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for id in pdu.auth_events() {
            match self.find(id).await? {
                Some(rix) => found.push(Some((rix, self.event(rix).await?))),
                None if self.view.get::<EventIds>(&(event_key(id),)).await?.is_some() => found.push(None),
                None => missing.push(id.clone()),
            }
        }
        Ok(if missing.is_empty() { Ok(found) } else { Err(missing) })
    }

    /// Where an event stands among those stored, or which events are needed to say so. What it misses is no matter for its state if what follows it
    /// says the state `before` it.
    pub(super) async fn place_of(
        &mut self,
        event: &Prepared,
        before: Option<NodeId>,
    ) -> Result<Result<Place, Vec<OwnedEventId>>, ReadError> {
        let (mut prev, mut missing_prev, mut roots, mut rank) = (Vec::new(), Vec::new(), Vec::new(), None);
        let mut given_roots = Vec::new();
        for id in event.pdu.prev_events() {
            let Some(rix) = self.find(id).await? else {
                missing_prev.push(id.clone());
                continue;
            };
            let header = self.header(rix).await?;
            if header.kind == EventKind::Outlier {
                missing_prev.push(id.clone());
                continue;
            }
            prev.push(rix);
            roots.push(header.root_after);
            rank = rank.max(Some(header.rank));
        }
        if !missing_prev.is_empty() {
            if event.given.is_empty() && before.is_none() {
                return Ok(Err(missing_prev));
            }
            for id in &missing_prev {
                if self.waiting_children(id).await?.len() >= MAX_WAITING {
                    return Ok(Err(missing_prev));
                }
            }
            if let Some(before) = before {
                roots = vec![before];
            }
            for given in event.given.iter().filter(|_| before.is_none()) {
                match given {
                    GivenState::Staged(root) => given_roots.push(*root),
                    GivenState::Events(ids) => match self.given_state(ids).await? {
                        Ok(root) => given_roots.push(root),
                        Err(missing) => return Ok(Err(missing)),
                    },
                }
            }
            rank = Some(Rank(self.memory.head.max_rank.0 + Rank::GAP - 1));
        }
        roots.extend(&given_roots);
        let root_before = self.resolved(&roots).await?;
        let rank = rank.map_or(Rank::FIRST, Rank::next);
        Ok(Ok(Place { rank, root_before, prev, missing_prev, given: given_roots }))
    }

    /// The state that consists of these events, or those of them that are not here.
    async fn given_state(&mut self, ids: &[OwnedEventId]) -> Result<Result<NodeId, Vec<OwnedEventId>>, ReadError> {
        let (mut changes, mut missing) = (BTreeMap::new(), Vec::new());
        for id in ids {
            let Some(rix) = self.find(id).await? else {
                missing.push(id.clone());
                continue;
            };
            let header = self.header(rix).await?;
            if let (Some(state_key), false) = (header.state_key, matches!(header.verdict, Verdict::Rejected(_))) {
                let slot = self.slot(&SlotKey { event_type: header.event_type, state_key }).await?;
                changes.insert(slot, state::Change { slot, rix, membership: header.membership });
            }
        }
        if !missing.is_empty() {
            return Ok(Err(missing));
        }
        let changes: Vec<_> = changes.into_values().collect();
        let key = self.context.storage.hash();
        Ok(Ok(self.trees.apply(state::EMPTY, &changes, &key).await?))
    }

    /// The verdict on an event; `None` if the room's policy server is to be asked first.
    pub(crate) async fn judge(
        &mut self,
        event: &Prepared,
        auth: &[Option<(Rix, StoredEvent)>],
        place: &Place,
    ) -> Result<Option<Verdict>, ReadError> {
        let pdu = &event.pdu;
        let begins = pdu.kind() == "m.room.create" && !self.is_first(event);
        if begins || (pdu.prev_events().is_empty() && !event.outlier) {
            return Ok(Some(Verdict::Rejected("the room has begun already".to_owned())));
        }
        let verdict = self.judge_in_place(pdu, auth, (!event.outlier).then_some(place.root_before)).await?;
        if event.outlier || verdict != Verdict::Accepted {
            return Ok(Some(verdict));
        }
        let soft_failed = |reason: &str| Ok(Some(Verdict::SoftFailed(reason.to_owned())));
        let current = self.memory.head.root;
        if current != place.root_before
            && let Err(error) =
                self.judge_by_state(pdu, current, auth.iter().flatten().map(|(_, event)| &event.pdu)).await?
        {
            return soft_failed(&format!("by the current state: {error}"));
        }
        if self.is_one_too_many(pdu, place).await? {
            return soft_failed("the room has as many forward extremities as it can have");
        }
        match self.lacks_policy_signature(pdu).await? {
            true if event.policy_asked => soft_failed("the room's policy server has not signed it"),
            true => Ok(None),
            false => Ok(Some(Verdict::Accepted)),
        }
    }

    /// Whether an event would be a further extremity of a room that is full of them: those who may speak here can fork the room as often
    /// as they like.
    async fn is_one_too_many(&self, pdu: &Pdu, place: &Place) -> Result<bool, ReadError> {
        let full = self.memory.tips.len() >= MAX_EXTREMITIES;
        Ok(full
            && !place.prev.iter().any(|prev| self.is_tip(*prev))
            && self.accepted_children(pdu.event_id()).await?.is_empty())
    }

    /// The judgement on an event by its auth events and, if it stands somewhere, by the state before it.
    pub(crate) async fn judge_in_place(
        &mut self,
        pdu: &Pdu,
        auth: &[Option<(Rix, StoredEvent)>],
        root_before: Option<NodeId>,
    ) -> Result<Verdict, ReadError> {
        if auth.iter().any(Option::is_none) {
            return Ok(Verdict::Rejected("an auth event is of another room".to_owned()));
        }
        let auth: Vec<_> = auth.iter().flatten().map(|(_, event)| event.pdu.clone()).collect();
        if let Err(error) = self.judge_by_auth_events(pdu, &auth).await? {
            return Ok(Verdict::Rejected(format!("by its auth events: {error}")));
        }
        if let Some(root) = root_before
            && let Err(error) = self.judge_by_state(pdu, root, auth.iter()).await?
        {
            return Ok(Verdict::Rejected(format!("by the state before it: {error}")));
        }
        Ok(Verdict::Accepted)
    }

    /// Whether an event is the first of a room that is being put together: that must be the one that creates it.
    fn is_first(&self, event: &Prepared) -> bool {
        event.outlier && self.memory.head.next_rix == 1
    }

    /// The event that created the room, if events don't name it among their auth events and it is not here: nothing can be judged without it.
    async fn create_event_missing(&self, pdu: &Pdu) -> Result<Option<OwnedEventId>, ReadError> {
        match pdu.create_event_id() {
            Some(id) if id != *pdu.event_id() && self.find(&id).await?.is_none() => Ok(Some(id)),
            _ => Ok(None),
        }
    }

    async fn judge_by_auth_events(&mut self, pdu: &Pdu, auth: &[Pdu]) -> Result<Result<(), AuthError>, ReadError> {
        let mut known = auth.to_vec();
        if let Some(create) = pdu.create_event_id()
            && let Some(rix) = self.find(&create).await?
        {
            known.push(self.event(rix).await?.pdu);
        }
        let by_id = |id: &ruma::EventId| known.iter().find(|event| event.event_id() == id).cloned();
        let by_key = |kind: &str, key: &str| known.iter().find(|event| event.is_state(kind, key)).cloned();
        Ok(check_auth_events(pdu, by_id).and_then(|()| authorise(pdu, by_key)))
    }

    /// The judgement by a state. Where that is partial, a member whom it doesn't hold is not absent but unknown: then the event's own auth events, given
    /// here too, tell of them (MSC3902).
    async fn judge_by_state<'a>(
        &mut self,
        pdu: &Pdu,
        root: NodeId,
        auth: impl Iterator<Item = &'a Pdu>,
    ) -> Result<Result<(), AuthError>, ReadError> {
        let keys = match lookup_types_for(pdu) {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(error)),
        };
        let mut slice = self.state_events(root, &keys).await?;
        if !self.is_partial() {
            return Ok(authorise(pdu, |kind, key| slice.pdu(kind, key)));
        }
        let told: Vec<_> = auth.filter(|event| event.kind() == "m.room.member").cloned().collect();
        let is_other = |one: &Pdu| {
            let known = one.state_key().and_then(|key| slice.get(one.kind(), key));
            known.is_some_and(|known| known.pdu.event_id() != one.event_id())
        };
        if told.iter().any(is_other) {
            let root = self.with_told(&slice, &told).await?;
            slice = self.state_events(root, &keys).await?;
        }
        let told = |kind: &str, key: &str| told.iter().find(|event| event.is_state(kind, key)).cloned();
        Ok(authorise(pdu, |kind, key| slice.pdu(kind, key).or_else(|| told(kind, key))))
    }

    /// What a part of a partial state makes together with members of whom an event tells otherwise: what is known may be what should not have been accepted.
    async fn with_told(&mut self, slice: &StateSlice, told: &[Pdu]) -> Result<NodeId, ReadError> {
        let (mut known, mut otherwise) = (Vec::new(), Vec::new());
        for (event_type, state_key, event) in &slice.0 {
            let key = SlotKey { event_type: event_type.clone(), state_key: state_key.clone() };
            let slot = self.slot(&key).await?;
            known.push(state::Change { slot, rix: event.rix, membership: event.pdu.membership() });
        }
        for event in told {
            let (Some(rix), Some(state_key)) = (self.find(event.event_id()).await?, event.state_key()) else {
                continue;
            };
            let key = SlotKey { event_type: event.kind().to_owned(), state_key: state_key.to_owned() };
            let slot = self.slot(&key).await?;
            otherwise.push(state::Change { slot, rix, membership: event.membership() });
        }
        let hash = self.context.storage.hash();
        let known = self.trees.apply(state::EMPTY, &known, &hash).await?;
        let otherwise = self.trees.apply(known, &otherwise, &hash).await?;
        self.resolved(&[known, otherwise]).await
    }
}
