//! The index: an FTS5 table of SQLite, which finds events by their words. It holds no text, only which word is where.
//!
//! A row's number is the room's number and the event's number in one, so that a search within a room is one range, newest first. How far each
//! room has been read is written in the same transaction as its words: the index never says that it knows what it doesn't.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use primitives::{Rix, RoomNid};
use rooms::read::{Indexed, Texts};
use rusqlite::{Connection, OptionalExtension, params};

use crate::words::spaced;

/// The form of the index. One of another form is made anew.
const FORM: i64 = 1;

/// The index failed.
#[derive(Debug, thiserror::Error)]
#[error("the search index cannot be used: {0}")]
pub struct IndexError(#[from] rusqlite::Error);

/// How far a room has been read, and what was found there.
#[derive(Clone, Debug)]
pub(crate) struct RoomPart {
    pub(crate) room: RoomNid,
    pub(crate) next: Rix,
    pub(crate) entries: Vec<Indexed>,
}

/// The index. Its calls block: they belong on a thread that may.
#[derive(Debug)]
pub(crate) struct Index {
    writer: Arc<Mutex<Connection>>,
    /// Another connection, so that searches don't wait for writes; the same one if the index is in memory.
    reader: Arc<Mutex<Connection>>,
}

/// The number of an event's row.
fn row_of(room: RoomNid, rix: Rix) -> i64 {
    i64::from(room.0) << 32 | i64::from(rix.0)
}

impl Index {
    /// The index of a database: of another one's, or in another form, everything in it is dropped. `None`: in memory.
    pub(crate) fn open(file: Option<&Path>, epoch: u64, memory_bytes: u64) -> Result<Self, IndexError> {
        let open = || match file {
            Some(file) => Connection::open(file),
            None => Connection::open_in_memory(),
        };
        let writer = open()?;
        prepare(&writer, epoch, memory_bytes / 2)?;
        let writer = Arc::new(Mutex::new(writer));
        let reader = if file.is_some() {
            let reader = open()?;
            configure(&reader, memory_bytes / 2)?;
            Arc::new(Mutex::new(reader))
        } else {
            Arc::clone(&writer)
        };
        Ok(Self { writer, reader })
    }

    /// How far every room has been read.
    pub(crate) fn cursors(&self) -> Result<Vec<(RoomNid, Rix)>, IndexError> {
        let connection = self.reader.lock();
        let mut rows = connection.prepare("SELECT room, next FROM cursor")?;
        let rows = rows.query_map([], |row| Ok((RoomNid(row.get(0)?), Rix(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Writes what was read of rooms, in one transaction.
    pub(crate) fn write(&self, parts: &[RoomPart]) -> Result<(), IndexError> {
        let mut connection = self.writer.lock();
        let transaction = connection.transaction()?;
        // In the order of their rows: the index would write itself out at each step back.
        let mut texts: Vec<(i64, &Texts)> = Vec::new();
        let mut gone = Vec::new();
        for part in parts {
            for entry in &part.entries {
                match entry {
                    Indexed::Texts(rix, entry) => texts.push((row_of(part.room, *rix), entry)),
                    Indexed::Gone(rix) => gone.push(row_of(part.room, *rix)),
                }
            }
        }
        texts.sort_unstable_by_key(|(row, _)| *row);
        {
            let sql = "INSERT OR REPLACE INTO text (rowid, body, name, topic) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = transaction.prepare(sql)?;
            let column = |text: &Option<String>| text.as_deref().map(spaced);
            for (row, texts) in texts {
                insert.execute(params![row, column(&texts.body), column(&texts.name), column(&texts.topic)])?;
            }
            let mut delete = transaction.prepare("DELETE FROM text WHERE rowid = ?1")?;
            for row in gone {
                delete.execute([row])?;
            }
            let mut cursor = transaction.prepare("INSERT OR REPLACE INTO cursor (room, next) VALUES (?1, ?2)")?;
            for part in parts {
                cursor.execute(params![part.room.0, part.next.0])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// The events of a room before a number in which a query holds: the newest, up to a limit.
    pub(crate) fn matches(
        &self,
        query: &str,
        rooms: &[(RoomNid, Rix)],
        limit: usize,
    ) -> Result<Vec<(RoomNid, Vec<Rix>)>, IndexError> {
        let connection = self.reader.lock();
        let sql =
            "SELECT rowid FROM text WHERE text MATCH ?1 AND rowid >= ?2 AND rowid < ?3 ORDER BY rowid DESC LIMIT ?4";
        let mut select = connection.prepare(sql)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut found = Vec::new();
        for (room, end) in rooms {
            let (first, end) = (row_of(*room, Rix(0)), row_of(*room, *end));
            let rows = select.query_map(params![query, first, end, limit], |row| row.get::<_, i64>(0))?;
            let rix = |row: i64| Rix(u32::try_from(row & i64::from(u32::MAX)).unwrap_or_default());
            let rixes = rows.map(|row| row.map(rix)).collect::<Result<Vec<_>, _>>()?;
            if !rixes.is_empty() {
                found.push((*room, rixes));
            }
        }
        Ok(found)
    }

    /// Puts the index in order before it is closed.
    pub(crate) fn close(&self) -> Result<(), IndexError> {
        self.writer.lock().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(IndexError)
    }
}

fn configure(connection: &Connection, memory_bytes: u64) -> Result<(), IndexError> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "cache_size", -i64::try_from(memory_bytes / 1_024).unwrap_or(i64::MAX))?;
    // What a power cut takes from the index is read again: the cursor goes with it.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    Ok(())
}

fn prepare(connection: &Connection, epoch: u64, memory_bytes: u64) -> Result<(), IndexError> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    configure(connection, memory_bytes)?;
    let made: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let epoch = epoch.to_string();
    let same = made == FORM && {
        let stored: Option<String> =
            connection.query_row("SELECT epoch FROM origin", [], |row| row.get(0)).optional()?;
        stored.as_deref() == Some(&*epoch)
    };
    if same {
        return Ok(());
    }
    connection.execute_batch(&format!(
        "BEGIN;
         DROP TABLE IF EXISTS text;
         DROP TABLE IF EXISTS cursor;
         DROP TABLE IF EXISTS origin;
         CREATE VIRTUAL TABLE text USING fts5(
             body, name, topic, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2');
         CREATE TABLE cursor (room INTEGER PRIMARY KEY, next INTEGER NOT NULL);
         CREATE TABLE origin (epoch TEXT NOT NULL);
         INSERT INTO origin (epoch) VALUES ('{epoch}');
         PRAGMA user_version = {FORM};
         COMMIT;"
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomNid = RoomNid(3);

    fn said(rix: u32, body: &str) -> Indexed {
        Indexed::Texts(Rix(rix), Texts { body: Some(body.to_owned()), ..Texts::default() })
    }

    fn find(index: &Index, query: &str) -> Vec<(RoomNid, Vec<Rix>)> {
        index.matches(query, &[(ROOM, Rix(u32::MAX)), (RoomNid(4), Rix(u32::MAX))], 10).expect("searches")
    }

    fn write(index: &Index, room: RoomNid, next: u32, entries: Vec<Indexed>) {
        index.write(&[RoomPart { room, next: Rix(next), entries }]).expect("writes");
    }

    #[test]
    fn words_are_found_newest_first_in_their_room_until_they_are_gone() {
        let index = Index::open(None, 1, 1 << 20).expect("opens");
        write(&index, ROOM, 9, vec![said(5, "Hello World"), said(7, "hello again"), said(6, "good bye")]);
        write(&index, RoomNid(4), 2, vec![said(1, "HÉLLO")]);
        let hello = r#"{body} : ("hello")"#;
        assert_eq!(find(&index, hello), [(ROOM, vec![Rix(7), Rix(5)]), (RoomNid(4), vec![Rix(1)])]);
        assert_eq!(find(&index, r#"{body} : ("hello world")"#), [(ROOM, vec![Rix(5)])]);
        assert!(find(&index, r#"{name topic} : ("hello")"#).is_empty());
        assert_eq!(index.matches(hello, &[(ROOM, Rix(7))], 10).expect("searches"), [(ROOM, vec![Rix(5)])]);
        assert_eq!(index.matches(hello, &[(ROOM, Rix(99))], 1).expect("searches"), [(ROOM, vec![Rix(7)])]);
        write(&index, ROOM, 10, vec![Indexed::Gone(Rix(7))]);
        assert_eq!(find(&index, hello)[0], (ROOM, vec![Rix(5)]));
        assert_eq!(index.cursors().expect("reads"), [(ROOM, Rix(10)), (RoomNid(4), Rix(2))]);
    }

    #[test]
    fn what_was_written_is_there_after_opening_again_and_nothing_of_another_database() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("index.sqlite");
        let open = |epoch| Index::open(Some(&file), epoch, 1 << 20).expect("opens");
        let index = open(1);
        write(&index, ROOM, 2, vec![said(1, "hello")]);
        index.close().expect("closes");
        drop(index);
        let index = open(1);
        assert_eq!(find(&index, r#"{body} : ("hello")"#), [(ROOM, vec![Rix(1)])]);
        drop(index);
        let other = open(2);
        assert!(find(&other, r#"{body} : ("hello")"#).is_empty());
        assert!(other.cursors().expect("reads").is_empty());
    }
}
