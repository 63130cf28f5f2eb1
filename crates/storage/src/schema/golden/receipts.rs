use primitives::{RoomNid, StreamPosition};

use super::Golden;
use crate::{
    Positioned, Text,
    schema::receipts::{PRIVATE, PUBLIC, ReceiptLog, ReceiptLogRow, ReceiptRow, Receipts},
};

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let (room, position) = (RoomNid(3), StreamPosition(0x0102_0304));
    let receipt = ReceiptRow { event_id: "$event".to_owned(), ts: 1_700_000_000_000, log_index: 1 };
    let moved = ReceiptLogRow { user_id: "@bob:hs1".to_owned(), kind: PRIVATE, thread: "$root".to_owned() };
    golden
        .row::<Receipts>(
            (room, Text::new("@bob:hs1"), PUBLIC, Text::new("")),
            Positioned { position, value: receipt.clone() },
        )
        .row::<Receipts>(
            (room, Text::new("@bob:hs1"), PRIVATE, Text::new("$root")),
            Positioned { position, value: receipt },
        )
        .row::<ReceiptLog>((room, position, 1), moved);
    golden
}

#[test]
fn receipts() {
    insta::assert_snapshot!(rows().text, @"
    36 receipt: 00000003 '@bob:hs1' 0000000000 = 00000000010203040106 '$event' 80d095ffbc3101
    36 receipt: 00000003 '@bob:hs1' 000001 '$root' 0000 = 00000000010203040106 '$event' 80d095ffbc3101
    37 receipt_log: 0000000300000000010203040001 = 0108 '@bob:hs1' 0105 '$root'
    ");
}
