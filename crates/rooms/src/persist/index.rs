//! What an event says of another: relations and redactions.

use primitives::{KeyedHash, Rix, RoomNid};
use ruma::EventId;
use serde::Deserialize;
use serde_json::Value;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{PendingRedactions, Redactions, RelationRow},
};

use super::Judged;
use crate::{Pdu, change::Change};

/// Redactions that may wait for one event: a bound on what strangers can make a later event look at.
pub(crate) const MAX_PENDING: usize = 100;

impl Change {
    /// Indexes an accepted event by what it relates to or redacts, and finds redactions of it that came before it.
    pub(crate) async fn index(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        if let Some(relation) = relation_of(&event.pdu, self.context.storage.hash()) {
            self.relate(&relation, event, rix).await?;
        }
        if let Some(target) = event.pdu.redacts() {
            self.redact(target, event, rix).await?;
        }
        self.apply_pending(event, rix).await
    }

    /// The key part for what is said of an event.
    pub(crate) fn target_hash(&self, event_id: &str) -> [u8; 16] {
        self.context.storage.hash().hash16(&[event_id.as_bytes()])
    }

    async fn redact(&mut self, target: &EventId, redaction: &Judged, rix: Rix) -> Result<(), ReadError> {
        let key = (self.memory.info.nid, self.target_hash(target.as_str()), rix);
        let Some(target) = self.find(target).await? else {
            self.batch.put::<PendingRedactions>(&key, &());
            self.new_pending.entry(key.1).or_default().push(rix);
            return Ok(());
        };
        let header = self.header(target).await?;
        let slice = self.redaction_slice(redaction.root_before).await?;
        if Self::redaction_applies(&redaction.pdu, &slice, &header) {
            self.put_redaction(&key, target).await?;
        }
        Ok(())
    }

    /// Announced before it is visible, as readers take a room without redactions for such.
    pub(crate) async fn put_redaction(&mut self, key: &(RoomNid, [u8; 16], Rix), target: Rix) -> Result<(), ReadError> {
        self.context.activity.redacts(key.0);
        self.batch.put::<Redactions>(key, &());
        self.unrelate(target).await
    }

    async fn apply_pending(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        // An event that was made here has an id that nobody knew before.
        if self.memory.stored.is_none() || event.relay {
            return Ok(());
        }
        let target = self.header(rix).await?;
        let prefix = (self.memory.info.nid, self.target_hash(&target.event_id));
        let waiting =
            self.view.scan::<PendingRedactions>(&KeyRange::prefix(&prefix), MAX_PENDING, Direction::Forward).await?;
        let stored = waiting.rows.into_iter().map(|(key, ())| key.2);
        let together = self.new_pending.remove(&prefix.1).unwrap_or_default();
        for waiting in stored.chain(together).take(MAX_PENDING) {
            let key = (prefix.0, prefix.1, waiting);
            let redaction = self.event(key.2).await?;
            if redaction.pdu.redacts() != Some(event.pdu.event_id()) {
                continue;
            }
            let slice = self.redaction_slice(redaction.header.root_before).await?;
            if Self::redaction_applies(&redaction.pdu, &slice, &target) {
                self.put_redaction(&key, rix).await?;
            }
            self.batch.delete::<PendingRedactions>(&key);
        }
        Ok(())
    }
}

/// The relation that an event's `m.relates_to` declares, if it is well-formed.
pub(crate) fn relation_of(pdu: &Pdu, hash: KeyedHash) -> Option<RelationRow> {
    if pdu.state_key().is_some() {
        return None;
    }
    let (rel_type, target) = relation_in(pdu.content().get())?;
    Some(RelationRow {
        rel_type,
        event_type: pdu.kind().to_owned(),
        sender: pdu.sender().to_string(),
        target,
        own_hash: hash.hash16(&[pdu.event_id().as_bytes()]),
    })
}

/// The `rel_type` and the event id of the relation that a content declares, if it is well-formed: in `m.relates_to`, or as MSC2836 has it, in
/// `m.relationship`.
pub(crate) fn relation_in(content: &str) -> Option<(String, String)> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: Option<Value>,
        #[serde(rename = "m.relationship")]
        relationship: Option<Value>,
    }
    if !content.contains("m.relat") {
        return None;
    }
    let Content { relates_to, relationship } = serde_json::from_str(content).ok()?;
    [relates_to, relationship].into_iter().flatten().find_map(|relation| {
        let text = |key: &str| relation.get(key)?.as_str().map(ToOwned::to_owned);
        let (rel_type, event_id) = (text("rel_type")?, text("event_id")?);
        <&EventId>::try_from(event_id.as_str()).is_ok().then_some((rel_type, event_id))
    })
}
