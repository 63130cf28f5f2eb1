//! Whose presence reaches whom: that of users who share a room (specification, "Presence").

use std::{cmp, collections::HashSet, sync::atomic::Ordering};

use primitives::{RoomNid, UserNid};
use storage::{ReadError, View};

use crate::{read::Reads, registry::Rooms};

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

/// Whether two ascending lists have something in common.
pub(crate) fn have_common(mut ones: &[RoomNid], mut others: &[RoomNid]) -> bool {
    while let ([one, ones_rest @ ..], [other, others_rest @ ..]) = (ones, others) {
        match one.cmp(other) {
            cmp::Ordering::Equal => return true,
            cmp::Ordering::Less => ones = ones_rest,
            cmp::Ordering::Greater => others = others_rest,
        }
    }
    false
}

impl Rooms {
    /// Wakes the requests that wait, of those who are to hear that somebody's presence changed. The rooms of the waiting are those of their last
    /// sync: whoever has joined one since is woken for that.
    pub(crate) async fn tell_presence(&self) -> Result<(), ReadError> {
        let users = &self.context().users;
        let (presence, wakeups) = (users.presence(), users.wakeups());
        presence.run_due();
        let newest = wakeups.last_change();
        let changed = presence.changed_since(self.reads().0.presence_told.swap(newest, Ordering::SeqCst));
        if changed.is_empty() {
            return Ok(());
        }
        let view = self.context().storage.view();
        let memory = &self.reads().0.sync;
        let (mut rooms, mut themselves) = (HashSet::new(), HashSet::new());
        for presence in changed {
            rooms.extend(memory.joined_rooms(&view, presence.user).await?.iter().copied());
            themselves.insert(presence.user);
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
        ] {
            assert_eq!(have_common(&list(ones), &list(others)), expected, "{ones:?} {others:?}");
        }
    }
}
