//! Registering, logging in and out.

use http::Method;
use serde_json::json;

use crate::support::{Site, User, mac};

const REGISTER: &str = "/_matrix/client/v3/register";

#[tokio::test]
async fn registration_asks_for_its_stages_and_then_logs_in() {
    let site = Site::new().await;
    let wish = json!({ "username": "alice", "password": "secret word" });
    let open = site.raw(Method::POST, REGISTER, None, wish.to_string()).await;
    assert_eq!(open.status, 401);
    assert!(open.body["flows"].as_array().expect("flows").contains(&json!({ "stages": ["m.login.dummy"] })));
    assert!(open.body.get("errcode").is_none());
    let auth = json!({ "type": "m.login.dummy", "session": open.body["session"] });
    let wish = json!({ "username": "alice", "password": "secret word", "device_id": "HERE", "auth": auth });
    let alice = site.raw(Method::POST, REGISTER, None, wish.to_string()).await.ok();
    assert_eq!((&alice["user_id"], &alice["device_id"]), (&json!("@alice:hs.test"), &json!("HERE")));
    let alice = User::from(&site, &alice);
    let who = alice.get("v3/account/whoami").await.ok();
    assert_eq!(who, json!({ "user_id": alice.id, "device_id": "HERE", "is_guest": false }));
    site.raw(Method::POST, REGISTER, None, wish.to_string()).await.refused(400, "M_USER_IN_USE");
    let taken = site.raw(Method::GET, &format!("{REGISTER}/available?username=alice"), None, "").await;
    taken.refused(400, "M_USER_IN_USE");
    let free = site.raw(Method::GET, &format!("{REGISTER}/available?username=bob"), None, "").await.ok();
    assert_eq!(free["available"], true);
}

#[tokio::test]
async fn names_that_nobody_can_have_are_refused() {
    let site = Site::new().await;
    for name in ["a b", "ü", "", "a!b"] {
        let wish = json!({ "username": name, "password": "x", "auth": { "type": "m.login.dummy" } });
        site.raw(Method::POST, REGISTER, None, wish.to_string()).await.refused(400, "M_INVALID_USERNAME");
    }
}

#[tokio::test]
async fn a_guest_is_one_and_stays_out_of_what_is_closed_to_guests() {
    let site = Site::new().await;
    let guest = site.raw(Method::POST, &format!("{REGISTER}?kind=guest"), None, "{}").await.ok();
    let guest = User::from(&site, &guest);
    assert_eq!(guest.get("v3/account/whoami").await.ok()["is_guest"], true);
}

#[tokio::test]
async fn login_takes_every_form_of_the_name_and_no_wrong_password() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for user in [json!("alice"), json!(alice.id), json!("Alice")] {
        let identifier = json!({ "type": "m.id.user", "user": user });
        let body = json!({ "type": "m.login.password", "identifier": identifier, "password": "secret word" });
        let session = site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string()).await.ok();
        assert_eq!(session["user_id"], alice.id.as_str());
    }
    let old = json!({ "type": "m.login.password", "user": "alice", "password": "secret word" });
    site.raw(Method::POST, "/_matrix/client/v3/login", None, old.to_string()).await.ok();
    for (user, password) in [("alice", "wrong"), ("nobody", "secret word")] {
        let body = json!({ "type": "m.login.password", "user": user, "password": password });
        site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string()).await.refused(403, "M_FORBIDDEN");
    }
    let body = json!({ "type": "m.login.token", "token": "x" });
    site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string()).await.refused(400, "M_UNKNOWN");
}

#[tokio::test]
async fn a_logout_ends_one_session_or_all() {
    let site = Site::new().await;
    let first = site.user("alice").await;
    let (second, third) = (first.log_in().await, first.log_in().await);
    second.post("v3/logout", json!({})).await.ok();
    let body = second.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    assert_eq!(body["soft_logout"], false);
    third.post("v3/logout/all", json!({})).await.ok();
    first.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn refreshed_tokens_replace_the_old_ones_once_used() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let body = json!({ "type": "m.login.password", "user": "alice", "password": "secret word", "refresh_token": true });
    let session = site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string()).await.ok();
    assert!(session["expires_in_ms"].as_u64().is_some_and(|ms| ms > 0), "{session}");
    let refresh = json!({ "refresh_token": session["refresh_token"] }).to_string();
    let renewed = site.raw(Method::POST, "/_matrix/client/v3/refresh", None, refresh.clone()).await.ok();
    let with = |token: &serde_json::Value| User { token: token.as_str().expect("a token").to_owned(), ..alice.clone() };
    with(&session["access_token"]).get("v3/account/whoami").await.ok();
    with(&renewed["access_token"]).get("v3/account/whoami").await.ok();
    with(&session["access_token"]).get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    site.raw(Method::POST, "/_matrix/client/v3/refresh", None, refresh).await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn the_shared_secret_makes_an_administrator() {
    let site = Site::new().await;
    let path = "/_synapse/admin/v1/register";
    let nonce = site.raw(Method::GET, path, None, "").await.ok()["nonce"].as_str().expect("a nonce").to_owned();
    let mac = mac([&nonce, "root", "pass", "admin"]);
    let body = json!({ "nonce": nonce, "username": "root", "password": "pass", "admin": true, "mac": mac });
    let wrong = json!({ "nonce": nonce, "username": "root", "password": "pass", "admin": false, "mac": mac });
    site.raw(Method::POST, path, None, wrong.to_string()).await.refused(403, "M_FORBIDDEN");
    let made = site.raw(Method::POST, path, None, body.to_string()).await.ok();
    assert_eq!(made["user_id"], "@root:hs.test");
    site.raw(Method::POST, path, None, body.to_string()).await.refused(400, "M_UNKNOWN");
}

#[tokio::test]
async fn a_profile_is_read_by_all_and_written_by_its_owner() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let path = |field: &str| format!("v3/profile/{}/{field}", alice.id);
    alice.put(&path("displayname"), json!({ "displayname": "Alice" })).await.ok();
    alice.put(&path("m.tz"), json!({ "m.tz": "Europe/Berlin" })).await.ok();
    bob.put(&path("displayname"), json!({ "displayname": "Mallory" })).await.refused(403, "M_FORBIDDEN");
    let whole = bob.get(&format!("v3/profile/{}", alice.id)).await.ok();
    assert_eq!(whole, json!({ "displayname": "Alice", "m.tz": "Europe/Berlin" }));
    alice.call(Method::DELETE, &path("m.tz"), json!({})).await.ok();
    bob.get(&path("m.tz")).await.refused(404, "M_NOT_FOUND");
    bob.get("v3/profile/@nobody:hs.test").await.refused(404, "M_NOT_FOUND");
}
