//! Push rules: the specification's default rules.

use ruma::{UserId, push::Ruleset};
use serde_json::{Map, Value, json};

/// The kinds of rules, in the order of their priority.
const KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];

/// The rules of a user who has changed none (specification, "Predefined rules"), as the `global` ruleset. Every kind is there, also if it is
/// empty: clients count on it.
pub fn default_rules(user_id: &UserId) -> Map<String, Value> {
    let rules = serde_json::to_value(Ruleset::server_default(user_id)).expect("a ruleset serialises");
    let list = |kind: &str| rules.get(kind).cloned().unwrap_or_else(|| json!([]));
    KINDS.into_iter().map(|kind| (kind.to_owned(), list(kind))).collect()
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn the_defaults_name_the_user_and_begin_with_the_master_rule() {
        let rules = default_rules(user_id!("@bob:hs1"));
        assert_eq!(rules["override"][0]["rule_id"], ".m.rule.master");
        assert_eq!(rules["override"][0]["enabled"], false);
        let invite =
            rules["override"].as_array().expect("a list").iter().find(|r| r["rule_id"] == ".m.rule.invite_for_me");
        assert!(invite.expect("there").to_string().contains("@bob:hs1"));
        let lengths: Vec<_> = KINDS.iter().map(|kind| rules[*kind].as_array().expect("a list").len()).collect();
        assert!(lengths[0] > 5 && lengths[4] > 3, "{lengths:?}");
    }
}
