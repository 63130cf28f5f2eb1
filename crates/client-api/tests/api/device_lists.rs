//! Whose devices changed, in sync and in `/keys/changes`.

use http::Method;
use serde_json::{Value, json};

use crate::{
    keys::{identity, master_key, signed_by, signer, with_keys},
    support::{Site, User},
};

/// One user who syncs from where they were.
struct Follower<'a> {
    user: User<'a>,
    since: Value,
}

impl<'a> Follower<'a> {
    async fn new(user: &User<'a>) -> Self {
        user.site.work().await;
        Self { user: user.clone(), since: user.sync(None).await["next_batch"].clone() }
    }

    /// What is new, and the same from `/keys/changes`.
    async fn next(&mut self) -> (Vec<String>, Vec<String>) {
        self.user.site.work().await;
        let news = self.user.sync(Some(&self.since)).await;
        let (from, to) = (std::mem::replace(&mut self.since, news["next_batch"].clone()), &self.since);
        let names = |of: &Value| -> Vec<String> {
            of.as_array().into_iter().flatten().map(|name| name.as_str().expect("a name").to_owned()).collect()
        };
        let told = (names(&news["device_lists"]["changed"]), names(&news["device_lists"]["left"]));
        let text = |token: &Value| token.as_str().expect("a token").to_owned();
        let changes = self.user.get(&format!("v3/keys/changes?from={}&to={}", text(&from), text(to))).await.ok();
        assert_eq!((names(&changes["changed"]), names(&changes["left"])), told);
        told
    }
}

fn only(user: &User<'_>) -> Vec<String> {
    vec![user.id.clone()]
}

async fn public_room(user: &User<'_>) -> String {
    user.room(json!({ "preset": "public_chat" })).await
}

#[tokio::test]
async fn keys_names_signatures_and_logouts_of_those_in_a_room_are_told_and_messages_are_not() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let carol = site.user("carol").await;
    let room = public_room(&alice).await;
    bob.join(&room).await.ok();
    let mut follower = Follower::new(&alice).await;
    let nothing = (Vec::new(), Vec::new());
    with_keys(&carol, 9).await;
    alice.say(&room, "1", "hello").await;
    assert_eq!(follower.next().await, nothing);
    with_keys(&bob, 1).await;
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    assert_eq!(follower.next().await, nothing);
    let second = bob.log_in().await;
    assert_eq!(follower.next().await, nothing, "without keys it is in no list");
    with_keys(&second, 2).await;
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    second.put(&format!("v3/devices/{}", second.device), json!({ "display_name": "phone" })).await.ok();
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    let master = master_key(&bob, &signer(5));
    bob.post("v3/keys/device_signing/upload", json!({ "master_key": master })).await.ok();
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    let signed = signed_by(master, &bob, &bob.device, &signer(1));
    let body = json!({ &bob.id: { signer(5).public_base64(): signed } });
    assert_eq!(bob.post("v3/keys/signatures/upload", body).await.ok(), json!({ "failures": {} }));
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    second.post("v3/logout", json!({})).await.ok();
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    alice.say(&room, "2", "hello").await;
    bob.put(&format!("v3/profile/{}/displayname", bob.id), json!({ "displayname": "Bob" })).await.ok();
    assert_eq!(follower.next().await, nothing, "a name is no device");
}

#[tokio::test]
async fn those_who_come_and_go_are_told() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = public_room(&alice).await;
    let mut follower = Follower::new(&alice).await;
    bob.join(&room).await.ok();
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    bob.leave(&room).await;
    assert_eq!(follower.next().await, (vec![], only(&bob)));
    with_keys(&bob, 1).await;
    assert_eq!(follower.next().await, (vec![], vec![]));
    alice.act(&room, "invite", &bob).await.ok();
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    with_keys(&bob, 2).await;
    assert_eq!(follower.next().await, (only(&bob), vec![]), "what is said now is encrypted for them too");
    bob.leave(&room).await;
    assert_eq!(follower.next().await, (vec![], only(&bob)));
}

#[tokio::test]
async fn who_has_been_away_since_the_last_sync_is_looked_at_anew() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = public_room(&alice).await;
    bob.join(&room).await.ok();
    let mut follower = Follower::new(&alice).await;
    bob.leave(&room).await;
    with_keys(&bob, 1).await;
    site.work().await;
    bob.join(&room).await.ok();
    assert_eq!(follower.next().await, (only(&bob), vec![]));
    // Come and gone: nobody ever looked.
    bob.leave(&room).await;
    follower.next().await;
    bob.join(&room).await.ok();
    bob.leave(&room).await;
    assert_eq!(follower.next().await, (vec![], vec![]));
}

#[tokio::test]
async fn a_room_that_is_joined_brings_its_members_and_one_that_is_left_takes_them_away() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let carol = site.user("carol").await;
    let room = public_room(&bob).await;
    carol.join(&room).await.ok();
    let mut follower = Follower::new(&alice).await;
    alice.join(&room).await.ok();
    let mut all = vec![alice.id.clone(), bob.id.clone(), carol.id.clone()];
    all.sort();
    assert_eq!(follower.next().await, (all, vec![]), "their own other devices are in the room with them");
    public_room(&alice).await;
    assert_eq!(follower.next().await, (vec![], vec![]), "nobody else is there");
    // With one of them another room is shared.
    let other = public_room(&alice).await;
    bob.join(&other).await.ok();
    follower.next().await;
    alice.leave(&room).await;
    assert_eq!(follower.next().await, (vec![], only(&carol)));
    bob.leave(&other).await;
    assert_eq!(follower.next().await, (vec![], only(&bob)));
    // Kept from being told while not there.
    with_keys(&bob, 1).await;
    assert_eq!(follower.next().await, (vec![], vec![]));
}

#[tokio::test]
async fn other_devices_of_the_user_are_told_of_their_own_list_and_of_whom_they_signed() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let mut follower = Follower::new(&alice.log_in().await).await;
    with_keys(&alice, 1).await;
    assert_eq!(follower.next().await, (only(&alice), vec![]));
    let of_bob = master_key(&bob, &signer(6));
    bob.post("v3/keys/device_signing/upload", json!({ "master_key": of_bob })).await.ok();
    let (master, usk) = (signer(4), signer(5));
    let mut user_signing = master_key(&alice, &usk);
    user_signing["usage"] = json!(["user_signing"]);
    let user_signing = signed_by(user_signing, &alice, &master.public_base64(), &master);
    let body = json!({ "master_key": master_key(&alice, &master), "user_signing_key": user_signing });
    alice.post("v3/keys/device_signing/upload", body).await.ok();
    assert_eq!(follower.next().await, (only(&alice), vec![]));
    let signed = signed_by(of_bob, &alice, &usk.public_base64(), &usk);
    let body = json!({ &bob.id: { signer(6).public_base64(): signed } });
    assert_eq!(alice.post("v3/keys/signatures/upload", body).await.ok(), json!({ "failures": {} }));
    assert_eq!(follower.next().await, (only(&bob), vec![]));
}

#[tokio::test]
async fn a_waiting_sync_wakes_for_a_device() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = public_room(&alice).await;
    bob.join(&room).await.ok();
    let since = Follower::new(&alice).await.since.as_str().expect("a token").to_owned();
    let query = format!("since={since}&timeout=30000");
    let (news, ()) = tokio::join!(alice.sync_with(&query), async {
        tokio::task::yield_now().await;
        bob.post("v3/keys/upload", json!({ "device_keys": identity(&bob, &signer(1)) })).await.ok();
        site.work().await;
    });
    assert_eq!(news["device_lists"], json!({ "changed": [bob.id] }));
    assert!(news["rooms"].is_null(), "nothing happened in the room");
}

#[tokio::test]
async fn a_deactivated_users_keys_are_gone() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = public_room(&alice).await;
    bob.join(&room).await.ok();
    with_keys(&bob, 1).await;
    bob.post("v3/keys/device_signing/upload", json!({ "master_key": master_key(&bob, &signer(5)) })).await.ok();
    let mut follower = Follower::new(&alice).await;
    let nid = bob.nid().await;
    site.parts.jobs.deactivate(nid, false).await.expect("deactivated");
    assert_eq!(follower.next().await, (vec![], only(&bob)));
    let found = alice.call(Method::POST, "v3/keys/query", json!({ "device_keys": { &bob.id: [] } })).await.ok();
    assert_eq!(found["device_keys"], json!({ &bob.id: {} }));
    assert!(found["master_keys"].is_null());
}
