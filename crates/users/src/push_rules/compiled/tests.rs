//! Rules held against events: the specification's cases, and what another evaluator says of the same.

use proptest::prelude::*;
use ruma::{
    OwnedRoomId, UInt,
    push::{FlattenedJson, PushCondition, PushConditionRoomCtx},
    serde::Raw,
    user_id,
};
use serde_json::json;

use super::*;

fn event(mut event: Value) -> PushEvent {
    let object = event.as_object_mut().expect("an object");
    for (key, value) in
        [("room_id", "!r:hs1"), ("sender", "@alice:hs1"), ("type", "m.room.message"), ("event_id", "$e")]
    {
        object.entry(key).or_insert_with(|| value.into());
    }
    PushEvent::new(object.clone())
}

fn message(body: &str) -> PushEvent {
    event(json!({ "content": { "msgtype": "m.text", "body": body } }))
}

/// A room of ten where everybody may notify the room, and the user is called Robert.
fn facts() -> Facts<'static> {
    Facts { member_count: Some(10), display_name: Some("Robert"), may_notify: Some(&|key| key == "room") }
}

fn rules() -> Ruleset {
    Ruleset::new(user_id!("@bob:hs1"))
}

/// `-`, `notify` or `highlight`; `none` if no rule matches.
fn outcome(rules: &Ruleset, event: &PushEvent, facts: Facts<'_>) -> &'static str {
    let compiled = Compiled::new(rules);
    match compiled.evaluate(event, &facts).expect("all facts are there") {
        None => "none",
        Some(outcome) if outcome.highlight => "highlight",
        Some(outcome) if outcome.notify => "notify",
        Some(_) => "-",
    }
}

fn by_default(content: Value) -> &'static str {
    outcome(&rules(), &event(content), facts())
}

#[test]
fn the_default_rules_do_what_the_specification_says() {
    let text = |body: &str| json!({ "content": { "msgtype": "m.text", "body": body } });
    assert_eq!(by_default(text("hello")), "notify");
    assert_eq!(by_default(text("hello @bob:hs1!")), "highlight");
    assert_eq!(by_default(text("Robert, are you there?")), "highlight");
    assert_eq!(by_default(text("hello Roberta and bobby")), "notify");
    assert_eq!(by_default(text("@room hello")), "highlight");
    assert_eq!(by_default(json!({ "content": { "msgtype": "m.notice", "body": "hello bob" } })), "-");
    let mention = |mentions: Value| json!({ "content": { "body": "bob Robert @room", "m.mentions": mentions } });
    assert_eq!(by_default(mention(json!({}))), "notify", "who says whom they mention mentions nobody else");
    assert_eq!(by_default(mention(json!({ "user_ids": ["@a:hs1", "@bob:hs1"] }))), "highlight");
    assert_eq!(by_default(mention(json!({ "user_ids": ["@bob:hs12"] }))), "notify");
    assert_eq!(by_default(mention(json!({ "user_ids": "@bob:hs1" }))), "notify");
    assert_eq!(by_default(mention(json!({ "room": true }))), "highlight");
    assert_eq!(by_default(mention(json!({ "room": "true" }))), "notify");
    let member = |key: &str, membership: &str| json!({ "type": "m.room.member", "state_key": key, "content": { "membership": membership } });
    assert_eq!(by_default(member("@bob:hs1", "invite")), "notify");
    assert_eq!(by_default(member("@bob:hs1", "join")), "-");
    assert_eq!(by_default(member("@eve:hs1", "invite")), "-");
    assert_eq!(by_default(json!({ "type": "m.room.tombstone", "state_key": "", "content": {} })), "highlight");
    assert_eq!(by_default(json!({ "type": "m.room.tombstone", "content": {} })), "none");
    assert_eq!(by_default(json!({ "type": "m.reaction", "content": {} })), "-");
    assert_eq!(by_default(json!({ "type": "m.room.server_acl", "state_key": "", "content": {} })), "-");
    let edit = json!({ "content": { "body": "bob", "m.mentions": {}, "m.relates_to": { "rel_type": "m.replace" } } });
    assert_eq!(by_default(edit), "-");
    assert_eq!(by_default(json!({ "type": "m.call.invite", "content": {} })), "notify");
    assert_eq!(by_default(json!({ "type": "m.room.encrypted", "content": {} })), "notify");
    assert_eq!(by_default(json!({ "type": "m.room.name", "state_key": "", "content": {} })), "none");
    assert_eq!(by_default(json!({ "type": "org.matrix.msc3381.poll.response", "content": {} })), "-");
    assert_eq!(by_default(json!({ "type": "org.matrix.msc3381.poll.start", "content": {} })), "notify");
    assert_eq!(by_default(json!({ "type": "org.matrix.msc3381.poll.end", "content": {} })), "notify");
}

#[test]
fn direct_messages_ring() {
    let compiled = Compiled::new(&rules());
    let sound = |count| {
        let facts = Facts { member_count: Some(count), ..facts() };
        let hello = message("hello");
        let outcome = compiled.evaluate(&hello, &facts).expect("all facts are there").expect("a rule");
        outcome.actions.iter().any(|action| action["set_tweak"] == "sound")
    };
    assert!(sound(2) && !sound(3) && !sound(1));
}

#[test]
fn the_sender_needs_the_power_to_notify_the_room() {
    let facts = Facts { may_notify: Some(&|_| false), ..facts() };
    assert_eq!(outcome(&rules(), &message("@room hello"), facts), "notify");
    let mention = event(json!({ "content": { "m.mentions": { "room": true } } }));
    assert_eq!(outcome(&rules(), &mention, facts), "notify");
}

#[test]
fn facts_are_asked_for_only_when_they_matter() {
    let compiled = Compiled::new(&rules());
    let ask = |event: &PushEvent, facts: Facts<'_>| compiled.evaluate(event, &facts).map(|outcome| outcome.is_some());
    assert_eq!(ask(&message("hello"), Facts::default()), Err(Missing::DisplayName));
    let named = Facts { display_name: Some(""), ..Facts::default() };
    assert_eq!(ask(&message("hello"), named), Err(Missing::MemberCount));
    assert_eq!(ask(&message("@room"), named), Err(Missing::MayNotify));
    assert_eq!(ask(&event(json!({ "type": "m.reaction", "content": {} })), Facts::default()), Ok(true));
    assert_eq!(ask(&event(json!({ "type": "m.room.topic", "content": {} })), Facts::default()), Ok(false));
}

fn with(kind: RuleKind, id: &str, rule: Value) -> Ruleset {
    let mut rules = rules();
    let rule = serde_json::from_value(rule).expect("the form of a rule");
    rules.put(kind, id, rule, super::super::Place::default(), 10).expect("a rule");
    rules
}

#[test]
fn kinds_have_their_order() {
    let hello = message("hello bob");
    let mute = || json!({ "actions": ["dont_notify"], "pattern": "hello" });
    assert_eq!(outcome(&with(RuleKind::Room, "!r:hs1", mute()), &hello, facts()), "highlight", "content comes first");
    assert_eq!(outcome(&with(RuleKind::Content, "x", mute()), &hello, facts()), "-", "own content rules come first");
    assert_eq!(outcome(&with(RuleKind::Override, "x", mute()), &hello, facts()), "-");
    assert_eq!(outcome(&with(RuleKind::Room, "!r:hs1", mute()), &message("x"), facts()), "-");
    assert_eq!(outcome(&with(RuleKind::Sender, "@alice:hs1", mute()), &message("x"), facts()), "-");
    assert_eq!(outcome(&with(RuleKind::Sender, "@eve:hs1", mute()), &message("x"), facts()), "notify");
    assert_eq!(outcome(&with(RuleKind::Underride, "x", mute()), &message("x"), facts()), "-");
    let mut both = with(RuleKind::Sender, "@alice:hs1", json!({ "actions": ["notify", { "set_tweak": "highlight" }] }));
    assert_eq!(outcome(&both, &message("x"), facts()), "highlight");
    let rule = serde_json::from_value(mute()).expect("a rule");
    both.put(RuleKind::Room, "!r:hs1", rule, super::super::Place::default(), 10).expect("a rule");
    assert_eq!(outcome(&both, &message("x"), facts()), "-", "rooms come before senders");
    both.set_enabled(RuleKind::Room, "!r:hs1", false).expect("there");
    assert_eq!(outcome(&both, &message("x"), facts()), "highlight", "a disabled rule never matches");
    both.set_enabled(RuleKind::Override, ".m.rule.master", true).expect("there");
    assert_eq!(outcome(&both, &hello, facts()), "-", "the master rule comes before all");
}

#[test]
fn actions_say_what_is_done() {
    let of = |actions: Value| {
        let rules = with(RuleKind::Override, "x", json!({ "actions": actions }));
        outcome(&rules, &message("x"), facts())
    };
    assert_eq!(of(json!([])), "-");
    assert_eq!(of(json!(["dont_notify"])), "-");
    assert_eq!(of(json!(["notify", { "set_tweak": "highlight" }])), "highlight");
    assert_eq!(of(json!(["notify", { "set_tweak": "highlight", "value": true }])), "highlight");
    assert_eq!(of(json!(["notify", { "set_tweak": "highlight", "value": false }])), "notify");
    assert_eq!(of(json!([{ "set_tweak": "highlight" }])), "-", "nothing stands out of which nobody is told");
    assert_eq!(of(json!(["notify", { "set_tweak": "sound", "value": "x" }])), "notify");
}

#[test]
fn conditions_hold_as_the_specification_s_examples() {
    let holds = |condition: Value, event: &PushEvent| {
        let rules = with(RuleKind::Override, "x", json!({ "actions": [], "conditions": [condition] }));
        let compiled = Compiled::new(&rules);
        let found = compiled.evaluate(event, &facts()).expect("all facts are there");
        found.is_some_and(|outcome| outcome.actions.is_empty())
    };
    let create = |federate: Value| event(json!({ "type": "x", "content": { "m.federate": federate } }));
    let federates = || json!({ "kind": "event_property_is", "key": r"content.m\.federate", "value": true });
    assert!(holds(federates(), &create(json!(true))));
    assert!(!holds(federates(), &create(json!("true"))) && !holds(federates(), &create(json!(1))));
    let null = || json!({ "kind": "event_property_is", "key": r"content.m\.federate", "value": null });
    assert!(holds(null(), &create(json!(null))) && !holds(null(), &event(json!({ "type": "x", "content": {} }))));
    let aliases = |aliases: Value| event(json!({ "type": "x", "content": { "alt_aliases": aliases } }));
    let has =
        || json!({ "kind": "event_property_contains", "key": "content.alt_aliases", "value": "#myroom:example.com" });
    assert!(holds(has(), &aliases(json!(["#somewhere:example.org", "#myroom:example.com"]))));
    assert!(!holds(has(), &aliases(json!([":example.com", ["#myroom:example.com"]]))));
    assert!(!holds(has(), &aliases(json!("#myroom:example.com"))));
    let topic = |topic: Value| event(json!({ "type": "x", "content": { "topic": topic } }));
    let lunch = || json!({ "kind": "event_match", "key": "content.topic", "pattern": "lunc?*" });
    assert!(holds(lunch(), &topic(json!("Lunch plans"))) && !holds(lunch(), &topic(json!("lunc"))));
    let any = || json!({ "kind": "event_match", "key": "content.topic", "pattern": "*" });
    assert!(holds(any(), &topic(json!(""))) && !holds(any(), &topic(json!(null))) && !holds(any(), &topic(json!(1))));
    assert!(holds(json!({ "kind": "event_match", "key": "room_id", "pattern": "!R:*" }), &topic(json!(1))));
    assert!(holds(json!({ "kind": "room_member_count", "is": ">9" }), &topic(json!(1))));
    assert!(!holds(json!({ "kind": "room_member_count", "is": "<10" }), &topic(json!(1))));
    assert!(!holds(json!({ "kind": "sender_notification_permission", "key": "other" }), &topic(json!(1))));
    assert!(!holds(json!({ "kind": "org.example.unknown" }), &topic(json!(1))));
}

/// Conditions over a few keys, values and patterns that often meet.
fn conditions() -> impl Strategy<Value = Value> {
    let key =
        prop::sample::select(vec!["content.body", "type", "content.a.b", r"content.x\.y", "content.list", "sender"]);
    let value = prop::sample::select(vec![json!("cake"), json!(1), json!(true), json!(null), json!("m.room.message")]);
    let pattern = "[ceak*? ]{1,5}|cake|m\\.room\\.\\*|\\*";
    prop_oneof![
        (key.clone(), pattern)
            .prop_map(|(key, pattern)| json!({ "kind": "event_match", "key": key, "pattern": pattern })),
        (key.clone(), value.clone())
            .prop_map(|(key, value)| json!({ "kind": "event_property_is", "key": key, "value": value })),
        (key, value).prop_map(|(key, value)| json!({ "kind": "event_property_contains", "key": key, "value": value })),
        prop::sample::select(vec!["10", "==9", "<11", ">10", "<=10", ">=11"])
            .prop_map(|is| json!({ "kind": "room_member_count", "is": is })),
        Just(json!({ "kind": "contains_display_name" })),
        Just(json!({ "kind": "org.example.unknown" })),
    ]
}

fn contents() -> impl Strategy<Value = Value> {
    let scalar =
        prop_oneof![Just(json!("cake")), Just(json!(1)), Just(json!(true)), Just(json!(null)), Just(json!({}))];
    let body = prop_oneof!["[ceak ]{0,8}".prop_map(Value::from), Just(json!("Robert cake")), scalar.clone()];
    let list = prop::collection::vec(scalar.clone(), 0..3);
    (body, scalar.clone(), scalar, list)
        .prop_map(|(body, deep, dotted, list)| json!({ "body": body, "a": { "b": deep }, "x.y": dotted, "list": list }))
}

proptest! {
    /// ruma evaluates conditions too, one at a time and without compiling them.
    #[test]
    fn conditions_hold_where_ruma_says_so(condition in conditions(), content in contents()) {
        let json = json!({ "type": "m.room.message", "room_id": "!r:hs1", "sender": "@alice:hs1", "content": content });
        let theirs: PushCondition = serde_json::from_value(condition.clone()).expect("a condition");
        let raw: Raw<Value> = Raw::new(&json).expect("JSON");
        let room: OwnedRoomId = "!r:hs1".try_into().expect("a room id");
        let context = PushConditionRoomCtx::new(room, UInt::from(10_u32), user_id!("@bob:hs1").to_owned(), "Robert".to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let expected = runtime.block_on(theirs.applies(&FlattenedJson::from_raw(&raw), &context));
        let ours = Condition::new(&condition).holds(&event(json), &facts()).expect("all facts are there");
        prop_assert_eq!(ours, expected, "{}", condition);
    }
}

#[test]
fn only_where_the_default_rules_decide_no_membership_event_of_another_is_ever_told() {
    let tells = |rules: &Ruleset| Compiled::new(rules).tells_of_members();
    let member =
        event(json!({ "type": "m.room.member", "state_key": "@carol:hs1", "content": { "membership": "join" } }));
    let agree = |rules: &Ruleset| {
        let told = matches!(outcome(rules, &member, facts()), "notify" | "highlight");
        assert!(tells(rules) || !told, "what is passed over would be told");
    };
    assert!(!tells(&rules()));
    agree(&rules());

    let all = json!([{ "kind": "event_match", "key": "type", "pattern": "m.room.*" }]);
    let quiet = with(RuleKind::Override, "quiet", json!({ "conditions": all, "actions": [] }));
    assert!(!tells(&quiet));
    agree(&quiet);

    let told = with(RuleKind::Override, "told", json!({ "conditions": all, "actions": ["notify"] }));
    assert!(tells(&told));
    assert_eq!(outcome(&told, &member, facts()), "notify");

    let mut off = rules();
    off.set_enabled(RuleKind::Override, MEMBER_EVENT, false).expect("there");
    assert!(tells(&off));
}
