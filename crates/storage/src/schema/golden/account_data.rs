use primitives::{RoomNid, StreamPosition, UserNid};

use super::Golden;
use crate::{
    Positioned, Text,
    schema::account_data::{AccountData, AccountDataRow, GLOBAL, PresenceRow, StatusMessages},
};

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let row = |content: Option<&str>| Positioned {
        position: StreamPosition(0x0102_0304),
        value: AccountDataRow { content: content.map(ToOwned::to_owned), log_index: 0x8000 },
    };
    golden
        .row::<AccountData>((UserNid(7), GLOBAL, Text::new("m.direct")), row(Some("{}")))
        .row::<AccountData>((UserNid(7), RoomNid(3), Text::new("m.tag")), row(None))
        .row::<StatusMessages>((UserNid(7),), PresenceRow { status_msg: "here".to_owned() });
    golden
}

#[test]
fn account_data() {
    insta::assert_snapshot!(rows().text, @"
    61 account_data large: 0000000700000000 'm.direct' 0000 = 00000000010203040101027b7d808002
    61 account_data large: 0000000700000003 'm.tag' 0000 = 00000000010203040100808002
    62 status_message: 00000007 = 0104 'here'
    ");
}
