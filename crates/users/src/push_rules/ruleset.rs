//! A user's rules: the default ones, as far as the user changed them, and their own.

use std::collections::BTreeMap;

use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    defaults::{self, default_rules},
    kind::RuleKind,
    rule::{BadRule, NewRule, Rule, check_actions},
};

/// A user's rules, by kind; in each kind the most important one first: the master rule, the user's own, the other default ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ruleset(BTreeMap<RuleKind, Vec<Rule>>);

/// Where among the user's own rules of its kind a rule goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Directly before this rule, which is then the next less important one. Counts if both are given.
    pub before: Option<&'a str>,
    /// Directly after this rule, which is then the next more important one.
    pub after: Option<&'a str>,
}

/// Why rules are not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesetError {
    /// The rule is none.
    #[error(transparent)]
    Bad(#[from] BadRule),
    /// There is no such rule.
    #[error("there is no such rule")]
    Unknown,
    /// There is no such rule to put another before or after.
    #[error("there is no rule of that kind to put this one before or after")]
    UnknownNeighbour,
    /// Rules have no place before or after a default rule.
    #[error("a rule cannot be put before or after a default rule")]
    DefaultNeighbour,
    /// A default rule can be switched off, but not deleted.
    #[error("a default rule cannot be deleted")]
    Default,
    /// The user has as many rules of their own as allowed.
    #[error("a user can have at most {0} push rules")]
    TooMany(usize),
}

/// What of the rules is stored: what differs from the default ones, so that new default rules reach everybody.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// The user's own rules.
    own: BTreeMap<RuleKind, Vec<Rule>>,
    /// Default rules that the user changed.
    changed: BTreeMap<RuleKind, BTreeMap<String, Change>>,
}

/// What a user made of a default rule.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    enabled: bool,
    actions: Vec<Value>,
}

impl Ruleset {
    /// The rules of a user who changed none.
    pub(super) fn new(user_id: &UserId) -> Self {
        Self(default_rules(user_id))
    }

    /// The rules of a user of whom this is stored.
    pub(super) fn from_stored(user_id: &UserId, json: &[u8]) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_slice(json)?;
        let mut rules = Self::new(user_id);
        for (kind, mut changes) in stored.changed {
            for rule in rules.list_mut(kind) {
                if let Some(change) = changes.remove(&rule.rule_id) {
                    (rule.enabled, rule.actions) = (change.enabled, change.actions);
                }
            }
        }
        for (kind, own) in stored.own {
            let list = rules.list_mut(kind);
            let first = first_own(list);
            list.splice(first..first, own);
        }
        Ok(rules)
    }

    /// What is to be stored of the rules.
    pub(super) fn to_stored(&self, user_id: &UserId) -> Vec<u8> {
        let defaults = default_rules(user_id);
        let mut stored = Stored::default();
        for (kind, list) in &self.0 {
            for rule in list {
                if !rule.default {
                    stored.own.entry(*kind).or_default().push(rule.clone());
                } else if !defaults[kind].contains(rule) {
                    let change = Change { enabled: rule.enabled, actions: rule.actions.clone() };
                    stored.changed.entry(*kind).or_default().insert(rule.rule_id.clone(), change);
                }
            }
        }
        serde_json::to_vec(&stored).expect("rules serialise")
    }

    /// The rules of a kind, the most important one first.
    pub fn list(&self, kind: RuleKind) -> &[Rule] {
        self.0.get(&kind).map(Vec::as_slice).unwrap_or_default()
    }

    fn list_mut(&mut self, kind: RuleKind) -> &mut Vec<Rule> {
        self.0.entry(kind).or_default()
    }

    /// A rule.
    pub fn get(&self, kind: RuleKind, rule_id: &str) -> Option<&Rule> {
        self.list(kind).iter().find(|rule| rule.rule_id == rule_id)
    }

    fn get_mut(&mut self, kind: RuleKind, rule_id: &str) -> Result<&mut Rule, RulesetError> {
        self.list_mut(kind).iter_mut().find(|rule| rule.rule_id == rule_id).ok_or(RulesetError::Unknown)
    }

    /// The user's own rules, of all kinds.
    pub fn own(&self) -> impl Iterator<Item = &Rule> {
        self.0.values().flatten().filter(|rule| !rule.default)
    }

    /// Makes a rule, or makes an own one anew; that stays enabled or not, and where it is unless it is given a place. A new one without a place
    /// is the most important of the user's own. A user may have `max` of them.
    pub(super) fn put(
        &mut self,
        kind: RuleKind,
        rule_id: &str,
        rule: NewRule,
        place: Place<'_>,
        max: usize,
    ) -> Result<(), RulesetError> {
        let mut rule = rule.check(kind, rule_id)?;
        let old = self.list(kind).iter().position(|rule| rule.rule_id == rule_id);
        if old.is_none() && self.own().count() >= max {
            return Err(RulesetError::TooMany(max));
        }
        let mut list = self.list(kind).to_vec();
        if let Some(old) = old {
            rule.enabled = list.remove(old).enabled;
        }
        let neighbour = place.before.map(|id| (id, 0)).or_else(|| place.after.map(|id| (id, 1)));
        let at = match (neighbour, old) {
            (Some((id, _)), _) if id.starts_with('.') => return Err(RulesetError::DefaultNeighbour),
            // Beside itself a rule stays where it is.
            (Some((id, _)), Some(old)) if id == rule_id => old,
            (Some((id, offset)), _) => {
                let neighbour = list.iter().position(|rule| rule.rule_id == id);
                neighbour.ok_or(RulesetError::UnknownNeighbour)? + offset
            }
            (None, Some(old)) => old,
            (None, None) => first_own(&list),
        };
        list.insert(at, rule);
        *self.list_mut(kind) = list;
        Ok(())
    }

    /// Deletes an own rule.
    pub(super) fn delete(&mut self, kind: RuleKind, rule_id: &str) -> Result<(), RulesetError> {
        let list = self.list_mut(kind);
        let at = list.iter().position(|rule| rule.rule_id == rule_id).ok_or(RulesetError::Unknown)?;
        if list[at].default {
            return Err(RulesetError::Default);
        }
        list.remove(at);
        Ok(())
    }

    /// Switches a rule on or off.
    pub(super) fn set_enabled(&mut self, kind: RuleKind, rule_id: &str, enabled: bool) -> Result<(), RulesetError> {
        self.get_mut(kind, rule_id)?.enabled = enabled;
        Ok(())
    }

    /// Gives a rule other actions.
    pub(super) fn set_actions(
        &mut self,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Value>,
    ) -> Result<(), RulesetError> {
        check_actions(&actions)?;
        let rule = self.get_mut(kind, rule_id)?;
        let changed = Rule { actions, ..rule.clone() };
        changed.check_size()?;
        *rule = changed;
        Ok(())
    }

    /// Makes the user's own rules for a room hold for another room too: the room rule, and override and underride rules with a condition on the
    /// room's id. Rules that the other room has are left as they are. A user may have `max` own rules; what is beyond is not copied.
    pub(super) fn copy_room(&mut self, old: &str, new: &str, max: usize) {
        let mut free = max.saturating_sub(self.own().count());
        for kind in [RuleKind::Override, RuleKind::Room, RuleKind::Underride] {
            let list = self.list_mut(kind);
            let mut copied = Vec::with_capacity(list.len());
            for rule in list.iter() {
                copied.push(rule.clone());
                let Some(copy) = copy_for(rule, kind, old, new) else { continue };
                let is_there = list.iter().chain(&copied).any(|rule| rule.rule_id == copy.rule_id);
                if !is_there && free > 0 {
                    free -= 1;
                    copied.push(copy);
                }
            }
            *list = copied;
        }
    }
}

/// The place of a kind's most important rule of a user's own.
fn first_own(list: &[Rule]) -> usize {
    usize::from(list.first().is_some_and(|rule| rule.rule_id == defaults::MASTER))
}

/// What an own rule for a room is for another room.
fn copy_for(rule: &Rule, kind: RuleKind, old: &str, new: &str) -> Option<Rule> {
    if rule.default {
        return None;
    }
    let mut copy = rule.clone();
    if kind == RuleKind::Room {
        new.clone_into(&mut copy.rule_id);
        return (rule.rule_id == old).then_some(copy);
    }
    let mut concerns = false;
    for condition in copy.conditions.iter_mut().flatten() {
        let about_room = condition["kind"] == "event_match" && condition["key"] == "room_id";
        if about_room && condition["pattern"] == old {
            condition["pattern"] = new.into();
            concerns = true;
        }
    }
    copy.rule_id = if rule.rule_id.contains(old) { rule.rule_id.replace(old, new) } else { new.to_owned() };
    concerns.then_some(copy)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    const MAX: usize = 100;

    fn rules() -> Ruleset {
        Ruleset::new(user_id!("@bob:hs1"))
    }

    fn new(body: Value) -> NewRule {
        serde_json::from_value(body).expect("the form of a rule")
    }

    fn put(rules: &mut Ruleset, kind: RuleKind, id: &str, before: &str, after: &str) -> Result<(), RulesetError> {
        let some = |id| Some(id).filter(|id: &&str| !id.is_empty());
        let place = Place { before: some(before), after: some(after) };
        rules.put(kind, id, new(json!({ "actions": ["notify"], "pattern": "x" })), place, MAX)
    }

    fn own(rules: &Ruleset, kind: RuleKind) -> String {
        let own = rules.list(kind).iter().filter(|rule| !rule.default);
        own.map(|rule| rule.rule_id.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rules_are_put_where_they_belong() {
        for kind in [RuleKind::Override, RuleKind::Content, RuleKind::Underride] {
            let mut rules = rules();
            for (id, before, after) in [("a", "", ""), ("b", "", ""), ("c", "", "b"), ("d", "a", ""), ("e", "b", "a")] {
                put(&mut rules, kind, id, before, after).expect(id);
            }
            assert_eq!(own(&rules, kind), "e b c d a");
            put(&mut rules, kind, "c", "", "").expect("stays");
            put(&mut rules, kind, "a", "a", "").expect("stays beside itself");
            assert_eq!(own(&rules, kind), "e b c d a");
            put(&mut rules, kind, "a", "e", "").expect("moves up");
            put(&mut rules, kind, "e", "", "d").expect("moves down");
            assert_eq!(own(&rules, kind), "a b c d e");
            assert_eq!(put(&mut rules, kind, "x", "none", ""), Err(RulesetError::UnknownNeighbour));
            assert_eq!(put(&mut rules, kind, "x", ".m.rule.master", ""), Err(RulesetError::DefaultNeighbour));
            assert_eq!(own(&rules, kind), "a b c d e", "what is refused changes nothing");
            let first = &rules.list(kind)[0].rule_id;
            assert_eq!(first, if kind == RuleKind::Override { ".m.rule.master" } else { "a" });
            rules.delete(kind, "c").expect("deleted");
            assert_eq!(rules.delete(kind, "c"), Err(RulesetError::Unknown));
            assert_eq!(own(&rules, kind), "a b d e");
        }
    }

    #[test]
    fn default_rules_can_be_changed_but_not_deleted() {
        let (mut rules, kind) = (rules(), RuleKind::Underride);
        rules.set_enabled(kind, ".m.rule.message", false).expect("there");
        rules.set_actions(kind, ".m.rule.call", vec![json!("dont_notify")]).expect("there");
        assert_eq!(rules.delete(kind, ".m.rule.call"), Err(RulesetError::Default));
        assert_eq!(rules.set_enabled(RuleKind::Override, ".m.rule.message", false), Err(RulesetError::Unknown));
        assert_eq!(rules.set_actions(kind, "none", vec![]), Err(RulesetError::Unknown));
        let bad = rules.set_actions(kind, ".m.rule.call", vec![json!(1)]);
        assert!(matches!(bad, Err(RulesetError::Bad(BadRule::Action(_)))));
    }

    #[test]
    fn a_rule_made_anew_stays_disabled() {
        let (mut rules, kind) = (rules(), RuleKind::Content);
        put(&mut rules, kind, "a", "", "").expect("made");
        rules.set_enabled(kind, "a", false).expect("there");
        put(&mut rules, kind, "a", "", "").expect("made anew");
        assert!(!rules.get(kind, "a").expect("there").enabled);
    }

    #[test]
    fn only_what_differs_is_stored() {
        let user = user_id!("@bob:hs1");
        let mut rules = rules();
        let stored = |rules: &Ruleset| String::from_utf8(rules.to_stored(user)).expect("UTF-8");
        assert_eq!(stored(&rules), r#"{"own":{},"changed":{}}"#);
        put(&mut rules, RuleKind::Override, "a", "", "").expect("made");
        put(&mut rules, RuleKind::Content, "b", "", "").expect("made");
        put(&mut rules, RuleKind::Content, "c", "", "").expect("made");
        rules.set_enabled(RuleKind::Override, ".m.rule.master", true).expect("there");
        insta::assert_snapshot!(stored(&rules), @r#"{"own":{"override":[{"rule_id":"a","default":false,"enabled":true,"actions":["notify"],"conditions":[]}],"content":[{"rule_id":"c","default":false,"enabled":true,"actions":["notify"],"pattern":"x"},{"rule_id":"b","default":false,"enabled":true,"actions":["notify"],"pattern":"x"}]},"changed":{"override":{".m.rule.master":{"enabled":true,"actions":[]}}}}"#);
        assert_eq!(Ruleset::from_stored(user, stored(&rules).as_bytes()).expect("reads"), rules);
        let gone = r#"{"own":{},"changed":{"override":{".m.rule.gone":{"enabled":true,"actions":[]}}}}"#;
        assert_eq!(Ruleset::from_stored(user, gone.as_bytes()).expect("reads"), Ruleset::new(user));
    }

    #[test]
    fn a_user_has_so_many_rules_and_no_more() {
        let mut rules = rules();
        let mut put = |id: &str| rules.put(RuleKind::Override, id, new(json!({ "actions": [] })), Place::default(), 2);
        put("a").expect("the first");
        put("b").expect("the second");
        assert_eq!(put("c"), Err(RulesetError::TooMany(2)));
        put("a").expect("one that is there");
    }

    #[test]
    fn rules_of_a_room_are_copied() {
        let mut rules = rules();
        let room = json!([{ "kind": "event_match", "key": "room_id", "pattern": "!old:x" }]);
        let muted = json!({ "actions": [], "conditions": room });
        rules.put(RuleKind::Override, "!old:x", new(muted.clone()), Place::default(), MAX).expect("made");
        rules.put(RuleKind::Underride, "quiet !old:x", new(muted), Place::default(), MAX).expect("made");
        put(&mut rules, RuleKind::Override, "other", "", "").expect("made");
        for room in ["!old:x", "!third:x"] {
            put(&mut rules, RuleKind::Room, room, "", "").expect("made");
        }
        rules.set_enabled(RuleKind::Room, "!old:x", false).expect("there");
        let before = rules.clone();
        rules.copy_room("!old:x", "!new:x", 5);
        assert_eq!(rules, before, "there is no room for more");
        rules.copy_room("!old:x", "!new:x", MAX);
        assert_eq!(own(&rules, RuleKind::Override), "other !old:x !new:x");
        assert_eq!(own(&rules, RuleKind::Underride), "quiet !old:x quiet !new:x");
        assert_eq!(own(&rules, RuleKind::Room), "!third:x !old:x !new:x");
        let copied = rules.get(RuleKind::Override, "!new:x").expect("copied");
        assert_eq!(copied.conditions.as_ref().expect("conditions")[0]["pattern"], "!new:x");
        assert!(!rules.get(RuleKind::Room, "!new:x").expect("copied").enabled);
        let once = rules.clone();
        rules.copy_room("!old:x", "!new:x", MAX);
        assert_eq!(rules, once, "a second time changes nothing");
    }
}
