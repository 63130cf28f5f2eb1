//! Backups of room keys.

use serde_json::{Value, json};

use crate::support::{Site, User};

const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

/// Makes a backup; its version.
async fn backup(user: &User<'_>) -> String {
    let body = json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": "k" } });
    let answer = user.post("v3/room_keys/version", body).await.ok();
    answer["version"].as_str().expect("a version").to_owned()
}

fn key(first_message_index: u64, forwarded_count: u64, is_verified: bool) -> Value {
    json!({
        "first_message_index": first_message_index,
        "forwarded_count": forwarded_count,
        "is_verified": is_verified,
        "session_data": { "ciphertext": "c" },
    })
}

#[tokio::test]
async fn versions_are_made_read_changed_and_deleted_and_never_given_twice() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    alice.get("v3/room_keys/version").await.refused(404, "M_NOT_FOUND");
    assert_eq!(backup(&alice).await, "1");
    let first = alice.get("v3/room_keys/version").await.ok();
    let auth_data = json!({ "public_key": "k" });
    let whole = |version: &str, auth_data: &Value| json!({ "algorithm": ALGORITHM, "auth_data": auth_data, "count": 0, "etag": "0", "version": version });
    assert_eq!(first, whole("1", &auth_data));
    assert_eq!(backup(&alice).await, "2");
    assert_eq!(alice.get("v3/room_keys/version").await.ok()["version"], "2");
    assert_eq!(alice.get("v3/room_keys/version/1").await.ok(), first);
    let other = json!({ "public_key": "other" });
    let update = |algorithm: &str| json!({ "algorithm": algorithm, "auth_data": other });
    assert_eq!(alice.put("v3/room_keys/version/1", update(ALGORITHM)).await.ok(), json!({}));
    assert_eq!(alice.get("v3/room_keys/version/1").await.ok(), whole("1", &other));
    alice.put("v3/room_keys/version/1", update("other")).await.refused(400, "M_INVALID_PARAM");
    let mut wrong = update(ALGORITHM);
    wrong["version"] = json!("2");
    alice.put("v3/room_keys/version/1", wrong).await.refused(400, "M_INVALID_PARAM");
    for unknown in ["3", "0", "x"] {
        let path = format!("v3/room_keys/version/{unknown}");
        alice.get(&path).await.refused(404, "M_NOT_FOUND");
        alice.put(&path, update(ALGORITHM)).await.refused(404, "M_NOT_FOUND");
        alice.delete(&path, Value::Null).await.refused(404, "M_NOT_FOUND");
    }
    for _ in 0..2 {
        assert_eq!(alice.delete("v3/room_keys/version/2", Value::Null).await.ok(), json!({}));
    }
    alice.get("v3/room_keys/version/2").await.refused(404, "M_NOT_FOUND");
    assert_eq!(alice.get("v3/room_keys/version").await.ok()["version"], "1");
    assert_eq!(backup(&alice).await, "3");
    site.user("bob").await.get("v3/room_keys/version/1").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn of_two_keys_the_better_one_stays() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let version = backup(&alice).await;
    let path = format!("v3/room_keys/keys/!r:hs.test/s?version={version}");
    let put = async |new: Value| {
        let state = alice.put(&path, new).await.ok();
        (state["count"].as_u64().expect("a count"), state["etag"].as_str().expect("an etag").to_owned())
    };
    let mut best = (1, "1".to_owned());
    assert_eq!(put(key(10, 5, false)).await, best);
    for (new, better) in [
        (key(11, 0, false), false),
        (key(10, 6, false), false),
        (key(10, 5, false), false),
        (key(10, 4, false), true),
        (key(9, 9, false), true),
        (key(20, 9, true), true),
        (key(0, 0, false), false),
        (key(20, 8, true), true),
    ] {
        let before = alice.get(&path).await.ok();
        if better {
            best.1 = (best.1.parse::<u64>().expect("a number") + 1).to_string();
        }
        assert_eq!(put(new.clone()).await, best, "{new}");
        assert_eq!(alice.get(&path).await.ok(), if better { new } else { before });
    }
}

#[tokio::test]
async fn keys_are_written_read_and_deleted_one_by_one_by_room_and_all_at_once() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let version = backup(&alice).await;
    let path = |part: &str| format!("v3/room_keys/keys{part}?version={version}");
    assert_eq!(alice.get(&path("")).await.ok(), json!({ "rooms": {} }));
    assert_eq!(alice.get(&path("/!r")).await.ok(), json!({ "sessions": {} }));
    alice.get(&path("/!r/s")).await.refused(404, "M_NOT_FOUND");
    let all = json!({ "rooms": {
        "!a": { "sessions": { "1": key(1, 0, true), "2": key(2, 0, true) } },
        "!b": { "sessions": { "1\"": key(3, 0, true) } },
    } });
    assert_eq!(alice.put(&path(""), all.clone()).await.ok(), json!({ "count": 3, "etag": "1" }));
    assert_eq!(alice.get(&path("")).await.ok(), all);
    assert_eq!(alice.get(&path("/!a")).await.ok(), all["rooms"]["!a"]);
    let one = json!({ "sessions": { "9": key(9, 0, false) } });
    assert_eq!(alice.put(&path("/!c"), one.clone()).await.ok(), json!({ "count": 4, "etag": "2" }));
    assert_eq!(alice.get(&path("/!c")).await.ok(), one);
    assert_eq!(alice.delete(&path("/!a/1"), Value::Null).await.ok(), json!({ "count": 3, "etag": "3" }));
    assert_eq!(alice.delete(&path("/!a/1"), Value::Null).await.ok(), json!({ "count": 3, "etag": "3" }));
    assert_eq!(alice.delete(&path("/!c"), Value::Null).await.ok(), json!({ "count": 2, "etag": "4" }));
    assert_eq!(alice.get("v3/room_keys/version").await.ok()["count"], 2);
    assert_eq!(alice.delete(&path(""), Value::Null).await.ok(), json!({ "count": 0, "etag": "5" }));
    assert_eq!(alice.get(&path("")).await.ok(), json!({ "rooms": {} }));
}

#[tokio::test]
async fn a_wrong_version_is_told_apart_from_one_that_is_not_there() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let (old, new) = (backup(&alice).await, backup(&alice).await);
    let put =
        async |version: &str| alice.put(&format!("v3/room_keys/keys/!r/s?version={version}"), key(0, 0, true)).await;
    let refused = put(&old).await.refused(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refused["current_version"], json!(new));
    put("7").await.refused(404, "M_NOT_FOUND");
    alice.put("v3/room_keys/keys/!r/s", key(0, 0, true)).await.refused(400, "M_MISSING_PARAM");
    alice.delete(&format!("v3/room_keys/version/{new}"), Value::Null).await.ok();
    for part in ["", "/!r", "/!r/s"] {
        let path = format!("v3/room_keys/keys{part}?version={new}");
        alice.get(&path).await.refused(404, "M_NOT_FOUND");
        alice.delete(&path, Value::Null).await.refused(404, "M_NOT_FOUND");
    }
    put(&new).await.refused(404, "M_NOT_FOUND");
    put(&old).await.ok();
    let mut bad = key(0, 0, true);
    bad["first_message_index"] = json!(-1);
    alice.put(&format!("v3/room_keys/keys/!r/s?version={old}"), bad).await.refused(400, "M_BAD_JSON");
    let large = json!({ "first_message_index": 0, "forwarded_count": 0, "is_verified": true, "session_data": { "x": "y".repeat(65_536) } });
    alice.put(&format!("v3/room_keys/keys/!r/s?version={old}"), large).await.refused(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn etag_and_count_are_exact_whoever_writes_at_once() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let version = backup(&alice).await;
    let put = async |session: usize| {
        alice.put(&format!("v3/room_keys/keys/!r/s{session}?version={version}"), key(0, 0, true)).await.ok();
    };
    futures_util::future::join_all((0..20).map(|number| put(number / 2))).await;
    let backup = alice.get("v3/room_keys/version").await.ok();
    assert_eq!((&backup["count"], &backup["etag"]), (&json!(10), &json!("10")));
}

#[tokio::test]
async fn a_large_backup_is_read_back_whole() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let version = backup(&alice).await;
    for part in 0..4 {
        let sessions = |room: usize| {
            (0..1_500).map(|n| (format!("s{room}-{n}"), key(0, 0, true))).collect::<serde_json::Map<_, _>>()
        };
        let rooms =
            (0..4).map(|n| n + 4 * part).map(|room| (format!("!r{room}"), json!({ "sessions": sessions(room) })));
        let rooms = rooms.collect::<serde_json::Map<_, _>>();
        alice.put(&format!("v3/room_keys/keys?version={version}"), json!({ "rooms": rooms })).await.ok();
    }
    assert_eq!(alice.get("v3/room_keys/version").await.ok()["count"], 24_000);
    let all = alice.get(&format!("v3/room_keys/keys?version={version}")).await.ok();
    let rooms = all["rooms"].as_object().expect("rooms");
    assert_eq!(rooms.len(), 16);
    assert!(rooms.values().all(|room| room["sessions"].as_object().is_some_and(|sessions| sessions.len() == 1_500)));
    let one = alice.get(&format!("v3/room_keys/keys/!r3?version={version}")).await.ok();
    assert_eq!(one, rooms["!r3"]);
}
