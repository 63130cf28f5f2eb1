//! What holds once the network is good again.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedServerName};
use storage::schema::rooms::EventKind;

use crate::held::{Held, HeldEvent};

/// Forward extremities that a room may have at most when nothing is on its way.
const MAX_EXTREMITIES: usize = 20;
/// What no client is shown: it joins branches.
const UNSHOWN: &str = "org.matrix.dummy_event";

/// Whether servers agree about a room before anybody reads back: no server has rejected what another one's user sent, each has told its users of every event
/// that it has accepted, once, and the current state and the forward extremities are the same on all of them.
///
/// The extremities count here already: an event that a server could not judge when it came is not stored, and the next one brings it. As nobody who reads back
/// is led to what nothing follows, users have to go on speaking until all servers have the newest events.
///
/// That an event is soft-failed on one server and not on another is no disagreement: that depends on what arrived first.
///
/// # Errors
/// The first property that doesn't hold.
pub(super) fn agreed(held: &[(OwnedServerName, Held)]) -> Result<(), String> {
    for (server, room) in held {
        if let Some((id, event)) = room.events.iter().find(|(_, event)| event.is_rejected()) {
            return Err(format!("{server} has rejected {id}: {:?}", event.header.verdict));
        }
        told_once(server, room)?;
        if room.extremities.len() > MAX_EXTREMITIES {
            return Err(format!("{server} has {} extremities", room.extremities.len()));
        }
    }
    all_as_the_first(held, same_state)?;
    all_as_the_first(held, same_end)
}

/// Whether, after somebody has read back on each server, all of them hold the same: every event that is owed to all (see [`owed`]), those that were sent among
/// them, has its place in the same DAG everywhere, no event is missing before another, and extremities and state are the same. Somebody has each event that was
/// sent.
///
/// # Errors
/// The first property that doesn't hold.
pub(super) fn whole(held: &[(OwnedServerName, Held)], sent: &[OwnedEventId]) -> Result<(), String> {
    agreed(held)?;
    let owed = owed(held);
    for (server, room) in held {
        if room.gaps > 0 {
            return Err(format!("{server} has {} gaps", room.gaps));
        }
        let outlier = room.events.iter().find(|(_, event)| event.header.kind == EventKind::Outlier);
        if let Some((id, _)) = outlier {
            return Err(format!("{server} has {id} only as an outlier"));
        }
        if let Some(id) = owed.iter().find(|id| !room.events.contains_key(**id)) {
            return Err(format!("{server} never got {}", said(held, id)));
        }
    }
    if let Some(id) = sent.iter().find(|id| held.iter().all(|(_, room)| !room.events.contains_key(*id))) {
        return Err(format!("nobody has {id}, which was sent"));
    }
    all_as_the_first(held, |one, other| same_dag(one, other, &owed))
}

/// The events that every server must have: those that some server has accepted, and what comes before them.
///
/// What all who know it have soft-failed, and nothing of this follows, is owed to nobody. No event names it, so that whoever it wasn't sent to, or who was
/// away then, never hears of it. So an invite that its user's server refuses is stored there, soft-failed, and the server that made it gets an error and
/// stores nothing.
fn owed(held: &[(OwnedServerName, Held)]) -> BTreeSet<&OwnedEventId> {
    let accepted = held.iter().flat_map(|(_, room)| room.accepted());
    let mut open: Vec<_> = accepted.collect();
    let mut owed = BTreeSet::new();
    while let Some(id) = open.pop() {
        if owed.insert(id) {
            let event = held.iter().find_map(|(_, room)| room.events.get(id));
            open.extend(event.into_iter().flat_map(|event| event.pdu.prev_events()));
        }
    }
    owed
}

/// An event as each server holds it, for who reads of a fault.
fn said(held: &[(OwnedServerName, Held)], id: &OwnedEventId) -> String {
    let says = |(server, room): &(OwnedServerName, Held)| {
        let event = room.events.get(id)?;
        Some(format!("\n  {server}: {:?} {:?} {}", event.header.kind, event.header.verdict, event.pdu.json()))
    };
    format!("{id}:{}", held.iter().filter_map(says).collect::<String>())
}

/// Whether what a user has read, page by page to the beginning, is every accepted event of the room, once.
///
/// # Errors
/// The first event that is not.
pub(super) fn read_once(server: &OwnedServerName, room: &Held, read: &[OwnedEventId]) -> Result<(), String> {
    let once: BTreeSet<_> = read.iter().collect();
    if once.len() != read.len() {
        return Err(format!("{server} shows an event on two pages"));
    }
    let wrong = room.events.iter().find(|(id, event)| {
        let shown = event.is_accepted() && event.header.event_type != UNSHOWN;
        shown != once.contains(id)
    });
    wrong.map_or(Ok(()), |(id, event)| Err(format!("{server}: {id} with {:?} is read wrongly", event.header.verdict)))
}

/// Every event that a server's users were told of was told once, and none was told that isn't accepted.
fn told_once(server: &OwnedServerName, room: &Held) -> Result<(), String> {
    let told: BTreeSet<_> = room.arrived.iter().collect();
    if told.len() != room.arrived.len() {
        return Err(format!("{server} has told an event twice"));
    }
    let wrong = room.events.iter().find(|(id, event)| {
        let live = event.header.kind == EventKind::Timeline;
        live && event.is_accepted() != told.contains(id)
    });
    wrong.map_or(Ok(()), |(id, event)| Err(format!("{server}: {id} with {:?} is told wrongly", event.header.verdict)))
}

type Named<'a> = (&'a OwnedServerName, &'a Held);

fn all_as_the_first(
    held: &[(OwnedServerName, Held)],
    same: impl Fn(Named<'_>, Named<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let Some(((first, one), others)) = held.split_first() else { return Ok(()) };
    others.iter().try_for_each(|(server, other)| same((first, one), (server, other)))
}

fn same_state(one: Named<'_>, other: Named<'_>) -> Result<(), String> {
    let says = |held: &Held, id: &OwnedEventId| {
        let event = held.event(id);
        format!("{id} {} {:?}", event.pdu.json(), event.header.verdict)
    };
    let differs = difference(&one.1.state, &other.1.state);
    differs.map_or(Ok(()), |key| {
        let says = |held: &Held| held.state.get(key).map(|id| says(held, id));
        Err(format!("{key:?} is {:?} on {} and {:?} on {}", says(one.1), one.0, says(other.1), other.0))
    })
}

fn same_dag(one: Named<'_>, other: Named<'_>, owed: &BTreeSet<&OwnedEventId>) -> Result<(), String> {
    let (here, there) = (previous(one.1, owed), previous(other.1, owed));
    if let Some(id) = difference(&here, &there) {
        let places = (here.get(id), there.get(id));
        return Err(format!("{id} follows {:?} on {} and {:?} on {}", places.0, one.0, places.1, other.0));
    }
    Ok(())
}

fn same_end(one: Named<'_>, other: Named<'_>) -> Result<(), String> {
    let tips = |held: &Held| held.extremities.iter().cloned().collect::<BTreeSet<_>>();
    let (here, there) = (tips(one.1), tips(other.1));
    if here == there { Ok(()) } else { Err(format!("{} ends in {here:?}, {} in {there:?}", one.0, other.0)) }
}

/// What each event that is owed to all follows, as far as the server has found it.
fn previous<'a>(
    room: &'a Held,
    owed: &BTreeSet<&OwnedEventId>,
) -> BTreeMap<&'a OwnedEventId, BTreeSet<&'a OwnedEventId>> {
    let follows = |event: &'a HeldEvent| event.header.prev.iter().filter_map(|rix| room.numbers.get(rix)).collect();
    let events = room.events.iter().filter(|(id, _)| owed.contains(id));
    events.map(|(id, event)| (id, follows(event))).collect()
}

/// The first key under which two maps differ.
fn difference<'a, K: Ord, V: PartialEq>(one: &'a BTreeMap<K, V>, other: &'a BTreeMap<K, V>) -> Option<&'a K> {
    let keys: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    keys.into_iter().find(|key| one.get(*key) != other.get(*key))
}
