//! Lists of other servers' users: kept while a room is shared, and never out of date without anybody knowing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use ruma::OwnedDeviceId;
use storage::{Batch, Text, schema::jobs::RemoteMembers};
use users::keys::{RemoteMembership, UpdateError, stale_lists};

use super::*;

const LIST: &str = "devices/%40bob%3Ab.test";

#[tokio::test]
async fn only_of_users_who_share_a_room_lists_are_kept() {
    let pair = Pair::new().await;
    for _ in 0..2 {
        assert_eq!(pair.devices().await, ["B"]);
    }
    assert_eq!(asked(&pair.world.servers), [LIST]);
    let carol = with_keys(&pair.there, "carol", "C", 3).await;
    for _ in 0..2 {
        assert_eq!(devices(&pair.here, &pair.alice, &carol.user_id).await, ["C"]);
    }
    assert_eq!(asked(&pair.world.servers), [LIST, "keys/query", "keys/query"]);
}

#[tokio::test]
async fn updates_that_follow_on_each_other_need_no_fetch() {
    let pair = Pair::new().await;
    assert_eq!(pair.devices().await, ["B"]);
    let before = position(&pair.there, &pair.bob).await;
    with_keys(&pair.there, "bob", "B2", 4).await;
    with_keys(&pair.there, "bob", "B3", 5).await;
    tell(&pair.there, &pair.here, &pair.bob.user_id, before).await;
    assert_eq!(pair.devices().await, ["B", "B2", "B3"]);

    let before = position(&pair.there, &pair.bob).await;
    pair.there.parts.users.devices().delete(pair.bob.user_nid, &["B2".into()]).await.expect("deleted");
    tell(&pair.there, &pair.here, &pair.bob.user_id, before).await;
    // What is heard twice changes nothing.
    let position = pair.here.parts.storage.position();
    tell(&pair.there, &pair.here, &pair.bob.user_id, before).await;
    assert_eq!(pair.here.parts.storage.position(), position);
    assert_eq!(pair.devices().await, ["B", "B3"]);
    assert_eq!(asked(&pair.world.servers), [LIST]);

    work(&pair.here).await;
    assert_eq!(told(&pair.here, pair.room, &pair.bob.user_id).await, 1, "what comes together is told together");
}

#[tokio::test]
async fn after_a_gap_a_list_is_fetched_once_however_much_is_heard() {
    let pair = Pair::new().await;
    assert_eq!(pair.devices().await, ["B"]);
    with_keys(&pair.there, "bob", "B2", 4).await;
    let missed = position(&pair.there, &pair.bob).await;
    with_keys(&pair.there, "bob", "B3", 5).await;
    // The first of these was lost.
    tell(&pair.there, &pair.here, &pair.bob.user_id, missed).await;
    for n in 0..20 {
        let missed = position(&pair.there, &pair.bob).await;
        pair.there
            .parts
            .users
            .devices()
            .rename(pair.bob.user_nid, "B".into(), Some(&n.to_string()))
            .await
            .expect("named");
        tell(&pair.there, &pair.here, &pair.bob.user_id, missed).await;
    }
    work(&pair.here).await;
    assert_eq!(asked(&pair.world.servers), [LIST, LIST]);
    assert_eq!(pair.devices().await, ["B", "B2", "B3"]);
    assert_eq!(asked(&pair.world.servers), [LIST, LIST]);
    assert_eq!(told(&pair.here, pair.room, &pair.bob.user_id).await, 1);
}

#[tokio::test]
async fn an_update_that_crosses_a_fetch_has_it_begin_again() {
    let pair = Pair::new().await;
    let (there, keys, fetches) =
        (pair.there.federation.clone(), pair.here.parts.users.clone(), Arc::new(AtomicUsize::new(0)));
    let (bob, server, counted) = (pair.bob.user_id.clone(), pair.there.name.clone(), fetches.clone());
    // Answers, and while the answer is on its way, the update arrives.
    pair.world.servers.serve(pair.there.name.clone(), move |request| {
        let (there, keys, bob, server) = (there.clone(), keys.clone(), bob.clone(), server.clone());
        let nth = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let devices = there.users.keys().devices_of_user(&bob).await.expect("read").expect("there");
            drop(request);
            if nth == 0 {
                let update =
                    json!({ "user_id": bob, "device_id": "B2", "stream_id": 1, "prev_id": [], "deleted": true });
                keys.keys().hear_device_list_update(&server, update).await.expect("taken");
            }
            Response::new(Bytes::from(serde_json::to_vec(&devices).expect("JSON")))
        }
    });
    assert_eq!(pair.devices().await, ["B"]);
    assert_eq!(pair.devices().await, ["B"]);
    assert_eq!(fetches.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_could_not_be_had_is_fetched_later_and_those_who_asked_are_told() {
    let pair = Pair::new().await;
    let there = pair.there.federation.clone();
    pair.world.servers.remove(&pair.there.name);
    for _ in 0..3 {
        let (found, failures) = ask(&pair.here, &pair.alice, &[&pair.bob.user_id]).await;
        assert!(found.device_keys.is_empty());
        assert_eq!(failures, ["b.test"]);
    }
    work(&pair.here).await;
    assert_eq!(told(&pair.here, pair.room, &pair.bob.user_id).await, 0);
    let view = pair.here.parts.storage.view();
    let stale = stale_lists(&view, &pair.there.name, 9).await.expect("read");
    assert_eq!(stale, std::slice::from_ref(&pair.bob.user_id));

    pair.world.servers.serve(pair.there.name.clone(), move |request| testkit::world::serve(there.clone(), request));
    pair.world.clock.advance(Duration::from_mins(10));
    // One job fetches the list and begins the other, which tells the room.
    work(&pair.here).await;
    work(&pair.here).await;
    assert_eq!(told(&pair.here, pair.room, &pair.bob.user_id).await, 1);
    let before = asked(&pair.world.servers).len();
    assert_eq!(pair.devices().await, ["B"]);
    assert_eq!(asked(&pair.world.servers).len(), before, "it is current");
    let view = pair.here.parts.storage.view();
    assert!(stale_lists(&view, &pair.there.name, 9).await.expect("read").is_empty());
}

#[tokio::test]
async fn many_who_want_a_list_cause_one_fetch() {
    let pair = Pair::new().await;
    let all = futures_util::future::join_all((0..20).map(|_| pair.devices())).await;
    assert!(all.iter().all(|devices| devices == &["B"]));
    assert_eq!(asked(&pair.world.servers), [LIST]);
}

#[tokio::test]
async fn a_list_goes_with_the_last_shared_room_and_is_fetched_anew_in_the_next() {
    let pair = Pair::new().await;
    assert_eq!(pair.devices().await, ["B"]);
    let (bob, storage) = (&pair.bob.user_id, &pair.here.parts.storage);
    let mut batch = Batch::new();
    batch.delete::<RemoteMembers>(&(Text::new(bob.as_str()), pair.room));
    storage.commit(batch).await.expect("commits");
    // Nobody tells of changes now.
    with_keys(&pair.there, "bob", "B2", 4).await;
    let mut batch = Batch::new();
    let own = &pair.here.name;
    RemoteMembership::joined(&storage.view(), &mut batch, own, bob).await.expect("read");
    batch.put::<RemoteMembers>(&(Text::new(bob.as_str()), pair.room), &());
    storage.commit(batch).await.expect("commits");
    assert_eq!(pair.devices().await, ["B", "B2"]);

    let mut batch = Batch::new();
    RemoteMembership::left(&storage.view(), &mut batch, own, bob, pair.room).await.expect("read");
    batch.delete::<RemoteMembers>(&(Text::new(bob.as_str()), pair.room));
    storage.commit(batch).await.expect("commits");
    let before = asked(&pair.world.servers).len();
    assert_eq!(pair.devices().await, ["B", "B2"]);
    assert_eq!(asked(&pair.world.servers)[before..], ["keys/query"]);
}

#[tokio::test]
async fn a_server_speaks_for_its_own_users_alone_and_of_those_who_share_a_room() {
    let pair = Pair::new().await;
    assert_eq!(pair.devices().await, ["B"]);
    let keys = pair.here.parts.users.keys();
    let update = |user: &str| json!({ "user_id": user, "device_id": "B", "stream_id": 5, "deleted": true });
    let eve: &ruma::ServerName = "eve.test".try_into().expect("a name");
    for user in ["@bob:b.test", "@alice:a.test"] {
        let refused = keys.hear_device_list_update(eve, update(user)).await;
        assert!(matches!(refused, Err(UpdateError::Foreign)), "{refused:?}");
        let master = json!({ "user_id": user, "master_key": {} });
        assert!(keys.hear_signing_key_update(eve, master).await.is_err());
    }
    let before = pair.here.parts.storage.position();
    keys.hear_device_list_update(&pair.there.name, update("@stranger:b.test")).await.expect("of no concern");
    assert_eq!(pair.here.parts.storage.position(), before);
    for malformed in [
        json!([]),
        json!({ "user_id": "@bob:b.test", "device_id": "B" }),
        json!({ "user_id": "@bob:b.test", "device_id": "", "stream_id": 1 }),
        json!({ "user_id": "@bob:b.test", "device_id": "B".repeat(300), "stream_id": 1 }),
        json!({ "user_id": "@bob:b.test", "device_id": "B", "stream_id": 1, "prev_id": vec![1; 101] }),
        json!({ "user_id": "bob", "device_id": "B", "stream_id": 1 }),
    ] {
        let refused = keys.hear_device_list_update(&pair.there.name, malformed).await;
        assert!(matches!(refused, Err(UpdateError::Malformed(_))), "{refused:?}");
    }
    assert_eq!(pair.devices().await, ["B"]);
    assert_eq!(asked(&pair.world.servers), [LIST]);
}

#[tokio::test]
async fn an_update_with_another_devices_keys_has_the_list_fetched() {
    let pair = Pair::new().await;
    assert_eq!(pair.devices().await, ["B"]);
    let last = position(&pair.there, &pair.bob).await.0;
    let keys = identity(&user("@eve:b.test"), "B9", 9);
    let update = json!({
        "user_id": pair.bob.user_id, "device_id": "B9", "stream_id": last + 1, "prev_id": [last], "keys": keys,
    });
    pair.here.parts.users.keys().hear_device_list_update(&pair.there.name, update).await.expect("heard");
    assert_eq!(pair.devices().await, ["B"]);
    assert_eq!(asked(&pair.world.servers), [LIST, LIST]);
}

#[tokio::test]
async fn a_hundred_devices_that_went_leave_a_gap_that_says_fetch() {
    let pair = Pair::new().await;
    let bob = &pair.bob.user_id;
    let names: Vec<OwnedDeviceId> = (0..120).map(|n| format!("N{n}").into()).collect();
    let first = position(&pair.there, &pair.bob).await;
    for name in &names {
        on_device(&pair.there, "bob", name.as_str()).await;
        pair.there.parts.users.devices().delete(pair.bob.user_nid, std::slice::from_ref(name)).await.expect("deleted");
    }
    let edus = pair.there.parts.users.keys().edus_since(bob, first, 100).await.expect("read");
    let content: Value = serde_json::from_str(edus[0].content.get()).expect("JSON");
    assert_eq!((edus.len(), &content["prev_id"]), (1, &json!([0])));
    // Who has come to share a room is told of those that are there, one after the other.
    let edus = pair.there.parts.users.keys().edus_since(bob, StreamPosition::ZERO, 100).await.expect("read");
    let content: Value = serde_json::from_str(edus[0].content.get()).expect("JSON");
    assert_eq!((edus.len(), &content["prev_id"], &content["device_id"]), (1, &json!([]), &json!("B")));
    assert_eq!(content["keys"]["user_id"], json!(bob));
}

#[tokio::test]
async fn who_has_come_without_keys_is_told_of_by_the_join_alone() {
    let pair = Pair::new().await;
    let (keys, bob) = (pair.here.parts.users.keys(), &pair.bob.user_id);
    let hear = async |update: Value| {
        keys.hear_device_list_update(&pair.there.name, update).await.expect("heard");
        work(&pair.here).await;
        pair.world.clock.advance(Duration::from_secs(2));
        work(&pair.here).await;
        told(&pair.here, pair.room, bob).await
    };
    let update = |stream_id: u64, rest: Value| {
        let mut update = json!({ "user_id": bob, "device_id": "B2", "stream_id": stream_id });
        update.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        update
    };
    assert_eq!(hear(update(1, json!({ "prev_id": [] }))).await, 0, "there is nothing to look at");
    assert_eq!(hear(update(2, json!({ "prev_id": [1] }))).await, 1);
    // Of a list that nobody has, all else is told: what is deleted, what has keys, what may have others before it.
    let keys_of = identity(bob, "B2", 9);
    for rest in [json!({ "prev_id": [], "keys": keys_of }), json!({ "prev_id": [], "deleted": true }), json!({})] {
        let pair = Pair::new().await;
        let keys = pair.here.parts.users.keys();
        keys.hear_device_list_update(&pair.there.name, update(1, rest)).await.expect("heard");
        work(&pair.here).await;
        assert_eq!(told(&pair.here, pair.room, bob).await, 1);
    }
}
