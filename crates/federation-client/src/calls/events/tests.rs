//! What is asked, and what is made of the answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Response;
use primitives::{ManualClock, Random, ServerKey, UnixMillis};
use ruma::{OwnedEventId, RoomId, ServerName, event_id, room_id, server_name};

use super::*;
use crate::{ClientOptions, FakeServers, OwnKeys, Pauses};

fn far() -> &'static ServerName {
    server_name!("b.test")
}

fn room() -> &'static RoomId {
    room_id!("!r/1:b.test")
}

fn client(servers: &FakeServers) -> FederationClient {
    let key = ServerKey::new("k1", [1; 32]).expect("a key");
    let keys = Arc::new(OwnKeys::new(server_name!("hs.test").to_owned(), Arc::new(key), Vec::new()));
    let options = ClientOptions {
        answer_max_bytes: 10_000,
        timeout: Duration::from_secs(30),
        state_answer_max_bytes: 1 << 20,
        join_timeout: Duration::from_mins(2),
        pauses: Pauses { min: Duration::from_mins(1), max: Duration::from_hours(1) },
    };
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    FederationClient::new(keys, Arc::new(servers.clone()), clock, Random::seeded(1), options)
}

/// A server that answers everything with this.
fn answering(body: &'static str) -> FederationClient {
    let servers = FakeServers::default();
    servers.serve(far().to_owned(), move |_| async move { Response::new(Bytes::from_static(body.as_bytes())) });
    client(&servers)
}

fn texts(pdus: &[RawPdu]) -> Vec<&str> {
    pdus.iter().map(|pdu| pdu.get()).collect()
}

#[tokio::test]
async fn questions_are_asked_as_the_specification_writes_them() {
    let servers = FakeServers::default();
    servers.serve(far().to_owned(), |request| async move { Response::new(request.into_body()) });
    let client = client(&servers);
    let (event, other) = (event_id!("$a+b/c"), event_id!("$d"));
    drop(client.event(far(), event).await);
    drop(client.state_ids(far(), room(), event).await);
    drop(client.state(far(), room(), event).await);
    drop(client.event_auth(far(), room(), event).await);
    drop(client.backfill(far(), room(), &[event.to_owned(), other.to_owned()], 7).await);
    let asked: Vec<_> = servers.asked().into_iter().map(|(_, path)| path).collect();
    let expected = [
        "GET /_matrix/federation/v1/event/%24a%2Bb%2Fc",
        "GET /_matrix/federation/v1/state_ids/%21r%2F1%3Ab.test?event_id=%24a%2Bb%2Fc",
        "GET /_matrix/federation/v1/state/%21r%2F1%3Ab.test?event_id=%24a%2Bb%2Fc",
        "GET /_matrix/federation/v1/event_auth/%21r%2F1%3Ab.test/%24a%2Bb%2Fc",
        "GET /_matrix/federation/v1/backfill/%21r%2F1%3Ab.test?limit=7&v=%24a%2Bb%2Fc&v=%24d",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn missing_events_are_asked_for_by_a_body() {
    let servers = FakeServers::default();
    servers.serve(far().to_owned(), |request| async move {
        let body = String::from_utf8(request.body().to_vec()).expect("text");
        assert_eq!(body, r#"{"earliest_events":["$a"],"latest_events":["$b"],"limit":2,"min_depth":9007199254740991}"#);
        Response::new(Bytes::from_static(br#"{"events":[{"a":1.5},{},3]}"#))
    });
    let (earliest, latest): ([OwnedEventId; 1], [OwnedEventId; 1]) =
        ([event_id!("$a").to_owned()], [event_id!("$b").to_owned()]);
    let missing = MissingEvents { earliest: &earliest, latest: &latest, limit: 2, min_depth: u64::MAX };
    let events = client(&servers).get_missing_events(far(), room(), missing).await.expect("answered");
    assert_eq!(texts(&events), [r#"{"a":1.5}"#, "{}"], "a bad event is given out too, but no more than were asked for");
}

#[tokio::test]
async fn answers_are_read_as_far_as_their_shape() {
    let deep = format!(r#"{{"pdus":[{}1{}]}}"#, "[".repeat(300), "]".repeat(300));
    let client = answering(Box::leak(deep.into_boxed_str()));
    assert!(
        client.event(far(), event_id!("$a")).await.is_ok(),
        "how deep an event is nested is checked where it is taken in"
    );
    let two = answering(r#"{"pdus":[{},{}]}"#).event(far(), event_id!("$a")).await;
    assert!(matches!(two, Err(RemoteError::Malformed(_))), "{two:?}");
    let none = answering(r#"{"pdus":[]}"#).event(far(), event_id!("$a")).await;
    assert!(matches!(none, Err(RemoteError::Malformed(_))), "{none:?}");
    let ids = answering(r#"{"pdu_ids":["$a"],"auth_chain_ids":[]}"#).state_ids(far(), room(), event_id!("$b")).await;
    assert_eq!(ids.expect("read").pdu_ids, [event_id!("$a")]);
    let state =
        answering(r#"{"pdus":[{"a":1}],"auth_chain":[2]}"#).state(far(), room(), event_id!("$b")).await.expect("read");
    assert_eq!((texts(&state.pdus), texts(&state.auth_chain)), (vec![r#"{"a":1}"#], vec!["2"]));
    let chain = answering(r#"{"auth_chain":[{}]}"#).event_auth(far(), room(), event_id!("$b")).await.expect("read");
    assert_eq!(texts(&chain), ["{}"]);
    let pdus = answering(r#"{"pdus":[1,2,3]}"#).backfill(far(), room(), &[], 2).await.expect("read");
    assert_eq!(texts(&pdus), ["1", "2"]);
    for bad in ["", "[]", "{}", r#"{"pdus":{}}"#, r#"{"pdus":[{]}"#] {
        let answer = answering(bad).backfill(far(), room(), &[], 2).await;
        assert!(matches!(answer, Err(RemoteError::Malformed(_))), "{bad}: {answer:?}");
    }
}
