//! Since when a user's events count: since they joined.

use primitives::{Rank, Rix};
use storage::{ReadError, schema::rooms::Membership};

use crate::{
    read::{Reader, RoomView},
    receipts::Place,
};

/// How many changes of a member's profile are walked back. Before that many, they count as joined.
const MAX_STEPS: usize = 1_000;

/// Before everything.
pub(super) const ALWAYS: Place = Place::Backfilled(Rank(0), Rix(0));

/// The place of the event with which a member joined; `rix` is their member event, which may be a later one of a changed profile.
pub(super) async fn joined(room: &RoomView<'_>, reader: &Reader, rix: Rix) -> Result<Place, ReadError> {
    let slot = room.slot("m.room.member", reader.user_id.as_str()).await?;
    let (mut rix, mut place) = (rix, ALWAYS);
    for _ in 0..MAX_STEPS {
        let Some(event) = room.event(rix).await? else { break };
        // History is before everything that is counted, so one place there is as good as another.
        place = Place::of(&event).max(ALWAYS);
        match room.member_at(event.header.root_before, slot).await? {
            Some((earlier, Membership::Join)) => rix = earlier,
            _ => break,
        }
    }
    Ok(if matches!(place, Place::Arrived(..)) { place } else { ALWAYS })
}
