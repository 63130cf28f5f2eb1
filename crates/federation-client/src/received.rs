//! Which transactions of other servers are done, and what was answered (server-server API, "Transactions"): one that comes again has the effect
//! of one (I11).

use std::time::Duration;

use primitives::SharedClock;
use ruma::ServerName;
use storage::{
    Batch, CommitError, Direction, KeyRange, ReadError, Storage, Text,
    schema::federation::{DoneTransaction, DoneTransactionsRow, InboundTransactions},
};

/// A transaction that is done is remembered for this long at most.
const REMEMBERED: Duration = Duration::from_hours(24);
/// Transactions of one server that are remembered. A server has one or few under way: it waits for an answer before it sends the next.
const PER_SERVER: usize = 8;
/// Bytes of answers to one server that are remembered.
const ANSWERS_MAX_BYTES: usize = 64 << 10;
/// Attempts at a row that is written by others at the same time.
const ATTEMPTS: usize = 8;
/// Servers that a sweep looks at in one page.
const PAGE: usize = 500;

/// Why a transaction is not known to be done, or not noted.
#[derive(Debug, thiserror::Error)]
pub enum ReceivedError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store can't be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The transactions of other servers that are done. Cheap to clone.
#[derive(Clone)]
pub struct ReceivedTransactions {
    storage: Storage,
    clock: SharedClock,
}

impl std::fmt::Debug for ReceivedTransactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReceivedTransactions")
    }
}

impl ReceivedTransactions {
    /// Keeps them in the store.
    pub fn new(storage: Storage, clock: SharedClock) -> Self {
        Self { storage, clock }
    }

    /// What was answered to a transaction of a server; `None` if it isn't known to be done.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn answer(&self, origin: &ServerName, txn_id: &str) -> Result<Option<String>, ReadError> {
        let row = self.storage.view().get::<InboundTransactions>(&key(origin)).await?.unwrap_or_default();
        let id = self.hash(txn_id);
        Ok(row.0.into_iter().find(|done| done.id == id && self.is_remembered(done)).map(|done| done.answer))
    }

    /// Notes that a transaction is done. Only after all that came with it is done.
    ///
    /// # Errors
    /// See [`ReceivedError`].
    pub async fn done(&self, origin: &ServerName, txn_id: &str, answer: String) -> Result<(), ReceivedError> {
        let key = key(origin);
        for _ in 0..ATTEMPTS {
            let stored = self.storage.view().get::<InboundTransactions>(&key).await?;
            let mut row = stored.clone().unwrap_or_default();
            let id = self.hash(txn_id);
            row.0.retain(|done| done.id != id && self.is_remembered(done));
            row.0.push(DoneTransaction { id, at: self.clock.now(), answer: answer.clone() });
            bound(&mut row);
            let mut batch = Batch::new();
            batch.assert_unchanged::<InboundTransactions>(&key, stored.as_ref()).put::<InboundTransactions>(&key, &row);
            match self.storage.commit(batch).await {
                Err(CommitError::Conflict(_)) => {}
                other => return Ok(other.map(drop)?),
            }
        }
        // Forgetting it costs work when it comes again, and nothing else.
        tracing::debug!(%origin, "a transaction that is done was not noted: others write the row all the time");
        Ok(())
    }

    /// Drops the rows of servers that have sent nothing for so long that nothing in them is remembered.
    ///
    /// # Errors
    /// See [`ReceivedError`].
    pub async fn sweep(&self) -> Result<(), ReceivedError> {
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = self.storage.view().scan::<InboundTransactions>(&range, PAGE, Direction::Forward).await?;
            for (key, row) in page.rows {
                if row.0.iter().any(|done| self.is_remembered(done)) {
                    continue;
                }
                let mut batch = Batch::new();
                batch.assert_unchanged::<InboundTransactions>(&key, Some(&row)).delete::<InboundTransactions>(&key);
                match self.storage.commit(batch).await {
                    Ok(_) | Err(CommitError::Conflict(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            rest = page.rest;
        }
        Ok(())
    }

    fn is_remembered(&self, done: &DoneTransaction) -> bool {
        self.clock.now().since(done.at) < REMEMBERED
    }

    fn hash(&self, txn_id: &str) -> [u8; 16] {
        self.storage.hash().hash16(&[txn_id.as_bytes()])
    }
}

fn key(origin: &ServerName) -> (Text,) {
    (Text::new(origin.as_str()),)
}

/// Drops the oldest until the rest is within the bounds. An answer that is over them alone is not remembered.
fn bound(row: &mut DoneTransactionsRow) {
    let bytes = |row: &DoneTransactionsRow| row.0.iter().map(|done| done.answer.len()).sum::<usize>();
    while !row.0.is_empty() && (row.0.len() > PER_SERVER || bytes(row) > ANSWERS_MAX_BYTES) {
        row.0.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use primitives::{ManualClock, Random, UnixMillis};
    use ruma::server_name;

    use super::*;

    fn open() -> (ReceivedTransactions, Arc<ManualClock>) {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let shared: SharedClock = clock.clone();
        (ReceivedTransactions::new(Storage::memory(&shared, &Random::seeded(1)), shared), clock)
    }

    #[tokio::test]
    async fn what_is_done_is_known_for_a_day_and_by_its_server_only() {
        let (received, clock) = open();
        let (here, there) = (server_name!("a.test"), server_name!("b.test"));
        received.done(here, "1", "one".to_owned()).await.expect("noted");
        assert_eq!(received.answer(here, "1").await.expect("read").as_deref(), Some("one"));
        assert_eq!(received.answer(there, "1").await.expect("read"), None);
        assert_eq!(received.answer(here, "2").await.expect("read"), None);
        clock.advance(Duration::from_hours(23));
        received.done(here, "2", "two".to_owned()).await.expect("noted");
        received.done(there, "1", "three".to_owned()).await.expect("noted");
        clock.advance(Duration::from_hours(2));
        assert_eq!(received.answer(here, "1").await.expect("read"), None);
        received.sweep().await.expect("swept");
        assert_eq!(received.answer(here, "2").await.expect("read").as_deref(), Some("two"));
        clock.advance(Duration::from_hours(24));
        received.sweep().await.expect("swept");
        let (view, all) = (received.storage.view(), KeyRange::prefix(&()));
        let page = view.scan::<InboundTransactions>(&all, 10, Direction::Forward).await;
        assert_eq!(page.expect("read").rows.len(), 0);
    }

    #[tokio::test]
    async fn a_server_can_fill_one_small_row_only() {
        let (received, _) = open();
        let origin = server_name!("a.test");
        for n in 0..20 {
            received.done(origin, &n.to_string(), "x".repeat(20 << 10)).await.expect("noted");
        }
        for n in 0..20 {
            let known = received.answer(origin, &n.to_string()).await.expect("read").is_some();
            assert_eq!(known, n >= 17, "{n}");
        }
        received.done(origin, "large", "x".repeat(65 << 10)).await.expect("noted");
        assert_eq!(received.answer(origin, "large").await.expect("read"), None);
        for n in 0..20 {
            received.done(origin, &n.to_string(), String::new()).await.expect("noted");
        }
        assert_eq!(received.answer(origin, "11").await.expect("read"), None);
        assert!(received.answer(origin, "12").await.expect("read").is_some());
    }
}
