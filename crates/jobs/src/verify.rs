//! Checking what is stored of jobs, reading only: every row can be read and is of a kind that this server knows. What projections
//! reflect is checked by [`crate::Projections::verify`], into the same report.

use std::fmt;

use storage::{Direction, KeyRange, ReadError, schema::jobs::Jobs as Table};

use crate::Jobs;

/// Faults that a report lists; of more it only says how many.
const MAX_LISTED: usize = 100;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// What a check of jobs found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Jobs that are not done.
    pub jobs: u64,
    /// Rooms of which a projection reflects a state.
    pub projected: u64,
    /// The first faults.
    pub faults: Vec<String>,
    /// How many faults there are.
    pub fault_count: u64,
}

impl Report {
    /// Whether there is no fault.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    pub(crate) fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < MAX_LISTED {
            self.faults.push(what);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, projected, faults, fault_count } = self;
        write!(f, "jobs to be done: {jobs}, rooms projected: {projected}, faults: {fault_count}")?;
        for fault in faults {
            write!(f, "\n{fault}")?;
        }
        let unlisted = fault_count - faults.len() as u64;
        if unlisted > 0 { write!(f, "\nand {unlisted} more") } else { Ok(()) }
    }
}

impl Jobs {
    /// Checks what is stored. Writes nothing. For a store that is not being written.
    pub async fn verify(&self) -> Result<Report, ReadError> {
        let mut report = Report::default();
        self.verify_jobs(&mut report).await?;
        Ok(report)
    }

    async fn verify_jobs(&self, report: &mut Report) -> Result<(), ReadError> {
        let view = self.0.storage.view();
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = match view.scan::<Table>(&range, PAGE, Direction::Forward).await {
                Err(ReadError::Corrupt(error)) => {
                    report.fault(error.to_string());
                    return Ok(());
                }
                page => page?,
            };
            for ((kind, id), row) in page.rows {
                report.jobs += 1;
                if self.0.kind(kind).is_none() {
                    report.fault(format!("a job of the unknown kind {}: {id:?}", kind.0));
                }
                if row.position > view.position() {
                    report.fault(format!("a job of kind {}: {id:?}: its cause is in the future", kind.0));
                }
            }
            rest = page.rest;
        }
        Ok(())
    }
}
