//! Wake-ups: tell the requests that wait for news of a user that there are some.
//!
//! News are of two kinds: what is committed has a stream position; what lives in memory only (typing, presence) has a number of one sequence, which
//! begins anew with every start of the server.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use primitives::{StreamPosition, UserNid};
use tokio::sync::watch;

/// Locks that the users are spread over, so that a sender who wakes thousands does not hold up everybody else.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<UserNid, watch::Sender<News>>>;

/// How far there is something new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The position of the newest commit.
    pub position: StreamPosition,
    /// The number of the newest change in memory.
    pub ephemeral: u64,
}

impl News {
    fn goes_beyond(&self, other: &Self) -> bool {
        self.position > other.position || self.ephemeral > other.ephemeral
    }
}

/// Who waits for whose news. Cheap to clone.
///
/// A waiter is made **before** its owner reads the store: whatever is committed later wakes it, so that no wake-up is lost.
#[derive(Clone, Debug)]
pub struct Wakeups {
    shards: Arc<[Shard]>,
    /// The number of the last change in memory.
    changes: Arc<AtomicU64>,
}

impl Default for Wakeups {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), changes: Arc::default() }
    }
}

impl Wakeups {
    fn shard(&self, user: UserNid) -> &Shard {
        &self.shards[user.0 as usize % SHARDS]
    }

    /// Wakes the requests that wait for this user's news: there are some at this position. Called after the commit, never before.
    pub fn wake(&self, user: UserNid, position: StreamPosition) {
        self.tell(user, News { position, ephemeral: 0 });
    }

    /// The same for a change in memory of this number.
    pub fn wake_ephemeral(&self, user: UserNid, ephemeral: u64) {
        self.tell(user, News { position: StreamPosition::ZERO, ephemeral });
    }

    /// The same for all whom it concerns, of whom there are many: looks at those who wait, not at those whom it concerns.
    pub fn wake_crowd(&self, concerns: impl Fn(UserNid) -> bool, position: StreamPosition) {
        let news = News { position, ephemeral: 0 };
        for shard in self.shards.iter() {
            shard.lock().iter().filter(|(user, _)| concerns(**user)).for_each(|(_, sender)| tell(sender, news));
        }
    }

    /// Wakes the requests that wait for the news of any of these users, ascending: looks at them or at those who wait, whoever are fewer.
    pub fn wake_all(&self, users: &[UserNid], news: News) {
        if users.len() <= SHARDS || users.len() <= self.users_waited_for() {
            for user in users {
                self.tell(*user, news);
            }
            return;
        }
        for shard in self.shards.iter() {
            let shard = shard.lock();
            for (_, sender) in shard.iter().filter(|(user, _)| users.binary_search(user).is_ok()) {
                tell(sender, news);
            }
        }
    }

    fn tell(&self, user: UserNid, news: News) {
        if let Some(sender) = self.shard(user).lock().get(&user) {
            tell(sender, news);
        }
    }

    /// A number for a change in memory. Take it, and make the change, under one lock: whoever reads [`Self::last_change`] and then takes that lock
    /// finds every change up to it.
    pub fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The number of the last change in memory; 0 if there has been none since the start.
    pub fn last_change(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Those whose news somebody waits for.
    pub fn waited_for(&self) -> Vec<UserNid> {
        self.shards.iter().flat_map(|shard| shard.lock().keys().copied().collect::<Vec<_>>()).collect()
    }

    /// Starts to listen for a user's news.
    pub fn waiter(&self, user: UserNid) -> Waiter {
        let mut shard = self.shard(user).lock();
        let sender = shard.entry(user).or_insert_with(|| watch::Sender::new(News::default()));
        Waiter { user, receiver: Some(sender.subscribe()), wakeups: self.clone() }
    }

    /// Users that somebody waits for.
    pub fn users_waited_for(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

fn tell(sender: &watch::Sender<News>, news: News) {
    sender.send_if_modified(|newest| {
        let newer = news.goes_beyond(newest);
        newest.position = newest.position.max(news.position);
        newest.ephemeral = newest.ephemeral.max(news.ephemeral);
        newer
    });
}

/// Listens for a user's news until it is dropped.
#[derive(Debug)]
pub struct Waiter {
    user: UserNid,
    /// There until the drop.
    receiver: Option<watch::Receiver<News>>,
    wakeups: Wakeups,
}

impl Waiter {
    /// Waits until there was news beyond `since`, of either kind; at once if it came since this waiter was made. Answers with the newest.
    ///
    /// Safe to cancel and to call again.
    pub async fn newer_than(&mut self, since: News) -> News {
        let receiver = self.receiver.as_mut().expect("there until the drop");
        let newest = receiver.wait_for(|newest| newest.goes_beyond(&since)).await;
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

    fn at(position: u64) -> News {
        News { position: StreamPosition(position), ephemeral: 0 }
    }

    #[tokio::test]
    async fn what_happens_between_reading_and_waiting_is_not_lost() {
        let wakeups = Wakeups::default();
        let mut waiter = wakeups.waiter(BOB);
        wakeups.wake(BOB, StreamPosition(7));
        wakeups.wake(BOB, StreamPosition(5));
        assert_eq!(waiter.newer_than(at(6)).await, at(7));
    }

    #[tokio::test]
    async fn only_newer_news_of_the_same_user_wake() {
        let wakeups = Wakeups::default();
        let mut waiter = wakeups.waiter(BOB);
        wakeups.wake(BOB, StreamPosition(7));
        wakeups.wake(UserNid(1 + 64), StreamPosition(9));
        let outcome = tokio::time::timeout(Duration::from_millis(20), waiter.newer_than(at(7))).await;
        assert!(outcome.is_err());
        wakeups.wake(BOB, StreamPosition(8));
        assert_eq!(waiter.newer_than(at(7)).await, at(8));
    }

    #[tokio::test]
    async fn either_kind_of_news_wakes_and_neither_hides_the_other() {
        let wakeups = Wakeups::default();
        let mut waiter = wakeups.waiter(BOB);
        wakeups.wake(BOB, StreamPosition(7));
        assert_eq!((wakeups.last_change(), wakeups.next_change(), wakeups.next_change()), (0, 1, 2));
        wakeups.wake_ephemeral(BOB, 2);
        wakeups.wake_ephemeral(BOB, 1);
        let newest = News { position: StreamPosition(7), ephemeral: 2 };
        assert_eq!(waiter.newer_than(at(7)).await, newest);
        assert_eq!(waiter.newer_than(News { ephemeral: 2, ..at(6) }).await, newest);
        let outcome = tokio::time::timeout(Duration::from_millis(20), waiter.newer_than(newest)).await;
        assert!(outcome.is_err());
        assert_eq!(wakeups.waited_for(), [BOB]);
    }

    #[tokio::test]
    async fn of_a_crowd_those_are_woken_whom_it_concerns() {
        let wakeups = Wakeups::default();
        let (mut bob, mut other) = (wakeups.waiter(BOB), wakeups.waiter(UserNid(2)));
        wakeups.wake_crowd(|user| user == BOB, StreamPosition(7));
        assert_eq!(bob.newer_than(at(6)).await, at(7));
        assert!(tokio::time::timeout(Duration::from_millis(20), other.newer_than(at(6))).await.is_err());
    }

    #[tokio::test]
    async fn all_of_a_list_are_woken_whoever_are_fewer() {
        for listed in [1, 100] {
            let wakeups = Wakeups::default();
            let (mut bob, mut other) = (wakeups.waiter(BOB), wakeups.waiter(UserNid(1_000)));
            let list: Vec<_> = (1..=listed).map(UserNid).collect();
            wakeups.wake_all(&list, at(7));
            assert_eq!(bob.newer_than(at(6)).await, at(7), "{listed}");
            assert!(tokio::time::timeout(Duration::from_millis(20), other.newer_than(at(6))).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_thousand_waiters_wake_and_leave_nothing_behind() {
        let wakeups = Wakeups::default();
        let tracker = tokio_util::task::TaskTracker::new();
        for number in 0..1_000 {
            let mut waiter = wakeups.waiter(UserNid(number / 2));
            tracker.spawn(async move { waiter.newer_than(at(1)).await });
        }
        assert_eq!(wakeups.users_waited_for(), 500);
        tokio::task::yield_now().await;
        (0..500).for_each(|number| wakeups.wake(UserNid(number), StreamPosition(2)));
        tracker.close();
        tracker.wait().await;
        assert_eq!(wakeups.users_waited_for(), 0);
    }
}
