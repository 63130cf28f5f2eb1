//! What administrators do to accounts, and what everybody may know of their own.

use http::Request;
use primitives::net::ClientAddress;
use serde_json::json;

use crate::support::{Site, User};

async fn set(by: &User<'_>, what: &str, user: &str, to: bool) -> crate::support::Answer {
    let field = if what == "lock" { "locked" } else { "suspended" };
    by.put(&format!("v1/admin/{what}/{user}"), json!({ field: to })).await
}

#[tokio::test]
async fn an_administrator_locks_and_suspends_and_takes_it_back() {
    let site = Site::new().await;
    let (root, bob) = (site.admin("root").await, site.user("bob").await);
    for (what, field) in [("lock", "locked"), ("suspend", "suspended")] {
        let path = format!("v1/admin/{what}/{}", bob.id);
        assert_eq!(root.get(&path).await.ok(), json!({ field: false }));
        assert_eq!(set(&root, what, &bob.id, true).await.ok(), json!({ field: true }));
        assert_eq!(root.get(&path).await.ok(), json!({ field: true }));
        if what == "lock" {
            let body = bob.get("v3/account/whoami").await.refused(401, "M_USER_LOCKED");
            assert_eq!(body["soft_logout"], true);
        } else {
            bob.get("v3/account/whoami").await.ok();
        }
        assert_eq!(set(&root, what, &bob.id, false).await.ok(), json!({ field: false }));
        bob.get("v3/account/whoami").await.ok();
    }
    root.put(&format!("v1/admin/lock/{}", bob.id), json!({})).await.refused(400, "M_MISSING_PARAM");
    root.put(&format!("v1/admin/lock/{}", bob.id), json!({ "locked": "yes" })).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn who_may_not_is_told_so_before_anything_is_looked_up() {
    let site = Site::new().await;
    let (root, other, bob) = (site.admin("root").await, site.admin("other").await, site.user("bob").await);
    for what in ["lock", "suspend"] {
        for id in [&bob.id, "@nobody:hs.test", "@bob:elsewhere", "nonsense"] {
            bob.get(&format!("v1/admin/{what}/{id}")).await.refused(403, "M_FORBIDDEN");
            set(&bob, what, id, true).await.refused(403, "M_FORBIDDEN");
        }
        for (id, status, errcode) in [
            ("@bob:elsewhere", 400, "M_INVALID_PARAM"),
            ("nonsense", 400, "M_INVALID_PARAM"),
            ("@nobody:hs.test", 404, "M_NOT_FOUND"),
            (&other.id, 403, "M_FORBIDDEN"),
        ] {
            root.get(&format!("v1/admin/{what}/{id}")).await.refused(status, errcode);
            set(&root, what, id, true).await.refused(status, errcode);
        }
        root.get(&format!("v1/admin/{what}/{}", root.id)).await.ok();
        set(&root, what, &root.id, true).await.refused(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn what_a_locked_user_has_scheduled_is_cancelled() {
    let site = Site::new().await;
    let (root, bob) = (site.admin("root").await, site.user("bob").await);
    let room = bob.room(json!({})).await;
    let path = format!("v3/rooms/{room}/send/m.room.message/1?org.matrix.msc4140.delay=60000");
    for what in ["lock", "suspend"] {
        bob.put(&path.replace("/1?", &format!("/{what}?")), json!({ "body": "later" })).await.ok();
        assert_eq!(site.parts.delayed.pending(), 1);
        set(&root, what, &bob.id, true).await.ok();
        assert_eq!(site.parts.delayed.pending(), 0);
        set(&root, what, &bob.id, false).await.ok();
    }
}

#[tokio::test]
async fn capabilities_say_who_may_do_what() {
    let site = Site::new().await;
    let (root, bob) = (site.admin("root").await, site.user("bob").await);
    let guest = site.raw(http::Method::POST, "/_matrix/client/v3/register?kind=guest", None, "{}").await.ok();
    let guest = User::from(&site, &guest);
    let of = async |user: &User<'_>| user.get("v3/capabilities").await.ok()["capabilities"].clone();
    let (roots, bobs, guests) = (of(&root).await, of(&bob).await, of(&guest).await);
    assert_eq!(roots["m.account_moderation"], json!({ "suspend": true, "lock": true }));
    assert_eq!(bobs.get("m.account_moderation"), None);
    assert_eq!(
        (&bobs["m.change_password"]["enabled"], &bobs["m.set_avatar_url"]["enabled"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(guests["m.change_password"]["enabled"], false);
    assert_eq!(guests["m.set_avatar_url"]["enabled"], false);
    assert_eq!(guests["m.profile_fields"], json!({ "enabled": true, "allowed": ["displayname"] }));
    set(&root, "suspend", &bob.id, true).await.ok();
    let bobs = of(&bob).await;
    for capability in ["m.set_displayname", "m.set_avatar_url", "m.profile_fields"] {
        assert_eq!(bobs[capability]["enabled"], false, "{capability}");
    }
}

#[tokio::test]
async fn whois_tells_users_of_themselves_and_administrators_of_all() {
    let site = Site::new().await;
    let (root, bob, carol) = (site.admin("root").await, site.user("bob").await, site.user("carol").await);
    let mut request = Request::builder()
        .uri("/_matrix/client/v3/account/whoami")
        .header("authorization", format!("Bearer {}", bob.token))
        .header("user-agent", "Probe")
        .body(axum::body::Body::empty())
        .expect("a request");
    request.extensions_mut().insert(ClientAddress("192.0.2.7".parse().expect("an address")));
    site.ask(request).await.ok();
    let path = format!("v3/admin/whois/{}", bob.id);
    for who in [&bob, &root] {
        let told = who.get(&path).await.ok();
        assert_eq!(told["user_id"], bob.id.as_str());
        let connection = &told["devices"][&bob.device]["sessions"][0]["connections"][0];
        assert_eq!((&connection["ip"], &connection["user_agent"]), (&json!("192.0.2.7"), &json!("Probe")));
        assert_eq!(connection["last_seen"], 1_700_000_000_000_u64);
    }
    carol.get(&path).await.refused(403, "M_FORBIDDEN");
    carol.get("v3/admin/whois/@nobody:hs.test").await.refused(403, "M_FORBIDDEN");
    root.get("v3/admin/whois/@nobody:hs.test").await.refused(404, "M_NOT_FOUND");
    root.get("v3/admin/whois/@bob:elsewhere").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_sync_that_waits_tells_no_news_to_a_session_that_has_ended_meanwhile() {
    let site = Site::new().await;
    let (root, alice, bob) = (site.admin("root").await, site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let (second, third) = (bob.log_in().await, bob.log_in().await);
    let since = bob.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let wait = format!("v3/sync?timeout=30000&since={since}");
    let (waited, ()) = tokio::join!(second.get(&wait), async {
        second.post("v3/logout", json!({})).await.ok();
        alice.say(&room, "1", "news").await;
    });
    waited.refused(401, "M_UNKNOWN_TOKEN");
    let since = bob.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let wait = format!("v3/sync?timeout=30000&since={since}");
    let (waited, ()) = tokio::join!(third.get(&wait), async {
        set(&root, "lock", &bob.id, true).await.ok();
        alice.say(&room, "2", "news").await;
    });
    waited.refused(401, "M_USER_LOCKED");
}
