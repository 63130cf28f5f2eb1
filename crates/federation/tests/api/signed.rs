//! Requests that are signed, well or badly.

use std::time::Duration;

use axum::body::Body;
use federation_client::{OldKey, RemoteError};
use http::{Request, StatusCode, header};
use primitives::UnixMillis;
use ruma::{
    OwnedServerName, ServerName, api::federation::authentication::XMatrix, serde::Base64, server_name,
    signatures::KeyPair, user_id,
};
use serde_json::{Value, json};
use testkit::world::{Server, World};
use users::{Authority, NewAccount};

use super::answer;

const PROFILE: &str = "/_matrix/federation/v1/query/profile?user_id=@alice:hs.test";

async fn register_alice(peer: &Server) {
    let account = NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some("alice".to_owned()),
        password: Some("wonderland".to_owned()),
        display_name: Some("Alice Cooper".to_owned()),
        session: None,
    };
    peer.federation.users.register(account).await.expect("registered");
}

/// The header of a request without a body that `peer` signs as `origin` for `destination`.
fn signed_as(peer: &Server, origin: &ServerName, destination: &ServerName, path: &str) -> XMatrix {
    let request = Request::get(path).body("").expect("a request");
    let object = XMatrix::request_object(&request, origin, destination).expect("an object");
    let text = serde_json::to_vec(&object).expect("JSON");
    let (_, signature) = peer.keys.current().sign(&text).into_parts();
    XMatrix::new(origin.to_owned(), destination.to_owned(), peer.keys.current().id().clone(), Base64::new(signature))
}

fn get(path: &str, authorization: &[&str]) -> Request<Body> {
    let mut request = Request::get(path);
    for value in authorization {
        request = request.header(header::AUTHORIZATION, *value);
    }
    request.body(Body::empty()).expect("a request")
}

fn unauthorized((status, body): &(StatusCode, Value), case: &str) {
    assert_eq!((*status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_UNAUTHORIZED")), "{case}: {body}");
}

#[tokio::test]
async fn two_servers_authenticate_to_each_other() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    register_alice(&here).await;
    let alice = user_id!("@alice:hs.test");
    let profile = there.client.profile(alice, None).await.expect("shown");
    assert_eq!(profile["displayname"].as_str(), Some("Alice Cooper"));
    let profile = there.client.profile(alice, Some("avatar_url")).await.expect("shown");
    assert!(profile.is_empty(), "a field that isn't set is left out");
    let nobody = there.client.profile(user_id!("@nobody:hs.test"), None).await;
    assert!(matches!(nobody, Err(RemoteError::Refused { status: StatusCode::NOT_FOUND, .. })), "{nobody:?}");
    let key_requests = world.servers.asked().iter().filter(|(_, path)| path.contains("/key/v2/server")).count();
    assert_eq!(key_requests, 1, "keys are kept");
    let version = here.client.version(server_name!("b.test")).await.expect("told");
    assert_eq!(version.name.as_deref(), Some("Sundial"));
}

#[tokio::test]
async fn profiles_are_not_shown_where_they_are_limited_and_names_must_be_valid() {
    let world = World::new();
    let (mut here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    register_alice(&here).await;
    let ask = async |here: &Server, path: &str| {
        let header = signed_as(&there, server_name!("b.test"), server_name!("hs.test"), path).to_string();
        answer(&here.federation, get(path, &[&header])).await
    };
    let (status, _) = ask(&here, "/_matrix/federation/v1/query/profile?user_id=@user1:localhost:http").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, body) = ask(&here, "/_matrix/federation/v1/query/profile").await;
    assert_eq!((status, &body["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_MISSING_PARAM")));
    assert_eq!(ask(&here, "/_matrix/federation/v1/query/profile?user_id=@a:else.test").await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&here, PROFILE).await.0, StatusCode::OK);
    let mut options = federation::Options::clone(&here.federation.options);
    options.profiles_shown = false;
    here.federation.options = options.into();
    assert_eq!(ask(&here, PROFILE).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_not_signed_by_its_origin_for_this_server_is_refused() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let other = world.server("c.test", 3).await;
    register_alice(&here).await;
    let (b, hs) = (server_name!("b.test"), server_name!("hs.test"));
    let good = signed_as(&there, b, hs, PROFILE).to_string();
    assert_eq!(answer(&here.federation, get(PROFILE, &[&good])).await.0, StatusCode::OK);
    let quoted = good.replace("destination=hs.test", "destination=\"hs.test\"").replace("X-Matrix ", "x-matrix ");
    assert_eq!(answer(&here.federation, get(PROFILE, &[&quoted])).await.0, StatusCode::OK, "{quoted}");

    let mut bad = vec![
        ("none", vec![]),
        ("two", vec![good.clone(), good.clone()]),
        ("a token", vec!["Bearer abc".to_owned()]),
        ("another destination", vec![signed_as(&there, b, server_name!("c.test"), PROFILE).to_string()]),
        ("another path", vec![signed_as(&there, b, hs, "/_matrix/federation/v1/query/profile").to_string()]),
        ("another server's key", vec![signed_as(&other, b, hs, PROFILE).to_string()]),
        ("this server's name", vec![signed_as(&here, hs, hs, PROFILE).to_string()]),
        ("an unknown server", vec![signed_as(&there, server_name!("gone.test"), hs, PROFILE).to_string()]),
        ("a parameter twice", vec![format!("{good},origin=b.test")]),
    ];
    let (head, _) = good.split_once("sig=").expect("a signature");
    bad.push(("bad base64", vec![format!("{head}sig=\"%%%\"")]));
    bad.push(("a short signature", vec![format!("{head}sig=\"AAAA\"")]));
    bad.push(("no signature", vec![head.trim_end_matches(',').to_owned()]));
    // What was signed for nobody in particular is taken by nobody else: the signature covers the destination.
    let undirected = signed_as(&there, b, server_name!("c.test"), PROFILE).to_string();
    bad.push(("no destination", vec![undirected.replace("destination=c.test,", "")]));
    for (case, headers) in bad {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        unauthorized(&answer(&here.federation, get(PROFILE, &headers)).await, case);
    }
}

#[tokio::test]
async fn expired_keys_sign_nothing_and_unknown_ones_cause_no_storm() {
    let world = World::new();
    let here = world.server("hs.test", 1).await;
    let before = world.server("b.test", 2).await;
    register_alice(&here).await;
    let (b, hs) = (server_name!("b.test"), server_name!("hs.test"));
    let header = signed_as(&before, b, hs, PROFILE).to_string();
    assert_eq!(answer(&here.federation, get(PROFILE, &[&header])).await.0, StatusCode::OK);

    // The server rotates its key, and what is known of the old one ends.
    let current = before.keys.current();
    let old = OldKey { id: current.id().clone(), public: current.public(), expired: UnixMillis(1_700_000_000_000) };
    let after = world.server_with("b.test", 4, vec![old]).await;
    world.clock.advance(Duration::from_hours(25));
    unauthorized(&answer(&here.federation, get(PROFILE, &[&header])).await, "an expired key");
    let header = signed_as(&after, b, hs, PROFILE).to_string();
    assert_eq!(answer(&here.federation, get(PROFILE, &[&header])).await.0, StatusCode::OK);

    let asked = world.servers.asked().len();
    for _ in 0..10 {
        let forged = header.replace("ed25519:k4", "ed25519:forged");
        unauthorized(&answer(&here.federation, get(PROFILE, &[&forged])).await, "an unknown key");
        let gone = signed_as(&after, server_name!("gone.test"), hs, PROFILE).to_string();
        unauthorized(&answer(&here.federation, get(PROFILE, &[&gone])).await, "an unknown server");
    }
    let gone: OwnedServerName = "gone.test".try_into().expect("a name");
    let asked: Vec<_> = world.servers.asked().split_off(asked);
    assert_eq!(asked, [(gone, "GET /_matrix/key/v2/server".to_owned())], "each is asked once");
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let good = signed_as(&there, server_name!("b.test"), server_name!("hs.test"), PROFILE).to_string();
    let post = |body: String, encoding: &str| {
        let request = Request::get(PROFILE).header(header::AUTHORIZATION, &good);
        request.header(header::CONTENT_ENCODING, encoding).body(Body::from(body)).expect("a request")
    };
    let cases = [
        (" ".repeat(here.federation.options.request_max_bytes + 1), "identity", StatusCode::PAYLOAD_TOO_LARGE),
        ("{}".to_owned(), "gzip", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("{".to_owned(), "identity", StatusCode::BAD_REQUEST),
        ("[".repeat(5_000), "identity", StatusCode::BAD_REQUEST),
        (r"[1.5]".to_owned(), "identity", StatusCode::BAD_REQUEST),
        (r#"{"a":NaN}"#.to_owned(), "identity", StatusCode::BAD_REQUEST),
        // It is JSON, but not what was signed.
        (r#"{"a":1.5}"#.to_owned(), "identity", StatusCode::UNAUTHORIZED),
        ("{}".to_owned(), "identity", StatusCode::UNAUTHORIZED),
    ];
    for (body, encoding, expected) in cases {
        let case = body.chars().take(20).collect::<String>();
        assert_eq!(answer(&here.federation, post(body, encoding)).await.0, expected, "{case} {encoding}");
    }
}
