//! The pages for browsers.

use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use crate::support::Site;

/// A page: its status, its security policy, its text.
async fn page(site: &Site, method: Method, path: &str, form: &str) -> (StatusCode, String, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(form.to_owned())).expect("a request");
    let response = site.router.clone().oneshot(request).await.expect("the router answers");
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers["content-type"], "text/html; charset=utf-8");
    assert!(parts.headers["x-frame-options"] == "DENY" && parts.headers["cache-control"] == "no-store");
    let policy = parts.headers["content-security-policy"].to_str().expect("text").to_owned();
    let text = String::from_utf8(body.collect().await.expect("a body").to_bytes().to_vec()).expect("text");
    (parts.status, policy, text)
}

/// Asserts that the policy allows the scripts of a page and no others.
fn allows_its_own(policy: &str, text: &str) {
    assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (open, close) in [("<script>", "</script>"), ("<style>", "</style>")] {
        for part in text.split(open).skip(1) {
            let part = part.split(close).next().expect("an end");
            let hash = STANDARD.encode(Sha256::digest(part.as_bytes()));
            assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
        }
    }
}

#[tokio::test]
async fn the_login_page_is_whole_and_runs_nothing_but_its_own_script() {
    let site = Site::new().await;
    for path in ["/_matrix/static/client/login/", "/_matrix/static/client/login/?device_id=%3Cscript%3E"] {
        let (status, policy, text) = page(&site, Method::GET, path, "").await;
        assert_eq!(status, 200);
        allows_its_own(&policy, &text);
        assert!(text.contains("window.matrixLogin.onLogin(answer)"));
        assert_eq!(text.matches("<script").count(), 1);
        assert!(!text.contains("src=") && !text.contains("href="), "nothing is loaded");
    }
}

#[tokio::test]
async fn a_stage_is_completed_on_its_page_and_the_client_goes_on() {
    let site = Site::new().await;
    let register = "/_matrix/client/v3/register";
    let wish = json!({ "username": "alice", "password": "secret word" });
    let open = site.raw(Method::POST, register, None, wish.to_string()).await;
    let session = open.body["session"].as_str().expect("a session").to_owned();
    let path = format!("/_matrix/client/v3/auth/m.login.dummy/fallback/web?session={session}");
    let (status, policy, text) = page(&site, Method::GET, &path, "").await;
    assert_eq!(status, 200);
    allows_its_own(&policy, &text);
    assert!(policy.contains("script-src 'none'") && text.contains("<form method=\"post\">"), "{text}");
    assert!(!text.contains(&session), "nothing of the request is in the page");
    let (status, policy, text) = page(&site, Method::POST, &path, "").await;
    assert_eq!(status, 200);
    allows_its_own(&policy, &text);
    assert!(text.contains("window.onAuthDone()") && text.contains("postMessage(\"authDone\", \"*\")"), "{text}");
    let mut again = wish;
    again["auth"] = json!({ "session": session });
    let made = site.raw(Method::POST, register, None, again.to_string()).await.ok();
    assert_eq!(made["user_id"], "@alice:hs.test");
    let (status, _, text) = page(&site, Method::GET, &path, "").await;
    assert_eq!(status, 400, "the session is over");
    assert!(!text.contains("<form"), "{text}");
}

#[tokio::test]
async fn a_registration_token_is_asked_for_and_checked() {
    let site = Site::new().await;
    let token = site.parts.users.first_start_token().await.expect("readable").expect("nobody has used it");
    let register = "/_matrix/client/v3/register";
    let open = site.raw(Method::POST, register, None, json!({ "username": "root" }).to_string()).await;
    let session = open.body["session"].as_str().expect("a session").to_owned();
    let path = format!("/_matrix/client/v3/auth/m.login.registration_token/fallback/web?session={session}");
    let (_, _, text) = page(&site, Method::GET, &path, "").await;
    assert!(text.contains("name=\"token\""), "{text}");
    for (form, told) in [("", "Please enter the token"), ("token=%3Cb%3Eguess", "This token is not valid")] {
        let (status, _, text) = page(&site, Method::POST, &path, form).await;
        assert_eq!(status, 401);
        assert!(text.contains(told) && !text.contains("guess"), "{text}");
    }
    let (status, _, text) = page(&site, Method::POST, &path, &format!("token={token}")).await;
    assert_eq!(status, 200);
    assert!(text.contains("onAuthDone"), "{text}");
    let wish = json!({ "username": "root", "password": "x", "auth": { "session": session } });
    site.raw(Method::POST, register, None, wish.to_string()).await.ok();
}

#[tokio::test]
async fn there_is_no_page_for_passwords_and_none_without_a_session() {
    let site = Site::new().await;
    let path = |stage: &str, query: &str| format!("/_matrix/client/v3/auth/{stage}/fallback/web{query}");
    for stage in ["m.login.password", "m.login.sso", "%3Cscript%3E"] {
        for method in [Method::GET, Method::POST] {
            site.raw(method, &path(stage, "?session=x"), None, "").await.refused(404, "M_NOT_FOUND");
        }
    }
    site.raw(Method::GET, &path("m.login.dummy", ""), None, "").await.refused(400, "M_MISSING_PARAM");
    let (status, _, text) = page(&site, Method::POST, &path("m.login.dummy", "?session=%3Cscript%3E"), "").await;
    assert_eq!(status, 400);
    assert_eq!(text.matches("<script").count(), 0, "{text}");
}
