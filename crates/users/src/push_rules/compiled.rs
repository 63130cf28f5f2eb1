//! What a user's rules make of an event. Pure: what has to be looked up is asked for.

use std::{collections::HashMap, sync::Arc};

use serde_json::Value;

use super::{
    count::CountIs,
    defaults::{INVITE_FOR_ME, LEGACY_MENTIONS, MEMBER_EVENT},
    event::PushEvent,
    glob::{self, Glob},
    kind::RuleKind,
    path,
    rule::Rule,
    ruleset::Ruleset,
};

/// What is to be done with an event that a rule matches.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// The user is told of it.
    pub notify: bool,
    /// The user is told of it, and it is to stand out.
    pub highlight: bool,
    /// The rule's actions.
    pub actions: Vec<Value>,
}

/// What rules ask of the room, at the time of the event. What is not looked up yet is `None`.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// How many members the room has.
    pub member_count: Option<u64>,
    /// The user's display name in the room; empty if they have none.
    pub display_name: Option<&'a str>,
    /// Whether the event's sender may notify others in a way, by its name among the power levels' `notifications`.
    pub may_notify: Option<&'a dyn Fn(&str) -> bool>,
}

/// A fact that a rule asks for and that is not looked up yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// [`Facts::member_count`]
    MemberCount,
    /// [`Facts::display_name`]
    DisplayName,
    /// [`Facts::may_notify`]
    MayNotify,
}

/// A user's enabled rules, ready to be held against events.
#[derive(Debug)]
pub struct Compiled {
    before: Vec<CompiledRule>,
    rooms: HashMap<String, Arc<Outcome>>,
    senders: HashMap<String, Arc<Outcome>>,
    after: Vec<CompiledRule>,
    tells_of_members: bool,
}

#[derive(Debug)]
struct CompiledRule {
    conditions: Vec<Condition>,
    outcome: Arc<Outcome>,
}

#[derive(Debug)]
enum Condition {
    /// The event doesn't say itself whom it mentions.
    WithoutMentions,
    Body(Glob),
    Matches {
        path: Vec<String>,
        pattern: Glob,
    },
    Is {
        path: Vec<String>,
        value: Value,
    },
    Contains {
        path: Vec<String>,
        value: Value,
    },
    DisplayName,
    MemberCount(CountIs),
    MayNotify(String),
    /// Of an unknown kind, or without what its kind needs.
    Never,
}

impl Compiled {
    /// Compiles what is enabled of a user's rules.
    pub(super) fn new(rules: &Ruleset) -> Self {
        let enabled = |kind| rules.list(kind).iter().filter(|rule: &&Rule| rule.enabled);
        let compiled = |kind| enabled(kind).map(CompiledRule::new);
        let by_id = |kind| enabled(kind).map(|rule| (rule.rule_id.clone(), Arc::new(Outcome::of(rule)))).collect();
        Self {
            before: compiled(RuleKind::Override).chain(compiled(RuleKind::Content)).collect(),
            rooms: by_id(RuleKind::Room),
            senders: by_id(RuleKind::Sender),
            after: compiled(RuleKind::Underride).collect(),
            tells_of_members: tells_of_members(enabled(RuleKind::Override)),
        }
    }

    /// Whether the user may be told of the membership events of others: `false` where the default rules decide, which are held against a great many of
    /// them in a large room.
    pub fn tells_of_members(&self) -> bool {
        self.tells_of_members
    }

    /// What the first rule that matches makes of an event that somebody else sent; `None` if no rule matches. Asks for facts as they are
    /// needed: the caller adds them and asks again.
    ///
    /// # Errors
    /// A fact that is not there.
    pub fn evaluate(&self, event: &PushEvent, facts: &Facts<'_>) -> Result<Option<&Arc<Outcome>>, Missing> {
        if let Some(rule) = first_match(&self.before, event, facts)? {
            return Ok(Some(rule));
        }
        let room = event.text("room_id").and_then(|room| self.rooms.get(room));
        let sender = || self.senders.get(event.text("sender")?);
        if let Some(outcome) = room.or_else(sender) {
            return Ok(Some(outcome));
        }
        first_match(&self.after, event, facts)
    }
}

/// Whether override rules, in their order, may notify of a membership event that is not the user's own.
fn tells_of_members<'a>(rules: impl Iterator<Item = &'a Rule>) -> bool {
    for rule in rules {
        let notifies = Outcome::of(rule).notify;
        if rule.default && rule.rule_id == MEMBER_EVENT {
            return notifies;
        }
        let of_the_user = rule.default && rule.rule_id == INVITE_FOR_ME;
        // One that doesn't notify may match or not: the user is not told by it.
        if notifies && !of_the_user {
            return true;
        }
    }
    true
}

fn first_match<'a>(
    rules: &'a [CompiledRule],
    event: &PushEvent,
    facts: &Facts<'_>,
) -> Result<Option<&'a Arc<Outcome>>, Missing> {
    for rule in rules {
        if rule.matches(event, facts)? {
            return Ok(Some(&rule.outcome));
        }
    }
    Ok(None)
}

impl Outcome {
    fn of(rule: &Rule) -> Self {
        let notify = rule.actions.iter().any(|action| action == "notify");
        let highlights = |action: &Value| {
            action["set_tweak"] == "highlight" && action.get("value").is_none_or(|value| value != false)
        };
        let highlight = notify && rule.actions.iter().any(highlights);
        Self { notify, highlight, actions: rule.actions.clone() }
    }
}

impl CompiledRule {
    fn new(rule: &Rule) -> Self {
        let legacy = rule.default && LEGACY_MENTIONS.contains(&rule.rule_id.as_str());
        let mut conditions: Vec<_> = legacy.then_some(Condition::WithoutMentions).into_iter().collect();
        conditions.extend(rule.pattern.as_deref().map(|pattern| Condition::Body(Glob::new(pattern))));
        conditions.extend(rule.conditions.iter().flatten().map(Condition::new));
        // What the event says itself is seen first: most events need no look-up.
        conditions.sort_by_key(Condition::needs_facts);
        Self { conditions, outcome: Arc::new(Outcome::of(rule)) }
    }

    fn matches(&self, event: &PushEvent, facts: &Facts<'_>) -> Result<bool, Missing> {
        for condition in &self.conditions {
            if !condition.holds(event, facts)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Condition {
    fn new(condition: &Value) -> Self {
        Self::parse(condition).unwrap_or(Self::Never)
    }

    fn parse(condition: &Value) -> Option<Self> {
        let text = |key: &str| condition.get(key)?.as_str();
        Some(match text("kind")? {
            "event_match" if text("key")? == "content.body" => Self::Body(Glob::new(text("pattern")?)),
            "event_match" => Self::Matches { path: path::parse(text("key")?), pattern: Glob::new(text("pattern")?) },
            "event_property_is" => Self::Is { path: path::parse(text("key")?), value: condition.get("value")?.clone() },
            "event_property_contains" => {
                Self::Contains { path: path::parse(text("key")?), value: condition.get("value")?.clone() }
            }
            "contains_display_name" => Self::DisplayName,
            "room_member_count" => Self::MemberCount(CountIs::parse(text("is")?)?),
            "sender_notification_permission" => Self::MayNotify(text("key")?.to_owned()),
            _ => return None,
        })
    }

    fn needs_facts(&self) -> bool {
        matches!(self, Self::DisplayName | Self::MemberCount(_) | Self::MayNotify(_))
    }

    fn holds(&self, event: &PushEvent, facts: &Facts<'_>) -> Result<bool, Missing> {
        Ok(match self {
            Self::WithoutMentions => !event.has_mentions(),
            Self::Body(pattern) => event.body().is_some_and(|body| pattern.matches_words(body)),
            Self::Matches { path, pattern } => {
                let text = event.find(path).and_then(Value::as_str);
                text.is_some_and(|text| pattern.matches(&glob::folded(text)))
            }
            Self::Is { path, value } => event.find(path).is_some_and(|found| path::is_scalar(found) && found == value),
            Self::Contains { path, value } => {
                let found = event.find(path).and_then(Value::as_array);
                path::is_scalar(value) && found.is_some_and(|found| found.contains(value))
            }
            Self::DisplayName => {
                let Some(body) = event.body() else { return Ok(false) };
                let name = facts.display_name.ok_or(Missing::DisplayName)?;
                !name.is_empty() && Glob::literal(name).matches_words(body)
            }
            Self::MemberCount(is) => is.holds(facts.member_count.ok_or(Missing::MemberCount)?),
            Self::MayNotify(how) => facts.may_notify.ok_or(Missing::MayNotify)?(how),
            Self::Never => false,
        })
    }
}

#[cfg(test)]
mod tests;
