//! The endpoints, asked as another server would ask them.

mod backfill;
mod directory;
mod ephemeral;
mod fan_out;
mod far;
mod history;
mod membership;
mod outbound;
mod policy;
mod relationships;
mod signed;
mod spaces;
mod transactions;

use axum::{Router, body::Body};
use federation::{Federation, endpoints::BUILT, router};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use ruma::{api::federation::authentication::XMatrix, serde::Base64, signatures::KeyPair};
use serde_json::{Value, json};
use testkit::world::{Server, World};
use tower::ServiceExt;

async fn answer(federation: &Federation, request: Request<Body>) -> (StatusCode, Value) {
    let others = Router::new().fallback(async || (StatusCode::IM_A_TEAPOT, "{}"));
    let response = router(federation.clone(), others).oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// A request that `there` signs for `here`.
async fn ask_signed(here: &Server, there: &Server, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder().method(method).uri(path).body(body.to_owned()).expect("a request");
    let object = XMatrix::request_object(&request, &there.name, &here.name).expect("an object");
    let (_, signature) = there.keys.current().sign(&serde_json::to_vec(&object).expect("JSON")).into_parts();
    let (origin, destination, key) = (there.name.clone(), here.name.clone(), there.keys.current().id().clone());
    let claim = XMatrix::new(origin, destination, key, Base64::new(signature)).to_string();
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(header::AUTHORIZATION, claim.parse().expect("a header"));
    answer(&here.federation, Request::from_parts(parts, body.into())).await
}

async fn ask(federation: &Federation, method: Method, path: &str) -> (StatusCode, Value) {
    answer(federation, Request::builder().method(method).uri(path).body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn every_endpoint_of_the_table_is_served_and_knows_its_method() {
    let Server { federation, .. } = World::new().server("hs.test", 1).await;
    for (method, path) in BUILT {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let (status, _) = ask(&federation, method, path).await;
        assert_ne!(status, StatusCode::IM_A_TEAPOT, "{path}");
        let (status, body) = ask(&federation, Method::DELETE, path).await;
        assert_eq!((status, &body["errcode"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("M_UNRECOGNIZED")), "{path}");
    }
    assert_eq!(ask(&federation, Method::GET, "/_matrix/client/versions").await.0, StatusCode::IM_A_TEAPOT);
}

#[tokio::test]
async fn what_needs_no_signature_is_told_to_anybody() {
    let Server { mut federation, .. } = World::new().server("hs.test", 1).await;
    let (status, body) = ask(&federation, Method::GET, "/_matrix/federation/v1/version").await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "server": { "name": "Sundial", "version": "1.2.3" } })));
    let (status, body) = ask(&federation, Method::GET, "/_matrix/key/v2/server").await;
    assert_eq!((status, &body["server_name"]), (StatusCode::OK, &json!("hs.test")));
    assert!(body["signatures"]["hs.test"]["ed25519:k1"].is_string());
    let (status, body) = ask(&federation, Method::GET, "/.well-known/matrix/server").await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "m.server": "fed.hs.test:443" })));
    federation.options = std::sync::Arc::default();
    let (status, body) = ask(&federation, Method::GET, "/.well-known/matrix/server").await;
    assert_eq!((status, &body["errcode"]), (StatusCode::NOT_FOUND, &json!("M_NOT_FOUND")));
}

#[tokio::test]
async fn a_notary_adds_its_signature_to_what_it_knows() {
    let world = World::new();
    let notary = world.server("notary.test", 1).await;
    world.server("b.test", 2).await;
    let (status, body) = ask(&notary.federation, Method::GET, "/_matrix/key/v2/query/b.test").await;
    assert_eq!(status, StatusCode::OK);
    let document = &body["server_keys"][0];
    assert_eq!(document["server_name"], "b.test");
    assert!(document["signatures"]["b.test"]["ed25519:k2"].is_string());
    assert!(document["signatures"]["notary.test"]["ed25519:k1"].is_string());

    // Its own keys, one that it knows though it is gone, and one that it can't find.
    world.servers.remove(&"b.test".try_into().expect("a name"));
    let query = json!({ "server_keys": { "notary.test": {}, "b.test": { "ed25519:k2": {} }, "gone.test": {} } });
    let request = Request::post("/_matrix/key/v2/query").body(Body::from(query.to_string())).expect("a request");
    let (status, body) = answer(&notary.federation, request).await;
    let names: Vec<_> =
        body["server_keys"].as_array().expect("a list").iter().map(|document| &document["server_name"]).collect();
    assert_eq!((status, names), (StatusCode::OK, vec![&json!("b.test"), &json!("notary.test")]));

    let many: serde_json::Map<_, _> = (0..21).map(|n| (format!("s{n}.test"), json!({}))).collect();
    let before = world.servers.asked().len();
    for (query, code) in [
        (json!({ "server_keys": many }).to_string(), "M_INVALID_PARAM"),
        ("{}".to_owned(), "M_BAD_JSON"),
        ("nonsense".to_owned(), "M_NOT_JSON"),
    ] {
        let request = Request::post("/_matrix/key/v2/query").body(Body::from(query)).expect("a request");
        let (status, body) = answer(&notary.federation, request).await;
        assert_eq!((status, &body["errcode"]), (StatusCode::BAD_REQUEST, &json!(code)));
    }
    assert_eq!(world.servers.asked().len(), before, "nobody is asked for a query that is refused");
    let (status, _) = ask(&notary.federation, Method::GET, "/_matrix/key/v2/query/not%20a%20name").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
