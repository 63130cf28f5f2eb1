//! What users ask of the server itself: to vouch for them to another service, and to look at something. Table numbers 65–67. Written by the
//! `users` crate only.

use primitives::{StreamPosition, UnixMillis, UserNid};
use serde::{Deserialize, Serialize};

use super::{tables, version_one};

tables! {
    /// `OpenID` tokens: the hour in which the token ends (since 1970), then its SHA-256. The hour comes first, so that what is over is one range.
    OpenIdTokens = 65, "openid_token", (u32, [u8; 32]) => OpenIdTokenRow;
    /// Reports that wait for an administrator, by the position of their batch, which is their number.
    Reports = 66, "report", (StreamPosition,) => ReportRow;
    /// How many reports of a user wait. Guarded by `Equals`; gone when there is none.
    ReportCounts = 67, "report_count", (UserNid,) => u32;
}

/// A token by which another service learns who a user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIdTokenRow {
    /// The user that it stands for.
    pub user: UserNid,
    /// When it stops being valid.
    pub expires: UnixMillis,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Who reported.
    pub reporter: UserNid,
    /// When.
    pub made: UnixMillis,
    /// What was reported.
    pub subject: ReportSubject,
    /// Why, in the reporter's words; may be empty.
    pub reason: String,
}

/// What can be reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportSubject {
    /// An event that the reporter could see.
    Event {
        /// Its room.
        room_id: String,
        /// The event.
        event_id: String,
        /// Who sent it.
        sender: String,
    },
    /// A room, known here or not.
    Room {
        /// The room.
        room_id: String,
    },
    /// A user, known here or not.
    User {
        /// The user.
        user_id: String,
    },
}

version_one!(OpenIdTokenRow, ReportRow);
