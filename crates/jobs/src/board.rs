//! Which job has its turn: pure bookkeeping, without a store and without a clock.
//!
//! ```text
//!            offer                 next                end: more, at once ─▶ back of the queue
//!  the store ─────▶ queue of its ─────▶ running ──────┬──▶ end: a pause or a failure ─▶ waits ─▶ queue
//!                   kind                              └──▶ end: done ─▶ forgotten
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use storage::schema::jobs::JobKind;

/// Jobs of a kind whose turn is to come; further ones stay in the store until there is a place.
const QUEUE: usize = 1_000;
/// A job that has failed waits so long, then twice as long, and so on,
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// but no longer than this,
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// unless it was set aside.
const SET_ASIDE: Duration = Duration::from_hours(1);

/// What a job is about, as in the key of its row.
pub(crate) type Id = Vec<u8>;

/// How a turn has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// There is no such job any more.
    Done,
    /// It has more to do, after a pause.
    More(Duration),
    /// It could not be done.
    Failed,
}

/// How much there is of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Whose turn is to come, now or after a pause.
    pub(crate) queued: usize,
    pub(crate) running: usize,
    /// Those that have failed too often.
    pub(crate) set_aside: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// `seen`: its row was met meanwhile, which may be one that was written after the running step's end.
    Running {
        seen: bool,
    },
    Waits {
        until: Duration,
    },
}

#[derive(Debug)]
struct Entry {
    state: State,
    failures: u32,
}

/// The jobs of one kind that are in memory.
#[derive(Debug, Default)]
struct Lane {
    ready: VecDeque<Id>,
    entries: HashMap<Id, Entry>,
    running: usize,
    /// There are more in the store.
    overflows: bool,
}

/// The bounds of a board.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) at_once: usize,
    pub(crate) at_once_per_kind: usize,
    pub(crate) failures: u32,
}

/// All jobs that are in memory.
#[derive(Debug)]
pub(crate) struct Board {
    bounds: Bounds,
    lanes: BTreeMap<JobKind, Lane>,
    waiting: BTreeSet<(Duration, JobKind, Id)>,
    running: usize,
    /// The kind that had the last turn.
    last: JobKind,
}

impl Board {
    /// A board for these kinds.
    pub(crate) fn new(kinds: impl IntoIterator<Item = JobKind>, bounds: Bounds) -> Self {
        let lanes = kinds.into_iter().map(|kind| (kind, Lane::default())).collect();
        Self { bounds, lanes, waiting: BTreeSet::new(), running: 0, last: JobKind(0) }
    }

    /// The kinds whose jobs are to be looked up in the store: those that have a place.
    pub(crate) fn hungry(&mut self) -> Vec<JobKind> {
        let hungry = self.lanes.iter_mut().filter(|(_, lane)| lane.ready.len() < QUEUE);
        let kinds = hungry.map(|(kind, lane)| {
            lane.overflows = false;
            *kind
        });
        kinds.collect()
    }

    /// Whether a kind has run out of jobs while the store had more.
    pub(crate) fn is_starved(&self) -> bool {
        self.lanes.values().any(|lane| lane.overflows && lane.ready.is_empty())
    }

    /// A job that is stored. Answers whether there is a place for the next one.
    pub(crate) fn offer(&mut self, kind: JobKind, id: Id) -> bool {
        let Some(lane) = self.lanes.get_mut(&kind) else { return false };
        match lane.entries.get_mut(&id) {
            Some(Entry { state: State::Running { seen }, .. }) => *seen = true,
            Some(_) => {}
            None if lane.ready.len() >= QUEUE => {
                lane.overflows = true;
                return false;
            }
            None => {
                lane.entries.insert(id.clone(), Entry { state: State::Ready, failures: 0 });
                lane.ready.push_back(id);
            }
        }
        true
    }

    /// The job whose turn it is; it runs from now on. `None`: none is ready, or enough are running.
    pub(crate) fn next(&mut self, now: Duration) -> Option<(JobKind, Id)> {
        self.end_waits(now);
        if self.running >= self.bounds.at_once {
            return None;
        }
        let after = self.lanes.keys().copied().filter(|kind| *kind > self.last);
        let order: Vec<_> = after.chain(self.lanes.keys().copied().filter(|kind| *kind <= self.last)).collect();
        for kind in order {
            let lane = self.lanes.get_mut(&kind).expect("a kind of the board");
            if lane.running >= self.bounds.at_once_per_kind {
                continue;
            }
            if let Some(id) = lane.ready.pop_front() {
                lane.entries.get_mut(&id).expect("what is ready is known").state = State::Running { seen: false };
                lane.running += 1;
                self.running += 1;
                self.last = kind;
                return Some((kind, id));
            }
        }
        None
    }

    /// A job's turn has ended. Answers whether the job has just been set aside.
    pub(crate) fn end(&mut self, kind: JobKind, id: &Id, end: End, now: Duration) -> bool {
        let lane = self.lanes.get_mut(&kind).expect("a kind of the board");
        let entry = lane.entries.get_mut(id).expect("what runs is known");
        let seen = entry.state == State::Running { seen: true };
        lane.running -= 1;
        self.running -= 1;
        let pause = match end {
            End::Done if !seen => {
                lane.entries.remove(id);
                return false;
            }
            End::Done => Duration::ZERO,
            End::More(pause) => pause,
            End::Failed => self.bounds.wait_after(entry.failures),
        };
        entry.failures = if end == End::Failed { entry.failures.saturating_add(1) } else { 0 };
        if pause == Duration::ZERO {
            entry.state = State::Ready;
            lane.ready.push_back(id.clone());
        } else {
            let until = now + pause;
            entry.state = State::Waits { until };
            self.waiting.insert((until, kind, id.clone()));
        }
        entry.failures == self.bounds.failures
    }

    /// When the first wait ends.
    pub(crate) fn next_moment(&self) -> Option<Duration> {
        self.waiting.first().map(|(until, ..)| *until)
    }

    /// How much there is of each kind.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (JobKind, Count)> {
        self.lanes.iter().map(|(kind, lane)| {
            let set_aside = lane.entries.values().filter(|entry| entry.failures >= self.bounds.failures).count();
            let queued = lane.entries.len().saturating_sub(lane.running + set_aside);
            (*kind, Count { queued, running: lane.running, set_aside })
        })
    }

    fn end_waits(&mut self, now: Duration) {
        while let Some((until, kind, id)) = self.waiting.pop_first() {
            if until > now {
                self.waiting.insert((until, kind, id));
                return;
            }
            let lane = self.lanes.get_mut(&kind).expect("a kind of the board");
            lane.entries.get_mut(&id).expect("what waits is known").state = State::Ready;
            lane.ready.push_back(id);
        }
    }
}

impl Bounds {
    /// How long a job waits after a failure that comes after others.
    fn wait_after(&self, failures: u32) -> Duration {
        if failures.saturating_add(1) >= self.failures {
            return SET_ASIDE;
        }
        FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: JobKind = JobKind(1);
    const B: JobKind = JobKind(2);
    const NOW: Duration = Duration::from_secs(100);

    fn board(at_once: usize, at_once_per_kind: usize) -> Board {
        Board::new([A, B], Bounds { at_once, at_once_per_kind, failures: 3 })
    }

    fn id(number: u8) -> Id {
        vec![number]
    }

    #[test]
    fn kinds_have_their_turns_one_after_another_and_so_have_the_jobs_of_a_kind() {
        let mut board = board(1, 1);
        for number in 1..=3 {
            board.offer(A, id(number));
        }
        board.offer(B, id(9));
        let mut turns = Vec::new();
        for _ in 0..7 {
            let (kind, id) = board.next(NOW).expect("somebody's turn");
            assert_eq!(board.next(NOW), None, "one at once");
            board.end(kind, &id, End::More(Duration::ZERO), NOW);
            turns.push((kind.0, id[0]));
        }
        assert_eq!(turns, [(1, 1), (2, 9), (1, 2), (2, 9), (1, 3), (2, 9), (1, 1)]);
    }

    #[test]
    fn no_more_run_than_the_bounds_allow_and_no_job_twice_at_once() {
        let mut board = board(3, 2);
        for number in 1..=9 {
            board.offer(A, id(number));
            board.offer(B, id(number));
        }
        let running: Vec<_> = std::iter::from_fn(|| board.next(NOW)).collect();
        assert_eq!(running.iter().filter(|(kind, _)| *kind == A).count(), 2);
        assert_eq!(running.len(), 3);
        assert!(board.offer(A, id(1)), "it is known already");
        for (kind, id) in running {
            board.end(kind, &id, End::Done, NOW);
        }
        let mut rest = Vec::new();
        while let Some((kind, id)) = board.next(NOW) {
            board.end(kind, &id, End::Done, NOW);
            rest.push((kind.0, id[0]));
        }
        rest.sort_unstable();
        // The row of the first was met while it ran, and may be a newer one.
        let (first, second) = (std::iter::once(1).chain(3..=9).map(|id| (1, id)), (2..=9).map(|id| (2, id)));
        assert_eq!(rest, first.chain(second).collect::<Vec<_>>());
    }

    #[test]
    fn failures_wait_twice_as_long_each_time_until_the_job_is_set_aside() {
        let mut board = board(1, 1);
        board.offer(A, id(1));
        let mut now = NOW;
        for (wait, set_aside) in [(FIRST_WAIT, false), (FIRST_WAIT * 2, false), (SET_ASIDE, true)] {
            let (kind, id) = board.next(now).expect("its turn");
            assert_eq!(board.end(kind, &id, End::Failed, now), set_aside);
            assert_eq!(board.next_moment(), Some(now + wait));
            assert_eq!(board.next((now + wait).saturating_sub(Duration::from_nanos(1))), None);
            now += wait;
        }
        let count = |board: &Board| board.counts().find(|(kind, _)| *kind == A).expect("a lane").1;
        assert_eq!(count(&board), Count { queued: 0, running: 0, set_aside: 1 });
        let (kind, id) = board.next(now).expect("its turn, after an hour");
        board.end(kind, &id, End::More(Duration::from_secs(1)), now);
        assert_eq!(count(&board), Count { queued: 1, running: 0, set_aside: 0 });
        let (kind, id) = board.next(now + Duration::from_secs(1)).expect("its turn, after its pause");
        board.end(kind, &id, End::Done, now);
        assert_eq!(count(&board), Count::default());
    }

    #[test]
    fn what_has_no_place_is_asked_for_when_the_queue_is_empty() {
        let mut board = board(1, 1);
        let number = |number: usize| number.to_be_bytes().to_vec();
        assert_eq!(board.hungry(), [A, B]);
        assert!((0..QUEUE).all(|n| board.offer(A, number(n))));
        assert_eq!(board.hungry(), [B]);
        assert!(!board.offer(A, number(QUEUE)));
        for _ in 0..QUEUE {
            assert!(!board.is_starved());
            let (kind, id) = board.next(NOW).expect("its turn");
            board.end(kind, &id, End::Done, NOW);
        }
        assert!(board.is_starved());
        assert_eq!(board.hungry(), [A, B]);
        assert!(!board.is_starved());
    }
}
