//! The state that a client needs besides a timeline: what changed that the timeline doesn't show, and with lazy loading the members
//! whose events it shows.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use primitives::{NodeId, Rix, Slot};
use storage::{ReadError, schema::rooms::Membership};

use super::{StateAfter, response::RoomSummary, room::Asked, timeline::Window};
use crate::{
    filter::RoomEventFilter,
    partial::Period,
    read::{Reads, RoomView, Shower},
    render::StoredEvent,
    state::{Entry, is_member_slot},
};

/// How much of the state the client lacks.
#[derive(Debug)]
pub(super) enum Extent {
    /// All of it.
    All,
    /// What these slots hold.
    Slots(Vec<Slot>),
    /// What differs from the state of this root.
    Since(NodeId),
}

/// Which state is to be found.
pub(super) struct StateNeed<'a> {
    pub(super) asked: &'a Asked<'a>,
    pub(super) extent: Extent,
    /// The state at the end.
    pub(super) root: NodeId,
    pub(super) window: &'a Window,
}

/// The state that was found.
#[derive(Debug, Default)]
pub(super) struct FoundState {
    /// Its events.
    pub(super) events: Vec<Rix>,
    /// The summary, if members are among what changed.
    pub(super) summary: Option<RoomSummary>,
}

impl FoundState {
    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.summary.is_none()
    }
}

/// A slot that the client is to know of.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// What the client knows, where that was compared.
    known: Option<Rix>,
    /// What the state at the end holds.
    now: Entry,
}

impl Reads {
    /// Finds the state for a part of a timeline.
    pub(super) async fn state_part(
        &self,
        shower: &mut Shower<'_>,
        need: StateNeed<'_>,
    ) -> Result<FoundState, ReadError> {
        let room = shower.room;
        let filter = &need.asked.request.filter.room.state;
        let lazy = filter.lazy_load_members;
        let all = matches!(need.extent, Extent::All);
        let mut changes = changes(room, &need, lazy).await?;
        let members_changed = all || changes.keys().any(|slot| is_member_slot(*slot));
        let summary =
            if members_changed { Some(self.summary(room, need.asked.reader, need.root).await?) } else { None };
        let mut needed = BTreeSet::new();
        if lazy {
            needed = self
                .needed_members(room, &need, summary.as_ref().and_then(|summary| summary.heroes.as_deref()))
                .await?;
            let absent: Vec<_> = needed.iter().copied().filter(|slot| !changes.contains_key(slot)).collect();
            let entries = room.entries(need.root, &absent).await?;
            let found = absent.into_iter().zip(entries).filter_map(|(slot, entry)| Some((slot, entry?)));
            changes.extend(found.map(|(slot, now)| (slot, Change { known: None, now })));
        }
        let events = if need.asked.request.state_after == StateAfter::No {
            up_to_the_start(room, &need, &changes, &needed).await?
        } else {
            changes.iter().map(|(slot, change)| (*slot, change.now.rix)).collect()
        };
        let mut found = FoundState { events: Vec::with_capacity(events.len()), summary };
        let position = room.view.position();
        for (slot, rix) in events {
            let key = (room.nid, slot);
            let only_lazy = needed.contains(&slot) && !all && !filter.include_redundant_members;
            if only_lazy && self.0.sync.has_member(need.asked.reader, key, rix, need.asked.acknowledged) {
                continue;
            }
            if wanted(room, rix, filter).await? {
                if lazy && is_member_slot(slot) {
                    self.0.sync.sends_member(need.asked.reader, key, rix, position);
                }
                found.events.push(rix);
            }
        }
        if lazy {
            if Period::open(room.view, room.nid).await?.is_some() {
                let told = self.told_members(room, &need).await?;
                found.events.extend(told);
            }
            self.remember_shown_members(room, &need).await?;
        }
        Ok(found)
    }

    /// The slots of the members without whom the client can't show this part: the senders, the heroes, and in a first look the user.
    async fn needed_members(
        &self,
        room: &RoomView<'_>,
        need: &StateNeed<'_>,
        heroes: Option<&[String]>,
    ) -> Result<BTreeSet<Slot>, ReadError> {
        let mut users: BTreeSet<&str> = need.window.events.iter().map(|event| event.header.sender.as_str()).collect();
        users.extend(heroes.unwrap_or_default().iter().map(String::as_str));
        if matches!(need.extent, Extent::All) {
            users.insert(need.asked.reader.user_id.as_str());
        }
        let mut slots = BTreeSet::new();
        for user in users {
            slots.extend(room.slot("m.room.member", user).await?);
        }
        Ok(slots)
    }

    /// The members without whom the client can't show this part, and of whom a partial state says nothing: as the events that they sent tell of them.
    async fn told_members(&self, room: &RoomView<'_>, need: &StateNeed<'_>) -> Result<Vec<Rix>, ReadError> {
        let (mut told, mut seen) = (Vec::new(), HashSet::new());
        for event in &need.window.events {
            let sender = event.header.sender.as_str();
            if !seen.insert(sender) || room.state_at(need.root, "m.room.member", sender).await?.is_some() {
                continue;
            }
            for rix in &event.header.auth {
                let Some(auth) = room.event(*rix).await? else { continue };
                if auth.header.event_type == "m.room.member" && auth.header.state_key.as_deref() == Some(sender) {
                    told.push(*rix);
                }
            }
        }
        Ok(told)
    }

    /// Members whose events the timeline shows needn't be sent again later.
    async fn remember_shown_members(&self, room: &RoomView<'_>, need: &StateNeed<'_>) -> Result<(), ReadError> {
        for event in &need.window.events {
            let Some(user) = event.header.state_key.as_ref().filter(|_| event.header.membership.is_some()) else {
                continue;
            };
            if let Some(slot) = room.slot("m.room.member", user).await? {
                self.0.sync.sends_member(need.asked.reader, (room.nid, slot), event.rix, room.view.position());
            }
        }
        Ok(())
    }
}

/// The slots of which the client doesn't know what they hold at the end. With lazy loading a first look has no members.
async fn changes(room: &RoomView<'_>, need: &StateNeed<'_>, lazy: bool) -> Result<BTreeMap<Slot, Change>, ReadError> {
    let unknown = |(slot, now)| (slot, Change { known: None, now });
    Ok(match &need.extent {
        Extent::All => {
            let mut entries = room.others(need.root).await?;
            if !lazy {
                entries.extend(room.members(need.root, |_| true).await?);
            }
            entries.into_iter().map(unknown).collect()
        }
        Extent::Slots(slots) => {
            let entries = room.entries(need.root, slots).await?;
            slots.iter().zip(entries).filter_map(|(slot, entry)| Some(unknown((*slot, entry?)))).collect()
        }
        Extent::Since(root) => {
            let differences = room.diff(*root, need.root).await?.into_iter();
            let change = |known: Option<Entry>, now| Change { known: known.map(|entry| entry.rix), now };
            differences.filter_map(|d| Some((d.slot, change(d.before, d.after?)))).collect()
        }
    })
}

/// For a client that takes the timeline as state too: what the timeline shows is left out, and where it shows the newest event of a slot,
/// what the slot held before it is put in its place.
async fn up_to_the_start(
    room: &RoomView<'_>,
    need: &StateNeed<'_>,
    changes: &BTreeMap<Slot, Change>,
    needed: &BTreeSet<Slot>,
) -> Result<BTreeMap<Slot, Rix>, ReadError> {
    let shown: HashSet<Rix> = need.window.events.iter().map(|event| event.rix).collect();
    let (in_timeline, mut events): (Vec<_>, BTreeMap<_, _>) = {
        let (inside, outside): (Vec<_>, Vec<_>) =
            changes.iter().partition(|(_, change)| shown.contains(&change.now.rix));
        (inside, outside.into_iter().map(|(slot, change)| (*slot, change.now.rix)).collect())
    };
    let Some(first) = need.window.events.first() else { return Ok(events) };
    // Where nothing was left out before the timeline, the client knows what the slots held, but for members it was never sent.
    let from_known = matches!(need.extent, Extent::Slots(_));
    let asked: Vec<_> = in_timeline.iter().filter(|(slot, _)| !from_known || needed.contains(slot)).collect();
    let slots: Vec<_> = asked.iter().map(|(slot, _)| **slot).collect();
    let before = room.entries(first.header.root_before, &slots).await?;
    for ((slot, change), before) in asked.into_iter().zip(before) {
        if let Some(before) = before.filter(|before| change.known != Some(before.rix)) {
            events.insert(**slot, before.rix);
        }
    }
    Ok(events)
}

async fn wanted(room: &RoomView<'_>, rix: Rix, filter: &RoomEventFilter) -> Result<bool, ReadError> {
    if !filter.selects_room(&room.room_id) {
        return Ok(false);
    }
    if filter.selects_everything() {
        return Ok(true);
    }
    let event: Option<Arc<StoredEvent>> = room.event(rix).await?;
    Ok(event.is_some_and(|event| filter.selects(&event.facts())))
}

/// Whether a member counts for naming a room.
pub(super) fn is_present(membership: Option<Membership>) -> bool {
    matches!(membership, Some(Membership::Join | Membership::Invite))
}
