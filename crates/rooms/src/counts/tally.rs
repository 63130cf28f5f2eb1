//! Counts by thread.

use std::{collections::BTreeMap, ops::Add};

/// Threads of one room that are counted apart. The events of any others count as if they were in none.
const MAX_THREADS: usize = 1_000;

/// How many events a user is to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// All of them.
    pub notify: u32,
    /// Those that are to stand out.
    pub highlight: u32,
}

impl Add for Unread {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            notify: self.notify.saturating_add(other.notify),
            highlight: self.highlight.saturating_add(other.highlight),
        }
    }
}

/// Counts by thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Of what is in no thread.
    pub(super) main: Unread,
    /// By the root of the thread; there is no thread without events.
    pub(super) threads: BTreeMap<String, Unread>,
}

impl Tally {
    /// Counts an event of a thread, or of none.
    pub(super) fn add(&mut self, thread: Option<String>, highlight: bool) {
        self.add_some(thread, Unread { notify: 1, highlight: highlight.into() });
    }

    fn add_some(&mut self, thread: Option<String>, some: Unread) {
        let thread = thread.filter(|root| self.threads.len() < MAX_THREADS || self.threads.contains_key(root));
        let counts = match thread {
            Some(root) => self.threads.entry(root).or_default(),
            None => &mut self.main,
        };
        *counts = *counts + some;
    }

    /// Adds everything of another.
    pub(super) fn add_all(&mut self, other: &Self) {
        self.main = self.main + other.main;
        for (root, unread) in &other.threads {
            self.add_some(Some(root.clone()), *unread);
        }
    }

    /// Forgets what was counted of a thread, or of none.
    pub(super) fn clear(&mut self, thread: Option<&str>) {
        match thread {
            Some(root) => drop(self.threads.remove(root)),
            None => self.main = Unread::default(),
        }
    }

    /// The threads of which something was counted; `None` stands for none.
    pub(super) fn counted_threads(&self) -> Vec<Option<String>> {
        let main = (self.main != Unread::default()).then_some(None);
        main.into_iter().chain(self.threads.keys().cloned().map(Some)).collect()
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted_apart_as_far_as_there_is_room() {
        let mut tally = Tally::default();
        for number in 0..MAX_THREADS + 2 {
            tally.add(Some(format!("${number}")), number == MAX_THREADS);
        }
        tally.add(Some("$0".to_owned()), true);
        assert_eq!(tally.main, Unread { notify: 2, highlight: 1 });
        assert_eq!(tally.threads["$0"], Unread { notify: 2, highlight: 1 });
        tally.clear(None);
        tally.clear(Some("$0"));
        tally.clear(Some("$none"));
        assert_eq!(tally.counted_threads().len(), MAX_THREADS - 1);
    }
}
