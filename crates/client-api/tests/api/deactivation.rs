//! Deactivating an account.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Site, User, bodies};

const PATH: &str = "v3/account/deactivate";

fn auth(user: &User<'_>, password: &str) -> Value {
    let identifier = json!({ "type": "m.id.user", "user": user.id });
    json!({ "type": "m.login.password", "identifier": identifier, "password": password })
}

#[tokio::test]
async fn a_deactivated_account_is_left_by_its_user_and_closed_for_ever() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = bob.room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await.ok();
    let invited = bob.room(json!({ "invite": [alice.id] })).await;
    let other = alice.log_in().await;
    let path = format!("v3/rooms/{room}/send/m.room.message/1?org.matrix.msc4140.delay=60000");
    alice.put(&path, json!({ "body": "later" })).await.ok();
    let open = alice.post(PATH, json!({})).await;
    assert_eq!((open.status.as_u16(), &open.body["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    alice.post(PATH, json!({ "auth": auth(&alice, "wrong") })).await.refused(401, "M_FORBIDDEN");
    let with_session = |mut auth: Value| {
        auth["session"] = open.body["session"].clone();
        json!({ "auth": auth })
    };
    bob.post(PATH, with_session(auth(&bob, "secret word"))).await.refused(403, "M_FORBIDDEN");
    let done = alice.post(PATH, with_session(auth(&alice, "secret word"))).await.ok();
    assert_eq!(done, json!({ "id_server_unbind_result": "success" }));
    for session in [&alice, &other] {
        session.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    }
    let login = auth(&alice, "secret word").to_string();
    let login = site.raw(Method::POST, "/_matrix/client/v3/login", None, login).await;
    assert_eq!(login.status, 403, "{}", login.body);
    assert_eq!(site.parts.delayed.pending(), 0);
    site.work().await;
    for room in [&room, &invited] {
        assert_eq!(bob.member(room, &alice).await["membership"], "leave");
    }
    let wish = json!({ "username": "alice", "password": "x", "auth": { "type": "m.login.dummy" } });
    let taken = site.raw(Method::POST, "/_matrix/client/v3/register", None, wish.to_string()).await;
    taken.refused(400, "M_USER_IN_USE");
    let nobody = site.raw(Method::POST, &format!("/_matrix/client/{PATH}"), None, "{}").await;
    nobody.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn only_who_asks_for_it_is_erased() {
    for erase in [false, true] {
        let site = Site::new().await;
        let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
        let room = bob.room(json!({ "preset": "public_chat" })).await;
        alice.join(&room).await.ok();
        alice.say(&room, "1", "wonderland").await;
        let name = format!("v3/profile/{}/displayname", alice.id);
        alice.put(&name, json!({ "displayname": "Alice" })).await.ok();
        alice.post(PATH, json!({ "auth": auth(&alice, "secret word"), "erase": erase })).await.ok();
        site.work().await;
        carol.join(&room).await.ok();
        let messages = carol.get(&format!("v3/rooms/{room}/messages?dir=f&limit=100")).await.ok();
        let expected: &[&str] = if erase { &[] } else { &["wonderland"] };
        assert_eq!(bodies(&messages["chunk"]), expected);
        assert_eq!(bob.get(&name).await.status, if erase { 404 } else { 200 });
    }
}
