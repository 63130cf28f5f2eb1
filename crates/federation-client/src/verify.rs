//! Checking what is stored of other servers, reading only: every row is of a server, and what a server is owed is there.

use std::fmt;

use ruma::{ServerName, UserId};
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::{
        federation::{DestinationRooms, Destinations as Rows, DeviceListMarks, LeftPdus},
        rooms::{EventHeaders, Rooms},
    },
};

use crate::Destinations;

/// Faults that a report lists; of more it only says how many.
const MAX_LISTED: usize = 100;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Servers that this one sends to.
    pub destinations: u64,
    /// Rooms whose newest event a server is owed.
    pub owed: u64,
    /// Lists of devices that a server is to be told of.
    pub marks: u64,
    /// Events that were left to their rooms.
    pub left: u64,
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

    fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < MAX_LISTED {
            self.faults.push(what);
        }
    }

    fn check_server(&mut self, table: &str, Text(server): &Text) {
        if <&ServerName>::try_from(server.as_str()).is_err() {
            self.fault(format!("{table}: {server:?} is no server name"));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destinations, owed, marks, left, faults, fault_count } = self;
        write!(f, "servers: {destinations}, rooms owed: {owed}, lists of devices owed: {marks}, ")?;
        write!(f, "events left to rooms: {left}, faults: {fault_count}")?;
        for fault in faults {
            write!(f, "\n{fault}")?;
        }
        let unlisted = fault_count - faults.len() as u64;
        if unlisted > 0 { write!(f, "\nand {unlisted} more") } else { Ok(()) }
    }
}

impl Destinations {
    /// Checks what is stored of the servers that this one sends to, and of what they have sent and nobody has judged. Writes nothing. For a store that is not being
    /// written.
    ///
    /// # Errors
    /// A store that can't be read.
    pub async fn verify(&self) -> Result<Report, ReadError> {
        let (view, mut report) = (self.view(), Report::default());
        verify_destinations(&view, &mut report).await?;
        verify_owed(&view, &mut report).await?;
        verify_marks(&view, &mut report).await?;
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = view.scan::<LeftPdus>(&range, PAGE, Direction::Forward).await?;
            for ((server, ..), _) in &page.rows {
                report.left += 1;
                report.check_server("left_pdu", server);
            }
            rest = page.rest;
        }
        Ok(report)
    }
}

async fn verify_destinations(view: &View, report: &mut Report) -> Result<(), ReadError> {
    let mut rest = Some(KeyRange::prefix(&()));
    while let Some(range) = rest {
        let page = view.scan::<Rows>(&range, PAGE, Direction::Forward).await?;
        for ((server,), row) in &page.rows {
            report.destinations += 1;
            report.check_server("destination", server);
            if row.acknowledged > view.position() {
                report.fault(format!("destination {}: has acknowledged what is not there yet", server.0));
            }
            if row.failures == 0 && row.retry_at.0 != 0 {
                report.fault(format!("destination {}: is left alone, and has not failed", server.0));
            }
        }
        rest = page.rest;
    }
    Ok(())
}

async fn verify_owed(view: &View, report: &mut Report) -> Result<(), ReadError> {
    let mut rest = Some(KeyRange::prefix(&()));
    while let Some(range) = rest {
        let page = view.scan::<DestinationRooms>(&range, PAGE, Direction::Forward).await?;
        for ((server, room), row) in &page.rows {
            report.owed += 1;
            report.check_server("destination_room", server);
            // A room that was purged leaves such rows; they lead nowhere.
            let gone = !view.contains::<Rooms>(&(*room,)).await?;
            if !gone && !view.contains::<EventHeaders>(&(*room, row.rix)).await? {
                report.fault(format!("destination_room {}: event {} of room {room} is not there", server.0, row.rix));
            }
        }
        rest = page.rest;
    }
    Ok(())
}

async fn verify_marks(view: &View, report: &mut Report) -> Result<(), ReadError> {
    let mut rest = Some(KeyRange::prefix(&()));
    while let Some(range) = rest {
        let page = view.scan::<DeviceListMarks>(&range, PAGE, Direction::Forward).await?;
        for ((server, user), row) in &page.rows {
            report.marks += 1;
            report.check_server("device_list_mark", server);
            if <&UserId>::try_from(user.0.as_str()).is_err() {
                report.fault(format!("device_list_mark {}: {:?} is no user", server.0, user.0));
            }
            if row.since > row.changed {
                report.fault(format!("device_list_mark {} {}: has been told of what comes later", server.0, user.0));
            }
        }
        rest = page.rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use primitives::{ManualClock, Random, Rix, RoomNid, SharedClock, StreamPosition, UnixMillis};
    use storage::{
        Batch, Storage,
        schema::federation::{DestinationRoomRow, DestinationRow, DeviceListMarkRow},
    };

    use super::*;

    #[tokio::test]
    async fn rows_that_make_no_sense_are_found() {
        let clock: SharedClock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let storage = Storage::memory(&clock, &Random::seeded(1));
        let known = Destinations::new(storage.clone());
        let good = DestinationRow { acknowledged: StreamPosition(5), failures: 1, retry_at: UnixMillis(5) };
        let mut batch = Batch::new();
        batch.put::<Rows>(&(Text::new("a.test"),), &good);
        batch.put::<DeviceListMarks>(
            &(Text::new("a.test"), Text::new("@a:hs.test")),
            &DeviceListMarkRow { since: StreamPosition(1), changed: StreamPosition(2) },
        );
        storage.commit(batch).await.expect("written");
        let report = known.verify().await.expect("read");
        assert!(report.is_whole() && (report.destinations, report.marks) == (1, 1), "{report}");

        let mut batch = Batch::new();
        batch.put::<Rows>(&(Text::new("no name"),), &good);
        batch.put::<Rows>(&(Text::new("b.test"),), &DestinationRow { acknowledged: StreamPosition(u64::MAX), ..good });
        batch.put::<Rows>(&(Text::new("c.test"),), &DestinationRow { failures: 0, ..good });
        let owed = DestinationRoomRow { position: StreamPosition(3), rix: Rix(7) };
        batch.put::<DestinationRooms>(&(Text::new("a.test"), RoomNid(3)), &owed);
        batch.put::<DeviceListMarks>(
            &(Text::new("a.test"), Text::new("nobody")),
            &DeviceListMarkRow { since: StreamPosition(3), changed: StreamPosition(2) },
        );
        storage.commit(batch).await.expect("written");
        let report = known.verify().await.expect("read");
        assert_eq!((report.fault_count, report.faults.len()), (5, 5), "{report}");
        assert!(report.to_string().ends_with("has been told of what comes later"), "{report}");
    }
}
