//! Filters that clients store and name in later requests.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use primitives::{UserNid, canonical};
use ruma::CanonicalJsonObject;
use sha2::{Digest, Sha256};
use storage::{Batch, Direction, KeyRange, Raw, Storage, schema::users as tables};

use crate::error::StoreError;

/// Filters that a user may have.
pub const MAX_FILTERS: usize = 1_000;
/// The largest filter, in bytes of canonical JSON.
pub const MAX_FILTER_BYTES: usize = 64 * 1024;

/// Why a filter is not stored.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It is larger than [`MAX_FILTER_BYTES`].
    #[error("a filter can have at most {MAX_FILTER_BYTES} bytes")]
    TooLarge,
    /// The user has [`MAX_FILTERS`] already.
    #[error("a user can have at most {MAX_FILTERS} filters")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The filters of all users.
#[derive(Debug)]
pub struct Filters {
    storage: Storage,
}

impl Filters {
    pub(crate) fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Stores a filter and answers with its id. The same JSON has the same id, however often it is stored.
    pub async fn store(&self, user: UserNid, filter: &CanonicalJsonObject) -> Result<String, FilterError> {
        let bytes = canonical::to_bytes(filter);
        if bytes.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLarge);
        }
        let mut id = [0; 12];
        id.copy_from_slice(&Sha256::digest(&bytes)[..12]);
        let view = self.storage.view();
        if view.get::<tables::Filters>(&(user, id)).await.map_err(StoreError::from)?.is_none() {
            let range = KeyRange::prefix(&(user,));
            let page = view
                .scan::<tables::Filters>(&range, MAX_FILTERS, Direction::Forward)
                .await
                .map_err(StoreError::from)?;
            if page.rows.len() >= MAX_FILTERS {
                return Err(FilterError::TooMany);
            }
            let mut batch = Batch::new();
            batch.put::<tables::Filters>(&(user, id), &Raw(bytes));
            self.storage.commit(batch).await.map_err(StoreError::Commit)?;
        }
        Ok(URL_SAFE_NO_PAD.encode(id))
    }

    /// A user's filter by its id, as canonical JSON.
    pub async fn get(&self, user: UserNid, id: &str) -> Result<Option<String>, StoreError> {
        let id = URL_SAFE_NO_PAD.decode(id).ok().and_then(|bytes| <[u8; 12]>::try_from(bytes).ok());
        let Some(id) = id else { return Ok(None) };
        let row = self.storage.view().get::<tables::Filters>(&(user, id)).await?;
        Ok(row.map(|Raw(bytes)| String::from_utf8(bytes).expect("canonical JSON is UTF-8")))
    }

    /// Deletes all filters of a user.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete_prefix::<tables::Filters>(&(user,));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::World;

    fn filter(json: serde_json::Value) -> CanonicalJsonObject {
        serde_json::from_value(json).expect("canonical")
    }

    #[tokio::test]
    async fn the_same_filter_has_the_same_id() {
        let world = World::new().await;
        let filters = world.users.filters();
        let id =
            filters.store(UserNid(1), &filter(json!({"room": {}, "event_format": "client"}))).await.expect("stored");
        insta::assert_snapshot!(id, @"vz3YlYtB1o0PaPdv");
        let again =
            filters.store(UserNid(1), &filter(json!({"event_format": "client", "room": {}}))).await.expect("stored");
        assert_eq!(id, again);
        let stored = filters.get(UserNid(1), &id).await.expect("read");
        insta::assert_snapshot!(stored.expect("there"), @r#"{"event_format":"client","room":{}}"#);
        assert_eq!(filters.get(UserNid(2), &id).await.expect("read"), None);
        for unknown in ["", "0", "AAAAAAAAAAAAAAAA", "{}", "not base64!!"] {
            assert_eq!(filters.get(UserNid(1), unknown).await.expect("read"), None, "{unknown}");
        }
    }

    #[tokio::test]
    async fn filters_are_bounded() {
        let world = World::new().await;
        let filters = world.users.filters();
        let large = filter(json!({ "event_format": "x".repeat(MAX_FILTER_BYTES) }));
        assert!(matches!(filters.store(UserNid(1), &large).await, Err(FilterError::TooLarge)));
        for number in 0..MAX_FILTERS {
            filters.store(UserNid(1), &filter(json!({ "n": number }))).await.expect("stored");
        }
        assert!(matches!(filters.store(UserNid(1), &filter(json!({ "n": "more" }))).await, Err(FilterError::TooMany)));
        assert!(filters.store(UserNid(1), &filter(json!({ "n": 5 }))).await.is_ok(), "it is there already");
        assert!(filters.store(UserNid(2), &filter(json!({ "n": 5 }))).await.is_ok());
    }
}
