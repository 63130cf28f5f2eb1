//! The users of this server who are in a room.

use primitives::{RoomNid, UserNid};
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{LocalMembers, Membership},
};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Those who have joined.
pub(crate) async fn joined(view: &View, room: RoomNid) -> Result<Vec<UserNid>, ReadError> {
    let (mut joined, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(room,))));
    while let Some(range) = rest {
        let page = view.scan::<LocalMembers>(&range, PAGE, Direction::Forward).await?;
        let members = page.rows.into_iter().filter(|(_, membership)| *membership == Membership::Join);
        joined.extend(members.map(|((_, user), _)| user));
        rest = page.rest;
    }
    Ok(joined)
}
