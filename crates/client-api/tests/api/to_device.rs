//! Messages to devices.

use serde_json::{Value, json};

use crate::support::{Site, User};

/// Sends a number to a device.
async fn send(from: &User<'_>, to: &User<'_>, device: &str, number: u64) {
    let body = json!({ "messages": { &to.id: { device: { "n": number } } } });
    from.put(&format!("v3/sendToDevice/my.type/{number}"), body).await.ok();
}

/// The numbers that a sync brought.
fn numbers(sync: &Value) -> Vec<u64> {
    let events = sync["to_device"]["events"].as_array().into_iter().flatten();
    events.map(|event| event["content"]["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn a_message_comes_until_a_sync_proves_that_it_arrived() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let phone = bob.log_in().await;
    let start = bob.sync(None).await;
    send(&alice, &bob, &bob.device, 1).await;
    send(&alice, &bob, &bob.device, 1).await;
    let news = bob.sync(Some(&start["next_batch"])).await;
    let event = json!({ "type": "my.type", "sender": alice.id, "content": { "n": 1 } });
    assert_eq!(news["to_device"]["events"], json!([event]));
    assert_eq!(numbers(&bob.sync(Some(&start["next_batch"])).await), [1], "the same token brings the same");
    assert_eq!(numbers(&bob.sync(None).await), [1], "as does none");
    assert!(bob.sync(Some(&news["next_batch"])).await["to_device"].is_null());
    assert!(bob.sync(Some(&start["next_batch"])).await["to_device"].is_null(), "never after it was acknowledged");
    assert!(bob.sync(None).await["to_device"].is_null());
    assert!(phone.sync(None).await["to_device"].is_null());
    send(&alice, &bob, "*", 2).await;
    assert_eq!(numbers(&phone.sync(None).await), [2]);
    assert_eq!(numbers(&bob.sync(Some(&news["next_batch"])).await), [2]);
}

#[tokio::test]
async fn many_messages_come_in_order_a_hundred_at_a_time_without_waiting() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let mut since = bob.sync(None).await["next_batch"].clone();
    for number in 0..250 {
        send(&alice, &bob, &bob.device, number).await;
    }
    for (from, upto) in [(0, 100), (100, 200), (200, 250)] {
        let query = format!("timeout=30000&since={}", since.as_str().expect("a token"));
        let news = bob.sync_with(&query).await;
        assert_eq!(numbers(&news), (from..upto).collect::<Vec<_>>());
        since = news["next_batch"].clone();
    }
    assert!(bob.sync(Some(&since)).await["to_device"].is_null());
}

#[tokio::test]
async fn a_sync_that_waits_is_woken_and_one_of_another_user_is_not() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let start = bob.sync(None).await["next_batch"].clone();
    let query = format!("timeout=30000&since={}", start.as_str().expect("a token"));
    let (news, ()) = tokio::join!(bob.sync_with(&query), async {
        tokio::task::yield_now().await;
        send(&alice, &bob, "*", 1).await;
    });
    assert_eq!(numbers(&news), [1]);
}

#[tokio::test]
async fn bad_messages_are_refused_and_nobody_gets_them() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let path = "v3/sendToDevice/t/1";
    alice.put(path, json!({})).await.refused(400, "M_MISSING_PARAM");
    for messages in [json!([]), json!({ "bob": {} }), json!({ &bob.id: [] }), json!({ &bob.id: { "*": "text" } })] {
        alice.put(path, json!({ "messages": messages })).await.refused(400, "M_BAD_JSON");
    }
    let large = json!({ "messages": { &bob.id: { "*": { "x": "y".repeat(65_536) } } } });
    alice.put(path, large).await.refused(413, "M_TOO_LARGE");
    let unknown = json!({ "messages": { "@nobody:hs.test": { "*": {} }, &bob.id: { "NO": {} } } });
    alice.put(path, unknown).await.ok();
    assert!(bob.sync(None).await["to_device"].is_null());
}
