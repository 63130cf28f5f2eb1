//! The users of this server who are in a room.

use primitives::{RoomNid, UserNid};
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{LocalMembers, Membership},
};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Some of those who have joined.
pub(crate) struct SomeJoined {
    /// They.
    pub(crate) joined: Vec<UserNid>,
    /// The last member looked at; `None`: there are no more.
    pub(crate) last: Option<UserNid>,
}

/// Those who have joined among the next members: those after a user by number, at most `limit` members.
pub(crate) async fn some(
    view: &View,
    room: RoomNid,
    after: Option<UserNid>,
    limit: usize,
) -> Result<SomeJoined, ReadError> {
    let range = match after {
        Some(UserNid(last)) => KeyRange::from(&(room,), &(room, UserNid(last.saturating_add(1)))),
        None => KeyRange::prefix(&(room,)),
    };
    let page = view.scan::<LocalMembers>(&range, limit, Direction::Forward).await?;
    let last = page.rest.and_then(|_| page.rows.last().map(|((_, user), _)| *user));
    let joined = page.rows.into_iter().filter(|(_, membership)| *membership == Membership::Join);
    Ok(SomeJoined { joined: joined.map(|((_, user), _)| user).collect(), last })
}

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
