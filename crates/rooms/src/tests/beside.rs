//! What sync tells beside events: account data, receipts and typing. A client on two devices that applies what it is told, against random changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use primitives::{RoomNid, UserNid};
use proptest::prelude::*;
use ruma::OwnedEventId;
use serde_json::{Map, Value, json};
use users::{AccountData, DataKey};

use super::{ALICE, BOB, Server, say, uid, user};
use crate::{
    Details, Marks, ReceiptType, Room, Thread,
    read::Reader,
    receipts,
    sync::{SyncRequest, SyncResponse},
    tokens::SyncToken,
};

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Say,
    /// Data of the room or of none, of one of a few types; 0 deletes.
    Data(bool, u8, u8),
    /// By Alice or Bob, of one of the last events, private or not, about one of a few things.
    Read(bool, u8, bool, u8),
    Type(bool, bool),
    Pass(u8),
    Rejoin,
    /// By one of two devices; from the start or on.
    Sync(bool, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Say),
        4 => (any::<bool>(), 0_u8..3, 0_u8..4).prop_map(|(room, kind, value)| Step::Data(room, kind, value)),
        6 => (any::<bool>(), 0_u8..4, any::<bool>(), 0_u8..3).prop_map(|(who, back, private, what)| Step::Read(who, back, private, what)),
        3 => (any::<bool>(), any::<bool>()).prop_map(|(who, on)| Step::Type(who, on)),
        1 => (1_u8..20).prop_map(Step::Pass),
        1 => Just(Step::Rejoin),
        4 => (any::<bool>(), proptest::bool::weighted(0.1)).prop_map(|(device, anew)| Step::Sync(device, anew)),
    ]
}

type DataId = (bool, String);
type ReceiptId = (String, String, Option<String>);

/// What a client knows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    data: BTreeMap<DataId, Value>,
    receipts: BTreeMap<ReceiptId, String>,
    typing: BTreeSet<String>,
}

#[derive(Default)]
struct Client {
    token: Option<SyncToken>,
    known: Known,
}

fn strings(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(|id| id.as_str().map(ToOwned::to_owned)).collect()
}

impl Client {
    fn apply(&mut self, room: &Room, response: &SyncResponse) {
        let response = serde_json::to_value(response).expect("JSON");
        let joined = &response["rooms"]["join"][room.id().as_str()];
        for (of_room, part) in [(false, &response["account_data"]), (true, &joined["account_data"])] {
            for event in part["events"].as_array().into_iter().flatten().filter(|event| event["type"] != "m.push_rules")
            {
                let id = (of_room, event["type"].as_str().expect("a type").to_owned());
                if event["content"].as_object().expect("an object").is_empty() {
                    self.known.data.remove(&id);
                } else {
                    self.known.data.insert(id, event["content"].clone());
                }
            }
        }
        for event in joined["ephemeral"]["events"].as_array().into_iter().flatten() {
            if event["type"] == "m.typing" {
                self.known.typing = strings(&event["content"]["user_ids"]);
            } else {
                self.apply_receipts(event["content"].as_object().expect("an object"));
            }
        }
    }

    fn apply_receipts(&mut self, content: &Map<String, Value>) {
        for (event, kinds) in content {
            for (kind, users) in kinds.as_object().expect("an object") {
                for (user, data) in users.as_object().expect("an object") {
                    let thread = data["thread_id"].as_str().map(ToOwned::to_owned);
                    self.known.receipts.insert((user.clone(), kind.clone(), thread), event.clone());
                }
            }
        }
    }
}

struct Run {
    server: Server,
    room: Room,
    events: Vec<OwnedEventId>,
    clients: [Client; 2],
}

impl Run {
    async fn new() -> Self {
        let server = Server::new().await;
        let room = server.public("12").await;
        room.join(uid(BOB), Details::default()).await.expect("joins");
        let first = say(&room, ALICE, "first").await.expect("sends").event_id;
        Self { server, room, events: vec![first], clients: Default::default() }
    }

    async fn reader(&self, id: &str) -> Reader {
        Reader { user_id: user(id), user_nid: self.server.nid(id).await, device_id: None }
    }

    async fn take(&mut self, step: &Step) {
        let name = |alice: bool| if alice { ALICE } else { BOB };
        match *step {
            Step::Say => {
                let sent = say(&self.room, BOB, &self.events.len().to_string()).await.expect("sends");
                self.events.push(sent.event_id);
            }
            Step::Data(of_room, kind, value) => {
                let (user, room) = (self.server.nid(ALICE).await, of_room.then(|| self.room.nid()));
                let data_type = format!("t{kind}");
                let content = if value == 0 { json!({}) } else { json!({ "x": value }) };
                let key = DataKey { user, room, data_type: &data_type };
                let content = content.as_object().expect("an object");
                self.server.users.account_data().set(key, content).await.expect("set");
            }
            Step::Read(alice, back, private, what) => {
                let at = self.events.len().saturating_sub(1 + usize::from(back));
                let receipt_type = if private { ReceiptType::ReadPrivate } else { ReceiptType::Read };
                let thread = match what {
                    0 => Thread::Unthreaded,
                    1 => Thread::Main,
                    _ => Thread::Root(self.events[at].clone()),
                };
                let marks = Marks { receipts: vec![(receipt_type, thread, self.events[at].clone())], fully_read: None };
                self.room.mark_read(&self.reader(name(alice)).await, &marks).await.expect("marked");
            }
            Step::Type(alice, on) => {
                let span = on.then_some(Duration::from_secs(10));
                self.room.set_typing(uid(name(alice)), span).await.expect("types");
            }
            Step::Pass(seconds) => {
                self.server.clock.advance(Duration::from_secs(seconds.into()));
                self.server.rooms.run_due().await;
            }
            Step::Rejoin => {
                self.room.leave(uid(BOB), Details::default()).await.expect("leaves");
                self.room.join(uid(BOB), Details::default()).await.expect("joins");
            }
            Step::Sync(device, anew) => self.sync(usize::from(device), anew).await,
        }
    }

    async fn sync(&mut self, device: usize, anew: bool) {
        let reader = self.reader(ALICE).await;
        let client = &mut self.clients[device];
        if anew {
            *client = Client::default();
        }
        let request = SyncRequest { since: client.token, ..SyncRequest::default() };
        let response = self.server.rooms.reads().sync(&reader, request).await.expect("a response");
        client.token = Some(response.next_batch);
        client.apply(&self.room, &response);
        let client = self.clients[device].known.clone();
        self.compare(&client, reader.user_nid).await;
    }

    /// I10: the client knows what the server does, whatever happened since it last asked.
    async fn compare(&self, client: &Known, user: UserNid) {
        let view = self.server.storage.view();
        let mut data = BTreeMap::new();
        for (of_room, room) in [(false, None::<RoomNid>), (true, Some(self.room.nid()))] {
            for (data_type, content) in AccountData::read_all(&view, user, room).await.expect("read") {
                data.insert((of_room, data_type), serde_json::from_str(&content).expect("JSON"));
            }
        }
        assert_eq!(client.data, data);
        let typing = self.server.rooms.reads().typing().list(self.room.nid());
        assert_eq!(client.typing, typing.iter().map(ToString::to_string).collect());
        let all = receipts::of_room(&view, self.room.nid()).await.expect("read");
        let told = |r: &&receipts::Receipt| r.receipt_type == ReceiptType::Read || r.user_id == ALICE;
        let all: Vec<_> = all.iter().filter(told).collect();
        for receipt in &all {
            let thread = receipt.thread.thread_id().map(ToOwned::to_owned);
            let id = (receipt.user_id.clone(), receipt.receipt_type.as_str().to_owned(), thread);
            // One that is of no thread says as much for all threads, and is told alone.
            let hidden = all.iter().any(|other| {
                (&other.user_id, other.receipt_type) == (&receipt.user_id, receipt.receipt_type)
                    && other.thread == receipts::Thread::Unthreaded
            });
            let known = client.receipts.get(&id);
            assert!(known == Some(&receipt.event_id) || hidden, "{receipt:?} is not known: {client:?}");
        }
        let nobody_elses = |id: &ReceiptId| id.1 == "m.read" || id.0 == ALICE;
        assert!(client.receipts.keys().all(nobody_elses), "private receipts are their user's");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// I10, for what is no event.
    #[test]
    fn i10_two_devices_end_with_what_the_server_knows(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut run = Run::new().await;
            for step in steps.iter().chain([&Step::Sync(false, false), &Step::Sync(true, false)]) {
                run.take(step).await;
            }
        });
    }
}
