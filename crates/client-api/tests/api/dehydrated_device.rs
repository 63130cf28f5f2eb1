//! Dehydrated devices.

use serde_json::{Value, json};

use crate::{
    keys::{signed_by, signer},
    support::{Site, User},
};

const DEVICE: &str = "unstable/org.matrix.msc3814.v1/dehydrated_device";
/// 32 bytes in unpadded base64.
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn body(user: &User<'_>, device: &str) -> Value {
    let one_time = signed_by(json!({ "key": KEY }), user, device, &signer(1));
    json!({
        "device_id": device,
        "device_data": { "algorithm": "m.dehydration.v2", "device_pickle": "p" },
        "initial_device_display_name": "kept",
        "device_keys": {
            "user_id": user.id,
            "device_id": device,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": { format!("ed25519:{device}"): signer(1).public_base64(), format!("curve25519:{device}"): KEY },
            "signatures": {},
        },
        "one_time_keys": { "signed_curve25519:1": one_time },
    })
}

/// Sends a number to a device.
async fn send(from: &User<'_>, to: &User<'_>, device: &str, number: u64) {
    let body = json!({ "messages": { &to.id: { device: { "n": number } } } });
    from.put(&format!("v3/sendToDevice/my.type/{number}"), body).await.ok();
}

async fn devices(user: &User<'_>) -> Vec<String> {
    let list = user.get("v3/devices").await.ok();
    let mut ids: Vec<_> = list["devices"]
        .as_array()
        .expect("devices")
        .iter()
        .map(|device| device["device_id"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_device_is_kept_with_its_keys_until_another_takes_its_place() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    alice.get(DEVICE).await.refused(404, "M_NOT_FOUND");
    alice.delete(DEVICE, Value::Null).await.refused(404, "M_NOT_FOUND");
    for id in ["FIRST", "SECOND", "SECOND"] {
        assert_eq!(alice.put(DEVICE, body(&alice, id)).await.ok(), json!({ "device_id": id }));
        let kept = alice.get(DEVICE).await.ok();
        assert_eq!(kept, json!({ "device_id": id, "device_data": body(&alice, id)["device_data"] }));
        let mut expected = vec![alice.device.clone(), id.to_owned()];
        expected.sort();
        assert_eq!(devices(&alice).await, expected);
        let asked = json!({ "device_keys": { &alice.id: [] } });
        let keys = alice.post("v3/keys/query", asked).await.ok();
        assert_eq!(keys["device_keys"][&alice.id][id]["device_id"], id);
        let claim = json!({ "one_time_keys": { &alice.id: { id: "signed_curve25519" } } });
        let claimed = alice.post("v3/keys/claim", claim).await.ok();
        assert_eq!(claimed["one_time_keys"][&alice.id][id]["signed_curve25519:1"]["key"], KEY);
    }
    assert_eq!(alice.delete(DEVICE, Value::Null).await.ok(), json!({ "device_id": "SECOND" }));
    alice.get(DEVICE).await.refused(404, "M_NOT_FOUND");
    assert_eq!(devices(&alice).await, std::slice::from_ref(&alice.device));
}

#[tokio::test]
async fn its_messages_are_read_in_pages_and_stay_until_it_goes() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    alice.put(DEVICE, body(&alice, "KEPT")).await.ok();
    for number in 0..150 {
        send(&bob, &alice, "KEPT", number).await;
    }
    let events = format!("{DEVICE}/KEPT/events");
    for _ in 0..2 {
        let (mut seen, mut from) = (Vec::new(), json!({}));
        loop {
            let page = alice.post(&events, from).await.ok();
            let page_events = page["events"].as_array().expect("events").clone();
            if page_events.is_empty() {
                break;
            }
            assert!(page_events.len() <= 100);
            seen.extend(page_events.iter().map(|event| event["content"]["n"].as_u64().expect("a number")));
            from = json!({ "next_batch": page["next_batch"] });
        }
        assert_eq!(seen, (0..150).collect::<Vec<_>>());
    }
    alice.post(&events, json!({ "next_batch": "x" })).await.refused(400, "M_INVALID_PARAM");
    alice.post(&format!("{DEVICE}/OTHER/events"), json!({})).await.refused(404, "M_NOT_FOUND");
    bob.post(&events, json!({})).await.refused(404, "M_NOT_FOUND");
    alice.delete(DEVICE, Value::Null).await.ok();
    alice.put(DEVICE, body(&alice, "KEPT")).await.ok();
    assert_eq!(alice.post(&events, json!({})).await.ok()["events"], json!([]));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_leaves_no_device() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let before = devices(&alice).await;
    let mut no_keys = body(&alice, "KEPT");
    no_keys.as_object_mut().expect("an object").remove("device_keys");
    alice.put(DEVICE, no_keys).await.refused(400, "M_MISSING_PARAM");
    let mut foreign = body(&alice, "KEPT");
    foreign["device_id"] = json!("OTHER");
    assert_eq!(alice.put(DEVICE, foreign).await.status, 400);
    alice.put(DEVICE, body(&alice, &alice.device)).await.refused(400, "M_INVALID_PARAM");
    let mut large = body(&alice, "KEPT");
    large["device_data"]["device_pickle"] = json!("x".repeat(65_536));
    alice.put(DEVICE, large).await.refused(413, "M_TOO_LARGE");
    assert_eq!(devices(&alice).await, before);
    alice.get(DEVICE).await.refused(404, "M_NOT_FOUND");
}
