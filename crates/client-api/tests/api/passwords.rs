//! Changing the password.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Site, User};

const PATH: &str = "v3/account/password";

fn auth(user: &User<'_>, password: &str) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": user.id });
    json!({ "type": "m.login.password", "identifier": identifier, "password": password })
}

async fn log_in(site: &Site, user: &User<'_>, password: &str) -> Answer {
    site.raw(Method::POST, "/_matrix/client/v3/login", None, auth(user, password).to_string()).await
}

#[tokio::test]
async fn another_password_replaces_the_old_one_and_ends_the_other_sessions() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let other = alice.log_in().await;
    let change = json!({ "auth": auth(&alice, "secret word"), "new_password": "second word" });
    assert_eq!(alice.post(PATH, change).await.ok(), json!({}));
    alice.get("v3/account/whoami").await.ok();
    other.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    log_in(&site, &alice, "secret word").await.refused(403, "M_FORBIDDEN");
    let kept = User::from(&site, &log_in(&site, &alice, "second word").await.ok());
    let change = json!({ "auth": auth(&alice, "second word"), "new_password": "third word", "logout_devices": false });
    alice.post(PATH, change).await.ok();
    kept.get("v3/account/whoami").await.ok();
    log_in(&site, &alice, "third word").await.ok();
}

#[tokio::test]
async fn the_old_password_has_to_be_shown_first() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let open = alice.post(PATH, json!({ "new_password": "x" })).await;
    assert_eq!((open.status.as_u16(), &open.body["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let wrong = json!({ "auth": auth(&alice, "wrong"), "new_password": "x" });
    alice.post(PATH, wrong).await.refused(401, "M_FORBIDDEN");
    let others = json!({ "auth": auth(&bob, "secret word"), "new_password": "x" });
    alice.post(PATH, others).await.refused(403, "M_FORBIDDEN");
    for (body, errcode) in [(json!({}), "M_MISSING_PARAM"), (json!({ "new_password": "" }), "M_WEAK_PASSWORD")] {
        let mut body = body;
        body["auth"] = auth(&alice, "secret word");
        alice.post(PATH, body).await.refused(400, errcode);
    }
    let path = format!("/_matrix/client/{PATH}");
    site.raw(Method::POST, &path, None, "{}").await.refused(401, "M_MISSING_TOKEN");
    log_in(&site, &alice, "secret word").await.ok();
}
