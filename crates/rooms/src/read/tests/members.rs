use serde_json::json;
use storage::schema::rooms::Membership;

use super::*;
use crate::testing::stored::{Draft, ROOM, member, message};

async fn members(world: &World, user: &str, request: MembersRequest) -> Result<Vec<u32>, ReadRoomError> {
    let members = world.reads.members(&reader(user), world.id(), request).await?;
    Ok(rixes(&serde_json::to_value(members).expect("JSON")))
}

#[tokio::test]
async fn members_are_chosen_by_membership() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    world.send(member("@b:x", "@b:x", "leave")).await;
    let asked = |membership, not_membership| MembersRequest { at: None, membership, not_membership };
    assert_eq!(members(&world, "@a:x", asked(None, None)).await.expect("members"), [2, 7]);
    assert_eq!(members(&world, "@a:x", asked(Some(Membership::Join), None)).await.expect("members"), [2]);
    assert_eq!(members(&world, "@a:x", asked(Some(Membership::Leave), None)).await.expect("members"), [7]);
    assert_eq!(members(&world, "@a:x", asked(None, Some(Membership::Leave))).await.expect("members"), [2]);
    assert!(matches!(members(&world, "@c:x", asked(None, None)).await, Err(ReadRoomError::Forbidden)));
}

#[tokio::test]
async fn members_at_a_token_are_those_of_then() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(message("@a:x", "hello")).await;
    let then = PageToken::Stream(world.reads.token_of(&world.storage.view()));
    let at_start = world.reads.messages(&reader("@a:x"), world.id(), asked(PageDirection::Forward, None, 1)).await;
    let before_everything = match at_start.expect("a page").start {
        PageToken::Timeline(point) => PageToken::Timeline(point),
        PageToken::Stream(_) => panic!("a timeline token"),
    };
    world.send(member("@b:x", "@b:x", "join")).await;
    let top = world.reads.messages(&reader("@a:x"), world.id(), asked(PageDirection::Backward, None, 1)).await;
    let before_join = top.expect("a page").end.expect("more");
    for at in [then, before_everything, before_join] {
        let request = MembersRequest { at: Some(at), ..MembersRequest::default() };
        assert_eq!(members(&world, "@a:x", request).await.expect("members"), [2], "{at:?}");
    }
    let request = MembersRequest {
        at: Some(PageToken::Stream(world.reads.token_of(&world.storage.view()))),
        ..MembersRequest::default()
    };
    assert_eq!(members(&world, "@a:x", request).await.expect("members"), [2, 7]);
}

#[tokio::test]
async fn those_who_left_see_the_members_of_when_they_left() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let left = world.send(member("@b:x", "@b:x", "leave")).await;
    world.send(member("@c:x", "@c:x", "join")).await;
    let now = PageToken::Stream(world.reads.token_of(&world.storage.view()));
    for at in [None, Some(now)] {
        let request = MembersRequest { at, ..MembersRequest::default() };
        assert_eq!(members(&world, "@b:x", request).await.expect("members"), [2, left.0], "{at:?}");
    }
}

#[tokio::test]
async fn joined_members_and_rooms() {
    let mut world = World::new().await;
    world.room(ROOM, "world_readable").await;
    let odd = json!({ "membership": "join", "displayname": 5, "avatar_url": "mxc://x/a" });
    world.send(Draft { content: odd, ..member("@b:x", "@b:x", "join") }).await;
    let joined = world.reads.joined_members(&reader("@a:x"), world.id()).await.expect("members");
    insta::assert_snapshot!(
        serde_json::to_string(&joined).expect("JSON"),
        @r#"{"joined":{"@a:x":{"display_name":"@a:x","avatar_url":null},"@b:x":{"display_name":null,"avatar_url":"mxc://x/a"}}}"#
    );
    let peeking = world.reads.joined_members(&reader("@c:x"), world.id()).await;
    assert!(matches!(peeking, Err(ReadRoomError::Forbidden)));

    assert_eq!(world.reads.joined_rooms(&reader("@b:x")).await.expect("rooms"), [world.id()]);
    world.room(primitives::RoomNid(2), "shared").await;
    world.send_to(primitives::RoomNid(2), member("@b:x", "@b:x", "join")).await;
    world.send(member("@b:x", "@b:x", "leave")).await;
    assert_eq!(world.reads.joined_rooms(&reader("@b:x")).await.expect("rooms"), ["!r2:x"]);
    world.restart();
    assert_eq!(world.reads.joined_rooms(&reader("@b:x")).await.expect("rooms"), ["!r2:x"]);
}

#[tokio::test]
async fn two_users_share_a_room_while_both_are_in_it() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (a, b) = (reader("@a:x"), reader("@b:x"));
    let far = ruma::user_id!("@far:elsewhere");
    let shares = async |world: &World, user: &Reader, other: &ruma::UserId| {
        world.reads.share_a_room(user.user_nid, other).await.expect("read")
    };
    world.send(member("@a:x", "@b:x", "invite")).await;
    assert!(!shares(&world, &a, &b.user_id).await && !shares(&world, &b, &a.user_id).await);
    world.send(member("@b:x", "@b:x", "join")).await;
    world.send(member("@far:elsewhere", "@far:elsewhere", "join")).await;
    assert!(shares(&world, &a, &b.user_id).await && shares(&world, &b, &a.user_id).await);
    assert!(shares(&world, &a, far).await);
    world.send(member("@b:x", "@b:x", "leave")).await;
    assert!(!shares(&world, &a, &b.user_id).await && !shares(&world, &b, &a.user_id).await);
}
