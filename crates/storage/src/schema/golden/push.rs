use primitives::{StreamPosition, UserNid};

use super::Golden;
use crate::{Positioned, Raw, schema::push::*};

const USER: UserNid = UserNid(9);
const AT: StreamPosition = StreamPosition(0x0001_0203_0405_0607);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    golden
        .row::<PushRules>((USER,), Raw(b"{}".to_vec()))
        .row::<PushRulesChanges>((USER,), Positioned { position: AT, value: Changed });
    golden
}

#[test]
fn push() {
    insta::assert_snapshot!(rows().text, @r#"
    63 push_rules large: 00000009 = 7b7d
    64 push_rules_change: 00000009 = 000102030405060701
    "#);
}
