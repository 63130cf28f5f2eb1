use proptest::prelude::*;
use serde_json::json;
use storage::Storage;

use super::*;
use crate::{
    Options, Registered, ToDeviceSizes, Users,
    testing::{World, device, options},
};

fn contents(entries: &[(&str, &[&str])], content: &Value) -> Messages {
    let content = content.as_object().expect("an object");
    let devices = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), content.clone())).collect();
    entries.iter().map(|(user, ids)| ((*user).try_into().expect("a user id"), devices(ids))).collect()
}

fn txn(from: &Registered, txn_id: &str) -> TxnKey {
    let device_id = from.session.as_ref().map(|session| session.device_id.clone());
    TxnKey { user_nid: from.user_nid, device_id, path: String::new(), txn_id: txn_id.to_owned() }
}

async fn send(users: &Users, from: &Registered, txn_id: &str, messages: &Messages) -> Result<(), SendToDeviceError> {
    users.to_device().send(&from.user_id, &txn(from, txn_id), "t", messages).await
}

/// The numbers that wait for a device after a position, and the position that a token would hold.
async fn waiting(
    users: &Users,
    storage: &Storage,
    user: UserNid,
    device: &str,
    after: StreamPosition,
) -> (Vec<u64>, StreamPosition) {
    let view = storage.view();
    let waiting = users.to_device().waiting(&view, user, device.into(), after).await.expect("read");
    let number = |event: &RawValue| {
        let event: Value = serde_json::from_str(event.get()).expect("JSON");
        event["content"]["n"].as_u64().expect("a number")
    };
    let numbers = waiting.events.iter().map(|event| number(event)).collect();
    (numbers, waiting.more_after.unwrap_or(view.position()))
}

/// Two users, the second on the devices A and B besides the first one.
async fn world(sizes: ToDeviceSizes) -> (World, Registered, Registered) {
    let world = World::with(Options { to_device_sizes: sizes, ..options() }).await;
    let (alice, bob) = (world.user("alice").await, world.user("bob").await);
    for id in ["A", "B"] {
        world.login("bob", "secret", device(id)).await.expect("logged in");
    }
    (world, alice, bob)
}

const START: StreamPosition = StreamPosition::ZERO;

#[tokio::test]
async fn messages_reach_the_devices_that_are_there_and_each_once() {
    let (world, alice, bob) = world(ToDeviceSizes::default()).await;
    let (users, storage) = (&world.users, &world.storage);
    let mut waiter = users.wakeups().waiter(bob.user_nid);
    let before = storage.position();
    let to = contents(&[("@bob:hs1", &["A", "NO"]), ("@nobody:hs1", &["*"])], &json!({ "n": 1 }));
    send(users, &alice, "1", &to).await.expect("sent");
    assert_eq!(storage.position(), before.next(), "one batch");
    let news = crate::News { position: before, ephemeral: 0 };
    assert_eq!(waiter.newer_than(news).await.position, before.next());
    let mut both = contents(&[("@bob:hs1", &["*"])], &json!({ "n": 2 }));
    both.extend(contents(&[("@alice:hs1", &["*"])], &json!({ "n": 2 })));
    let bobs = both.get_mut(&bob.user_id).expect("bob");
    bobs.insert("B".to_owned(), json!({ "n": 3 }).as_object().expect("an object").clone());
    send(users, &alice, "2", &both).await.expect("sent");
    for txn_id in ["1", "2"] {
        send(users, &alice, txn_id, &both).await.expect("repeated");
        assert_eq!(storage.position(), before.next().next(), "I11");
    }
    assert_eq!(waiting(users, storage, bob.user_nid, "A", START).await.0, [1, 2]);
    assert_eq!(waiting(users, storage, bob.user_nid, "B", START).await.0, [3], "what is for one comes before `*`");
    assert_eq!(waiting(users, storage, bob.user_nid, "NO", START).await.0, [0_u64; 0]);
}

#[tokio::test]
async fn what_is_for_other_servers_waits_for_them_in_the_same_batch() {
    let (world, alice, _) = world(ToDeviceSizes::default()).await;
    let before = world.storage.position();
    let to = contents(&[("@x:hs2", &["*"]), ("@y:hs2", &["D"]), ("@z:hs3", &["D"])], &json!({}));
    send(&world.users, &alice, "1", &to).await.expect("sent");
    send(&world.users, &alice, "1", &to).await.expect("repeated");
    assert_eq!(world.storage.position(), before.next());
    let page = world.storage.view().scan::<ToDeviceOutbox>(&KeyRange::prefix(&()), 9, Direction::Forward).await;
    let rows = page.expect("read").rows;
    let servers: Vec<_> = rows.iter().map(|((server, _), _)| server.0.as_str()).collect();
    assert_eq!(servers, ["hs2", "hs3"]);
    let edu: Value = serde_json::from_str(&rows[0].1.content).expect("JSON");
    assert_eq!(edu["messages"], json!({ "@x:hs2": { "*": {} }, "@y:hs2": { "D": {} } }));
    assert_eq!((&edu["sender"], &edu["type"]), (&json!("@alice:hs1"), &json!("t")));
    world.pass(31 * 24 * 3600);
    world.users.run_due().await.expect("swept");
    let range = KeyRange::prefix(&());
    let left = world.storage.view().scan_keys::<ToDeviceOutbox>(&range, 9, Direction::Forward).await.expect("read");
    assert!(left.keys.is_empty());
}

#[tokio::test]
async fn sizes_and_counts_are_bounds() {
    let sizes = ToDeviceSizes { message_max_bytes: 20, devices_per_request: 2, ..ToDeviceSizes::default() };
    let (world, alice, _) = world(sizes).await;
    let long = contents(&[("@bob:hs1", &["A"])], &json!({ "n": "x".repeat(20) }));
    assert!(matches!(send(&world.users, &alice, "1", &long).await, Err(SendToDeviceError::TooLarge(20))));
    let many = contents(&[("@bob:hs1", &["*"])], &json!({}));
    assert!(matches!(send(&world.users, &alice, "1", &many).await, Err(SendToDeviceError::TooManyDevices(2))));
    for event_type in [String::new(), "t".repeat(256)] {
        let sent = world.users.to_device().send(&alice.user_id, &txn(&alice, "1"), &event_type, &many).await;
        assert!(matches!(sent, Err(SendToDeviceError::BadType)));
    }
}

#[tokio::test]
async fn a_queue_keeps_the_newest_and_drops_what_is_old() {
    let sizes = ToDeviceSizes { queue_max_messages: 5, ..ToDeviceSizes::default() };
    let (world, alice, bob) = world(sizes).await;
    let (users, storage) = (&world.users, &world.storage);
    for n in 0..9 {
        let to = contents(&[("@bob:hs1", &["A"])], &json!({ "n": n }));
        send(users, &alice, &n.to_string(), &to).await.expect("sent");
        world.pass(24 * 3600);
    }
    assert_eq!(waiting(users, storage, bob.user_nid, "A", START).await.0, [4, 5, 6, 7, 8]);
    world.pass(25 * 24 * 3600);
    users.run_due().await.expect("swept");
    assert_eq!(waiting(users, storage, bob.user_nid, "A", START).await.0, [4, 5, 6, 7, 8], "30 days are not over");
    world.pass(2 * 24 * 3600 + 1);
    users.run_due().await.expect("the sweep begins anew");
    assert_eq!(waiting(users, storage, bob.user_nid, "A", START).await.0, [7, 8]);
}

#[tokio::test]
async fn a_device_takes_its_queue_with_it() {
    let (world, alice, bob) = world(ToDeviceSizes::default()).await;
    let (users, storage) = (&world.users, &world.storage);
    let to = contents(&[("@bob:hs1", &["A", "B"])], &json!({ "n": 1 }));
    send(users, &alice, "1", &to).await.expect("sent");
    let before = storage.position();
    users.logout(bob.user_nid, "A".into()).await.expect("logged out");
    assert_eq!(storage.position(), before.next());
    world.login("bob", "secret", device("A")).await.expect("logged in");
    assert_eq!(waiting(users, storage, bob.user_nid, "A", START).await.0, [0_u64; 0]);
    assert_eq!(waiting(users, storage, bob.user_nid, "B", START).await.0, [1]);
}

#[tokio::test]
async fn i11_a_request_that_was_killed_between_batches_goes_on_where_it_was() {
    let (world, alice, bob) = world(ToDeviceSizes::default()).await;
    let to = contents(&[("@bob:hs1", &["*"])], &json!({ "n": 1 }));
    let to_device = world.users.to_device();
    let targets = async || {
        let view = world.storage.view();
        to_device.targets(&view, &alice.user_id, "t", &to).await.expect("read")
    };
    // The first batch, as if it had had room for two devices.
    let all = targets().await;
    assert_eq!(all.len(), 3);
    let first: Vec<_> = all.into_iter().take(2).collect();
    let last = first.last().map(|target| (target.user_id.clone(), target.device.clone()));
    let mut batch = to_device.transactions.record(&part_key(&txn(&alice, "1"), "t", 0), &json(&last));
    for target in &first {
        let row =
            ToDeviceRow { received: primitives::Clock::now(&*world.clock), event: target.event.as_ref().to_owned() };
        batch.put::<Rows>(&(target.user, Text::new(&target.device), StreamPosition::PENDING), &row);
    }
    world.storage.commit(batch).await.expect("written");
    let restarted = world.reopened().await;
    for _ in 0..2 {
        send(&restarted, &alice, "1", &to).await.expect("sent");
        for device in world.users.devices().list(bob.user_nid).await.expect("read") {
            let id = device.device_id.as_str();
            assert_eq!(waiting(&restarted, &world.storage, bob.user_nid, id, START).await.0, [1], "{id}");
        }
    }
}

#[tokio::test]
async fn a_thousand_devices_get_a_message_in_few_batches() {
    let world = World::new().await;
    let alice = world.user("alice").await;
    for number in 0..1_100 {
        world.login("alice", "secret", device(&format!("D{number}"))).await.expect("logged in");
    }
    let before = world.storage.position();
    let to = contents(&[("@alice:hs1", &["*"])], &json!({ "n": 1 }));
    send(&world.users, &alice, "1", &to).await.expect("sent");
    assert_eq!(world.storage.position(), before.next().next());
    for id in ["D0", "D999", "D1099"] {
        assert_eq!(waiting(&world.users, &world.storage, alice.user_nid, id, START).await.0, [1]);
    }
}

/// What may happen to a device's queue.
#[derive(Clone, Debug)]
enum Step {
    Send(u8),
    /// A sync with the newest token, or with the one before it.
    Sync {
        newest: bool,
    },
    /// A sync without a token.
    First,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u8..130).prop_map(Step::Send),
        6 => any::<bool>().prop_map(|newest| Step::Sync { newest }),
        1 => Just(Step::First),
        1 => Just(Step::Restart),
    ]
}

/// A client that remembers its last two tokens, and what it is to see with them.
async fn run(steps: Vec<Step>) {
    let (world, alice, bob) = world(ToDeviceSizes::default()).await;
    let mut users = world.users.clone();
    let (mut sent, mut acknowledged) = (0_u64, 0_u64);
    // Position and the number of the last message up to it.
    let (mut tokens, mut last) = ([(START, 0); 2], 0);
    for step in steps {
        let since = match step {
            Step::Send(count) => {
                for _ in 0..count {
                    sent += 1;
                    let to = contents(&[("@bob:hs1", &["A"])], &json!({ "n": sent }));
                    send(&users, &alice, &sent.to_string(), &to).await.expect("sent");
                }
                continue;
            }
            Step::Restart => {
                users = world.reopened().await;
                continue;
            }
            Step::First => (START, 0),
            Step::Sync { newest } => tokens[usize::from(newest)],
        };
        users.to_device().acknowledge(bob.user_nid, "A".into(), since.0).await.expect("deleted");
        acknowledged = acknowledged.max(since.1);
        let (numbers, position) = waiting(&users, &world.storage, bob.user_nid, "A", since.0).await;
        let from = acknowledged.max(since.1) + 1;
        let upto = sent.min(from + MESSAGES_A_SYNC as u64 - 1);
        assert_eq!(numbers, (from..=upto).collect::<Vec<_>>(), "I10: all that is not acknowledged, in order, once");
        last = upto.max(acknowledged);
        if position > tokens[1].0 {
            tokens = [tokens[1], (position, last)];
        }
    }
    assert!(last <= sent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn i10_a_message_is_seen_until_it_is_acknowledged_and_never_after(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
