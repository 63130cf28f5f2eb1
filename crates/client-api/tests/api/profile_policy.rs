//! Who may look up a profile, as the configuration says.

use client_api::ProfilePolicy;
use http::Method;
use serde_json::json;
use testkit::Parts;

use crate::support::{Site, options};

#[tokio::test]
async fn profiles_are_shown_to_whom_the_policy_names() {
    for policy in [ProfilePolicy::Everybody, ProfilePolicy::LoggedIn, ProfilePolicy::SharedRooms] {
        let options = client_api::Options { profile_policy: policy, ..options() };
        let site = Site::with(Parts::new().await, options);
        let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
        let room = alice.room(json!({ "preset": "public_chat" })).await;
        bob.join(&room).await.ok();
        for path in [format!("v3/profile/{}", alice.id), format!("v3/profile/{}/displayname", alice.id)] {
            alice.put(&format!("v3/profile/{}/displayname", alice.id), json!({ "displayname": "Alice" })).await.ok();
            alice.get(&path).await.ok();
            bob.get(&path).await.ok();
            let stranger = site.raw(Method::GET, &format!("/_matrix/client/{path}"), None, "").await;
            match policy {
                ProfilePolicy::Everybody => drop(stranger.ok()),
                _ => drop(stranger.refused(401, "M_MISSING_TOKEN")),
            }
            match policy {
                ProfilePolicy::SharedRooms => drop(carol.get(&path).await.refused(403, "M_FORBIDDEN")),
                _ => drop(carol.get(&path).await.ok()),
            }
        }
        let nobody = carol.get("v3/profile/@nobody:hs.test").await;
        match policy {
            ProfilePolicy::SharedRooms => drop(nobody.refused(403, "M_FORBIDDEN")),
            _ => drop(nobody.refused(404, "M_NOT_FOUND")),
        }
    }
}
