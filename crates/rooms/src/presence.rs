//! Whose presence reaches whom: that of users who share a room (specification, "Presence").

use std::{
    cmp,
    collections::{BTreeSet, HashSet},
    sync::atomic::Ordering,
};

use primitives::{RoomNid, UserNid};
use ruma::{OwnedServerName, UserId};
use storage::{Direction, KeyRange, ReadError, Text, View, schema::jobs::RemoteMembers};

use crate::{local_members, read::Reads, registry::Rooms};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

impl Reads {
    /// Whether two users of this server are in a room together; everybody is with themselves.
    pub async fn shares_room(&self, one: UserNid, other: UserNid) -> Result<bool, ReadError> {
        self.share_room(&self.0.storage.view(), one, other).await
    }

    pub(crate) async fn share_room(&self, view: &View, one: UserNid, other: UserNid) -> Result<bool, ReadError> {
        if one == other {
            return Ok(true);
        }
        let (ones, others) = (self.0.sync.joined_rooms(view, one).await?, self.0.sync.joined_rooms(view, other).await?);
        Ok(have_common(&ones, &others))
    }
}

/// Of two lists of which one is so many times as long as the other, the elements of the short one are looked up in the long one.
const MUCH_LONGER: usize = 16;

/// Whether two ascending lists have something in common.
pub(crate) fn have_common(mut ones: &[RoomNid], mut others: &[RoomNid]) -> bool {
    let (short, long) = if ones.len() < others.len() { (ones, others) } else { (others, ones) };
    if long.len() / MUCH_LONGER > short.len() {
        return short.iter().any(|room| long.binary_search(room).is_ok());
    }
    while let ([one, ones_rest @ ..], [other, others_rest @ ..]) = (ones, others) {
        match one.cmp(other) {
            cmp::Ordering::Equal => return true,
            cmp::Ordering::Less => ones = ones_rest,
            cmp::Ordering::Greater => others = others_rest,
        }
    }
    false
}

/// The rooms that a user of another server has joined, ascending.
pub(crate) async fn rooms_of_remote(view: &View, user: &UserId) -> Result<Vec<RoomNid>, ReadError> {
    let (mut rooms, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(Text::new(user.as_str()),))));
    while let Some(range) = rest {
        let page = view.scan_keys::<RemoteMembers>(&range, PAGE, Direction::Forward).await?;
        rooms.extend(page.keys.into_iter().map(|(_, room)| room));
        rest = page.rest;
    }
    Ok(rooms)
}

impl Reads {
    /// Whether a user of another server has joined a room that some user of this one has. A moment behind the rooms.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn meets_remote(&self, user: &UserId) -> Result<bool, ReadError> {
        let view = self.0.storage.view();
        for room in rooms_of_remote(&view, user).await? {
            let mut after = None;
            loop {
                let some = local_members::some(&view, room, after, PAGE).await?;
                if !some.joined.is_empty() {
                    return Ok(true);
                }
                match some.last {
                    Some(last) => after = Some(last),
                    None => break,
                }
            }
        }
        Ok(false)
    }

    /// The other servers with which a user of this one shares a room.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn servers_met_by(&self, user: UserNid) -> Result<BTreeSet<OwnedServerName>, ReadError> {
        let view = self.0.storage.view();
        let mut servers = BTreeSet::new();
        for room in self.0.sync.joined_rooms(&view, user).await?.iter() {
            servers.extend(self.other_servers(&view, *room).await?.iter().cloned());
        }
        Ok(servers)
    }
}

impl Rooms {
    /// Wakes the requests that wait, of those who are to hear that somebody's presence changed. The rooms of the waiting are those of their last
    /// sync: whoever has joined one since is woken for that.
    pub(crate) async fn tell_presence(&self) -> Result<(), ReadError> {
        let users = &self.context().users;
        let (presence, wakeups) = (users.presence(), users.wakeups());
        presence.run_due();
        let newest = wakeups.last_change();
        let told = self.reads().0.presence_told.swap(newest, Ordering::SeqCst);
        let (changed, others) = (presence.changed_since(told), presence.others_changed_since(told));
        if changed.is_empty() && others.is_empty() {
            return Ok(());
        }
        let view = self.context().storage.view();
        let memory = &self.reads().0.sync;
        let (mut rooms, mut themselves) = (HashSet::new(), HashSet::new());
        for presence in changed {
            rooms.extend(memory.joined_rooms(&view, presence.user).await?.iter().copied());
            themselves.insert(presence.user);
            if self.remote().is_some() {
                self.signals().presence().note(presence.user_id);
            }
        }
        for other in others {
            rooms.extend(rooms_of_remote(&view, &other.user_id).await?);
        }
        for user in wakeups.waited_for() {
            let known = memory.known_rooms(user);
            let shares = known.is_none_or(|known| known.iter().any(|room| rooms.contains(room)));
            if shares || themselves.contains(&user) {
                wakeups.wake_ephemeral(user, newest);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_with_a_room_in_common_are_found() {
        let list = |numbers: &[u32]| numbers.iter().copied().map(RoomNid).collect::<Vec<_>>();
        for (ones, others, expected) in [
            (&[][..], &[][..], false),
            (&[1], &[], false),
            (&[1, 3, 5], &[2, 4, 6], false),
            (&[1, 3, 5], &[5], true),
            (&[1, 9], &[1, 2, 3], true),
            (&[7, 8], &[1, 2, 8], true),
            (&[39], &(1..40).collect::<Vec<_>>(), true),
            (&[40], &(1..40).collect::<Vec<_>>(), false),
        ] {
            assert_eq!(have_common(&list(ones), &list(others)), expected, "{ones:?} {others:?}");
        }
    }
}
