//! What is known of other servers. Table numbers 110–119. Written by the `federation-client` crate only.

use primitives::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::{Text, table::Versioned};

use super::tables;

tables! {
    /// The newest document in which a server published its keys, by server name.
    KeyDocuments = 110, "key_document", (Text,) => KeyDocumentRow;
    /// A key that a server signs or has signed with, by server name and key id. Stays when the server stops publishing it.
    ServerKeys = 111, "server_key", (Text, Text) => ServerKeyRow;
    /// The transactions of a server that are done, by its name: the newest few.
    InboundTransactions = 115, "inbound_transaction", (Text,) => DoneTransactionsRow;
}

/// A server's own word on its keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDocumentRow {
    /// When it was fetched.
    pub fetched: UnixMillis,
    /// Its `valid_until_ts`.
    pub valid_until: UnixMillis,
    /// The document as JSON, with its signatures.
    pub json: String,
}

/// A key of another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeyRow {
    /// The public half.
    pub public: [u8; 32],
    /// Until when it may be relied on: what the server said, but at most seven days after it was asked. For an expired key the time of that.
    pub valid_until: UnixMillis,
    /// The server doesn't sign with it any more.
    pub expired: bool,
}

/// Transactions of a server that are done, the newest last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneTransactionsRow(pub Vec<DoneTransaction>);

/// A transaction that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneTransaction {
    /// The keyed hash of its id.
    pub id: [u8; 16],
    /// When it was done.
    pub at: UnixMillis,
    /// What was answered, JSON.
    pub answer: String,
}

impl Versioned for KeyDocumentRow {
    const VERSION: u8 = 1;
}
impl Versioned for ServerKeyRow {
    const VERSION: u8 = 1;
}
impl Versioned for DoneTransactionsRow {
    const VERSION: u8 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::golden::golden;

    #[test]
    fn rows_are_golden() {
        let row = KeyDocumentRow { fetched: UnixMillis(1), valid_until: UnixMillis(300), json: "{}".to_owned() };
        assert_eq!(golden::<KeyDocuments>(&(Text::new("x.y"),), &row), "key_document 782e790000 = 0101ac02027b7d");
        let row = ServerKeyRow { public: [7; 32], valid_until: UnixMillis(5), expired: true };
        let public = "07".repeat(32);
        let key = (Text::new("x"), Text::new("ed25519:1"));
        assert_eq!(
            golden::<ServerKeys>(&key, &row),
            format!("server_key 780000656432353531393a310000 = 01{public}0501")
        );
        let done = DoneTransaction { id: [9; 16], at: UnixMillis(5), answer: "{}".to_owned() };
        let (id, row) = ("09".repeat(16), DoneTransactionsRow(vec![done]));
        let text = golden::<InboundTransactions>(&(Text::new("x"),), &row);
        assert_eq!(text, format!("inbound_transaction 780000 = 0101{id}05027b7d"));
    }
}
