//! Whom a user doesn't want to hear of: ignored users (specification, "Ignoring Users") and who may invite them ("Invite permission", and MSC4155,
//! which says it by user and server). All of it is the user's own account data; what makes no sense there says nothing.

use std::{collections::HashSet, sync::Arc};

use primitives::{StreamPosition, UserNid};
use ruma::UserId;
use serde_json::Value;
use storage::{ReadError, View};

use crate::account_data::{AccountData, DataKey};

/// The ignored users.
const IGNORED_USER_LIST: &str = "m.ignored_user_list";
/// Whether anybody may invite.
const INVITE_PERMISSION: &str = "m.invite_permission_config";
/// Who may invite.
const INVITE_FILTER: &str = "org.matrix.msc4155.invite_permission_config";
/// The longest pattern that is looked at, in bytes: no id is longer.
const MAX_PATTERN_BYTES: usize = 255;

/// The users that somebody ignores.
#[derive(Debug)]
pub struct IgnoredUsers {
    position: StreamPosition,
    ids: HashSet<String>,
}

impl IgnoredUsers {
    /// Whom a user ignores; `None`: nobody. `known` is what an earlier view showed.
    pub async fn read(view: &View, user: UserNid, known: Option<Arc<Self>>) -> Result<Option<Arc<Self>>, ReadError> {
        let key = DataKey { user, room: None, data_type: IGNORED_USER_LIST };
        let Some(position) = AccountData::position(view, key)? else { return Ok(None) };
        if let Some(known) = known.filter(|known| known.position == position) {
            return Ok(Some(known));
        }
        let content = AccountData::read(view, key).await?.and_then(|json| serde_json::from_str::<Value>(&json).ok());
        let ids = content.as_ref().and_then(|content| content["ignored_users"].as_object());
        let ids = ids.into_iter().flat_map(|ids| ids.keys().cloned()).collect();
        Ok(Some(Arc::new(Self { position, ids })))
    }

    /// When the list changed last.
    pub fn changed(&self) -> StreamPosition {
        self.position
    }

    /// Those whom they ignore.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    /// Whether they ignore this one.
    pub fn contains(&self, user_id: &str) -> bool {
        self.ids.contains(user_id)
    }
}

/// What becomes of an invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteRule {
    /// It is told to whom it is for.
    Allow,
    /// It is taken, and not told.
    Ignore,
    /// It is refused.
    Block,
}

/// What becomes of an invite to a user of this server, as they have it.
pub async fn invite_rule(view: &View, invited: UserNid, sender: &UserId) -> Result<InviteRule, ReadError> {
    let read = async |data_type| {
        let json = AccountData::read(view, DataKey { user: invited, room: None, data_type }).await?;
        Ok::<_, ReadError>(json.and_then(|json| serde_json::from_str::<Value>(&json).ok()).unwrap_or_default())
    };
    if let Some(rule) = by_patterns(&read(INVITE_FILTER).await?, sender) {
        return Ok(rule);
    }
    if read(INVITE_PERMISSION).await?["default_action"] == "block" {
        return Ok(InviteRule::Block);
    }
    let ignored = IgnoredUsers::read(view, invited, None).await?;
    let ignored = ignored.is_some_and(|ignored| ignored.contains(sender.as_str()));
    Ok(if ignored { InviteRule::Ignore } else { InviteRule::Allow })
}

/// The first list that has a pattern for the sender, or for their server.
fn by_patterns(config: &Value, sender: &UserId) -> Option<InviteRule> {
    let (user, server) = (sender.as_str(), sender.server_name().as_str());
    let lists = [
        ("allowed_users", user, InviteRule::Allow),
        ("ignored_users", user, InviteRule::Ignore),
        ("blocked_users", user, InviteRule::Block),
        ("allowed_servers", server, InviteRule::Allow),
        ("ignored_servers", server, InviteRule::Ignore),
        ("blocked_servers", server, InviteRule::Block),
    ];
    let has = |list: &str, text: &str| {
        let patterns = config[list].as_array().into_iter().flatten().filter_map(Value::as_str);
        patterns.filter(|pattern| pattern.len() <= MAX_PATTERN_BYTES).any(|pattern| fits(pattern, text))
    };
    lists.into_iter().find(|(list, text, _)| has(list, text)).map(|(_, _, rule)| rule)
}

/// Whether a text fits a pattern (specification, "Glob-style matching"): `*` is any characters, `?` is one. Goes back to the last `*` only, so that
/// the time is at most the product of the lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::testing::World;

    #[test]
    fn globs_fit_whole_texts() {
        for (pattern, text, expected) in [
            ("hs*", "hs2", true),
            ("@user-?*", "@user-1:hs1", true),
            ("@user-?*", "@user-", false),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b", false),
            ("", "a", false),
            ("exact", "exactly", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!fits(&"*a".repeat(120), &"a".repeat(119)));
    }

    #[test]
    fn users_come_before_servers_and_allowing_before_ignoring_before_blocking() {
        let bob = user_id!("@bob:hs2");
        for (config, expected) in [
            (json!({}), None),
            (json!({ "blocked_users": null, "allowed_users": "@bob:hs2" }), None),
            (json!({ "blocked_servers": ["hs2"] }), Some(InviteRule::Block)),
            (json!({ "blocked_servers": ["hs2"], "allowed_users": ["@bob:*"] }), Some(InviteRule::Allow)),
            (json!({ "blocked_users": ["@bob:hs2"], "allowed_servers": ["hs2"] }), Some(InviteRule::Block)),
            (json!({ "blocked_users": ["@b*"], "ignored_users": ["@bob:hs2"] }), Some(InviteRule::Ignore)),
            (json!({ "ignored_servers": ["hs?"], "blocked_servers": ["hs2"] }), Some(InviteRule::Ignore)),
            (json!({ "blocked_servers": [7, "x".repeat(256)] }), None),
        ] {
            assert_eq!(by_patterns(&config, bob), expected, "{config}");
        }
    }

    #[tokio::test]
    async fn what_a_user_says_decides() {
        let world = World::new().await;
        let user = world.user("alice").await.user_nid;
        let bob = user_id!("@bob:hs2");
        let set = async |data_type: &str, content: Value| {
            let content = content.as_object().expect("an object").clone();
            world.users.account_data().set(DataKey { user, room: None, data_type }, &content).await.expect("set");
            invite_rule(&world.storage.view(), user, bob).await.expect("read")
        };
        assert_eq!(set("other", json!({ "x": 1 })).await, InviteRule::Allow);
        assert_eq!(set(IGNORED_USER_LIST, json!({ "ignored_users": { bob: {} } })).await, InviteRule::Ignore);
        assert_eq!(set(INVITE_PERMISSION, json!({ "default_action": "block" })).await, InviteRule::Block);
        assert_eq!(set(INVITE_FILTER, json!({ "allowed_servers": ["*"] })).await, InviteRule::Allow);
        assert_eq!(set(INVITE_FILTER, json!({})).await, InviteRule::Block);
        assert_eq!(set(INVITE_PERMISSION, json!({ "default_action": 7 })).await, InviteRule::Ignore);
        let known = IgnoredUsers::read(&world.storage.view(), user, None).await.expect("read").expect("a list");
        assert!(known.contains("@bob:hs2") && !known.contains("@carol:hs2"));
        let again = IgnoredUsers::read(&world.storage.view(), user, Some(known.clone())).await.expect("read");
        assert!(Arc::ptr_eq(&again.expect("a list"), &known));
        set(IGNORED_USER_LIST, json!({ "ignored_users": ["@bob:hs2"] })).await;
        let changed = IgnoredUsers::read(&world.storage.view(), user, Some(known)).await.expect("read");
        assert!(!changed.expect("a list").contains("@bob:hs2"));
    }
}
