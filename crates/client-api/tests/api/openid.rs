//! `OpenID` tokens.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::support::{Answer, Site};

async fn userinfo(site: &Site, query: &str) -> Answer {
    site.raw(Method::GET, &format!("/_matrix/federation/v1/openid/userinfo{query}"), None, "").await
}

#[tokio::test]
async fn a_service_learns_by_a_token_who_the_user_is() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let path = format!("v3/user/{}/openid/request_token", alice.id);
    let issued = alice.post(&path, json!({})).await.ok();
    assert_eq!((&issued["token_type"], &issued["matrix_server_name"]), (&json!("Bearer"), &json!("hs.test")));
    assert_eq!(issued["expires_in"], 3_600);
    let token = issued["access_token"].as_str().expect("a token");
    let query = format!("?access_token={token}");
    assert_eq!(userinfo(&site, &query).await.ok(), json!({ "sub": alice.id }));
    let as_access_token = site.raw(Method::GET, "/_matrix/client/v3/account/whoami", Some(token), "").await;
    as_access_token.refused(401, "M_UNKNOWN_TOKEN");
    bob.post(&path, json!({})).await.refused(403, "M_FORBIDDEN");
    for wrong in [format!("?access_token={}", alice.token), "?access_token=".to_owned()] {
        userinfo(&site, &wrong).await.refused(401, "M_UNKNOWN_TOKEN");
    }
    userinfo(&site, "").await.refused(401, "M_MISSING_TOKEN");
    site.parts.clock.advance(Duration::from_hours(1));
    userinfo(&site, &query).await.refused(401, "M_UNKNOWN_TOKEN");
}
