//! `/sync`: what comes when, and in which part.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Site, User, bodies, filter, of_type, state_keys, types, url};

fn token(sync: &Value) -> &str {
    sync["next_batch"].as_str().expect("a token")
}

#[tokio::test]
async fn joined_left_and_joined_again_is_joined() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = bob.room(json!({ "preset": "public_chat" })).await;
    let before = alice.sync(None).await;
    alice.join(&room).await.ok();
    let joined = alice.sync(Some(&before["next_batch"])).await;
    assert!(joined["rooms"]["join"][&room].is_object());
    alice.leave(&room).await;
    let left = alice.sync(Some(&joined["next_batch"])).await;
    let events = &left["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(of_type(events, "m.room.member")["content"]["membership"], "leave");
    assert!(left["rooms"]["join"].is_null());
    alice.join(&room).await.ok();
    let again = alice.sync(Some(&left["next_batch"])).await;
    assert!(again["rooms"]["join"][&room].is_object() && again["rooms"]["leave"].is_null());
    let whole = alice.sync(Some(&before["next_batch"])).await;
    assert!(whole["rooms"]["join"][&room].is_object() && whole["rooms"]["leave"].is_null());
}

#[tokio::test]
async fn a_refused_invitation_is_left_until_the_room_is_joined() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let since = alice.sync(None).await;
    alice.act(&room, "invite", &bob).await.ok();
    assert!(bob.sync(None).await["rooms"]["invite"][&room].is_object());
    bob.leave(&room).await;
    let full = |since: String| {
        let bob = bob.clone();
        async move { bob.sync_with(&format!("timeout=0&full_state=true&since={since}")).await }
    };
    let left = full(token(&since).to_owned()).await;
    assert!(left["rooms"]["leave"][&room].is_object(), "{left}");
    bob.join(&room).await.ok();
    let joined = full(token(&left).to_owned()).await;
    assert!(joined["rooms"]["leave"].is_null() && joined["rooms"]["join"][&room].is_object(), "{joined}");
}

#[tokio::test]
async fn an_invitation_is_told_once_and_again_to_one_who_starts_over() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let before = bob.sync(None).await;
    let room = alice.room(json!({ "invite": [bob.id], "name": "Tea" })).await;
    let told = bob.sync(Some(&before["next_batch"])).await;
    let events = told["rooms"]["invite"][&room]["invite_state"]["events"].clone();
    for kind in ["m.room.create", "m.room.join_rules", "m.room.name", "m.room.member"] {
        let event = of_type(&events, kind);
        let keys: Vec<_> = event.as_object().expect("an object").keys().map(String::as_str).collect();
        // The create event's id proves the room's (MSC4311).
        let more: &[&str] = if kind == "m.room.create" { &["event_id", "origin_server_ts"] } else { &[] };
        let known = |key: &&str| ["content", "sender", "state_key", "type"].contains(key) || more.contains(key);
        assert!(keys.iter().all(known) && keys.len() == 4 + more.len(), "{event}");
    }
    assert_eq!(state_keys(&events, "m.room.member"), [&*alice.id, &*bob.id]);
    assert!(bob.sync(Some(&told["next_batch"])).await["rooms"].is_null());
    assert!(bob.sync(None).await["rooms"]["invite"][&room].is_object());
    alice.act(&room, "kick", &bob).await.ok();
    let withdrawn = bob.sync(Some(&told["next_batch"])).await;
    assert!(withdrawn["rooms"]["leave"][&room].is_object() && withdrawn["rooms"]["invite"].is_null());
}

#[tokio::test]
async fn full_state_tells_all_of_it_even_if_nothing_happened() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = alice.sync(None).await;
    let full = alice.sync_with(&format!("timeout=30000&full_state=true&since={}", token(&since))).await;
    let part = &full["rooms"]["join"][&room];
    assert_eq!(state_keys(&part["state"]["events"], "m.room.member"), [&*alice.id, &*bob.id]);
    assert_eq!(part["timeline"]["events"], json!([]));
    assert_eq!(part["summary"]["m.joined_member_count"], 2);
}

#[tokio::test]
async fn a_timeline_that_was_cut_says_so_and_leads_back() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await;
    alice.set_state(&room, "m.room.name", json!({ "name": "Cut" })).await.ok();
    for count in 0..15 {
        alice.say(&room, &count.to_string(), &count.to_string()).await;
    }
    let sync = bob.sync(Some(&since["next_batch"])).await;
    let part = &sync["rooms"]["join"][&room];
    assert_eq!(part["timeline"]["limited"], true);
    assert_eq!(bodies(&part["timeline"]["events"]), ["5", "6", "7", "8", "9", "10", "11", "12", "13", "14"]);
    assert_eq!(types(&part["state"]["events"]), ["m.room.name"]);
    let prev = part["timeline"]["prev_batch"].as_str().expect("a token");
    let page = bob.get(&format!("v3/rooms/{room}/messages?dir=b&limit=6&from={prev}&to={}", token(&since))).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["4", "3", "2", "1", "0"]);
}

#[tokio::test]
async fn filters_choose_rooms_types_senders_and_numbers() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat", "name": "Tea" })).await;
    let other = alice.room(json!({})).await;
    bob.join(&room).await.ok();
    alice.say(&room, "1", "from alice").await;
    bob.say(&room, "1", "from bob").await;
    let with = |filter: Value| {
        let alice = alice.clone();
        let text: String = url(&filter.to_string());
        async move { alice.sync_with(&format!("filter={text}")).await }
    };
    let sync = with(json!({ "room": { "rooms": [room] } })).await;
    assert!(sync["rooms"]["join"][&room].is_object() && sync["rooms"]["join"][&other].is_null());
    let sync = with(json!({ "room": { "not_rooms": [room] } })).await;
    assert!(sync["rooms"]["join"][&room].is_null() && sync["rooms"]["join"][&other].is_object());
    let sync = with(json!({ "room": { "timeline": { "types": ["m.room.message"], "senders": [bob.id] } } })).await;
    assert_eq!(bodies(&sync["rooms"]["join"][&room]["timeline"]["events"]), ["from bob"]);
    let sync = with(json!({ "room": { "timeline": { "types": ["m.room.*"], "not_types": ["m.room.member"], "not_senders": [alice.id] } } })).await;
    assert_eq!(types(&sync["rooms"]["join"][&room]["timeline"]["events"]), ["m.room.message"]);
    let sync = with(json!({ "room": { "timeline": { "limit": 1 }, "state": { "types": ["m.room.name"] } } })).await;
    let part = &sync["rooms"]["join"][&room];
    assert_eq!(bodies(&part["timeline"]["events"]), ["from bob"]);
    assert_eq!((types(&part["state"]["events"]), &part["timeline"]["limited"]), (vec!["m.room.name"], &json!(true)));
    let sync = with(json!({ "room": { "timeline": { "limit": 0 } } })).await;
    assert_eq!(sync["rooms"]["join"][&room]["timeline"]["events"], json!([]));
    bob.leave(&room).await;
    assert!(bob.sync(None).await["rooms"].is_null(), "who starts over is not told of rooms left");
    let left = bob.sync_with(&format!("filter={}", url("{\"room\":{\"include_leave\":true}}"))).await;
    let part = &left["rooms"]["leave"][&room];
    assert_eq!(
        part["timeline"]["events"].as_array().and_then(|e| e.last()).map(|e| &e["content"]["membership"]),
        Some(&json!("leave"))
    );
}

#[tokio::test]
async fn filters_that_are_none_are_refused() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let timeline = |inner: Value| json!({ "room": { "timeline": inner } });
    let cases = [
        json!({ "presence": "not_an_object" }),
        json!({ "room": { "timeline": "not_an_object" } }),
        json!({ "room": { "state": "not_an_object" } }),
        json!({ "room": { "ephemeral": "not_an_object" } }),
        json!({ "room": { "account_data": "not_an_object" } }),
        timeline(json!({ "rooms": "not_a_list" })),
        timeline(json!({ "not_rooms": "not_a_list" })),
        timeline(json!({ "senders": "not_a_list" })),
        timeline(json!({ "not_senders": "not_a_list" })),
        timeline(json!({ "types": "not_a_list" })),
        timeline(json!({ "not_types": "not_a_list" })),
        timeline(json!({ "types": [1] })),
        timeline(json!({ "rooms": ["not_a_room_id"] })),
        timeline(json!({ "senders": ["not_a_sender_id"] })),
        timeline(json!({ "limit": -1 })),
        timeline(json!({ "limit": "ten" })),
    ];
    for filter in cases {
        let answer = alice.post(&format!("v3/user/{}/filter", alice.id), filter.clone()).await;
        answer.refused(400, "M_BAD_JSON");
        let inline = alice.get(&format!("v3/sync?filter={}", url(&filter.to_string()))).await;
        assert_eq!(inline.status, 400, "{filter}: {}", inline.body);
    }
}

fn lazy(extra: &str) -> String {
    let timeline = "\"timeline\":{\"limit\":1}";
    format!("filter={}", url(&format!("{{\"room\":{{{timeline},\"state\":{{\"lazy_load_members\":true{extra}}}}}}}")))
}

async fn crowded(site: &Site) -> (Vec<User<'_>>, String) {
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol", "dan"] {
        users.push(site.user(name).await);
    }
    let room = users[0].room(json!({ "preset": "public_chat" })).await;
    for user in &users[1..] {
        user.join(&room).await.ok();
    }
    (users, room)
}

#[tokio::test]
async fn lazily_loaded_members_are_those_of_the_timeline_and_not_twice() {
    let site = Site::new().await;
    let (users, room) = crowded(&site).await;
    let [alice, bob, carol, dan] = &users[..] else { unreachable!("four users") };
    bob.say(&room, "1", "hello").await;
    let first = alice.sync_with(&lazy("")).await;
    let part = &first["rooms"]["join"][&room];
    let heroes = part["summary"]["m.heroes"].as_array().expect("heroes").clone();
    assert_eq!(part["summary"]["m.joined_member_count"], 4);
    assert!(heroes.len() == 3 && !heroes.contains(&json!(alice.id)));
    let members = state_keys(&part["state"]["events"], "m.room.member");
    assert!(members.contains(&&*bob.id));
    let since = |sync: &Value| format!("{}&since={}", lazy(""), token(sync));
    dan.say(&room, "1", "hello").await;
    let second = alice.sync_with(&since(&first)).await;
    let shown = state_keys(&second["rooms"]["join"][&room]["state"]["events"], "m.room.member");
    assert!(members.contains(&&*dan.id) || shown == [&*dan.id], "{second}");
    dan.say(&room, "2", "again").await;
    let third = alice.sync_with(&since(&second)).await;
    assert_eq!(third["rooms"]["join"][&room]["state"]["events"], json!([]));
    carol.leave(&room).await;
    bob.say(&room, "2", "again").await;
    let fourth = alice.sync_with(&since(&third)).await;
    let part = &fourth["rooms"]["join"][&room];
    assert_eq!(part["summary"]["m.joined_member_count"], 3);
    let redundant = format!("{}&since={}", lazy(",\"include_redundant_members\":true"), token(&third));
    let told = alice.sync_with(&redundant).await;
    assert!(
        state_keys(&told["rooms"]["join"][&room]["state"]["events"], "m.room.member").contains(&&*bob.id),
        "{told}"
    );
}

#[tokio::test]
async fn state_after_is_the_state_at_the_end() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "name": "one" })).await;
    let since = alice.sync(None).await;
    alice.set_state(&room, "m.room.name", json!({ "name": "two" })).await.ok();
    alice.say(&room, "1", "hello").await;
    for (parameter, key) in
        [("use_state_after", "state_after"), ("org.matrix.msc4222.use_state_after", "org.matrix.msc4222.state_after")]
    {
        let sync = alice.sync_with(&format!("{parameter}=true&since={}", token(&since))).await;
        let part = &sync["rooms"]["join"][&room];
        assert_eq!(of_type(&part[key]["events"], "m.room.name")["content"]["name"], "two");
        assert!(part.get("state").is_none(), "{part}");
        assert_eq!(types(&part["timeline"]["events"]), ["m.room.name", "m.room.message"]);
        let initial = alice.sync_with(&format!("{parameter}=true")).await;
        let part = &initial["rooms"]["join"][&room];
        assert_eq!(of_type(&part[key]["events"], "m.room.create")["sender"], alice.id.as_str());
        assert_eq!(of_type(&part[key]["events"], "m.room.name")["content"]["name"], "two");
    }
    let plain = alice.sync_with(&format!("use_state_after=false&since={}", token(&since))).await;
    assert_eq!(plain["rooms"]["join"][&room]["state"]["events"], json!([]));
}

#[tokio::test]
async fn a_sync_waits_for_news_and_no_longer() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await;
    let query = format!("timeout=30000&since={}", token(&since));
    let speak = async {
        tokio::task::yield_now().await;
        alice.say(&room, "1", "wake up").await;
    };
    let (told, ()) = tokio::join!(bob.sync_with(&query), speak);
    assert_eq!(bodies(&told["rooms"]["join"][&room]["timeline"]["events"]), ["wake up"]);
    let query = format!("timeout=30000&since={}", token(&told));
    let pass = async {
        tokio::task::yield_now().await;
        site.parts.clock.advance(Duration::from_secs(30));
    };
    let (quiet, ()) = tokio::join!(bob.sync_with(&query), pass);
    assert!(quiet["rooms"].is_null() && quiet["next_batch"].is_string());
    let invite = async {
        tokio::task::yield_now().await;
        alice.room(json!({ "invite": [bob.id] })).await
    };
    let query = format!("timeout=30000&since={}", token(&quiet));
    let (told, invited) = tokio::join!(bob.sync_with(&query), invite);
    assert!(told["rooms"]["invite"][&invited].is_object());
}

#[tokio::test]
async fn what_happens_in_rooms_of_others_wakes_nobody() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({})).await;
    let since = bob.sync(None).await;
    let query = format!("timeout=30000&since={}", token(&since));
    let waiting = bob.sync_with(&query);
    tokio::pin!(waiting);
    assert!(futures_pending(&mut waiting).await);
    alice.say(&room, "1", "not for bob").await;
    assert!(futures_pending(&mut waiting).await);
    site.parts.clock.advance(Duration::from_secs(30));
    assert!(waiting.await["rooms"].is_null());
}

/// Whether a future is still not ready after everything that could run has run.
async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future).await.is_err()
}

#[tokio::test]
async fn a_ban_ends_what_is_told_of_the_room() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await;
    alice.say(&room, "1", "before").await;
    alice.act(&room, "ban", &bob).await.ok();
    alice.say(&room, "2", "after").await;
    let sync = bob.sync(Some(&since["next_batch"])).await;
    let events = &sync["rooms"]["leave"][&room]["timeline"]["events"];
    assert_eq!(types(events), ["m.room.message", "m.room.member"]);
    assert_eq!(of_type(events, "m.room.member")["content"]["membership"], "ban");
    assert!(bob.sync(Some(&sync["next_batch"])).await["rooms"].is_null());
}

#[tokio::test]
async fn tokens_that_are_none_are_never_taken_for_a_beginning() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let sync = alice.sync(None).await;
    for since in ["", "0", "null", "s", "x1", "%00", &format!("{}x", token(&sync)), &url("s1_2\u{e9}")] {
        let answer = alice.get(&format!("v3/sync?timeout=0&since={since}")).await;
        answer.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn event_fields_of_a_filter_pick_properties() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    alice.say(&room, "1", "hello").await;
    let body = json!({ "event_fields": ["type", "content.body"], "room": { "timeline": { "limit": 1 } } });
    let stored = alice.post(&format!("v3/user/{}/filter", alice.id), body.clone()).await.ok();
    for query in [filter(&body), format!("filter={}", stored["filter_id"].as_str().expect("an id"))] {
        let shown = alice.sync_with(&query).await["rooms"]["join"][&room].clone();
        let message = json!({ "type": "m.room.message", "content": { "body": "hello" } });
        assert_eq!(shown["timeline"]["events"], json!([message]));
        let create = of_type(&shown["state"]["events"], "m.room.create");
        assert_eq!(*create, json!({ "type": "m.room.create" }));
    }
}
