//! The rules that every user has from the start (client-server API, "Predefined rules").

use std::collections::BTreeMap;

use ruma::UserId;
use serde_json::{Value, json};

use super::{kind::RuleKind, rule::Rule};

/// Turns all notifications off. The only default rule before the user's own.
pub(super) const MASTER: &str = ".m.rule.master";

/// Tells the user of their own invites,
pub(super) const INVITE_FOR_ME: &str = ".m.rule.invite_for_me";
/// and of no other membership event.
pub(super) const MEMBER_EVENT: &str = ".m.rule.member_event";

/// Rules that look for a mention in the text. They don't apply to events that say themselves whom they mention (`m.mentions`).
pub(super) const LEGACY_MENTIONS: [&str; 3] =
    [".m.rule.contains_display_name", ".m.rule.roomnotif", ".m.rule.contains_user_name"];

/// The default rules of a user: those of the specification, in its order; the rules for mentions in the text that it had up to version 1.16,
/// which users of clients and bots without `m.mentions` depend on, in the places they had; and those for polls (MSC3930).
pub(super) fn default_rules(user_id: &UserId) -> BTreeMap<RuleKind, Vec<Rule>> {
    let specified = serde_json::to_value(ruma::push::Ruleset::server_default(user_id)).expect("a ruleset serialises");
    let mut rules: BTreeMap<RuleKind, Vec<Rule>> = RuleKind::ALL.into_iter().map(|kind| (kind, Vec::new())).collect();
    for (kind, list) in &mut rules {
        if let Some(specified) = specified.get(kind.as_str()) {
            *list = serde_json::from_value(specified.clone()).expect("rules of the specification's form");
        }
    }
    for (kind, after, rule) in others(user_id) {
        let list = rules.entry(kind).or_default();
        let place = after.and_then(|after| list.iter().position(|rule| rule.rule_id == after));
        list.insert(place.map_or(list.len(), |place| place + 1), rule);
    }
    rules
}

/// What is not among the specification's rules, and after which rule it goes; `None`: at the end.
fn others(user_id: &UserId) -> Vec<(RuleKind, Option<&'static str>, Rule)> {
    use RuleKind::{Content, Override, Underride};
    let loud = || vec![json!("notify"), tweak("sound", "default"), json!({ "set_tweak": "highlight" })];
    let [display_name, room, user_name] = LEGACY_MENTIONS;
    let at_room =
        vec![event_match("content.body", "@room"), json!({ "kind": "sender_notification_permission", "key": "room" })];
    let at_room_actions = vec![json!("notify"), json!({ "set_tweak": "highlight" })];
    let named = vec![json!({ "kind": "contains_display_name" })];
    let sound = || vec![json!("notify"), tweak("sound", "default")];
    let poll = |event: &str| vec![event_match("type", &format!("org.matrix.msc3381.poll.{event}"))];
    let direct = |event: &str| {
        let mut conditions = vec![json!({ "kind": "room_member_count", "is": "2" })];
        conditions.extend(poll(event));
        conditions
    };
    let notify = || vec![json!("notify")];
    let poll_rule =
        |name: &str, conditions, actions| rule(&format!(".org.matrix.msc3930.rule.{name}"), conditions, actions);
    vec![
        (Override, Some(".m.rule.is_user_mention"), rule(display_name, named, loud())),
        (Override, Some(".m.rule.is_room_mention"), rule(room, at_room, at_room_actions)),
        (Override, None, poll_rule("poll_response", poll("response"), Vec::new())),
        (
            Content,
            None,
            Rule {
                conditions: None,
                pattern: Some(user_id.localpart().to_owned()),
                ..rule(user_name, Vec::new(), loud())
            },
        ),
        (Underride, None, poll_rule("poll_start_one_to_one", direct("start"), sound())),
        (Underride, None, poll_rule("poll_start", poll("start"), notify())),
        (Underride, None, poll_rule("poll_end_one_to_one", direct("end"), sound())),
        (Underride, None, poll_rule("poll_end", poll("end"), notify())),
    ]
}

fn rule(rule_id: &str, conditions: Vec<Value>, actions: Vec<Value>) -> Rule {
    Rule {
        rule_id: rule_id.to_owned(),
        default: true,
        enabled: true,
        actions,
        conditions: Some(conditions),
        pattern: None,
    }
}

fn event_match(key: &str, pattern: &str) -> Value {
    json!({ "kind": "event_match", "key": key, "pattern": pattern })
}

fn tweak(name: &str, value: &str) -> Value {
    json!({ "set_tweak": name, "value": value })
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn the_order_is_that_of_the_specification() {
        let rules = default_rules(user_id!("@bob:hs1"));
        let ids = |kind| rules[&kind].iter().map(|rule| rule.rule_id.as_str()).collect::<Vec<_>>().join(" ");
        insta::assert_snapshot!(ids(RuleKind::Override), @".m.rule.master .m.rule.suppress_notices .m.rule.invite_for_me .m.rule.member_event .m.rule.is_user_mention .m.rule.contains_display_name .m.rule.is_room_mention .m.rule.roomnotif .m.rule.tombstone .m.rule.reaction .m.rule.room.server_acl .m.rule.suppress_edits .org.matrix.msc3930.rule.poll_response");
        insta::assert_snapshot!(ids(RuleKind::Content), @".m.rule.contains_user_name");
        insta::assert_snapshot!(ids(RuleKind::Underride), @".m.rule.call .m.rule.encrypted_room_one_to_one .m.rule.room_one_to_one .m.rule.message .m.rule.encrypted .org.matrix.msc3930.rule.poll_start_one_to_one .org.matrix.msc3930.rule.poll_start .org.matrix.msc3930.rule.poll_end_one_to_one .org.matrix.msc3930.rule.poll_end");
        assert!(rules[&RuleKind::Room].is_empty() && rules[&RuleKind::Sender].is_empty());
    }

    #[test]
    fn the_rules_name_the_user_and_only_the_master_rule_is_off() {
        let rules = default_rules(user_id!("@bob:hs1"));
        for rule in rules.values().flatten() {
            assert_eq!(rule.enabled, rule.rule_id != MASTER, "{}", rule.rule_id);
            assert!(rule.default && rule.rule_id.starts_with('.'));
        }
        let content = serde_json::to_string(&rules[&RuleKind::Content]).expect("JSON");
        insta::assert_snapshot!(content, @r#"[{"rule_id":".m.rule.contains_user_name","default":true,"enabled":true,"actions":["notify",{"set_tweak":"sound","value":"default"},{"set_tweak":"highlight"}],"pattern":"bob"}]"#);
        let invite = rules[&RuleKind::Override].iter().find(|rule| rule.rule_id == ".m.rule.invite_for_me");
        assert!(serde_json::to_string(&invite).expect("JSON").contains("@bob:hs1"));
    }
}
