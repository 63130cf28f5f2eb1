//! Keys: tuples whose bytes sort as the tuples do.

use primitives::{NodeId, Rank, Rix, RoomNid, Slot, StreamPosition, UnixMillis, UserNid};

use crate::TableId;

/// The bytes of a key under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyBytes {
    bytes: Vec<u8>,
    stamp: Option<usize>,
}

impl KeyBytes {
    /// The key of a row among all tables' rows: the table's number, then the key.
    pub(crate) fn of_row(table: TableId, key: &impl Key) -> Vec<u8> {
        let mut out = Self { bytes: Vec::with_capacity(32), stamp: None };
        out.bytes.push(table.0);
        key.put_key(&mut out);
        out.bytes
    }

    /// The bytes so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The finished bytes and the offset at which the committer writes the batch's position, if the key asked for it.
    pub fn into_parts(self) -> (Vec<u8>, Option<usize>) {
        (self.bytes, self.stamp)
    }

    fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// One element of a key tuple. Its bytes sort as its values do, and no encoding is a prefix of another (except that of [`Vec<u8>`], which
/// may only stand last).
pub trait KeyPart: Sized {
    /// Appends the part's bytes.
    fn put(&self, out: &mut KeyBytes);
    /// Reads the part off the front; `None` if the bytes are not such a part.
    fn take(input: &mut &[u8]) -> Option<Self>;
}

fn split<'a>(input: &mut &'a [u8], at: usize) -> Option<&'a [u8]> {
    let (head, tail) = input.split_at_checked(at)?;
    *input = tail;
    Some(head)
}

macro_rules! integer_part {
    ($($inner:ty),*) => {$(
        impl KeyPart for $inner {
            fn put(&self, out: &mut KeyBytes) {
                out.extend(&self.to_be_bytes());
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                let bytes = split(input, size_of::<$inner>())?;
                Some(<$inner>::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}
integer_part!(u8, u16, u32, u64);

macro_rules! number_part {
    ($($name:ident),*) => {$(
        impl KeyPart for $name {
            fn put(&self, out: &mut KeyBytes) {
                self.0.put(out);
            }
            fn take(input: &mut &[u8]) -> Option<Self> {
                KeyPart::take(input).map($name)
            }
        }
    )*};
}
number_part!(RoomNid, UserNid, Rix, Slot, NodeId, Rank, UnixMillis);

impl KeyPart for StreamPosition {
    fn put(&self, out: &mut KeyBytes) {
        if *self == Self::PENDING {
            out.stamp = Some(out.bytes.len());
        }
        self.0.put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u64::take(input).map(Self)
    }
}

impl<const N: usize> KeyPart for [u8; N] {
    fn put(&self, out: &mut KeyBytes) {
        out.extend(self);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        split(input, N)?.try_into().ok()
    }
}

/// Bytes that run to the end of the key. Only as the last part.
impl KeyPart for Vec<u8> {
    fn put(&self, out: &mut KeyBytes) {
        out.extend(self);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(std::mem::take(input).to_vec())
    }
}

/// A string anywhere in a key: zero bytes are escaped as `00 FF`, and `00 00` ends it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub String);

impl Text {
    /// A key part of this string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl KeyPart for Text {
    fn put(&self, out: &mut KeyBytes) {
        for &byte in self.0.as_bytes() {
            out.bytes.push(byte);
            if byte == 0 {
                out.bytes.push(0xFF);
            }
        }
        out.extend(&[0, 0]);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        let mut text = Vec::new();
        loop {
            match split(input, 1)?[0] {
                0 => match split(input, 1)?[0] {
                    0 => return String::from_utf8(text).ok().map(Self),
                    0xFF => text.push(0),
                    _ => return None,
                },
                byte => text.push(byte),
            }
        }
    }
}

/// A whole key, or the front of one.
pub trait Key: Sized {
    /// Appends the key's bytes.
    fn put_key(&self, out: &mut KeyBytes);
    /// Reads a key off the front.
    fn take_key(input: &mut &[u8]) -> Option<Self>;

    /// The key's bytes.
    fn to_bytes(&self) -> KeyBytes {
        let mut out = KeyBytes::default();
        self.put_key(&mut out);
        out
    }

    /// Reads a key that makes up all the bytes.
    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let key = Self::take_key(&mut bytes)?;
        bytes.is_empty().then_some(key)
    }
}

macro_rules! tuple_key {
    ($($part:ident $index:tt),*) => {
        impl<$($part: KeyPart),*> Key for ($($part,)*) {
            fn put_key(&self, out: &mut KeyBytes) {
                let _ = &out;
                $(self.$index.put(out);)*
            }
            fn take_key(input: &mut &[u8]) -> Option<Self> {
                let _ = &input;
                Some(($($part::take(input)?,)*))
            }
        }
    };
}
tuple_key!();
tuple_key!(A 0);
tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);
tuple_key!(A 0, B 1, C 2, D 3, E 4);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_sort_as_their_values(a: (u32, String, u64), b: (u32, String, u64)) {
            let key = |x: &(u32, String, u64)| (RoomNid(x.0), Text(x.1.clone()), x.2).to_bytes().into_parts().0;
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
        }

        #[test]
        fn keys_round_trip(room: u32, text: String, tail: Vec<u8>) {
            let key = (RoomNid(room), Text(text), tail);
            let (bytes, stamp) = key.to_bytes().into_parts();
            prop_assert_eq!(stamp, None);
            prop_assert_eq!(Key::from_bytes(&bytes), Some(key));
        }
    }

    #[test]
    fn a_pending_position_is_where_the_stamp_goes() {
        let (bytes, stamp) = (RoomNid(1), StreamPosition::PENDING, 7_u16).to_bytes().into_parts();
        assert_eq!((bytes.len(), stamp), (14, Some(4)));
    }

    #[test]
    fn bytes_left_over_are_no_key() {
        assert_eq!(<(u8,)>::from_bytes(&[1, 2]), None);
        assert_eq!(<(u32,)>::from_bytes(&[1, 2]), None);
    }
}
