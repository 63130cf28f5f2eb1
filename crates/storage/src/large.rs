//! Values over the bound, kept in parts. Only tables declared `large` have them.
//!
//! The row of such a table holds `00` and the value, or `01` and the number of parts (2 bytes); part *n* is the row
//! `row key ‖ n` of the table `chunk`.

use crate::{
    MAX_VALUE_BYTES, Table, TableId,
    engine::{EngineError, Snapshot, Write},
    schema::meta::Chunks,
};

const WHOLE: u8 = 0;
const PARTS: u8 = 1;

/// The row key of a part, or with no number the front of all parts' row keys.
pub(crate) fn part_key(row: &[u8], number: Option<u16>) -> Vec<u8> {
    let mut key = Vec::with_capacity(row.len() + 3);
    key.push(Chunks::ID.0);
    key.extend_from_slice(row);
    key.extend(number.iter().flat_map(|n| n.to_be_bytes()));
    key
}

/// How many parts the stored head of a value speaks of.
fn parts(head: &[u8]) -> u16 {
    match head {
        [PARTS, high, low] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

/// How many parts are stored for a row.
pub(crate) fn stored_parts(snapshot: &Snapshot, row: &[u8]) -> Result<u16, EngineError> {
    Ok(snapshot.get(row, parts)?.unwrap_or_default())
}

/// The writes that store a value; answers with the number of its parts.
pub(crate) fn put(row: Vec<u8>, value: &[u8], writes: &mut Vec<Write>) -> u16 {
    if value.len() < MAX_VALUE_BYTES {
        writes.push(Write::Put { key: row, value: [&[WHOLE], value].concat() });
        return 0;
    }
    let mut count = 0;
    for part in value.chunks(MAX_VALUE_BYTES) {
        writes.push(Write::Put { key: part_key(&row, Some(count)), value: part.to_vec() });
        count += 1;
    }
    let [high, low] = count.to_be_bytes();
    writes.push(Write::Put { key: row, value: vec![PARTS, high, low] });
    count
}

/// The value that a stored head stands for.
pub(crate) fn resolve(snapshot: &Snapshot, row: &[u8], head: &[u8]) -> Result<Vec<u8>, EngineError> {
    if let [WHOLE, value @ ..] = head {
        return Ok(value.to_vec());
    }
    let mut value = Vec::new();
    for number in 0..parts(head) {
        let part = snapshot.get(&part_key(row, Some(number)), |part| value.extend_from_slice(part))?;
        part.ok_or_else(|| {
            EngineError(format!(
                "part {number} of a value of table {} is missing",
                crate::schema::name(TableId(row[0]))
            ))
        })?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writes of a value, as key and the front of what is stored.
    fn written(value: &[u8]) -> Vec<(Vec<u8>, usize, Vec<u8>)> {
        let mut writes = Vec::new();
        put(b"\xF1k".to_vec(), value, &mut writes);
        let row = |write| match write {
            Write::Put { key, value } => (key, value.len(), value.into_iter().take(3).collect()),
            other => panic!("{other:?}"),
        };
        writes.into_iter().map(row).collect()
    }

    #[test]
    fn a_value_is_stored_whole_up_to_the_bound_and_in_parts_above_it() {
        assert_eq!(written(b"ab"), [(b"\xF1k".to_vec(), 3, b"\0ab".to_vec())]);
        let fits = vec![7; MAX_VALUE_BYTES - 1];
        assert_eq!(written(&fits), [(b"\xF1k".to_vec(), MAX_VALUE_BYTES, vec![0, 7, 7])]);
        assert_eq!(written(&vec![7; MAX_VALUE_BYTES]).len(), 2, "with its mark it is over the bound");
        let parts = vec![7; MAX_VALUE_BYTES + 2];
        let expected = [
            (b"\x09\xF1k\0\0".to_vec(), MAX_VALUE_BYTES, vec![7, 7, 7]),
            (b"\x09\xF1k\0\x01".to_vec(), 2, vec![7, 7]),
            (b"\xF1k".to_vec(), 3, vec![1, 0, 2]),
        ];
        assert_eq!(written(&parts), expected);
    }
}
