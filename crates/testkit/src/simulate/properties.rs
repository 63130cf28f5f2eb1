//! What holds once the network is good again.

use std::collections::BTreeSet;

use ruma::{OwnedEventId, OwnedServerName};
use storage::schema::rooms::EventKind;

use crate::held::Held;

/// Forward extremities that a room may have at most when nothing is on its way.
const MAX_EXTREMITIES: usize = 20;

/// Whether servers agree about a room: each holds every event that was sent, in its timeline, none twice; and the current state is the same on all of
/// them. A server that was away for longer than it can ask about at once has a gap more than it had (`gaps`) before: what is behind that it need not
/// hold until somebody asks for it, but the state it must.
///
/// That an event is soft-failed on one server and not on another is no disagreement: that depends on what arrived first.
///
/// # Errors
/// The first property that doesn't hold.
pub fn check(held: &[(OwnedServerName, Held)], gaps: &[usize], sent: &[OwnedEventId]) -> Result<(), String> {
    for ((server, room), gaps) in held.iter().zip(gaps) {
        for id in sent {
            match room.events.get(id) {
                Some(event) if event.is_rejected() => {
                    return Err(format!("{server} has rejected {id}: {:?}", event.header.verdict));
                }
                Some(event) if event.header.kind != EventKind::Outlier => {}
                _ if room.gaps > *gaps => {}
                Some(_) => return Err(format!("{server} has {id} only as an outlier")),
                None => return Err(format!("{server} never got {id}")),
            }
        }
        once(server, room)?;
        if room.extremities.len() > MAX_EXTREMITIES {
            return Err(format!("{server} has {} extremities", room.extremities.len()));
        }
    }
    let Some(((first, one), others)) = held.split_first() else { return Ok(()) };
    for (server, other) in others {
        same_state((first, one), (server, other))?;
    }
    Ok(())
}

/// Every event that a server's users were told of was told once, and none was told that isn't accepted.
fn once(server: &OwnedServerName, room: &Held) -> Result<(), String> {
    let told: BTreeSet<_> = room.arrived.iter().collect();
    if told.len() != room.arrived.len() {
        return Err(format!("{server} has told an event twice"));
    }
    let untold = room.events.iter().find(|(id, event)| {
        let live = event.header.kind == EventKind::Timeline;
        live && event.is_accepted() != told.contains(id)
    });
    untold.map_or(Ok(()), |(id, event)| Err(format!("{server}: {id} with {:?} is told wrongly", event.header.verdict)))
}

fn same_state(one: (&OwnedServerName, &Held), other: (&OwnedServerName, &Held)) -> Result<(), String> {
    let keys: BTreeSet<_> = one.1.state.keys().chain(other.1.state.keys()).collect();
    let differs = keys.into_iter().find(|key| one.1.state.get(*key) != other.1.state.get(*key));
    differs.map_or(Ok(()), |key| {
        let says = |held: &Held| {
            held.state
                .get(key)
                .map(|id| format!("{id} {} {:?}", held.event(id).pdu.json(), held.event(id).header.verdict))
        };
        Err(format!("{key:?} is {:?} on {} and {:?} on {}", says(one.1), one.0, says(other.1), other.0))
    })
}
