//! Transaction ids: what a device has already asked for, so that a request that is tried again has the effect of one (invariant I11).
//!
//! An outcome is written by the batch of what it stands for, as its rider: there is never one without the other.

use std::time::Duration;

use primitives::UserNid;
use ruma::{DeviceId, OwnedDeviceId};
use storage::{
    Batch, Direction, KeyRange, Text,
    schema::users::{self as tables, TransactionRow},
};

use crate::{error::StoreError, ground::Ground};

/// A transaction id is remembered for at least this long, and for less than twice as long.
pub const REMEMBERED: Duration = Duration::from_hours(24);

/// Days that one sweep drops at most.
const MAX_DAYS_A_SWEEP: usize = 16;

/// Which request it is (specification, "Transaction identifiers"): the same transaction id on another path is another request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TxnKey {
    /// The user.
    pub user_nid: UserNid,
    /// The device. A token without a device counts as one of its own.
    pub device_id: Option<OwnedDeviceId>,
    /// The request's path without the transaction id, room and event type included.
    pub path: String,
    /// The transaction id.
    pub txn_id: String,
}

/// The transaction ids of all devices. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transactions {
    ground: Ground,
}

type Key = (u32, UserNid, Text, [u8; 16]);

impl Transactions {
    pub(crate) fn new(ground: Ground) -> Self {
        Self { ground }
    }

    fn today(&self) -> u32 {
        let days = self.ground.clock.now().0 / u64::try_from(REMEMBERED.as_millis()).expect("a day");
        u32::try_from(days).unwrap_or(u32::MAX)
    }

    /// The rows where a key may be: written today or yesterday.
    fn rows(&self, key: &TxnKey) -> [Key; 2] {
        let today = self.today();
        let hash = self.ground.storage.hash().hash16(&[key.path.as_bytes(), key.txn_id.as_bytes()]);
        let device = Text::new(key.device_id.as_ref().map_or("", |id| id.as_str()));
        [today, today.saturating_sub(1)].map(|day| (day, key.user_nid, device.clone(), hash))
    }

    /// What the request answered the first time, if there was one.
    pub async fn lookup(&self, key: &TxnKey) -> Result<Option<String>, StoreError> {
        let rows = self.ground.storage.view().multi_get::<tables::Transactions>(&self.rows(key)).await?;
        Ok(rows.into_iter().flatten().next().map(|row| row.result))
    }

    /// A rider that writes the request's outcome, and conflicts if there is one already.
    pub fn record(&self, key: &TxnKey, result: &str) -> Batch {
        let [today, yesterday] = self.rows(key);
        let mut batch = Batch::new();
        batch.assert_absent::<tables::Transactions>(&today).assert_absent::<tables::Transactions>(&yesterday);
        batch.put::<tables::Transactions>(&today, &TransactionRow { result: result.to_owned() });
        batch
    }

    /// Deletes what a device has asked for, with the device.
    pub(crate) fn delete_in(&self, batch: &mut Batch, user: UserNid, device: &DeviceId) {
        let today = self.today();
        for day in [today.saturating_sub(1), today] {
            batch.delete_prefix::<tables::Transactions>(&(day, user, Text::new(device.as_str())));
        }
    }

    /// Drops the days that are over, each as one range.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        let yesterday = self.today().saturating_sub(1);
        for _ in 0..MAX_DAYS_A_SWEEP {
            let range = KeyRange::between(&(), &(yesterday,));
            let page = self.ground.storage.view().scan::<tables::Transactions>(&range, 1, Direction::Forward).await?;
            let Some(((day, ..), _)) = page.rows.into_iter().next() else { return Ok(()) };
            let mut batch = Batch::new();
            batch.delete_prefix::<tables::Transactions>(&(day,));
            self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use storage::CommitError;

    use super::*;
    use crate::testing::World;

    fn key(path: &str, txn_id: &str) -> TxnKey {
        TxnKey { user_nid: UserNid(1), device_id: Some("A".into()), path: path.to_owned(), txn_id: txn_id.to_owned() }
    }

    #[tokio::test]
    async fn a_key_is_the_device_the_path_and_the_id() {
        let world = World::new().await;
        let transactions = world.users.transactions();
        world.storage.commit(transactions.record(&key("send/!a", "1"), "$x")).await.expect("written");
        assert_eq!(transactions.lookup(&key("send/!a", "1")).await.expect("read").as_deref(), Some("$x"));
        let others = [
            key("send/!b", "1"),
            key("send/!a", "2"),
            key("send/!a1", ""),
            TxnKey { device_id: Some("B".into()), ..key("send/!a", "1") },
            TxnKey { device_id: None, ..key("send/!a", "1") },
            TxnKey { user_nid: UserNid(2), ..key("send/!a", "1") },
        ];
        for other in others {
            assert_eq!(transactions.lookup(&other).await.expect("read"), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_second_outcome_conflicts_and_the_first_stays() {
        let world = World::new().await;
        let transactions = world.users.transactions();
        world.storage.commit(transactions.record(&key("p", "1"), "$x")).await.expect("written");
        for _ in 0..2 {
            let second = world.storage.commit(transactions.record(&key("p", "1"), "$y")).await;
            assert!(matches!(second, Err(CommitError::Conflict(_))));
            assert_eq!(transactions.lookup(&key("p", "1")).await.expect("read").as_deref(), Some("$x"));
            world.pass(24 * 3600 - 1);
        }
    }

    #[tokio::test]
    async fn outcomes_outlive_a_day_and_then_go() {
        let world = World::new().await;
        let transactions = world.users.transactions();
        for day in 0..40 {
            world.storage.commit(transactions.record(&key("p", &day.to_string()), "$x")).await.expect("written");
            world.pass(24 * 3600);
        }
        let rows = async || {
            let range = KeyRange::prefix(&());
            world
                .storage
                .view()
                .scan::<tables::Transactions>(&range, 100, Direction::Forward)
                .await
                .expect("read")
                .rows
                .len()
        };
        assert_eq!(rows().await, 40);
        assert!(transactions.lookup(&key("p", "39")).await.expect("read").is_some());
        assert!(transactions.lookup(&key("p", "38")).await.expect("read").is_none());
        world.users.run_due().await.expect("swept");
        assert_eq!(rows().await, 24, "one sweep is bounded");
        world.users.run_due().await.expect("swept");
        world.users.run_due().await.expect("swept");
        assert_eq!(rows().await, 1);
    }
}
