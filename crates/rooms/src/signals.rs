//! What those who follow the rooms from outside wait for. Said after the commit, and in memory only: whoever follows rooms looks at what is
//! stored when it starts, and is told here of what comes after that.

use std::collections::HashSet;

use parking_lot::Mutex;
use primitives::{Noted, RoomNid};
use ruma::OwnedUserId;
use tokio::sync::Notify;

/// What has happened in the rooms since somebody looked. For one follower each.
#[derive(Debug, Default)]
pub struct Signals {
    job: Notify,
    state: Notify,
    /// The rooms whose state has changed. At most one entry for each room.
    changed: Mutex<HashSet<RoomNid>>,
    typing: Noted<(RoomNid, OwnedUserId)>,
    presence: Noted<OwnedUserId>,
}

impl Signals {
    /// Waits until a commit that follows from what happened in a room has begun a job. One that nobody waited for is not missed.
    pub async fn job_begun(&self) {
        self.job.notified().await;
    }

    /// Waits until a commit has changed the state of a room. One that nobody waited for is not missed.
    pub async fn state_changed(&self) {
        self.state.notified().await;
    }

    /// Takes up to `limit` rooms whose state has changed, in no order.
    pub fn take_changed(&self, limit: usize) -> Vec<RoomNid> {
        let mut changed = self.changed.lock();
        let taken: Vec<_> = changed.iter().copied().take(limit).collect();
        for room in &taken {
            changed.remove(room);
        }
        taken
    }

    /// Which users of this server have begun to type where, go on, or have ended. Noted only where there are other servers to be told.
    pub fn typing(&self) -> &Noted<(RoomNid, OwnedUserId)> {
        &self.typing
    }

    /// Users of this server whose presence has changed. Noted only where there are other servers to be told.
    pub fn presence(&self) -> &Noted<OwnedUserId> {
        &self.presence
    }

    /// Says that a commit has begun a job.
    pub fn begin_job(&self) {
        self.job.notify_one();
    }

    /// Notes that a room's state has changed, or that it is to be looked at again.
    pub fn change_state(&self, room: RoomNid) {
        self.changed.lock().insert(room);
        self.state.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_happened_while_nobody_waited_is_told_once() {
        let signals = Signals::default();
        signals.begin_job();
        signals.job_begun().await;
        for room in [1, 2, 1, 3] {
            signals.change_state(RoomNid(room));
        }
        signals.state_changed().await;
        let mut taken = signals.take_changed(2);
        taken.extend(signals.take_changed(9));
        taken.sort_unstable();
        assert_eq!(taken, [RoomNid(1), RoomNid(2), RoomNid(3)]);
        assert!(signals.take_changed(9).is_empty());
    }
}
