//! What holds for every endpoint: methods, headers, encodings; and what a client asks first.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::Site;

#[tokio::test]
async fn versions_and_capabilities_say_what_there_is() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let versions = site.raw(Method::GET, "/_matrix/client/versions", None, "").await.ok();
    let listed = versions["versions"].as_array().expect("versions").clone();
    for minor in 1..=19 {
        assert!(listed.contains(&json!(format!("v1.{minor}"))), "{versions}");
    }
    assert!(versions["unstable_features"].as_object().expect("features").values().all(Value::is_boolean));
    site.raw(Method::GET, "/_matrix/client/v3/capabilities", None, "").await.refused(401, "M_MISSING_TOKEN");
    let capabilities = alice.get("v3/capabilities").await.ok()["capabilities"].clone();
    assert!(capabilities["m.room_versions"]["default"].is_string());
    assert!(capabilities["m.change_password"]["enabled"].is_boolean());
    let well_known = site.raw(Method::GET, "/.well-known/matrix/client", None, "").await.ok();
    assert_eq!(well_known["m.homeserver"]["base_url"], "https://hs.test");
    site.raw(Method::GET, "/.well-known/matrix/support", None, "").await.refused(404, "M_NOT_FOUND");
    let rules = alice.get("v3/pushrules/").await.ok();
    assert!(rules["global"]["override"].as_array().is_some_and(|rules| !rules.is_empty()));
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let site = Site::new().await;
    for path in ["/_matrix/client/versions", "/.well-known/matrix/client", "/_matrix/client/v3/login"] {
        let got = site.raw(Method::GET, path, None, "").await;
        let head = site.raw(Method::HEAD, path, None, "").await;
        assert_eq!((head.status, &head.body), (got.status, &Value::Null), "{path}");
        assert_eq!(head.headers.get("content-type"), got.headers.get("content-type"));
        assert_eq!(head.headers["access-control-allow-origin"], "*");
    }
    assert_eq!(site.raw(Method::HEAD, "/_matrix/client/v3/createRoom", None, "").await.status, 405);
    assert_eq!(site.raw(Method::HEAD, "/_matrix/client/v3/nothing", None, "").await.status, 404);
}

#[tokio::test]
async fn a_preflight_needs_no_token_and_every_answer_is_json_for_every_origin() {
    let site = Site::new().await;
    for path in
        ["/_matrix/client/v3/createRoom", "/_matrix/client/v3/rooms/!a:b/send/x/y", "/.well-known/matrix/client"]
    {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri(path)
            .header("origin", "https://app.test")
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "authorization,content-type");
        let answer = site.ask(request.body(axum::body::Body::empty()).expect("a request")).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.status);
        let methods = answer.headers["access-control-allow-methods"].to_str().expect("text");
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            assert!(methods.contains(method), "{methods}");
        }
        // Some clients ask without saying so in the headers.
        let plain = site.raw(Method::OPTIONS, path, None, "").await;
        assert!(plain.status.is_success(), "{path}: {}", plain.status);
    }
    for path in ["/_matrix/client/v3/account/whoami", "/nothing", "/_matrix/client/versions"] {
        let answer = site.raw(Method::GET, path, None, "").await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
}

#[tokio::test]
async fn parameters_and_keys_that_nobody_knows_are_passed_over() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "unknown": { "deep": [1, 2.5, null] }, "room_opts": {} })).await;
    alice.get("v3/sync?timeout=0&unknown=1&unknown=2&set_presence=offline").await.ok();
    alice.get("v3/account/whoami?user_id=@alice:hs.test").await.ok();
    alice.get(&format!("v3/rooms/{room}/messages?dir=b&unknown")).await.ok();
    alice.put(&format!("v3/rooms/{room}/send/x/1?unknown=%FF"), json!({})).await.ok();
    alice.get("v3/sync?timeout=").await.refused(400, "M_INVALID_PARAM");
    alice.get("v3/sync?timeout=99999999999999999999").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn arguments_are_decoded_once_and_never_split() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let encoded = room.replace('!', "%21").replace(':', "%3A");
    alice.put(&format!("v3/rooms/{encoded}/state/test%2Etype/a%2Fb"), json!({ "key": 1 })).await.ok();
    assert_eq!(alice.get(&format!("v3/rooms/{room}/state/test.type/a%2Fb")).await.ok()["key"], 1);
    for key in ["..", "%2e%2e", "%2E%2E%2Fx", "%25", "a%2fb%3Fc", "%E2%9C%93", "a+b", "%20", "%00"] {
        let path = format!("v3/rooms/{room}/state/test.key/{key}");
        alice.put(&path, json!({ "key": key })).await.ok();
        assert_eq!(alice.get(&path).await.ok()["key"], key);
    }
    let state = alice.get(&format!("v3/rooms/{room}/state")).await.ok();
    let keys: Vec<_> = state.as_array().expect("events").iter().filter(|event| event["type"] == "test.key").collect();
    assert!(keys.iter().any(|event| event["state_key"] == "\u{2713}"));
    assert!(keys.iter().any(|event| event["state_key"] == "a+b"));
    assert!(keys.iter().any(|event| event["state_key"] == "../x"));
    // ".." and its encoded form are one key.
    assert_eq!(keys.len(), 8);
    for path in
        [format!("v3/rooms/{room}/state/x/%FF"), format!("v3/rooms/{room}/send/%FF/1"), "v3/rooms/%FF/state".into()]
    {
        let answer = alice.put(&path, json!({})).await;
        assert!(matches!(answer.status.as_u16(), 400 | 405), "{path}: {}", answer.body);
    }
    for path in [
        "//_matrix/client/versions",
        "/_matrix//client/versions",
        "/_matrix/client/v3/../versions",
        "/_matrix/client/%76ersions",
    ] {
        let answer = site.raw(Method::GET, path, None, "").await;
        assert!(matches!(answer.status.as_u16(), 200 | 404), "{path}: {}", answer.status);
    }
    let answer = site.raw(Method::GET, "/_matrix/client/v3/rooms//state", Some(&alice.token), "").await;
    assert!(answer.status.is_client_error(), "{}", answer.body);
}

#[tokio::test]
async fn no_json_and_the_wrong_json_are_told_apart() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "room_version": "6" })).await;
    let token = Some(alice.token.as_str());
    let register = "/_matrix/client/v3/register";
    site.raw(Method::POST, register, None, &b"{ \"test\":\"a\x81\" }"[..]).await.refused(400, "M_NOT_JSON");
    for (body, errcode) in [
        ("{\"body\": 9007199254740992}", "M_BAD_JSON"),
        ("{\"body\": -9007199254740992}", "M_BAD_JSON"),
        ("{\"body\": 1.1}", "M_BAD_JSON"),
        ("{\"body\": 1e3}", "M_BAD_JSON"),
        ("{\"body\": 123456789012345678901234567890}", "M_BAD_JSON"),
        ("{\"body\": Infinity}", "M_NOT_JSON"),
        ("{\"body\": -Infinity}", "M_NOT_JSON"),
        ("{\"body\": NaN}", "M_NOT_JSON"),
        ("{\"body\": 01}", "M_NOT_JSON"),
        ("{\"body\": \"\\ud800\"}", "M_NOT_JSON"),
        ("{\"body\": \"a\nb\"}", "M_NOT_JSON"),
        ("{} x", "M_NOT_JSON"),
        ("5", "M_BAD_JSON"),
        ("null", "M_BAD_JSON"),
        ("\"text\"", "M_BAD_JSON"),
    ] {
        for path in ["send/complement.dummy/1", "state/complement.dummy"] {
            let path = format!("/_matrix/client/v3/rooms/{room}/{path}");
            let answer = site.raw(Method::PUT, &path, token, body).await;
            assert_eq!((answer.status.as_u16(), &answer.body["errcode"]), (400, &json!(errcode)), "{body}");
        }
    }
    let big = json!({ "body": "Dormammu, I've Come To Bargain.\n".repeat(2200) });
    alice.put(&format!("v3/rooms/{room}/state/marvel.universe.fate"), big.clone()).await.refused(413, "M_TOO_LARGE");
    alice.put(&format!("v3/rooms/{room}/send/m.room.message/1"), big).await.refused(413, "M_TOO_LARGE");
    let long = "x".repeat(256);
    let answer = alice.put(&format!("v3/rooms/{room}/send/{long}/1"), json!({})).await;
    assert!(matches!(answer.status.as_u16(), 400 | 413), "{}", answer.body);
    let answer = alice.put(&format!("v3/rooms/{room}/state/x/{long}"), json!({})).await;
    assert!(matches!(answer.status.as_u16(), 400 | 413), "{}", answer.body);
}

#[tokio::test]
async fn a_body_is_read_whatever_its_content_type_and_may_be_left_out() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let answer = site.raw(Method::POST, &format!("/_matrix/client/v3/rooms/{room}/join"), Some(&bob.token), "").await;
    answer.ok();
    let answer = site.raw(Method::POST, "/_matrix/client/v3/createRoom", Some(&bob.token), "").await;
    answer.ok();
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/typed"))
        .header("authorization", format!("Bearer {}", bob.token))
        .header("content-type", "text/plain");
    site.ask(request.body("{\"body\":\"x\"}".into()).expect("a request")).await.ok();
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/zipped"))
        .header("authorization", format!("Bearer {}", bob.token))
        .header("content-encoding", "gzip");
    assert_eq!(site.ask(request.body("{}".into()).expect("a request")).await.status, 415);
}

#[tokio::test]
async fn a_token_in_the_header_wins_and_other_schemes_are_none() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let path = format!("/_matrix/client/v3/account/whoami?access_token={}", alice.token);
    assert_eq!(site.raw(Method::GET, &path, Some(&bob.token), "").await.ok()["user_id"], bob.id.as_str());
    for value in ["Basic YTpi".to_owned(), format!("bearer {}", bob.token), bob.token.clone()] {
        let ask = Request::builder().uri("/_matrix/client/v3/account/whoami").header("authorization", &value);
        let answer = site.ask(ask.body(axum::body::Body::empty()).expect("a request")).await;
        assert_eq!(answer.status, if value.starts_with("bearer") { 200 } else { 401 }, "{value}");
    }
}
