use primitives::{Rix, RoomNid, StreamPosition, UserNid};

use super::Golden;
use crate::{Positioned, Raw, schema::push::*};

const USER: UserNid = UserNid(9);
const AT: StreamPosition = StreamPosition(0x0001_0203_0405_0607);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let counts = CountRow {
        upto: StreamPosition(5),
        rules: StreamPosition(4),
        member: StreamPosition(3),
        since: Some((StreamPosition(2), Rix(1))),
        main: (300, 1),
        threads: vec![("$root".to_owned(), (2, 0))],
    };
    golden
        .row::<Counts>((USER, RoomNid(3)), counts)
        .row::<PushRules>((USER,), Raw(b"{}".to_vec()))
        .row::<PushRulesChanges>((USER,), Positioned { position: AT, value: Changed });
    golden
}

#[test]
fn push() {
    insta::assert_snapshot!(rows().text, @r#"
    38 count: 0000000900000003 = 01050403010201ac02010105 '$root' 0200
    63 push_rules large: 00000009 = 7b7d
    64 push_rules_change: 00000009 = 000102030405060701
    "#);
}
