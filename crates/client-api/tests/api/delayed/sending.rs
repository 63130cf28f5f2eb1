use serde_json::{Value, json};

use super::{DELAY, Rig, UNSTABLE, act_stable, delay_message, delay_state, id, message, timeline};

/// An ended event, as the stable path shows it.
async fn ended(who: &crate::support::User<'_>, event: &str) -> Value {
    who.get(&format!("v1/delayed_events/{event}")).await.ok()["finalised"].clone()
}

#[tokio::test]
async fn case_21_a_kicked_users_event_fails_and_the_owner_is_told_why() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    let event = message(&bob, &room, "t", 1_000).await;
    alice.post(&format!("v3/rooms/{room}/ban"), json!({ "user_id": bob.id })).await.ok();
    rig.pass(1_001).await;
    assert_eq!(ended(&bob, &event).await["error"]["errcode"], "M_FORBIDDEN");
    assert!(timeline(&alice, &room).await.is_empty());
}

#[tokio::test]
async fn case_20_and_21_power_is_judged_when_it_is_sent() {
    let rig = Rig::new().await;
    let alice = rig.site.user("alice").await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let bob = rig.site.user("bob").await;
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    let early = id(&delay_state(&bob, &room, "early", "1000", json!({})).await.ok());
    rig.pass(1_001).await;
    assert_eq!(ended(&bob, &early).await["error"]["errcode"], "M_FORBIDDEN");
    let late = id(&delay_state(&bob, &room, "late", "1000", json!({ "n": 1 })).await.ok());
    let path = format!("v3/rooms/{room}/state/m.room.power_levels");
    let mut levels = alice.get(&path).await.ok();
    levels["state_default"] = json!(0);
    alice.put(&path, levels).await.ok();
    rig.pass(1_001).await;
    assert!(ended(&bob, &late).await["event_id"].is_string());
    alice.get(&format!("v3/rooms/{room}/state/com.example.call/late")).await.ok();
}

#[tokio::test]
async fn case_27_and_28_newer_state_is_survived() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    delay_state(&alice, &room, "k", "1000", json!({ "n": 1 })).await.ok();
    let path = format!("v3/rooms/{room}/state/com.example.call/k");
    alice.put(&path, json!({ "n": 2 })).await.ok();
    rig.pass(1_001).await;
    assert_eq!(alice.get(&path).await.ok(), json!({ "n": 1 }));
}

#[tokio::test]
async fn case_35_the_delay_id_is_shown_to_the_sender_only() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    let event = message(&alice, &room, "t", 1_000).await;
    let (of_alice, of_bob) = (alice.sync(None).await, bob.sync(None).await);
    rig.pass(1_001).await;
    let sent = ended(&alice, &event).await["event_id"].as_str().expect("an event id").to_owned();
    for (who, before, shown) in [(&alice, &of_alice, json!(event)), (&bob, &of_bob, Value::Null)] {
        let in_messages = who.get(&format!("v3/rooms/{room}/messages?dir=b&limit=1")).await.ok()["chunk"][0].clone();
        let alone = who.get(&format!("v3/rooms/{room}/event/{sent}")).await.ok();
        let in_context = who.get(&format!("v3/rooms/{room}/context/{sent}")).await.ok()["event"].clone();
        let sync = who.sync(Some(&before["next_batch"])).await;
        let in_sync = sync["rooms"]["join"][&room]["timeline"]["events"][0].clone();
        for rendered in [in_messages, alone, in_context, in_sync] {
            assert_eq!(rendered["content"]["body"], "t");
            assert_eq!(rendered["unsigned"]["org.matrix.msc4140.delay_id"], shown, "{rendered}");
            assert_eq!(rendered["unsigned"]["transaction_id"], Value::Null);
        }
    }
}

#[tokio::test]
async fn case_36_the_sticky_duration_rides_along() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let query = format!("{DELAY}=1000&org.matrix.msc4354.sticky_duration_ms=60000");
    let path = format!("v3/rooms/{room}/send/m.room.message");
    let event = id(&alice.put(&format!("{path}/a?{query}"), json!({ "body": "a" })).await.ok());
    act_stable(&alice, &event, "send").await.ok();
    let sent = ended(&alice, &event).await["event_id"].as_str().expect("an event id").to_owned();
    let sent = alice.get(&format!("v3/rooms/{room}/event/{sent}")).await.ok();
    assert_eq!(sent["msc4354_sticky"], json!({ "duration_ms": 60000 }), "{sent}");
    let at_once =
        alice.put(&format!("{path}/n?org.matrix.msc4354.sticky_duration_ms=5"), json!({ "body": "n" })).await.ok();
    let state = format!("v3/rooms/{room}/state/com.example.call/k?org.matrix.msc4354.sticky_duration_ms=5");
    let state = alice.put(&state, json!({})).await.ok();
    for sent in [at_once, state] {
        let sent =
            alice.get(&format!("v3/rooms/{room}/event/{}", sent["event_id"].as_str().expect("an id"))).await.ok();
        assert_eq!(sent["msc4354_sticky"], json!({ "duration_ms": 5 }), "{sent}");
    }
    let bad = format!("{DELAY}=1000&org.matrix.msc4354.sticky_duration_ms=x");
    alice.put(&format!("{path}/b?{bad}"), json!({ "body": "b" })).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn case_37_a_deactivated_users_delayed_join_is_not_carried_out() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    let path = format!("v3/rooms/{room}/state/m.room.member/{}?{DELAY}=1000", bob.id);
    id(&bob.put(&path, json!({ "membership": "join" })).await.ok());
    let users = &rig.site.parts.users;
    let nid = users.nid(&ruma::UserId::parse(&*bob.id).expect("an id")).await.expect("readable").expect("a user");
    // Nobody says so to the delayed events: the account is looked at when the event is due.
    users.deactivate(nid, false, &storage::Batch::new()).await.expect("deactivated");
    rig.pass(1_001).await;
    assert_eq!(rig.site.parts.delayed.pending(), 0);
    let members = alice.get(&format!("v3/rooms/{room}/joined_members")).await.ok();
    assert_eq!(members["joined"].as_object().expect("members").len(), 1);
}

#[tokio::test]
async fn case_38_a_delayed_member_event_goes_the_whole_way() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    let path = format!("v3/rooms/{room}/state/m.room.member/{}?{DELAY}=1000", bob.id);
    id(&bob.put(&path, json!({ "membership": "leave" })).await.ok());
    rig.pass(1_001).await;
    assert_eq!(bob.get("v3/joined_rooms").await.ok(), json!({ "joined_rooms": [] }));
    let member = alice.get(&format!("v3/rooms/{room}/state/m.room.member/{}", bob.id)).await.ok();
    assert_eq!(member["membership"], "leave");
}

#[tokio::test]
async fn case_39_content_of_any_script_round_trips() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let content = json!({ "msgtype": "m.text", "body": "žluťoučký 🐎 \u{1} \"\\", "ключ": [{ "深": null }] });
    let event = id(&delay_message(&alice, &room, "t", "1000", content.clone()).await.ok());
    let shown = alice.get(&format!("{UNSTABLE}/delayed_events/{event}")).await.ok();
    assert_eq!(shown["content"], content);
    rig.pass(1_001).await;
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=1")).await.ok();
    assert_eq!(page["chunk"][0]["content"], content);
}

#[tokio::test]
async fn case_24_two_overdue_for_one_key_come_in_order() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    for n in 0..5 {
        delay_state(&alice, &room, "k", "1000", json!({ "n": n })).await.ok();
    }
    rig.pass(1_001).await;
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=5")).await.ok();
    let numbers: Vec<_> =
        page["chunk"].as_array().expect("a chunk").iter().map(|event| event["content"]["n"].as_i64()).collect();
    assert_eq!(numbers, [4, 3, 2, 1, 0].map(Some));
}
