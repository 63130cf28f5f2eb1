use primitives::{StreamPosition, UserNid};

use super::Golden;
use crate::{Positioned, Text, schema::remote_devices::*};

const AT: StreamPosition = StreamPosition(0x0102_0304);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let (user, device) = (Text::new("@a:hs2"), Text::new("PHONE"));
    let list = RemoteListRow {
        current: true,
        unanswered: false,
        known: vec![3, -1],
        master: Some("{}".to_owned()),
        self_signing: None,
    };
    let remote = RemoteDeviceRow { json: "{}".to_owned(), display_name: Some("phone".to_owned()) };
    let stream = DeviceStreamRow {
        marked: StreamPosition(5),
        all_marked: false,
        of_device: true,
        recent: vec![StreamPosition(4), StreamPosition(5)],
        forgotten: StreamPosition(2),
    };
    golden
        .row::<RemoteLists>((user.clone(),), Positioned { position: AT, value: list })
        .row::<RemoteDevices>((user.clone(), device.clone()), remote)
        .row::<StaleLists>((Text::new("hs2"), user), ())
        .row::<DeviceStreams>((UserNid(7),), Positioned { position: AT, value: stream })
        .row::<DeviceStreamChanges>(
            (UserNid(7), device),
            Positioned { position: AT, value: DeviceStreamChangeRow { deleted: true } },
        );
    golden
}

#[test]
fn remote_devices() {
    insta::assert_snapshot!(rows().text, @r#"
    84 remote_list: '@a:hs2' 0000 = 000000000102030401010002060101027b7d00
    85 remote_device: '@a:hs2' 0000 'PHONE' 0000 = 01027b7d0105 'phone'
    86 stale_list: 'hs2' 0000 '@a:hs2' 0000 = -
    87 device_stream: 00000007 = 00000000010203040105000102040502
    88 device_stream_change: 00000007 'PHONE' 0000 = 00000000010203040101
    "#);
}
