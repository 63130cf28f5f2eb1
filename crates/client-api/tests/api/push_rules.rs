//! Push rules.

use serde_json::{Value, json};

use crate::support::{Site, User, of_type, url};

const RULES: &str = "v3/pushrules/global";

fn ids(rules: &Value) -> Vec<&str> {
    rules.as_array().expect("rules").iter().map(|rule| rule["rule_id"].as_str().expect("an id")).collect()
}

/// The ids of a user's content rules, which have one default rule at the end.
async fn content_ids(user: &User<'_>) -> Vec<String> {
    let rules = user.get("v3/pushrules/").await.ok();
    ids(&rules["global"]["content"]).into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn rules_of_every_kind_are_made_read_and_deleted() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = url("!foo:example.com");
    for (kind, id) in [("override", "a%20b"), ("underride", "x"), ("room", &room), ("sender", &url("@bob:hs.test"))] {
        let rule = format!("{RULES}/{kind}/{id}");
        alice.get(&rule).await.refused(404, "M_NOT_FOUND");
        alice.put(&rule, json!({ "actions": ["dont_notify"], "conditions": [] })).await.ok();
        let made = alice.get(&rule).await.ok();
        assert_eq!(
            (&made["actions"], &made["enabled"], &made["default"]),
            (&json!(["dont_notify"]), &json!(true), &json!(false))
        );
        let all = alice.get("v3/pushrules/").await.ok();
        assert_eq!(all["global"], alice.get(&format!("{RULES}/")).await.ok());
        let at = usize::from(kind == "override");
        assert_eq!(all["global"][kind][at], made);
        alice.delete(&rule, json!({})).await.ok();
        alice.delete(&rule, json!({})).await.refused(404, "M_NOT_FOUND");
    }
    alice.put(&format!("{RULES}/content/cake"), json!({ "actions": ["notify"], "pattern": "cake*" })).await.ok();
    assert_eq!(alice.get(&format!("{RULES}/content/cake")).await.ok()["pattern"], "cake*");
}

#[tokio::test]
async fn rules_are_put_before_and_after_others() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let put = async |id: &str, query: &str| {
        let rule = json!({ "actions": ["notify"], "pattern": "x" });
        alice.put(&format!("{RULES}/content/{id}?{query}"), rule).await
    };
    put("a", "").await.ok();
    put("b", "").await.ok();
    put("c", "after=b").await.ok();
    put("d", "before=a").await.ok();
    put("b", "after=a").await.ok();
    assert_eq!(content_ids(&alice).await, ["c", "d", "a", "b", ".m.rule.contains_user_name"]);
    put("e", "after=none").await.refused(404, "M_NOT_FOUND");
    put("e", "before=.m.rule.contains_user_name").await.refused(400, "M_INVALID_PARAM");
    assert_eq!(content_ids(&alice).await.len(), 5);
}

#[tokio::test]
async fn default_rules_are_switched_and_given_actions() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let call = format!("{RULES}/underride/.m.rule.call");
    assert_eq!(alice.get(&format!("{call}/enabled")).await.ok(), json!({ "enabled": true }));
    alice.put(&format!("{call}/enabled"), json!({ "enabled": false })).await.ok();
    assert_eq!(alice.get(&format!("{call}/enabled")).await.ok(), json!({ "enabled": false }));
    alice.put(&format!("{call}/actions"), json!({ "actions": [] })).await.ok();
    assert_eq!(alice.get(&format!("{call}/actions")).await.ok(), json!({ "actions": [] }));
    let rule = alice.get(&call).await.ok();
    assert_eq!((&rule["enabled"], &rule["actions"], &rule["default"]), (&json!(false), &json!([]), &json!(true)));
    alice.delete(&call, json!({})).await.refused(400, "M_INVALID_PARAM");
    alice.put(&call, json!({ "actions": [] })).await.refused(400, "M_INVALID_PARAM");
    let bob = site.user("bob").await;
    assert_eq!(
        bob.get(&format!("{call}/enabled")).await.ok(),
        json!({ "enabled": true }),
        "only alice's rules changed"
    );
}

#[tokio::test]
async fn what_is_no_rule_is_refused_and_not_stored() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let before = alice.get("v3/pushrules/").await.ok();
    let put = async |path: &str, body: Value| alice.put(&format!("{RULES}/{path}"), body).await;
    let fine = || json!({ "actions": ["notify"] });
    put("postcontent/x", fine()).await.refused(400, "M_INVALID_PARAM");
    put("override/.mine", fine()).await.refused(400, "M_INVALID_PARAM");
    put("override/a%2Fb", fine()).await.refused(400, "M_INVALID_PARAM");
    put("override/a%5Cb", fine()).await.refused(400, "M_INVALID_PARAM");
    put("room/lobby", fine()).await.refused(400, "M_INVALID_PARAM");
    put("sender/bob", fine()).await.refused(400, "M_INVALID_PARAM");
    put("content/x", fine()).await.refused(400, "M_MISSING_PARAM");
    put("override/x", json!({})).await.refused(400, "M_MISSING_PARAM");
    put("override/x", json!({ "actions": "notify" })).await.refused(400, "M_BAD_JSON");
    put("override/x", json!({ "actions": ["shout"] })).await.refused(400, "M_BAD_JSON");
    let conditions = json!([{ "kind": "event_match", "key": "type" }]);
    put("override/x", json!({ "actions": [], "conditions": conditions })).await.refused(400, "M_BAD_JSON");
    let long = "x".repeat(1025);
    put("content/x", json!({ "actions": [], "pattern": long })).await.refused(413, "M_TOO_LARGE");
    put("override/.m.rule.master/enabled", json!({ "enabled": "yes" })).await.refused(400, "M_BAD_JSON");
    put("override/none/enabled", json!({ "enabled": true })).await.refused(404, "M_NOT_FOUND");
    put("override/none/actions", json!({ "actions": [] })).await.refused(404, "M_NOT_FOUND");
    put("postcontent/x/enabled", json!({ "enabled": true })).await.refused(404, "M_NOT_FOUND");
    for path in ["postcontent/x", "override/none", "override/none/enabled", "override/none/actions"] {
        alice.get(&format!("{RULES}/{path}")).await.refused(404, "M_NOT_FOUND");
    }
    alice.get("v3/pushrules/device/override/x").await.refused(404, "M_UNRECOGNIZED");
    assert_eq!(alice.get("v3/pushrules/").await.ok(), before);
}

#[tokio::test]
async fn unknown_kinds_of_conditions_are_kept() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let conditions = json!([{ "kind": "org.example.moon", "phase": "full" }]);
    alice.put(&format!("{RULES}/override/moon"), json!({ "actions": [], "conditions": conditions })).await.ok();
    assert_eq!(alice.get(&format!("{RULES}/override/moon")).await.ok()["conditions"], conditions);
}

#[tokio::test]
async fn a_user_has_so_many_rules_and_no_more() {
    let mut options = users::Options::new(testkit::server_name());
    options.registration = users::RegistrationMode::Open;
    options.limits.enforce = false;
    options.password_hash.memory_kib = 8;
    options.password_hash.iterations = 1;
    options.push_rules_max = 3;
    let clock = primitives::ManualClock::new(primitives::UnixMillis(1_700_000_000_000));
    let shared: primitives::SharedClock = clock.clone();
    let storage = storage::Storage::memory(&shared, &primitives::Random::seeded(1));
    let site = Site::of(testkit::Parts::with(storage, clock, options).await);
    let alice = site.user("alice").await;
    for number in 0..3 {
        alice.put(&format!("{RULES}/override/r{number}"), json!({ "actions": [] })).await.ok();
    }
    let more = alice.put(&format!("{RULES}/underride/more"), json!({ "actions": [] })).await;
    more.refused(400, "M_RESOURCE_LIMIT_EXCEEDED");
    alice.put(&format!("{RULES}/override/r1"), json!({ "actions": ["notify"] })).await.ok();
}

#[tokio::test]
async fn a_change_wakes_the_syncs_of_all_devices() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let other = alice.log_in().await;
    let first = alice.sync(None).await;
    let rules = of_type(&first["account_data"]["events"], "m.push_rules");
    assert_eq!(rules["content"]["global"]["override"][0]["rule_id"], ".m.rule.master");
    let mut since = first["next_batch"].clone();
    let room = format!("{RULES}/room/{}", url("!foo:example.com"));
    for (path, body) in [
        (room.clone(), json!({ "actions": ["notify"] })),
        (format!("{room}/enabled"), json!({ "enabled": false })),
        (format!("{room}/enabled"), json!({ "enabled": true })),
        (format!("{room}/actions"), json!({ "actions": ["dont_notify"] })),
    ] {
        let query = format!("timeout=10000&since={}", since.as_str().expect("a token"));
        let (synced, put) = tokio::join!(alice.sync_with(&query), other.put(&path, body.clone()));
        put.ok();
        let event = of_type(&synced["account_data"]["events"], "m.push_rules");
        let (key, value) = body.as_object().and_then(|body| body.iter().next()).expect("a field");
        assert_eq!(&event["content"]["global"]["room"][0][key], value);
        since = synced["next_batch"].clone();
    }
    let quiet = alice.sync(Some(&since)).await;
    assert!(quiet["account_data"].is_null());
    let filtered = crate::support::filter(&json!({ "account_data": { "not_types": ["m.push_rules"] } }));
    let filtered = alice.sync_with(&format!("timeout=0&{filtered}")).await;
    assert!(filtered["account_data"].is_null());
}
