//! Where events stand: what they follow, ranks, positions, timeline, gaps, extremities.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{NodeId, Rank, Rix, StreamPosition};
use ruma::OwnedEventId;
use storage::{
    KeyRange, ReadError, Text,
    schema::rooms::{EventHeader, EventIdList, EventKind, Gaps, MissingPrevs, Timeline, Verdict},
};

use super::{FaultKind, Pages, RoomCheck};
use crate::{load::StoredEvent, persist::MAX_FOLLOWED};

/// What later events and the room as a whole are held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) position: StreamPosition,
    pub(super) rank: Rank,
    pub(super) depth: u64,
    pub(super) root_after: NodeId,
    pub(super) kind: EventKind,
    pub(super) accepted: bool,
}

impl Seen {
    /// It is in the timeline.
    pub(super) fn is_visible(&self) -> bool {
        self.accepted && self.kind != EventKind::Outlier
    }

    /// It arrived live and was accepted: it is in the log, and an extremity if nothing follows it.
    pub(super) fn is_live(&self) -> bool {
        self.accepted && self.kind == EventKind::Timeline
    }
}

/// The order of a room's events as far as it has been gone through.
#[derive(Debug)]
pub(super) struct Order {
    seen: Vec<Option<Seen>>,
    /// Events that an accepted live event names.
    named: BTreeSet<Rix>,
    /// What events that were not accepted follow.
    refused: BTreeMap<Rix, Vec<Rix>>,
    highest: Rank,
    visible: u64,
    gaps: u64,
    /// When the room's state and extremities were last replaced: what came before need not be followed.
    pub(super) replaced_at: Option<StreamPosition>,
}

impl Order {
    pub(super) fn new(next_rix: u32) -> Self {
        Self {
            seen: Vec::with_capacity(next_rix as usize),
            named: BTreeSet::new(),
            refused: BTreeMap::new(),
            highest: Rank(Rank::FIRST.0 - 1),
            visible: 0,
            gaps: 0,
            replaced_at: None,
        }
    }

    pub(super) fn get(&self, rix: Rix) -> Option<&Seen> {
        self.seen.get(rix.0 as usize).and_then(Option::as_ref)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Rix, &Seen)> {
        (0_u32..).zip(&self.seen).filter_map(|(rix, seen)| Some((Rix(rix), seen.as_ref()?)))
    }

    /// Remembers an event. They come in the order of their numbers.
    pub(super) fn add(&mut self, rix: Rix, position: StreamPosition, header: &EventHeader) {
        let seen = Seen {
            position,
            rank: header.rank,
            depth: header.depth,
            root_after: header.root_after,
            kind: header.kind,
            accepted: header.verdict == Verdict::Accepted,
        };
        self.seen.resize(rix.0 as usize, None);
        self.seen.push(Some(seen));
        if seen.is_visible() {
            self.visible += 1;
            self.highest = self.highest.max(seen.rank);
        }
    }
}

/// What an event follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Those of its `prev_events` that were here.
    pub(super) prev: Vec<Rix>,
    /// Those that were not.
    pub(super) missing: Vec<Missing>,
}

/// An event that was missing before another when that came.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    pub(super) id: OwnedEventId,
    /// Its number, if it has come since or is an outlier.
    found: Option<Rix>,
    /// It has come since, and the other's header names it.
    filled: bool,
}

impl RoomCheck<'_> {
    /// Checks an event's place.
    pub(super) async fn check_place(&mut self, rix: Rix, event: &StoredEvent) -> Result<Place, ReadError> {
        let header = &event.header;
        let place = self.place_of(rix, event).await?;
        let Some(seen) = self.order.get(rix).copied() else { return Ok(place) };
        if event.position > self.view.position() {
            self.event_fault(FaultKind::Order, rix, event, "its position is still to come");
        }
        if self.view.contains::<Timeline>(&(self.info.nid, seen.rank, rix)).await? != seen.is_visible() {
            let what = if seen.is_visible() { "it is not in the timeline" } else { "it is in the timeline" };
            self.event_fault(FaultKind::Order, rix, event, what);
        }
        if seen.kind == EventKind::Outlier {
            if !header.prev.is_empty() {
                self.event_fault(FaultKind::Prev, rix, event, "an outlier follows nothing");
            }
            return Ok(Place::default());
        }
        self.check_prev(rix, event, &place);
        self.check_gap(rix, event, &place).await?;
        let followed = place.prev.iter().copied().chain(place.missing.iter().filter_map(|missing| missing.found));
        if seen.is_live() {
            self.order.named.extend(followed);
        } else if !seen.accepted {
            self.order.refused.insert(rix, followed.collect());
        }
        Ok(place)
    }

    /// What the event followed when it came. Numbers don't say what was here then, as an outlier that arrives keeps its number; what was
    /// missing says it.
    async fn place_of(&mut self, rix: Rix, event: &StoredEvent) -> Result<Place, ReadError> {
        let mut place = Place::default();
        for id in event.pdu.prev_events() {
            let waiting = self.view.get::<MissingPrevs>(&(self.info.nid, Text::new(id.as_str()))).await?;
            let waited = waiting.is_some_and(|waiting| waiting.0.contains(&rix));
            match self.change.find(id).await? {
                Some(prev) if !waited => place.prev.push(prev),
                found => {
                    let filled = match found {
                        Some(rix) => self.change.header(rix).await?.kind != EventKind::Outlier,
                        None => false,
                    };
                    place.missing.push(Missing { id: id.clone(), found, filled });
                }
            }
        }
        Ok(place)
    }

    fn check_prev(&mut self, rix: Rix, event: &StoredEvent, place: &Place) {
        let set = |rixes: &[Rix]| rixes.iter().copied().collect::<BTreeSet<_>>();
        let position = |prev: Rix| {
            let seen = self.order.get(prev).filter(|seen| seen.kind != EventKind::Outlier);
            seen.map(|seen| seen.position)
        };
        let here = place.prev.iter().all(|prev| position(*prev).is_none_or(|at| at <= event.position));
        let filled: Vec<_> =
            place.missing.iter().filter(|missing| missing.filled).filter_map(|one| one.found).collect();
        let away = filled.iter().copied().filter_map(position).all(|at| at >= event.position);
        if set(&event.header.prev) != set(&[&place.prev[..], &filled].concat()) || !here || !away {
            self.event_fault(FaultKind::Prev, rix, event, "its header names other events before it");
        }
        let above = place.prev.iter().filter_map(|prev| self.order.get(*prev)).map(|seen| seen.rank).max();
        let next = above.map_or(Rank::FIRST, Rank::next);
        let fits = match event.header.kind {
            // Its rank comes from what follows it, see `check_filled`.
            EventKind::Backfilled => true,
            _ if place.missing.is_empty() => event.header.rank == next,
            _ => event.header.rank >= next,
        };
        if !fits {
            self.event_fault(FaultKind::Order, rix, event, "its rank is not one above those before it");
        }
    }

    /// A gap lists what is missing still; what was missing knows what it was missing before.
    async fn check_gap(&mut self, rix: Rix, event: &StoredEvent, place: &Place) -> Result<(), ReadError> {
        for Missing { id, .. } in &place.missing {
            let waiting = self.view.get::<MissingPrevs>(&(self.info.nid, Text::new(id.as_str()))).await?;
            if !waiting.is_some_and(|waiting| waiting.0.contains(&rix)) {
                self.event_fault(FaultKind::Order, rix, event, &format!("{id} does not know that it is missing"));
            }
        }
        self.check_filled(rix, event, place).await?;
        let followed = event.header.verdict == Verdict::Accepted || event.header.kind == EventKind::Backfilled;
        if place.missing.is_empty() || !followed {
            return Ok(());
        }
        let gap = self.view.get::<Gaps>(&(self.info.nid, event.header.rank)).await?;
        self.order.gaps += u64::from(gap.is_some());
        let EventIdList(listed) = gap.unwrap_or_default();
        let mut still: Vec<_> =
            place.missing.iter().filter(|missing| !missing.filled).map(|one| one.id.as_str()).collect();
        let mut listed: Vec<_> = listed.iter().map(String::as_str).collect();
        still.sort_unstable();
        listed.sort_unstable();
        if listed != still {
            self.event_fault(FaultKind::Order, rix, event, "the gap before it lists other events than are missing");
        }
        Ok(())
    }

    /// History that was missing before an event stands below it.
    async fn check_filled(&mut self, rix: Rix, event: &StoredEvent, place: &Place) -> Result<(), ReadError> {
        for found in place.missing.iter().filter_map(|missing| missing.found) {
            let header = self.change.header(found).await?;
            if header.kind == EventKind::Backfilled && header.rank >= event.header.rank {
                self.event_fault(FaultKind::Order, rix, event, "history that it follows stands above it");
            }
        }
        Ok(())
    }

    /// The timeline and the gaps hold nothing else; extremities, depth and highest rank are what the events say.
    pub(super) async fn tips(&mut self) -> Result<(), ReadError> {
        let room = (self.info.nid,);
        let mut rows = 0;
        let mut pages = Pages::<Timeline>::of(KeyRange::prefix(&room));
        while let Some(page) = pages.next(self.view).await? {
            rows += page.len() as u64;
        }
        if rows != self.order.visible {
            self.fault(FaultKind::Order, format!("the timeline has {rows} rows for {} events", self.order.visible));
        }
        let mut gaps = 0;
        let mut pages = Pages::<Gaps>::of(KeyRange::prefix(&room));
        while let Some(page) = pages.next(self.view).await? {
            gaps += page.len() as u64;
        }
        if gaps != self.order.gaps {
            self.fault(FaultKind::Order, format!("{gaps} gaps are kept, and {} are there", self.order.gaps));
        }
        if self.head.max_rank != self.order.highest {
            self.fault(
                FaultKind::Room,
                format!("the highest rank is {}, not {}", self.order.highest, self.head.max_rank),
            );
        }
        self.check_extremities();
        Ok(())
    }

    fn check_extremities(&mut self) {
        let Order { named, refused, .. } = &self.order;
        let mut followed = named.clone();
        let mut open: Vec<_> = named.iter().copied().collect();
        while let Some(rix) = open.pop() {
            for prev in refused.get(&rix).into_iter().flatten() {
                if followed.insert(*prev) {
                    open.push(*prev);
                }
            }
        }
        let live = || self.order.all().filter(|(_, seen)| seen.is_live()).map(|(rix, _)| rix);
        let is_held = |rix: &Rix| {
            let replaced = self.order.replaced_at;
            replaced.is_none_or(|at| self.order.get(*rix).is_some_and(|seen| seen.position >= at))
        };
        let must: BTreeSet<_> = live().filter(|rix| !followed.contains(rix) && is_held(rix)).collect();
        // Of events that were not accepted, a room only looks across so many.
        let bounded = refused.len() >= MAX_FOLLOWED;
        let may: BTreeSet<_> = live().filter(|rix| !(if bounded { named } else { &followed }).contains(rix)).collect();
        let tips: BTreeSet<_> = self.head.extremities.iter().copied().collect();
        let ascending = self.head.extremities.is_sorted_by(|a, b| a < b);
        if !ascending || !must.is_subset(&tips) || !tips.is_subset(&may) {
            let (must, tips) = (Vec::from_iter(must), Vec::from_iter(tips));
            self.fault(FaultKind::Extremities, format!("the extremities are {must:?}, and the head has {tips:?}"));
        }
        let depth = self.head.extremities.iter().filter_map(|rix| self.order.get(*rix)).map(|seen| seen.depth).max();
        if depth.unwrap_or(0) != self.head.depth {
            self.fault(FaultKind::Room, format!("the extremities' depth is {depth:?}, not {}", self.head.depth));
        }
    }
}
