use primitives::{StreamPosition, UnixMillis, UserNid};

use super::Golden;
use crate::schema::services::*;

const USER: UserNid = UserNid(9);
const TIME: UnixMillis = UnixMillis(1_700_000_000_000);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    golden.row::<OpenIdTokens>((472_222, [5; 32]), OpenIdTokenRow { user: USER, expires: TIME });
    let (room_id, event_id) = ("!room:example.org".to_owned(), "$event".to_owned());
    let subjects = [
        ReportSubject::Event { room_id: room_id.clone(), event_id, sender: "@bob:example.org".to_owned() },
        ReportSubject::Room { room_id },
        ReportSubject::User { user_id: "@bob:example.org".to_owned() },
    ];
    for (at, subject) in (0x0001_0203_0405_0607..).zip(subjects) {
        let row = ReportRow { reporter: USER, made: TIME, subject, reason: "spam".to_owned() };
        golden.row::<Reports>((StreamPosition(at),), row);
    }
    golden.row::<ReportCounts>((USER,), 3);
    golden
}

#[test]
fn services() {
    insta::assert_snapshot!(rows().text, @r#"
    65 openid_token: 0007349e0505050505050505050505050505050505050505050505050505050505050505 = 010980d095ffbc31
    66 report: 0001020304050607 = 010980d095ffbc310011 '!room:example.org' 06 '$event' 10 '@bob:example.org' 04 'spam'
    66 report: 0001020304050608 = 010980d095ffbc310111 '!room:example.org' 04 'spam'
    66 report: 0001020304050609 = 010980d095ffbc310210 '@bob:example.org' 04 'spam'
    67 report_count: 00000009 = 0103
    "#);
}
