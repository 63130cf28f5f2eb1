use primitives::{Rank, Rix, RoomNid, StreamPosition, UserNid};

use super::Golden;
use crate::{Positioned, Text, schema::history::*};

const ROOM: RoomNid = RoomNid(3);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let counts =
        RelationCountRow { replacements: 1, references: 2, threaded: 300, latest: Some((Rank::FIRST, Rix(7))) };
    let subscription = ThreadSubscriptionRow { subscribed: true, automatic: false };
    let subscription = Positioned { position: StreamPosition(0x0001_0203_0405_0607), value: subscription };
    golden
        .row::<RelationCounts>((ROOM, [0xBB; 16]), counts)
        .row::<ThreadSenders>((ROOM, [0xBB; 16], [0xCC; 8]), ThreadSenderRow { count: 4 })
        .row::<Threads>((ROOM, Rank::FIRST, Rix(7)), ThreadRow { root: "$root".to_owned() })
        .row::<ThreadSubscriptions>((UserNid(9), ROOM, Text::new("$root")), subscription)
        .row::<ThreadSubscriptionLog>(
            (UserNid(9), StreamPosition(7)),
            ThreadSubscriptionLogRow { room: ROOM, root: "$root".to_owned() },
        );
    golden
}

#[test]
fn history() {
    insta::assert_snapshot!(rows().text, @r#"
    44 relation_count: 00000003bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb = 010102ac020180808080802007
    45 thread_sender: 00000003bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbcccccccccccccccc = 0104
    46 thread: 00000003000001000000000000000007 = 0105 '$root'
    68 thread_subscription: 0000000900000003 '$root' 0000 = 0001020304050607010100
    105 thread_subscription_log: 000000090000000000000007 = 010305 '$root'
    "#);
}
