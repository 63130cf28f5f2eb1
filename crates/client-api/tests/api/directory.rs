//! The directory of public rooms, and who is found in the directory of users.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Site, User};

fn names(page: &Value) -> Vec<&str> {
    page["chunk"].as_array().expect("rooms").iter().map(|room| room["name"].as_str().expect("a name")).collect()
}

async fn publish(user: &User<'_>, name: &str, more: Value) -> String {
    let mut body = json!({ "visibility": "public", "name": name });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    user.room(body).await
}

#[tokio::test]
async fn published_rooms_are_listed_until_they_are_taken_out() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let tea = publish(&alice, "Tea", json!({ "topic": "Leaves", "room_alias_name": "tea" })).await;
    let quiet = alice.room(json!({ "name": "Quiet" })).await;
    let listed = site.raw(Method::GET, "/_matrix/client/v3/publicRooms", None, "").await.ok();
    let expected = json!({
        "chunk": [{
            "room_id": tea, "name": "Tea", "topic": "Leaves", "canonical_alias": "#tea:hs.test", "join_rule": "public",
            "num_joined_members": 1, "world_readable": false, "guest_can_join": false,
        }],
        "total_room_count_estimate": 1,
    });
    assert_eq!(listed, expected);
    let path = |room: &str| format!("v3/directory/list/room/{room}");
    assert_eq!(bob.get(&path(&tea)).await.ok(), json!({ "visibility": "public" }));
    assert_eq!(bob.get(&path(&quiet)).await.ok(), json!({ "visibility": "private" }));
    bob.put(&path(&tea), json!({ "visibility": "private" })).await.refused(403, "M_FORBIDDEN");
    bob.join(&tea).await.ok();
    bob.put(&path(&tea), json!({ "visibility": "private" })).await.refused(403, "M_FORBIDDEN");
    alice.put(&path(&tea), json!({ "visibility": "private" })).await.ok();
    alice.put(&path(&quiet), json!({})).await.ok();
    assert_eq!(names(&bob.get("v3/publicRooms").await.ok()), ["Quiet"], "public is the default");
    alice.put(&path(&quiet), json!({ "visibility": "visible" })).await.refused(400, "M_BAD_JSON");
    alice.put(&path("!nowhere:hs.test"), json!({})).await.refused(404, "M_NOT_FOUND");
    alice.get(&path("!nowhere:hs.test")).await.refused(404, "M_NOT_FOUND");
    // A room that everybody has left is nobody's to show.
    alice.leave(&quiet).await;
    assert!(names(&bob.get("v3/publicRooms").await.ok()).is_empty());
}

#[tokio::test]
async fn pages_of_the_directory_begin_with_the_largest_rooms_and_lead_both_ways() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    for name in ["a", "b", "c", "d", "e"] {
        let room = publish(&alice, name, json!({})).await;
        if name == "d" {
            bob.join(&room).await.ok();
        }
    }
    let page = async |query: &str| alice.get(&format!("v3/publicRooms?limit=2{query}")).await.ok();
    let first = page("").await;
    assert_eq!((names(&first), &first["prev_batch"]), (vec!["d", "a"], &Value::Null));
    assert_eq!(first["total_room_count_estimate"], 5);
    let second = page(&format!("&since={}", first["next_batch"].as_str().expect("a token"))).await;
    assert_eq!(names(&second), ["b", "c"]);
    let third = page(&format!("&since={}", second["next_batch"].as_str().expect("a token"))).await;
    assert_eq!((names(&third), &third["next_batch"]), (vec!["e"], &Value::Null));
    let back = page(&format!("&since={}", third["prev_batch"].as_str().expect("a token"))).await;
    assert_eq!(names(&back), ["b", "c"]);
    let start = page(&format!("&since={}", second["prev_batch"].as_str().expect("a token"))).await;
    assert_eq!((names(&start), &start["prev_batch"]), (vec!["d", "a"], &Value::Null));
    for bad in ["limit=x", "since=nonsense", "since=s1", "server=%20"] {
        alice.get(&format!("v3/publicRooms?{bad}")).await.refused(400, "M_INVALID_PARAM");
    }
    alice.get("v3/publicRooms?server=elsewhere.test").await.refused(404, "M_NOT_FOUND");
    assert_eq!(names(&alice.get("v3/publicRooms?server=hs.test").await.ok()).len(), 5);
}

#[tokio::test]
async fn the_directory_is_searched_by_text_and_by_type() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    publish(&alice, "Tea", json!({ "topic": "Wombles à la carte" })).await;
    publish(&alice, "Coffee", json!({ "room_alias_name": "wombat" })).await;
    publish(&alice, "Hall", json!({ "creation_content": { "type": "m.space" } })).await;
    let search = async |body: Value| alice.post("v3/publicRooms", body).await.ok();
    let by_term = async |term: &str| search(json!({ "filter": { "generic_search_term": term } })).await;
    assert_eq!(names(&by_term("WOMB").await), ["Tea", "Coffee"]);
    assert_eq!(names(&by_term("À LA").await), ["Tea"]);
    assert!(names(&by_term("tea leaves").await).is_empty());
    let by_type = async |types: Value| search(json!({ "filter": { "room_types": types } })).await;
    assert_eq!(names(&by_type(json!(["m.space"])).await), ["Hall"]);
    assert_eq!(names(&by_type(json!([null])).await), ["Tea", "Coffee"]);
    assert_eq!(names(&by_type(json!([null, "m.space"])).await).len(), 3);
    assert!(names(&by_type(json!([])).await).is_empty());
    assert_eq!(names(&search(json!({ "include_all_networks": true, "limit": 1 })).await), ["Tea"]);
    assert!(names(&search(json!({ "third_party_instance_id": "irc" })).await).is_empty(), "no such network");
    let both = json!({ "include_all_networks": true, "third_party_instance_id": "irc" });
    alice.post("v3/publicRooms", both).await.refused(400, "M_INVALID_PARAM");
    for bad in [json!({ "filter": 5 }), json!({ "filter": { "room_types": "m.space" } }), json!({ "limit": "ten" })] {
        alice.post("v3/publicRooms", bad).await.refused(400, "M_BAD_JSON");
    }
    let path = "/_matrix/client/v3/publicRooms";
    site.raw(Method::POST, path, None, "{}").await.refused(401, "M_MISSING_TOKEN");
}

async fn found(user: &User<'_>, term: &str) -> Vec<(String, Option<String>)> {
    let answer = user.post("v3/user_directory/search", json!({ "search_term": term })).await.ok();
    assert_eq!(answer["limited"], false);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let people = answer["results"].as_array().expect("results").iter();
    people.map(|person| (text(&person["user_id"]).expect("an id"), text(&person["display_name"]))).collect()
}

async fn call_oneself(user: &User<'_>, name: &str) {
    user.put(&format!("v3/profile/{}/displayname", user.id), json!({ "displayname": name })).await.ok();
}

#[tokio::test]
async fn people_are_found_by_their_profile_by_those_who_could_meet_them() {
    let site = Site::new().await;
    let (alice, bob, eve) = (site.user("alice").await, site.user("bob").await, site.user("eve").await);
    call_oneself(&alice, "Alice Cooper").await;
    let expected = vec![(alice.id.clone(), Some("Alice Cooper".to_owned()))];
    assert!(found(&eve, "cooper").await.is_empty(), "they meet nowhere");
    let room = bob.room(json!({ "invite": [alice.id] })).await;
    assert!(found(&bob, "cooper").await.is_empty(), "she has not come yet");
    alice.join(&room).await.ok();
    assert_eq!(found(&bob, "cooper").await, expected);
    // What she is called in that room is not for others, nor is it what she is found by.
    let own = json!({ "membership": "join", "displayname": "Freddy" });
    alice.put(&format!("v3/rooms/{room}/state/m.room.member/{}", alice.id), own).await.ok();
    assert!(found(&eve, "alice").await.is_empty());
    assert!(found(&alice, "alice").await.is_empty(), "being in a room with oneself is no meeting");
    let public = alice.room(json!({ "preset": "public_chat" })).await;
    for searcher in [&bob, &eve] {
        assert_eq!(found(searcher, "Alice Cooper").await, expected);
        assert_eq!(found(searcher, "@alice").await, expected);
        assert!(found(searcher, "freddy").await.is_empty());
    }
    assert_eq!(found(&alice, "alice").await, expected, "as a stranger finds her");
    alice.leave(&public).await;
    assert!(found(&eve, "alice").await.is_empty());
    alice.leave(&room).await;
    assert!(found(&bob, "alice").await.is_empty());
}

#[tokio::test]
async fn the_best_people_come_first_and_the_rest_is_said_to_be_there() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    for (name, shown) in [("sam1", "Otto Sam"), ("sam2", ""), ("x", "Sam"), ("sam3", "Zoe"), ("y", "Sammy")] {
        let user = site.user(name).await;
        user.join(&room).await.ok();
        call_oneself(&user, shown).await;
    }
    let best: Vec<_> = found(&alice, "SAM").await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(best, ["@x:hs.test", "@y:hs.test", "@sam1:hs.test", "@sam3:hs.test", "@sam2:hs.test"]);
    let answer = alice.post("v3/user_directory/search", json!({ "search_term": "sam", "limit": 2 })).await.ok();
    assert_eq!((answer["results"].as_array().map(Vec::len), &answer["limited"]), (Some(2), &json!(true)));
    assert!(found(&alice, " ").await.is_empty());
    alice.post("v3/user_directory/search", json!({})).await.refused(400, "M_MISSING_PARAM");
    alice.post("v3/user_directory/search", json!({ "search_term": 5 })).await.refused(400, "M_BAD_JSON");
    alice.post("v3/user_directory/search", json!({ "search_term": "x", "limit": -1 })).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn rooms_that_two_share_are_told_to_both_alone() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "invite": [bob.id] })).await;
    alice.room(json!({})).await;
    let path = |user: &User<'_>| format!("v1/mutual_rooms?user_id={}", user.id);
    let nothing = json!({ "joined": [], "count": 0 });
    assert_eq!(alice.get(&path(&bob)).await.ok(), nothing, "invited is not joined");
    bob.join(&room).await.ok();
    let one = json!({ "joined": [room], "count": 1 });
    assert_eq!((alice.get(&path(&bob)).await.ok(), bob.get(&path(&alice)).await.ok()), (one.clone(), one));
    assert_eq!(alice.get("v1/mutual_rooms?user_id=@nobody:hs.test").await.ok(), nothing);
    alice.get(&path(&alice)).await.refused(400, "M_INVALID_PARAM");
    alice.get("v1/mutual_rooms?user_id=nobody").await.refused(400, "M_INVALID_PARAM");
    alice.get("v1/mutual_rooms").await.refused(400, "M_MISSING_PARAM");
    alice.get(&format!("{}&from=nonsense", path(&bob))).await.refused(400, "M_INVALID_PARAM");
    alice.get(&format!("{}&from=mAAA", path(&bob))).await.refused(400, "M_INVALID_PARAM");
}
