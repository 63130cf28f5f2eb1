//! What is no event: the peer may speak for its own users and for nobody else, and floods cost no more than what they are worth.

use http::StatusCode;
use rooms::{Reader, sync::SyncRequest, tokens::SyncToken};
use serde_json::{Value, json};
use storage::{Direction, KeyRange, schema::to_device::ToDevice};
use users::{Authority, NewAccount, NewSession};

use super::stage::{MALLORY, Stage};

/// A device of Bob's, who is in the room, and what it has seen so far.
pub(crate) struct Device {
    pub(crate) reader: Reader,
    since: SyncToken,
}

impl Stage {
    /// Sends EDUs in one transaction, which is answered.
    pub(crate) async fn send_edus(&self, edus: &[Value]) {
        let answer = self.evil.transaction(&self.here.name, &[], edus).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        self.here.parts.projections.catch_up_all().await.expect("they follow");
        self.here.parts.jobs.run_due().await.expect("readable");
    }

    pub(crate) async fn bobs_device(&self) -> Device {
        let account = NewAccount {
            authority: Authority::Administrator { admin: false, user_type: None },
            username: Some("bob".to_owned()),
            password: None,
            display_name: None,
            session: Some(NewSession { device_id: Some("PHONE".into()), ..NewSession::default() }),
        };
        self.here.parts.users.register(account).await.expect("registered");
        let user_id = ruma::user_id!("@bob:hs.test").to_owned();
        self.room.join(&user_id, rooms::Details::default()).await.expect("joined");
        let user_nid = self.here.parts.users.nid(&user_id).await.expect("readable").expect("registered");
        let reader = Reader { user_id, user_nid, device_id: Some("PHONE".into()) };
        self.here.parts.projections.catch_up_all().await.expect("they follow");
        let first = self.here.parts.reads.sync(&reader, SyncRequest::default()).await.expect("synced");
        Device { reader, since: first.next_batch }
    }

    /// What is new for the device, as JSON.
    pub(crate) async fn news(&self, device: &mut Device) -> String {
        let request = SyncRequest { since: Some(device.since), ..SyncRequest::default() };
        let synced = self.here.parts.reads.sync(&device.reader, request).await.expect("synced");
        device.since = synced.next_batch;
        // The token is no news.
        let mut news = serde_json::to_value(&synced).expect("JSON");
        news.as_object_mut().expect("an object").remove("next_batch");
        news.to_string()
    }

    /// How many messages wait for devices.
    async fn waiting_messages(&self) -> usize {
        let (view, all) = (self.here.parts.storage.view(), KeyRange::prefix(&()));
        view.scan::<ToDevice>(&all, 10_000, Direction::Forward).await.expect("readable").rows.len()
    }
}

fn to_device(sender: &str, message_id: &str, target: &str, device: &str) -> Value {
    let messages = json!({ target: { device: { "body": "marked" } } });
    let content = json!({ "sender": sender, "type": "test.message", "message_id": message_id, "messages": messages });
    json!({ "edu_type": "m.direct_to_device", "content": content })
}

fn device_list(user: &str, stream_id: u64, prev: &[u64]) -> Value {
    let content = json!({
        "user_id": user, "device_id": "MARKED", "device_display_name": "marked", "stream_id": stream_id, "prev_id": prev,
        "keys": { "user_id": user, "device_id": "MARKED", "algorithms": [], "keys": {}, "signatures": {} },
    });
    json!({ "edu_type": "m.device_list_update", "content": content })
}

fn signing_keys(user: &str) -> Value {
    let key = json!({ "user_id": user, "usage": ["master"], "keys": { "ed25519:marked": "marked" } });
    json!({ "edu_type": "m.signing_key_update", "content": { "user_id": user, "master_key": key } })
}

#[tokio::test]
async fn messages_to_devices_come_from_its_own_users_only() {
    let stage = Stage::new("12").await;
    let mut phone = stage.bobs_device().await;
    for (n, sender) in
        ["@alice:hs.test", "@fred:friend.test", "mallory", "@mallory:evil.test:8448", "@mallory:EVIL.test"]
            .iter()
            .enumerate()
    {
        stage.send_edus(&[to_device(sender, &n.to_string(), "@bob:hs.test", "PHONE")]).await;
        assert!(!stage.news(&mut phone).await.contains("marked"), "{sender}");
    }
    stage.send_edus(&[to_device(MALLORY, "good", "@bob:hs.test", "PHONE")]).await;
    assert!(stage.news(&mut phone).await.contains("marked"));
    // Once, however often it is sent.
    for _ in 0..3 {
        stage.send_edus(&[to_device(MALLORY, "good", "@bob:hs.test", "PHONE")]).await;
    }
    assert!(!stage.news(&mut phone).await.contains("marked"));
    stage.goes_on().await;
}

#[tokio::test]
async fn messages_for_users_who_are_not_there_are_kept_nowhere() {
    let stage = Stage::new("12").await;
    drop(stage.bobs_device().await);
    for page in 0..5 {
        let edus: Vec<_> = (0..100)
            .map(|n| {
                let id = format!("{page} {n}");
                match n % 4 {
                    0 => to_device(MALLORY, &id, &format!("@nobody{page}x{n}:hs.test"), "*"),
                    1 => to_device(MALLORY, &id, "@bob:hs.test", &format!("NODEVICE{n}")),
                    2 => to_device(MALLORY, &id, "@fred:friend.test", "*"),
                    _ => to_device(MALLORY, &id, "not a user", "*"),
                }
            })
            .collect();
        stage.send_edus(&edus).await;
    }
    assert_eq!(stage.waiting_messages().await, 0);
    stage.goes_on().await;
}

#[tokio::test]
async fn device_lists_and_keys_are_told_by_their_users_server_only() {
    let stage = Stage::new("12").await;
    let mut phone = stage.bobs_device().await;
    for user in ["@alice:hs.test", "@fred:friend.test", "@mallory:EVIL.test", "nobody"] {
        stage.send_edus(&[device_list(user, 5, &[]), signing_keys(user)]).await;
        let news = stage.news(&mut phone).await;
        assert!(!news.contains("changed") && !news.contains("marked"), "{user}: {news}");
    }
    stage.send_edus(&[device_list(MALLORY, 5, &[])]).await;
    assert!(stage.news(&mut phone).await.contains(MALLORY), "its own user's list has changed");
    stage.goes_on().await;
}

#[tokio::test]
async fn a_flood_of_device_lists_is_asked_about_a_few_times() {
    let stage = Stage::new("12").await;
    drop(stage.bobs_device().await);
    for page in 0..5 {
        // Users who are in no room here.
        let edus: Vec<_> = (0..100).map(|n| device_list(&format!("@u{page}x{n}:evil.test"), n, &[])).collect();
        stage.send_edus(&edus).await;
        // The one who is, with numbers that don't follow on each other.
        let edus: Vec<_> = (0..100).map(|n| device_list(MALLORY, 1_000 * page + 7 * n, &[3])).collect();
        stage.send_edus(&edus).await;
    }
    let asked = stage.evil.scripts.times_asked("/_matrix/federation/v1/user/devices/");
    assert!(asked <= 20, "asked {asked} times");
    stage.goes_on().await;
}

#[tokio::test]
async fn nonsense_in_one_edu_does_no_harm_to_the_next() {
    let stage = Stage::new("12").await;
    let mut phone = stage.bobs_device().await;
    let mut edus = Vec::new();
    for kind in [
        "m.typing",
        "m.receipt",
        "m.presence",
        "m.direct_to_device",
        "m.device_list_update",
        "m.signing_key_update",
        "test.unknown",
    ] {
        for content in [
            json!(null),
            json!([]),
            json!("x"),
            json!({}),
            json!({ "user_id": 5 }),
            json!({ "push": [{ "user_id": [] }] }),
            json!({ "room_id": "nonsense", "user_id": MALLORY, "typing": "yes" }),
            json!({ "sender": MALLORY, "type": 5, "message_id": [], "messages": { "@bob:hs.test": 7 } }),
            json!({ stage.room.id().as_str(): { "m.read": { MALLORY: { "event_ids": "x", "data": 5 } } } }),
        ] {
            edus.push(json!({ "edu_type": kind, "content": content }));
        }
    }
    edus.truncate(99);
    edus.push(to_device(MALLORY, "after nonsense", "@bob:hs.test", "PHONE"));
    stage.send_edus(&edus).await;
    assert!(stage.news(&mut phone).await.contains("marked"));
    stage.goes_on().await;
}
