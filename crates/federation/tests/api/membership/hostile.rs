//! Servers that answer joins with what they shouldn't.

use http::{Request, Response, StatusCode};
use rooms::{Preset, RemoteMembershipError};
use serde_json::{Value, json};
use testkit::world::World;

use super::{check, create, join, membership, two};

/// What a server in the middle makes of an answer.
type Change = fn(&mut Value);

/// Has `b.test` join a room of `a.test` whose answers to requests with `part` in their path are changed.
async fn joined_through(part: &'static str, change: Change) -> (Result<(), RemoteMembershipError>, Option<String>) {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let room = create(&a, &alice, "11", Preset::PublicChat).await;
    let federation = a.federation.clone();
    world.servers.serve(a.name.clone(), move |request: Request<bytes::Bytes>| {
        let federation = federation.clone();
        async move {
            let changed = request.uri().path().contains(part);
            let answer = testkit::world::serve(federation, request).await;
            if !changed || answer.status() != StatusCode::OK {
                return answer;
            }
            let mut body: Value = serde_json::from_slice(answer.body()).expect("JSON");
            change(&mut body);
            Response::new(body.to_string().into_bytes().into())
        }
    });
    let joined = join(&b, &bob, &room, &[&a]).await;
    check(&b).await;
    (joined, membership(&b, &bob, &room, &bob).await)
}

async fn refused(part: &'static str, change: Change) {
    let (joined, membership) = joined_through(part, change).await;
    let unusable = RemoteMembershipError::Unusable(String::new());
    match joined {
        Err(
            RemoteMembershipError::Unusable(_)
            | RemoteMembershipError::Remote(_)
            | RemoteMembershipError::UnsupportedVersion(_),
        ) => {}
        other => panic!("{other:?}, not {unusable:?}"),
    }
    assert_eq!(membership, None);
}

fn event<'a>(body: &'a mut Value, list: &str, kind: &str) -> &'a mut Value {
    body[list].as_array_mut().expect("a list").iter_mut().find(|event| event["type"] == kind).expect("there")
}

#[tokio::test]
async fn templates_of_something_else_are_not_signed() {
    refused("/make_join/", |body| body["event"]["type"] = json!("m.room.power_levels")).await;
    refused("/make_join/", |body| body["event"]["room_id"] = json!("!other:a.test")).await;
    refused("/make_join/", |body| body["event"]["sender"] = json!("@carol:b.test")).await;
    refused("/make_join/", |body| body["event"]["state_key"] = json!("@carol:b.test")).await;
    refused("/make_join/", |body| body["event"]["prev_events"] = json!(vec!["$a"; 21])).await;
    refused("/make_join/", |body| body["event"]["auth_events"] = json!([{}])).await;
    refused("/make_join/", |body| body["room_version"] = json!("99")).await;
    // Whatever else the template says is not taken over.
    let (joined, _) = joined_through("/make_join/", |body| {
        body["event"]["content"]["displayname"] = json!("Mallory");
        body["event"]["unsigned"] = json!({ "a": 1 });
        body["event"]["depth"] = json!(9_007_199_254_740_991_u64);
    })
    .await;
    joined.expect("joined");
}

#[tokio::test]
async fn an_answer_that_is_not_the_room_makes_no_room() {
    // Another event instead of the one that was sent.
    refused("/send_join/", |body| body["event"]["content"]["displayname"] = json!("Mallory")).await;
    refused("/send_join/", |body| body["event"] = body["state"][0].clone()).await;
    // No create event, one of another version, two of one key.
    refused("/send_join/", |body| {
        body["state"].as_array_mut().expect("a list").retain(|event| event["type"] != "m.room.create");
    })
    .await;
    refused("/send_join/", |body| event(body, "state", "m.room.create")["content"]["room_version"] = json!("10")).await;
    refused("/send_join/", |body| {
        let mut other = event(body, "state", "m.room.join_rules").clone();
        other["origin_server_ts"] = json!(5);
        body["state"].as_array_mut().expect("a list").push(other);
    })
    .await;
    // The rules by which anybody may join are not there, or not signed by who made them.
    refused("/send_join/", |body| {
        for list in ["state", "auth_chain"] {
            body[list].as_array_mut().expect("a list").retain(|event| event["type"] != "m.room.join_rules");
        }
    })
    .await;
    refused("/send_join/", |body| {
        for list in ["state", "auth_chain"] {
            event(body, list, "m.room.join_rules")["signatures"] = json!({});
        }
    })
    .await;
    refused("/send_join/", |body| *body = json!({ "state": {}, "auth_chain": [] })).await;
}

#[tokio::test]
async fn events_that_are_no_good_are_left_out_and_the_rest_is_a_room() {
    let (joined, membership) = joined_through("/send_join/", |body| {
        let list = body["state"].as_array_mut().expect("a list");
        list.push(json!({ "type": "m.room.name", "content": {} }));
        list.push(json!(null));
        list.push(json!("text"));
        list.retain(|event| event["type"] != "m.room.guest_access");
        event(body, "state", "m.room.history_visibility")["signatures"] = json!({ "a.test": { "ed25519:k1": "AAAA" } });
    })
    .await;
    joined.expect("joined");
    assert_eq!(membership.as_deref(), Some("join"));
}
