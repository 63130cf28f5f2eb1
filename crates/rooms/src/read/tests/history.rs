use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::stored::{Draft, ROOM, member, message};

/// All pages from one end to the other.
async fn all(world: &World, user: &str, direction: PageDirection, limit: u64) -> Vec<u32> {
    let (mut from, mut found) = (None, vec![]);
    for _ in 0..1_000 {
        let page = messages(world, user, asked(direction, from, limit)).await;
        assert!(page["chunk"].as_array().expect("a list").len() <= usize::try_from(limit).expect("small"));
        found.extend(rixes(&page["chunk"]));
        match end(&page) {
            Some(next) => from = Some(next),
            None => return found,
        }
    }
    panic!("pages without end");
}

#[tokio::test]
async fn pages_join_without_hole_or_double_in_both_directions() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    for number in 0..23 {
        world.send(message("@a:x", &number.to_string())).await;
    }
    let expected: Vec<u32> = (1..=28).collect();
    for limit in [1, 3, 10, 28, 100] {
        assert_eq!(all(&world, "@a:x", PageDirection::Forward, limit).await, expected, "{limit}");
        let mut backward = all(&world, "@a:x", PageDirection::Backward, limit).await;
        backward.reverse();
        assert_eq!(backward, expected, "{limit}");
    }
    let page = messages(&world, "@a:x", asked(PageDirection::Backward, None, 28)).await;
    assert_eq!(end(&page), None, "the true end has no token");
}

/// SECURITY 23.
#[tokio::test]
async fn a_page_of_hidden_events_does_not_end_pagination() {
    let mut world = World::new().await;
    world.room(ROOM, "joined").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    let seen = world.send(message("@b:x", "seen")).await;
    let left = world.send(member("@b:x", "@b:x", "leave")).await;
    for number in 0..6_000 {
        let draft = message("@a:x", &number.to_string());
        if number % 500 == 0 {
            world.send(draft).await;
        } else {
            world.send_all(ROOM, vec![draft; 12]).await;
            if number > 500 {
                break;
            }
        }
    }
    let again = world.send(member("@b:x", "@b:x", "join")).await;
    let page = messages(&world, "@b:x", asked(PageDirection::Backward, None, 3)).await;
    let mut found = rixes(&page["chunk"]);
    let mut next = end(&page);
    while let (Some(from), true) = (next, found.len() < 3) {
        let page = messages(&world, "@b:x", asked(PageDirection::Backward, Some(from), 3)).await;
        found.extend(rixes(&page["chunk"]));
        next = end(&page);
    }
    assert_eq!(found[..3], [again.0, left.0, seen.0]);
}

#[tokio::test]
async fn those_who_left_page_up_to_when_they_left() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    world.send(message("@a:x", "in")).await;
    let left = world.send(member("@b:x", "@b:x", "leave")).await;
    world.send(message("@a:x", "after")).await;
    assert_eq!(all(&world, "@b:x", PageDirection::Forward, 4).await, (1..=left.0).collect::<Vec<_>>());
    assert_eq!(all(&world, "@b:x", PageDirection::Backward, 4).await[0], left.0);
    let outside = world.reads.messages(&reader("@c:x"), world.id(), asked(PageDirection::Backward, None, 4)).await;
    assert!(matches!(outside, Err(ReadRoomError::Forbidden)));
    let nowhere =
        world.reads.messages(&reader("@a:x"), ruma::room_id!("!none:x"), asked(PageDirection::Backward, None, 4)).await;
    assert!(matches!(nowhere, Err(ReadRoomError::Forbidden)));
}

#[tokio::test]
async fn tokens_of_sync_page_and_tokens_of_elsewhere_are_refused() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.room(primitives::RoomNid(2), "shared").await;
    let here = PageToken::Stream(world.reads.token_of(&world.storage.view()));
    let later = world.send(message("@a:x", "later")).await;
    let page = messages(&world, "@a:x", asked(PageDirection::Forward, Some(here), 10)).await;
    assert_eq!(rixes(&page["chunk"]), [later.0]);
    let page = messages(&world, "@a:x", asked(PageDirection::Backward, Some(here), 2)).await;
    assert_eq!(rixes(&page["chunk"]), [5, 4]);
    let other_room =
        world.reads.messages(&reader("@a:x"), ruma::room_id!("!r2:x"), asked(PageDirection::Backward, None, 2)).await;
    let foreign = other_room.expect("a page").end.expect("more");
    let PageToken::Stream(token) = here else { panic!("a stream token") };
    let restored = PageToken::Stream(crate::tokens::SyncToken { epoch: token.epoch ^ 1, ..token });
    for bad in [foreign, restored] {
        let refused =
            world.reads.messages(&reader("@a:x"), world.id(), asked(PageDirection::Backward, Some(bad), 2)).await;
        assert!(matches!(refused, Err(ReadRoomError::BadToken(_))));
    }
}

#[tokio::test]
async fn lazy_loading_gives_the_senders_and_a_filter_the_events_it_wants() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    world.send(message("@b:x", "x")).await;
    let json = r#"{"lazy_load_members":true,"types":["m.room.message"]}"#;
    let filter = RoomEventFilter::parse(json).expect("a filter");
    let request = MessagesRequest { filter, ..asked(PageDirection::Backward, None, 10) };
    let page = messages(&world, "@a:x", request).await;
    assert_eq!((rixes(&page["chunk"]), rixes(&page["state"])), (vec![7], vec![6]));
    let filter = RoomEventFilter::parse(r#"{"related_by_rel_types":["m.thread"]}"#).expect("a filter");
    let request = MessagesRequest { filter, ..asked(PageDirection::Backward, None, 10) };
    assert_eq!(messages(&world, "@a:x", request).await["chunk"], json!([]));
}

#[tokio::test]
async fn a_context_has_both_sides_and_tokens_that_go_on() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    for number in 0..10 {
        world.send(message("@a:x", &number.to_string())).await;
    }
    let request = ContextRequest { event_id: id(Rix(10)), limit: Some(5), filter: RoomEventFilter::default() };
    let context = world.reads.context(&reader("@a:x"), world.id(), request).await.expect("a context");
    let (start, end) = (context.start, context.end);
    let context = serde_json::to_value(context).expect("JSON");
    assert_eq!(rixes(&context["events_before"]), [9, 8]);
    assert_eq!(rixes(&context["events_after"]), [11, 12, 13]);
    assert_eq!(rixes(&context["state"]), [1, 2, 3, 4, 5]);
    let older = messages(&world, "@a:x", asked(PageDirection::Backward, Some(start), 1)).await;
    let newer = messages(&world, "@a:x", asked(PageDirection::Forward, Some(end), 1)).await;
    assert_eq!((rixes(&older["chunk"]), rixes(&newer["chunk"])), (vec![7], vec![14]));
    let request = ContextRequest { event_id: id(Rix(10)), limit: Some(0), filter: RoomEventFilter::default() };
    let hidden = world.reads.context(&reader("@c:x"), world.id(), request).await;
    assert!(matches!(hidden, Err(ReadRoomError::NotFound)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the ranks, what is paged in either direction is every event once.
    #[test]
    fn any_order_of_ranks_pages_whole(ranks in proptest::collection::vec(0_u64..6, 1..20), limit in 1_u64..7) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            world.room(ROOM, "shared").await;
            for rank in &ranks {
                let rank = Some(primitives::Rank(primitives::Rank::FIRST.0 + 5 + rank));
                world.send(Draft { rank, ..message("@a:x", "x") }).await;
            }
            let forward = all(&world, "@a:x", PageDirection::Forward, limit).await;
            let mut backward = all(&world, "@a:x", PageDirection::Backward, limit).await;
            backward.reverse();
            prop_assert_eq!(&forward, &backward);
            let mut sorted = forward;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (1..=5 + u32::try_from(ranks.len()).expect("few")).collect::<Vec<_>>());
            Ok(())
        })?;
    }
}
