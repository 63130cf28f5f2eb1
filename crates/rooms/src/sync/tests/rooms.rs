use serde_json::json;
use storage::{
    Positioned,
    schema::rooms::{Membership, MembershipRow, Memberships, OutOfBand, OutOfBandRow, UserLog, UserLogEntry},
};

use super::*;
use crate::testing::stored::{ROOM, member, message, number, state_event};

#[tokio::test]
async fn a_room_that_was_joined_since_comes_whole() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, response) = synced(&world, "@b:x", SyncRequest::default()).await;
    assert_eq!(response.get("rooms"), None);
    world.send(message("@a:x", "x")).await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let asked = SyncRequest { since: Some(token), ..filtered(r#"{"room":{"timeline":{"limit":2}}}"#) };
    let (_, response) = synced(&world, "@b:x", asked).await;
    assert_eq!(part(joined(&response)), (vec![6, 7], vec![1, 2, 3, 4, 5], true));
    assert_eq!(joined(&response)["timeline"]["events"][0]["unsigned"]["membership"], "leave");
    // All of it fits, but the client has to know that it was not there before.
    let messages =
        SyncRequest { since: Some(token), ..filtered(r#"{"room":{"timeline":{"types":["m.room.message"]}}}"#) };
    assert!(part(joined(&synced(&world, "@b:x", messages).await.1)).2);
}

#[tokio::test]
async fn a_room_made_since_is_not_limited() {
    let mut world = World::new().await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    world.room(ROOM, "shared").await;
    let (_, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(part(joined(&response)), (vec![1, 2, 3, 4, 5], vec![], false));
}

#[tokio::test]
async fn a_left_room_is_told_of_up_to_the_leave_once() {
    let mut world = World::new().await;
    world.room(ROOM, "joined").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    world.send(message("@a:x", "before")).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "before" }))).await;
    let left = vec![
        member("@b:x", "@b:x", "leave"),
        message("@a:x", "same batch"),
        state_event("@a:x", "m.room.topic", json!({})),
    ];
    world.send_all(ROOM, left).await;
    world.send(message("@a:x", "after")).await;
    let (next, response) = synced(&world, "@b:x", since(token)).await;
    assert_eq!(response["rooms"].get("join"), None);
    assert_eq!(part(&response["rooms"]["leave"]["!r1:x"]), (vec![7, 8, 9], vec![], false));
    assert_eq!(synced(&world, "@b:x", since(next)).await.1.get("rooms"), None);

    let (_, response) = synced(&world, "@b:x", SyncRequest::default()).await;
    assert_eq!(response.get("rooms"), None, "left rooms are shown only if they are asked for");
    let asked = filtered(r#"{"room":{"include_leave":true,"timeline":{"limit":1}}}"#);
    let (_, response) = synced(&world, "@b:x", asked.clone()).await;
    assert_eq!(part(&response["rooms"]["leave"]["!r1:x"]), (vec![9], vec![1, 2, 3, 4, 5, 6, 8], true));
    let full = SyncRequest { since: Some(next), full_state: true, ..asked };
    let (_, response) = synced(&world, "@b:x", full).await;
    assert_eq!(part(&response["rooms"]["leave"]["!r1:x"]).1, [1, 2, 3, 4, 5, 8, 9]);
}

#[tokio::test]
async fn joined_left_and_joined_again_is_joined() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    for membership in ["join", "leave", "join"] {
        world.send(member("@b:x", "@b:x", membership)).await;
    }
    let (_, response) = synced(&world, "@b:x", since(token)).await;
    assert_eq!(response["rooms"].get("leave"), None);
    assert!(part(joined(&response)).0.contains(&8));
}

#[tokio::test]
async fn an_invite_shows_what_it_may_and_a_refused_one_its_end() {
    let mut world = World::new().await;
    world.room(ROOM, "joined").await;
    world.send(state_event("@a:x", "m.room.name", json!({ "name": "secret club" }))).await;
    world.send(state_event("@a:x", "org.example.secret", json!({ "a": 1 }))).await;
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    world.send(member("@a:x", "@b:x", "invite")).await;
    for request in [since(token), SyncRequest::default()] {
        let (_, response) = synced(&world, "@b:x", request).await;
        let events = response["rooms"]["invite"]["!r1:x"]["invite_state"]["events"].as_array().expect("events").clone();
        let types: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
        let expected = [
            "m.room.create",
            "m.room.join_rules",
            "m.room.name",
            "m.room.history_visibility",
            "m.room.member",
            "m.room.member",
        ];
        assert_eq!(types, expected);
        assert_eq!(
            events[5],
            json!({ "content": { "membership": "invite", "displayname": "@b:x" }, "sender": "@a:x", "state_key": "@b:x", "type": "m.room.member" })
        );
        assert!(events[0]["origin_server_ts"].is_u64());
    }
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    world.send(message("@a:x", "not for b")).await;
    let refused = world.send(member("@b:x", "@b:x", "leave")).await;
    let (next, response) = synced(&world, "@b:x", since(token)).await;
    assert_eq!(part(&response["rooms"]["leave"]["!r1:x"]), (vec![refused.0], vec![], false));
    assert_eq!(response["rooms"].get("invite"), None);
    assert_eq!(synced(&world, "@b:x", since(next)).await.1.get("rooms"), None);
}

#[tokio::test]
async fn of_a_forgotten_room_only_the_leave_is_told() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    world.send(message("@a:x", "before")).await;
    let left = world.send(member("@b:x", "@b:x", "leave")).await;
    let user = number("@b:x").expect("a user");
    world
        .write(|batch| {
            let row = MembershipRow { membership: Membership::Leave, rix: left, forgotten: true };
            let entry = UserLogEntry::Forget { room: ROOM };
            batch
                .put::<Memberships>(&(user, ROOM), &Positioned::pending(row))
                .put::<UserLog>(&(user, primitives::StreamPosition::PENDING, 0), &entry);
        })
        .await;
    let (next, response) = synced(&world, "@b:x", since(token)).await;
    assert_eq!(part(&response["rooms"]["leave"]["!r1:x"]), (vec![left.0], vec![], false));
    assert_eq!(synced(&world, "@b:x", since(next)).await.1.get("rooms"), None);
    let everything = filtered(r#"{"room":{"include_leave":true}}"#);
    assert_eq!(synced(&world, "@b:x", everything).await.1.get("rooms"), None);
}

#[tokio::test]
async fn an_invite_from_elsewhere_shows_what_came_with_it_and_drops_what_is_broken() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let user = number("@b:x").expect("a user");
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    let invite = json!({ "type": "m.room.member", "state_key": "@b:x", "sender": "@z:y", "content": { "membership": "invite" }, "depth": 3 });
    let name = json!({ "type": "m.room.name", "state_key": "", "sender": "@z:y", "content": { "name": "n" } });
    let row = |membership| OutOfBandRow {
        membership,
        room_id: "!r1:x".to_owned(),
        room_version: "11".to_owned(),
        sender: "@z:y".to_owned(),
        server: "y".to_owned(),
        event: invite.to_string().into_bytes(),
        stripped_state: json!([name, { "type": 5 }, "x"]).to_string().into_bytes(),
    };
    let leave = json!({
        "type": "m.room.member", "state_key": "@b:x", "sender": "@b:x", "content": { "membership": "leave" },
        "room_id": "!r1:x", "origin_server_ts": 1, "depth": 4, "prev_events": [], "auth_events": [],
        "hashes": { "sha256": "" }, "signatures": {},
    });
    let put = |membership| {
        let mut row = row(membership);
        if membership == Membership::Leave {
            row.event = leave.to_string().into_bytes();
        }
        let row = Positioned::pending(row);
        let entry = UserLogEntry::OutOfBand { room: ROOM, membership };
        move |batch: &mut storage::Batch| {
            batch
                .put::<OutOfBand>(&(user, ROOM), &row)
                .put::<UserLog>(&(user, primitives::StreamPosition::PENDING, 0), &entry);
        }
    };
    world.write(put(Membership::Invite)).await;
    for request in [since(token), SyncRequest::default()] {
        let (_, response) = synced(&world, "@b:x", request).await;
        let events = &response["rooms"]["invite"]["!r1:x"]["invite_state"]["events"];
        let mut stripped = invite.clone();
        stripped.as_object_mut().expect("an object").remove("depth");
        assert_eq!(*events, json!([name, stripped]));
    }
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    world.write(put(Membership::Leave)).await;
    let (_, response) = synced(&world, "@b:x", since(token)).await;
    let all = filtered(r#"{"room":{"include_leave":true}}"#);
    let (_, from_the_start) = synced(&world, "@b:x", all).await;
    for response in [response, from_the_start] {
        let events = response["rooms"]["leave"]["!r1:x"]["timeline"]["events"].as_array().expect("a list").clone();
        assert_eq!(events.len(), 1, "{response}");
        assert_eq!(events[0]["content"], json!({ "membership": "leave" }));
        assert_eq!((&events[0]["sender"], &events[0]["state_key"]), (&json!("@b:x"), &json!("@b:x")));
        assert!(events[0]["event_id"].is_string() && events[0].get("signatures").is_none());
    }
    let no_members = filtered(r#"{"room":{"include_leave":true,"timeline":{"not_types":["m.room.member"]}}}"#);
    let (_, response) = synced(&world, "@b:x", no_members).await;
    assert_eq!(response["rooms"]["leave"]["!r1:x"]["timeline"]["events"], json!([]));
    assert_eq!(synced(&world, "@b:x", SyncRequest::default()).await.1.get("rooms"), None);
}

#[tokio::test]
async fn an_invite_from_elsewhere_that_was_accepted_is_a_joined_room() {
    let mut world = World::new().await;
    let user = number("@b:x").expect("a user");
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    world
        .write(|batch| {
            let row = OutOfBandRow {
                membership: Membership::Leave,
                room_id: "!r1:x".to_owned(),
                room_version: "11".to_owned(),
                sender: "@z:y".to_owned(),
                server: "y".to_owned(),
                event: b"{}".to_vec(),
                stripped_state: b"[]".to_vec(),
            };
            let entry = UserLogEntry::OutOfBand { room: ROOM, membership: Membership::Leave };
            batch
                .put::<OutOfBand>(&(user, ROOM), &Positioned::pending(row))
                .put::<UserLog>(&(user, primitives::StreamPosition::PENDING, 0), &entry);
        })
        .await;
    let (_, response) = synced(&world, "@b:x", since(token)).await;
    assert!(joined(&response).is_object());
    assert_eq!(response["rooms"].get("leave"), None);
}

#[tokio::test]
async fn a_ban_after_a_leave_is_told_as_state() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let (token, _) = synced(&world, "@b:x", SyncRequest::default()).await;
    let left = world.send(member("@b:x", "@b:x", "leave")).await;
    world.send(message("@a:x", "behind the back")).await;
    let banned = world.send(member("@a:x", "@b:x", "ban")).await;
    let (_, response) = synced(&world, "@b:x", since(token)).await;
    assert_eq!(part(&response["rooms"]["leave"]["!r1:x"]), (vec![left.0], vec![banned.0], false));
}

#[tokio::test]
async fn a_client_that_reads_too_slowly_is_cut_off() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let answer = world.reads.answer_sync(&reader("@a:x"), SyncRequest::default()).await.expect("an answer");
    let SyncAnswer::Pieces(mut pieces) = answer else { panic!("an initial sync comes in pieces") };
    world.clock.advance(std::time::Duration::from_secs(121));
    assert_eq!(pieces.next().await, Err(ReadTooSlowly));
    assert_eq!(pieces.next().await, Ok(None));
}
