use http::Method;
use serde_json::json;

use super::{Rig, UNSTABLE, act, act_stable, delay_state, id, message, scheduled, timeline};

#[tokio::test]
async fn case_12_a_restarted_event_comes_a_whole_delay_later() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = message(&alice, &room, "t", 1_000).await;
    for _ in 0..3 {
        rig.pass(900).await;
        assert_eq!(act(&rig.site, None, &event, "restart").await.ok(), json!({}));
    }
    rig.pass(999).await;
    assert!(timeline(&alice, &room).await.is_empty());
    rig.pass(2).await;
    assert_eq!(timeline(&alice, &room).await, ["t"]);
}

#[tokio::test]
async fn case_15_and_16_repeats_are_fine_on_every_path() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let (sent, cancelled) = (message(&alice, &room, "s", 1_000).await, message(&alice, &room, "c", 1_000).await);
    for _ in 0..2 {
        act(&rig.site, Some(&alice), &sent, "send").await.ok();
        act_stable(&alice, &sent, "send").await.ok();
        act(&rig.site, None, &cancelled, "cancel").await.ok();
        act_stable(&alice, &cancelled, "cancel").await.ok();
    }
    let failing = message(&alice, &room, "f", 10).await;
    alice.post(&format!("v3/rooms/{room}/leave"), json!({})).await.ok();
    rig.pass(11).await;
    act_stable(&alice, &failing, "cancel").await.ok();
    act(&rig.site, None, &failing, "cancel").await.ok();
}

#[tokio::test]
async fn case_17_a_conflict_is_409_on_the_stable_path_and_404_on_the_unstable_one() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let (sent, cancelled) = (message(&alice, &room, "s", 1_000).await, message(&alice, &room, "c", 1_000).await);
    act_stable(&alice, &sent, "send").await.ok();
    act_stable(&alice, &cancelled, "cancel").await.ok();
    for (event, action) in [(&sent, "restart"), (&sent, "cancel"), (&cancelled, "send"), (&cancelled, "restart")] {
        act_stable(&alice, event, action).await.refused(409, "M_UNKNOWN");
        act(&rig.site, Some(&alice), event, action).await.refused(404, "M_NOT_FOUND");
        act(&rig.site, None, event, action).await.refused(404, "M_NOT_FOUND");
    }
    assert_eq!(timeline(&alice, &room).await, ["s"]);
}

#[tokio::test]
async fn the_action_may_stand_in_the_body() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = message(&alice, &room, "t", 1_000).await;
    let path = format!("{UNSTABLE}/delayed_events/{event}");
    alice.post(&path, json!({ "action": "restart" })).await.ok();
    alice.post(&path, json!({ "action": "oops" })).await.refused(400, "M_INVALID_PARAM");
    alice.post(&path, json!({})).await.refused(400, "M_MISSING_PARAM");
    let path = format!("/_matrix/client/{path}");
    rig.site.raw(Method::POST, &path, None, "{\"action\":\"send\"}").await.ok();
    assert_eq!(timeline(&alice, &room).await, ["t"]);
}

#[tokio::test]
async fn an_action_that_is_none_is_not_found() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = message(&alice, &room, "t", 1_000).await;
    act(&rig.site, None, &event, "oops").await.refused(404, "M_UNRECOGNIZED");
    act_stable(&alice, &event, "oops").await.refused(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn case_19_a_forbidden_send_is_told_so_and_the_event_stays() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    let event = message(&bob, &room, "t", 1_000).await;
    let kick = json!({ "user_id": bob.id });
    alice.post(&format!("v3/rooms/{room}/kick"), kick).await.ok();
    act_stable(&bob, &event, "send").await.refused(403, "M_FORBIDDEN");
    act(&rig.site, None, &event, "send").await.refused(403, "M_FORBIDDEN");
    assert_eq!(scheduled(&bob).await.len(), 1);
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    rig.pass(1_001).await;
    assert_eq!(timeline(&alice, &room).await, ["t"]);
}

#[tokio::test]
async fn case_29_and_30_another_users_event_is_as_good_as_unknown() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let bob = rig.site.user("bob").await;
    let event = message(&alice, &room, "t", 1_000).await;
    for action in ["send", "cancel", "restart"] {
        let unknown = act(&rig.site, Some(&bob), "unknown", action).await.refused(404, "M_NOT_FOUND");
        assert_eq!(act(&rig.site, Some(&bob), &event, action).await.refused(404, "M_NOT_FOUND"), unknown);
        assert_eq!(act_stable(&bob, &event, action).await.refused(404, "M_NOT_FOUND"), unknown);
    }
    for path in [format!("v1/delayed_events/{event}"), format!("{UNSTABLE}/delayed_events/{event}")] {
        bob.get(&path).await.refused(404, "M_NOT_FOUND");
        alice.get(&path).await.ok();
    }
    assert!(scheduled(&bob).await.is_empty());
}

#[tokio::test]
async fn case_31_and_32_tokens_on_either_path() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = message(&alice, &room, "t", 1_000).await;
    for action in ["send", "cancel", "restart"] {
        let stable = format!("/_matrix/client/v1/delayed_events/{event}/{action}");
        rig.site.raw(Method::POST, &stable, None, "{}").await.refused(401, "M_MISSING_TOKEN");
        rig.site.raw(Method::POST, &stable, Some("bad"), "{}").await.refused(401, "M_UNKNOWN_TOKEN");
        let unstable = format!("/_matrix/client/{UNSTABLE}/delayed_events/{event}/{action}");
        rig.site.raw(Method::POST, &unstable, Some("bad"), "{}").await.refused(401, "M_UNKNOWN_TOKEN");
        act(&rig.site, None, "abc", action).await.refused(404, "M_NOT_FOUND");
    }
    assert_eq!(scheduled(&alice).await.len(), 1);
}

#[tokio::test]
async fn case_33_a_guest_goes_the_whole_way() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    alice.put(&format!("v3/rooms/{room}/state/m.room.guest_access"), json!({ "guest_access": "can_join" })).await.ok();
    let answer = rig.site.raw(Method::POST, "/_matrix/client/v3/register?kind=guest", None, "{}").await.ok();
    let guest = crate::support::User::from(&rig.site, &answer);
    guest.post(&format!("v3/rooms/{room}/join"), json!({})).await.ok();
    let event = message(&guest, &room, "guest", 1_000).await;
    act_stable(&guest, &event, "restart").await.ok();
    assert_eq!(scheduled(&guest).await.len(), 1);
    act_stable(&guest, &event, "send").await.ok();
    assert_eq!(timeline(&alice, &room).await, ["guest"]);
}

#[tokio::test]
async fn case_44_tricks_with_the_path_find_nothing() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let event = message(&alice, &room, "t", 1_000).await;
    for trick in ["..%2F", &format!("..%2F{event}"), &format!("{event}%2F"), &format!("%00{event}"), "%2E%2E", "%"] {
        let answer = act(&rig.site, None, trick, "send").await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{trick}: {answer:?}");
    }
    let long = "x".repeat(10_000);
    act(&rig.site, None, &long, "send").await.refused(404, "M_NOT_FOUND");
    assert_eq!(scheduled(&alice).await.len(), 1);
}

#[tokio::test]
async fn case_47_delegation_is_not_found_where_it_is_not_configured() {
    let rig = Rig::new().await;
    let (alice, _) = rig.alice().await;
    for path in ["v1", "unstable/io.element.msc4195"] {
        let path = format!("{path}/rtc/livekit/delegate_delayed_leave");
        alice.post(&path, json!({})).await.refused(404, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn a_logged_out_users_last_will_is_carried_out() {
    let rig = Rig::new().await;
    let (alice, room) = rig.alice().await;
    let other_device = alice.log_in().await;
    id(&delay_state(&other_device, &room, "k", "1000", json!({ "left": true })).await.ok());
    other_device.post("v3/logout", json!({})).await.ok();
    rig.pass(1_001).await;
    let state = alice.get(&format!("v3/rooms/{room}/state/com.example.call/k")).await.ok();
    assert_eq!(state, json!({ "left": true }));
}
