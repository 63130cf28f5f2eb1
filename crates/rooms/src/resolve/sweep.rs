//! The auth difference: every event that is in the auth chains of some of the states but not of all.
//!
//! Event numbers are topological for auth, so one pass from high numbers to low decides each event: when the pass reaches it, all
//! that cite it have been seen, *provided* that every state event with a higher number has told its auth events so. Those that all
//! states share are told in instalments ahead of the pass, found by the highest numbers in the tree's inner nodes. The pass ends when
//! no event is left that only some states reach: below, all states reach the same.
//!
//! ```text
//! numbers   high ──────────────────────────────► low
//!           decided │ reached by some or by all │ not seen yet
//!                   position      told_to ┘
//! ```

use primitives::Rix;

use super::{AuthPage, Env, Needs, PAGE, ResolveError, conflicts::Conflicts};
use crate::state;

/// How far ahead of the pass the first instalment of shared state events goes. Each further one goes four times as far.
pub(super) const FIRST_STEP: u32 = 4_096;
/// The most pages that are asked for in advance when one is missing.
const PAGES_AHEAD: usize = 256;

/// The pass, and how far it has come.
#[derive(Debug)]
pub(super) struct Sweep {
    masks: Masks,
    /// The bits of all states.
    full: u64,
    /// State events whose auth events have not been told yet, with the states that hold them.
    untold: Vec<(Rix, u64)>,
    /// Every state event above this number has been told of.
    told_to: u32,
    /// No event above this number is undecided.
    position: u32,
    step: u32,
    difference: Vec<(Rix, u64)>,
}

impl Sweep {
    /// A pass that has not begun, whose first instalment goes `step` event numbers ahead.
    pub(super) fn new(conflicts: &Conflicts, step: u32) -> Self {
        Self {
            masks: Masks::default(),
            full: u64::MAX >> (64 - conflicts.sets),
            untold: conflicts.events().into_iter().rev().collect(),
            told_to: u32::MAX,
            position: u32::MAX,
            step,
            difference: vec![],
        }
    }

    /// The events of the auth difference, each with the states whose chains it is in. Complete once a run has needed nothing.
    pub(super) fn difference(&self) -> &[(Rix, u64)] {
        &self.difference
    }

    /// Goes on until the difference is complete or something is needed.
    pub(super) fn run(&mut self, env: &impl Env, conflicts: &Conflicts, needs: &mut Needs) -> Result<(), ResolveError> {
        loop {
            if !self.tell(env, needs) {
                return Ok(());
            }
            if self.masks.partial == 0 {
                return Ok(());
            }
            let next = self.masks.highest_to(self.position).expect("what some states reach is still ahead");
            if self.told_to > next {
                let Some(untold) = self.instalment(env, conflicts, needs, next)? else { return Ok(()) };
                self.untold = untold;
            } else if !self.decide(env, needs, Rix(next)) {
                return Ok(());
            }
        }
    }

    /// Marks the auth events of the untold state events. `false`: pages are missing.
    fn tell(&mut self, env: &impl Env, needs: &mut Needs) -> bool {
        let mut left = vec![];
        for same_page in self.untold.chunk_by(|a, b| AuthPage::of(a.0) == AuthPage::of(b.0)) {
            let number = AuthPage::of(same_page[0].0);
            let Some(page) = env.auth_page(number) else {
                needs.auth_pages.insert(number);
                left.extend_from_slice(same_page);
                continue;
            };
            for (rix, mask) in same_page {
                for auth in page.get(*rix) {
                    self.masks.add(*auth, *mask, self.full);
                }
            }
        }
        self.untold = left;
        self.untold.is_empty()
    }

    /// The shared state events down to some way below `next` that have not been told of. `None`: nodes are missing.
    fn instalment(
        &mut self,
        env: &impl Env,
        conflicts: &Conflicts,
        needs: &mut Needs,
        next: u32,
    ) -> Result<Option<Vec<(Rix, u64)>>, ResolveError> {
        let down_to = next.saturating_sub(self.step);
        let Some(entries) = needs.tree(state::above(env, conflicts.base, Rix(down_to)))? else { return Ok(None) };
        let shared = entries
            .into_iter()
            .filter(|(slot, entry)| entry.rix.0 <= self.told_to && !conflicts.slots.contains_key(slot));
        let mut untold: Vec<_> = shared.map(|(_, entry)| (entry.rix, self.full)).collect();
        untold.sort_unstable_by_key(|(rix, _)| std::cmp::Reverse(*rix));
        self.told_to = down_to;
        self.step = self.step.saturating_mul(4);
        Ok(Some(untold))
    }

    /// Decides on one event and marks its auth events. `false`: its page is missing.
    fn decide(&mut self, env: &impl Env, needs: &mut Needs, rix: Rix) -> bool {
        let Some(page) = env.auth_page(AuthPage::of(rix)) else {
            let ahead = self.masks.pages_to(rix.0).filter(|page| env.auth_page(*page).is_none());
            needs.auth_pages.extend(ahead.take(PAGES_AHEAD));
            return false;
        };
        let mask = self.masks.decide(rix, self.full);
        if mask != self.full {
            self.difference.push((rix, mask));
        }
        for auth in page.get(rix) {
            self.masks.add(*auth, mask, self.full);
        }
        self.position = rix.0.saturating_sub(1);
        true
    }
}

/// For each event the states whose auth chains it is in, as far as is known.
#[derive(Default)]
struct Masks {
    pages: Vec<Option<Box<[u64; PAGE as usize]>>>,
    /// How many undecided events are in the chains of some states but not of all.
    partial: usize,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masks({} partial)", self.partial)
    }
}

impl Masks {
    fn add(&mut self, rix: Rix, mask: u64, full: u64) {
        let page = AuthPage::of(rix) as usize;
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let cells = self.pages[page].get_or_insert_with(|| Box::new([0; PAGE as usize]));
        let cell = &mut cells[(rix.0 % PAGE) as usize];
        let before = *cell;
        *cell |= mask;
        let is_partial = |mask: u64| usize::from(mask != 0 && mask != full);
        self.partial = self.partial + is_partial(*cell) - is_partial(before);
    }

    /// The mask of an event that is decided now; at least one state reaches it.
    fn decide(&mut self, rix: Rix, full: u64) -> u64 {
        let cells = self.pages[AuthPage::of(rix) as usize].as_ref().expect("the event was reached");
        let mask = cells[(rix.0 % PAGE) as usize];
        self.partial -= usize::from(mask != full);
        mask
    }

    /// The highest event up to that number that any state reaches.
    fn highest_to(&self, to: u32) -> Option<u32> {
        self.pages_to(to).find_map(|page| {
            let cells = self.pages[page as usize].as_ref()?;
            let last = if page == to / PAGE { to % PAGE } else { PAGE - 1 };
            let at = cells[..=last as usize].iter().rposition(|mask| *mask != 0)?;
            Some(page * PAGE + u32::try_from(at).expect("a page is small"))
        })
    }

    /// The pages up to that number in which any event is reached, highest first.
    fn pages_to(&self, to: u32) -> impl Iterator<Item = u32> {
        let count = self.pages.len().min((to / PAGE) as usize + 1);
        let reached = (0..count).rev().filter(|page| self.pages[*page].is_some());
        reached.map(|page| u32::try_from(page).expect("pages are numbered in 32 bits"))
    }
}
