//! The rows in which keys are kept.

use primitives::{UnixMillis, canonical};
use ruma::{ServerName, ServerSigningKeyId};
use storage::{
    Batch, CommitError, ReadError, Storage, Text,
    schema::federation::{KeyDocumentRow, KeyDocuments, ServerKeyRow, ServerKeys},
};

use super::{KeyDocument, RELIED_ON_MAX};

/// A key as it is known.
pub(super) async fn key(
    storage: &Storage,
    server: &ServerName,
    key_id: &ServerSigningKeyId,
) -> Result<Option<ServerKeyRow>, ReadError> {
    storage.view().get::<ServerKeys>(&(Text::new(server.as_str()), Text::new(key_id.as_str()))).await
}

/// The newest document of a server.
pub(super) async fn document(storage: &Storage, server: &ServerName) -> Result<Option<KeyDocument>, ReadError> {
    let row = storage.view().get::<KeyDocuments>(&(Text::new(server.as_str()),)).await?;
    let checked = row.and_then(|row| {
        let json = canonical::parse_object(row.json.as_bytes()).ok()?;
        KeyDocument::check(json, server).ok()
    });
    Ok(checked)
}

/// Keeps a document and its keys. Keys that it doesn't list stay as they are known.
pub(super) async fn keep(storage: &Storage, document: &KeyDocument, now: UnixMillis) -> Result<(), CommitError> {
    let server = || Text::new(document.server.as_str());
    let json = String::from_utf8_lossy(&canonical::to_bytes(&document.json)).into_owned();
    let mut batch = Batch::new();
    let row = KeyDocumentRow { fetched: now, valid_until: document.valid_until, json };
    batch.put::<KeyDocuments>(&(server(),), &row);
    let until = document.valid_until.min(now.plus(RELIED_ON_MAX));
    for (id, public) in &document.current {
        let row = ServerKeyRow { public: *public, valid_until: until, expired: false };
        batch.put::<ServerKeys>(&(server(), Text::new(id.as_str())), &row);
    }
    for (id, (public, expired)) in &document.old {
        let row = ServerKeyRow { public: *public, valid_until: *expired, expired: true };
        batch.put::<ServerKeys>(&(server(), Text::new(id.as_str())), &row);
    }
    storage.commit(batch).await.map(drop)
}
