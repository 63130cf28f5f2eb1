use http::Method;
use serde_json::{Value, json};

use super::{Rig, UNSTABLE, scheduled, timeline};
use crate::support::{Answer, User};

async fn future(who: &User<'_>, room: &str, txn: &str, query: &str) -> Answer {
    let path = format!("{UNSTABLE}/rooms/{room}/send_future/m.room.message/{txn}?{query}");
    who.put(&path, json!({ "msgtype": "m.text", "body": txn })).await
}

/// Uses a token, without an access token.
async fn spend(rig: &Rig, token: &Value) -> Answer {
    let path = format!("/_matrix/client/{UNSTABLE}/future/{}", token.as_str().expect("a token"));
    rig.site.raw(Method::POST, &path, None, "").await
}

#[tokio::test]
async fn a_group_of_futures_sends_one() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let timeout = future(&alice, &room, "timeout", "future_timeout=1000").await.ok();
    let group = timeout["future_group_id"].as_str().expect("a group").to_owned();
    let action = future(&alice, &room, "action", &format!("future_group_id={group}")).await.ok();
    assert!(timeout["refresh_token"].is_string() && action.get("refresh_token").is_none());
    assert_eq!(future(&alice, &room, "timeout", "future_timeout=1000").await.ok(), timeout);
    spend(&rig, &timeout["refresh_token"]).await.ok();
    spend(&rig, &action["send_token"]).await.ok();
    assert_eq!(timeline(&alice, &room).await, ["action"]);
    spend(&rig, &timeout["send_token"]).await.refused(410, "M_NOT_FOUND");
    rig.pass(5_000).await;
    assert_eq!(timeline(&alice, &room).await, ["action"]);
    assert_eq!(future(&alice, &room, "late", &format!("future_group_id={group}&future_timeout=1")).await.status, 410);
}

#[tokio::test]
async fn case_49_groups_and_their_errors() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    future(&alice, &room, "t", "").await.refused(400, "M_MISSING_PARAM");
    future(&alice, &room, "t", "future_timeout=0").await.refused(400, "M_INVALID_PARAM");
    let over = future(&alice, &room, "t", "future_timeout=86400001").await.refused(400, "M_INVALID_PARAM");
    assert!(over["error"].as_str().is_some_and(|text| text.contains("86400000")), "{over}");
    assert_eq!(future(&alice, &room, "t", "future_group_id=unknown").await.status, 409);
    let group = future(&alice, &room, "t", "future_timeout=1000").await.ok()["future_group_id"].clone();
    let group = group.as_str().expect("a group");
    assert_eq!(future(&bob, &room, "t", &format!("future_group_id={group}")).await.status, 405);
    assert_eq!(scheduled(&alice).await.len(), 1);
}

#[tokio::test]
async fn cancelling_the_last_timer_ends_the_group() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let timeout = future(&alice, &room, "timeout", "future_timeout=1000").await.ok();
    let group = timeout["future_group_id"].as_str().expect("a group");
    let action = future(&alice, &room, "action", &format!("future_group_id={group}")).await.ok();
    spend(&rig, &timeout["cancel_token"]).await.ok();
    spend(&rig, &action["send_token"]).await.refused(410, "M_NOT_FOUND");
    assert!(scheduled(&alice).await.is_empty() && timeline(&alice, &room).await.is_empty());
}

#[tokio::test]
async fn a_state_future_gives_way_to_newer_state() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let path = format!("{UNSTABLE}/rooms/{room}/state_future/com.example.call/k?future_timeout=1000");
    alice.put(&path, json!({ "n": 1 })).await.ok();
    let state = format!("v3/rooms/{room}/state/com.example.call/k");
    alice.put(&state, json!({ "n": 2 })).await.ok();
    assert!(scheduled(&alice).await.is_empty());
    rig.pass(1_001).await;
    assert_eq!(alice.get(&state).await.ok(), json!({ "n": 2 }));
}

#[tokio::test]
async fn five_wrong_tokens_in_a_row_make_a_client_wait() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let timeout = future(&alice, &room, "t", "future_timeout=60000").await.ok();
    for n in 0..5 {
        spend(&rig, &json!(format!("wrong{n}"))).await.refused(410, "M_NOT_FOUND");
    }
    let answer = spend(&rig, &timeout["refresh_token"]).await;
    assert_eq!(answer.headers["retry-after"], "10");
    answer.refused(429, "M_LIMIT_EXCEEDED");
    rig.pass(10_000).await;
    spend(&rig, &timeout["refresh_token"]).await.ok();
}

#[tokio::test]
async fn the_list_of_futures_says_what_made_them() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let answer = future(&alice, &room, "t", "future_timeout=60000").await.ok();
    let list = alice.get(&format!("{UNSTABLE}/future")).await.ok();
    assert_eq!((list[0]["response"].clone(), list[0]["body"]["body"].clone()), (answer.clone(), json!("t")));
    // The same request again is the same future.
    let url = list[0]["url"].as_str().expect("a url").strip_prefix("/_matrix/client/").expect("of the client API");
    let url = url.split("&future_group_id").next().expect("a url");
    assert_eq!(alice.put(url, list[0]["body"].clone()).await.ok(), answer);
}

fn batch() -> Value {
    let text = |body: &str| json!({ "type": "m.room.message", "content": { "msgtype": "m.text", "body": body } });
    let mut redaction = json!({ "type": "m.room.redaction", "content": {} });
    redaction["content"]["redacts"] = json!("$m.send_now.event_id");
    json!({
        "timeout": 1000,
        "send_on_timeout": redaction,
        "send_on_action": { "leave": text("left"), "stay": text("stayed") },
        "send_now": text("for a second"),
    })
}

#[tokio::test]
async fn a_message_that_destroys_itself_is_one_request() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let path = format!("{UNSTABLE}/rooms/{room}/send/future/t");
    let answer = alice.put(&path, batch()).await.ok();
    assert!(answer["send_now"]["event_id"].is_string() && answer["send_on_timeout"]["refresh_token"].is_string());
    assert_eq!(
        answer["send_on_action"]["leave"].as_object().expect("tokens").keys().collect::<Vec<_>>(),
        ["send_token"]
    );
    assert_eq!(alice.put(&path, json!({})).await.ok(), answer);
    assert_eq!((timeline(&alice, &room).await, scheduled(&alice).await.len()), (vec!["for a second".to_owned()], 3));
    rig.pass(1_001).await;
    let event = answer["send_now"]["event_id"].as_str().expect("an event id");
    let redacted = alice.get(&format!("v3/rooms/{room}/event/{event}")).await.ok();
    assert_eq!(redacted["content"], json!({}), "{redacted}");
    assert!(scheduled(&alice).await.is_empty());
}

#[tokio::test]
async fn case_48_of_two_actions_raced_one_event_comes() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let answer = alice.put(&format!("{UNSTABLE}/rooms/{room}/send/future/t"), batch()).await.ok();
    let actions = &answer["send_on_action"];
    let (one, two) = (&actions["leave"]["send_token"], &actions["stay"]["send_token"]);
    let (one, two) = tokio::join!(spend(&rig, one), spend(&rig, two));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410]);
    rig.pass(2_000).await;
    assert_eq!(timeline(&alice, &room).await.len(), 2);
}

#[tokio::test]
async fn case_50_a_batch_whose_event_is_forbidden_schedules_nothing() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    let path = format!("{UNSTABLE}/rooms/{room}/send/future/t");
    bob.put(&path, batch()).await.refused(403, "M_FORBIDDEN");
    assert!(scheduled(&bob).await.is_empty() && timeline(&alice, &room).await.is_empty());
    bob.put(&path, json!({ "send_now": batch()["send_now"] })).await.refused(400, "M_MISSING_PARAM");
    bob.put(&path, json!({ "send_on_action": batch()["send_on_action"] })).await.refused(409, "M_UNKNOWN");
}
