use primitives::{NodeId, Rank, Rix, RoomNid, Slot, StreamPosition, UserNid};

use super::Golden;
use crate::{Positioned, Raw, Text, schema::rooms::*};

const ROOM: RoomNid = RoomNid(3);
const USER: UserNid = UserNid(9);
const AT: StreamPosition = StreamPosition(0x0001_0203_0405_0607);

fn positioned<V>(value: V) -> Positioned<V> {
    Positioned { position: AT, value }
}

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    events(&mut golden);
    logs(&mut golden);
    state(&mut golden);
    members(&mut golden);
    partial(&mut golden);
    golden
}

fn partial(golden: &mut Golden) {
    let replaying = PartialStage::Replaying { next: 300, extremities: vec![Rix(5), Rix(6)], root: NodeId(7) };
    let room = |stage| positioned(PartialRoom { via: "b".to_owned(), stage });
    let event = PartialEvent {
        rix: Rix(300),
        prev: vec![Rix(5)],
        given: vec![NodeId(7)],
        awaits: vec!["$missing".to_owned()],
        begins: true,
    };
    golden
        .row::<PartialRooms>((ROOM,), room(PartialStage::Fetching))
        .row::<PartialRooms>((ROOM,), room(replaying))
        .row::<PartialRooms>((ROOM,), room(PartialStage::Whole { began: StreamPosition(300) }))
        .row::<PartialEvents>((ROOM, 300), event)
        .row::<PartialNotes>((ROOM, PartialNote::Server, Text::new("example.com")), ())
        .row::<PartialNotes>((ROOM, PartialNote::DeviceChange, Text::new("@a:b")), ());
}

fn events(golden: &mut Golden) {
    let header = EventHeader {
        event_id: "$event".to_owned(),
        origin_server_ts: 1_700_000_000_000,
        sender: "@alice:example.org".to_owned(),
        event_type: "m.room.member".to_owned(),
        state_key: Some("@alice:example.org".to_owned()),
        membership: Some(Membership::Invite),
        kind: EventKind::Backfilled,
        verdict: Verdict::SoftFailed("late".to_owned()),
        rank: Rank::FIRST,
        depth: 300,
        root_before: NodeId(1),
        root_after: NodeId(2),
        auth: vec![Rix(1), Rix(200)],
        prev: vec![Rix(4)],
    };
    let rejected = EventHeader {
        verdict: Verdict::Rejected("no".to_owned()),
        kind: EventKind::Outlier,
        membership: None,
        state_key: None,
        ..header.clone()
    };
    let head = RoomHead {
        extremities: vec![Rix(5), Rix(6)],
        root: NodeId(7),
        next_rix: 8,
        next_node: 9,
        next_slot: 10,
        next_member_slot: 11,
        max_rank: Rank::FIRST,
        depth: 12,
        purging: true,
    };
    let local =
        EventLocal { device_id: Some("DEVICE".to_owned()), transaction_id: Some("txn".to_owned()), delay_id: None };
    golden
        .row::<Rooms>((ROOM,), RoomRow { room_id: "!room:example.org".to_owned(), version: "12".to_owned() })
        .row::<RoomIds>((Text::new("!room:example.org"),), ROOM)
        .row::<RoomHeads>((ROOM,), head)
        .row::<EventHeaders>((ROOM, Rix(300)), positioned(header))
        .row::<EventHeaders>((ROOM, Rix(301)), positioned(rejected))
        .row::<EventJson>((ROOM, Rix(300)), Raw(b"{\"type\":\"m\"}".to_vec()))
        .row::<EventIds>((vec![0xEE; 32],), EventPlace { room: ROOM, rix: Rix(300) })
        .row::<EventIds>((b"\xFF$event:example.org".to_vec(),), EventPlace { room: ROOM, rix: Rix(1) })
        .row::<EventLocals>((ROOM, Rix(300)), local)
        .row::<Timeline>((ROOM, Rank::FIRST, Rix(300)), ())
        .row::<Gaps>((ROOM, Rank::FIRST), EventIdList(vec!["$missing".to_owned()]))
        .row::<MissingPrevs>((ROOM, Text::new("$missing")), RixList(vec![Rix(300)]))
        .row::<Relations>(
            (ROOM, [0xBB; 16], RelationKind::Thread, Rank::FIRST, Rix(302)),
            RelationRow {
                rel_type: "m.thread".to_owned(),
                event_type: "m.room.message".to_owned(),
                sender: "@a:b".to_owned(),
                target: "$event".to_owned(),
                own_hash: [0xCC; 16],
            },
        )
        .row::<Redactions>((ROOM, [0xBB; 16], Rix(303)), ())
        .row::<PendingRedactions>((ROOM, [0xBB; 16], Rix(304)), ())
        .row::<AuthPages>((ROOM, 1), Raw(vec![4, 5, 6]))
        .row::<PublishedRooms>((ROOM,), ());
}

fn logs(golden: &mut Golden) {
    let event =
        |changed| RoomLogEntry::Event { rix: Rix(300), rank: Rank::FIRST, root: NodeId(2), changed, relay: true };
    let membership = UserLogEntry::Membership {
        room: ROOM,
        membership: Membership::Join,
        rix: Rix(300),
        before: Some(Membership::Knock),
    };
    golden
        .row::<RoomLog>((ROOM, AT, 0), event(Some(vec![Slot(1), Slot(0x8000_0000)])))
        .row::<RoomLog>((ROOM, AT, 1), event(None))
        .row::<RoomLog>((ROOM, AT, 2), RoomLogEntry::Reset { old: NodeId(1), new: NodeId(2) })
        .row::<RoomLog>((ROOM, AT, 3), RoomLogEntry::DeviceChange { user_id: "@a:b".to_owned() })
        .row::<RoomLog>((ROOM, AT, 4), RoomLogEntry::Whole { old: NodeId(1), new: NodeId(2) })
        .row::<LastDeviceChanges>((ROOM, Text::new("@a:b")), Positioned { position: AT, value: LastDeviceChangeRow {} })
        .row::<UserLog>((USER, AT, 0), membership)
        .row::<UserLog>((USER, AT, 1), UserLogEntry::OutOfBand { room: ROOM, membership: Membership::Leave })
        .row::<UserLog>((USER, AT, 2), UserLogEntry::Forget { room: ROOM })
        .row::<UserLog>((USER, AT, 3), UserLogEntry::AccountData { room: None, data_type: "m.direct".to_owned() })
        .row::<UserLog>((USER, AT, 4), UserLogEntry::DeviceList { user_id: Some("@a:b".to_owned()) })
        .row::<UserLog>((USER, AT, 5), UserLogEntry::DeviceList { user_id: None });
}

fn state(golden: &mut Golden) {
    golden
        .row::<Slots>((ROOM, [0xCC; 8]), SlotList(vec![Slot(1), Slot(0x8000_0000)]))
        .row::<SlotKeys>((ROOM, Slot(1)), SlotKey { event_type: "m.room.name".to_owned(), state_key: String::new() })
        .row::<StateNodes>((ROOM, NodeId(2)), Raw(vec![1, 2, 3]))
        .row::<RoomServerSlots>((ROOM, Text::new("example.com"), Slot(0x8000_0001)), ())
        .row::<AuthPages>((ROOM, 2), Raw(vec![1, 2, 3]));
}

fn members(golden: &mut Golden) {
    let invite = OutOfBandRow {
        membership: Membership::Invite,
        room_id: "!r:c".to_owned(),
        room_version: "12".to_owned(),
        sender: "@b:c".to_owned(),
        server: "c".to_owned(),
        event: b"{}".to_vec(),
        stripped_state: b"[]".to_vec(),
    };
    golden
        .row::<Memberships>(
            (USER, ROOM),
            positioned(MembershipRow { membership: Membership::Ban, rix: Rix(300), forgotten: true }),
        )
        .row::<LocalMembers>((ROOM, USER), Membership::Join)
        .row::<OutOfBand>((USER, ROOM), positioned(invite))
        .row::<Aliases>(
            (Text::new("#a:example.org"),),
            AliasRow { room_id: "!r".to_owned(), creator: "@alice:example.org".to_owned() },
        )
        .row::<RoomAliases>((Text::new("!r"), Text::new("#a:example.org")), ());
}

#[test]
fn rooms() {
    insta::assert_snapshot!(rows().text, @r#"
    10 room: 00000003 = 0111 '!room:example.org' 023132
    11 room_id: '!room:example.org' 0000 = 0103
    12 room_head: 00000003 = 010205060708090a0b8080808080200c01
    13 event_header: 000000030000012c = 00010203040506070106 '$event' 80d095ffbc3112 '@alice:example.org' 0d 'm.room.member' 0112 '@alice:example.org' 0101010104 'late' 808080808020ac0201020201c8010104
    13 event_header: 000000030000012d = 00010203040506070106 '$event' 80d095ffbc3112 '@alice:example.org' 0d 'm.room.member' 00000202026e6f808080808020ac0201020201c8010104
    14 event_json: 000000030000012c = '{"type":"m"}'
    15 event_id: eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee = 0103ac02
    15 event_id: ff '$event:example.org' = 010301
    16 event_local: 000000030000012c = 010106 'DEVICE' 0103 'txn' 00
    17 timeline: 0000000300000100000000000000012c = -
    18 gap: 000000030000010000000000 = 010108 '$missing'
    19 missing_prev: 00000003 '$missing' 0000 = 0101ac02
    25 relation: 00000003bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0200000100000000000000012e = 0108 'm.thread' 0e 'm.room.message' 04 '@a:b' 06 '$event' cccccccccccccccccccccccccccccccc
    26 redaction: 00000003bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb0000012f = -
    34 pending_redaction: 00000003bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb00000130 = -
    33 auth_page: 0000000300000001 = 040506
    35 published_room: 00000003 = -
    20 room_log: 0000000300010203040506070000 = 0100ac0280808080802002010201808080800801
    20 room_log: 0000000300010203040506070001 = 0100ac02808080808020020001
    20 room_log: 0000000300010203040506070002 = 01010102
    20 room_log: 0000000300010203040506070003 = 010204 '@a:b'
    20 room_log: 0000000300010203040506070004 = 01030102
    89 last_device_change: 00000003 '@a:b' 0000 = 000102030405060701
    21 user_log: 0000000900010203040506070000 = 01000300ac020104
    21 user_log: 0000000900010203040506070001 = 01010302
    21 user_log: 0000000900010203040506070002 = 010203
    21 user_log: 0000000900010203040506070003 = 01030008 'm.direct'
    21 user_log: 0000000900010203040506070004 = 01040104 '@a:b'
    21 user_log: 0000000900010203040506070005 = 010400
    22 slot: 00000003cccccccccccccccc = 0102018080808008
    23 slot_key: 0000000300000001 = 010b 'm.room.name' 00
    24 state_node: 0000000300000002 = 010203
    32 room_server_slot: 00000003 'example.com' 000080000001 = -
    33 auth_page: 0000000300000002 = 010203
    27 membership: 0000000900000003 = 00010203040506070103ac0201
    28 local_member: 0000000300000009 = 0100
    29 out_of_band large: 0000000900000003 = 0001020304050607010104 '!r:c' 02313204 '@b:c' 0163027b7d025b5d
    30 alias: '#a:example.org' 0000 = 0102217212 '@alice:example.org'
    31 room_alias: 21720000 '#a:example.org' 0000 = -
    47 partial_room: 00000003 = 000102030405060701016200
    47 partial_room: 00000003 = 000102030405060701016201ac0202050607
    47 partial_room: 00000003 = 000102030405060701016202ac02
    48 partial_event: 000000030000012c = 01ac02010501070108 '$missing' 01
    49 partial_note: 0000000300 'example.com' 0000 = -
    49 partial_note: 0000000301 '@a:b' 0000 = -
    "#);
}
