//! Searching the events that one may see.

use search::{Options, Search};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, Site, User, bodies, ids};

/// Searches with these criteria; the answer as it is.
async fn ask(user: &User<'_>, criteria: Value, next: Option<&Value>) -> Answer {
    let next = next.map(|next| format!("?next_batch={}", next.as_str().expect("a token"))).unwrap_or_default();
    user.post(&format!("v3/search{next}"), json!({ "search_categories": { "room_events": criteria } })).await
}

async fn search(user: &User<'_>, criteria: Value) -> Value {
    ask(user, criteria, None).await.ok()["search_categories"]["room_events"].clone()
}

/// The events that were found.
fn results(found: &Value) -> Value {
    found["results"].as_array().expect("results").iter().map(|hit| hit["result"].clone()).collect()
}

fn recent(term: &str) -> Value {
    json!({ "search_term": term, "order_by": "recent" })
}

#[tokio::test]
async fn events_are_found_by_their_words_with_what_was_around() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    alice.put(&format!("v3/profile/{}/displayname", alice.id), json!({ "displayname": "Alice" })).await.ok();
    let room = alice.room(json!({ "name": "The kitchen", "topic": "Cakes and more" })).await;
    for number in 1..=7 {
        alice.say(&room, &number.to_string(), &format!("Message number {number}")).await;
    }
    let criteria = json!({
        "search_term": "message 4", "keys": ["content.body"], "order_by": "recent", "include_state": true,
        "filter": { "rooms": [room], "limit": 1 },
        "event_context": { "before_limit": 2, "after_limit": 2, "include_profile": true },
    });
    let found = search(&alice, criteria).await;
    assert_eq!((&found["count"], &found["highlights"]), (&json!(1), &json!(["4", "message"])));
    assert!(found["next_batch"].is_string());
    let hit = &found["results"][0];
    assert_eq!(
        (&hit["result"]["content"]["body"], &hit["result"]["room_id"]),
        (&json!("Message number 4"), &json!(room))
    );
    assert!(hit["rank"].as_f64().expect("a rank") > 0.0);
    let context = &hit["context"];
    assert_eq!(bodies(&context["events_before"]), ["Message number 3", "Message number 2"]);
    assert_eq!(bodies(&context["events_after"]), ["Message number 5", "Message number 6"]);
    assert_eq!(context["profile_info"], json!({ &alice.id: { "displayname": "Alice" } }));
    let older = format!("v3/rooms/{room}/messages?dir=b&limit=1&from={}", context["start"].as_str().expect("a token"));
    assert_eq!(bodies(&alice.get(&older).await.ok()["chunk"]), ["Message number 1"]);
    let state = found["state"][&room].as_array().expect("a state");
    assert!(state.iter().any(|event| event["type"] == "m.room.create"));
    for (term, key, found) in [
        ("kitchen", "content.name", 1),
        ("kitchen", "content.body", 0),
        ("cakes", "content.topic", 1),
        ("CAKES more", "content.topic", 1),
        ("cakes kitchen", "content.topic", 0),
    ] {
        let criteria = json!({ "search_term": term, "keys": [key] });
        assert_eq!(search(&alice, criteria).await["count"], found, "{term} {key}");
    }
    assert_eq!(search(&alice, json!({ "search_term": "kitchen" })).await["count"], 1);
}

#[tokio::test]
async fn pages_follow_each_other_in_both_orders() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let mut events = Vec::new();
    for number in 0..20 {
        site.parts.clock.advance(std::time::Duration::from_millis(1));
        events.push(alice.say(&room, &number.to_string(), &format!("Message number {number}")).await);
    }
    events.reverse();
    for order in ["recent", "rank"] {
        let criteria =
            json!({ "search_term": "Message", "order_by": order, "filter": { "rooms": [room], "limit": 8 } });
        let (mut next, mut found, mut pages) = (None, Vec::new(), 0);
        loop {
            let page = ask(&alice, criteria.clone(), next.as_ref()).await.ok();
            let page = page["search_categories"]["room_events"].clone();
            assert_eq!(page["count"], 20);
            found.extend(ids(&results(&page)).into_iter().map(ToOwned::to_owned));
            pages += 1;
            next = page.get("next_batch").cloned();
            assert_eq!(next.is_none(), page["results"] == json!([]));
            if next.is_none() {
                break;
            }
        }
        assert_eq!((found, pages), (events.clone(), 4), "{order}");
    }
}

#[tokio::test]
async fn better_matches_come_first() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let good = alice.say(&room, "1", "cake, cake and cake").await;
    site.parts.clock.advance(std::time::Duration::from_secs(1));
    let poor = alice.say(&room, "2", &format!("cake {}", "and so on ".repeat(30))).await;
    assert_eq!(ids(&results(&search(&alice, json!({ "search_term": "cake" })).await)), [&*good, &*poor]);
    assert_eq!(ids(&results(&search(&alice, recent("cake")).await)), [&*poor, &*good]);
}

#[tokio::test]
async fn i9_only_what_one_may_see_is_found_and_counted() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let content = json!({ "history_visibility": "joined" });
    let initial = json!([{ "type": "m.room.history_visibility", "state_key": "", "content": content }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": initial })).await;
    alice.say(&room, "1", "secret before").await;
    bob.join(&room).await.ok();
    let seen = alice.say(&room, "2", "secret meanwhile").await;
    bob.leave(&room).await;
    alice.say(&room, "3", "secret afterwards").await;
    assert_eq!(search(&alice, recent("secret")).await["count"], 3);
    let found = search(&bob, recent("secret")).await;
    assert_eq!((&found["count"], ids(&results(&found))), (&json!(1), vec![&*seen]));
    bob.post(&format!("v3/rooms/{room}/forget"), json!({})).await.ok();
    assert_eq!(search(&bob, recent("secret")).await["count"], 0);
    let carol = site.user("carol").await;
    assert_eq!(search(&carol, recent("secret")).await["count"], 0);
}

#[tokio::test]
async fn what_is_redacted_is_not_found_any_more() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for version in ["10", "12"] {
        let room = alice.room(json!({ "room_version": version })).await;
        let gone = alice.say(&room, "1", "This is going to be redacted").await;
        let stays = alice.say(&room, "2", "This is not going to be redacted").await;
        let here = |order: &str| json!({ "search_term": "redacted", "order_by": order, "filter": { "rooms": [room], "limit": 9 } });
        assert_eq!(search(&alice, here("rank")).await["count"], 2);
        alice.put(&format!("v3/rooms/{room}/redact/{gone}/3"), json!({ "reason": "testing" })).await.ok();
        for order in ["rank", "recent"] {
            let found = search(&alice, here(order)).await;
            assert_eq!((&found["count"], ids(&results(&found))), (&json!(1), vec![&*stays]), "{order}");
        }
    }
}

#[tokio::test]
async fn results_are_grouped_by_room_and_sender() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let one = alice.room(json!({ "preset": "public_chat" })).await;
    let two = alice.room(json!({})).await;
    bob.join(&one).await.ok();
    let mut said = Vec::new();
    for (number, (user, room)) in [(&alice, &one), (&bob, &one), (&alice, &two)].into_iter().enumerate() {
        site.parts.clock.advance(std::time::Duration::from_millis(1));
        said.push(user.say(room, &number.to_string(), "Hello there").await);
    }
    let mut criteria = recent("hello");
    criteria["groupings"] = json!({ "group_by": [{ "key": "room_id" }, { "key": "sender" }] });
    let found = search(&alice, criteria.clone()).await;
    let groups = &found["groups"];
    assert_eq!(groups["room_id"][&two]["results"], json!([said[2]]));
    assert_eq!(groups["room_id"][&one]["results"], json!([said[1], said[0]]));
    assert_eq!((&groups["room_id"][&two]["order"], &groups["room_id"][&one]["order"]), (&json!(0), &json!(1)));
    assert_eq!(groups["sender"][&alice.id]["results"], json!([said[2], said[0]]));
    criteria["filter"] = json!({ "limit": 1 });
    let first = search(&alice, criteria.clone()).await;
    let token = &first["groups"]["sender"][&alice.id]["next_batch"];
    let next = ask(&alice, criteria, Some(token)).await.ok()["search_categories"]["room_events"].clone();
    assert_eq!(ids(&results(&next)), [&*said[0]], "the next page of the group alone");
    let of_bob = json!({ "search_term": "hello", "filter": { "senders": [bob.id] } });
    assert_eq!(ids(&results(&search(&alice, of_bob).await)), [&*said[1]]);
    let not_here = json!({ "search_term": "hello", "filter": { "not_rooms": [one] } });
    assert_eq!(ids(&results(&search(&alice, not_here).await)), [&*said[2]]);
}

#[tokio::test]
async fn what_is_no_search_is_refused() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for (criteria, errcode) in [
        (json!({}), "M_MISSING_PARAM"),
        (json!({ "search_term": "" }), "M_INVALID_PARAM"),
        (json!({ "search_term": " !? \"\" " }), "M_INVALID_PARAM"),
        (json!({ "search_term": 1 }), "M_BAD_JSON"),
        (json!({ "search_term": "a", "keys": ["content.other"] }), "M_BAD_JSON"),
        (json!({ "search_term": "a", "order_by": "size" }), "M_BAD_JSON"),
        (json!({ "search_term": "a", "filter": { "rooms": "all" } }), "M_BAD_JSON"),
        (json!({ "search_term": "a", "groupings": { "group_by": [{ "key": "type" }] } }), "M_BAD_JSON"),
    ] {
        ask(&alice, criteria, None).await.refused(400, errcode);
    }
    ask(&alice, recent("a"), Some(&json!("nonsense"))).await.refused(400, "M_INVALID_PARAM");
    alice.post("v3/search", json!({})).await.refused(400, "M_MISSING_PARAM");
    assert_eq!(
        alice.post("v3/search", json!({ "search_categories": {} })).await.ok(),
        json!({ "search_categories": {} })
    );
    for term in ["a* OR b", "NEAR(a b)", "body: a", "a\" OR \"b", "'; DROP TABLE text; --"] {
        assert_eq!(search(&alice, recent(term)).await["count"], 0, "{term}");
    }
}

#[tokio::test]
async fn the_index_reads_every_event_once_and_can_be_made_anew() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let gone = alice.say(&room, "1", "one cake").await;
    let stays = alice.say(&room, "2", "another cake").await;
    let stop = CancellationToken::new();
    for _ in 0..2 {
        site.parts.search.catch_up_all(&stop).await.expect("reads");
        assert_eq!(site.parts.search.indexed(), 2);
    }
    alice.put(&format!("v3/rooms/{room}/redact/{gone}/3"), json!({})).await.ok();
    site.parts.search.catch_up_all(&stop).await.expect("reads");
    assert_eq!(site.parts.search.indexed(), 3, "the redaction is read too");
    assert_eq!(ids(&results(&search(&alice, recent("cake")).await)), [&*stays]);
    let (memory, clock) = (Options { file: None, memory_bytes: 1 << 20 }, site.parts.clock.clone());
    let anew = Search::open(&site.parts.storage, site.parts.reads.clone(), clock, memory).await.expect("opens");
    anew.catch_up_all(&stop).await.expect("reads");
    assert_eq!(anew.indexed(), 2, "of the message that was redacted before, only the redaction is read");
}

#[tokio::test]
async fn the_index_keeps_up_in_the_background() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    alice.say(&room, "1", "before").await;
    let (index, stop) = (site.parts.search.clone(), CancellationToken::new());
    let read = |events: u64| {
        let (index, clock) = (index.clone(), site.parts.clock.clone());
        async move {
            while index.indexed() < events {
                clock.advance(std::time::Duration::from_secs(1));
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    };
    let life = async {
        read(1).await;
        alice.say(&room, "2", "afterwards").await;
        read(2).await;
        stop.cancel();
    };
    tokio::join!(index.run(stop.clone()), life);
    assert_eq!(site.parts.search.indexed(), 2);
}
