//! The presence of other servers' users, as those servers tell it (server-server API, "Presence"). Lives in memory only, for half an hour.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use ruma::{OwnedUserId, UserId};

use super::{PresenceState, Presences};

/// What was told so long ago counts no more: the user is taken to be offline.
const BELIEVED_FOR: Duration = Duration::from_mins(30);
/// Users who are remembered. Beyond that those are forgotten of whom nothing was told for longest.
const MAX_USERS: usize = 50_000;

/// What another server tells of a user of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePresence {
    /// The user.
    pub user_id: OwnedUserId,
    /// How present.
    pub state: PresenceState,
    /// What they say of it: at most [`super::MAX_STATUS_BYTES`].
    pub status_msg: Option<String>,
    /// How long ago they did something, if that is known.
    pub last_active_ago: Option<Duration>,
    /// They are doing something just now.
    pub currently_active: bool,
}

#[derive(Debug)]
struct Entry {
    told: RemotePresence,
    /// When that was, on the monotonic clock.
    at: Duration,
    /// The number of the last change.
    changed: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Others {
    entries: HashMap<OwnedUserId, Entry>,
    /// By the number of the last change.
    order: BTreeMap<u64, OwnedUserId>,
    /// By when something was told last.
    told: BTreeSet<(Duration, OwnedUserId)>,
}

impl Others {
    fn forget(&mut self, user: &UserId) {
        if let Some(entry) = self.entries.remove(user) {
            self.order.remove(&entry.changed);
            self.told.remove(&(entry.at, user.to_owned()));
        }
    }

    fn put(&mut self, told: RemotePresence, at: Duration, changed: u64) {
        let user = told.user_id.clone();
        self.forget(&user);
        self.order.insert(changed, user.clone());
        self.told.insert((at, user.clone()));
        self.entries.insert(user, Entry { told, at, changed });
    }
}

impl Entry {
    fn shown(&self, now: Duration) -> RemotePresence {
        let since = now.saturating_sub(self.at);
        let last_active_ago = self.told.last_active_ago.map(|ago| ago.saturating_add(since));
        RemotePresence { last_active_ago, ..self.told.clone() }
    }
}

impl Presences {
    /// Takes what another server tells of a user of its own, whom the caller has found to share a room with users of this one.
    pub fn keep_remote(&self, told: RemotePresence) {
        if !self.0.enabled {
            return;
        }
        let now = self.0.clock.monotonic();
        let mut others = self.0.others.lock();
        if others.entries.len() >= MAX_USERS
            && !others.entries.contains_key(&told.user_id)
            && let Some((_, oldest)) = others.told.first().cloned()
        {
            others.forget(&oldest);
        }
        let changed = self.0.wakeups.next_change();
        others.put(told, now, changed);
    }

    /// The presence of another server's user, if anything was told of it lately.
    pub fn of_remote(&self, user: &UserId) -> Option<RemotePresence> {
        let now = self.0.clock.monotonic();
        self.0.others.lock().entries.get(user).map(|entry| entry.shown(now))
    }

    /// Of other servers' users, those whose presence changed after a number, in the order in which it did.
    pub fn others_changed_since(&self, since: u64) -> Vec<RemotePresence> {
        let now = self.0.clock.monotonic();
        let others = self.0.others.lock();
        let changed = others.order.range(since.saturating_add(1)..);
        changed.filter_map(|(_, user)| Some(others.entries.get(user)?.shown(now))).collect()
    }

    /// Of other servers' users, those who are not offline.
    pub fn others_present(&self) -> Vec<RemotePresence> {
        let now = self.0.clock.monotonic();
        let others = self.0.others.lock();
        let all = others.entries.values().map(|entry| entry.shown(now));
        all.filter(|presence| presence.state != PresenceState::Offline).collect()
    }

    /// Takes those to be offline of whom nothing was told for long; and after as long again forgets them.
    pub(super) fn expire_others(&self) {
        let now = self.0.clock.monotonic();
        let mut others = self.0.others.lock();
        while let Some((at, user)) = others.told.first().cloned()
            && now.saturating_sub(at) >= BELIEVED_FOR
        {
            let gone = others.entries.get(&user).map(|entry| entry.told.clone());
            match gone.filter(|gone| gone.state != PresenceState::Offline) {
                Some(gone) => {
                    let changed = self.0.wakeups.next_change();
                    let state = PresenceState::Offline;
                    others.put(RemotePresence { state, currently_active: false, ..gone }, now, changed);
                }
                None => others.forget(&user),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    fn told(name: &str, state: PresenceState) -> RemotePresence {
        RemotePresence {
            user_id: format!("@{name}:far").try_into().expect("a user id"),
            state,
            status_msg: None,
            last_active_ago: Some(Duration::from_secs(1)),
            currently_active: state == PresenceState::Online,
        }
    }

    #[tokio::test]
    async fn what_is_told_is_believed_for_a_while() {
        let world = World::new().await;
        let presences = world.users.presence();
        presences.keep_remote(told("a", PresenceState::Online));
        presences.keep_remote(told("b", PresenceState::Offline));
        world.pass(10);
        assert_eq!(presences.others_present().len(), 1);
        let a = presences.others_changed_since(0).remove(0);
        assert_eq!((a.state, a.last_active_ago), (PresenceState::Online, Some(Duration::from_secs(11))));
        let seen = world.users.wakeups().last_change();
        assert!(presences.others_changed_since(seen).is_empty());
        world.pass(30 * 60);
        presences.run_due();
        assert!(presences.others_present().is_empty());
        let gone = presences.others_changed_since(seen);
        assert_eq!(gone.iter().map(|one| one.state).collect::<Vec<_>>(), [PresenceState::Offline]);
        assert_eq!(presences.of_remote(&told("b", PresenceState::Offline).user_id), None, "forgotten");
    }
}
