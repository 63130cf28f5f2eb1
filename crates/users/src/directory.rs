//! Finding this server's users by what they call themselves (client-server API, "User directory").
//!
//! The names are in memory, about 200 bytes a user, read when somebody first searches. After that only what is new is read: accounts, whose
//! numbers count up in the order in which they are made, and profiles that have changed, of which [`UserDirectory::changed`] is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use primitives::UserNid;
use ruma::OwnedUserId;
use storage::{
    Direction, KeyRange, Storage, View,
    schema::users::{self as tables, AccountKind, Life},
};
use tokio::sync::RwLock;

use crate::{accounts::Accounts, error::StoreError, profiles};

/// Accounts that are read at once.
const PAGE: usize = 500;
/// Users that one search finds.
const MAX_FOUND: usize = 10_000;

/// How well a name fits what is searched for. The better sorts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    /// The display name, the local part or the user id is the term.
    Whole,
    /// The display name begins with the term.
    NameBegins,
    /// The local part or the user id begins with the term.
    IdBegins,
    /// Each word of the term begins a word of the display name or the local part.
    Words,
}

/// How well a user fits a search term, whatever the case of its letters; `None`: not at all.
pub fn fit(term: &str, user_id: &str, display_name: Option<&str>) -> Option<Fit> {
    let term = Term::new(term)?;
    term.fit(&Lowered::new(user_id, display_name))
}

/// What is searched for, in lower case.
struct Term {
    whole: String,
    words: Vec<String>,
}

impl Term {
    /// `None` if there is nothing to search for.
    fn new(term: &str) -> Option<Self> {
        let whole = term.trim().to_lowercase();
        let words: Vec<_> = words(&whole).map(str::to_owned).collect();
        (!words.is_empty()).then_some(Self { whole, words })
    }

    fn fit(&self, user: &Lowered) -> Option<Fit> {
        let localpart = user.user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
        let ids = [&*user.user_id, localpart];
        if *user.display_name == *self.whole || ids.contains(&self.whole.as_str()) {
            return Some(Fit::Whole);
        }
        if user.display_name.starts_with(&self.whole) {
            return Some(Fit::NameBegins);
        }
        if ids.iter().any(|id| id.starts_with(&self.whole)) {
            return Some(Fit::IdBegins);
        }
        let begins = |word: &String| words(&user.display_name).chain(words(localpart)).any(|own| own.starts_with(word));
        self.words.iter().all(begins).then_some(Fit::Words)
    }
}

/// The words of a name: what stands between anything that is neither letter nor digit.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty())
}

/// What a user is found by, in lower case.
#[derive(Debug)]
struct Lowered {
    user_id: Box<str>,
    display_name: Box<str>,
}

impl Lowered {
    fn new(user_id: &str, display_name: Option<&str>) -> Self {
        let lowered = |text: &str| text.to_lowercase().into_boxed_str();
        Self { user_id: lowered(user_id), display_name: lowered(display_name.unwrap_or_default()) }
    }
}

/// A user who fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How well.
    pub fit: Fit,
    /// Whether the profile says nothing.
    pub nameless: bool,
    /// The user's id.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user_nid: UserNid,
}

/// The names that have been read.
#[derive(Debug, Default)]
struct Names {
    /// Every account up to this number has been read.
    upto: UserNid,
    users: BTreeMap<UserNid, Lowered>,
}

/// Finds this server's users by name.
#[derive(Debug)]
pub struct UserDirectory {
    storage: Storage,
    accounts: Arc<Accounts>,
    names: RwLock<Names>,
    /// Users whose profile has changed since it was read.
    changed: Mutex<BTreeSet<UserNid>>,
}

impl UserDirectory {
    pub(crate) fn new(storage: Storage, accounts: Arc<Accounts>) -> Self {
        Self { storage, accounts, names: RwLock::default(), changed: Mutex::default() }
    }

    /// A user's profile has changed. Call it after the commit, before it is acknowledged.
    pub fn changed(&self, user: UserNid) {
        self.changed.lock().insert(user);
    }

    /// The users who fit a term, the best first, those who call themselves something before those who don't. Guests and those who have
    /// deactivated their account are not among them.
    pub async fn find(&self, term: &str) -> Result<Vec<Found>, StoreError> {
        let Some(term) = Term::new(term) else { return Ok(Vec::new()) };
        self.catch_up().await?;
        let names = self.names.read().await;
        let fitting = names.users.iter().filter_map(|(nid, user)| Some((*nid, term.fit(user)?, user)));
        let mut fitting: Vec<_> =
            fitting.map(|(nid, fit, user)| (fit, user.display_name.is_empty(), user.user_id.clone(), nid)).collect();
        drop(names);
        fitting.sort_unstable();
        fitting.truncate(MAX_FOUND);
        let mut found = Vec::with_capacity(fitting.len());
        for (fit, nameless, _, user_nid) in fitting {
            let row = self.accounts.row(user_nid).await?;
            if let Some(row) = row.filter(|row| row.life == Life::Active) {
                found.push(Found { fit, nameless, user_id: self.accounts.id_of(&row.localpart), user_nid });
            }
        }
        Ok(found)
    }

    /// Reads what is new.
    async fn catch_up(&self) -> Result<(), StoreError> {
        let mut names = self.names.write().await;
        let changed = std::mem::take(&mut *self.changed.lock());
        // What was announced before is in this view.
        let view = self.storage.view();
        let done = self.read_new(&view, &mut names, &changed).await;
        if done.is_err() {
            self.changed.lock().extend(changed);
        }
        done
    }

    async fn read_new(&self, view: &View, names: &mut Names, changed: &BTreeSet<UserNid>) -> Result<(), StoreError> {
        let known: Vec<_> = changed.range(..=names.upto).copied().collect();
        for nids in known.chunks(PAGE) {
            self.read(view, names, nids).await?;
        }
        let mut rest = Some(KeyRange::from(&(), &(UserNid(names.upto.0.saturating_add(1)),)));
        while let Some(range) = rest {
            let page = view.scan_keys::<tables::Accounts>(&range, PAGE, Direction::Forward).await?;
            let nids: Vec<_> = page.keys.into_iter().map(|(nid,)| nid).collect();
            self.read(view, names, &nids).await?;
            names.upto = nids.last().copied().unwrap_or(names.upto);
            rest = page.rest;
        }
        Ok(())
    }

    async fn read(&self, view: &View, names: &mut Names, nids: &[UserNid]) -> Result<(), StoreError> {
        let keys: Vec<_> = nids.iter().map(|nid| (*nid,)).collect();
        let accounts = view.multi_get::<tables::Accounts>(&keys).await?;
        let profiles = view.multi_get::<tables::Profiles>(&keys).await?;
        for ((nid, account), profile) in nids.iter().zip(accounts).zip(profiles) {
            let Some(account) = account.filter(|account| account.kind == AccountKind::User) else { continue };
            let profile = profile.map(|profile| profiles::parse(&profile.0)).transpose()?.unwrap_or_default();
            let user_id = self.accounts.id_of(&account.localpart);
            names.users.insert(*nid, Lowered::new(user_id.as_str(), profile.display_name()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use storage::Batch;

    use super::*;
    use crate::testing::World;

    #[test]
    fn words_are_found_by_their_beginning_and_the_whole_before_them() {
        let fits = |term: &str| fit(term, "@alice.c:hs1", Some("Alice Čooper"));
        assert_eq!(fits("ALICE čooper"), Some(Fit::Whole));
        assert_eq!(fits("@Alice.c:hs1"), Some(Fit::Whole));
        assert_eq!(fits("alice.c"), Some(Fit::Whole));
        assert_eq!(fits(" alice č"), Some(Fit::NameBegins));
        assert_eq!(fits("@ali"), Some(Fit::IdBegins));
        assert_eq!(fits("alice.c:h"), None, "the local part doesn't go on, the user id begins with @");
        assert_eq!(fits("čoop"), Some(Fit::Words));
        assert_eq!(fits("čooper, al"), Some(Fit::Words));
        for none in ["ooper", "lice", "alice bob", "", " ", "@", "hs1"] {
            assert_eq!(fits(none), None, "{none:?}");
        }
        assert_eq!(fit("bob", "@bob:hs1", None), Some(Fit::Whole));
    }

    #[tokio::test]
    async fn what_is_new_is_found_and_what_is_gone_is_not() {
        let world = World::new().await;
        let (bob, carol) = (world.user("bob").await, world.user("carol").await);
        let directory = world.users.directory();
        let find = async |term: &str| -> Vec<String> {
            let found = directory.find(term).await.expect("read");
            found.into_iter().map(|found| found.user_id.localpart().to_owned()).collect()
        };
        assert_eq!(find("bob").await, ["bob"]);
        let profiles = world.users.profiles();
        let set = async |user, name: &str| {
            let value = serde_json::from_value(json!(name)).expect("canonical");
            profiles.set(user, "displayname", value, &Batch::new()).await.expect("set");
        };
        set(carol.user_nid, "Bobby").await;
        set(bob.user_nid, "Robert").await;
        assert_eq!(find("bob").await, ["bob", "carol"], "the whole first");
        assert_eq!(find("robert").await, ["bob"]);
        assert_eq!(find("carol").await, ["carol"]);
        set(carol.user_nid, "").await;
        let dave = world.user("bobo").await;
        assert_eq!(find("bob").await, ["bob", "bobo"]);
        world.users.deactivate(dave.user_nid, false, &Batch::new()).await.expect("deactivated");
        assert_eq!(find("bob").await, ["bob"]);
    }
}
