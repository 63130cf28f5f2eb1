//! Other servers tell that devices and cross-signing keys of their users changed (server-server API, "Device Management", `m.device_list_update` and
//! `m.signing_key_update`).

use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::Value;
use storage::{
    Batch, Positioned, ReadError, Text,
    schema::remote_devices::{RemoteDevices, RemoteListRow, RemoteLists},
};

use super::{answers, fetch_later, key_of, put_list, tell_rooms};
use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    keys::Keys,
};

/// Stream ids of a list that are remembered: as many updates may come out of order.
const KNOWN: usize = 20;
/// Ids of earlier updates that one may name; servers name those that nothing has named since, which are few.
const MAX_PREV_IDS: usize = 100;

/// Why an update is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// It is about a user of another server than the one that sends it.
    #[error("a server speaks for another server's user")]
    Foreign,
    /// It has not the form that it has to have.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for UpdateError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

#[derive(Debug, Deserialize)]
struct DeviceListUpdate {
    user_id: OwnedUserId,
    device_id: String,
    stream_id: i64,
    #[serde(default)]
    prev_id: Option<Vec<i64>>,
    #[serde(default)]
    deleted: Option<bool>,
    #[serde(default)]
    device_display_name: Option<String>,
    #[serde(default)]
    keys: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct SigningKeyUpdate {
    user_id: OwnedUserId,
    #[serde(default)]
    master_key: Option<Value>,
    #[serde(default)]
    self_signing_key: Option<Value>,
}

/// What a piece of news makes of a list that is kept.
enum News {
    /// It has been heard before.
    Old,
    /// The list is current with this.
    Applied(RemoteListRow, Batch),
    /// Something between has not been heard.
    Gap,
}

/// Of which lists a piece of news says something that clients see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Of any, known or not.
    OfAnyList,
    /// Only where something has been heard of the list, or asked about it.
    OfAKnownList,
}

impl Keys {
    /// The content of an `m.device_list_update` from a server. An update of a list that is current and that follows on what is known of it is applied;
    /// any other has the list fetched again when it is next wanted, at once if somebody has wanted it before. The user's rooms are told. A user who
    /// shares no room is nobody's concern; hearing an update again changes nothing.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn hear_device_list_update(&self, origin: &ServerName, content: Value) -> Result<(), UpdateError> {
        let update: DeviceListUpdate = parse(content)?;
        if update.device_id.is_empty() || update.device_id.len() > answers::MAX_DEVICE_ID_BYTES {
            return Err(UpdateError::Malformed("the device's id is too long or empty".to_owned()));
        }
        let prev_ids = update.prev_id.as_deref().unwrap_or_default();
        if prev_ids.len() > MAX_PREV_IDS {
            return Err(UpdateError::Malformed(format!("more than {MAX_PREV_IDS} previous updates")));
        }
        let max = self.limits.key_max_bytes;
        // A device without keys is in no list. Of a list that nobody has, such an update says only that users have met, which clients know from the room.
        let has_keys = update.keys.as_ref().is_some_and(|keys| !keys.is_null());
        let is_first = update.prev_id.as_ref().is_some_and(Vec::is_empty);
        let says =
            if is_first && !has_keys && update.deleted != Some(true) { Says::OfAKnownList } else { Says::OfAnyList };
        self.hear(origin, &update.user_id, says, |list| {
            if list.known.contains(&update.stream_id) {
                return News::Old;
            }
            // An update that names none before it may be the first after any number of others.
            if prev_ids.is_empty() || !prev_ids.iter().all(|id| list.known.contains(id)) {
                return News::Gap;
            }
            let mut batch = Batch::new();
            let at = (Text::new(update.user_id.as_str()), Text::new(&*update.device_id));
            let name = update.device_display_name.as_deref();
            let keys = update.keys.clone().filter(|keys| !keys.is_null() && update.deleted != Some(true));
            match keys {
                Some(keys) => match answers::device(&update.user_id, &update.device_id, keys, name, max) {
                    Some(row) => batch.put::<RemoteDevices>(&at, &row),
                    None => return News::Gap,
                },
                // A device without keys is in no list.
                None => batch.delete::<RemoteDevices>(&at),
            };
            let mut list = list.clone();
            list.known.push(update.stream_id);
            let surplus = list.known.len().saturating_sub(KNOWN);
            list.known.drain(..surplus);
            News::Applied(list, batch)
        })
        .await
    }

    /// The content of an `m.signing_key_update` from a server. It holds the keys themselves: a list that is current stays so.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn hear_signing_key_update(&self, origin: &ServerName, content: Value) -> Result<(), UpdateError> {
        let update: SigningKeyUpdate = parse(content)?;
        let (user, max) = (&update.user_id, self.limits.key_max_bytes);
        let master = answers::cross_signing_key(user, "master", update.master_key, max);
        let self_signing = answers::cross_signing_key(user, "self_signing", update.self_signing_key, max);
        if master.is_none() && self_signing.is_none() {
            return Err(UpdateError::Malformed("there is no key of the user".to_owned()));
        }
        self.hear(origin, user, Says::OfAnyList, |list| {
            let mut new = list.clone();
            if let Some(master) = &master {
                new.master = Some(master.clone());
            }
            if let Some(key) = &self_signing {
                new.self_signing = Some(key.clone());
            }
            if new == *list { News::Old } else { News::Applied(new, Batch::new()) }
        })
        .await
    }

    /// Writes what a piece of news makes of a list, and has the user's rooms told if it says something to them.
    async fn hear(
        &self,
        origin: &ServerName,
        user: &OwnedUserId,
        says: Says,
        news: impl Fn(&RemoteListRow) -> News,
    ) -> Result<(), UpdateError> {
        if user.server_name() != origin {
            return Err(UpdateError::Foreign);
        }
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            if !self.shares_a_room(&view, user).await? {
                return Ok(());
            }
            let old: Option<Positioned<RemoteListRow>> = view.get::<RemoteLists>(&key_of(user)).await?;
            let mut batch = Batch::new();
            let list = match old.as_ref().map(|old| &old.value) {
                // A fetch that is under way may not contain it, and begins again because of this row.
                None => RemoteListRow::default(),
                Some(list) if !list.current => list.clone(),
                Some(list) => match news(list) {
                    News::Old => return Ok(()),
                    News::Applied(list, writes) => {
                        batch.merge(writes);
                        list
                    }
                    News::Gap => {
                        fetch_later(&mut batch, user);
                        RemoteListRow { current: false, ..list.clone() }
                    }
                },
            };
            put_list(&mut batch, user, old.as_ref(), list);
            if old.is_some() || says == Says::OfAnyList {
                tell_rooms(&mut batch, user);
            }
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                self.lists.ring();
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }
}

fn parse<T: for<'de> Deserialize<'de>>(content: Value) -> Result<T, UpdateError> {
    serde_json::from_value(content).map_err(|error| UpdateError::Malformed(error.to_string()))
}
