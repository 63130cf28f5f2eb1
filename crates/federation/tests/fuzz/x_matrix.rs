//! The signature of a request: whatever stands in the header, nothing is answered but to who signed just this request.

use std::sync::LazyLock;

use axum::{Router, body::Body};
use federation::router;
use http::{HeaderValue, Request, StatusCode, header};
use proptest::{collection::vec, prelude::*};
use testkit::world::{Server, World};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::{cases, json};

const PATH: &str = "/_matrix/federation/v1/query/profile?user_id=@alice:hs.test";

/// Two servers, and what runs them.
struct Ground {
    runtime: Runtime,
    here: Server,
    good: String,
    /// Kept: it leads from name to server.
    _world: World,
}

static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let (world, here, there) = runtime.block_on(async {
        let world = World::new();
        let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
        (world, here, there)
    });
    let request = Request::get(PATH).body("").expect("a request");
    let good = testkit::hostile::signed(&request, &there.name, &here.name, there.keys.current());
    Ground { runtime, here, good: good.to_string(), _world: world }
});

fn ask(header: &[u8], body: &[u8]) -> Option<StatusCode> {
    let header = HeaderValue::from_bytes(header).ok()?;
    let request = Request::get(PATH).header(header::AUTHORIZATION, header).body(Body::from(body.to_vec()));
    let answer = router(GROUND.here.federation.clone(), Router::new()).oneshot(request.expect("a request"));
    Some(GROUND.runtime.block_on(answer).expect("an answer").status())
}

/// The claims of a header as it is parsed; two spellings of one claim are as good as each other.
fn claims(header: &[u8]) -> Option<String> {
    let header = HeaderValue::from_bytes(header).ok()?;
    let parsed = ruma::api::federation::authentication::XMatrix::try_from(&header).ok()?;
    Some(parsed.to_string())
}

/// A header passes only if it claims what was signed; the destination may be left out, but is signed. The user doesn't exist, so what passes is not
/// found.
fn check(header: &[u8]) -> Result<(), TestCaseError> {
    match ask(header, b"") {
        None | Some(StatusCode::UNAUTHORIZED) => {}
        Some(StatusCode::NOT_FOUND) => {
            let good = claims(GROUND.good.as_bytes()).expect("good");
            let undirected = good.replace("destination=hs.test,", "");
            let claimed = claims(header).expect("it was read");
            prop_assert!(claimed == good || claimed == undirected, "{}", String::from_utf8_lossy(header));
        }
        Some(other) => prop_assert!(false, "{other}: {}", String::from_utf8_lossy(header)),
    }
    Ok(())
}

#[test]
fn the_good_header_is_good() {
    assert_eq!(ask(GROUND.good.as_bytes(), b""), Some(StatusCode::NOT_FOUND));
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn fuzz_x_matrix_changed(changes in json::changes()) {
        let text = json::changed(serde_json::Value::from(GROUND.good.clone()), &changes);
        check(&text)?;
        // Without the quotes that make a JSON text of it.
        check(text.get(1..text.len().saturating_sub(1)).unwrap_or_default())?;
    }

    #[test]
    fn fuzz_x_matrix_of_parameters(parameters in vec((
        prop_oneof!["origin|destination|key|sig", "[a-zA-Z]{0,9}"],
        prop_oneof!["b\\.test|hs\\.test|ed25519:k2", "\"[^\"]{0,40}\"", "[ -~]{0,30}"],
    ), 0..7)) {
        let parameters: Vec<String> = parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        check(format!("X-Matrix {}", parameters.join(",")).as_bytes())?;
    }

    #[test]
    fn fuzz_x_matrix_of_any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn fuzz_x_matrix_body_is_covered(body in vec(any::<u8>(), 1..100)) {
        let status = ask(GROUND.good.as_bytes(), &body);
        prop_assert!(matches!(status, Some(StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST)), "{status:?}");
    }
}
