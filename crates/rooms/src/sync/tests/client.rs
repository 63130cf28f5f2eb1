//! A client that does what the specification tells clients to do, against random rooms.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    read::{MessagesRequest, PageDirection},
    testing::stored::{Draft, ROOM, member, message, state_event},
};

/// What may happen in a room.
#[derive(Clone, Debug)]
enum Step {
    Message,
    State(u8),
    Member(u8, &'static str),
    Batch(u8),
    OutOfOrder,
    Sync { limit: u8, after: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Message),
        3 => (0_u8..4).prop_map(Step::State),
        2 => (0_u8..4, prop_oneof![Just("join"), Just("leave"), Just("invite")]).prop_map(|(user, membership)| Step::Member(user, membership)),
        1 => (2_u8..9).prop_map(Step::Batch),
        1 => Just(Step::OutOfOrder),
        3 => (0_u8..5, any::<bool>()).prop_map(|(limit, after)| Step::Sync { limit, after }),
        1 => Just(Step::Restart),
    ]
}

const NAMES: [&str; 4] = ["@b:x", "@c:x", "@d:x", "@e:x"];
const TYPES: [&str; 4] = ["m.room.topic", "m.room.name", "m.room.avatar", "org.example.x"];

#[derive(Default)]
struct Client {
    token: Option<SyncToken>,
    /// By type and state key: the event.
    state: BTreeMap<(String, String), u32>,
    seen: BTreeSet<u32>,
}

impl Client {
    fn apply(&mut self, event: &Value) {
        if let Some(state_key) = event["state_key"].as_str() {
            let kind = event["type"].as_str().expect("a type").to_owned();
            self.state.insert((kind, state_key.to_owned()), rixes(&json!([event]))[0]);
        }
    }

    async fn sync(&mut self, world: &World, limit: u8, after: bool) {
        let filter = Filter::parse(&format!(r#"{{"room":{{"timeline":{{"limit":{limit}}}}}}}"#)).expect("a filter");
        let state_after = if after { StateAfter::Stable } else { StateAfter::No };
        let request = SyncRequest { since: self.token, filter, state_after, ..SyncRequest::default() };
        let (token, response) = synced(world, "@a:x", request).await;
        self.token = Some(token);
        let room = joined(&response);
        for name in ["state", "state_after"] {
            room[name]["events"].as_array().into_iter().flatten().for_each(|event| self.apply(event));
        }
        for event in room["timeline"]["events"].as_array().into_iter().flatten() {
            if !after {
                self.apply(event);
            }
            assert!(self.seen.insert(rixes(&json!([event]))[0]), "no event is in two timelines");
        }
        if room["timeline"]["limited"] == true {
            self.fill(world, room["timeline"]["prev_batch"].as_str().expect("a token")).await;
        }
    }

    /// Pages back to the beginning.
    async fn fill(&mut self, world: &World, prev_batch: &str) {
        let mut from = Some(prev_batch.parse().expect("a token"));
        while from.is_some() {
            let filter = crate::filter::RoomEventFilter::default();
            let request =
                MessagesRequest { direction: PageDirection::Backward, from, to: None, limit: Some(7), filter };
            let page = world.reads.messages(&reader("@a:x"), world.id(), request).await.expect("a page");
            self.seen.extend(rixes(&serde_json::to_value(&page.chunk).expect("JSON")));
            from = page.end;
        }
    }
}

async fn server_state(world: &World) -> BTreeMap<(String, String), u32> {
    let state = world.reads.state(&reader("@a:x"), world.id()).await.expect("a state");
    let key = |event: &crate::render::ClientEvent| {
        let header = &event.event.header;
        ((header.event_type.clone(), header.state_key.clone().unwrap_or_default()), event.event.rix.0)
    };
    state.iter().map(key).collect()
}

fn draft(step: &Step) -> Draft {
    match step {
        Step::State(kind) => state_event("@a:x", TYPES[usize::from(*kind)], json!({ "x": 1 })),
        Step::Member(user, membership) => member("@a:x", NAMES[usize::from(*user)], membership),
        _ => message("@a:x", "x"),
    }
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let mut client = Client::default();
    let mut sent = 5_u32;
    for step in steps.iter().chain([&Step::Sync { limit: 3, after: false }]) {
        match step {
            Step::Sync { limit, after } => {
                client.sync(&world, *limit, *after).await;
                assert_eq!(client.state, server_state(&world).await, "the client's state is the server's");
                assert_eq!(client.seen.len(), sent as usize, "I10: every event was seen, in a timeline or behind it");
            }
            Step::Restart => world.restart(),
            Step::Batch(count) => {
                let drafts =
                    (0..*count).map(|n| draft(&if n % 3 == 0 { Step::State(n % 4) } else { Step::Message })).collect();
                world.send_all(ROOM, drafts).await;
                sent += u32::from(*count);
            }
            Step::OutOfOrder => {
                let rank = Some(primitives::Rank(primitives::Rank::FIRST.0 + 5));
                world.send(Draft { rank, ..message("@a:x", "late") }).await;
                sent += 1;
            }
            other => {
                world.send(draft(other)).await;
                sent += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// I3, I10: whatever happens and whenever the client asks, its state is the server's and no event is skipped.
    #[test]
    fn i3_i10_a_client_ends_with_the_servers_state_and_has_missed_nothing(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
