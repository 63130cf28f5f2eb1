//! Events in an order in which they can be taken in.

use std::collections::{HashMap, VecDeque};

use ruma::OwnedEventId;

use crate::{Pdu, receive::Prepared};

/// The events, each after those of them that it refers to; what depends on nothing first. Events that refer to each other in a circle, which only ids of
/// room versions 1 and 2 allow, come last.
pub(super) fn each_after(events: Vec<Prepared>, references: impl Fn(&Pdu) -> &[OwnedEventId]) -> Vec<Prepared> {
    let at: HashMap<_, _> = events.iter().enumerate().map(|(at, event)| (event.pdu.event_id().clone(), at)).collect();
    let (mut after, mut waiting) = (vec![Vec::new(); events.len()], vec![0_usize; events.len()]);
    for (at_event, event) in events.iter().enumerate() {
        // The create event of a room of version 12 is named by the room's id only.
        for id in references(&event.pdu).iter().chain(event.pdu.create_event_id().as_ref()) {
            if let Some(&before) = at.get(id)
                && before != at_event
            {
                after[before].push(at_event);
                waiting[at_event] += 1;
            }
        }
    }
    let mut ready: VecDeque<_> = (0..events.len()).filter(|at| waiting[*at] == 0).collect();
    let mut order = Vec::with_capacity(events.len());
    while let Some(next) = ready.pop_front() {
        order.push(next);
        for &later in &after[next] {
            waiting[later] -= 1;
            if waiting[later] == 0 {
                ready.push_back(later);
            }
        }
    }
    order.extend((0..events.len()).filter(|at| waiting[*at] > 0));
    let mut events: Vec<_> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| events[at].take()).collect()
}
