//! What other servers say of their users' keys is checked before anybody sees it: that the keys are of whom they are said to be, and of a bearable size.
//! Signatures are for clients to check.

use primitives::canonical;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, UserId};
use serde_json::Value;
use storage::schema::remote_devices::RemoteDeviceRow;

use super::super::{cross_signing, signed};

/// The longest id of a device, in bytes.
pub(super) const MAX_DEVICE_ID_BYTES: usize = 255;
/// A name of a device is cut after so many bytes.
const MAX_NAME_BYTES: usize = 255;

/// A device's identity keys as they are kept; `None`: they are not that device's, or no keys.
pub(super) fn device(
    user: &UserId,
    device: &str,
    keys: Value,
    display_name: Option<&str>,
    max: usize,
) -> Option<RemoteDeviceRow> {
    if device.is_empty() || device.len() > MAX_DEVICE_ID_BYTES {
        return None;
    }
    let keys = object(keys)?;
    let text = |name: &str| keys.get(name).and_then(CanonicalJsonValue::as_str);
    if text("user_id") != Some(user.as_str()) || text("device_id") != Some(device) {
        return None;
    }
    let algorithms = keys.get("algorithms").and_then(CanonicalJsonValue::as_array)?;
    let public = keys.get("keys").and_then(CanonicalJsonValue::as_object)?;
    if !algorithms.iter().all(|algorithm| algorithm.as_str().is_some())
        || !public.values().all(|key| key.as_str().is_some())
    {
        return None;
    }
    let unsigned = keys.get("unsigned").and_then(CanonicalJsonValue::as_object);
    let named = unsigned.and_then(|unsigned| unsigned.get("device_display_name")).and_then(CanonicalJsonValue::as_str);
    let display_name = display_name.or(named).map(cut);
    let json = signed::text(&signed::kept(keys, user.as_str()));
    (json.len() <= max).then_some(RemoteDeviceRow { json, display_name })
}

/// A cross-signing key as it is kept; `None`: it is not the user's, or none.
pub(super) fn cross_signing_key(user: &UserId, usage: &str, key: Option<Value>, max: usize) -> Option<String> {
    let key = cross_signing::checked(object(key?)?, user.as_str(), usage, max).ok()?;
    Some(signed::text(&key))
}

/// A key that was claimed, by its full id, if it is one of the algorithm.
pub(super) fn claimed(algorithm: &str, full_id: &str, key: &Value, max: usize) -> Option<String> {
    let (of, id) = full_id.split_once(':')?;
    let has_key = key.is_string() || key.get("key").is_some_and(Value::is_string);
    if of != algorithm || id.is_empty() || full_id.len() > MAX_DEVICE_ID_BYTES || !has_key {
        return None;
    }
    let json = key.to_string();
    (json.len() <= max).then_some(json)
}

fn object(value: Value) -> Option<CanonicalJsonObject> {
    match canonical::to_canonical(value) {
        Ok(CanonicalJsonValue::Object(object)) => Some(object),
        _ => None,
    }
}

fn cut(name: &str) -> String {
    let end = (0..=MAX_NAME_BYTES.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_of_another_user_or_device_or_none_at_all_are_no_answer() {
        let user = user_id!("@a:hs2");
        let good = json!({ "user_id": "@a:hs2", "device_id": "D", "algorithms": ["x"], "keys": { "ed25519:D": "k" } });
        let kept = device(user, "D", good.clone(), Some("name"), 8_192).expect("a device");
        assert_eq!(kept.display_name.as_deref(), Some("name"));
        for (name, value) in [
            ("user_id", json!("@b:hs2")),
            ("device_id", json!("E")),
            ("device_id", json!(1)),
            ("algorithms", json!({})),
            ("keys", json!([])),
            ("keys", json!({ "ed25519:D": 1 })),
            ("x", json!(1.5)),
            ("x", json!("y".repeat(9_000))),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert_eq!(device(user, "D", bad, None, 8_192), None, "{name}");
        }
        assert_eq!(device(user, "", good.clone(), None, 8_192), None);
        assert_eq!(device(user, "D", json!([good]), None, 8_192), None);
    }

    #[test]
    fn of_what_a_server_adds_only_the_name_stays_and_is_cut() {
        let user = user_id!("@a:hs2");
        let keys = json!({
            "user_id": "@a:hs2", "device_id": "D", "algorithms": [], "keys": {},
            "signatures": { "@a:hs2": { "ed25519:D": "s" }, "@eve:hs2": { "ed25519:E": "s" } },
            "unsigned": { "device_display_name": "é".repeat(200), "more": [1] },
        });
        let kept = device(user, "D", keys, None, 8_192).expect("a device");
        assert_eq!(kept.display_name, Some("é".repeat(127)));
        assert!(!kept.json.contains("unsigned") && !kept.json.contains("@eve") && kept.json.contains("ed25519:D"));
    }

    #[test]
    fn a_claimed_key_is_of_the_algorithm_that_was_asked_for() {
        let key = json!({ "key": "k", "signatures": {} });
        assert!(claimed("signed_curve25519", "signed_curve25519:A", &key, 100).is_some());
        for (id, key, max) in [
            ("curve25519:A", &key, 100),
            ("signed_curve25519:", &key, 100),
            ("signed_curve25519", &key, 100),
            ("signed_curve25519:A", &json!({}), 100),
            ("signed_curve25519:A", &json!(null), 100),
            ("signed_curve25519:A", &key, 10),
        ] {
            assert_eq!(claimed("signed_curve25519", id, key, max), None, "{id} {key}");
        }
    }
}
