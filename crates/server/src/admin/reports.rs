//! What an administrator asks about what users have reported, and how it is answered: by the running server, or by a command that has opened the
//! store.

use anyhow::Context;
use rooms::Reads;
use ruma::{EventId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::{Report, ReportSubject, Users};

/// Most reports in one answer.
const PAGE_MAX: usize = 50;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Up to `limit` reports with a higher number than `after`, oldest first.
    List {
        /// The number of the last report that is known.
        after: Option<u64>,
        /// How many; at most 50 are answered.
        limit: usize,
    },
    /// One report, with the event that it is about.
    Show {
        /// Its number.
        id: u64,
    },
    /// That a report is deleted.
    Delete {
        /// Its number.
        id: u64,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// Reports, oldest first.
    List {
        /// The reports.
        reports: Vec<ShownReport>,
    },
    /// One report.
    Report {
        /// The report.
        report: Box<ShownReport>,
        /// The event that it is about, as it was received; none if it is about something else or the event is gone.
        event: Option<Value>,
    },
    /// The report is deleted.
    Deleted,
}

/// A report as an administrator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownReport {
    /// Its number.
    pub id: u64,
    /// When it was made, in milliseconds since 1970.
    pub made_ms: u64,
    /// Who made it.
    pub reporter: String,
    /// What was reported.
    pub subject: ShownSubject,
    /// Why, in the reporter's words; may be empty.
    pub reason: String,
}

/// What was reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ShownSubject {
    /// An event.
    Event {
        /// Its room.
        room_id: String,
        /// The event.
        event_id: String,
        /// Who sent it.
        sender: String,
    },
    /// A room; whether it exists was not looked at.
    Room {
        /// The room.
        room_id: String,
    },
    /// A user; whether they exist was not looked at.
    User {
        /// The user.
        user_id: String,
    },
}

impl From<ReportSubject> for ShownSubject {
    fn from(subject: ReportSubject) -> Self {
        match subject {
            ReportSubject::Event { room_id, event_id, sender } => Self::Event { room_id, event_id, sender },
            ReportSubject::Room { room_id } => Self::Room { room_id },
            ReportSubject::User { user_id } => Self::User { user_id },
        }
    }
}

impl From<Report> for ShownReport {
    fn from(report: Report) -> Self {
        let Report { id, reporter, made, subject, reason } = report;
        Self { id, made_ms: made.0, reporter: reporter.into(), subject: subject.into(), reason }
    }
}

/// Where reports are read and deleted.
#[derive(Clone, Debug)]
pub struct ReportDesk {
    users: Users,
    reads: Reads,
}

impl ReportDesk {
    /// The reports of these users about what is in these rooms.
    pub fn new(users: Users, reads: Reads) -> Self {
        Self { users, reads }
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// A number that no report has, a store that fails.
    pub async fn answer(&self, request: &Ask) -> anyhow::Result<Told> {
        match request {
            Ask::List { after, limit } => self.list(*after, *limit).await,
            Ask::Show { id } => self.show(*id).await,
            Ask::Delete { id } => self.delete(*id).await,
        }
    }

    async fn list(&self, after: Option<u64>, limit: usize) -> anyhow::Result<Told> {
        let reports = self.users.reports().list(after, limit.clamp(1, PAGE_MAX)).await?;
        Ok(Told::List { reports: reports.into_iter().map(ShownReport::from).collect() })
    }

    async fn show(&self, id: u64) -> anyhow::Result<Told> {
        let report = self.users.reports().get(id).await?.with_context(|| no_such(id))?;
        let report = ShownReport::from(report);
        let event = match &report.subject {
            ShownSubject::Event { room_id, event_id, .. } => self.event(room_id, event_id).await?,
            ShownSubject::Room { .. } | ShownSubject::User { .. } => None,
        };
        Ok(Told::Report { report: Box::new(report), event })
    }

    async fn event(&self, room_id: &str, event_id: &str) -> anyhow::Result<Option<Value>> {
        let (room_id, event_id) = (RoomId::parse(room_id)?, EventId::parse(event_id)?);
        let event = self.reads.event_for_administrator(&room_id, &event_id).await?;
        Ok(event.map(serde_json::to_value).transpose()?)
    }

    async fn delete(&self, id: u64) -> anyhow::Result<Told> {
        anyhow::ensure!(self.users.reports().delete(id).await?, no_such(id));
        Ok(Told::Deleted)
    }
}

fn no_such(id: u64) -> String {
    format!("there is no report {id}")
}
