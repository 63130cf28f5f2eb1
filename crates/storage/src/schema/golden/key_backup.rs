use primitives::UserNid;

use super::Golden;
use crate::{Text, schema::key_backup::*};

const USER: UserNid = UserNid(9);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let backup = KeyBackupRow { algorithm: "alg".to_owned(), auth_data: "{}".to_owned(), etag: 7, count: 300 };
    let session = KeyBackupSessionRow {
        first_message_index: 1,
        forwarded_count: 2,
        is_verified: true,
        session_data: "{}".to_owned(),
    };
    golden
        .row::<KeyBackups>((USER, 2), backup)
        .row::<KeyBackupVersions>((USER,), KeyBackupVersionsRow { last: 2, count: 1 })
        .row::<KeyBackupSessions>((USER, 2, Text::new("!room"), Text::new("session")), session)
        .row::<DehydratedDevices>(
            (USER,),
            DehydratedDeviceRow { device: "KEPT".to_owned(), data: "{}".to_owned(), ready: true },
        );
    golden
}

#[test]
fn key_backup() {
    insta::assert_snapshot!(rows().text, @r#"
    80 key_backup: 000000090000000000000002 = 0103 'alg' 027b7d07ac02
    81 key_backup_versions: 00000009 = 010201
    82 key_backup_session: 000000090000000000000002 '!room' 0000 'session' 0000 = 01010201027b7d
    83 dehydrated_device: 00000009 = 0104 'KEPT' 027b7d01
    "#);
}
