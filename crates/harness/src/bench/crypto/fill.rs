//! Users with devices and keys.

use std::sync::Arc;

use anyhow::Context as _;
use primitives::{Random, ServerKey};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UserId,
    canonical_json::to_canonical_value,
    signatures::{KeyPair, to_canonical_json_string_for_signing},
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use users::{Authority, Identifier, Login, NewAccount, NewSession, Requester, Users, keys::KeyUpload};

/// Users that are made at the same time: their batches share a write.
const AT_ONCE: usize = 64;
const PASSWORD: &str = "correct horse battery";
/// The algorithm of one-time keys.
pub(super) const ALGORITHM: &str = "signed_curve25519";

/// How many of each to make.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) users: usize,
    /// Of each user.
    pub(super) devices: usize,
    /// Of each device.
    pub(super) one_time_keys: usize,
}

/// The name of a user by number.
pub(super) fn name(user: usize) -> String {
    format!("user{user}")
}

/// The id of a device by number.
pub(super) fn device(device: usize) -> String {
    format!("DEVICE{device}")
}

/// Makes users with devices that have identity keys and one-time keys, signed as clients sign them.
pub(super) async fn fill(users: &Users, plan: Plan) -> anyhow::Result<()> {
    let (tracker, places) = (TaskTracker::new(), Arc::new(Semaphore::new(AT_ONCE)));
    let mut made = Vec::with_capacity(plan.users);
    for number in 0..plan.users {
        let (users, places) = (users.clone(), Arc::clone(&places));
        made.push(tracker.spawn(async move {
            let _place = places.acquire().await?;
            make(&users, number, plan).await
        }));
    }
    for user in made {
        user.await??;
    }
    Ok(())
}

async fn make(users: &Users, number: usize, plan: Plan) -> anyhow::Result<()> {
    let account = NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some(name(number)),
        password: Some(PASSWORD.to_owned()),
        display_name: None,
        session: None,
    };
    users.register(account).await?;
    for number_of_device in 0..plan.devices {
        let who = log_in(users, &name(number), &device(number_of_device)).await?;
        users.keys().upload(&who, upload(&who.user_id, &device(number_of_device), plan.one_time_keys)?).await?;
    }
    Ok(())
}

/// Logs a user in whom [`fill`] has made.
pub(super) async fn log_in(users: &Users, name: &str, device: &str) -> anyhow::Result<Requester> {
    let identifier = Identifier::User(name.to_owned());
    let name_of_device = Some("A client on some system".to_owned());
    let session = NewSession {
        device_id: Some(device.into()),
        initial_device_display_name: name_of_device,
        ..NewSession::default()
    };
    let login = Login { identifier: &identifier, password: PASSWORD, session, address: None };
    let token = users.login(login).await?.session.tokens.access_token;
    Ok(users.authenticate(&token).await?)
}

fn upload(user: &UserId, device: &str, one_time_keys: usize) -> anyhow::Result<KeyUpload> {
    let key = ServerKey::generate(&Random::os());
    let public = key.public_base64();
    let identity = json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): public, format!("curve25519:{device}"): public },
    });
    let one_time = (0..one_time_keys).map(|number| {
        let signed = signed(json!({ "key": public }), user, device, &key)?;
        Ok((format!("{ALGORITHM}:AAAA{number:04}"), CanonicalJsonValue::Object(signed)))
    });
    Ok(KeyUpload {
        device_keys: Some(signed(identity, user, device, &key)?),
        one_time_keys: one_time.collect::<anyhow::Result<_>>()?,
        ..KeyUpload::default()
    })
}

fn signed(what: Value, user: &UserId, device: &str, key: &ServerKey) -> anyhow::Result<CanonicalJsonObject> {
    let mut object = to_canonical_value(what)?.as_object().context("an object")?.clone();
    let signature = key.sign(to_canonical_json_string_for_signing(&object)?.as_bytes()).base64();
    let signatures = to_canonical_value(json!({ user.as_str(): { format!("ed25519:{device}"): signature } }))?;
    object.insert("signatures".to_owned(), signatures);
    Ok(object)
}
