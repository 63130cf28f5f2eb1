//! What is kept of the servers that this one sends to: how far each has acknowledged, what it is owed, and how long it is left alone.

use primitives::{Rix, RoomNid, StreamPosition, UnixMillis};
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use storage::{
    Batch, CommitError, Direction, KeyRange, ReadError, Storage, Text, View,
    schema::federation::{
        DestinationRoomRow, DestinationRooms, DestinationRow, Destinations as Rows, DeviceListMarkRow, DeviceListMarks,
    },
};

/// Rows that one page of a scan reads.
const PAGE: usize = 500;
/// Attempts at rows that others change meanwhile.
const ATTEMPTS: usize = 3;
/// Marks that one batch writes.
const MARKS_A_BATCH: usize = 500;

/// A server that this one sends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    /// Everything that rooms' logs have for it up to here is acknowledged, but for what it is [owed](Owed).
    pub acknowledged: StreamPosition,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked again after the last of them.
    pub retry_at: UnixMillis,
}

/// The newest event of a room that a server has not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The room.
    pub room: RoomNid,
    /// The event.
    pub rix: Rix,
    /// Its position in the room's log.
    pub position: StreamPosition,
}

/// A user of this server whose list of devices a server is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceListMark {
    /// The user.
    pub user_id: OwnedUserId,
    /// Up to which of its changes the server has been told; zero: it never was.
    pub since: StreamPosition,
    /// When the list changed last.
    pub changed: StreamPosition,
}

/// The stored half of sending to other servers. One task at a time writes what belongs to a server.
#[derive(Clone, Debug)]
pub struct Destinations {
    storage: Storage,
}

fn key(server: &ServerName) -> (Text,) {
    (Text::new(server.as_str()),)
}

fn row(destination: Destination) -> DestinationRow {
    let Destination { acknowledged, failures, retry_at } = destination;
    DestinationRow { acknowledged, failures, retry_at }
}

fn destination(row: DestinationRow) -> Destination {
    let DestinationRow { acknowledged, failures, retry_at } = row;
    Destination { acknowledged, failures, retry_at }
}

impl Destinations {
    /// What a store has of them.
    pub fn new(storage: Storage) -> Self {
        Self { storage }
    }

    pub(crate) fn view(&self) -> View {
        self.storage.view()
    }

    /// What is kept of some servers, in their order; of one that is not known, nothing is acknowledged.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn read(&self, servers: &[OwnedServerName]) -> Result<Vec<Destination>, ReadError> {
        let keys: Vec<_> = servers.iter().map(|server| key(server)).collect();
        let rows = self.storage.view().multi_get::<Rows>(&keys).await?;
        Ok(rows.into_iter().map(|row| row.map(destination).unwrap_or_default()).collect())
    }

    /// Up to where the logs of all rooms have been followed; `None` on a store that has never sent anything. `own` is this server's name.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn followed(&self, own: &ServerName) -> Result<Option<StreamPosition>, ReadError> {
        let row = self.storage.view().get::<Rows>(&key(own)).await?;
        Ok(row.map(|row| row.acknowledged))
    }

    /// The servers that failed last time, at most `limit`.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn failing(&self, limit: usize) -> Result<Vec<(OwnedServerName, Destination)>, ReadError> {
        let (view, mut failing) = (self.storage.view(), Vec::new());
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest.filter(|_| failing.len() < limit) {
            let page = view.scan::<Rows>(&range, PAGE, Direction::Forward).await?;
            let failed = page.rows.into_iter().filter(|(_, row)| row.failures > 0);
            failing.extend(failed.filter_map(|((name,), row)| Some((server_name(name)?, destination(row)))));
            rest = page.rest;
        }
        failing.truncate(limit);
        Ok(failing)
    }

    /// The servers that are owed events of rooms, and those that are to be told of lists of devices.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn owing(&self) -> Result<(Vec<OwnedServerName>, Vec<OwnedServerName>), ReadError> {
        let view = self.storage.view();
        let (mut owed, mut rest) = (Vec::new(), KeyRange::prefix(&()));
        while let Some((name, _)) = view.scan_keys::<DestinationRooms>(&rest, 1, Direction::Forward).await?.keys.pop() {
            rest = KeyRange::from(&(), &(name.clone(), RoomNid(u32::MAX)));
            owed.extend(server_name(name));
        }
        let (mut marked, mut rest) = (Vec::new(), KeyRange::prefix(&()));
        while let Some((name, _)) = view.scan_keys::<DeviceListMarks>(&rest, 1, Direction::Forward).await?.keys.pop() {
            // No user id is as high as this.
            rest = KeyRange::from(&(), &(name.clone(), Text::new("\u{10FFFF}")));
            marked.extend(server_name(name));
        }
        Ok((owed, marked))
    }

    /// Up to `limit` events that a server is owed.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn owed(&self, server: &ServerName, limit: usize) -> Result<Vec<Owed>, ReadError> {
        let view = self.storage.view();
        let page = view.scan::<DestinationRooms>(&KeyRange::prefix(&key(server)), limit, Direction::Forward).await?;
        let owed = page.rows.into_iter();
        Ok(owed.map(|((_, room), row)| Owed { room, rix: row.rix, position: row.position }).collect())
    }

    /// Up to `limit` users whose list of devices a server is to be told of.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn marks(&self, server: &ServerName, limit: usize) -> Result<Vec<DeviceListMark>, ReadError> {
        let view = self.storage.view();
        let page = view.scan::<DeviceListMarks>(&KeyRange::prefix(&key(server)), limit, Direction::Forward).await?;
        let marks = page.rows.into_iter();
        let named = marks.filter_map(|((_, user), row)| {
            let DeviceListMarkRow { since, changed } = row;
            Some(DeviceListMark { user_id: user.0.try_into().ok()?, since, changed })
        });
        Ok(named.collect())
    }

    /// Notes that servers are to be told of users' lists of devices. A mark that is there already stays where it begins: what is told follows on what
    /// the server knows.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mark(&self, marks: &[(OwnedServerName, DeviceListMark)]) -> Result<(), CommitError> {
        let failed = |error: ReadError| CommitError::Failed(error.to_string());
        for some in marks.chunks(MARKS_A_BATCH) {
            for attempt in 1..=ATTEMPTS {
                let keys: Vec<_> = some
                    .iter()
                    .map(|(server, mark)| (Text::new(server.as_str()), Text::new(mark.user_id.as_str())))
                    .collect();
                let rows = self.storage.view().multi_get::<DeviceListMarks>(&keys).await.map_err(failed)?;
                let mut batch = Batch::new();
                for ((key, row), (_, mark)) in keys.iter().zip(rows).zip(some) {
                    let (since, changed) = row.map_or((mark.since, mark.changed), |row| {
                        (row.since.min(mark.since), row.changed.max(mark.changed))
                    });
                    batch.assert_unchanged::<DeviceListMarks>(key, row.as_ref());
                    batch.put::<DeviceListMarks>(key, &DeviceListMarkRow { since, changed });
                }
                match self.storage.commit(batch).await {
                    // A server has just acknowledged one of them.
                    Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => {}
                    Err(error) => return Err(error),
                    Ok(_) => break,
                }
            }
        }
        Ok(())
    }

    /// Ends the pause of a server that failed last time, as it is stored. Whether there was one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end_pause(&self, server: &ServerName) -> Result<bool, CommitError> {
        let (key, failed) = (key(server), |error: ReadError| CommitError::Failed(error.to_string()));
        for attempt in 1..=ATTEMPTS {
            let stored = self.storage.view().get::<Rows>(&key).await.map_err(failed)?;
            let Some(known) = stored.filter(|row| row.failures > 0) else { return Ok(false) };
            let mut batch = Batch::new();
            batch.assert_unchanged::<Rows>(&key, Some(&known));
            batch.put::<Rows>(&key, &DestinationRow { failures: 0, retry_at: UnixMillis(0), ..known });
            match self.storage.commit(batch).await {
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => {}
                done => return done.map(|_| true),
            }
        }
        Ok(false)
    }

    /// Writes a batch made of the functions below.
    ///
    /// # Errors
    /// The store could not be written.
    pub async fn commit(&self, batch: Batch) -> Result<StreamPosition, CommitError> {
        self.storage.commit(batch).await
    }

    /// Writes a batch together with the end of what a server was owed. What it is owed since stays.
    ///
    /// # Errors
    /// The store failed.
    pub async fn settle(&self, server: &ServerName, settled: &Settled, batch: &Batch) -> Result<(), CommitError> {
        let failed = |error: ReadError| CommitError::Failed(error.to_string());
        for attempt in 1..=ATTEMPTS {
            let mut settling = batch.clone();
            self.settle_in(&mut settling, server, settled).await.map_err(failed)?;
            match self.storage.commit(settling).await {
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn settle_in(&self, batch: &mut Batch, server: &ServerName, settled: &Settled) -> Result<(), ReadError> {
        let view = self.storage.view();
        let name = Text::new(server.as_str());
        let keys: Vec<_> = settled.owed.iter().map(|owed| (name.clone(), owed.room)).collect();
        let rows = view.multi_get::<DestinationRooms>(&keys).await?;
        for ((key, row), owed) in keys.into_iter().zip(rows).zip(&settled.owed) {
            if let Some(row) = row.filter(|row| row.position <= owed.position) {
                batch.assert_equals::<DestinationRooms>(&key, &row).delete::<DestinationRooms>(&key);
            }
        }
        let keys: Vec<_> = settled.marks.iter().map(|mark| (name.clone(), Text::new(mark.user_id.as_str()))).collect();
        let rows = view.multi_get::<DeviceListMarks>(&keys).await?;
        for ((key, row), mark) in keys.into_iter().zip(rows).zip(&settled.marks) {
            if let Some(row) = row.filter(|row| row.changed <= mark.changed && row.since >= mark.since) {
                batch.assert_equals::<DeviceListMarks>(&key, &row).delete::<DeviceListMarks>(&key);
            }
        }
        Ok(())
    }
}

/// What a server has acknowledged of what was stored for it.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Events of rooms.
    pub owed: Vec<Owed>,
    /// Lists of devices.
    pub marks: Vec<DeviceListMark>,
}

/// What batches are made of.
impl Destinations {
    /// Puts what is known of a server.
    pub fn put(batch: &mut Batch, server: &ServerName, known: Destination) {
        batch.put::<Rows>(&key(server), &row(known));
    }

    /// Puts up to where the logs of all rooms have been followed.
    pub fn put_followed(batch: &mut Batch, own: &ServerName, followed: StreamPosition) {
        batch.put::<Rows>(&key(own), &row(Destination { acknowledged: followed, ..Destination::default() }));
    }

    /// Notes that a server is owed an event, the newest of its room.
    pub fn owe(batch: &mut Batch, server: &ServerName, owed: Owed) {
        let row = DestinationRoomRow { position: owed.position, rix: owed.rix };
        batch.put::<DestinationRooms>(&(Text::new(server.as_str()), owed.room), &row);
    }

    /// A server is owed nothing any more.
    pub fn owe_nothing(batch: &mut Batch, server: &ServerName) {
        batch.delete_prefix::<DestinationRooms>(&key(server));
    }
}

fn server_name(Text(name): Text) -> Option<OwnedServerName> {
    name.try_into().ok()
}

#[cfg(test)]
mod tests {
    use primitives::{ManualClock, Random, SharedClock};
    use ruma::{server_name, user_id};

    use super::*;

    fn owed(room: u32, rix: u32, position: u64) -> Owed {
        Owed { room: RoomNid(room), rix: Rix(rix), position: StreamPosition(position) }
    }

    fn mark(server: &ServerName, since: u64, changed: u64) -> (OwnedServerName, DeviceListMark) {
        let (since, changed) = (StreamPosition(since), StreamPosition(changed));
        (server.to_owned(), DeviceListMark { user_id: user_id!("@a:hs.test").to_owned(), since, changed })
    }

    #[tokio::test]
    async fn a_mark_that_is_set_again_meanwhile_stays_and_begins_where_it_did() {
        let (known, server) = (store(), server_name!("x.test"));
        known.mark(&[mark(server, 90, 100)]).await.expect("written");
        let marks = known.marks(server, 9).await.expect("read");
        known.mark(&[mark(server, 100, 110)]).await.expect("written");
        known.settle(server, &Settled { owed: Vec::new(), marks }, &Batch::new()).await.expect("settled");
        let marks = known.marks(server, 9).await.expect("read");
        assert_eq!(marks, [mark(server, 90, 110).1]);
        known.settle(server, &Settled { owed: Vec::new(), marks }, &Batch::new()).await.expect("settled");
        assert!(known.marks(server, 9).await.expect("read").is_empty());
    }

    fn store() -> Destinations {
        let clock: SharedClock = ManualClock::new(UnixMillis(0));
        Destinations::new(Storage::memory(&clock, &Random::seeded(1)))
    }

    #[tokio::test]
    async fn what_is_owed_anew_meanwhile_stays() {
        let (known, server) = (store(), server_name!("x.test"));
        let mut batch = Batch::new();
        for one in [owed(1, 5, 100), owed(2, 6, 101)] {
            Destinations::owe(&mut batch, server, one);
        }
        known.commit(batch).await.expect("written");
        known.mark(&[mark(server, 90, 100), mark(server_name!("y.test"), 90, 100)]).await.expect("written");
        let (sent, marks) = (known.owed(server, 9).await.expect("read"), known.marks(server, 9).await.expect("read"));
        let mut batch = Batch::new();
        Destinations::owe(&mut batch, server, owed(2, 9, 105));
        known.commit(batch).await.expect("written");
        let row = Destination { acknowledged: StreamPosition(101), ..Destination::default() };
        let mut batch = Batch::new();
        Destinations::put(&mut batch, server, row);
        known.settle(server, &Settled { owed: sent, marks }, &batch).await.expect("settled");
        assert_eq!(known.owed(server, 9).await.expect("read"), [owed(2, 9, 105)]);
        assert!(known.marks(server, 9).await.expect("read").is_empty());
        assert_eq!(known.read(&[server.to_owned()]).await.expect("read"), [row]);
        let (owed, marked) = known.owing().await.expect("read");
        assert_eq!((owed, marked), (vec![server.to_owned()], vec![server_name!("y.test").to_owned()]));
    }

    #[tokio::test]
    async fn failing_servers_and_how_far_logs_were_followed_are_found_again() {
        let known = store();
        let own = server_name!("hs.test");
        assert_eq!(known.followed(own).await.expect("read"), None);
        let mut batch = Batch::new();
        let failing = Destination { failures: 2, retry_at: UnixMillis(7), acknowledged: StreamPosition(3) };
        Destinations::put(&mut batch, server_name!("x.test"), failing);
        Destinations::put(&mut batch, server_name!("y.test"), Destination::default());
        Destinations::put_followed(&mut batch, own, StreamPosition(9));
        known.commit(batch).await.expect("written");
        assert_eq!(known.followed(own).await.expect("read"), Some(StreamPosition(9)));
        assert_eq!(known.failing(9).await.expect("read"), [(server_name!("x.test").to_owned(), failing)]);
        assert!(known.end_pause(server_name!("x.test")).await.expect("written"));
        assert_eq!(known.failing(9).await.expect("read"), []);
        let [after] = known.read(&[server_name!("x.test").to_owned()]).await.expect("read")[..] else { panic!("one") };
        assert_eq!((after.acknowledged, after.failures), (failing.acknowledged, 0), "what it knows stays");
        assert!(!known.end_pause(server_name!("x.test")).await.expect("nothing to do"));
    }
}
