//! What can be read of a room's past, and by whom.

use serde_json::{Value, json};

use crate::support::{Site, User, bodies, filter, of_type, state_keys, url};

async fn room_with_visibility(alice: &User<'_>, visibility: &str) -> String {
    let content = json!({ "history_visibility": visibility });
    let initial = json!([{ "type": "m.room.history_visibility", "state_key": "", "content": content }]);
    alice.room(json!({ "preset": "public_chat", "initial_state": initial })).await
}

/// Which of four events a user may fetch who was invited after the first, joined after the second and left after the third.
async fn seen_by_one_who_came_and_went(visibility: &str) -> [bool; 4] {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = room_with_visibility(&alice, visibility).await;
    let before = alice.say(&room, "1", "before").await;
    alice.act(&room, "invite", &bob).await.ok();
    let invited = alice.say(&room, "2", "invited").await;
    bob.join(&room).await.ok();
    let joined = alice.say(&room, "3", "joined").await;
    bob.leave(&room).await;
    let left = alice.say(&room, "4", "left").await;
    let mut seen = [false; 4];
    let page = bob.get(&format!("v3/rooms/{room}/messages?dir=b&limit=100")).await.ok();
    for (at, (event, body)) in
        [(before, "before"), (invited, "invited"), (joined, "joined"), (left, "left")].into_iter().enumerate()
    {
        let answer = bob.get(&format!("v3/rooms/{room}/event/{event}")).await;
        seen[at] = answer.status == 200;
        if !seen[at] {
            answer.refused(404, "M_NOT_FOUND");
        }
        let context = bob.get(&format!("v3/rooms/{room}/context/{event}")).await;
        assert_eq!(context.status == 200, seen[at], "{visibility}: {}", context.body);
        assert_eq!(bodies(&page["chunk"]).contains(&body), seen[at], "{visibility}: {body} in {page}");
    }
    seen
}

#[tokio::test]
async fn each_visibility_shows_what_it_promises() {
    assert_eq!(seen_by_one_who_came_and_went("world_readable").await, [true, true, true, true]);
    assert_eq!(seen_by_one_who_came_and_went("shared").await, [true, true, true, false]);
    assert_eq!(seen_by_one_who_came_and_went("invited").await, [false, true, true, false]);
    assert_eq!(seen_by_one_who_came_and_went("joined").await, [false, false, true, false]);
}

#[tokio::test]
async fn outsiders_read_only_what_the_world_may() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    for (visibility, status) in [("shared", 404), ("world_readable", 200)] {
        let room = room_with_visibility(&alice, visibility).await;
        let event = alice.say(&room, "1", "Hello world").await;
        let answer = bob.get(&format!("v3/rooms/{room}/event/{event}")).await;
        assert_eq!(answer.status, status);
        if status == 200 {
            let content = json!({ "msgtype": "m.text", "body": "Hello world" });
            let read = &answer.body;
            assert_eq!((&read["content"], &read["type"]), (&content, &json!("m.room.message")));
            assert_eq!((&read["room_id"], &read["sender"]), (&json!(room), &json!(alice.id)));
            assert!(read["origin_server_ts"].is_u64());
            assert_eq!(read["event_id"], event.as_str());
        }
        let readable = status == 200;
        for path in ["messages?dir=b", "state", "members", "state/m.room.create/"] {
            let answer = bob.get(&format!("v3/rooms/{room}/{path}")).await;
            assert_eq!(answer.status, if readable { 200 } else { 403 }, "{path}: {}", answer.body);
        }
        bob.get(&format!("v3/rooms/{room}/joined_members")).await.refused(403, "M_FORBIDDEN");
    }
    bob.get("v3/rooms/!does-not-exist:hs.test/messages?dir=b").await.refused(403, "M_FORBIDDEN");
    bob.get("v3/rooms/!does-not-exist:hs.test/state").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn pages_go_both_ways_and_end() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let since = alice.sync(None).await;
    let texts: Vec<String> = (0..25).map(|count| format!("message {count}")).collect();
    for text in &texts {
        alice.say(&room, text.split_once(' ').expect("a number").1, text).await;
    }
    let token = since["next_batch"].as_str().expect("a token");
    let forward = alice.get(&format!("v3/rooms/{room}/messages?dir=f&limit=100&from={token}")).await.ok();
    assert_eq!(bodies(&forward["chunk"]), texts);
    assert!(forward.get("end").is_none() || forward["end"].is_string());
    let (mut from, mut seen) = (String::new(), Vec::new());
    for pages in 0.. {
        assert!(pages < 20, "it never ends");
        let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=7{from}")).await.ok();
        assert!(page["start"].is_string());
        seen.extend(bodies(&page["chunk"]).into_iter().map(ToOwned::to_owned));
        let Some(end) = page["end"].as_str() else { break };
        from = format!("&from={end}");
    }
    seen.reverse();
    assert_eq!(seen, texts);
    let names = &filter(&json!({"types":["m.room.create"]}));
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&{names}")).await.ok();
    assert_eq!(page["chunk"].as_array().expect("events").len(), 1);
    let lazy = &filter(&json!({"lazy_load_members":true}));
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=3&{lazy}")).await.ok();
    assert_eq!(state_keys(&page["state"], "m.room.member"), [alice.id.as_str()]);
}

#[tokio::test]
async fn the_limit_of_a_page_may_be_anything() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "1", "hello").await;
    for (limit, least) in [("1", 1), ("99999999999999", 2)] {
        let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit={limit}")).await.ok();
        assert!(page["chunk"].as_array().expect("events").len() >= least);
        alice.get(&format!("v3/rooms/{room}/context/{event}?limit={limit}")).await.ok();
    }
    let none = alice.get(&format!("v3/rooms/{room}/context/{event}?limit=0")).await.ok();
    assert_eq!((&none["events_before"], &none["events_after"]), (&json!([]), &json!([])));
    assert_eq!(none["event"]["event_id"], event.as_str());
    alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=-1")).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn members_are_told_now_and_at_a_point_and_by_membership() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    alice.say(&room, "1", "Hello world!").await;
    let sync = alice.sync(None).await;
    let point = sync["rooms"]["join"][&room]["timeline"]["prev_batch"].as_str().expect("a token").to_owned();
    let next = sync["next_batch"].as_str().expect("a token").to_owned();
    bob.join(&room).await.ok();
    bob.say(&room, "1", "Hello back").await;
    let members = |query: String| {
        let alice = alice.clone();
        let path = format!("v3/rooms/{room}/members?{query}");
        async move { alice.get(&path).await.ok()["chunk"].clone() }
    };
    let all = members(String::new()).await;
    assert_eq!(state_keys(&all, "m.room.member"), [&*alice.id, &*bob.id]);
    assert!(all.as_array().expect("events").iter().all(|event| event["room_id"] == room.as_str()));
    for at in [&point, &next] {
        assert_eq!(state_keys(&members(format!("at={at}")).await, "m.room.member"), [&*alice.id], "{at}");
    }
    bob.leave(&room).await;
    alice.act(&room, "invite", &carol).await.ok();
    assert_eq!(state_keys(&members("not_membership=leave".into()).await, "m.room.member"), [&*alice.id, &*carol.id]);
    assert_eq!(state_keys(&members("membership=leave".into()).await, "m.room.member"), [&*bob.id]);
    assert_eq!(state_keys(&members("membership=join".into()).await, "m.room.member"), [&*alice.id]);
    assert_eq!(state_keys(&members("membership=invite".into()).await, "m.room.member"), [&*carol.id]);
    let at_and = members(format!("at={next}&membership=join")).await;
    assert_eq!(state_keys(&at_and, "m.room.member"), [&*alice.id]);
    alice.get(&format!("v3/rooms/{room}/members?at=nonsense")).await.refused(400, "M_INVALID_PARAM");
    // Who has left sees the room as it was then.
    let seen = bob.get(&format!("v3/rooms/{room}/members")).await.ok();
    assert_eq!(state_keys(&seen["chunk"], "m.room.member"), [&*alice.id, &*bob.id]);
}

#[tokio::test]
async fn joined_members_have_their_profiles() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    alice.put(&format!("v3/profile/{}/displayname", alice.id), json!({ "displayname": "Alice" })).await.ok();
    alice.put(&format!("v3/profile/{}/avatar_url", alice.id), json!({ "avatar_url": "mxc://a/b" })).await.ok();
    let room = alice.room(json!({ "invite": [bob.id] })).await;
    let joined = alice.get(&format!("v3/rooms/{room}/joined_members")).await.ok();
    assert_eq!(joined["joined"], json!({ &alice.id: { "display_name": "Alice", "avatar_url": "mxc://a/b" } }));
}

#[tokio::test]
async fn a_context_has_what_was_around_and_the_state_after_it() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "name": "first" })).await;
    let mut events = Vec::new();
    for text in ["a", "b", "c", "d", "e"] {
        events.push(alice.say(&room, text, text).await);
    }
    alice.set_state(&room, "m.room.name", json!({ "name": "second" })).await.ok();
    let context = alice.get(&format!("v3/rooms/{room}/context/{}?limit=4", events[2])).await.ok();
    assert_eq!(bodies(&context["events_before"]), ["b", "a"]);
    assert_eq!(bodies(&context["events_after"]), ["d", "e"]);
    assert_eq!(of_type(&context["state"], "m.room.name")["content"]["name"], "first");
    let (start, end) = (&context["start"], &context["end"]);
    let later = format!("v3/rooms/{room}/messages?dir=f&from={}", end.as_str().expect("a token"));
    let later = alice.get(&later).await.ok();
    assert_eq!(later["chunk"][0]["type"], "m.room.name");
    let older = format!("v3/rooms/{room}/messages?dir=b&from={}", start.as_str().expect("a token"));
    assert_eq!(alice.get(&older).await.ok()["chunk"][0]["type"], "m.room.name");
    let names = &filter(&json!({"types":["m.room.name"]}));
    let filtered = alice.get(&format!("v3/rooms/{room}/context/{}?{names}", events[2])).await.ok();
    assert_eq!(filtered["event"]["content"]["body"], "c");
    assert_eq!(filtered["events_after"].as_array().map(Vec::len), Some(1));
    let other = alice.room(json!({})).await;
    alice.get(&format!("v3/rooms/{other}/context/{}", events[2])).await.refused(404, "M_NOT_FOUND");
    assert_eq!(
        alice.get(&format!("v3/rooms/{room}/context/$none")).await.refused(404, "M_NOT_FOUND")["chunk"],
        Value::Null
    );
}

#[tokio::test]
async fn redactions_need_power_over_what_others_sent() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    for version in ["1", "3", "10", "11", "12"] {
        let room = alice.room(json!({ "preset": "public_chat", "room_version": version })).await;
        bob.join(&room).await.ok();
        let alices = alice.say(&room, "1", "expected").await;
        let bobs = bob.say(&room, "1", "bad").await;
        let redact = |event: &str| format!("v3/rooms/{room}/redact/{}/{}", url(event), url(event));
        bob.put(&redact(&alices), json!({})).await.refused(403, "M_FORBIDDEN");
        alice.put(&redact(&bobs), json!({ "reason": "reasons..." })).await.ok();
        let read = bob.get(&format!("v3/rooms/{room}/event/{}", url(&bobs))).await.ok();
        assert_eq!(read["content"], json!({}));
        let because = &read["unsigned"]["redacted_because"];
        assert_eq!(because["content"]["reason"], "reasons...");
        assert_eq!(because["redacts"].as_str().or(because["content"]["redacts"].as_str()), Some(&*bobs));
        assert_eq!(
            bob.get(&format!("v3/rooms/{room}/event/{}", url(&alices))).await.ok()["content"]["body"],
            "expected"
        );
        alice.put(&format!("v3/rooms/{room}/redact/nonsense/9"), json!({})).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn who_has_left_is_told_of_members_up_to_then_whatever_the_point() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let before = bob.sync(None).await["next_batch"].clone();
    bob.leave(&room).await;
    carol.join(&room).await.ok();
    let after = bob.sync(None).await["next_batch"].clone();
    for (at, present) in [(before, vec![&*alice.id, &*bob.id]), (after, vec![&*alice.id])] {
        let at = at.as_str().expect("a token");
        let seen = bob.get(&format!("v3/rooms/{room}/members?membership=join&at={at}")).await.ok();
        assert_eq!(state_keys(&seen["chunk"], "m.room.member"), present);
    }
}
