//! Push rules: which events a user is told of, and how loudly (client-server API, "Push rules").
//!
//! The rules of a user are the default ones, as far as the user left them, and their own. They are stored as one row, read into a [`Ruleset`],
//! and kept in memory until their row changes.

mod compiled;
mod count;
mod defaults;
mod event;
mod glob;
mod kind;
mod path;
mod rule;
mod ruleset;

use std::sync::Arc;

use primitives::{StreamPosition, UserNid};
use quick_cache::sync::Cache;
use ruma::{RoomId, UserId};
use serde_json::Value;
use storage::{
    Batch, CorruptValue, Positioned, Raw, ReadError, Storage, Table, View,
    schema::{
        push::{self as tables, Changed},
        rooms::{UserLog, UserLogEntry},
    },
};

use crate::{
    error::{MAX_ATTEMPTS, Outcome as Attempt, StoreError, outcome},
    wakeups::Wakeups,
};

pub use compiled::{Compiled, Facts, Missing, Outcome};
pub use event::PushEvent;
pub use kind::RuleKind;
pub use rule::{BadRule, MAX_PATTERN_BYTES, MAX_RULE_BYTES, MAX_RULE_ID_BYTES, NewRule, Rule};
pub use ruleset::{Place, Ruleset, RulesetError};

/// The type of the account data that push rules appear as.
pub const ACCOUNT_DATA_TYPE: &str = "m.push_rules";
/// The largest set of rules, in bytes of what is stored of it.
pub const MAX_RULESET_BYTES: usize = 256 * 1024;

/// Users whose rules are kept in memory.
const USERS_IN_MEMORY: usize = 10_000;

/// A user, by number and by name.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Their number.
    pub user: UserNid,
    /// Their user id.
    pub user_id: &'a UserId,
}

/// A user's rules as of one change of them.
#[derive(Debug)]
pub struct UserRules {
    /// When they changed last; zero if they never did.
    pub changed: StreamPosition,
    /// The rules.
    pub rules: Ruleset,
    /// The rules, ready to be held against events.
    pub compiled: Compiled,
}

impl UserRules {
    /// The content of the account data that they appear as.
    pub fn content(&self) -> Value {
        serde_json::json!({ "global": self.rules })
    }
}

/// Why a user's rules are not changed.
#[derive(Debug, thiserror::Error)]
pub enum PushRulesError {
    /// What was asked for is not possible.
    #[error(transparent)]
    Rules(#[from] RulesetError),
    /// All rules together would be larger than [`MAX_RULESET_BYTES`].
    #[error("push rules can have at most {MAX_RULESET_BYTES} bytes altogether")]
    TooLarge,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The push rules of all users.
pub struct PushRules {
    storage: Storage,
    wakeups: Wakeups,
    /// How many rules of their own a user may have.
    max: usize,
    in_memory: Cache<UserNid, Arc<UserRules>>,
}

impl std::fmt::Debug for PushRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushRules")
    }
}

impl PushRules {
    pub(crate) fn new(storage: Storage, wakeups: Wakeups, max: usize) -> Self {
        Self { storage, wakeups, max, in_memory: Cache::new(USERS_IN_MEMORY) }
    }

    /// A user's rules.
    pub async fn get(&self, owner: Owner<'_>) -> Result<Arc<UserRules>, ReadError> {
        self.in_view(&self.storage.view(), owner).await
    }

    /// A user's rules as a view shows them.
    pub async fn in_view(&self, view: &View, owner: Owner<'_>) -> Result<Arc<UserRules>, ReadError> {
        let key = (owner.user,);
        let change = view.get::<tables::PushRulesChanges>(&key).await?;
        let changed = change.map_or(StreamPosition::ZERO, |change| change.position);
        let known = self.in_memory.get(&owner.user);
        if let Some(known) = known.as_ref().filter(|known| known.changed == changed) {
            return Ok(Arc::clone(known));
        }
        let rules = match view.get::<tables::PushRules>(&key).await? {
            Some(Raw(json)) => Ruleset::from_stored(owner.user_id, &json)
                .map_err(|error| CorruptValue { table: tables::PushRules::NAME, reason: error.to_string() })?,
            None => Ruleset::new(owner.user_id),
        };
        let compiled = Compiled::new(&rules);
        let rules = Arc::new(UserRules { changed, rules, compiled });
        // An older view never puts back what a newer one has brought.
        if known.is_none_or(|known| known.changed < changed) {
            self.in_memory.insert(owner.user, Arc::clone(&rules));
        }
        Ok(rules)
    }

    /// Makes a rule, or makes an own one anew; that stays enabled or not. A new rule without a place is the most important of the user's own.
    pub async fn put(
        &self,
        owner: Owner<'_>,
        kind: RuleKind,
        rule_id: &str,
        rule: NewRule,
        place: Place<'_>,
    ) -> Result<(), PushRulesError> {
        self.change(owner, |rules| rules.put(kind, rule_id, rule.clone(), place, self.max)).await
    }

    /// Deletes an own rule.
    pub async fn delete(&self, owner: Owner<'_>, kind: RuleKind, rule_id: &str) -> Result<(), PushRulesError> {
        self.change(owner, |rules| rules.delete(kind, rule_id)).await
    }

    /// Switches a rule on or off.
    pub async fn set_enabled(
        &self,
        owner: Owner<'_>,
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<(), PushRulesError> {
        self.change(owner, |rules| rules.set_enabled(kind, rule_id, enabled)).await
    }

    /// Gives a rule other actions.
    pub async fn set_actions(
        &self,
        owner: Owner<'_>,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Value>,
    ) -> Result<(), PushRulesError> {
        self.change(owner, |rules| rules.set_actions(kind, rule_id, actions.clone())).await
    }

    /// Makes a user's own rules for a room hold for the room that replaces it too (client-server API, "Room upgrades"). Doing it again changes
    /// nothing.
    pub async fn copy_room_rules(&self, owner: Owner<'_>, old: &RoomId, new: &RoomId) -> Result<(), PushRulesError> {
        self.change(owner, |rules| {
            rules.copy_room(old.as_str(), new.as_str(), self.max);
            Ok(())
        })
        .await
    }

    /// Changes a user's rules and tells their syncs. What changes nothing is not written.
    async fn change(
        &self,
        owner: Owner<'_>,
        change: impl Fn(&mut Ruleset) -> Result<(), RulesetError>,
    ) -> Result<(), PushRulesError> {
        let key = (owner.user,);
        for _ in 0..MAX_ATTEMPTS {
            let before = self.get(owner).await.map_err(StoreError::from)?;
            let mut after = before.rules.clone();
            change(&mut after)?;
            if after == before.rules {
                return Ok(());
            }
            let json = after.to_stored(owner.user_id);
            if json.len() > MAX_RULESET_BYTES {
                return Err(PushRulesError::TooLarge);
            }
            let mut batch = Batch::new();
            match before.changed {
                StreamPosition::ZERO => batch.assert_absent::<tables::PushRulesChanges>(&key),
                // Of the changes the last one is told.
                position => batch
                    .assert_equals::<tables::PushRulesChanges>(&key, &Positioned { position, value: Changed })
                    .delete::<UserLog>(&(owner.user, position, 0)),
            };
            let entry = UserLogEntry::AccountData { room: None, data_type: ACCOUNT_DATA_TYPE.to_owned() };
            batch
                .put::<tables::PushRules>(&key, &Raw(json))
                .put::<tables::PushRulesChanges>(&key, &Positioned::pending(Changed))
                .put::<UserLog>(&(owner.user, StreamPosition::PENDING, 0), &entry);
            if let Attempt::Done(position) = outcome(self.storage.commit(batch).await)? {
                self.wakeups.wake(owner.user, position);
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Deletes a user's rules.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete::<tables::PushRules>(&(user,)).delete::<tables::PushRulesChanges>(&(user,));
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::json;
    use storage::{Direction, KeyRange};

    use super::*;
    use crate::{Registered, testing::World};

    fn owner(user: &Registered) -> Owner<'_> {
        Owner { user: user.user_nid, user_id: &user.user_id }
    }

    fn new(body: Value) -> NewRule {
        serde_json::from_value(body).expect("the form of a rule")
    }

    #[tokio::test]
    async fn changes_are_kept_told_and_wake() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let rules = world.users.push_rules();
        let before = world.storage.view();
        let mut waiter = world.users.wakeups().waiter(bob.user_nid);
        let cake = || new(json!({ "actions": ["dont_notify"], "pattern": "cake" }));
        rules.put(owner(&bob), RuleKind::Content, "cake", cake(), Place::default()).await.expect("made");
        let now = world.storage.position();
        let news = crate::News { position: before.position(), ephemeral: 0 };
        assert_eq!(waiter.newer_than(news).await.position, now);
        rules.put(owner(&bob), RuleKind::Content, "cake", cake(), Place::default()).await.expect("the same");
        assert_eq!(world.storage.position(), now, "what changes nothing is not written");
        let stored = rules.get(owner(&bob)).await.expect("read");
        assert_eq!(
            (stored.changed, stored.content()["global"]["content"][0]["actions"][0].as_str()),
            (now, Some("dont_notify"))
        );
        let reopened = world.reopened().await;
        assert_eq!(reopened.push_rules().get(owner(&bob)).await.expect("read").rules, stored.rules);
        let log =
            world.storage.view().scan::<UserLog>(&KeyRange::prefix(&(bob.user_nid,)), 9, Direction::Forward).await;
        let entry = UserLogEntry::AccountData { room: None, data_type: "m.push_rules".to_owned() };
        assert_eq!(log.expect("read").rows, [((bob.user_nid, now, 0), entry)]);
        rules.set_enabled(owner(&bob), RuleKind::Content, "cake", false).await.expect("set");
        let (view, range) = (world.storage.view(), KeyRange::prefix(&(bob.user_nid,)));
        let log = view.scan_keys::<UserLog>(&range, 9, Direction::Forward).await.expect("read");
        assert_eq!(log.keys, [(bob.user_nid, view.position(), 0)], "the last change is told");
        let now = view.position();
        let old = rules.in_view(&before, owner(&bob)).await.expect("read");
        assert_eq!((old.changed, old.rules.own().count()), (StreamPosition::ZERO, 0), "an old view shows old rules");
        assert_eq!(rules.get(owner(&bob)).await.expect("read").changed, now);
    }

    #[tokio::test]
    async fn changes_at_once_are_all_kept() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let tracker = tokio_util::task::TaskTracker::new();
        for number in 0..8 {
            let (users, bob) = (world.users.clone(), bob.clone());
            tracker.spawn(async move {
                let (rule, id) = (new(json!({ "actions": [] })), format!("r{number}"));
                users
                    .push_rules()
                    .put(owner(&bob), RuleKind::Override, &id, rule, Place::default())
                    .await
                    .expect("made");
            });
        }
        tracker.close();
        tracker.wait().await;
        assert_eq!(world.users.push_rules().get(owner(&bob)).await.expect("read").rules.own().count(), 8);
    }

    #[tokio::test]
    async fn rules_are_bounded() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let rules = world.users.push_rules();
        let large = || new(json!({ "actions": [{ "set_tweak": "sound", "value": "x".repeat(MAX_RULE_BYTES - 500) }] }));
        let mut refused = None;
        for number in 0..MAX_RULESET_BYTES / MAX_RULE_BYTES + 3 {
            let id = format!("r{number}");
            let put = rules.put(owner(&bob), RuleKind::Override, &id, large(), Place::default()).await;
            refused = put.err();
        }
        assert!(matches!(refused, Some(PushRulesError::TooLarge)), "{refused:?}");
    }

    #[tokio::test]
    async fn rules_of_a_room_are_copied_once() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let rules = world.users.push_rules();
        let (old, new_room) = (room_id!("!old:hs1"), room_id!("!new:hs1"));
        rules.copy_room_rules(owner(&bob), old, new_room).await.expect("nothing to copy");
        assert_eq!(rules.get(owner(&bob)).await.expect("read").changed, StreamPosition::ZERO);
        let mute = new(json!({ "actions": [] }));
        rules.put(owner(&bob), RuleKind::Room, old.as_str(), mute, Place::default()).await.expect("made");
        rules.copy_room_rules(owner(&bob), old, new_room).await.expect("copied");
        let once = rules.get(owner(&bob)).await.expect("read");
        assert!(once.rules.get(RuleKind::Room, new_room.as_str()).is_some());
        rules.copy_room_rules(owner(&bob), old, new_room).await.expect("again");
        assert_eq!(rules.get(owner(&bob)).await.expect("read").changed, once.changed);
    }
}
