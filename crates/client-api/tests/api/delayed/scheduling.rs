use delayed_events::Options;
use http::Method;
use serde_json::json;

use super::{DELAY, Rig, UNSTABLE, delay_message, delay_state, id, message, scheduled, timeline};

const DAY: u64 = 86_400_000;

/// The dedicated paths.
fn dedicated(room: &str, txn: &str) -> [String; 2] {
    let path = format!("rooms/{room}/delayed_event/m.room.message/{txn}");
    [format!("v3/{path}"), format!("{UNSTABLE}/{path}")]
}

#[tokio::test]
async fn case_1_a_delay_that_is_no_positive_whole_number_is_refused() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    for bad in ["0", "-1", "1.5", "1e3", "abc", "", "%31%20"] {
        delay_message(&alice, &room, "t", bad, json!({})).await.refused(400, "M_INVALID_PARAM");
        delay_state(&alice, &room, "k", bad, json!({})).await.refused(400, "M_INVALID_PARAM");
    }
    for path in dedicated(&room, "t") {
        for bad in [json!(0), json!(-1), json!(1.5), json!("1000"), json!(null), json!([1]), json!(true)] {
            let answer = alice.put(&path, json!({ "delay_ms": bad, "content": {} })).await;
            assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
        }
        alice.put(&path, json!({ "content": {} })).await.refused(400, "M_MISSING_PARAM");
    }
    assert!(scheduled(&alice).await.is_empty());
    rig.pass(DAY).await;
    assert!(timeline(&alice, &room).await.is_empty());
}

#[tokio::test]
async fn case_2_content_must_be_there_and_an_object() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    for path in dedicated(&room, "t") {
        alice.put(&path, json!({ "delay_ms": 1000 })).await.refused(400, "M_MISSING_PARAM");
        alice.put(&path, json!({ "delay_ms": 1000, "content": [] })).await.refused(400, "M_INVALID_PARAM");
        alice.put(&path, json!({ "delay_ms": 1000, "content": { "a": 1.5 } })).await.refused(400, "M_BAD_JSON");
        alice
            .put(&path, json!({ "delay_ms": 1000, "content": {}, "state_key": 1 }))
            .await
            .refused(400, "M_INVALID_PARAM");
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t?{DELAY}=1000");
    for (bad, errcode) in [("{", "M_NOT_JSON"), ("{\"a\":1.5}", "M_BAD_JSON"), ("\u{0}", "M_NOT_JSON")] {
        rig.site.raw(Method::PUT, &path, Some(&alice.token), bad).await.refused(400, errcode);
    }
    assert!(scheduled(&alice).await.is_empty());
}

#[tokio::test]
async fn case_3_and_4_the_dedicated_paths_schedule_and_the_longest_delay_is_accepted() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    for (n, path) in dedicated(&room, "t").iter().enumerate() {
        let body = json!({ "delay_ms": DAY, "content": { "n": n }, "state_key": "", "unknown": 1 });
        // The two paths are one request to the engine, so the second needs a transaction of its own.
        id(&alice.put(&format!("{path}{n}"), body).await.ok());
    }
    let events = scheduled(&alice).await;
    assert!(events.iter().all(|event| event["state_key"] == "" && event["delay_ms"] == DAY), "{events:?}");
    let over = json!({ "delay_ms": DAY + 1, "content": {} });
    let [stable, unstable] = dedicated(&room, "over");
    alice.put(&stable, over.clone()).await.refused(400, "M_DELAY_TOO_LARGE");
    alice.put(&unstable, over).await.refused(400, "ORG.MATRIX.MSC4140_DELAY_TOO_LARGE");
    for huge in [(DAY + 1).to_string(), "9007199254740992".to_owned(), "9".repeat(40)] {
        let body = delay_message(&alice, &room, "over", &huge, json!({})).await.refused(400, "M_UNKNOWN");
        assert_eq!(body["org.matrix.msc4140.errcode"], "M_MAX_DELAY_EXCEEDED");
        assert_eq!(body["org.matrix.msc4140.max_delay"], DAY);
    }
    assert_eq!(scheduled(&alice).await.len(), 2);
}

#[tokio::test]
async fn the_unstable_path_takes_the_older_name_of_the_delay() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let [stable, unstable] = dedicated(&room, "t");
    alice.put(&stable, json!({ "delay": 1000, "content": {} })).await.refused(400, "M_MISSING_PARAM");
    id(&alice.put(&unstable, json!({ "delay": 1000, "content": {} })).await.ok());
}

#[tokio::test]
async fn case_5_the_same_transaction_with_an_empty_body_answers_the_same() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let first = message(&alice, &room, "t", 700).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t?{DELAY}=700");
    for body in ["", "no json"] {
        assert_eq!(id(&rig.site.raw(Method::PUT, &path, Some(&alice.token), body).await.ok()), first);
    }
    let [stable, unstable] = dedicated(&room, "t");
    let first = id(&alice.put(&stable, json!({ "delay_ms": 1000, "content": {} })).await.ok());
    for path in [stable, unstable] {
        let path = format!("/_matrix/client/{path}");
        assert_eq!(id(&rig.site.raw(Method::PUT, &path, Some(&alice.token), "").await.ok()), first);
    }
    assert_eq!(scheduled(&alice).await.len(), 2);
}

#[tokio::test]
async fn case_7_one_transaction_with_and_without_a_delay_answers_as_it_did_first() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let delayed = message(&alice, &room, "one", 1_000).await;
    let again = alice.put(&format!("v3/rooms/{room}/send/m.room.message/one"), json!({ "body": "now" })).await.ok();
    assert_eq!(again, json!({ "delay_id": delayed }));
    let sent = alice.say(&room, "two", "now").await;
    let again = delay_message(&alice, &room, "two", "1000", json!({ "body": "later" })).await.ok();
    assert_eq!(again, json!({ "event_id": sent }));
    assert_eq!((scheduled(&alice).await.len(), timeline(&alice, &room).await), (1, vec!["now".to_owned()]));
}

#[tokio::test]
async fn case_10_over_the_limit_each_path_says_so_in_its_own_words() {
    let rig = Rig::with(Options { max_scheduled_per_user: 1, ..Options::default() }).await;
    let (alice, room) = rig.alice().await;
    message(&alice, &room, "t", 10_500).await;
    let body = delay_message(&alice, &room, "u", "1", json!({})).await.refused(400, "M_UNKNOWN");
    assert_eq!(body["org.matrix.msc4140.errcode"], "M_MAX_DELAYED_EVENTS_EXCEEDED");
    for path in dedicated(&room, "u") {
        let answer = alice.put(&path, json!({ "delay_ms": 1, "content": {} })).await;
        assert_eq!(answer.headers["retry-after"], "11");
        answer.refused(429, "M_LIMIT_EXCEEDED");
    }
    rig.pass(10_501).await;
    message(&alice, &room, "u", 1).await;
}

#[tokio::test]
async fn a_retried_state_event_leaves_no_orphan() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let first = id(&delay_state(&alice, &room, "k", "5000", json!({})).await.ok());
    assert_eq!(id(&delay_state(&alice, &room, "k", "5000", json!({})).await.ok()), first);
    let other_device = alice.log_in().await;
    assert_ne!(id(&delay_state(&other_device, &room, "k", "5000", json!({})).await.ok()), first);
}

#[tokio::test]
async fn case_40_an_event_over_the_limit_is_refused_when_it_is_scheduled() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let body = json!({ "body": "x".repeat(65_537) });
    delay_message(&alice, &room, "t", "1000", body.clone()).await.refused(413, "M_TOO_LARGE");
    let [stable, _] = dedicated(&room, "t");
    alice.put(&stable, json!({ "delay_ms": 1000, "content": body })).await.refused(413, "M_TOO_LARGE");
    assert!(scheduled(&alice).await.is_empty());
}

#[tokio::test]
async fn case_41_an_unknown_room_is_not_found() {
    let rig = Rig::new().await;
    let (alice, _) = rig.alice().await;
    delay_message(&alice, "!nowhere:hs.test", "t", "1000", json!({})).await.refused(404, "M_NOT_FOUND");
    delay_state(&alice, "!nowhere:hs.test", "k", "1000", json!({})).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn case_42_a_redaction_cannot_be_delayed_and_is_not_done_at_once() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = alice.say(&room, "t", "hello").await;
    let path = format!("v3/rooms/{room}/redact/{event}/r?{DELAY}=1000");
    assert!(alice.put(&path, json!({})).await.status.is_client_error());
    assert_eq!(timeline(&alice, &room).await, ["hello"]);
}

#[tokio::test]
async fn case_43_switched_off_every_path_refuses_and_nothing_is_sent_at_once() {
    let rig = Rig::with(Options { enabled: false, ..Options::default() }).await;
    let (alice, room) = rig.alice().await;
    delay_message(&alice, &room, "t", "1000", json!({ "body": "x" })).await.refused(403, "M_FORBIDDEN");
    delay_state(&alice, &room, "k", "1000", json!({})).await.refused(403, "M_FORBIDDEN");
    for path in dedicated(&room, "t") {
        alice.put(&path, json!({ "delay_ms": 1000, "content": {} })).await.refused(403, "M_FORBIDDEN");
    }
    let future = format!("{UNSTABLE}/rooms/{room}/send_future/m.room.message/t?future_timeout=1000");
    alice.put(&future, json!({ "body": "x" })).await.refused(403, "M_FORBIDDEN");
    let event = json!({ "type": "m.room.message", "content": { "body": "x" } });
    let batch = json!({ "timeout": 1000, "send_on_timeout": event, "send_now": event });
    alice.put(&format!("{UNSTABLE}/rooms/{room}/send/future/t"), batch).await.refused(403, "M_FORBIDDEN");
    assert!(timeline(&alice, &room).await.is_empty());
}

#[tokio::test]
async fn a_parent_is_not_served_and_the_event_is_not_sent_at_once() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    for query in ["", "&org.matrix.msc4140.delay=1000"] {
        let path = format!("v3/rooms/{room}/send/m.room.message/t?org.matrix.msc4140.parent_delay_id=x{query}");
        alice.put(&path, json!({ "body": "x" })).await.refused(400, "M_UNRECOGNIZED");
    }
    assert!(timeline(&alice, &room).await.is_empty());
}

#[tokio::test]
async fn without_a_token_nothing_is_scheduled_and_a_bad_one_is_told_so() {
    let rig = Rig::new().await;
    let (_, room) = rig.alice().await;
    for path in dedicated(&room, "t") {
        let path = format!("/_matrix/client/{path}");
        rig.site.raw(Method::PUT, &path, None, "{}").await.refused(401, "M_MISSING_TOKEN");
        rig.site.raw(Method::PUT, &path, Some("bad"), "{}").await.refused(401, "M_UNKNOWN_TOKEN");
    }
}
