//! One push rule, and what a client's rule must be like.

use ruma::{RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{kind::RuleKind, path};

/// The longest rule id, in bytes.
pub const MAX_RULE_ID_BYTES: usize = 512;
/// The longest glob-style pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// The largest rule, in bytes of JSON.
pub const MAX_RULE_BYTES: usize = 16 * 1024;

/// A push rule, in the form that clients see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name among the rules of its kind. That of a default rule starts with a dot.
    pub rule_id: String,
    /// Whether every user has it from the start.
    #[serde(default)]
    pub default: bool,
    /// Whether it ever matches.
    pub enabled: bool,
    /// What is to be done with an event that it matches.
    pub actions: Vec<Value>,
    /// What must all hold for it to match; `None` for kinds without conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Value>>,
    /// The glob-style pattern of a content rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// What a client wants a rule to be.
#[derive(Clone, Debug, Deserialize)]
pub struct NewRule {
    /// What is to be done with an event that it matches.
    pub actions: Vec<Value>,
    /// What must all hold for it to match, for kinds with conditions.
    #[serde(default)]
    pub conditions: Option<Vec<Value>>,
    /// The glob-style pattern, for content rules.
    #[serde(default)]
    pub pattern: Option<String>,
}

/// Why a rule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// The id starts with a dot, as those of default rules do.
    #[error("rule ids that start with a dot are the server's own")]
    ReservedId,
    /// The id is empty, too long, or has a slash or a backslash in it.
    #[error("a rule id has 1 to {MAX_RULE_ID_BYTES} bytes and neither / nor \\")]
    Id,
    /// The id of a room rule is no room id, or that of a sender rule no user id.
    #[error("the id of a {0} rule has to be that of the {0}")]
    IdOfKind(&'static str),
    /// An action has a form that the specification doesn't know.
    #[error("`{0}` is no action")]
    Action(String),
    /// A condition lacks something, or has it in another form.
    #[error("a condition of kind {kind} needs {needs}")]
    Condition {
        /// The kind of the condition.
        kind: String,
        /// What it needs.
        needs: &'static str,
    },
    /// A content rule has no pattern.
    #[error("a content rule needs a pattern")]
    NoPattern,
    /// A pattern is longer than [`MAX_PATTERN_BYTES`].
    #[error("a pattern can have at most {MAX_PATTERN_BYTES} bytes")]
    LongPattern,
    /// The rule is larger than [`MAX_RULE_BYTES`].
    #[error("a rule can have at most {MAX_RULE_BYTES} bytes")]
    TooLarge,
}

impl NewRule {
    /// The rule of this kind and id, enabled, if everything about it is in order. What its kind doesn't use is left out.
    pub(super) fn check(self, kind: RuleKind, rule_id: &str) -> Result<Rule, BadRule> {
        check_id(kind, rule_id)?;
        check_actions(&self.actions)?;
        let conditions = kind.has_conditions().then(|| self.conditions.unwrap_or_default());
        conditions.iter().flatten().try_for_each(check_condition)?;
        let pattern = if kind == RuleKind::Content { Some(self.pattern.ok_or(BadRule::NoPattern)?) } else { None };
        if pattern.as_ref().is_some_and(|pattern| pattern.len() > MAX_PATTERN_BYTES) {
            return Err(BadRule::LongPattern);
        }
        let rule = Rule {
            rule_id: rule_id.to_owned(),
            default: false,
            enabled: true,
            actions: self.actions,
            conditions,
            pattern,
        };
        rule.check_size()?;
        Ok(rule)
    }
}

impl Rule {
    /// Refuses a rule that is too large to keep.
    pub(super) fn check_size(&self) -> Result<(), BadRule> {
        let size = serde_json::to_vec(self).map_or(usize::MAX, |bytes| bytes.len());
        if size > MAX_RULE_BYTES { Err(BadRule::TooLarge) } else { Ok(()) }
    }
}

fn check_id(kind: RuleKind, rule_id: &str) -> Result<(), BadRule> {
    if rule_id.starts_with('.') {
        return Err(BadRule::ReservedId);
    }
    if rule_id.is_empty() || rule_id.len() > MAX_RULE_ID_BYTES || rule_id.contains(['/', '\\']) {
        return Err(BadRule::Id);
    }
    match kind {
        RuleKind::Room if RoomId::parse(rule_id).is_err() => Err(BadRule::IdOfKind("room")),
        RuleKind::Sender if UserId::parse(rule_id).is_err() => Err(BadRule::IdOfKind("sender")),
        _ => Ok(()),
    }
}

/// Refuses actions of unknown form. `dont_notify` and `coalesce`, of older versions of the specification, are kept and mean nothing.
pub(super) fn check_actions(actions: &[Value]) -> Result<(), BadRule> {
    let known = |action: &&Value| match action {
        Value::String(name) => matches!(name.as_str(), "notify" | "dont_notify" | "coalesce"),
        Value::Object(tweak) => tweak.get("set_tweak").is_some_and(Value::is_string),
        _ => false,
    };
    match actions.iter().find(|action| !known(action)) {
        Some(action) => Err(BadRule::Action(action.to_string().chars().take(100).collect())),
        None => Ok(()),
    }
}

/// Refuses a known kind of condition without what it needs. Unknown kinds are kept and never match.
fn check_condition(condition: &Value) -> Result<(), BadRule> {
    let kind = condition.get("kind").and_then(Value::as_str);
    let bad = |needs| Err(BadRule::Condition { kind: kind.unwrap_or("?").chars().take(100).collect(), needs });
    let text = |key: &str| condition.get(key).and_then(Value::as_str);
    match kind {
        None => bad("a `kind`"),
        Some("event_match") => match (text("key"), text("pattern")) {
            (Some(_), Some(pattern)) if pattern.len() > MAX_PATTERN_BYTES => Err(BadRule::LongPattern),
            (Some(_), Some(_)) => Ok(()),
            _ => bad("a `key` and a `pattern`"),
        },
        Some("event_property_is" | "event_property_contains") => match (text("key"), condition.get("value")) {
            (Some(_), Some(value)) if path::is_scalar(value) => Ok(()),
            _ => bad("a `key` and a `value` that is a string, an integer, a boolean or null"),
        },
        Some("room_member_count") => match text("is").and_then(super::count::CountIs::parse) {
            Some(_) => Ok(()),
            None => bad("`is`: a number, with ==, <, >, <= or >= before it or not"),
        },
        Some("sender_notification_permission") if text("key").is_none() => bad("a `key`"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: RuleKind, rule_id: &str, body: Value) -> Result<Rule, BadRule> {
        serde_json::from_value::<NewRule>(body).expect("the form of a rule").check(kind, rule_id)
    }

    #[test]
    fn ids_are_checked() {
        let body = || json!({ "actions": [] });
        assert_eq!(check(RuleKind::Override, ".mine", body()), Err(BadRule::ReservedId));
        for bad in ["", "a/b", "a\\b", &"x".repeat(MAX_RULE_ID_BYTES + 1)] {
            assert_eq!(check(RuleKind::Underride, bad, body()), Err(BadRule::Id), "{bad}");
        }
        assert_eq!(check(RuleKind::Room, "#a:hs1", body()), Err(BadRule::IdOfKind("room")));
        assert_eq!(check(RuleKind::Sender, "bob", body()), Err(BadRule::IdOfKind("sender")));
        check(RuleKind::Room, "!foo:example.com", body()).expect("a room id");
        check(RuleKind::Room, "!gVcJKzIMSBzMqZNBMvzqGG5PO2pZSJRDZ8QiZE2bGPs", body())
            .expect("a room id without a server");
        check(RuleKind::Sender, "@bob:hs1", body()).expect("a user id");
    }

    #[test]
    fn conditions_and_actions_are_checked() {
        let conditions = |conditions: Value| {
            check(RuleKind::Override, "x", json!({ "actions": ["notify"], "conditions": conditions }))
        };
        conditions(json!([
            { "kind": "event_match", "key": "content.body", "pattern": "a*" },
            { "kind": "event_property_is", "key": "content.a", "value": null },
            { "kind": "event_property_contains", "key": "content.a", "value": 3 },
            { "kind": "room_member_count", "is": "<=10" },
            { "kind": "contains_display_name" },
            { "kind": "sender_notification_permission", "key": "room" },
            { "kind": "org.example.unknown", "anything": [1] },
        ]))
        .expect("all in order");
        for bad in [
            json!({}),
            json!("event_match"),
            json!({ "kind": "event_match", "key": "a" }),
            json!({ "kind": "event_property_is", "key": "a" }),
            json!({ "kind": "event_property_is", "key": "a", "value": [1] }),
            json!({ "kind": "event_property_contains", "key": "a", "value": 1.5 }),
            json!({ "kind": "room_member_count", "is": "=2" }),
            json!({ "kind": "room_member_count", "is": 2 }),
            json!({ "kind": "sender_notification_permission" }),
        ] {
            assert!(matches!(conditions(json!([bad])), Err(BadRule::Condition { .. })), "{bad}");
        }
        let long = "x".repeat(MAX_PATTERN_BYTES + 1);
        let too_long = conditions(json!([{ "kind": "event_match", "key": "a", "pattern": long }]));
        assert_eq!(too_long, Err(BadRule::LongPattern));
        for bad in [json!("shout"), json!(1), json!({ "tweak": "x" }), json!({ "set_tweak": 1 })] {
            let refused = check(RuleKind::Override, "x", json!({ "actions": [bad] }));
            assert!(matches!(refused, Err(BadRule::Action(_))), "{bad}");
        }
    }

    #[test]
    fn kinds_have_what_they_use() {
        let all = || json!({ "actions": [], "conditions": [], "pattern": "cake" });
        let rule = check(RuleKind::Content, "x", all()).expect("a rule");
        assert_eq!((rule.conditions, rule.pattern.as_deref()), (None, Some("cake")));
        let rule = check(RuleKind::Room, "!a:b", all()).expect("a rule");
        assert_eq!((rule.conditions, rule.pattern), (None, None));
        assert_eq!(check(RuleKind::Content, "x", json!({ "actions": [] })), Err(BadRule::NoPattern));
        let long = "x".repeat(MAX_PATTERN_BYTES + 1);
        assert_eq!(check(RuleKind::Content, "x", json!({ "actions": [], "pattern": long })), Err(BadRule::LongPattern));
        let large = "x".repeat(MAX_RULE_BYTES);
        let large = check(RuleKind::Override, "x", json!({ "actions": [{ "set_tweak": "sound", "value": large }] }));
        assert_eq!(large, Err(BadRule::TooLarge));
    }
}
