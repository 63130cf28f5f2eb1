//! Devices and filters.

use http::Method;
use serde_json::json;

use crate::support::Site;

#[tokio::test]
async fn a_device_is_named_and_deleted_by_password() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let other = alice.log_in().await;
    let path = format!("v3/devices/{}", other.device);
    alice.put(&path, json!({ "display_name": "phone" })).await.ok();
    assert_eq!(alice.get(&path).await.ok()["display_name"], "phone");
    assert_eq!(alice.get("v3/devices").await.ok()["devices"].as_array().expect("devices").len(), 2);
    let open = alice.call(Method::DELETE, &path, json!({})).await;
    assert_eq!(open.status, 401);
    let session = &open.body["session"];
    let auth = |password: &str| {
        let identifier = json!({ "type": "m.id.user", "user": alice.id });
        json!({ "auth": { "type": "m.login.password", "session": session, "identifier": identifier, "password": password } })
    };
    alice.call(Method::DELETE, &path, auth("wrong")).await.refused(401, "M_FORBIDDEN");
    other.get("v3/account/whoami").await.ok();
    // A session is good for the operation it was opened for, and for no other.
    alice
        .call(Method::DELETE, &format!("v3/devices/{}", alice.device), auth("secret word"))
        .await
        .refused(403, "M_FORBIDDEN");
    alice.call(Method::DELETE, &path, auth("secret word")).await.ok();
    other.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
    alice.put("v3/devices/NONE", json!({ "display_name": "x" })).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn filters_are_kept_and_are_ones_own() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let path = format!("v3/user/{}/filter", alice.id);
    let filter = json!({ "room": { "timeline": { "limit": 3 } } });
    let id = alice.post(&path, filter.clone()).await.ok()["filter_id"].as_str().expect("an id").to_owned();
    assert_eq!(alice.post(&path, filter.clone()).await.ok()["filter_id"], id.as_str());
    assert_eq!(alice.get(&format!("{path}/{id}")).await.ok(), filter);
    bob.get(&format!("{path}/{id}")).await.refused(403, "M_FORBIDDEN");
    alice.get(&format!("{path}/none")).await.refused(404, "M_NOT_FOUND");
    alice.post(&path, json!({ "room": "not an object" })).await.refused(400, "M_BAD_JSON");
    let room = alice.room(json!({})).await;
    for count in 0..5 {
        alice.say(&room, &count.to_string(), "hello").await;
    }
    let sync = alice.get(&format!("v3/sync?filter={id}")).await.ok();
    assert_eq!(sync["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("events").len(), 3);
    alice.get("v3/sync?filter=none").await.refused(400, "M_INVALID_PARAM");
}
