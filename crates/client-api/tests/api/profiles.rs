//! A changed profile in the user's rooms (client-server API, "Events on Change of Profile Information").

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use ruma::OwnedServerName;
use serde_json::json;

use crate::support::Site;

/// A server of this name that answers everything so.
fn answering(site: &Site, name: &str, status: StatusCode, body: &'static str) {
    let name = OwnedServerName::try_from(name).expect("a name");
    site.servers.serve(name, move |_| async move {
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        *response.status_mut() = status;
        response
    });
}

#[tokio::test]
async fn another_servers_user_is_looked_up_there_and_its_errors_are_not_passed_on_raw() {
    let site = Site::new().await;
    let get = async |path: &str| site.raw(Method::GET, &format!("/_matrix/client/v3/profile/{path}"), None, "").await;
    answering(&site, "good.test", StatusCode::OK, r#"{"displayname":"Bob","avatar_url":7,"m.tz":"UTC"}"#);
    assert_eq!(get("@bob:good.test").await.ok(), json!({ "displayname": "Bob", "m.tz": "UTC" }), "no number for a URL");
    assert_eq!(get("@bob:good.test/displayname").await.ok(), json!({ "displayname": "Bob" }));
    let asked = site.servers.asked().pop().expect("asked").1;
    assert_eq!(asked, "GET /_matrix/federation/v1/query/profile?user_id=%40bob%3Agood.test&field=displayname");
    get("@bob:good.test/avatar_url").await.refused(404, "M_NOT_FOUND");
    answering(&site, "none.test", StatusCode::NOT_FOUND, r#"{"errcode":"M_NOT_FOUND"}"#);
    get("@bob:none.test").await.refused(404, "M_NOT_FOUND");
    answering(&site, "out.test", StatusCode::UNAUTHORIZED, r#"{"errcode":"M_UNKNOWN_TOKEN"}"#);
    get("@bob:out.test").await.refused(502, "M_UNKNOWN");
    answering(&site, "bad.test", StatusCode::OK, "[]");
    get("@bob:bad.test").await.refused(502, "M_UNKNOWN");
    // Who isn't there is not asked again at once.
    let asked = site.servers.asked().len();
    for _ in 0..3 {
        get("@bob:gone.test").await.refused(502, "M_UNKNOWN");
    }
    assert_eq!(site.servers.asked().len(), asked + 1);
}

#[tokio::test]
async fn a_changed_name_and_avatar_reach_the_rooms_and_their_syncs() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = alice.sync(None).await["next_batch"].clone();
    bob.put(&format!("v3/profile/{}/displayname", bob.id), json!({ "displayname": "Bob" })).await.ok();
    bob.put(&format!("v3/profile/{}/avatar_url", bob.id), json!({ "avatar_url": "mxc://hs.test/b" })).await.ok();
    site.work().await;
    let whole = json!({ "membership": "join", "displayname": "Bob", "avatar_url": "mxc://hs.test/b" });
    assert_eq!(alice.member(&room, &bob).await, whole);
    let synced = alice.sync(Some(&since)).await;
    let events = synced["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("events").clone();
    assert_eq!(events.last().expect("the change")["content"], whole);
    bob.delete(&format!("v3/profile/{}/displayname", bob.id), json!({})).await.ok();
    bob.put(&format!("v3/profile/{}/avatar_url", bob.id), json!({})).await.ok();
    site.work().await;
    assert_eq!(alice.member(&room, &bob).await, json!({ "membership": "join" }));
}

#[tokio::test]
async fn a_change_that_is_refused_reaches_no_room() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let name = format!("v3/profile/{}/displayname", alice.id);
    bob.put(&name, json!({ "displayname": "Mallory" })).await.refused(403, "M_FORBIDDEN");
    alice.put(&name, json!({ "displayname": 1 })).await.refused(400, "M_BAD_JSON");
    site.work().await;
    assert_eq!(alice.member(&room, &alice).await, json!({ "membership": "join" }));
}
