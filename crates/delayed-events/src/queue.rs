//! What is due and not yet sent: a lane for each room, shares for each user.
//!
//! ```text
//!  turn: Alice, Bob …            whose turn it is
//!    Alice: rooms 1, 7           where she has something due
//!    Bob:   rooms 7
//!  room 7: Alice ▸▸▸▸▸▸▸▸, Bob ▸ a *wave* is taken from the heads, earliest first, a few of one user at a time
//! ```
//!
//! A wave is up to [`Shares::wave`] events of one room in the order of due time, then of scheduling. The next wave of a room waits for
//! the end of the last, so that the order holds. Whoever has many due gives way to the others after [`Shares::run`] events, and is given
//! no more than [`Shares::per_user`] at once in all rooms together: a user's flood delays that user.

use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque, hash_map::Entry};

use primitives::UserNid;

use crate::{
    timeline::Moment,
    timers::{DueTimer, Handle},
};

/// How the work is shared out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// Rooms that are sent to at once.
    pub(crate) rooms: usize,
    /// Events that are being sent at once.
    pub(crate) events: usize,
    /// Events of one user that are being sent at once.
    pub(crate) per_user: usize,
    /// Events of one room that are being sent at once.
    pub(crate) wave: usize,
    /// Events of one user in a row while others wait in the same room.
    pub(crate) run: usize,
    /// The queue takes no more from the heap while it holds this many events,
    pub(crate) most_events: usize,
    /// or this many rooms.
    pub(crate) most_rooms: usize,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            rooms: 32,
            events: 256,
            per_user: 100,
            wave: 50,
            run: 16,
            most_events: 256 * 1024,
            most_rooms: 32 * 1024,
        }
    }
}

/// An event in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) handle: Handle,
    pub(crate) moment: Moment,
    pub(crate) order: u64,
    pub(crate) user: UserNid,
}

/// Events of one room that are to be sent now, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wave {
    pub(crate) room: u32,
    pub(crate) items: Vec<Item>,
}

/// What one user has due in one room.
#[derive(Debug, Default)]
struct Fifo {
    items: VecDeque<Item>,
    /// The room is in the user's list.
    listed: bool,
}

#[derive(Debug, Default)]
struct Lane {
    fifos: HashMap<UserNid, Fifo>,
    /// The first item of each user.
    heads: BTreeSet<(Moment, u64, UserNid)>,
    busy: bool,
    parked: bool,
}

#[derive(Debug, Default)]
struct UserLane {
    rooms: VecDeque<u32>,
    in_flight: usize,
    /// The user is in [`Queue::turn`].
    listed: bool,
}

/// Everything that is due and not yet sent.
#[derive(Debug)]
pub(crate) struct Queue {
    shares: Shares,
    lanes: HashMap<u32, Lane>,
    users: HashMap<UserNid, UserLane>,
    turn: VecDeque<UserNid>,
    /// Rooms that wait after a fault: until when (negated, the heap gives the greatest), and which.
    parked: BinaryHeap<(std::cmp::Reverse<Moment>, u32)>,
    waiting: usize,
    in_flight: usize,
    waves: usize,
}

fn head(item: &Item) -> (Moment, u64, UserNid) {
    (item.moment, item.order, item.user)
}

impl Queue {
    /// An empty queue.
    pub(crate) fn new(shares: Shares) -> Self {
        Self {
            shares,
            lanes: HashMap::new(),
            users: HashMap::new(),
            turn: VecDeque::new(),
            parked: BinaryHeap::new(),
            waiting: 0,
            in_flight: 0,
            waves: 0,
        }
    }

    /// How many events wait or are being sent.
    pub(crate) fn depth(&self) -> usize {
        self.waiting + self.in_flight
    }

    /// Whether the queue takes no more for now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting >= self.shares.most_events || self.lanes.len() >= self.shares.most_rooms
    }

    /// Adds an event behind those of its user in its room.
    pub(crate) fn push(&mut self, due: &DueTimer) {
        let item = Item { handle: due.handle, moment: due.moment, order: due.order, user: due.user };
        let lane = self.lanes.entry(due.room).or_default();
        let fifo = lane.fifos.entry(due.user).or_default();
        if fifo.items.is_empty() {
            lane.heads.insert(head(&item));
        }
        fifo.items.push_back(item);
        self.waiting += 1;
        self.list(due.room, due.user);
    }

    /// Notes that a user has something due in a room, and gives the user a turn.
    fn list(&mut self, room: u32, user: UserNid) {
        let Some(lane) = self.lanes.get_mut(&room) else { return };
        let free = !lane.busy && !lane.parked;
        let Some(fifo) = lane.fifos.get_mut(&user) else { return };
        let lanes = self.users.entry(user).or_default();
        if free && !fifo.listed {
            fifo.listed = true;
            lanes.rooms.push_back(room);
        }
        if !lanes.rooms.is_empty() && !lanes.listed {
            lanes.listed = true;
            self.turn.push_back(user);
        }
    }

    /// The next events to send, if the shares allow for any. Every wave is given back with [`Self::done`].
    pub(crate) fn next(&mut self) -> Option<Wave> {
        if self.waves >= self.shares.rooms || self.in_flight >= self.shares.events {
            return None;
        }
        for _ in 0..self.turn.len() {
            let user = self.turn.pop_front()?;
            let lanes = self.users.get_mut(&user).expect("who has a turn has a list");
            lanes.listed = false;
            if lanes.in_flight >= self.shares.per_user {
                continue;
            }
            let wave = self.next_of(user);
            self.relist(user);
            if let Some(wave) = wave {
                self.waves += 1;
                return Some(wave);
            }
        }
        None
    }

    /// Gives a user a turn again, if there is anything to do for the user and room in the user's share; forgets the user if not.
    fn relist(&mut self, user: UserNid) {
        let Entry::Occupied(mut lanes) = self.users.entry(user) else { return };
        let lane = lanes.get_mut();
        if lane.rooms.is_empty() {
            if lane.in_flight == 0 && !lane.listed {
                lanes.remove();
            }
        } else if lane.in_flight < self.shares.per_user && !lane.listed {
            lane.listed = true;
            self.turn.push_back(user);
        }
    }

    /// A wave of the first room in a user's list that is free.
    fn next_of(&mut self, user: UserNid) -> Option<Wave> {
        while let Some(room) = self.users.get_mut(&user)?.rooms.pop_front() {
            let Some(lane) = self.lanes.get_mut(&room) else { continue };
            let Some(fifo) = lane.fifos.get_mut(&user) else { continue };
            fifo.listed = false;
            if lane.busy || lane.parked {
                continue;
            }
            let items = self.take(room);
            if !items.is_empty() {
                return Some(Wave { room, items });
            }
        }
        None
    }

    /// Takes a wave's events out of a room's lane.
    fn take(&mut self, room: u32) -> Vec<Item> {
        let lane = self.lanes.get_mut(&room).expect("the caller has seen the lane");
        let most = self.shares.wave.min(self.shares.events - self.in_flight);
        let (mut items, mut run, mut gave_way, mut over) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        while items.len() < most {
            let Some(first) = lane.heads.pop_first() else {
                if gave_way.is_empty() {
                    break;
                }
                lane.heads.extend(gave_way.drain(..));
                run.clear();
                continue;
            };
            let user = first.2;
            let lanes = self.users.entry(user).or_default();
            if lanes.in_flight >= self.shares.per_user {
                over.push(first);
                continue;
            }
            let fifo = lane.fifos.get_mut(&user).expect("a head belongs to a list");
            items.push(fifo.items.pop_front().expect("a head is an item"));
            lanes.in_flight += 1;
            let Some(second) = fifo.items.front().map(head) else {
                if !fifo.listed {
                    lane.fifos.remove(&user);
                }
                continue;
            };
            let in_a_row = run.entry(user).or_insert(0);
            *in_a_row += 1;
            if *in_a_row < self.shares.run {
                lane.heads.insert(second);
            } else {
                gave_way.push(second);
            }
        }
        lane.heads.extend(gave_way);
        lane.heads.extend(over);
        lane.busy = !items.is_empty();
        self.waiting -= items.len();
        self.in_flight += items.len();
        items
    }

    /// Ends a wave. `again`: its events that are to be tried again, in their order, the room's first; `until`: the room waits so long.
    pub(crate) fn done(&mut self, wave: &Wave, again: &[Item], until: Option<Moment>) {
        self.waves -= 1;
        self.in_flight -= wave.items.len();
        for item in &wave.items {
            self.users.get_mut(&item.user).expect("who has events in flight has a list").in_flight -= 1;
        }
        let lane = self.lanes.get_mut(&wave.room).expect("a busy lane stays");
        lane.busy = false;
        for item in again.iter().rev() {
            let fifo = lane.fifos.entry(item.user).or_default();
            if let Some(first) = fifo.items.front().map(head) {
                lane.heads.remove(&first);
            }
            lane.heads.insert(head(item));
            fifo.items.push_front(*item);
        }
        self.waiting += again.len();
        if let Some(until) = until.filter(|_| !lane.heads.is_empty()) {
            lane.parked = true;
            self.parked.push((std::cmp::Reverse(until), wave.room));
        }
        self.free(wave.room);
        for item in &wave.items {
            self.relist(item.user);
        }
    }

    /// Lists a room that is no longer busy or parked with everyone who has something due there.
    fn free(&mut self, room: u32) {
        let Entry::Occupied(mut lane) = self.lanes.entry(room) else { return };
        lane.get_mut().fifos.retain(|_, fifo| !fifo.items.is_empty());
        if lane.get().heads.is_empty() {
            lane.remove();
            return;
        }
        let users: Vec<_> = lane.get().fifos.keys().copied().collect();
        for user in users {
            self.list(room, user);
        }
    }

    /// Lets rooms go on whose wait is over.
    pub(crate) fn unpark(&mut self, now: Moment) {
        while let Some((std::cmp::Reverse(until), room)) = self.parked.peek().copied()
            && until <= now
        {
            self.parked.pop();
            if let Some(lane) = self.lanes.get_mut(&room) {
                lane.parked = false;
                self.free(room);
            }
        }
    }

    /// When the wait of the next room is over.
    pub(crate) fn next_moment(&self) -> Option<Moment> {
        self.parked.peek().map(|(std::cmp::Reverse(until), _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use primitives::{ManualClock, UnixMillis};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        timeline::{Era, Timeline},
        timers::{Timer, Timers},
    };

    /// Due timers as the heap gives them: for each, its moment, user and room.
    fn due(events: &[(u64, u32, u32)]) -> Vec<DueTimer> {
        let line = Timeline::start(&*ManualClock::new(UnixMillis(1_000)), Duration::from_secs(9));
        let mut timers = Timers::new();
        for (order, (moment, user, room)) in (1_u64..).zip(events) {
            let key = u128::from(order).to_be_bytes();
            let due = Some((UnixMillis(*moment), Era::LOADED));
            timers.insert(&Timer { key, order, user: UserNid(*user), room: *room, generation: 0, due }, &line);
        }
        let mut out = Vec::new();
        timers.pop_due(Moment(u64::MAX >> 16), &line, usize::MAX, &mut out);
        out
    }

    fn queue(shares: Shares, events: &[(u64, u32, u32)]) -> Queue {
        let mut queue = Queue::new(shares);
        for due in &due(events) {
            queue.push(due);
        }
        queue
    }

    fn orders(wave: &Wave) -> Vec<u64> {
        wave.items.iter().map(|item| item.order).collect()
    }

    #[test]
    fn a_wave_is_in_order_of_due_time_then_of_scheduling_and_its_room_waits_for_its_end() {
        let mut queue = queue(Shares { wave: 3, ..Shares::default() }, &[(5, 1, 1), (3, 2, 1), (5, 2, 1), (4, 1, 1)]);
        let first = queue.next().expect("due");
        assert_eq!(orders(&first), [2, 4, 1]);
        assert_eq!(queue.next(), None);
        queue.done(&first, &[], None);
        assert_eq!(orders(&queue.next().expect("the rest")), [3]);
    }

    #[test]
    fn a_flood_in_one_room_lets_others_in_the_same_room_through() {
        let mut events = vec![(1, 1, 1); 1_000];
        events.push((2, 2, 1));
        let mut queue = queue(Shares::default(), &events);
        assert!(orders(&queue.next().expect("due")).contains(&1_001));
    }

    #[test]
    fn a_users_flood_over_many_rooms_leaves_room_for_others() {
        let mut events: Vec<_> = (0..1_000).map(|n| (1, 1, n)).collect();
        events.push((2, 2, 5_000));
        let mut queue = queue(Shares { per_user: 8, ..Shares::default() }, &events);
        let waves: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(waves.len(), 9);
        assert!(waves.iter().any(|wave| wave.room == 5_000));
        queue.done(&waves[0], &[], None);
        assert!(queue.next().is_some());
    }

    #[test]
    fn after_a_fault_the_room_waits_and_goes_on_in_order() {
        let mut queue = queue(Shares { wave: 2, ..Shares::default() }, &[(1, 1, 1), (2, 1, 1), (3, 1, 1)]);
        let wave = queue.next().expect("due");
        queue.done(&wave, &wave.items, Some(Moment(100)));
        assert_eq!((queue.next(), queue.next_moment()), (None, Some(Moment(100))));
        queue.unpark(Moment(99));
        assert_eq!(queue.next(), None);
        queue.unpark(Moment(100));
        assert_eq!(orders(&queue.next().expect("due again")), [1, 2]);
        assert_eq!(queue.depth(), 3);
    }

    proptest! {
        #[test]
        fn everything_is_sent_once_and_each_users_events_of_a_room_in_order(
            events in proptest::collection::vec((0_u64..20, 0_u32..4, 0_u32..4), 0..120),
            faults in proptest::collection::vec(any::<bool>(), 60),
            per_user in 1_usize..9,
        ) {
            let shares = Shares { rooms: 3, events: 12, per_user, wave: 5, run: 2, ..Shares::default() };
            let (mut queue, mut faults) = (queue(shares, &events), faults.into_iter());
            let (mut open, mut sent, mut now): (Vec<Wave>, Vec<(u32, Item)>, u64) = (Vec::new(), Vec::new(), 100);
            loop {
                while let Some(wave) = queue.next() {
                    prop_assert!(open.iter().all(|other| other.room != wave.room));
                    open.push(wave);
                    let in_flight = |user| open.iter().flat_map(|wave| &wave.items).filter(|item| item.user == user).count();
                    prop_assert!((0..4).all(|user| in_flight(UserNid(user)) <= per_user));
                    prop_assert!(open.len() <= 3 && open.iter().map(|wave| wave.items.len()).sum::<usize>() <= 12);
                }
                if let Some(wave) = open.pop() {
                    if faults.next() == Some(true) {
                        queue.done(&wave, &wave.items, Some(Moment(now + 5)));
                    } else {
                        sent.extend(wave.items.iter().map(|item| (wave.room, *item)));
                        queue.done(&wave, &[], None);
                    }
                } else if queue.next_moment().is_some() {
                    now += 1;
                    queue.unpark(Moment(now));
                } else {
                    break;
                }
            }
            prop_assert_eq!((sent.len(), queue.depth()), (events.len(), 0));
            prop_assert!(queue.lanes.is_empty() && queue.users.is_empty() && queue.turn.is_empty());
            for room in 0..4 {
                for user in 0..4 {
                    let of: Vec<_> = sent.iter().filter(|(r, item)| *r == room && item.user == UserNid(user)).map(|(_, i)| (i.moment, i.order)).collect();
                    prop_assert!(of.is_sorted());
                }
            }
        }
    }
}
