use serde_json::{Value, json};
use storage::schema::rooms::{EventLocal, Verdict};

use super::*;
use crate::testing::stored::{Draft, ROOM, member, message, state_event};

async fn event(world: &World, user: &str, rix: Rix) -> Result<Value, ReadRoomError> {
    let event = world.reads.event(&reader(user), world.id(), &id(rix)).await?;
    Ok(serde_json::to_value(event).expect("JSON"))
}

async fn sees(world: &World, user: &str, rix: Rix) -> bool {
    match event(world, user, rix).await {
        Ok(_) => true,
        Err(ReadRoomError::NotFound) => false,
        Err(error) => panic!("{error}"),
    }
}

/// I9: what a user sees of a time before they came, when they were invited, while they were in, and after they left.
#[tokio::test]
async fn i9_an_event_is_shown_to_whom_the_visibility_at_it_lets_see_it() {
    let rows = [
        ("world_readable", [true, true, true, true]),
        ("shared", [true, true, true, false]),
        ("invited", [false, true, true, false]),
        ("joined", [false, false, true, false]),
    ];
    for (visibility, expected) in rows {
        let mut world = World::new().await;
        world.room(ROOM, visibility).await;
        let mut said = vec![world.send(message("@a:x", "before")).await];
        world.send(member("@a:x", "@b:x", "invite")).await;
        said.push(world.send(message("@a:x", "invited")).await);
        world.send(member("@b:x", "@b:x", "join")).await;
        said.push(world.send(message("@a:x", "in")).await);
        let mut got = vec![];
        for rix in &said {
            got.push(sees(&world, "@b:x", *rix).await);
        }
        world.send(member("@b:x", "@b:x", "leave")).await;
        said.push(world.send(message("@a:x", "after")).await);
        assert_eq!(sees(&world, "@b:x", said[3]).await, expected[3], "{visibility}, after leaving");
        for (rix, expected) in said.iter().zip(&expected).take(3) {
            assert_eq!(sees(&world, "@b:x", *rix).await, *expected, "{visibility}, looked at after leaving");
        }
        assert_eq!(got, expected[..3], "{visibility}");
        assert_eq!(sees(&world, "@c:x", said[0]).await, visibility == "world_readable", "{visibility}, a stranger");
    }
}

#[tokio::test]
async fn an_event_of_another_room_looks_like_one_that_does_not_exist() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.room(primitives::RoomNid(2), "shared").await;
    let elsewhere = event_id(primitives::RoomNid(2), Rix(1));
    let found = world.reads.event(&reader("@a:x"), world.id(), &elsewhere).await;
    assert!(matches!(found, Err(ReadRoomError::NotFound)));
    let nowhere = world.reads.event(&reader("@a:x"), ruma::room_id!("!none:x"), &id(Rix(1))).await;
    assert!(matches!(nowhere, Err(ReadRoomError::NotFound)));
}

#[tokio::test]
async fn what_was_not_accepted_is_not_shown() {
    let mut world = World::new().await;
    world.room(ROOM, "world_readable").await;
    for verdict in [Verdict::SoftFailed("no".to_owned()), Verdict::Rejected("no".to_owned())] {
        let rix = world.send(Draft { verdict, ..message("@a:x", "x") }).await;
        assert!(!sees(&world, "@a:x", rix).await);
    }
}

#[tokio::test]
async fn a_redacted_event_is_pruned_wherever_it_is_read() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let rix = world.send(message("@a:x", "secret")).await;
    assert_eq!(event(&world, "@a:x", rix).await.expect("seen")["content"]["body"], "secret");
    let redaction = world.redact(rix).await;
    let shown = event(&world, "@a:x", rix).await.expect("seen");
    assert_eq!(shown["content"], json!({}));
    assert_eq!(shown["unsigned"]["redacted_because"]["event_id"], id(redaction).as_str());
    let request = ContextRequest { event_id: id(redaction), limit: None, filter: RoomEventFilter::default() };
    let context = world.reads.context(&reader("@a:x"), world.id(), request).await.expect("a context");
    assert!(!serde_json::to_string(&context).expect("JSON").contains("secret"));
}

#[tokio::test]
async fn only_the_sending_device_sees_its_transaction_id() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let text = |text: &str| Some(text.to_owned());
    let local = EventLocal { device_id: text("PHONE"), transaction_id: text("t1"), delay_id: text("d1") };
    let rix = world.send(Draft { local: Some(local), ..message("@a:x", "x") }).await;
    let own = event(&world, "@a:x", rix).await.expect("seen");
    assert_eq!(own["unsigned"]["transaction_id"], "t1");
    assert_eq!(own["unsigned"]["org.matrix.msc4140.delay_id"], "d1");
    let laptop = Reader { device_id: Some("LAPTOP".into()), ..reader("@a:x") };
    let other =
        serde_json::to_value(world.reads.event(&laptop, world.id(), &id(rix)).await.expect("seen")).expect("JSON");
    assert_eq!(other["unsigned"].get("transaction_id"), None);
    assert_eq!(other["unsigned"]["delay_id"], "d1");
    let stranger = event(&world, "@b:x", rix).await.expect("seen");
    assert_eq!((stranger["unsigned"].get("transaction_id"), stranger["unsigned"].get("delay_id")), (None, None));
}

#[tokio::test]
async fn a_state_event_says_what_it_replaced_and_the_reader_what_they_were() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let old = world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "old" }))).await;
    let join = world.send(member("@b:x", "@b:x", "join")).await;
    let new = world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "new" }))).await;
    let shown = event(&world, "@b:x", new).await.expect("seen");
    assert_eq!(shown["unsigned"]["prev_content"], json!({ "topic": "old" }));
    assert_eq!(shown["unsigned"]["replaces_state"], id(old).as_str());
    assert_eq!(shown["unsigned"]["membership"], "join");
    assert_eq!(event(&world, "@b:x", old).await.expect("seen")["unsigned"]["membership"], "leave");
    assert_eq!(event(&world, "@b:x", join).await.expect("seen")["unsigned"]["membership"], "join");
}

#[tokio::test]
async fn the_state_of_a_room_is_that_of_when_the_reader_left() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "old" }))).await;
    world.send(member("@b:x", "@b:x", "join")).await;
    world.send(member("@b:x", "@b:x", "leave")).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "new" }))).await;
    let topic = |user: &'static str| {
        let (reads, room) = (world.reads.clone(), world.id());
        async move {
            reads
                .state_event(&reader(user), room, "m.room.topic", "")
                .await
                .map(|event| event.event.content().get().to_owned())
        }
    };
    assert_eq!(topic("@a:x").await.expect("a topic"), r#"{"topic":"new"}"#);
    assert_eq!(topic("@b:x").await.expect("a topic"), r#"{"topic":"old"}"#);
    assert!(matches!(topic("@c:x").await, Err(ReadRoomError::Forbidden)));
    let state = world.reads.state(&reader("@b:x"), world.id()).await.expect("a state");
    let state = serde_json::to_value(state).expect("JSON");
    assert_eq!(rixes(&state), [1, 2, 3, 4, 5, 6, 8]);
    assert_eq!(state[0]["room_id"], "!r1:x");
    let absent = world.reads.state_event(&reader("@a:x"), world.id(), "m.room.name", "").await;
    assert!(matches!(absent, Err(ReadRoomError::NotFound)));
    let nowhere = world.reads.state(&reader("@a:x"), ruma::room_id!("!none:x")).await;
    assert!(matches!(nowhere, Err(ReadRoomError::Forbidden)));
}
