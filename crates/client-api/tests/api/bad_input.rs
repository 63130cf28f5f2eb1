//! Bad input: the specification's status and errcode, and a store that is left as it was.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::Site;

#[tokio::test]
async fn unknown_paths_wrong_methods_and_what_is_not_built() {
    let site = Site::new().await;
    for path in ["/_matrix/unknown", "/_matrix/client/v1/unknown", "/", "/_matrix/client/v3/searches"] {
        site.raw(Method::GET, path, None, "").await.refused(404, "M_UNRECOGNIZED");
    }
    for (method, path) in [
        (Method::PUT, "/_matrix/client/v3/login"),
        (Method::PUT, "/_matrix/client/v3/pushers"),
        (Method::PATCH, "/_matrix/media/v3/upload"),
    ] {
        site.raw(method, path, None, "").await.refused(405, "M_UNRECOGNIZED");
    }
}

#[tokio::test]
async fn errors_and_preflights_carry_cors_headers() {
    let site = Site::new().await;
    let answer = site.raw(Method::GET, "/_matrix/client/v3/room_keys/version", None, "").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    let request =
        Request::builder().method(Method::OPTIONS).uri("/_matrix/client/v3/sync").header("origin", "https://app.test");
    let answer = site.ask(request.body(axum::body::Body::empty()).expect("a request")).await;
    assert!(answer.status.is_success());
    assert!(answer.headers["access-control-allow-headers"].to_str().expect("text").contains("authorization"));
}

#[tokio::test]
async fn a_slash_at_the_end_and_the_old_prefix_are_tolerated() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    assert_eq!(alice.get("r0/account/whoami/").await.ok()["user_id"], alice.id.as_str());
    alice.get("v3/pushrules/").await.ok();
}

#[tokio::test]
async fn tokens_that_are_missing_empty_or_unknown() {
    let site = Site::new().await;
    let path = "/_matrix/client/v3/account/whoami";
    site.raw(Method::GET, path, None, "").await.refused(401, "M_MISSING_TOKEN");
    site.raw(Method::GET, path, Some(""), "").await.refused(401, "M_MISSING_TOKEN");
    site.raw(Method::GET, path, Some("nonsense"), "").await.refused(401, "M_UNKNOWN_TOKEN");
    site.raw(Method::GET, &format!("{path}?access_token="), None, "").await.refused(401, "M_MISSING_TOKEN");
    let alice = site.user("alice").await;
    site.raw(Method::GET, &format!("{path}?access_token={}", alice.token), None, "").await.ok();
}

/// The newest event of a room, to see that nothing was added.
async fn newest(alice: &crate::support::User<'_>, room: &str) -> Value {
    alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=1")).await.ok()["chunk"][0]["event_id"].clone()
}

#[tokio::test]
async fn bodies_that_are_no_event_are_refused_and_nothing_is_stored() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let before = newest(&alice, &room).await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(101), "]".repeat(101));
    let big = json!({ "body": "x".repeat(66_000) }).to_string();
    let huge = json!({ "body": "x".repeat(2_000_000) }).to_string();
    let cases: [(&[u8], u16, &str); 9] = [
        (b"{", 400, "M_NOT_JSON"),
        (b"{\"a\":\"\x81\"}", 400, "M_NOT_JSON"),
        (b"[]", 400, "M_BAD_JSON"),
        (b"{\"a\":1.5}", 400, "M_BAD_JSON"),
        (b"{\"a\":9007199254740992}", 400, "M_BAD_JSON"),
        (b"{\"a\":-9007199254740992}", 400, "M_BAD_JSON"),
        (deep.as_bytes(), 400, "M_BAD_JSON"),
        (big.as_bytes(), 413, "M_TOO_LARGE"),
        (huge.as_bytes(), 413, "M_TOO_LARGE"),
    ];
    for (count, (body, status, errcode)) in cases.into_iter().enumerate() {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/t{count}");
        site.raw(Method::PUT, &path, Some(&alice.token), body.to_vec()).await.refused(status, errcode);
    }
    assert_eq!(newest(&alice, &room).await, before);
}

#[tokio::test]
async fn wrong_types_in_requests() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for body in [
        json!({ "room_version": 1 }),
        json!({ "invite": "x" }),
        json!({ "invite": ["not a user"] }),
        json!({ "name": 5 }),
    ] {
        alice.post("v3/createRoom", body).await.refused(400, "M_BAD_JSON");
    }
    alice.post("v3/createRoom", json!({ "room_version": "nope" })).await.refused(400, "M_UNSUPPORTED_ROOM_VERSION");
    alice.post("v3/login", json!({ "type": 5 })).await.refused(400, "M_BAD_JSON");
    alice.post("v3/login", json!({})).await.refused(400, "M_MISSING_PARAM");
    let room = alice.room(json!({})).await;
    alice.post(&format!("v3/rooms/{room}/invite"), json!({})).await.refused(400, "M_MISSING_PARAM");
    let third = json!({ "medium": "email", "address": "a@b.c", "id_server": "id.test", "id_access_token": "t" });
    alice.post(&format!("v3/rooms/{room}/invite"), third).await.refused(403, "M_THREEPID_DENIED");
    alice.post(&format!("v3/rooms/{room}/kick"), json!({ "user_id": 5 })).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn what_is_not_there_or_not_ones_own() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, other) = (alice.room(json!({})).await, alice.room(json!({})).await);
    let event = alice.say(&room, "1", "hello").await;
    alice.get(&format!("v3/rooms/{other}/event/{event}")).await.refused(404, "M_NOT_FOUND");
    alice.get(&format!("v3/rooms/{room}/event/$nonsense")).await.refused(404, "M_NOT_FOUND");
    bob.get(&format!("v3/rooms/{room}/event/{event}")).await.refused(404, "M_NOT_FOUND");
    bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    bob.put(&format!("v3/rooms/{room}/send/m.room.message/1"), json!({})).await.refused(403, "M_FORBIDDEN");
    let path = "v3/rooms/!unknown:hs.test/send/m.room.message/1";
    assert!(alice.put(path, json!({})).await.status.is_client_error());
    alice.post("v3/join/!unknown:hs.test", json!({})).await.refused(404, "M_NOT_FOUND");
    alice.post("v3/join/nonsense", json!({})).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn tokens_and_parameters_of_reads() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    for query in [
        "since=nonsense",
        "since=s1_2_3",
        "since=",
        "timeout=x",
        "full_state=maybe",
        "filter={",
        "filter=%7B%22room%22:5%7D",
    ] {
        let answer = alice.get(&format!("v3/sync?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
    for query in ["dir=x", "", "dir=b&from=nonsense", "dir=b&limit=x", "dir=b&filter=%7B%22types%22:5%7D"] {
        let answer = alice.get(&format!("v3/rooms/{room}/messages?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
    alice.get(&format!("v3/rooms/{room}/members?membership=maybe")).await.refused(400, "M_INVALID_PARAM");
    alice.get(&format!("v3/rooms/{room}/state/m.room.create?format=x")).await.refused(400, "M_INVALID_PARAM");
}
