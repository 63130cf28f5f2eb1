use super::*;
use crate::testing::stored::{ROOM, member, message};

const LAZY: &str = r#"{"room":{"timeline":{"limit":2},"state":{"lazy_load_members":true,"types":["m.room.member"]}}}"#;

async fn crowded() -> World {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    for user in ["@b:x", "@c:x", "@d:x", "@e:x", "@f:x", "@g:x", "@h:x"] {
        let user: &'static str = user;
        world.send(member(user, user, "join")).await;
    }
    world.send(crate::testing::stored::state_event("@a:x", "m.room.name", serde_json::json!({ "name": "n" }))).await;
    world
}

fn lazy(token: Option<SyncToken>) -> SyncRequest {
    SyncRequest { since: token, ..filtered(LAZY) }
}

fn members(response: &Value) -> Vec<u32> {
    rixes(&joined(response)["state"]["events"])
}

#[tokio::test]
async fn only_senders_and_the_reader_are_members_of_an_initial_sync() {
    let mut world = crowded().await;
    world.send(message("@h:x", "x")).await;
    let (_, response) = synced(&world, "@a:x", lazy(None)).await;
    assert_eq!(members(&response), [2, 12]);
}

#[tokio::test]
async fn heroes_come_with_their_members() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    world.send(message("@a:x", "x")).await;
    world.send(message("@a:x", "y")).await;
    let (_, response) = synced(&world, "@a:x", lazy(None)).await;
    assert_eq!(joined(&response)["summary"]["m.heroes"][0], "@b:x");
    assert_eq!(members(&response), [2, 6]);
}

#[tokio::test]
async fn a_member_is_sent_once_but_again_as_long_as_the_client_has_not_shown_that_it_arrived() {
    let mut world = crowded().await;
    let (first, _) = synced(&world, "@a:x", lazy(None)).await;
    world.send(message("@b:x", "one")).await;
    let (second, response) = synced(&world, "@a:x", lazy(Some(first))).await;
    assert_eq!(members(&response), [6]);
    let (_, repeated) = synced(&world, "@a:x", lazy(Some(first))).await;
    assert_eq!(members(&repeated), [6], "the first response may have been lost");
    world.send(message("@b:x", "two")).await;
    let (third, response) = synced(&world, "@a:x", lazy(Some(second))).await;
    assert_eq!(members(&response), [0_u32; 0]);
    let redundant = r#"{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true}}}"#;
    let (_, response) = synced(&world, "@a:x", SyncRequest { since: Some(second), ..filtered(redundant) }).await;
    assert_eq!(members(&response), [6]);
    // A client that starts over knows nobody any more.
    let (fresh, _) = synced(&world, "@a:x", lazy(None)).await;
    world.send(message("@c:x", "three")).await;
    world.send(message("@d:x", "four")).await;
    let (_, response) = synced(&world, "@a:x", lazy(Some(fresh))).await;
    assert_eq!(members(&response), [7, 8]);
    world.restart();
    let (_, response) = synced(&world, "@a:x", lazy(Some(third))).await;
    assert_eq!(members(&response), [7, 8], "what is not remembered is sent again");
}

#[tokio::test]
async fn a_new_profile_is_sent_with_the_next_message() {
    let mut world = crowded().await;
    let (first, _) = synced(&world, "@a:x", lazy(None)).await;
    world.send(message("@b:x", "one")).await;
    let (second, _) = synced(&world, "@a:x", lazy(Some(first))).await;
    let renamed = world.send(member("@b:x", "@b:x", "join")).await;
    for body in ["two", "three"] {
        world.send(message("@b:x", body)).await;
    }
    let (_, response) = synced(&world, "@a:x", lazy(Some(second))).await;
    assert_eq!(members(&response), [renamed.0], "the change lies before the timeline");
}

#[tokio::test]
async fn the_state_at_the_end_has_every_sender_of_the_timeline() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let asked = SyncRequest {
        state_after: StateAfter::Stable,
        ..filtered(r#"{"room":{"timeline":{"limit":20},"state":{"lazy_load_members":true}}}"#)
    };
    let (_, response) = synced(&world, "@a:x", asked).await;
    assert_eq!(rixes(&joined(&response)["state_after"]["events"]), [1, 2, 3, 4, 5, 6]);
}
