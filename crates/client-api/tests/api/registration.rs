//! Registering: names, tokens, the first administrator, and sessions of authentication that are good once.

use http::Method;
use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use serde_json::{Value, json};
use storage::Storage;
use testkit::{Parts, server_name};
use users::RegistrationMode;

use crate::support::{Answer, Site, User, mac};

const REGISTER: &str = "/_matrix/client/v3/register";

async fn register(site: &Site, body: Value) -> Answer {
    site.raw(Method::POST, REGISTER, None, body.to_string()).await
}

#[expect(clippy::needless_pass_by_value, reason = "it is made for this")]
fn wish(name: &str, auth: Value) -> Value {
    json!({ "username": name, "password": "secret word", "auth": auth })
}

/// A server that registers in this mode.
async fn site_in(mode: RegistrationMode, guests: bool) -> Site {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let shared: SharedClock = clock.clone();
    let mut options = users::Options::new(server_name());
    options.registration = mode;
    options.allow_guests = guests;
    options.limits.enforce = false;
    options.password_hash.memory_kib = 8;
    options.password_hash.iterations = 1;
    Site::of(Parts::with(Storage::memory(&shared, &Random::seeded(1)), clock, options).await)
}

#[tokio::test]
async fn names_are_made_small_and_hold_only_what_user_ids_may() {
    let site = Site::new().await;
    let dummy = json!({ "type": "m.login.dummy" });
    let made = register(&site, wish("user-UPPER", dummy.clone())).await.ok();
    assert_eq!(made["user_id"], "@user-upper:hs.test");
    for character in ["!", "\"", ":", "?", "\\", "@", "[", "]", "{", "|", "}", "\u{a3}", "\u{e9}", "\n", "'"] {
        let name = format!("user-{character}-reject-please");
        register(&site, wish(&name, dummy.clone())).await.refused(400, "M_INVALID_USERNAME");
    }
    for character in "q3._=-/+".chars() {
        register(&site, wish(&format!("chrtestuser{character}"), dummy.clone())).await.ok();
    }
    let available = format!("{REGISTER}/available?username=");
    let taken = site.raw(Method::GET, &format!("{available}user-upper"), None, "").await;
    assert!(taken.refused(400, "M_USER_IN_USE")["error"].is_string());
    site.raw(Method::GET, &format!("{available}user%2Cname"), None, "").await.refused(400, "M_INVALID_USERNAME");
    site.raw(Method::GET, &format!("{REGISTER}/available"), None, "").await.refused(400, "M_MISSING_PARAM");
    let long = "a".repeat(256);
    register(&site, wish(&long, dummy.clone())).await.refused(400, "M_INVALID_USERNAME");
    let unnamed = register(&site, json!({ "password": "x", "auth": dummy })).await.ok();
    assert!(unnamed["user_id"].as_str().is_some_and(|id| id.ends_with(":hs.test")));
}

#[tokio::test]
async fn a_client_may_want_no_session_or_one_that_is_refreshed() {
    let site = Site::new().await;
    let mut without = wish("alice", json!({ "type": "m.login.dummy" }));
    without["inhibit_login"] = json!(true);
    let made = register(&site, without).await.ok();
    assert_eq!(made["user_id"], "@alice:hs.test");
    assert!(made.get("access_token").is_none() && made.get("device_id").is_none(), "{made}");
    let mut refreshed = wish("bob", json!({ "type": "m.login.dummy" }));
    refreshed["refresh_token"] = json!(true);
    refreshed["initial_device_display_name"] = json!("phone");
    let made = register(&site, refreshed).await.ok();
    assert!(made["refresh_token"].is_string() && made["expires_in_ms"].is_u64(), "{made}");
    let bob = User::from(&site, &made);
    assert_eq!(bob.get(&format!("v3/devices/{}", bob.device)).await.ok()["display_name"], "phone");
    site.raw(Method::POST, &format!("{REGISTER}?kind=admin"), None, "{}").await.refused(400, "M_UNKNOWN");
    for auth in [json!("x"), json!({ "type": 5 }), json!({ "session": [] })] {
        register(&site, wish("carol", auth)).await.refused(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_session_of_authentication_is_good_once_and_for_what_it_was_opened() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let open = register(&site, wish("bob", json!({}))).await;
    assert_eq!(open.status, 401);
    let session = open.body["session"].clone();
    register(&site, wish("bob", json!({ "type": "m.login.dummy", "session": session }))).await.ok();
    // A session that is over, or never was, has no stage behind it: a new one begins.
    for over in [session, json!("nonsense")] {
        let replay = register(&site, wish("carol", json!({ "session": over }))).await;
        assert_eq!((replay.status.as_u16(), &replay.body["completed"]), (401, &json!([])), "{}", replay.body);
        assert_ne!(replay.body["session"], over);
    }
    let never = register(&site, wish("carol", json!({ "type": "m.login.recaptcha" }))).await;
    never.refused(401, "M_UNRECOGNIZED");
    // One that a registration opened deletes no device, nor does one that another user opened.
    let open = register(&site, wish("dan", json!({}))).await.body["session"].clone();
    let other = alice.log_in().await;
    let path = format!("v3/devices/{}", other.device);
    let password = |session: &Value, user: &str| {
        let identifier = json!({ "type": "m.id.user", "user": user });
        json!({ "auth": { "type": "m.login.password", "session": session, "identifier": identifier, "password": "secret word" } })
    };
    let answer = alice.delete(&path, password(&open, &alice.id)).await;
    assert!(!answer.status.is_success(), "{}", answer.body);
    let carol = site.user("carol").await;
    let carols = carol.delete(&path, json!({})).await.body["session"].clone();
    let answer = alice.delete(&path, password(&carols, &alice.id)).await;
    assert!(!answer.status.is_success(), "{}", answer.body);
    alice.delete(&path, password(&Value::Null, &carol.id)).await.refused(403, "M_FORBIDDEN");
    alice.get(&path).await.ok();
    let session = alice.delete(&path, json!({})).await.body["session"].clone();
    alice.delete(&path, password(&session, &alice.id)).await.ok();
    let again = alice.log_in().await;
    let path = format!("v3/devices/{}", again.device);
    let answer = alice.delete(&path, json!({ "auth": { "session": session } })).await;
    assert_eq!((answer.status.as_u16(), &answer.body["completed"]), (401, &json!([])), "{}", answer.body);
    again.get("v3/account/whoami").await.ok();
}

#[tokio::test]
async fn devices_are_deleted_together_without_a_session_named() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let (one, two) = (alice.log_in().await, alice.log_in().await);
    let identifier = json!({ "type": "m.id.user", "user": alice.id });
    let auth = |password: &str| json!({ "type": "m.login.password", "identifier": identifier, "password": password });
    let open = alice.post("v3/delete_devices", json!({ "devices": [one.device, two.device] })).await;
    assert_eq!(open.status, 401);
    for key in ["session", "flows", "params"] {
        assert!(!open.body[key].is_null(), "{key}");
    }
    let wrong = json!({ "devices": [one.device], "auth": auth("super-wrong") });
    let body = alice.post("v3/delete_devices", wrong).await.refused(401, "M_FORBIDDEN");
    for key in ["session", "flows", "params", "error"] {
        assert!(!body[key].is_null(), "{key}");
    }
    let right = json!({ "devices": [one.device, two.device, "NEVER"], "auth": auth("secret word") });
    alice.post("v3/delete_devices", right).await.ok();
    for gone in [&one, &two] {
        gone.get("v3/sync").await.refused(401, "M_UNKNOWN_TOKEN");
        alice.get(&format!("v3/devices/{}", gone.device)).await.refused(404, "M_NOT_FOUND");
    }
    assert_eq!(alice.get("v3/devices").await.ok()["devices"].as_array().map(Vec::len), Some(1));
    alice.post("v3/delete_devices", json!({})).await.refused(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn a_closed_server_lets_in_the_holder_of_the_first_token_as_administrator() {
    let site = site_in(RegistrationMode::Closed, false).await;
    let token = site.parts.users.first_start_token().await.expect("read").expect("an empty store has one");
    let open = register(&site, wish("root", Value::Null)).await;
    assert_eq!(
        (open.status.as_u16(), &open.body["flows"]),
        (401, &json!([{ "stages": ["m.login.registration_token"] }]))
    );
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity";
    let valid = |token: String| {
        let path = format!("{validity}?token={token}");
        let site = &site;
        async move { site.raw(Method::GET, &path, None, "").await.ok()["valid"].clone() }
    };
    assert_eq!((valid(token.clone()).await, valid("wrong".into()).await), (json!(true), json!(false)));
    site.raw(Method::GET, validity, None, "").await.refused(400, "M_MISSING_PARAM");
    let auth = |token: &str, session: &Value| json!({ "type": "m.login.registration_token", "token": token, "session": session });
    let session = &open.body["session"];
    register(&site, wish("root", json!({ "type": "m.login.dummy", "session": session })))
        .await
        .refused(401, "M_UNRECOGNIZED");
    let wrong = register(&site, wish("root", auth("wrong", session))).await.refused(401, "M_UNAUTHORIZED");
    assert_eq!(&wrong["session"], session);
    let root = register(&site, wish("root", auth(&token, session))).await.ok();
    let who = site.parts.users.authenticate(root["access_token"].as_str().expect("a token")).await.expect("let in");
    assert!(who.is_admin);
    let used = site.raw(Method::GET, &format!("{validity}?token={token}"), None, "").await;
    used.refused(403, "M_FORBIDDEN");
    register(&site, wish("late", auth(&token, &Value::Null))).await.refused(403, "M_FORBIDDEN");
    let guest = site.raw(Method::POST, &format!("{REGISTER}?kind=guest"), None, "{}").await;
    assert_eq!(guest.status, 403, "{}", guest.body);
}

#[tokio::test]
async fn a_registration_token_lets_in_as_many_as_it_says() {
    let site = site_in(RegistrationMode::Token, false).await;
    site.parts.users.registration_tokens().create(Some("once"), Some(1), None).await.expect("made");
    let auth = json!({ "type": "m.login.registration_token", "token": "once" });
    let alice = register(&site, wish("alice", auth.clone())).await.ok();
    let who = site.parts.users.authenticate(alice["access_token"].as_str().expect("a token")).await.expect("let in");
    assert!(!who.is_admin);
    register(&site, wish("bob", auth)).await.refused(401, "M_UNAUTHORIZED");
    register(&site, wish("bob", json!({ "type": "m.login.registration_token" }))).await.refused(401, "M_MISSING_PARAM");
}

async fn by_secret(site: &Site, user: &str, admin: bool) -> Answer {
    let path = "/_synapse/admin/v1/register";
    let nonce = site.raw(Method::GET, path, None, "").await.ok()["nonce"].as_str().expect("a nonce").to_owned();
    let mac = mac([&nonce, user, "sUp3rs3kr1t", if admin { "admin" } else { "notadmin" }]);
    let body = json!({ "nonce": nonce, "username": user, "password": "sUp3rs3kr1t", "admin": admin, "mac": mac });
    site.raw(Method::POST, path, None, body.to_string()).await
}

#[tokio::test]
async fn the_shared_secret_makes_users_with_names_as_registration_does() {
    let site = Site::new().await;
    let admin = by_secret(&site, "adminuser", true).await.ok();
    assert_eq!(admin["user_id"], "@adminuser:hs.test");
    let token = admin["access_token"].as_str().expect("a token");
    assert!(site.parts.users.authenticate(token).await.expect("let in").is_admin);
    let user = by_secret(&site, "user-UPPER-shared-SECRET", false).await.ok();
    assert_eq!(user["user_id"], "@user-upper-shared-secret:hs.test");
    assert!(user["device_id"].is_string());
    by_secret(&site, "us,er", false).await.refused(400, "M_INVALID_USERNAME");
    by_secret(&site, "adminuser", false).await.refused(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn login_keeps_the_device_and_takes_any_password() {
    let site = Site::new().await;
    let session =
        register(&site, json!({ "username": "test_user", "password": "\u{fc}bers3kr1t" })).await.body["session"]
            .clone();
    let auth = json!({ "session": session, "type": "m.login.dummy" });
    let body = json!({ "username": "test_user", "password": "\u{fc}bers3kr1t", "device_id": "xyzzy", "auth": auth });
    assert_eq!(register(&site, body).await.ok()["device_id"], "xyzzy");
    let login = |body: Value| site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string());
    let identifier = json!({ "type": "m.id.user", "user": "@TEST_USER:hs.test" });
    let body = json!({ "type": "m.login.password", "identifier": identifier, "password": "\u{fc}bers3kr1t", "device_id": "test_device_id" });
    let made = login(body).await.ok();
    assert_eq!((&made["device_id"], &made["user_id"]), (&json!("test_device_id"), &json!("@test_user:hs.test")));
    assert_eq!(made["well_known"]["m.homeserver"]["base_url"], "https://hs.test");
    User::from(&site, &made).get("v3/account/whoami").await.ok();
    for (body, status, errcode) in [
        (json!({ "type": "m.login.password", "user": "test_user" }), 400, "M_MISSING_PARAM"),
        (json!({ "type": "m.login.password", "password": "x" }), 400, "M_MISSING_PARAM"),
        (json!({ "type": "m.login.password", "user": "@test_user:elsewhere", "password": "x" }), 403, "M_FORBIDDEN"),
        (json!({ "type": "m.login.password", "user": "", "password": "" }), 403, "M_FORBIDDEN"),
        (
            json!({ "type": "m.login.password", "identifier": { "type": "m.id.other" }, "password": "x" }),
            400,
            "M_UNKNOWN",
        ),
        (
            json!({ "type": "m.login.password", "identifier": { "type": "m.id.thirdparty", "medium": "email", "address": "a@b" }, "password": "x" }),
            403,
            "M_FORBIDDEN",
        ),
        (
            json!({ "type": "m.login.password", "identifier": { "type": "m.id.phone", "country": "GB", "phone": "1" }, "password": "x" }),
            403,
            "M_FORBIDDEN",
        ),
    ] {
        login(body).await.refused(status, errcode);
    }
}
