//! Reports of events, rooms and users.

use serde_json::json;
use users::{Report, ReportSubject};

use crate::support::Site;

async fn kept(site: &Site) -> Vec<Report> {
    site.parts.users.reports().list(None, 100).await.expect("readable")
}

#[tokio::test]
async fn an_event_is_reported_by_who_is_in_the_room_and_sees_it() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let initial = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": initial })).await;
    let early = alice.say(&room, "1", "early").await;
    bob.join(&room).await.ok();
    let event = alice.say(&room, "2", "spam").await;
    let path = |event: &str| format!("v3/rooms/{room}/report/{event}");
    let reason = json!({ "reason": "spam", "score": -100 });
    assert_eq!(bob.post(&path(&event), reason.clone()).await.ok(), json!({}));
    bob.post(&path(&event), json!({})).await.ok();
    for hidden in [&early, "$nothing", "nonsense"] {
        bob.post(&path(hidden), reason.clone()).await.refused(404, "M_NOT_FOUND");
    }
    for seen in [&event, "$nothing"] {
        carol.post(&path(seen), reason.clone()).await.refused(404, "M_NOT_FOUND");
    }
    let elsewhere = alice.room(json!({})).await;
    alice.post(&format!("v3/rooms/{elsewhere}/report/{event}"), reason.clone()).await.refused(404, "M_NOT_FOUND");
    bob.leave(&room).await;
    bob.post(&path(&event), reason).await.refused(404, "M_NOT_FOUND");
    let reports = kept(&site).await;
    assert_eq!(reports.len(), 2);
    let subject = ReportSubject::Event { room_id: room.clone(), event_id: event, sender: alice.id.clone() };
    assert_eq!((&reports[0].subject, reports[0].reason.as_str()), (&subject, "spam"));
    assert_eq!((reports[0].reporter.as_str(), reports[1].reason.as_str()), (bob.id.as_str(), ""));
}

#[tokio::test]
async fn rooms_and_users_are_reported_alike_whether_they_exist_or_not() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({})).await;
    for path in [
        format!("v3/rooms/{room}/report"),
        "v3/rooms/!nowhere:hs.test/report".to_owned(),
        format!("v3/users/{}/report", alice.id),
        "v3/users/@nobody:hs.test/report".to_owned(),
        "v3/users/@far:elsewhere/report".to_owned(),
    ] {
        assert_eq!(bob.post(&path, json!({ "reason": "" })).await.ok(), json!({}), "{path}");
        bob.post(&path, json!({})).await.refused(400, "M_MISSING_PARAM");
        bob.post(&path, json!({ "reason": 1 })).await.refused(400, "M_BAD_JSON");
        bob.post(&path, json!({ "reason": "x".repeat(4_001) })).await.refused(413, "M_TOO_LARGE");
    }
    bob.post("v3/rooms/nonsense/report", json!({ "reason": "" })).await.refused(404, "M_NOT_FOUND");
    bob.post("v3/users/nonsense/report", json!({ "reason": "" })).await.refused(404, "M_NOT_FOUND");
    assert_eq!(kept(&site).await.len(), 5);
}

#[tokio::test]
async fn an_administrator_sees_a_reported_event_even_after_it_was_redacted() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "1", "spam").await;
    alice.put(&format!("v3/rooms/{room}/redact/{event}/2"), json!({})).await.ok();
    let room_id = ruma::RoomId::parse(&room).expect("a room id");
    let look = async |event: &str| {
        let event = ruma::EventId::parse(event).expect("an event id");
        site.parts.reads.event_for_administrator(&room_id, &event).await.expect("readable")
    };
    let found = serde_json::to_value(look(&event).await.expect("stored")).expect("JSON");
    assert_eq!((&found["content"]["body"], &found["room_id"]), (&json!("spam"), &json!(room)));
    assert!(look("$nothing").await.is_none());
}
