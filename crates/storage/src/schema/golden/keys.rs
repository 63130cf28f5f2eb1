use primitives::{StreamPosition, UserNid};

use super::Golden;
use crate::{
    Positioned, Text,
    schema::keys::{
        CrossSigning, CrossSigningRow, DeviceKeyStateRow, DeviceKeyStates, DeviceKeys, DeviceKeysRow, DeviceListRow,
        DeviceLists, FallbackKey, KeySignatures, KeySignaturesRow, OneTimeKeyIdRow, OneTimeKeyIds, OneTimeKeyRow,
        OneTimeKeys,
    },
};

const USER: UserNid = UserNid(7);
const AT: StreamPosition = StreamPosition(0x0102_0304);

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let (device, algorithm) = (Text::new("DEVICE"), Text::new("signed_curve25519"));
    let key = OneTimeKeyRow { key_id: "AAAA".to_owned(), json: "{\"key\":1}".to_owned() };
    let fallback = FallbackKey {
        algorithm: "signed_curve25519".to_owned(),
        key_id: "BBBB".to_owned(),
        json: "{\"key\":2}".to_owned(),
        used: true,
    };
    let state =
        DeviceKeyStateRow { counts: vec![("signed_curve25519".to_owned(), 50)], claimed: 2, fallback: vec![fallback] };
    let cross_signing = CrossSigningRow { master: Some("{}".to_owned()), ..CrossSigningRow::default() };
    let signatures = KeySignaturesRow {
        master_key: "master".to_owned(),
        signatures: vec![("ed25519:user".to_owned(), "signature".to_owned())],
        log_index: 0x4000,
    };
    golden
        .row::<DeviceKeys>((USER, device.clone()), DeviceKeysRow { json: "{}".to_owned() })
        .row::<OneTimeKeys>((USER, device.clone(), algorithm.clone(), AT, 3), key)
        .row::<OneTimeKeyIds>(
            (USER, device.clone(), algorithm, Text::new("AAAA")),
            Positioned { position: AT, value: OneTimeKeyIdRow { digest: [0xDD; 32], claimed: true } },
        )
        .row::<DeviceKeyStates>((USER, device), state)
        .row::<CrossSigning>((USER,), cross_signing)
        .row::<KeySignatures>((USER, Text::new("@bob:hs1")), Positioned { position: AT, value: signatures })
        .row::<DeviceLists>((USER,), Positioned { position: AT, value: DeviceListRow { log_index: 0x4000 } });
    golden
}

#[test]
fn keys() {
    insta::assert_snapshot!(rows().text, @r#"
    70 device_keys: 00000007 'DEVICE' 0000 = 01027b7d
    71 one_time_key: 00000007 'DEVICE' 0000 'signed_curve25519' 000000000000010203040003 = 0104 'AAAA' 09 '{"key":1}'
    72 one_time_key_id: 00000007 'DEVICE' 0000 'signed_curve25519' 0000 'AAAA' 0000 = 000000000102030401dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd01
    73 device_key_state: 00000007 'DEVICE' 0000 = 010111 'signed_curve255192' 020111 'signed_curve25519' 04 'BBBB' 09 '{"key":2}' 01
    74 cross_signing: 00000007 = 0101027b7d0000
    75 key_signature: 00000007 '@bob:hs1' 0000 = 00000000010203040106 'master' 010c 'ed25519:user' 09 'signature' 808001
    76 device_list: 00000007 = 000000000102030401808001
    "#);
}
