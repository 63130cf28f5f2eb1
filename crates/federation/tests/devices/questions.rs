//! Keys are asked for and claimed across servers.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use users::keys::{Claims, CrossSigningUpload, Issued};

use super::*;

fn claims(user: &UserId, device: &str) -> Claims {
    [(user.to_owned(), [(device.into(), "curve25519".to_owned())].into())].into()
}

async fn claim(server: &Server, wanted: Claims) -> (Issued, Vec<String>) {
    let keys = server.parts.users.keys();
    let (_, remote) = keys.by_server(wanted);
    let (issued, failures) = keys.claim_remote(&server.client, remote, TIMEOUT).await.expect("answered");
    (issued, failures.into_keys().map(|server| server.to_string()).collect())
}

#[tokio::test]
async fn two_servers_that_claim_at_once_get_each_key_once() {
    let world = World::new();
    let (home, one, other) =
        (world.server("h.test", 1).await, world.server("a.test", 2).await, world.server("b.test", 3).await);
    let bob = with_keys(&home, "bob", "B", 1).await;
    home.parts.users.keys().upload(&bob, one_time(0..40)).await.expect("uploaded");
    let claims = (0..60).map(|n| claim(if n % 2 == 0 { &one } else { &other }, claims(&bob.user_id, "B")));
    let mut ids: Vec<String> = Vec::new();
    for (issued, failures) in futures_util::future::join_all(claims).await {
        assert!(failures.is_empty());
        let keys = issued.into_values().flat_map(BTreeMap::into_values).flat_map(BTreeMap::into_keys);
        ids.extend(keys);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 40);
}

#[tokio::test]
async fn servers_that_cannot_be_asked_are_named_and_do_not_hold_up_the_others() {
    let pair = Pair::new().await;
    pair.there.parts.users.keys().upload(&pair.bob, one_time(0..1)).await.expect("uploaded");
    let gone = user("@x:gone.test");
    let (found, failures) = ask(&pair.here, &pair.alice, &[&pair.bob.user_id, &gone]).await;
    assert_eq!((found.device_keys.len(), failures), (1, vec!["gone.test".to_owned()]));
    let mut wanted = claims(&gone, "X");
    wanted.extend(claims(&pair.bob.user_id, "B"));
    let (issued, failures) = claim(&pair.here, wanted).await;
    assert_eq!((issued[&pair.bob.user_id]["B" as &str].len(), failures), (1, vec!["gone.test".to_owned()]));
}

#[tokio::test]
async fn a_server_tells_of_its_own_users_only_and_of_names_only_if_it_may() {
    let pair = Pair::new().await;
    let (there, eve) = (&pair.there, user("@eve:eve.test"));
    there.parts.users.devices().rename(pair.bob.user_nid, "B".into(), Some("phone")).await.expect("renamed");
    // It has a list of another server's user, which it keeps for itself.
    let wanted = [(eve.clone(), Vec::new()), (pair.bob.user_id.clone(), Vec::new())].into();
    let answer = pair.here.client.query_keys(&there.name, &wanted, TIMEOUT).await.expect("answered");
    assert_eq!(answer.device_keys.keys().collect::<Vec<_>>(), ["@bob:b.test"]);
    assert_eq!(answer.device_keys["@bob:b.test"]["B"].get("unsigned"), None);
    let devices = pair.here.client.user_devices(&pair.bob.user_id, TIMEOUT).await.expect("answered");
    assert_eq!(devices.devices[0].device_display_name, None);
    let nobody = pair.here.client.user_devices(&user("@nobody:b.test"), TIMEOUT).await;
    assert!(matches!(nobody, Err(federation_client::RemoteError::Refused { status, .. }) if status == 404));
}

#[tokio::test]
async fn cross_signing_keys_go_along_but_for_the_one_that_signs_others() {
    let pair = Pair::new().await;
    let key = |usage: &str, seed: u8| {
        let key = json!({
            "user_id": pair.bob.user_id, "usage": [usage], "keys": { format!("ed25519:{}", public(seed)): public(seed) },
        });
        Some(to_canonical_value(key).expect("canonical").as_object().expect("an object").clone())
    };
    let upload = CrossSigningUpload { master: key("master", 21), ..CrossSigningUpload::default() };
    let keys = pair.there.parts.users.keys();
    assert_eq!(pair.devices().await, ["B"]);
    let before = position(&pair.there, &pair.bob).await;
    keys.upload_cross_signing(&pair.bob, &upload, users::keys::Authentication::Token).await.expect("uploaded");
    tell(&pair.there, &pair.here, &pair.bob.user_id, before).await;
    let (found, _) = ask(&pair.here, &pair.alice, &[&pair.bob.user_id]).await;
    assert!(found.master_keys[&pair.bob.user_id].get().contains(&public(21)));
    assert!(found.user_signing_keys.is_empty());
    assert_eq!(asked(&pair.world.servers).len(), 1, "the update brought the key");
    // The change of a device after that follows on what is known.
    let before = position(&pair.there, &pair.bob).await;
    with_keys(&pair.there, "bob", "B2", 7).await;
    tell(&pair.there, &pair.here, &pair.bob.user_id, before).await;
    assert_eq!(pair.devices().await, ["B", "B2"]);
    assert_eq!(asked(&pair.world.servers).len(), 1);
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_believed() {
    let world = World::new();
    let here = world.server("a.test", 1).await;
    let alice = with_keys(&here, "alice", "A", 1).await;
    let (mallory, room_mate) = (user("@mallory:evil.test"), user("@mate:evil.test"));
    share(&here, &alice.user_id, &room_mate).await;
    world.servers.serve("evil.test".try_into().expect("a name"), |request| async move {
        let of = |user: &str, device: &str| identity(&super::user(user), device, 9);
        let answer = if request.uri().path().ends_with("/claim") {
            json!({ "one_time_keys": {
                "@alice:a.test": { "A": { "curve25519:X": "k" } },
                "@mallory:evil.test": { "M": { "ed25519:X": "k", "curve25519:Y": { "no": "key" } } },
            } })
        } else if request.uri().path().ends_with("/query") {
            json!({
                "device_keys": {
                    "@alice:a.test": { "A2": of("@alice:a.test", "A2") },
                    "@mallory:evil.test": {
                        "M": of("@mallory:evil.test", "M"), "M2": of("@mallory:evil.test", "M3"), "M4": of("@alice:a.test", "M4"),
                    },
                },
                "master_keys": { "@mallory:evil.test": { "user_id": "@alice:a.test", "usage": ["master"], "keys": {} } },
                "self_signing_keys": null,
            })
        } else {
            json!({ "user_id": "@mallory:evil.test", "stream_id": 1, "devices": [] })
        };
        Response::new(Bytes::from(answer.to_string()))
    });
    let (found, failures) = ask(&here, &alice, &[&mallory]).await;
    assert!(failures.is_empty());
    assert_eq!(found.device_keys.keys().collect::<Vec<_>>(), [&mallory]);
    assert_eq!(found.device_keys[&mallory].keys().collect::<Vec<_>>(), ["M"]);
    assert!(found.master_keys.is_empty());
    let (issued, failures) = claim(&here, claims(&mallory, "M")).await;
    assert!(issued.is_empty() && failures.is_empty());
    let (found, failures) = ask(&here, &alice, &[&room_mate]).await;
    assert!(found.device_keys.is_empty(), "another user's list");
    assert_eq!(failures, ["evil.test"]);
}
