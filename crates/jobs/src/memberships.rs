//! Going through the rooms of a local user, a page at a time.

use primitives::{RoomNid, UserNid};
use storage::{
    Direction, Key, KeyRange, ReadError, Storage,
    schema::rooms::{Membership, Memberships},
};

/// Some of a user's rooms.
pub(crate) struct Page {
    /// The rooms, by number, and the user's membership.
    pub(crate) rooms: Vec<(RoomNid, Membership)>,
    /// The last of them, if there may be more.
    pub(crate) last: Option<(RoomNid,)>,
}

/// A user's next rooms after those that a cursor names.
pub(crate) async fn page(storage: &Storage, user: UserNid, cursor: &[u8], limit: usize) -> Result<Page, ReadError> {
    let range = match <(RoomNid,)>::from_bytes(cursor) {
        Some((RoomNid(last),)) => KeyRange::from(&(user,), &(user, RoomNid(last.saturating_add(1)))),
        None => KeyRange::prefix(&(user,)),
    };
    let page = storage.view().scan::<Memberships>(&range, limit, Direction::Forward).await?;
    let rooms: Vec<_> = page.rows.into_iter().map(|((_, room), row)| (room, row.value.membership)).collect();
    let last = page.rest.and_then(|_| rooms.last().map(|(room, _)| (*room,)));
    Ok(Page { rooms, last })
}
