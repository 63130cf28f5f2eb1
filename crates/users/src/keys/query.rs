//! The keys of users are asked for (`POST /keys/query`).

use std::collections::BTreeMap;

use primitives::UserNid;
use ruma::{OwnedDeviceId, OwnedUserId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::{
        keys::{self as tables, CrossSigningRow},
        users::Devices,
    },
};

use super::{Keys, KeysError, cross_signing::public_key_of, signed, stored};
use crate::tokens::Requester;

/// Rows that one page of a scan reads.
const PAGE: usize = 500;
/// Users after which other work gets a turn.
const USERS_AT_ONCE: usize = 50;

/// Whose keys are asked for: of each user these devices, or all of them if none is named.
pub type Query = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// Who asks: what they may see depends on it.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// A user of this server. They see the names of devices, what they have signed themselves, and their own user-signing key.
    User(&'a Requester),
    /// Another server. It sees what is everybody's, and the names of devices if the configuration says so.
    Server,
}

/// The keys of users. Those who have none of a kind are missing there; an account without devices is there without any.
#[derive(Debug, Default, Serialize)]
pub struct UserKeys {
    /// Identity keys, by device.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<String, Box<RawValue>>>,
    /// Master keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub master_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// Self-signing keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub self_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
    /// The user-signing key of the one who asks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user_signing_keys: BTreeMap<OwnedUserId, Box<RawValue>>,
}

impl UserKeys {
    /// Adds the keys of other users.
    pub fn extend(&mut self, other: Self) {
        self.device_keys.extend(other.device_keys);
        self.master_keys.extend(other.master_keys);
        self.self_signing_keys.extend(other.self_signing_keys);
        self.user_signing_keys.extend(other.user_signing_keys);
    }
}

impl Keys {
    /// The keys of this server's users. Unknown users and devices are left out.
    pub async fn query(&self, asker: Asker<'_>, query: &Query) -> Result<UserKeys, KeysError> {
        let max = self.limits.query_max_users;
        if query.len() > max {
            return Err(KeysError::TooMuch(max));
        }
        let view = self.ground.storage.view();
        let mut answer = UserKeys::default();
        for (number, (user_id, devices)) in query.iter().enumerate() {
            if number % USERS_AT_ONCE == USERS_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            let Some(user) = self.accounts.nid(user_id).await? else { continue };
            let names = matches!(asker, Asker::User(_)) || self.names_for_servers;
            let found = devices_of(&view, user, devices, names).await?;
            answer.device_keys.insert(user_id.clone(), found);
            if let Some(keys) = view.get::<tables::CrossSigning>(&(user,)).await? {
                add_cross_signing(&view, asker, user_id, keys, &mut answer).await?;
            }
        }
        Ok(answer)
    }
}

async fn devices_of(
    view: &View,
    user: UserNid,
    wanted: &[OwnedDeviceId],
    names: bool,
) -> Result<BTreeMap<String, Box<RawValue>>, ReadError> {
    let (mut found, mut rest) = (BTreeMap::new(), Some(KeyRange::prefix(&(user,))));
    if wanted.len() == 1 {
        rest = Some(KeyRange::prefix(&(user, Text::new(wanted[0].as_str()))));
    }
    while let Some(range) = rest {
        let page = view.scan::<tables::DeviceKeys>(&range, PAGE, Direction::Forward).await?;
        let (ids, rows): (Vec<_>, Vec<_>) = page
            .rows
            .into_iter()
            .filter(|((_, id), _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted.as_str() == id.0))
            .unzip();
        let devices = if names { view.multi_get::<Devices>(&ids).await? } else { ids.iter().map(|_| None).collect() };
        for (((_, Text(id)), keys), device) in ids.into_iter().zip(rows).zip(devices) {
            found.insert(id, with_name(keys.json, device.as_ref().and_then(|device| device.display_name.as_deref()))?);
        }
        rest = page.rest;
    }
    Ok(found)
}

#[derive(Serialize)]
struct Unsigned<'a> {
    device_display_name: &'a str,
}

/// The keys with the name of the device beside them. They are not parsed for it: a thousand users' are asked for at once.
pub(super) fn with_name(mut json: String, name: Option<&str>) -> Result<Box<RawValue>, ReadError> {
    if let Some(name) = name {
        let unsigned = serde_json::to_string(&Unsigned { device_display_name: name }).expect("a name serialises");
        // An object that has something in it: the user's id at least.
        json.truncate(json.len() - 1);
        for part in [",\"unsigned\":", &unsigned, "}"] {
            json.push_str(part);
        }
    }
    raw(json)
}

pub(super) fn raw(json: String) -> Result<Box<RawValue>, ReadError> {
    RawValue::from_string(json).map_err(|error| ReadError::Engine(error.to_string()))
}

async fn add_cross_signing(
    view: &View,
    asker: Asker<'_>,
    user_id: &UserId,
    keys: CrossSigningRow,
    answer: &mut UserKeys,
) -> Result<(), ReadError> {
    let own = matches!(asker, Asker::User(who) if who.user_id == user_id);
    if let Some(mut master) = keys.master {
        if let Asker::User(who) = asker
            && !own
        {
            master = with_signatures_of(view, who, user_id, master).await?;
        }
        answer.master_keys.insert(user_id.to_owned(), raw(master)?);
    }
    if let Some(key) = keys.self_signing {
        answer.self_signing_keys.insert(user_id.to_owned(), raw(key)?);
    }
    if let Some(key) = keys.user_signing.filter(|_| own) {
        answer.user_signing_keys.insert(user_id.to_owned(), raw(key)?);
    }
    Ok(())
}

/// Another user's master key with what somebody has signed of it.
pub(super) async fn with_signatures_of(
    view: &View,
    who: &Requester,
    user_id: &UserId,
    master: String,
) -> Result<String, ReadError> {
    let row = view.get::<tables::KeySignatures>(&(who.user_nid, Text::new(user_id.as_str()))).await?;
    let Some(row) = row else { return Ok(master) };
    let mut object = stored(&master);
    if public_key_of(&object) != Some(row.value.master_key.as_str()) {
        return Ok(master);
    }
    let signatures = row.value.signatures.iter().map(|(id, signature)| (&**id, &**signature));
    signed::add_signatures(&mut object, who.user_id.as_str(), signatures);
    Ok(signed::text(&object))
}
