//! Retention: ended events are kept for a time, and the newest of each user; the rest is deleted, a little at a time.

use std::sync::atomic::Ordering;

use primitives::{UnixMillis, UserNid};
use storage::{
    Batch, Direction, KeyRange,
    schema::delayed::{Delayed, DelayedGroups, DelayedOutcomes, DelayedTokens, Finalised, HashRow},
};

use crate::{DelayedEvents, StoreError, engine::Inner, steps::Place};

/// Events that one batch deletes.
const BATCH: usize = 64;

type Row = ((UserNid, UnixMillis, u64), HashRow);

impl DelayedEvents {
    /// Deletes the ended events that are no longer kept. Called now and then by [`Self::run`]; idempotent.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        let inner = self.0.clone();
        self.whole(async move {
            // Of whom something ended before the start is not known: the first sweep looks at everybody.
            let everybody = !inner.swept.swap(true, Ordering::Relaxed);
            let since_last: Vec<_> = std::mem::take(&mut *inner.to_sweep.lock()).into_iter().collect();
            for user in since_last {
                inner.sweep_surplus(user).await?;
            }
            inner.paces.schedules.clean();
            inner.paces.restarts.clean();
            inner.sweep_all(everybody).await
        })
        .await
    }
}

impl Inner {
    /// Deletes what ended too long ago, of every user; and, if asked to, what each has beyond the newest.
    async fn sweep_all(&self, surplus: bool) -> Result<(), StoreError> {
        let mut next = 0;
        loop {
            let rest = KeyRange::from(&(), &(UserNid(next),));
            let page = self.storage.view().scan::<Finalised>(&rest, 1, Direction::Forward).await?;
            let Some(((user, ..), _)) = page.rows.first() else { return Ok(()) };
            let oldest = self
                .wall()
                .0
                .saturating_sub(u64::try_from(self.options.finalised_kept.as_millis()).unwrap_or(u64::MAX));
            self.delete_all(KeyRange::between(&(*user,), &(*user, UnixMillis(oldest)))).await?;
            if surplus {
                self.sweep_surplus(*user).await?;
            }
            let Some(after) = user.0.checked_add(1) else { return Ok(()) };
            next = after;
            tokio::task::yield_now().await;
        }
    }

    /// Deletes what a user has beyond the newest that are kept.
    async fn sweep_surplus(&self, user: UserNid) -> Result<(), StoreError> {
        let all = KeyRange::prefix(&(user,));
        let newest = self
            .storage
            .view()
            .scan::<Finalised>(&all, self.options.finalised_kept_per_user, Direction::Backward)
            .await?;
        match newest.rest {
            Some(surplus) => self.delete_all(surplus).await,
            None => Ok(()),
        }
    }

    async fn delete_all(&self, mut range: KeyRange) -> Result<(), StoreError> {
        loop {
            let page = self.storage.view().scan::<Finalised>(&range, BATCH, Direction::Forward).await?;
            if !page.rows.is_empty() {
                self.delete(&page.rows).await?;
            }
            match page.rest {
                Some(rest) => range = rest,
                None => return Ok(()),
            }
        }
    }

    async fn delete(&self, ended: &[Row]) -> Result<(), StoreError> {
        let view = self.storage.view();
        let mut batch = Batch::new();
        for (place, HashRow(key)) in ended {
            if let Some(row) = view.get::<Delayed>(&(*key,)).await? {
                for (_, token) in &row.value.tokens {
                    batch.delete::<DelayedTokens>(&(self.key_of_token(token),));
                }
                // An open group lives on; its last event will take it along.
                if let Some(group) = row.value.group_id.as_deref().map(|id| (self.key_of_group(id),))
                    && view.get::<DelayedGroups>(&group).await?.is_some_and(|group| !group.open)
                {
                    batch.delete::<DelayedGroups>(&group);
                }
            }
            batch.delete::<Delayed>(&(*key,)).delete::<DelayedOutcomes>(&(*key,)).delete::<Finalised>(place);
        }
        self.steps.pass(Place::BeforeSweeping)?;
        self.storage.commit(batch).await.map_err(StoreError::Commit)?;
        self.steps.pass(Place::AfterSweeping)
    }
}
