//! Receives that are too large for one batch.

use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use ruma::{OwnedEventId, server_name};
use storage::{Storage, schema::rooms::Verdict};

use super::{
    Server,
    forks::{Author, Look, joined, keys, message},
};
use crate::{Incoming, Options, Pdu, Received, Room};

/// A server that writes received events in batches of no more than this many bytes, and a room in which `@r0:y` is.
async fn small_batches(bytes: usize) -> (Server, Room, Author) {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let shared: SharedClock = clock.clone();
    let options = Options { receive_batch_max_bytes: bytes, ..Options::new(server_name!("x").to_owned()) };
    let server = Server::with(Storage::memory(&shared, &Random::seeded(1)), clock, options).await;
    let (room, far) = joined(&server, "11").await;
    (server, room, far)
}

/// Messages of which each follows the one before.
async fn chain(look: &Look<'_>, far: &mut Author, count: usize) -> Vec<Pdu> {
    let mut last = look.tips().await;
    let template = look.make(far, &last, message("@r0:y")).await;
    let mut events = Vec::new();
    for _ in 0..count {
        let event = look.make_with(far, &last, template.auth_events(), &message("@r0:y")).await;
        last = vec![event.event_id().clone()];
        events.push(event);
    }
    events
}

#[tokio::test]
async fn a_receive_that_is_too_large_is_written_in_parts_in_whatever_order_it_comes() {
    for reversed in [false, true] {
        let (server, room, mut far) = small_batches(4_000).await;
        let look = Look { server: &server, room: &room };
        let mut events = chain(&look, &mut far, 40).await;
        let last = events.last().expect("some").event_id().clone();
        if reversed {
            events.reverse();
        }
        let before = server.storage.view().position();
        let incoming = events.iter().map(|event| Incoming::new(event.json())).collect();
        let received = room.receive(incoming, &keys()).await.expect("judged");
        for (event, received) in events.iter().zip(received) {
            assert_eq!(received, Received::Stored(event.event_id().clone(), Verdict::Accepted));
        }
        assert!(server.storage.view().position().0 - before.0 > 5, "there were several batches");
        assert_eq!(look.tips().await, [last]);
        super::verify::assert_whole(&server).await;
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_alone_is_written_all_the_same() {
    let (server, room, mut far) = small_batches(1).await;
    let look = Look { server: &server, room: &room };
    let events = chain(&look, &mut far, 3).await;
    let incoming = events.iter().map(|event| Incoming::new(event.json())).collect();
    let received = room.receive(incoming, &keys()).await.expect("judged");
    assert!(received.iter().all(|one| matches!(one, Received::Stored(_, Verdict::Accepted))), "{received:?}");
    super::verify::assert_whole(&server).await;
}

#[tokio::test]
async fn a_large_given_state_is_put_together_before_the_event_that_it_is_for() {
    let (server, room, mut far) = small_batches(8 << 20).await;
    let look = Look { server: &server, room: &room };
    let events = chain(&look, &mut far, 2).await;
    let state: Vec<OwnedEventId> =
        look.state_after(&look.tips().await).await.into_values().map(|id| id.try_into().expect("an id")).collect();
    // The same events again and again: many ids, few events.
    let many: Vec<_> = state.iter().cycle().take(1_200).cloned().collect();
    let mut unknown = many.clone();
    unknown.push(events[0].event_id().clone());
    let after_gap =
        |state: Vec<OwnedEventId>| Incoming { state_before: Some(state), ..Incoming::new(events[1].json()) };
    let received = room.receive(vec![after_gap(unknown)], &keys()).await.expect("judged");
    let missing = vec![events[0].event_id().clone()];
    assert_eq!(received, [Received::Missing(events[1].event_id().clone(), missing)]);
    let received = room.receive(vec![after_gap(many)], &keys()).await.expect("judged");
    assert_eq!(received, [Received::Stored(events[1].event_id().clone(), Verdict::Accepted)]);
    assert_eq!(look.state_after(&[events[1].event_id().clone()]).await.len(), state.len());
    super::verify::assert_whole(&server).await;
}
