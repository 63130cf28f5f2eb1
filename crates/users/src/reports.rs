//! Reports of events, rooms and users (specification, "Reporting Content"): kept until an administrator deletes them.

use std::sync::Arc;

use primitives::{StreamPosition, UnixMillis, UserNid};
use ruma::OwnedUserId;
use storage::{
    Batch, Direction, KeyRange,
    schema::services::{self as tables, ReportRow},
};

pub use storage::schema::services::ReportSubject;

use crate::{
    accounts::Accounts,
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    ground::Ground,
    limits::{Limit, LimitExceeded, RateLimits},
    options::ReportSizes,
};

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The reason is longer than this server allows, in bytes.
    #[error("the reason of a report can have at most {0} bytes")]
    ReasonTooLong(usize),
    /// As many reports of the user wait as may.
    #[error("too many of your reports wait for an administrator")]
    TooMany,
    /// The user reports too often.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A report, for an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its number.
    pub id: u64,
    /// Who reported.
    pub reporter: OwnedUserId,
    /// When.
    pub made: UnixMillis,
    /// What was reported.
    pub subject: ReportSubject,
    /// Why, in the reporter's words; may be empty.
    pub reason: String,
}

/// The reports that wait for an administrator.
#[derive(Debug)]
pub struct Reports {
    ground: Ground,
    accounts: Arc<Accounts>,
    limits: Arc<RateLimits>,
    sizes: ReportSizes,
}

impl Reports {
    pub(crate) fn new(ground: Ground, accounts: Arc<Accounts>, limits: Arc<RateLimits>, sizes: ReportSizes) -> Self {
        Self { ground, accounts, limits, sizes }
    }

    /// Checks a reason and counts one more report towards the user's rate. Before it is looked at what is reported, so that how long that
    /// takes can't be tried out without end.
    pub fn admit(&self, reporter: UserNid, reason: &str) -> Result<(), ReportError> {
        if reason.len() > self.sizes.reason_max_bytes {
            return Err(ReportError::ReasonTooLong(self.sizes.reason_max_bytes));
        }
        Ok(self.limits.check(Limit::Reports(reporter))?)
    }

    /// Keeps a report that was admitted.
    pub async fn file(&self, reporter: UserNid, subject: ReportSubject, reason: String) -> Result<(), ReportError> {
        let row = ReportRow { reporter, made: self.ground.clock.now(), subject, reason };
        for _ in 0..MAX_ATTEMPTS {
            let waiting = self.ground.storage.view().get::<tables::ReportCounts>(&(reporter,)).await;
            let waiting = waiting.map_err(StoreError::from)?;
            if waiting.unwrap_or(0) >= self.sizes.waiting_max_per_user {
                return Err(ReportError::TooMany);
            }
            let mut batch = Batch::new();
            batch.assert_unchanged::<tables::ReportCounts>(&(reporter,), waiting.as_ref());
            batch.put::<tables::ReportCounts>(&(reporter,), &(waiting.unwrap_or(0) + 1));
            batch.put::<tables::Reports>(&(StreamPosition::PENDING,), &row);
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                metrics::counter!("sundial_reports_total").increment(1);
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Up to `limit` reports with a higher number than the given one, oldest first.
    pub async fn list(&self, after: Option<u64>, limit: usize) -> Result<Vec<Report>, StoreError> {
        let start = after.map_or(0, |after| after.saturating_add(1));
        let range = KeyRange::from(&(), &(StreamPosition(start),));
        let page = self.ground.storage.view().scan::<tables::Reports>(&range, limit, Direction::Forward).await?;
        let mut reports = Vec::with_capacity(page.rows.len());
        for ((position,), row) in page.rows {
            reports.extend(self.report(position, row).await?);
        }
        Ok(reports)
    }

    /// One report.
    pub async fn get(&self, id: u64) -> Result<Option<Report>, StoreError> {
        let key = StreamPosition(id);
        match self.ground.storage.view().get::<tables::Reports>(&(key,)).await? {
            Some(row) => self.report(key, row).await,
            None => Ok(None),
        }
    }

    async fn report(&self, key: StreamPosition, row: ReportRow) -> Result<Option<Report>, StoreError> {
        let ReportRow { reporter, made, subject, reason } = row;
        let reporter = self.accounts.user_id(reporter).await?;
        Ok(reporter.map(|reporter| Report { id: key.0, reporter, made, subject, reason }))
    }

    /// Deletes a report. Answers whether there was one.
    pub async fn delete(&self, id: u64) -> Result<bool, StoreError> {
        let key = (StreamPosition(id),);
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let Some(row) = view.get::<tables::Reports>(&key).await? else { return Ok(false) };
            let waiting = view.get::<tables::ReportCounts>(&(row.reporter,)).await?;
            let mut batch = Batch::new();
            batch.assert_equals::<tables::Reports>(&key, &row).delete::<tables::Reports>(&key);
            batch.assert_unchanged::<tables::ReportCounts>(&(row.reporter,), waiting.as_ref());
            match waiting {
                Some(waiting) if waiting > 1 => batch.put::<tables::ReportCounts>(&(row.reporter,), &(waiting - 1)),
                _ => batch.delete::<tables::ReportCounts>(&(row.reporter,)),
            };
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Limits, Options, Rate,
        testing::{World, options},
    };

    fn room(name: &str) -> ReportSubject {
        ReportSubject::Room { room_id: format!("!{name}:hs1") }
    }

    #[tokio::test]
    async fn reports_are_paged_shown_and_deleted() {
        let world = World::new().await;
        let (alice, bob) = (world.user("alice").await, world.user("bob").await);
        let reports = world.users.reports();
        for name in ["a", "b", "c"] {
            reports.file(bob.user_nid, room(name), format!("why {name}")).await.expect("kept");
        }
        reports.file(alice.user_nid, room("d"), String::new()).await.expect("kept");
        let first = reports.list(None, 3).await.expect("read");
        let subjects: Vec<_> = first.iter().map(|report| report.subject.clone()).collect();
        assert_eq!(subjects, [room("a"), room("b"), room("c")]);
        assert_eq!((&first[0].reporter, first[0].reason.as_str()), (&bob.user_id, "why a"));
        let rest = reports.list(Some(first[2].id), 3).await.expect("read");
        assert_eq!((rest.len(), &rest[0].subject, &rest[0].reporter), (1, &room("d"), &alice.user_id));
        assert_eq!(reports.get(first[1].id).await.expect("read").as_ref(), Some(&first[1]));
        assert!(reports.delete(first[1].id).await.expect("deleted"));
        assert!(!reports.delete(first[1].id).await.expect("gone already"));
        assert_eq!(reports.get(first[1].id).await.expect("read"), None);
        assert_eq!(reports.list(None, 10).await.expect("read").len(), 3);
    }

    #[tokio::test]
    async fn only_so_many_wait_and_each_deletion_makes_room() {
        let sizes = ReportSizes { waiting_max_per_user: 2, ..ReportSizes::default() };
        let world = World::with(Options { report_sizes: sizes, ..options() }).await;
        let bob = world.user("bob").await;
        let reports = world.users.reports();
        for name in ["a", "b"] {
            reports.file(bob.user_nid, room(name), String::new()).await.expect("kept");
        }
        let refused = reports.file(bob.user_nid, room("c"), String::new()).await;
        assert!(matches!(refused, Err(ReportError::TooMany)));
        for report in reports.list(None, 10).await.expect("read") {
            assert!(reports.delete(report.id).await.expect("deleted"));
        }
        let count = world.storage.view().get::<tables::ReportCounts>(&(bob.user_nid,)).await.expect("read");
        assert_eq!(count, None);
        reports.file(bob.user_nid, room("c"), String::new()).await.expect("kept");
    }

    #[tokio::test]
    async fn long_reasons_and_floods_are_refused() {
        let limits = Limits { reports_per_user: Rate::new(1.0, 2), ..Limits::default() };
        let world = World::with(Options { limits, ..options() }).await;
        let bob = world.user("bob").await;
        let reports = world.users.reports();
        let longest = "x".repeat(ReportSizes::default().reason_max_bytes);
        reports.admit(bob.user_nid, &longest).expect("admitted");
        let refused = reports.admit(bob.user_nid, &format!("{longest}x"));
        assert!(matches!(refused, Err(ReportError::ReasonTooLong(_))));
        reports.admit(bob.user_nid, "").expect("admitted");
        assert!(matches!(reports.admit(bob.user_nid, ""), Err(ReportError::LimitExceeded(_))));
    }
}
