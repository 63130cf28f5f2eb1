use http::Method;
use serde_json::{Value, json};

use super::{Rig, UNSTABLE, act_stable, delay_state, id, message};

#[tokio::test]
async fn a_scheduled_event_in_the_words_of_each_generation() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = id(&delay_state(&alice, &room, "k", "1000", json!({ "n": 1 })).await.ok());
    let since = 1_700_000_000_000_u64;
    let stable = json!({
        "delay_id": event, "room_id": room, "type": "com.example.call", "state_key": "k",
        "delay_ms": 1000, "delayed_since_ts": since, "content": { "n": 1 },
    });
    let mut unstable = stable.clone();
    for (name, value) in [("delay", json!(1000)), ("running_since", json!(since)), ("scheduled_at", json!(since))] {
        unstable[name] = value;
    }
    let of_2025 = json!({
        "delay_id": event, "room_id": room, "type": "com.example.call", "state_key": "k",
        "delay": 1000, "running_since": since, "content": { "n": 1 },
    });
    assert_eq!(alice.get(&format!("v1/delayed_events/{event}")).await.ok(), stable);
    assert_eq!(alice.get("v1/delayed_events").await.ok(), json!({ "delayed_events": [stable] }));
    assert_eq!(alice.get(&format!("{UNSTABLE}/delayed_events/{event}")).await.ok(), unstable);
    let list = json!({ "delayed_events": [unstable], "scheduled": [of_2025], "finalised": [] });
    assert_eq!(alice.get(&format!("{UNSTABLE}/delayed_events")).await.ok(), list);
    assert_eq!(alice.get("unstable/org.matrix.msc4486/delayed_events").await.ok(), list);
    assert_eq!(
        alice.get(&format!("{UNSTABLE}/delayed_events/scheduled")).await.ok(),
        json!({ "scheduled": [of_2025] })
    );
    assert_eq!(alice.get(&format!("{UNSTABLE}/delayed_events/finalised")).await.ok(), json!({ "finalised": [] }));
}

#[tokio::test]
async fn an_ended_event_in_the_words_of_each_generation() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let sent = message(&alice, &room, "sent", 1_000).await;
    let (early, cancelled) = (message(&alice, &room, "e", 9_000).await, message(&alice, &room, "c", 9_000).await);
    rig.pass(1_001).await;
    act_stable(&alice, &early, "send").await.ok();
    rig.pass(1).await;
    act_stable(&alice, &cancelled, "cancel").await.ok();
    let stable = alice.get(&format!("v1/delayed_events/{sent}")).await.ok();
    let unstable = alice.get(&format!("{UNSTABLE}/delayed_events/{sent}")).await.ok();
    assert_eq!(stable["finalised"]["finalised_ts"], 1_700_000_001_001_u64);
    assert!(stable["finalised"]["event_id"].is_string() && stable["finalised"].get("error").is_none());
    assert_eq!(unstable["event_id"], stable["finalised"]["event_id"]);
    assert_eq!(unstable["finalised_ts"], stable["finalised"]["finalised_ts"]);
    let cancelled = alice.get(&format!("v1/delayed_events/{cancelled}")).await.ok();
    assert_eq!(cancelled["finalised"], json!({ "finalised_ts": 1_700_000_001_002_u64 }));
    let list = alice.get(&format!("{UNSTABLE}/delayed_events/finalised")).await.ok();
    let told: Vec<_> =
        list["finalised"].as_array().expect("a list").iter().map(|end| (&end["outcome"], &end["reason"])).collect();
    let expected = [("send", "delay"), ("send", "action"), ("cancel", "action")].map(|(o, r)| (json!(o), json!(r)));
    assert_eq!(told, expected.iter().map(|(o, r)| (o, r)).collect::<Vec<_>>());
    assert_eq!(list["finalised"][0]["delayed_event"]["delay_id"], sent.as_str());
    assert!(alice.get("v1/delayed_events").await.ok()["delayed_events"].as_array().is_some_and(Vec::is_empty));
    for status in ["sent", "cancelled", "failed"] {
        let list = alice.get(&format!("v1/delayed_events?status={status}")).await.ok();
        let count = list["delayed_events"].as_array().expect("a list").len();
        assert_eq!(
            count,
            match status {
                "sent" => 2,
                "cancelled" => 1,
                _ => 0,
            }
        );
    }
    let path = format!("{UNSTABLE}/delayed_events?status=finalised&delay_id={sent}&delay_id={early}");
    assert_eq!(alice.get(&path).await.ok()["delayed_events"].as_array().expect("a list").len(), 2);
}

#[tokio::test]
async fn a_list_comes_in_pages_and_refuses_bad_values() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    for n in 1..=5_u64 {
        message(&alice, &room, &n.to_string(), 6_000 - n * 1_000).await;
    }
    let mut seen = Vec::new();
    let mut from = String::new();
    loop {
        let page = alice.get(&format!("v1/delayed_events?limit=2&dir=f{from}")).await.ok();
        let events = page["delayed_events"].as_array().expect("a list");
        seen.extend(events.iter().map(|event| event["content"]["body"].as_str().expect("a body").to_owned()));
        match &page["next_batch"] {
            Value::String(next) => from = format!("&from={next}"),
            _ => break,
        }
    }
    assert_eq!(seen, ["5", "4", "3", "2", "1"]);
    for bad in ["dir=x", "from=nonsense", "from_ts=x", "to_ts=-1", "room_id=x", "status=x", "limit=-1"] {
        for path in ["v1/delayed_events".to_owned(), format!("{UNSTABLE}/delayed_events")] {
            alice.get(&format!("{path}?{bad}")).await.refused(400, "M_INVALID_PARAM");
        }
    }
}

#[tokio::test]
async fn reading_needs_a_token() {
    let rig = Rig::new().await;
    for path in ["v1/delayed_events", "v1/delayed_events/x", "unstable/org.matrix.msc4140/delayed_events"] {
        let path = format!("/_matrix/client/{path}");
        rig.site.raw(Method::GET, &path, None, "").await.refused(401, "M_MISSING_TOKEN");
        rig.site.raw(Method::GET, &path, Some("bad"), "").await.refused(401, "M_UNKNOWN_TOKEN");
    }
}

#[tokio::test]
async fn what_is_offered_is_announced() {
    let rig = Rig::new().await;
    let (alice, _) = rig.alice().await;
    let versions = alice.get("versions").await.ok();
    assert_eq!(versions["unstable_features"]["org.matrix.msc4140"], true);
    assert_eq!(versions["unstable_features"]["org.matrix.msc4140.stable"], true);
    let capabilities = alice.get("v3/capabilities").await.ok();
    let limits = json!({ "max_delay_ms": 86_400_000, "max_scheduled": 100 });
    assert_eq!(capabilities["capabilities"]["m.delayed_events"], limits);
    assert_eq!(capabilities["capabilities"]["org.matrix.msc4140.delayed_events"], limits);
}
