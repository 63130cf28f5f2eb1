//! Whom a reader ignores (specification, client-server API, "Ignoring Users").

use std::collections::BTreeMap;

use primitives::UserNid;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::Value;
use storage::{ReadError, View};
use users::{AccountData, DataKey};

/// The users in a user's `m.ignored_user_list`, as a view shows it. A list that is none ignores nobody.
pub(crate) async fn ignored_users(view: &View, user: UserNid) -> Result<Vec<OwnedUserId>, ReadError> {
    #[derive(Deserialize)]
    struct Content {
        ignored_users: BTreeMap<String, Value>,
    }
    let key = DataKey { user, room: None, data_type: "m.ignored_user_list" };
    let Some(json) = AccountData::read(view, key).await? else { return Ok(Vec::new()) };
    let content = serde_json::from_str::<Content>(&json);
    let listed = content.map(|content| content.ignored_users).unwrap_or_default();
    Ok(listed.into_keys().filter_map(|user| OwnedUserId::try_from(user).ok()).collect())
}
