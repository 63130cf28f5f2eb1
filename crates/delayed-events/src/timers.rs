//! What waits, in memory: a slab of small entries, found by hash, by owner, and by a lazy heap of due moments.
//!
//! ```text
//!  heap: (moment, order, index) ──▶ slab: entry 0 │ entry 1 │ entry 2 │ …   ◀── table of hashes: index
//!        earliest first                      ▲ previous ─ owner's list ─ next ▼
//! ```
//!
//! A restart changes the entry only. The heap then says too early a moment; when that comes up, it is put back with the true one. What is
//! removed leaves its place in the heap too; the heap is made anew before such leavings outnumber what lives.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use hashbrown::HashTable;
use primitives::{UnixMillis, UserNid};

use crate::{
    first::First,
    timeline::{Era, Moment, Timeline},
};

/// The hash of a delay id: what everything here is called by.
pub(crate) type Key = [u8; 16];

/// A place in a list: due time (wall clock), order of scheduling.
pub(crate) type ListPlace = (u64, u64);

const CHUNK: usize = 4096;
const NONE: u32 = u32::MAX;
const DUE_BITS: u32 = 48;
const NEVER: u64 = (1 << DUE_BITS) - 1;
const QUEUED: u64 = 1 << 63;
/// The heap may hold this many places of removed events over and above as many as are alive.
const SLACK: usize = 1024;

/// A scheduled event as memory knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) key: Key,
    /// The place in the order of scheduling; unique.
    pub(crate) order: u64,
    pub(crate) user: UserNid,
    pub(crate) room: u32,
    pub(crate) generation: u32,
    /// `None`: only an action sends it.
    pub(crate) due: Option<(UnixMillis, Era)>,
}

impl Timer {
    /// The place in a list: what has no timer comes after everything that has one.
    pub(crate) fn list_place(&self) -> ListPlace {
        (self.due.map_or(u64::MAX, |(at, _)| at.0), self.order)
    }
}

/// Names an entry for as long as it lives; a later one in the same place is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    index: u32,
    order: u64,
}

/// An event whose moment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DueTimer {
    pub(crate) handle: Handle,
    pub(crate) key: Key,
    pub(crate) moment: Moment,
    pub(crate) order: u64,
    pub(crate) user: UserNid,
    pub(crate) room: u32,
}

/// 56 bytes. `due`: 48 bits of wall-clock milliseconds, 15 of the era, 1 for "in the queue".
#[derive(Clone, Copy)]
struct Entry {
    key: Key,
    order: u64,
    due: u64,
    user: u32,
    room: u32,
    generation: u32,
    previous: u32,
    /// Of the owner's list; of the list of free entries once removed.
    next: u32,
    /// The restart limit's memory for this event.
    pace: u32,
}

impl Entry {
    fn new(timer: &Timer) -> Self {
        let mut entry = Self {
            key: timer.key,
            order: timer.order,
            due: 0,
            user: timer.user.0,
            room: timer.room,
            generation: timer.generation,
            previous: NONE,
            next: NONE,
            pace: 0,
        };
        entry.set_due(timer.due);
        entry
    }

    fn due(&self) -> Option<(UnixMillis, Era)> {
        let at = self.due & NEVER;
        let era = (self.due & !QUEUED) >> DUE_BITS;
        (at != NEVER).then(|| (UnixMillis(at), Era::from_bits(u16::try_from(era).expect("15 bits"))))
    }

    fn set_due(&mut self, due: Option<(UnixMillis, Era)>) {
        let bits = due.map_or(NEVER, |(at, era)| at.0.min(NEVER - 1) | u64::from(era.bits()) << DUE_BITS);
        self.due = bits | (self.due & QUEUED);
    }

    fn queued(&self) -> bool {
        self.due & QUEUED != 0
    }

    fn timer(&self) -> Timer {
        Timer {
            key: self.key,
            order: self.order,
            user: UserNid(self.user),
            room: self.room,
            generation: self.generation,
            due: self.due(),
        }
    }
}

/// The owner's list and what is about to join it.
#[derive(Clone, Copy)]
struct Owner {
    first: u32,
    count: u32,
    reserved: u32,
}

/// Everything that is scheduled.
pub(crate) struct Timers {
    chunks: Vec<Vec<Entry>>,
    /// The first of the free entries.
    free: u32,
    table: HashTable<u32>,
    owners: HashMap<UserNid, Owner>,
    /// Moment (48 bits), order (its low 48 bits), index (32 bits).
    heap: BinaryHeap<Reverse<u128>>,
    reserved: usize,
    /// Removed before they were inserted: an action overtook the end of its event's scheduling.
    overtaken: HashSet<Key>,
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers").field("alive", &self.len()).field("heap", &self.heap.len()).finish_non_exhaustive()
    }
}

fn hash(key: &Key) -> u64 {
    u64::from_le_bytes(*key.first_chunk().expect("16 bytes"))
}

fn place(moment: Moment, order: u64, index: u32) -> Reverse<u128> {
    let (moment, order) = (moment.0.min(NEVER), order & NEVER);
    Reverse(u128::from(moment) << 80 | u128::from(order) << 32 | u128::from(index))
}

impl Timers {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: NONE,
            table: HashTable::new(),
            owners: HashMap::new(),
            heap: BinaryHeap::new(),
            reserved: 0,
            overtaken: HashSet::new(),
        }
    }

    /// How many are scheduled.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn entry(&self, index: u32) -> &Entry {
        let index = index as usize;
        &self.chunks[index / CHUNK][index % CHUNK]
    }

    fn entry_mut(&mut self, index: u32) -> &mut Entry {
        let index = index as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }

    fn find(&self, key: &Key) -> Option<u32> {
        self.table.find(hash(key), |&index| self.entry(index).key == *key).copied()
    }

    fn find_mut(&mut self, key: &Key) -> Option<(u32, &mut Entry)> {
        let index = self.find(key)?;
        Some((index, self.entry_mut(index)))
    }

    /// The index of a handle whose entry is still alive.
    fn alive(&self, handle: Handle) -> Option<u32> {
        let entry = self.chunks.get(handle.index as usize / CHUNK)?.get(handle.index as usize % CHUNK)?;
        (entry.order == handle.order).then_some(handle.index)
    }

    /// The event that a handle names, if it is still scheduled.
    pub(crate) fn key_of(&self, handle: Handle) -> Option<Key> {
        self.alive(handle).map(|index| self.entry(index).key)
    }

    /// What is known of an event.
    pub(crate) fn get(&self, key: &Key) -> Option<Timer> {
        self.find(key).map(|index| self.entry(index).timer())
    }

    /// The restart limit's memory for an event.
    pub(crate) fn pace(&mut self, key: &Key) -> Option<&mut u32> {
        self.find_mut(key).map(|(_, entry)| &mut entry.pace)
    }

    /// How many a user has scheduled, with those about to be.
    pub(crate) fn count(&self, user: UserNid) -> usize {
        self.owners.get(&user).map_or(0, |owner| (owner.count + owner.reserved) as usize)
    }

    /// Takes places for events about to be scheduled, unless the user would then have more than `limit`. Each place is given back with
    /// [`Self::release`], after its event was inserted or not.
    pub(crate) fn reserve(&mut self, user: UserNid, places: u32, limit: Option<u32>) -> bool {
        let owner = self.owners.entry(user).or_insert(Owner { first: NONE, count: 0, reserved: 0 });
        let after = owner.count.saturating_add(owner.reserved).saturating_add(places);
        let allowed = limit.is_none_or(|limit| after <= limit);
        if allowed {
            owner.reserved += places;
            self.reserved += places as usize;
        }
        self.forget_idle(user);
        allowed
    }

    /// Gives places back.
    pub(crate) fn release(&mut self, user: UserNid, places: u32) {
        if let Some(owner) = self.owners.get_mut(&user) {
            owner.reserved = owner.reserved.saturating_sub(places);
        }
        self.reserved = self.reserved.saturating_sub(places as usize);
        if self.reserved == 0 {
            self.overtaken.clear();
        }
        self.forget_idle(user);
    }

    fn forget_idle(&mut self, user: UserNid) {
        if self.owners.get(&user).is_some_and(|owner| owner.count == 0 && owner.reserved == 0) {
            self.owners.remove(&user);
        }
    }

    /// Adds an event, unless it is there already or was removed in the meantime.
    pub(crate) fn insert(&mut self, timer: &Timer, timeline: &Timeline) {
        if self.overtaken.remove(&timer.key) || self.find(&timer.key).is_some() {
            return;
        }
        let index = self.allot(Entry::new(timer));
        self.link(index);
        if let Some((at, era)) = timer.due {
            self.heap.push(place(timeline.moment(at, era), timer.order, index));
        }
    }

    /// Makes an entry found by its hash and by its owner.
    fn link(&mut self, index: u32) {
        let Entry { key, user, .. } = *self.entry(index);
        let owner = self.owners.entry(UserNid(user)).or_insert(Owner { first: NONE, count: 0, reserved: 0 });
        let next = std::mem::replace(&mut owner.first, index);
        owner.count += 1;
        self.entry_mut(index).next = next;
        if next != NONE {
            self.entry_mut(next).previous = index;
        }
        let chunks = &self.chunks;
        let hash_of = |&index: &u32| hash(&chunks[index as usize / CHUNK][index as usize % CHUNK].key);
        self.table.insert_unique(hash(&key), index, hash_of);
    }

    /// Adds an event at the start, when all are loaded one after the other. Nothing knows of it before [`Self::arrange`].
    pub(crate) fn load(&mut self, timer: &Timer) {
        self.allot(Entry::new(timer));
    }

    /// Ends the loading: puts each owner's events side by side, so that a list of them reads memory in its order.
    pub(crate) fn arrange(&mut self, timeline: &Timeline) {
        let count = self.chunks.iter().map(Vec::len).sum::<usize>();
        let count = u32::try_from(count).expect("fewer than 2^32 events are scheduled");
        let mut by_owner: Vec<(u32, u32)> = (0..count).map(|index| (self.entry(index).user, index)).collect();
        by_owner.sort_unstable();
        for to in 0..count {
            // What belongs here has been moved on if its own place was filled before.
            let mut from = by_owner[to as usize].1;
            while from < to {
                from = by_owner[from as usize].1;
            }
            let (a, b) = (*self.entry(to), *self.entry(from));
            *self.entry_mut(to) = b;
            *self.entry_mut(from) = a;
        }
        drop(by_owner);
        self.table.reserve(count as usize, |_| 0);
        (0..count).for_each(|index| self.link(index));
        self.rebuild(timeline);
    }

    fn allot(&mut self, entry: Entry) -> u32 {
        if self.free != NONE {
            let index = self.free;
            self.free = self.entry(index).next;
            *self.entry_mut(index) = entry;
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("just made");
        chunk.push(entry);
        u32::try_from(full + chunk.len() - 1).expect("fewer than 2^32 events are scheduled")
    }

    /// Takes an event out.
    pub(crate) fn remove(&mut self, key: &Key, timeline: &Timeline) -> Option<Timer> {
        let Ok(found) = self
            .table
            .find_entry(hash(key), |&index| self.chunks[index as usize / CHUNK][index as usize % CHUNK].key == *key)
        else {
            if self.reserved > 0 {
                self.overtaken.insert(*key);
            }
            return None;
        };
        let (index, _) = found.remove();
        let entry = *self.entry(index);
        let user = UserNid(entry.user);
        if entry.next != NONE {
            self.entry_mut(entry.next).previous = entry.previous;
        }
        let owner = self.owners.get_mut(&user).expect("who owns an entry has a list");
        owner.count -= 1;
        if entry.previous == NONE {
            owner.first = entry.next;
        } else {
            self.entry_mut(entry.previous).next = entry.next;
        }
        self.forget_idle(user);
        let free = self.free;
        let gone = self.entry_mut(index);
        (gone.order, gone.next) = (0, free);
        self.free = index;
        if self.heap.len() > 2 * self.table.len() + SLACK {
            self.rebuild(timeline);
        }
        Some(entry.timer())
    }

    /// Sets the due time that a restart wrote, unless a later restart has been seen already.
    pub(crate) fn rearm(&mut self, key: &Key, generation: u32, due: Option<(UnixMillis, Era)>, timeline: &Timeline) {
        let Some((index, entry)) = self.find_mut(key) else { return };
        if generation <= entry.generation {
            return;
        }
        let moment = |due: Option<(UnixMillis, Era)>| due.map(|(at, era)| timeline.moment(at, era));
        let before = moment(entry.due());
        entry.generation = generation;
        entry.set_due(due);
        let (order, queued) = (entry.order, entry.queued());
        // The heap may be early but never late.
        if let Some(now) = moment(due)
            && !queued
            && before.is_none_or(|before| now < before)
        {
            self.heap.push(place(now, order, index));
        }
    }

    /// When to look again: no event is due before.
    pub(crate) fn next_moment(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(top)| Moment(u64::try_from(top >> 80).expect("48 bits")))
    }

    /// Takes up to `limit` events off the heap whose moment has come, in the order of their moments, then of scheduling. Answers whether
    /// there may be more. They stay scheduled, and the heap does not tell of them again before [`Self::requeue`].
    pub(crate) fn pop_due(&mut self, now: Moment, timeline: &Timeline, limit: usize, out: &mut Vec<DueTimer>) -> bool {
        for _ in 0..limit {
            match self.heap.peek() {
                Some(Reverse(top)) if top >> 80 <= u128::from(now.0) => {}
                _ => return false,
            }
            let Some(Reverse(top)) = self.heap.pop() else { return false };
            let index = u32::try_from(top & u128::from(u32::MAX)).expect("32 bits");
            let order = u64::try_from(top >> 32 & u128::from(NEVER)).expect("48 bits");
            let entry = self.entry_mut(index);
            let Some((at, era)) = entry.due() else { continue };
            if entry.order == 0 || entry.order & NEVER != order || entry.queued() {
                continue;
            }
            let moment = timeline.moment(at, era);
            // Later than the heap thought: others may come first, even if this one is due as well.
            if u128::from(moment.0) > top >> 80 {
                let again = place(moment, entry.order, index);
                self.heap.push(again);
                continue;
            }
            entry.due |= QUEUED;
            let handle = Handle { index, order: entry.order };
            let (key, order, user, room) = (entry.key, entry.order, UserNid(entry.user), entry.room);
            out.push(DueTimer { handle, key, moment, order, user, room });
        }
        true
    }

    /// Puts an event that was popped back on the heap, to come up at its present due time, and not before `earliest`.
    pub(crate) fn requeue(&mut self, handle: Handle, earliest: Moment, timeline: &Timeline) {
        let Some(index) = self.alive(handle) else { return };
        let entry = self.entry_mut(index);
        entry.due &= !QUEUED;
        if let Some((at, era)) = entry.due() {
            let again = place(timeline.moment(at, era).max(earliest), handle.order, index);
            self.heap.push(again);
        }
    }

    /// Whether the moment of an event that was popped is still past: it may have been restarted or removed since.
    pub(crate) fn still_due(&self, handle: Handle, now: Moment, timeline: &Timeline) -> bool {
        let due = self.alive(handle).and_then(|index| self.entry(index).due());
        due.is_some_and(|(at, era)| timeline.moment(at, era) <= now)
    }

    /// Makes the heap anew: after a step of the wall clock, or when too many of its places are of events that are gone.
    pub(crate) fn rebuild(&mut self, timeline: &Timeline) {
        let mut places = std::mem::take(&mut self.heap).into_vec();
        places.clear();
        for &index in &self.table {
            let entry = self.entry(index);
            if let Some((at, era)) = entry.due()
                && !entry.queued()
            {
                places.push(place(timeline.moment(at, era), entry.order, index));
            }
        }
        places.shrink_to(self.table.len() + SLACK);
        self.heap = BinaryHeap::from(places);
    }

    /// Everything that a user has scheduled, in no order.
    pub(crate) fn of_user(&self, user: UserNid) -> impl Iterator<Item = Timer> + '_ {
        let first = self.owners.get(&user).map(|owner| owner.first);
        let next = |index: u32| (index != NONE).then_some(index);
        std::iter::successors(first.and_then(next), move |&index| next(self.entry(index).next))
            .map(|index| self.entry(index).timer())
    }

    /// Of a user's events that come after a place, the first `count`, by due time, then by the order of scheduling; those without a timer
    /// are due after all others. `backwards`: the other way round.
    pub(crate) fn first_of(
        &self,
        user: UserNid,
        count: usize,
        backwards: bool,
        after: Option<ListPlace>,
        wanted: impl Fn(ListPlace, &Timer) -> bool,
    ) -> Vec<(ListPlace, Key)> {
        let mut first = First::new(count, backwards, after);
        for timer in self.of_user(user) {
            let place = timer.list_place();
            if first.wants(place) && wanted(place, &timer) {
                first.take(place, timer.key);
            }
        }
        first.into_page()
    }

    /// Shows the events of one part of memory, in no order: to go through all without keeping others waiting for all. `false`: there is no
    /// such part. What is scheduled or restarted meanwhile may be seen or not.
    pub(crate) fn visit(&self, part: usize, visit: impl FnMut(Timer)) -> bool {
        let Some(chunk) = self.chunks.get(part) else { return false };
        chunk.iter().filter(|entry| entry.order != 0).map(Entry::timer).for_each(visit);
        true
    }

    /// Who has something scheduled, and how much; in no order.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (UserNid, usize)> + '_ {
        self.owners.iter().map(|(user, owner)| (*user, owner.count as usize)).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use primitives::ManualClock;
    use proptest::prelude::*;

    use super::*;

    fn timeline() -> Timeline {
        Timeline::start(&*ManualClock::new(UnixMillis(1_000)), Duration::from_hours(24))
    }

    fn timer(id: u8, due: Option<u64>) -> Timer {
        let due = due.map(|at| (UnixMillis(at), Era::LOADED));
        Timer { key: [id; 16], order: u64::from(id) + 1, user: UserNid(u32::from(id % 3)), room: 0, generation: 0, due }
    }

    #[test]
    fn an_entry_is_as_small_as_it_is_said_to_be() {
        assert_eq!((size_of::<Entry>(), size_of::<Reverse<u128>>()), (56, 16));
    }

    #[test]
    fn what_is_removed_before_it_is_inserted_stays_away() {
        let (line, mut timers) = (timeline(), Timers::new());
        assert!(timers.reserve(UserNid(1), 1, Some(1)));
        assert_eq!(timers.remove(&[1; 16], &line), None);
        timers.insert(&timer(1, Some(5)), &line);
        timers.release(UserNid(1), 1);
        assert_eq!((timers.len(), timers.count(UserNid(1))), (0, 0));
    }

    #[test]
    fn a_limit_counts_what_is_on_its_way() {
        let mut timers = Timers::new();
        assert!(timers.reserve(UserNid(1), 2, Some(3)));
        assert!(!timers.reserve(UserNid(1), 2, Some(3)));
        assert!(timers.reserve(UserNid(1), 1, Some(3)));
        assert!(timers.reserve(UserNid(1), 9, None));
        timers.release(UserNid(1), 12);
        assert_eq!(timers.count(UserNid(1)), 0);
        assert!(timers.owners.is_empty());
    }

    #[test]
    fn leavings_in_the_heap_are_bounded() {
        let (line, mut timers) = (timeline(), Timers::new());
        for round in 0_u32..20_000 {
            let key = u128::from(round).to_be_bytes();
            timers.insert(&Timer { key, order: u64::from(round) + 1, ..timer(0, Some(1_000_000)) }, &line);
            assert!(timers.remove(&key, &line).is_some());
        }
        assert!(timers.heap.len() <= SLACK + 1, "{}", timers.heap.len());
        assert_eq!(timers.chunks.len(), 1);
    }

    #[test]
    fn what_is_loaded_is_arranged_by_owner_and_all_there() {
        let line = timeline();
        for count in [0_u32, 1, 2, 100, 10_000] {
            let mut timers = Timers::new();
            let timer = |n: u32| Timer {
                key: u128::from(n.wrapping_mul(2_654_435_761)).to_be_bytes(),
                order: u64::from(n) + 1,
                user: UserNid(n.wrapping_mul(40_503) % 7),
                ..timer(0, Some(1_000 + u64::from(n)))
            };
            (0..count).for_each(|n| timers.load(&timer(n)));
            timers.arrange(&line);
            let owners: Vec<_> = timers.chunks.iter().flatten().map(|entry| entry.user).collect();
            assert!(owners.is_sorted());
            for n in 0..count {
                assert_eq!(timers.get(&timer(n).key), Some(timer(n)));
            }
            assert_eq!((0..7).map(|user| timers.of_user(UserNid(user)).count()).sum::<usize>(), count as usize);
            let mut due = Vec::new();
            while timers.pop_due(Moment(1_000_000), &line, 1_000, &mut due) {}
            assert!(due.len() == count as usize && due.is_sorted_by_key(|due| due.order));
        }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Insert(u8, Option<u64>),
        Remove(u8),
        Rearm(u8, u64),
        Pop(u64, usize),
        Requeue,
        Rebuild,
    }

    fn act() -> impl Strategy<Value = Act> {
        let due = 1_000_u64..1_100;
        prop_oneof![
            4 => (any::<u8>(), proptest::option::weighted(0.9, due.clone())).prop_map(|(id, due)| Act::Insert(id % 40, due)),
            2 => any::<u8>().prop_map(|id| Act::Remove(id % 40)),
            3 => (any::<u8>(), due.clone()).prop_map(|(id, due)| Act::Rearm(id % 40, due)),
            2 => (due, 1_usize..10).prop_map(|(now, limit)| Act::Pop(now, limit)),
            1 => Just(Act::Requeue),
            1 => Just(Act::Rebuild),
        ]
    }

    /// What the timers should hold: by id, the due time, the generation, and whether it was popped.
    #[derive(Default)]
    struct Model(BTreeMap<u8, (Option<u64>, u32, bool)>);

    impl Model {
        fn due(&self, now: u64) -> Vec<u8> {
            let mut due: Vec<_> = self
                .0
                .iter()
                .filter_map(|(id, (due, _, popped))| (!popped).then_some((due.filter(|d| *d < now)?, *id)))
                .collect();
            due.sort_unstable();
            due.into_iter().map(|(_, id)| id).collect()
        }
    }

    proptest! {
        #[test]
        fn timers_do_what_a_sorted_map_would_do(acts in proptest::collection::vec(act(), 0..200)) {
            let (line, mut timers, mut model) = (timeline(), Timers::new(), Model::default());
            let mut popped: Vec<DueTimer> = Vec::new();
            for act in acts {
                match act {
                    Act::Insert(id, due) => {
                        timers.insert(&timer(id, due), &line);
                        model.0.entry(id).or_insert((due, 0, false));
                    }
                    Act::Remove(id) => {
                        prop_assert_eq!(timers.remove(&[id; 16], &line).is_some(), model.0.remove(&id).is_some());
                        popped.retain(|p| p.key != [id; 16]);
                    }
                    Act::Rearm(id, due) => {
                        if let Some((old, generation, _)) = model.0.get_mut(&id)
                            && old.is_some()
                        {
                            (*old, *generation) = (Some(due), *generation + 1);
                            timers.rearm(&[id; 16], *generation, Some((UnixMillis(due), Era::LOADED)), &line);
                            timers.rearm(&[id; 16], *generation, Some((UnixMillis(1), Era::LOADED)), &line);
                        }
                    }
                    Act::Pop(now, limit) => {
                        // A place that is out of date counts towards the limit; so pop until nothing is left.
                        let (mut out, expected) = (Vec::new(), model.due(now));
                        while timers.pop_due(Moment(now), &line, limit, &mut out) {}
                        prop_assert_eq!(out.iter().map(|d| d.key[0]).collect::<Vec<_>>(), expected.clone());
                        for id in &expected {
                            model.0.get_mut(id).expect("due").2 = true;
                        }
                        popped.extend(out);
                    }
                    Act::Requeue => {
                        for due in popped.drain(..) {
                            timers.requeue(due.handle, Moment(0), &line);
                            model.0.get_mut(&due.key[0]).expect("popped and not removed").2 = false;
                        }
                    }
                    Act::Rebuild => timers.rebuild(&line),
                }
                prop_assert_eq!(timers.len(), model.0.len());
            }
            for user in 0..3 {
                for (backwards, count) in [(false, 3), (true, 3), (false, 100)] {
                    let first = timers.first_of(UserNid(user), count, backwards, None, |_, _| true);
                    let mut expected: Vec<_> = model.0.iter().filter(|(id, _)| u32::from(*id % 3) == user).map(|(id, m)| (m.0.unwrap_or(u64::MAX), *id)).collect();
                    expected.sort_unstable();
                    if backwards {
                        expected.reverse();
                    }
                    let found: Vec<_> = first.iter().map(|((at, _), key)| (*at, key[0])).collect();
                    prop_assert_eq!(found, expected.iter().take(count).copied().collect::<Vec<_>>());
                    if let Some(last) = first.last() {
                        let rest = timers.first_of(UserNid(user), 100, backwards, Some(last.0), |_, _| true);
                        prop_assert_eq!(rest.len(), expected.len() - first.len());
                    }
                }
                let mut found: Vec<_> = timers.of_user(UserNid(user)).map(|t| (t.key[0], t.due.map(|d| d.0.0))).collect();
                found.sort_unstable();
                let expected: Vec<_> = model.0.iter().filter(|(id, _)| u32::from(*id % 3) == user).map(|(id, m)| (*id, m.0)).collect();
                prop_assert_eq!(timers.count(UserNid(user)), expected.len());
                prop_assert_eq!(found, expected);
            }
        }
    }
}
