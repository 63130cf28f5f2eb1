use super::Golden;
use crate::{
    Raw, Text,
    schema::meta::{Chunks, Counters, Database, DatabaseRow, Position},
};

pub(super) fn rows() -> Golden {
    let mut golden = Golden::default();
    let database = DatabaseRow {
        schema: 1,
        server_name: "example.org".to_owned(),
        epoch: 0x0123_4567_89AB_CDEF,
        hash_key: [0xA5; 16],
    };
    golden
        .row::<Database>((), database)
        .row::<Position>((), 448_000_000_000_001)
        .row::<Counters>((Text::new("room"),), 7)
        .row::<Chunks>((b"\xF1key\0\x02".to_vec(),), Raw(b"part".to_vec()));
    golden
}

#[test]
fn meta() {
    insta::assert_snapshot!(rows().text, @r#"
    1 database: - = 01010b 'example.org' ef9bafcdf8acd19101a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5
    2 position: - = 018180f086c2ee65
    3 counter: 'room' 0000 = 0107
    9 chunk: f1 'key' 0002 = 'part'
    "#);
}
