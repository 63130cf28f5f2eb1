//! The first page of a list whose members come in no order.

use std::collections::BinaryHeap;

use crate::timers::{Key, ListPlace};

/// Of everything that is offered and comes after a place, the first so many. Holds no more than that.
#[derive(Debug)]
pub(crate) struct First {
    count: usize,
    backwards: bool,
    after: Option<ListPlace>,
    /// The last of the first on top, places turned round if the list is.
    heap: BinaryHeap<(ListPlace, Key)>,
}

fn turned((at, order): ListPlace, backwards: bool) -> ListPlace {
    if backwards { (!at, !order) } else { (at, order) }
}

impl First {
    /// Nothing yet. `backwards`: the last come first.
    pub(crate) fn new(count: usize, backwards: bool, after: Option<ListPlace>) -> Self {
        let after = after.map(|place| turned(place, backwards));
        Self { count, backwards, after, heap: BinaryHeap::with_capacity(count + 1) }
    }

    /// Whether a place is among the first of what has been offered so far.
    pub(crate) fn wants(&self, place: ListPlace) -> bool {
        let place = turned(place, self.backwards);
        let late = self.heap.len() >= self.count && self.heap.peek().is_some_and(|last| place > last.0);
        !late && self.after.is_none_or(|after| place > after)
    }

    /// Takes in a member that is wanted.
    pub(crate) fn take(&mut self, place: ListPlace, key: Key) {
        self.heap.push((turned(place, self.backwards), key));
        if self.heap.len() > self.count {
            self.heap.pop();
        }
    }

    /// The first, in their order.
    pub(crate) fn into_page(self) -> Vec<(ListPlace, Key)> {
        let backwards = self.backwards;
        self.heap.into_sorted_vec().into_iter().map(|(place, key)| (turned(place, backwards), key)).collect()
    }
}
