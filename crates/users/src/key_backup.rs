//! Backups of room keys (specification, "Server-side key backups"). What is in them, clients have encrypted.
//!
//! Every change of a backup's keys asserts the backup's row and that it is the newest, so that etag and count are exact whoever writes at once.

use std::collections::BTreeMap;

use primitives::UserNid;
use serde_json::{Map, Value};
use storage::{
    Batch, Direction, KeyRange, ReadError, Storage, Text, View,
    schema::key_backup::{
        KeyBackupRow, KeyBackupSessionRow, KeyBackupSessions, KeyBackupVersions, KeyBackupVersionsRow,
        KeyBackups as Rows,
    },
};

use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    options::KeyBackupSizes,
};

/// The longest algorithm, in bytes.
const MAX_ALGORITHM_BYTES: usize = 255;
/// The longest room id and session id, in bytes.
const MAX_ID_BYTES: usize = 255;
/// Keys that are read at a time.
const PAGE: usize = 500;
/// Keys that one batch adds.
const KEYS_A_BATCH: usize = 5_000;

/// A JSON object.
pub type Object = Map<String, Value>;
/// Keys by room id and session id.
pub type Sessions = BTreeMap<String, BTreeMap<String, BackedUpKey>>;

/// Why a backup is not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyBackupError {
    /// There is no such backup, or no longer.
    #[error("there is no such backup")]
    UnknownBackup,
    /// There is no such key in the backup.
    #[error("there is no such key in the backup")]
    UnknownKey,
    /// Keys are added to the newest backup only; here is its version.
    #[error("keys are added to the newest backup only, which is version {current}")]
    WrongVersion {
        /// The newest version.
        current: u64,
    },
    /// The algorithm of a backup never changes.
    #[error("the algorithm of a backup cannot be changed")]
    OtherAlgorithm,
    /// An algorithm, room id or session id is empty or too long.
    #[error("an algorithm, a room id and a session id have 1 to {MAX_ID_BYTES} bytes")]
    BadId,
    /// A key or the `auth_data` is larger than this server allows, in bytes.
    #[error("a key and the `auth_data` of a backup can have at most {0} bytes")]
    TooLarge(usize),
    /// The backup has as many keys as it may.
    #[error("a backup can have at most {0} keys")]
    TooManyKeys(u64),
    /// The user has as many backups as they may.
    #[error("a user can have at most {0} backups")]
    TooManyBackups(u32),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for KeyBackupError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

/// A backup without its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyBackup {
    /// Its version.
    pub version: u64,
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs.
    pub auth_data: Object,
    /// What its keys are by now.
    pub state: BackupState,
}

/// What a backup's keys are by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupState {
    /// Changes whenever they do.
    pub etag: u64,
    /// How many there are.
    pub count: u64,
}

/// A key in a backup.
#[derive(Clone, Debug, PartialEq)]
pub struct BackedUpKey {
    /// The first message that it decrypts.
    pub first_message_index: u64,
    /// Over how many devices it came.
    pub forwarded_count: u64,
    /// The device that backed it up had verified the one it is from.
    pub is_verified: bool,
    /// The key, encrypted.
    pub session_data: Object,
}

/// Which keys of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// All.
    All,
    /// Those of a room.
    Room(&'a str),
    /// One: room id and session id.
    Session(&'a str, &'a str),
}

/// Keys that are still to be read.
#[derive(Clone, Debug)]
pub struct UnreadKeys(KeyRange);

/// A page of a backup's keys.
#[derive(Debug)]
pub struct KeyPage {
    /// Room ids, session ids and keys, in order.
    pub keys: Vec<(String, String, BackedUpKey)>,
    /// What is left.
    pub rest: Option<UnreadKeys>,
}

/// The backups of all users.
#[derive(Debug)]
pub struct KeyBackups {
    storage: Storage,
    sizes: KeyBackupSizes,
}

impl KeyBackups {
    pub(crate) fn new(storage: Storage, sizes: KeyBackupSizes) -> Self {
        Self { storage, sizes }
    }

    /// Makes a backup, which is the newest from then on. Answers its version.
    pub async fn create(&self, user: UserNid, algorithm: &str, auth_data: &Object) -> Result<u64, KeyBackupError> {
        if algorithm.is_empty() || algorithm.len() > MAX_ALGORITHM_BYTES {
            return Err(KeyBackupError::BadId);
        }
        let auth_data = self.json(auth_data)?;
        for _ in 0..MAX_ATTEMPTS {
            let old = self.storage.view().get::<KeyBackupVersions>(&(user,)).await?;
            let KeyBackupVersionsRow { last, count } = old.unwrap_or_default();
            if count >= self.sizes.backups_per_user {
                return Err(KeyBackupError::TooManyBackups(self.sizes.backups_per_user));
            }
            let new = KeyBackupVersionsRow { last: last + 1, count: count + 1 };
            let (algorithm, auth_data) = (algorithm.to_owned(), auth_data.clone());
            let mut batch = Batch::new();
            batch.assert_unchanged::<KeyBackupVersions>(&(user,), old.as_ref());
            batch.put::<KeyBackupVersions>(&(user,), &new);
            batch.put::<Rows>(&(user, new.last), &KeyBackupRow { algorithm, auth_data, etag: 0, count: 0 });
            if let Outcome::Done(_) = outcome(self.storage.commit(batch).await)? {
                return Ok(new.last);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// A backup of that version, or the newest.
    pub async fn get(&self, user: UserNid, version: Option<u64>) -> Result<KeyBackup, KeyBackupError> {
        let view = self.storage.view();
        let found = match version {
            Some(version) => view.get::<Rows>(&(user, version)).await?.map(|row| (version, row)),
            None => newest(&view, user).await?,
        };
        let (version, row) = found.ok_or(KeyBackupError::UnknownBackup)?;
        let state = BackupState { etag: row.etag, count: row.count };
        Ok(KeyBackup { version, algorithm: row.algorithm, auth_data: object(&row.auth_data), state })
    }

    /// Changes what the algorithm of a backup needs; the algorithm itself has to be the same.
    pub async fn update(
        &self,
        user: UserNid,
        version: u64,
        algorithm: &str,
        auth_data: &Object,
    ) -> Result<(), KeyBackupError> {
        let auth_data = self.json(auth_data)?;
        for _ in 0..MAX_ATTEMPTS {
            let row = self.storage.view().get::<Rows>(&(user, version)).await?;
            let row = row.ok_or(KeyBackupError::UnknownBackup)?;
            if row.algorithm != algorithm {
                return Err(KeyBackupError::OtherAlgorithm);
            }
            let mut batch = Batch::new();
            batch.assert_equals::<Rows>(&(user, version), &row);
            batch.put::<Rows>(&(user, version), &KeyBackupRow { auth_data: auth_data.clone(), ..row });
            if let Outcome::Done(_) = outcome(self.storage.commit(batch).await)? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Deletes a backup with its keys. One that has been deleted already is deleted; one that never was is unknown.
    pub async fn delete(&self, user: UserNid, version: u64) -> Result<(), KeyBackupError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.storage.view();
            let versions = view.get::<KeyBackupVersions>(&(user,)).await?;
            let versions = versions.filter(|row| (1..=row.last).contains(&version));
            let versions = versions.ok_or(KeyBackupError::UnknownBackup)?;
            let Some(row) = view.get::<Rows>(&(user, version)).await? else { return Ok(()) };
            let fewer = KeyBackupVersionsRow { count: versions.count - 1, ..versions };
            let mut batch = Batch::new();
            batch.assert_equals::<KeyBackupVersions>(&(user,), &versions);
            batch.assert_equals::<Rows>(&(user, version), &row);
            batch.put::<KeyBackupVersions>(&(user,), &fewer).delete::<Rows>(&(user, version));
            batch.delete_prefix::<KeyBackupSessions>(&(user, version));
            if let Outcome::Done(_) = outcome(self.storage.commit(batch).await)? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Adds keys to the newest backup. Of two keys of a session the better one stays (specification, `PUT /room_keys/keys`), so that a request
    /// that fails in its middle can be repeated.
    pub async fn put(&self, user: UserNid, version: u64, keys: &Sessions) -> Result<BackupState, KeyBackupError> {
        let new = self.rows(user, version, keys)?;
        let (first, others) = new.split_at(new.len().min(KEYS_A_BATCH));
        let mut state = self.put_rows(user, version, first).await?;
        for rows in others.chunks(KEYS_A_BATCH) {
            state = self.put_rows(user, version, rows).await?;
        }
        Ok(state)
    }

    async fn put_rows(
        &self,
        user: UserNid,
        version: u64,
        new: &[(SessionKey, KeyBackupSessionRow)],
    ) -> Result<BackupState, KeyBackupError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.storage.view();
            let (mut batch, row) = on_newest(&view, user, version).await?;
            let ids: Vec<_> = new.iter().map(|(key, _)| key.clone()).collect();
            let old = view.multi_get::<KeyBackupSessions>(&ids).await?;
            let (mut changed, mut state) = (false, BackupState { etag: row.etag, count: row.count });
            for ((key, new), old) in new.iter().zip(old) {
                if old.as_ref().is_none_or(|old| is_better(new, old)) {
                    batch.put::<KeyBackupSessions>(key, new);
                    state.count += u64::from(old.is_none());
                    changed = true;
                }
            }
            if !changed {
                return Ok(state);
            }
            if state.count > self.sizes.max_keys.max(row.count) {
                return Err(KeyBackupError::TooManyKeys(self.sizes.max_keys));
            }
            state.etag += 1;
            batch.put::<Rows>(&(user, version), &KeyBackupRow { etag: state.etag, count: state.count, ..row });
            if let Outcome::Done(_) = outcome(self.storage.commit(batch).await)? {
                return Ok(state);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Deletes keys of a backup. Those that are not there are deleted already.
    pub async fn delete_keys(
        &self,
        user: UserNid,
        version: u64,
        part: Part<'_>,
    ) -> Result<BackupState, KeyBackupError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.storage.view();
            let row = view.get::<Rows>(&(user, version)).await?.ok_or(KeyBackupError::UnknownBackup)?;
            let gone = match part {
                Part::All => row.count,
                part => count(&view, range(user, version, part)).await?,
            };
            let state = BackupState { etag: row.etag + 1, count: row.count - gone };
            if gone == 0 {
                return Ok(BackupState { etag: row.etag, ..state });
            }
            let mut batch = Batch::new();
            batch.assert_equals::<Rows>(&(user, version), &row);
            match part {
                Part::All => batch.delete_prefix::<KeyBackupSessions>(&(user, version)),
                Part::Room(room) => batch.delete_prefix::<KeyBackupSessions>(&(user, version, Text::new(room))),
                Part::Session(room, session) => {
                    batch.delete::<KeyBackupSessions>(&(user, version, Text::new(room), Text::new(session)))
                }
            };
            batch.put::<Rows>(&(user, version), &KeyBackupRow { etag: state.etag, count: state.count, ..row });
            if let Outcome::Done(_) = outcome(self.storage.commit(batch).await)? {
                return Ok(state);
            }
        }
        Err(StoreError::Contended.into())
    }

    /// One key.
    pub async fn key(
        &self,
        user: UserNid,
        version: u64,
        room: &str,
        session: &str,
    ) -> Result<BackedUpKey, KeyBackupError> {
        let view = self.storage.view();
        let backup = view.contains::<Rows>(&(user, version)).await?;
        let key = (user, version, Text::new(room), Text::new(session));
        let row = view.get::<KeyBackupSessions>(&key).await?.filter(|_| backup);
        row.as_ref().map(key_of).ok_or(if backup { KeyBackupError::UnknownKey } else { KeyBackupError::UnknownBackup })
    }

    /// What to read a part of a backup's keys with, page by page ([`Self::page`]).
    pub async fn keys(&self, user: UserNid, version: u64, part: Part<'_>) -> Result<UnreadKeys, KeyBackupError> {
        let known = self.storage.view().contains::<Rows>(&(user, version)).await?;
        if known { Ok(UnreadKeys(range(user, version, part))) } else { Err(KeyBackupError::UnknownBackup) }
    }

    /// A page of keys. Each is of a view of its own, so that a slow client holds none.
    pub async fn page(&self, UnreadKeys(range): &UnreadKeys) -> Result<KeyPage, StoreError> {
        let page = self.storage.view().scan::<KeyBackupSessions>(range, PAGE, Direction::Forward).await?;
        let keys = page.rows.into_iter().map(|((_, _, Text(room), Text(session)), row)| (room, session, key_of(&row)));
        Ok(KeyPage { keys: keys.collect(), rest: page.rest.map(UnreadKeys) })
    }

    /// Deletes all backups of a user.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete_prefix::<Rows>(&(user,));
        batch.delete_prefix::<KeyBackupVersions>(&(user,));
        batch.delete_prefix::<KeyBackupSessions>(&(user,));
    }

    /// An object as it is stored.
    fn json(&self, object: &Object) -> Result<String, KeyBackupError> {
        let json = serde_json::to_string(object).expect("JSON is written as JSON");
        let max = self.sizes.item_max_bytes;
        if json.len() > max { Err(KeyBackupError::TooLarge(max)) } else { Ok(json) }
    }

    fn rows(
        &self,
        user: UserNid,
        version: u64,
        keys: &Sessions,
    ) -> Result<Vec<(SessionKey, KeyBackupSessionRow)>, KeyBackupError> {
        let mut rows = Vec::new();
        for (room, sessions) in keys {
            for (session, key) in sessions {
                if [room, session].into_iter().any(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
                    return Err(KeyBackupError::BadId);
                }
                let row = KeyBackupSessionRow {
                    first_message_index: key.first_message_index,
                    forwarded_count: key.forwarded_count,
                    is_verified: key.is_verified,
                    session_data: self.json(&key.session_data)?,
                };
                rows.push(((user, version, Text::new(room), Text::new(session)), row));
            }
        }
        Ok(rows)
    }
}

type SessionKey = (UserNid, u64, Text, Text);

/// The newest backup of a user.
async fn newest(view: &View, user: UserNid) -> Result<Option<(u64, KeyBackupRow)>, ReadError> {
    let page = view.scan::<Rows>(&KeyRange::prefix(&(user,)), 1, Direction::Backward).await?;
    Ok(page.rows.into_iter().next().map(|((_, version), row)| (version, row)))
}

/// A batch that conflicts if the backup changes or is no longer the newest; and its row.
async fn on_newest(view: &View, user: UserNid, version: u64) -> Result<(Batch, KeyBackupRow), KeyBackupError> {
    let (current, row) = newest(view, user).await?.ok_or(KeyBackupError::UnknownBackup)?;
    if current != version {
        let known = view.contains::<Rows>(&(user, version)).await?;
        return Err(if known { KeyBackupError::WrongVersion { current } } else { KeyBackupError::UnknownBackup });
    }
    let versions = view.get::<KeyBackupVersions>(&(user,)).await?;
    let mut batch = Batch::new();
    batch.assert_unchanged::<KeyBackupVersions>(&(user,), versions.as_ref());
    batch.assert_equals::<Rows>(&(user, version), &row);
    Ok((batch, row))
}

fn range(user: UserNid, version: u64, part: Part<'_>) -> KeyRange {
    match part {
        Part::All => KeyRange::prefix(&(user, version)),
        Part::Room(room) => KeyRange::prefix(&(user, version, Text::new(room))),
        Part::Session(room, session) => KeyRange::prefix(&(user, version, Text::new(room), Text::new(session))),
    }
}

async fn count(view: &View, range: KeyRange) -> Result<u64, ReadError> {
    let (mut count, mut rest) = (0, Some(range));
    while let Some(range) = rest {
        let page = view.scan_keys::<KeyBackupSessions>(&range, PAGE, Direction::Forward).await?;
        count += page.keys.len() as u64;
        rest = page.rest;
    }
    Ok(count)
}

/// Whether a key takes the place of an old one of its session: a verified one of an unverified one; else one that decrypts more; else one that
/// came over fewer devices.
fn is_better(new: &KeyBackupSessionRow, old: &KeyBackupSessionRow) -> bool {
    let rank = |row: &KeyBackupSessionRow| (!row.is_verified, row.first_message_index, row.forwarded_count);
    rank(new) < rank(old)
}

fn object(json: &str) -> Object {
    serde_json::from_str(json).expect("objects are stored as JSON")
}

fn key_of(row: &KeyBackupSessionRow) -> BackedUpKey {
    BackedUpKey {
        first_message_index: row.first_message_index,
        forwarded_count: row.forwarded_count,
        is_verified: row.is_verified,
        session_data: object(&row.session_data),
    }
}
