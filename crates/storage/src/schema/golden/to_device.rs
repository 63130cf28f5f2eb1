use primitives::{StreamPosition, UnixMillis, UserNid};

use super::Golden;
use crate::{Text, schema::to_device::*};

const AT: StreamPosition = StreamPosition(0x0001_0203_0405_0607);
const TIME: UnixMillis = UnixMillis(1_700_000_000_000);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    golden
        .row::<ToDevice>((UserNid(9), Text::new("PHONE"), AT), ToDeviceRow { received: TIME, event: "{}".to_owned() })
        .row::<ToDeviceOutbox>((Text::new("hs2"), AT), ToDeviceOutboxRow { received: TIME, content: "{}".to_owned() });
    golden
}

#[test]
fn to_device() {
    insta::assert_snapshot!(rows().text, @r#"
    77 to_device: 00000009 'PHONE' 00000001020304050607 = 0180d095ffbc31027b7d
    78 to_device_outbox large: 'hs2' 00000001020304050607 = 0180d095ffbc31027b7d
    "#);
}
