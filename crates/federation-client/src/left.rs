//! Events of transactions that were answered before their rooms had judged them: kept until they are judged, so that a kill loses none.

use primitives::StreamPosition;
use ruma::{OwnedServerName, ServerName};
use serde_json::value::RawValue;
use storage::{
    Batch, Direction, KeyRange, ReadError, Storage, Text,
    schema::federation::{LeftPduRow, LeftPdus as Rows},
};

use crate::ReceivedError;

/// Rows that one page of a scan reads.
const PAGE: usize = 50;

/// Some events of one room and one transaction, as they are kept.
#[derive(Clone, Debug)]
pub struct Left {
    /// The server that sent them.
    pub origin: OwnedServerName,
    /// The room that they say they are of.
    pub room_id: String,
    /// They, in the order in which they came. Empty in what [`LeftPdus::keep`] gives.
    pub pdus: Vec<Box<RawValue>>,
    at: StreamPosition,
}

/// The events that were left to their rooms. Cheap to clone.
#[derive(Clone)]
pub struct LeftPdus {
    storage: Storage,
}

impl std::fmt::Debug for LeftPdus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeftPdus")
    }
}

impl LeftPdus {
    /// Keeps them in the store.
    pub fn new(storage: Storage) -> Self {
        Self { storage }
    }

    /// Keeps the events of one room and one transaction. They are durable when this returns.
    ///
    /// # Errors
    /// The store can't be written, or they are more than one batch holds.
    pub async fn keep(
        &self,
        origin: &ServerName,
        room_id: &str,
        pdus: &[Box<RawValue>],
    ) -> Result<Left, ReceivedError> {
        let mut batch = Batch::new();
        for (at, pdu) in (0_u16..).zip(pdus) {
            let row = LeftPduRow { room_id: room_id.to_owned(), json: pdu.get().to_owned() };
            batch.put::<Rows>(&(Text::new(origin.as_str()), StreamPosition::PENDING, at), &row);
        }
        let at = self.storage.commit(batch).await?;
        Ok(Left { origin: origin.to_owned(), room_id: room_id.to_owned(), pdus: Vec::new(), at })
    }

    /// Lets go of what has been judged.
    ///
    /// # Errors
    /// The store can't be written; then it is judged once more after the next start, which changes nothing.
    pub async fn judged(&self, left: &Left) -> Result<(), ReceivedError> {
        let mut batch = Batch::new();
        batch.delete_prefix::<Rows>(&(Text::new(left.origin.as_str()), left.at));
        Ok(self.storage.commit(batch).await.map(drop)?)
    }

    /// The first that are kept after some others; those of the beginning after `None`. `None`: there are no more.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn next(&self, after: Option<&Left>) -> Result<Option<Left>, ReadError> {
        let view = self.storage.view();
        let range = match after {
            Some(left) => KeyRange::from(&(), &(Text::new(left.origin.as_str()), left.at.next())),
            None => KeyRange::prefix(&()),
        };
        let page = view.scan::<Rows>(&range, 1, Direction::Forward).await?;
        let Some(((origin, at, _), _)) = page.rows.into_iter().next() else { return Ok(None) };
        let mut rest = Some(KeyRange::prefix(&(origin.clone(), at)));
        let (mut room_id, mut pdus) = (String::new(), Vec::new());
        while let Some(range) = rest {
            let page = view.scan::<Rows>(&range, PAGE, Direction::Forward).await?;
            for (_, row) in page.rows {
                room_id = row.room_id;
                pdus.extend(RawValue::from_string(row.json));
            }
            rest = page.rest;
        }
        let named = OwnedServerName::try_from(origin.0.as_str());
        let bad = |error: ruma::IdParseError| {
            let (table, reason) = (<Rows as storage::Table>::NAME, error.to_string());
            ReadError::Corrupt(storage::CorruptValue { table, reason })
        };
        Ok(Some(Left { origin: named.map_err(bad)?, room_id, pdus, at }))
    }
}

#[cfg(test)]
mod tests {
    use primitives::{ManualClock, Random, SharedClock, UnixMillis};
    use ruma::server_name;

    use super::*;

    fn pdus(names: &[&str]) -> Vec<Box<RawValue>> {
        names.iter().map(|name| RawValue::from_string(format!("{{\"n\":\"{name}\"}}")).expect("JSON")).collect()
    }

    #[tokio::test]
    async fn what_is_kept_is_there_in_its_order_until_it_is_judged() {
        let clock: SharedClock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let left = LeftPdus::new(Storage::memory(&clock, &Random::seeded(1)));
        assert!(left.next(None).await.expect("read").is_none());
        let first = left.keep(server_name!("a.test"), "!r:a", &pdus(&["1", "2"])).await.expect("kept");
        left.keep(server_name!("a.test"), "!s:a", &pdus(&["3"])).await.expect("kept");
        left.keep(server_name!("b.test"), "!r:a", &pdus(&["4"])).await.expect("kept");
        let (mut seen, mut last) = (Vec::new(), None);
        while let Some(next) = left.next(last.as_ref()).await.expect("read") {
            let all: Vec<_> = next.pdus.iter().map(|pdu| pdu.get().to_owned()).collect();
            seen.push(format!("{} {} {}", next.origin, next.room_id, all.join(",")));
            last = Some(next);
        }
        assert_eq!(
            seen,
            [r#"a.test !r:a {"n":"1"},{"n":"2"}"#, r#"a.test !s:a {"n":"3"}"#, r#"b.test !r:a {"n":"4"}"#]
        );
        left.judged(&first).await.expect("written");
        let next = left.next(None).await.expect("read").expect("more");
        assert_eq!((next.room_id.as_str(), next.pdus.len()), ("!s:a", 1));
    }
}
