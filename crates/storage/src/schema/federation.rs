//! What is known of other servers. Table numbers 110–119. Written by the `federation-client` crate only.

use primitives::{Rix, RoomNid, StreamPosition, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::Text;

use super::{tables, version_one};

tables! {
    /// The newest document in which a server published its keys, by server name.
    KeyDocuments = 110, "key_document", (Text,) => KeyDocumentRow;
    /// A key that a server signs or has signed with, by server name and key id. Stays when the server stops publishing it.
    ServerKeys = 111, "server_key", (Text, Text) => ServerKeyRow;
    /// How far a server has acknowledged what was sent to it, and how long it is left alone. Under this server's own name stands up to where the
    /// logs of all rooms have been followed.
    Destinations = 112, "destination", (Text,) => DestinationRow;
    /// The newest event of a room that a server has not acknowledged: what it is sent once it can be reached again. Only for servers that can't
    /// be reached or keep up; gone when the event is acknowledged.
    DestinationRooms = 113, "destination_room", (Text, RoomNid) => DestinationRoomRow;
    /// A user of this server whose list of devices has changed since a server was told of it: by server and user id. Gone when it is acknowledged.
    DeviceListMarks = 114, "device_list_mark", (Text, Text) => DeviceListMarkRow;
    /// The transactions of a server that are done, by its name: the newest few.
    InboundTransactions = 115, "inbound_transaction", (Text,) => DoneTransactionsRow;
    /// Events of a transaction that was answered before their room had judged them: by the server that sent them, when they were kept, and their order. Gone when the room
    /// has judged them.
    LeftPdus = 118, "left_pdu", (Text, StreamPosition, u16) => LeftPduRow, large;
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

/// An event that was left to its room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPduRow {
    /// The room that it says it is of.
    pub room_id: String,
    /// Its JSON, as it came.
    pub json: String,
}

/// A server that this one sends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRow {
    /// Everything that rooms' logs have for it up to here is acknowledged, but for what [`DestinationRooms`] says.
    pub acknowledged: StreamPosition,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked again after the last of them.
    pub retry_at: UnixMillis,
}

/// An event that a server is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRoomRow {
    /// The event's position in the room's log.
    pub position: StreamPosition,
    /// The event.
    pub rix: Rix,
}

/// A list of devices that a server is to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceListMarkRow {
    /// Up to which of its changes the server has been told; zero: it never was.
    pub since: StreamPosition,
    /// When it changed last.
    pub changed: StreamPosition,
}

version_one!(
    DeviceListMarkRow,
    DestinationRow,
    DestinationRoomRow,
    KeyDocumentRow,
    ServerKeyRow,
    DoneTransactionsRow,
    LeftPduRow,
);

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
        let row = LeftPduRow { room_id: "!r".to_owned(), json: "{}".to_owned() };
        let key = (Text::new("x"), StreamPosition(7), 1);
        assert_eq!(golden::<LeftPdus>(&key, &row), "left_pdu 78000000000000000000070001 = 01022172027b7d");
    }

    #[test]
    fn rows_of_destinations_are_golden() {
        let row = DestinationRow { acknowledged: StreamPosition(300), failures: 2, retry_at: UnixMillis(5) };
        assert_eq!(golden::<Destinations>(&(Text::new("x.y"),), &row), "destination 782e790000 = 01ac020205");
        let row = DestinationRoomRow { position: StreamPosition(300), rix: Rix(7) };
        assert_eq!(
            golden::<DestinationRooms>(&(Text::new("x"), RoomNid(3)), &row),
            "destination_room 78000000000003 = 01ac0207"
        );
        let key = (Text::new("x"), Text::new("@a:b"));
        assert_eq!(
            golden::<DeviceListMarks>(
                &key,
                &DeviceListMarkRow { since: StreamPosition(5), changed: StreamPosition(300) }
            ),
            "device_list_mark 78000040613a620000 = 0105ac02"
        );
    }
}
