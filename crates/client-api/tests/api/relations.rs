//! Events that relate to others: the bundles they make, the lists of them, threads.

use serde_json::{Value, json};

use crate::support::{Site, User, bodies, filter, ids, url};

/// Sends a message that relates to another; the event id.
async fn relate(user: &User<'_>, room: &str, rel_type: &str, target: &str, txn: &str, more: Value) -> String {
    let mut content = json!({ "msgtype": "m.text", "body": txn });
    content["m.relates_to"] = json!({ "rel_type": rel_type, "event_id": target });
    content.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let answer = user.put(&format!("v3/rooms/{room}/send/m.room.message/{}", url(txn)), content).await.ok();
    answer["event_id"].as_str().expect("an id").to_owned()
}

async fn edit(user: &User<'_>, room: &str, target: &str, txn: &str) -> String {
    relate(user, room, "m.replace", target, txn, json!({ "m.new_content": { "body": txn } })).await
}

async fn in_thread(user: &User<'_>, room: &str, root: &str, txn: &str) -> String {
    relate(user, room, "m.thread", root, txn, json!({})).await
}

async fn react(user: &User<'_>, room: &str, target: &str, key: &str) -> crate::support::Answer {
    let content = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": target, "key": key } });
    let txn = url(&format!("{target}{key}"));
    user.put(&format!("v3/rooms/{room}/send/m.reaction/{txn}"), content).await
}

async fn redact(user: &User<'_>, room: &str, event: &str) {
    user.put(&format!("v3/rooms/{room}/redact/{event}/{}", url(event)), json!({})).await.ok();
}

async fn bundle(user: &User<'_>, room: &str, event: &str) -> Value {
    user.get(&format!("v3/rooms/{room}/event/{event}")).await.ok()["unsigned"]["m.relations"].clone()
}

async fn relations(user: &User<'_>, room: &str, tail: &str) -> Value {
    user.get(&format!("v1/rooms/{room}/relations/{tail}")).await.ok()
}

#[tokio::test]
async fn the_newest_valid_edit_is_bundled_wherever_the_event_is_shown() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let event = alice.say(&room, "1", "first").await;
    assert_eq!(bundle(&bob, &room, &event).await, Value::Null);
    let once = edit(&alice, &room, &event, "once").await;
    site.parts.clock.advance(std::time::Duration::from_millis(1));
    let twice = edit(&alice, &room, &event, "twice").await;
    // Neither what others say, nor what says nothing new, nor an edit of an edit is one.
    edit(&bob, &room, &event, "not mine").await;
    relate(&alice, &room, "m.replace", &event, "nothing new", json!({})).await;
    edit(&alice, &room, &twice, "of an edit").await;
    let replaced = |bundle: &Value| bundle["m.replace"]["event_id"].as_str().map(ToOwned::to_owned);
    assert_eq!(replaced(&bundle(&bob, &room, &event).await).as_deref(), Some(&*twice));
    assert_eq!(bundle(&bob, &room, &twice).await, Value::Null);
    let context = bob.get(&format!("v3/rooms/{room}/context/{event}")).await.ok();
    let whole = &context["event"]["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(
        (&whole["content"]["m.new_content"]["body"], &whole["type"]),
        (&json!("twice"), &json!("m.room.message"))
    );
    assert_eq!(context["event"]["content"]["body"], "first", "the server replaces nothing");
    let page = bob.get(&format!("v3/rooms/{room}/messages?dir=b&limit=50")).await.ok();
    let shown = page["chunk"].as_array().expect("events").iter().find(|shown| shown["event_id"] == event.as_str());
    assert_eq!(replaced(&shown.expect("shown")["unsigned"]["m.relations"]).as_deref(), Some(&*twice));
    // A sync that is cut has bundles; one that isn't lets the client count itself.
    let cut = bob.sync_with(&filter(&json!({ "room": { "timeline": { "limit": 7 } } }))).await;
    let whole = bob.sync_with(&filter(&json!({ "room": { "timeline": { "limit": 50 } } }))).await;
    for (sync, bundled) in [(cut, true), (whole, false)] {
        let events = sync["rooms"]["join"][&room]["timeline"]["events"].clone();
        let shown = events.as_array().expect("events").iter().find(|shown| shown["event_id"] == event.as_str());
        assert_eq!(shown.expect("shown")["unsigned"].get("m.relations").is_some(), bundled, "{events}");
    }
    redact(&alice, &room, &twice).await;
    assert_eq!(replaced(&bundle(&bob, &room, &event).await).as_deref(), Some(&*once));
    redact(&alice, &room, &event).await;
    assert_eq!(bundle(&bob, &room, &event).await, Value::Null, "a redacted event shows no edits");
}

#[tokio::test]
async fn a_thread_is_summed_up_at_its_root() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    let root = alice.say(&room, "1", "root").await;
    let one = in_thread(&bob, &room, &root, "one").await;
    let two = in_thread(&bob, &room, &root, "two").await;
    edit(&bob, &room, &two, "edited").await;
    relate(&carol, &room, "m.reference", &two, "see there", json!({})).await;
    for (user, participated) in [(&alice, true), (&bob, true), (&carol, false)] {
        let thread = bundle(user, &room, &root).await["m.thread"].clone();
        assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(2), &json!(participated)));
        let latest = &thread["latest_event"];
        assert_eq!((&latest["event_id"], &latest["room_id"]), (&json!(two), &json!(room)));
        let nested = &latest["unsigned"]["m.relations"];
        assert_eq!(nested["m.replace"]["content"]["body"], "edited");
        assert_eq!(nested["m.reference"]["chunk"].as_array().map(Vec::len), Some(1));
        assert!(nested.get("m.thread").is_none());
    }
    redact(&bob, &room, &two).await;
    let thread = bundle(&carol, &room, &root).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["latest_event"]["event_id"]), (&json!(1), &json!(one)));
    redact(&bob, &room, &one).await;
    assert_eq!(bundle(&carol, &room, &root).await, Value::Null);
    let report = site.parts.rooms.verify().await.expect("the store works");
    assert!(report.is_whole(), "{report}");
}

#[tokio::test]
async fn who_left_is_told_of_a_thread_as_it_was() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let root = alice.say(&room, "1", "root").await;
    let before = in_thread(&alice, &room, &root, "before").await;
    bob.leave(&room).await;
    in_thread(&alice, &room, &root, "after").await;
    edit(&alice, &room, &root, "later").await;
    let bundle = bundle(&bob, &room, &root).await;
    assert_eq!(bundle["m.thread"]["latest_event"]["event_id"], before.as_str());
    assert_eq!(bundle["m.thread"]["count"], 1);
    assert!(bundle.get("m.replace").is_none());
    assert_eq!(ids(&relations(&bob, &room, &root).await["chunk"]), [&*before]);
    let threads = bob.get(&format!("v1/rooms/{room}/threads")).await.ok();
    assert_eq!(threads["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"], before.as_str());
}

#[tokio::test]
async fn relations_are_listed_by_type_in_both_directions_and_in_pages() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let root = alice.say(&room, "1", "root").await;
    let mut thread = Vec::new();
    for number in 0..7 {
        thread.push(in_thread(&alice, &room, &root, &format!("t{number}")).await);
    }
    let edited = edit(&alice, &room, &root, "edited").await;
    let reaction = react(&alice, &room, &root, "+").await.ok()["event_id"].as_str().expect("an id").to_owned();
    let mut all: Vec<&str> = thread.iter().map(String::as_str).chain([&*edited, &*reaction]).collect();
    for (dir, limit) in [("f", 2), ("f", 100), ("b", 4), ("b", 1)] {
        if (dir == "b") != (all[0] == reaction) {
            all.reverse();
        }
        let (mut found, mut from, mut first) = (Vec::new(), String::new(), true);
        loop {
            let page = relations(&alice, &room, &format!("{root}?dir={dir}&limit={limit}{from}")).await;
            assert_eq!(page.get("prev_batch").is_none(), first);
            assert!(page.get("recursion_depth").is_none());
            found.extend(ids(&page["chunk"]).into_iter().map(ToOwned::to_owned));
            first = false;
            let Some(next) = page["next_batch"].as_str() else { break };
            assert!(found.len() < 20, "it never ends");
            from = format!("&from={next}");
        }
        assert_eq!(found, all, "{dir} {limit}");
    }
    let newest_first: Vec<&str> = thread.iter().rev().map(String::as_str).collect();
    assert_eq!(ids(&relations(&alice, &room, &format!("{root}/m.thread")).await["chunk"]), newest_first);
    assert_eq!(ids(&relations(&alice, &room, &format!("{root}/m.annotation/m.reaction")).await["chunk"]), [&*reaction]);
    assert!(ids(&relations(&alice, &room, &format!("{root}/m.annotation/m.other")).await["chunk"]).is_empty());
    assert!(ids(&relations(&alice, &room, &format!("{root}?limit=0")).await["chunk"]).is_empty());
    let token = alice.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let later = in_thread(&alice, &room, &root, "later").await;
    let since = relations(&alice, &room, &format!("{root}?dir=f&from={token}")).await;
    assert_eq!(ids(&since["chunk"]), [&*later]);
    let up_to = relations(&alice, &room, &format!("{root}?dir=b&to={token}")).await;
    assert_eq!(ids(&up_to["chunk"]), [&*later]);
}

#[tokio::test]
async fn recursion_goes_down_three_levels_over_what_is_wanted() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let mut chain = vec![alice.say(&room, "1", "root").await];
    for level in 1..=4 {
        chain.push(relate(&alice, &room, "m.reference", &chain[level - 1], &format!("l{level}"), json!({})).await);
    }
    let reaction = react(&alice, &room, &chain[2], "+").await.ok()["event_id"].as_str().expect("an id").to_owned();
    let found = relations(&alice, &room, &format!("{}?recurse=true&dir=f", chain[0])).await;
    assert_eq!(found["recursion_depth"], 3);
    assert_eq!(ids(&found["chunk"]), [&*chain[1], &*chain[2], &*chain[3], &*reaction]);
    let page = relations(&alice, &room, &format!("{}?recurse=true&limit=3", chain[0])).await;
    assert_eq!(ids(&page["chunk"]), [&*reaction, &*chain[3], &*chain[2]]);
    let next = format!("{}?recurse=true&from={}", chain[0], page["next_batch"].as_str().expect("a token"));
    assert_eq!(ids(&relations(&alice, &room, &next).await["chunk"]), [&*chain[1]]);
    // What hangs on an event that isn't wanted isn't found.
    let annotations = relations(&alice, &room, &format!("{}/m.annotation?recurse=true", chain[0])).await;
    assert!(ids(&annotations["chunk"]).is_empty());
    let references = relations(&alice, &room, &format!("{}/m.reference?recurse=true", chain[0])).await;
    assert_eq!(ids(&references["chunk"]), [&*chain[3], &*chain[2], &*chain[1]]);
}

#[tokio::test]
async fn threads_are_listed_by_their_newest_event() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let mut roots = Vec::new();
    for number in 0..5 {
        let root = alice.say(&room, &format!("r{number}"), "root").await;
        in_thread(&alice, &room, &root, &format!("t{number}")).await;
        roots.push(root);
    }
    let bobs = in_thread(&bob, &room, &roots[1], "bob").await;
    let list = |query: &str| {
        let path = format!("v1/rooms/{room}/threads{query}");
        let bob = bob.clone();
        async move { bob.get(&path).await.ok() }
    };
    let order = |of: [usize; 5]| of.map(|at| roots[at].clone());
    assert_eq!(ids(&list("").await["chunk"]), order([1, 4, 3, 2, 0]));
    assert_eq!(ids(&list("?include=participated").await["chunk"]), [&*roots[1]]);
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("?limit=2{from}")).await;
        found.extend(ids(&page["chunk"]).into_iter().map(ToOwned::to_owned));
        let Some(next) = page["next_batch"].as_str() else { break };
        from = format!("&from={next}");
    }
    assert_eq!(found, order([1, 4, 3, 2, 0]));
    redact(&bob, &room, &bobs).await;
    assert_eq!(ids(&list("").await["chunk"]), order([4, 3, 2, 1, 0]));
    assert!(ids(&list("?include=participated").await["chunk"]).is_empty());
}

#[tokio::test]
async fn what_is_no_relation_is_refused() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let other = alice.room(json!({})).await;
    let event = alice.say(&room, "1", "root").await;
    let path = format!("v1/rooms/{room}/relations/{event}");
    alice.get(&format!("v1/rooms/{room}/relations/$none")).await.refused(404, "M_NOT_FOUND");
    alice.get(&format!("v1/rooms/{other}/relations/{event}")).await.refused(404, "M_NOT_FOUND");
    bob.get(&path).await.refused(404, "M_NOT_FOUND");
    for query in ["dir=x", "from=nonsense", "to=t1", "limit=-1", "limit=x", "recurse=maybe"] {
        alice.get(&format!("{path}?{query}")).await.refused(400, "M_INVALID_PARAM");
    }
    let token = alice.get(&format!("v3/rooms/{other}/messages?dir=b&limit=1")).await.ok()["end"].clone();
    let token = token.as_str().expect("a token");
    alice.get(&format!("{path}?from={token}")).await.refused(400, "M_INVALID_PARAM");
    let threads = format!("v1/rooms/{room}/threads");
    bob.get(&threads).await.refused(403, "M_FORBIDDEN");
    let stream = alice.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    for query in ["include=mine", "limit=0", "from=x", &format!("from={stream}"), &format!("from={token}")] {
        alice.get(&format!("{threads}?{query}")).await.refused(400, "M_INVALID_PARAM");
    }
    let answer = in_thread(&alice, &room, &event, "t").await;
    let nested = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": answer } });
    alice.put(&format!("v3/rooms/{room}/send/m.room.message/n"), nested).await.refused(400, "M_UNKNOWN");
    let first = react(&alice, &room, &event, "+").await.ok()["event_id"].as_str().expect("an id").to_owned();
    react(&alice, &room, &event, "-").await.ok();
    let again = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": "+" } });
    let send = |txn: &str| format!("v3/rooms/{room}/send/m.reaction/{txn}");
    alice.put(&send("again"), again.clone()).await.refused(400, "M_DUPLICATE_ANNOTATION");
    bob.join(&room).await.ok();
    bob.put(&send("1"), again.clone()).await.ok();
    redact(&alice, &room, &first).await;
    alice.put(&send("after"), again).await.ok();
}

#[tokio::test]
async fn pages_are_narrowed_by_what_events_relate_to() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = alice.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let root = alice.say(&room, "1", "root").await;
    in_thread(&bob, &room, &root, "thread").await;
    relate(&alice, &room, "m.reference", &root, "reference", json!({})).await;
    let page = |wanted: Value| {
        let path = format!("v3/rooms/{room}/messages?dir=f&from={since}&{}", filter(&wanted));
        let alice = alice.clone();
        async move { alice.get(&path).await.ok()["chunk"].clone() }
    };
    for (wanted, found) in [
        (json!({ "org.matrix.msc3874.rel_types": ["m.thread"] }), vec!["thread"]),
        (json!({ "rel_types": ["m.thread", "m.reference"] }), vec!["thread", "reference"]),
        (json!({ "org.matrix.msc3874.not_rel_types": ["m.thread"] }), vec!["root", "reference"]),
        (json!({ "related_by_rel_types": ["m.thread"] }), vec!["root"]),
        (json!({ "related_by_rel_types": ["m.annotation"] }), vec![]),
        (json!({ "related_by_senders": [bob.id], "related_by_rel_types": ["m.reference"] }), vec![]),
        (json!({ "related_by_senders": [bob.id], "types": ["m.room.message"] }), vec!["root"]),
    ] {
        assert_eq!(bodies(&page(wanted.clone()).await), found, "{wanted}");
    }
}

async fn at(user: &User<'_>, room: &str, ts: u64, dir: &str) -> crate::support::Answer {
    user.get(&format!("v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={dir}")).await
}

#[tokio::test]
async fn the_event_closest_to_a_time_is_found() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let step = || site.parts.clock.advance(std::time::Duration::from_secs(10));
    let start = 1_700_000_000_000_u64;
    step();
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let mut events = Vec::new();
    for number in 0..20 {
        step();
        events.push(alice.say(&room, &number.to_string(), "hello").await);
    }
    let sent = |number: u64| start + 20_000 + number * 10_000;
    for (number, event) in (0..).zip(&events) {
        for (ts, dir) in
            [(sent(number), "f"), (sent(number), "b"), (sent(number) - 9_999, "f"), (sent(number) + 9_999, "b")]
        {
            let found = at(&alice, &room, ts, dir).await.ok();
            assert_eq!(found, json!({ "event_id": event, "origin_server_ts": sent(number) }), "{ts} {dir}");
        }
    }
    at(&alice, &room, sent(19) + 1, "f").await.refused(404, "M_NOT_FOUND");
    at(&alice, &room, start, "b").await.refused(404, "M_NOT_FOUND");
    at(&bob, &room, start, "f").await.refused(403, "M_FORBIDDEN");
    // Of events of one time, looking back finds the last, and looking forward the first.
    let one = alice.say(&room, "one", "hello").await;
    let two = alice.say(&room, "two", "hello").await;
    assert_eq!(at(&alice, &room, sent(19), "b").await.ok()["event_id"], two.as_str());
    assert_eq!(at(&alice, &room, sent(19), "f").await.ok()["event_id"], events[19].as_str());
    assert_ne!(one, two);
    for query in ["ts=1", "dir=f", "ts=x&dir=f", "ts=-1&dir=f", "ts=1&dir=up"] {
        let answer = alice.get(&format!("v1/rooms/{room}/timestamp_to_event?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn what_is_hidden_is_not_found_by_its_time() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let step = || site.parts.clock.advance(std::time::Duration::from_secs(10));
    let content = json!({ "history_visibility": "joined" });
    let initial = json!([{ "type": "m.room.history_visibility", "state_key": "", "content": content }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": initial })).await;
    for number in 0..300 {
        step();
        alice.say(&room, &number.to_string(), "hidden").await;
    }
    step();
    bob.join(&room).await.ok();
    step();
    let seen = alice.say(&room, "seen", "seen").await;
    let join = at(&bob, &room, 1_700_000_500_000, "f").await.ok();
    let event = bob.get(&format!("v3/rooms/{room}/event/{}", join["event_id"].as_str().expect("an id"))).await.ok();
    assert_eq!((&event["type"], &event["state_key"]), (&json!("m.room.member"), &json!(bob.id)));
    // Of what was before, only the first events are visible: the visibility was not set yet.
    assert_eq!(at(&bob, &room, 1_700_000_500_000, "b").await.ok()["origin_server_ts"], 1_700_000_000_000_u64);
    let last = at(&bob, &room, 1_800_000_000_000, "b").await.ok();
    assert_eq!(last["event_id"], seen.as_str());
}

#[tokio::test]
async fn what_ignored_users_said_is_left_out_everywhere() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    carol.join(&room).await.ok();
    let root = alice.say(&room, "1", "root").await;
    let heard = in_thread(&carol, &room, &root, "heard").await;
    in_thread(&bob, &room, &root, "unheard").await;
    relate(&bob, &room, "m.reference", &root, "reference", json!({})).await;
    let bobs = bob.say(&room, "own", "a root of bob").await;
    in_thread(&carol, &room, &bobs, "in it").await;
    let list = format!("v3/user/{}/account_data/m.ignored_user_list", alice.id);
    alice.put(&list, json!({ "ignored_users": { &bob.id: {} } })).await.ok();
    let seen = bundle(&alice, &room, &root).await;
    assert_eq!((&seen["m.thread"]["count"], &seen["m.thread"]["latest_event"]["event_id"]), (&json!(1), &json!(heard)));
    assert!(seen.get("m.reference").is_none());
    assert_eq!(ids(&relations(&alice, &room, &root).await["chunk"]), [&*heard]);
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=50")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["in it", "heard", "root"]);
    let joined = page["chunk"].as_array().expect("events").iter().any(|event| event["state_key"] == bob.id.as_str());
    assert!(joined, "state is shown whoever sent it");
    let sync = alice.sync(None).await;
    assert_eq!(bodies(&sync["rooms"]["join"][&room]["timeline"]["events"]), ["root", "heard", "in it"]);
    let threads = alice.get(&format!("v1/rooms/{room}/threads")).await.ok();
    let of_bob = &threads["chunk"][0];
    assert_eq!(
        (&of_bob["event_id"], &of_bob["content"]),
        (&json!(bobs), &json!({})),
        "the root is shown as if redacted"
    );
    let others = bundle(&carol, &room, &root).await;
    assert_eq!(others["m.thread"]["count"], 2);
    alice.put(&list, json!({ "ignored_users": 1 })).await.ok();
    assert_eq!(bundle(&alice, &room, &root).await["m.thread"]["count"], 2);
}
