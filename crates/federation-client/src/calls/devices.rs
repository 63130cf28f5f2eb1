//! Asking for devices and keys of users (server-server API, "Device Management", "End-to-End Encryption").
//!
//! What comes is the other server's word, read as far as its outermost shape: whose keys they are and whether they are keys is for the caller to
//! check. All of it is held to the usual bound on an answer.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use primitives::canonical;
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::{
    FederationClient, RemoteError,
    client::{Ask, encoded, read},
};

/// What `GET /user/devices/{userId}` tells.
#[derive(Clone, Debug, Deserialize)]
pub struct UserDevices {
    /// Whose devices they are.
    pub user_id: String,
    /// The newest update of the list that it contains.
    pub stream_id: i64,
    /// The devices.
    pub devices: Vec<UserDevice>,
    /// The master key.
    pub master_key: Option<Value>,
    /// The self-signing key.
    pub self_signing_key: Option<Value>,
}

/// A device of [`UserDevices`].
#[derive(Clone, Debug, Deserialize)]
pub struct UserDevice {
    /// Its id.
    pub device_id: String,
    /// Its identity keys.
    pub keys: Option<Value>,
    /// Its name.
    pub device_display_name: Option<String>,
}

/// What `POST /user/keys/query` tells.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct QueriedKeys {
    /// Identity keys, by user and device.
    #[serde(default, deserialize_with = "or_default")]
    pub device_keys: BTreeMap<String, BTreeMap<String, Value>>,
    /// Master keys, by user.
    #[serde(default, deserialize_with = "or_default")]
    pub master_keys: BTreeMap<String, Value>,
    /// Self-signing keys, by user.
    #[serde(default, deserialize_with = "or_default")]
    pub self_signing_keys: BTreeMap<String, Value>,
}

/// What `POST /user/keys/claim` tells: by user, device, and the key's full id.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClaimedKeys {
    /// The keys.
    #[serde(default, deserialize_with = "or_default")]
    pub one_time_keys: BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>>,
}

/// Some servers write `null` for what they don't have.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

impl FederationClient {
    /// `GET /_matrix/federation/v1/user/devices/{userId}`: all devices of a user that have keys, asked of the user's server.
    ///
    /// # Errors
    /// The server can't be asked, refuses, or makes no sense.
    pub async fn user_devices(&self, user: &UserId, timeout: Duration) -> Result<UserDevices, RemoteError> {
        let ask = self.get(format!("/_matrix/federation/v1/user/devices/{}", encoded(user.as_str())));
        read(&self.ask(user.server_name(), Ask { timeout, ..ask }).await?)
    }

    /// `POST /_matrix/federation/v1/user/keys/query`: the keys of users; of each user those of some devices, or of all if none is named.
    ///
    /// # Errors
    /// The server can't be asked, refuses, or makes no sense.
    pub async fn query_keys(
        &self,
        server: &ServerName,
        wanted: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
        timeout: Duration,
    ) -> Result<QueriedKeys, RemoteError> {
        let body = object(json!({ "device_keys": wanted }))?;
        read(&self.post_for(server, "/_matrix/federation/v1/user/keys/query", &body, timeout).await?)
    }

    /// `POST /_matrix/federation/v1/user/keys/claim`: of each device a one-time key of an algorithm.
    ///
    /// # Errors
    /// The server can't be asked, refuses, or makes no sense.
    pub async fn claim_keys(
        &self,
        server: &ServerName,
        wanted: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>,
        timeout: Duration,
    ) -> Result<ClaimedKeys, RemoteError> {
        let body = object(json!({ "one_time_keys": wanted }))?;
        read(&self.post_for(server, "/_matrix/federation/v1/user/keys/claim", &body, timeout).await?)
    }

    async fn post_for(
        &self,
        server: &ServerName,
        path: &str,
        body: &CanonicalJsonObject,
        timeout: Duration,
    ) -> Result<bytes::Bytes, RemoteError> {
        let ask = self.get(path.to_owned());
        self.ask(server, Ask { method: Method::POST, body: Some(body), timeout, ..ask }).await
    }
}

fn object(body: Value) -> Result<CanonicalJsonObject, RemoteError> {
    match canonical::to_canonical(body) {
        Ok(CanonicalJsonValue::Object(object)) => Ok(object),
        _ => Err(RemoteError::Malformed("the question has no canonical form".to_owned())),
    }
}
