//! From what a user wants to send to an event that follows the room's extremities, authorised by the state there.

use std::collections::BTreeMap;

use primitives::{NodeId, Rank, Rix};
use ruma::{OwnedEventId, canonical_json::CanonicalJsonObject, events::TimelineEventType};
use serde_json::value::to_raw_value;
use storage::{
    ReadError,
    schema::rooms::{EventKind, Verdict},
};

use crate::{
    Pdu, RoomVersion,
    auth::auth_types_for,
    change::{Change, StateSlice},
    outgoing::{Outgoing, SendError},
    pdu::{BuildInput, MAX_PREV_EVENTS, build},
    persist::Judged,
};

/// A built event and where it stands.
pub(crate) struct Built {
    pub(crate) pdu: Pdu,
    pub(crate) prev: Vec<Rix>,
    pub(crate) rank: Rank,
    pub(crate) root_before: NodeId,
    /// The state that authorises it: its auth events, and the create event.
    pub(crate) slice: StateSlice,
    pub(crate) auth: Vec<Rix>,
}

impl Built {
    /// The event, found to be allowed, as it goes into the store.
    pub(crate) fn accepted(self, outgoing: &Outgoing) -> Judged {
        Judged {
            pdu: self.pdu,
            kind: EventKind::Timeline,
            verdict: Verdict::Accepted,
            rank: self.rank,
            root_before: self.root_before,
            auth: self.auth,
            prev: self.prev,
            missing_prev: Vec::new(),
            local: outgoing.local.clone(),
            relay: true,
            known_as: None,
            given: Vec::new(),
        }
    }
}

impl Change {
    /// Builds, hashes and signs an event on top of the room as this change leaves it so far.
    pub(crate) async fn build(&mut self, outgoing: &Outgoing) -> Result<Built, SendError> {
        let prev = self.chosen_tips().await?;
        let version = self.memory.info.version;
        let keys = {
            let content = to_raw_value(&outgoing.content).map_err(|error| SendError::bad(error.to_string()))?;
            let event_type = TimelineEventType::from(outgoing.event_type.as_str());
            auth_types_for(version, &event_type, &outgoing.sender, outgoing.state_key.as_deref(), &content)
        }
        .map_err(|error| SendError::bad(error.to_string()))?;
        let mut slice = self.state_events(prev.root, &keys).await?;
        let auth_events: Vec<_> = slice.0.iter().map(|(_, _, event)| event.pdu.event_id().clone()).collect();
        let auth = slice.rixes();
        if slice.get("m.room.create", "").is_none() {
            slice.0.extend(self.state_events(prev.root, &[("m.room.create", String::new())]).await?.0);
        }
        let hashes = reference_hashes(version, &slice, &prev.pdus)?;
        let input = BuildInput {
            version,
            room_id: Some(&self.memory.info.room_id),
            sender: &outgoing.sender,
            event_type: &outgoing.event_type,
            state_key: outgoing.state_key.as_deref(),
            content: outgoing.content.clone(),
            redacts: outgoing.redacts.as_deref(),
            prev_events: &prev.ids,
            auth_events: &auth_events,
            reference_hashes: hashes.as_ref(),
            depth: prev.depth + 1,
            origin_server_ts: outgoing.origin_server_ts.unwrap_or_else(|| self.context.clock.now()),
            extra: extra(outgoing),
        };
        let pdu = build(input, &self.context.key, &self.context.options.server_name)?;
        Ok(Built { pdu, prev: prev.rixes, rank: prev.rank, root_before: prev.root, slice, auth })
    }

    /// The extremities that the next event follows: all, or where there are more than an event may name, the newest.
    async fn chosen_tips(&mut self) -> Result<Prev, ReadError> {
        let from = self.memory.tips.len().saturating_sub(MAX_PREV_EVENTS);
        let tips = &self.memory.tips[from..];
        let highest = tips.iter().map(|tip| tip.rank).max();
        let prev = Prev {
            rixes: tips.iter().map(|tip| tip.rix).collect(),
            ids: tips.iter().map(|tip| tip.pdu.event_id().clone()).collect(),
            pdus: tips.iter().map(|tip| tip.pdu.clone()).collect(),
            rank: highest.map_or(Rank::FIRST, Rank::next),
            depth: tips.iter().map(|tip| tip.pdu.depth()).max().unwrap_or(0),
            root: self.memory.head.root,
        };
        if from == 0 {
            return Ok(prev);
        }
        let roots: Vec<_> = tips.iter().map(|tip| tip.root_after).collect();
        Ok(Prev { root: self.resolved(&roots).await?, ..prev })
    }
}

/// What the next event follows.
struct Prev {
    rixes: Vec<Rix>,
    ids: Vec<OwnedEventId>,
    pdus: Vec<Pdu>,
    rank: Rank,
    depth: u64,
    root: NodeId,
}

/// What events of room versions 1 and 2 quote beside the ids of their previous and auth events.
fn reference_hashes(
    version: RoomVersion,
    slice: &StateSlice,
    prev: &[Pdu],
) -> Result<Option<BTreeMap<OwnedEventId, String>>, SendError> {
    if !version.references_are_pairs() {
        return Ok(None);
    }
    let cited = slice.0.iter().map(|(_, _, event)| &event.pdu).chain(prev);
    let hashes = cited.map(|pdu| Ok((pdu.event_id().clone(), pdu.reference_hash()?)));
    Ok(Some(hashes.collect::<Result<_, SendError>>()?))
}

fn extra(outgoing: &Outgoing) -> Vec<(String, ruma::canonical_json::CanonicalJsonValue)> {
    let duration = outgoing.sticky_duration_ms.and_then(|ms| ruma::Int::try_from(ms).ok());
    let sticky = duration.map(|ms| CanonicalJsonObject::from([("duration_ms".to_owned(), ms.into())]));
    sticky.map(|sticky| ("msc4354_sticky".to_owned(), sticky.into())).into_iter().collect()
}
