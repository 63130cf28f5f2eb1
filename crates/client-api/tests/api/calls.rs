//! What clients use for calls: TURN credentials and RTC transports.

use std::time::Duration;

use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use serde_json::{Value, json};
use storage::Storage;
use testkit::Parts;
use users::{Turn, TurnAccess};

use crate::support::{Site, User, options};

async fn with_turn(allow_guests: bool) -> Site {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let shared: SharedClock = clock.clone();
    let mut options = users::Options::new(testkit::server_name());
    options.registration = users::RegistrationMode::Open;
    options.allow_guests = true;
    options.password_hash.memory_kib = 8;
    let access = TurnAccess::SharedSecret("turn secret".to_owned());
    let uris = vec!["turn:turn.test:3478?transport=udp".to_owned()];
    options.turn = Some(Turn { uris, access, lifetime: Duration::from_hours(2), allow_guests });
    Site::of(Parts::with(Storage::memory(&shared, &Random::seeded(1)), clock, options).await)
}

async fn guest(site: &Site) -> User<'_> {
    let made = site.raw(http::Method::POST, "/_matrix/client/v3/register?kind=guest", None, "{}").await.ok();
    User::from(site, &made)
}

#[tokio::test]
async fn turn_credentials_end_and_are_nothing_where_there_is_no_service() {
    let site = with_turn(false).await;
    let alice = site.user("alice").await;
    let made = alice.get("v3/voip/turnServer").await.ok();
    assert_eq!(made["username"], "1700007200:@alice:hs.test");
    assert_eq!((&made["ttl"], &made["uris"][0]), (&json!(7_200), &json!("turn:turn.test:3478?transport=udp")));
    assert!(made["password"].as_str().is_some_and(|password| !password.is_empty()));
    assert_eq!(guest(&site).await.get("v3/voip/turnServer").await.ok(), json!({}));
    let site = with_turn(true).await;
    assert_eq!(guest(&site).await.get("v3/voip/turnServer").await.ok()["ttl"], 7_200);
    let site = Site::new().await;
    assert_eq!(site.user("alice").await.get("v3/voip/turnServer").await.ok(), json!({}));
    let nobody = site.raw(http::Method::GET, "/_matrix/client/v3/voip/turnServer", None, "").await;
    nobody.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn rtc_transports_are_a_list_even_where_there_is_none() {
    let paths = ["v1/rtc/transports", "unstable/org.matrix.msc4143/rtc/transports"];
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for path in paths {
        assert_eq!(alice.get(path).await.ok(), json!({ "rtc_transports": [] }));
        let nobody = site.raw(http::Method::GET, &format!("/_matrix/client/{path}"), None, "").await;
        nobody.refused(401, "M_MISSING_TOKEN");
    }
    let well_known =
        async |site: &Site| -> Value { site.raw(http::Method::GET, "/.well-known/matrix/client", None, "").await.ok() };
    assert_eq!(well_known(&site).await.get("org.matrix.msc4143.rtc_foci"), None);
    let transport = json!({ "type": "livekit", "livekit_service_url": "https://rtc.test" });
    let options = client_api::Options { rtc_transports: vec![transport.clone()], ..options() };
    let site = Site::with(Parts::new().await, options);
    let alice = site.user("alice").await;
    for path in paths {
        assert_eq!(alice.get(path).await.ok(), json!({ "rtc_transports": [transport] }));
    }
    assert_eq!(well_known(&site).await["org.matrix.msc4143.rtc_foci"], json!([transport]));
}
