//! Wake-ups: tell the requests that wait for news of a user that there are some.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use primitives::{StreamPosition, UserNid};
use tokio::sync::watch;

/// Locks that the users are spread over, so that a sender who wakes thousands does not hold up everybody else.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<UserNid, watch::Sender<StreamPosition>>>;

/// Who waits for whose news. Cheap to clone.
///
/// A waiter is made **before** its owner reads the store: whatever is committed later wakes it, so that no wake-up is lost.
#[derive(Clone, Debug)]
pub struct Wakeups(Arc<[Shard]>);

impl Default for Wakeups {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }
}

impl Wakeups {
    fn shard(&self, user: UserNid) -> &Shard {
        &self.0[user.0 as usize % SHARDS]
    }

    /// Wakes the requests that wait for this user's news: there are some at this position. Called after the commit, never before.
    pub fn wake(&self, user: UserNid, position: StreamPosition) {
        if let Some(sender) = self.shard(user).lock().get(&user) {
            sender.send_if_modified(|newest| {
                let newer = position > *newest;
                *newest = position.max(*newest);
                newer
            });
        }
    }

    /// Starts to listen for a user's news.
    pub fn waiter(&self, user: UserNid) -> Waiter {
        let mut shard = self.shard(user).lock();
        let sender = shard.entry(user).or_insert_with(|| watch::Sender::new(StreamPosition::ZERO));
        Waiter { user, receiver: Some(sender.subscribe()), wakeups: self.clone() }
    }

    /// Users that somebody waits for.
    pub fn users_waited_for(&self) -> usize {
        self.0.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// Listens for a user's news until it is dropped.
#[derive(Debug)]
pub struct Waiter {
    user: UserNid,
    /// There until the drop.
    receiver: Option<watch::Receiver<StreamPosition>>,
    wakeups: Wakeups,
}

impl Waiter {
    /// Waits until there was news after `since`, at once if it came since this waiter was made. Answers with the newest position.
    ///
    /// Safe to cancel and to call again.
    pub async fn newer_than(&mut self, since: StreamPosition) -> StreamPosition {
        let receiver = self.receiver.as_mut().expect("there until the drop");
        let newest = receiver.wait_for(|newest| *newest > since).await;
        *newest.expect("the sender is kept as long as there is a receiver")
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut shard = self.wakeups.shard(self.user).lock();
        self.receiver = None;
        if shard.get(&self.user).is_some_and(|sender| sender.receiver_count() == 0) {
            shard.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOB: UserNid = UserNid(1);

    #[tokio::test]
    async fn what_happens_between_reading_and_waiting_is_not_lost() {
        let wakeups = Wakeups::default();
        let mut waiter = wakeups.waiter(BOB);
        wakeups.wake(BOB, StreamPosition(7));
        wakeups.wake(BOB, StreamPosition(5));
        assert_eq!(waiter.newer_than(StreamPosition(6)).await, StreamPosition(7));
    }

    #[tokio::test]
    async fn only_newer_news_of_the_same_user_wake() {
        let wakeups = Wakeups::default();
        let mut waiter = wakeups.waiter(BOB);
        wakeups.wake(BOB, StreamPosition(7));
        wakeups.wake(UserNid(1 + 64), StreamPosition(9));
        let outcome = tokio::time::timeout(Duration::from_millis(20), waiter.newer_than(StreamPosition(7))).await;
        assert!(outcome.is_err());
        wakeups.wake(BOB, StreamPosition(8));
        assert_eq!(waiter.newer_than(StreamPosition(7)).await, StreamPosition(8));
    }

    #[tokio::test]
    async fn a_thousand_waiters_wake_and_leave_nothing_behind() {
        let wakeups = Wakeups::default();
        let tracker = tokio_util::task::TaskTracker::new();
        for number in 0..1_000 {
            let mut waiter = wakeups.waiter(UserNid(number / 2));
            tracker.spawn(async move { waiter.newer_than(StreamPosition(1)).await });
        }
        assert_eq!(wakeups.users_waited_for(), 500);
        tokio::task::yield_now().await;
        (0..500).for_each(|number| wakeups.wake(UserNid(number), StreamPosition(2)));
        tracker.close();
        tracker.wait().await;
        assert_eq!(wakeups.users_waited_for(), 0);
    }
}
