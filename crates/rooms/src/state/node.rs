//! The nodes of a state tree.

use primitives::{NodeId, Rix, Slot};

use super::{Entry, is_member_slot};

/// Children of an inner node, and slots of a leaf.
pub(super) const FAN_OUT: u32 = 1 << BITS;
/// Bits of a slot that one level consumes.
pub(super) const BITS: u32 = 5;
/// The height at which a part holds every slot that there can be.
pub(super) const MAX_HEIGHT: u32 = 6;

/// A node of a state tree. Immutable; [`Node::encode`] and [`Node::decode`] are its stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// The root of a state.
    Root(Root),
    /// A node whose children are nodes.
    Inner(Inner),
    /// A node that holds slots.
    Leaf(Leaf),
}

/// The root of a state: its two parts and what is known of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Root {
    /// The state is not complete: absent member slots are unknown.
    pub partial: bool,
    /// The sum of a keyed hash of every (slot, event number): equal for equal states, whatever way led to them. Ignores `partial`.
    pub fingerprint: u128,
    /// How many members have joined.
    pub joined: u32,
    /// How many members are invited.
    pub invited: u32,
    pub(super) others: Subtree,
    pub(super) members: Subtree,
}

/// A part of a state: the slots from 0, or those from [`super::FIRST_MEMBER_SLOT`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Subtree {
    /// Its topmost node; 0 if the part is empty.
    pub(super) node: NodeId,
    /// The levels of inner nodes above the leaves.
    pub(super) height: u32,
    /// The highest event number in it.
    pub(super) highest: Rix,
}

/// A node whose children are nodes: up to 32, those that are there in the order of their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inner {
    pub(super) present: u32,
    pub(super) children: Vec<Child>,
}

/// A node below an inner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) node: NodeId,
    /// The highest event number below it.
    pub(super) highest: Rix,
}

/// A node that holds up to 32 slots, those that are there in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    pub(super) present: u32,
    pub(super) entries: Vec<Entry>,
}

impl Root {
    /// The highest number among the state's events; 0 if there are none.
    pub fn highest(&self) -> Rix {
        self.others.highest.max(self.members.highest)
    }

    /// The part that a slot belongs to, and the slot's index in it.
    pub(super) fn part(&self, slot: Slot) -> (Subtree, u32) {
        let part = if is_member_slot(slot) { self.members } else { self.others };
        (part, index_of(slot))
    }
}

/// A slot's index in its part.
pub(super) fn index_of(slot: Slot) -> u32 {
    slot.0 & !super::FIRST_MEMBER_SLOT.0
}

/// How many indexes a subtree of that height covers.
pub(super) fn capacity(height: u32) -> u64 {
    1 << (BITS * (height + 1))
}

/// The place of an index in a node of that height.
pub(super) fn place(index: u32, height: u32) -> u32 {
    (index >> (BITS * height)) & (FAN_OUT - 1)
}

/// Where the item of a place stands in a packed list, and whether it is there.
fn find(present: u32, place: u32) -> Result<usize, usize> {
    let before = (present & ((1 << place) - 1)).count_ones() as usize;
    if present & (1 << place) == 0 { Err(before) } else { Ok(before) }
}

/// Sets, replaces or removes the item of a place in a packed list.
fn set<T>(present: &mut u32, items: &mut Vec<T>, place: u32, item: Option<T>) {
    match (find(*present, place), item) {
        (Ok(at), Some(item)) => items[at] = item,
        (Ok(at), None) => {
            items.remove(at);
            *present &= !(1 << place);
        }
        (Err(at), Some(item)) => {
            items.insert(at, item);
            *present |= 1 << place;
        }
        (Err(_), None) => {}
    }
}

/// The places that are taken, in order.
pub(super) fn places(mut present: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let place = present.trailing_zeros();
        present &= present.wrapping_sub(1);
        (place < FAN_OUT).then_some(place)
    })
}

impl Inner {
    pub(super) fn get(&self, place: u32) -> Option<Child> {
        find(self.present, place).ok().map(|at| self.children[at])
    }

    pub(super) fn set(&mut self, place: u32, child: Option<Child>) {
        set(&mut self.present, &mut self.children, place, child);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Child)> {
        places(self.present).zip(self.children.iter().copied())
    }

    pub(super) fn highest(&self) -> Rix {
        self.children.iter().map(|child| child.highest).max().unwrap_or_default()
    }
}

impl Leaf {
    pub(super) fn get(&self, place: u32) -> Option<Entry> {
        find(self.present, place).ok().map(|at| self.entries[at])
    }

    pub(super) fn set(&mut self, place: u32, entry: Option<Entry>) {
        set(&mut self.present, &mut self.entries, place, entry);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Entry)> {
        places(self.present).zip(self.entries.iter().copied())
    }

    pub(super) fn highest(&self) -> Rix {
        self.entries.iter().map(|entry| entry.rix).max().unwrap_or_default()
    }
}
