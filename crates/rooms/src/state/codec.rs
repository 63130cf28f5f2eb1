//! The stored form of tree nodes, version 1.
//!
//! The first byte is `1k`: version 1, kind `k`. Integers called *varint* are LEB128. A *column* holds one number for each place that is
//! taken: the lowest as a varint, the width in bits as a byte, then each number less the lowest in that many bits, low bits first.
//!
//! | kind | bytes after the first |
//! |---|---|
//! | 0 root | flags (bit 0 partial, bits 1–3 height of the others, 4–6 of the members), node and highest of the others, of the members (varints), fingerprint (16, little-endian), joined, invited (varints) |
//! | 1 inner | places taken (4, little-endian), column of nodes, column of highest |
//! | 2 leaf | places taken (4, little-endian), column of event numbers, column of memberships (0 none, 1 join, 2 invite, 3 leave, 4 ban, 5 knock) |

use primitives::{NodeId, Rix};
use storage::schema::rooms::Membership;

use super::{
    Entry,
    node::{Child, Inner, Leaf, MAX_HEIGHT, Node, Root, Subtree},
};
use crate::varint;

const ROOT: u8 = 0x10;
const INNER: u8 = 0x11;
const LEAF: u8 = 0x12;

/// Bytes that are no tree node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a state tree node of a known version")]
pub struct NodeCodecError;

impl Node {
    /// The bytes that are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Root(root) => {
                let flags = u8::from(root.partial) | narrow(root.others.height << 1) | narrow(root.members.height << 4);
                out.extend([ROOT, flags]);
                for part in [root.others, root.members] {
                    varint::put(&mut out, part.node.0);
                    varint::put(&mut out, part.highest.0);
                }
                out.extend(root.fingerprint.to_le_bytes());
                varint::put(&mut out, root.joined);
                varint::put(&mut out, root.invited);
            }
            Self::Inner(inner) => {
                out.push(INNER);
                out.extend(inner.present.to_le_bytes());
                put_column(&mut out, inner.children.iter().map(|child| child.node.0));
                put_column(&mut out, inner.children.iter().map(|child| child.highest.0));
            }
            Self::Leaf(leaf) => {
                out.push(LEAF);
                out.extend(leaf.present.to_le_bytes());
                put_column(&mut out, leaf.entries.iter().map(|entry| entry.rix.0));
                put_column(&mut out, leaf.entries.iter().map(|entry| membership_number(entry.membership)));
            }
        }
        out
    }

    /// Reads the bytes that [`Node::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, NodeCodecError> {
        let mut reader = Reader(bytes);
        let node = match reader.byte()? {
            ROOT => Self::Root(reader.root()?),
            INNER => {
                let present = reader.u32()?;
                let nodes = reader.column(present)?;
                let children = nodes.into_iter().zip(reader.column(present)?);
                let children = children.map(|(node, highest)| Child { node: NodeId(node), highest: Rix(highest) });
                Self::Inner(Inner { present, children: children.collect() })
            }
            LEAF => {
                let present = reader.u32()?;
                let rixes = reader.column(present)?;
                let entries = rixes
                    .into_iter()
                    .zip(reader.column(present)?)
                    .map(|(rix, membership)| Ok(Entry { rix: Rix(rix), membership: membership_of(membership)? }));
                Self::Leaf(Leaf { present, entries: entries.collect::<Result<_, _>>()? })
            }
            _ => return Err(NodeCodecError),
        };
        if reader.0.is_empty() { Ok(node) } else { Err(NodeCodecError) }
    }
}

fn membership_number(membership: Option<Membership>) -> u32 {
    match membership {
        None => 0,
        Some(Membership::Join) => 1,
        Some(Membership::Invite) => 2,
        Some(Membership::Leave) => 3,
        Some(Membership::Ban) => 4,
        Some(Membership::Knock) => 5,
    }
}

fn membership_of(number: u32) -> Result<Option<Membership>, NodeCodecError> {
    Ok(match number {
        0 => None,
        1 => Some(Membership::Join),
        2 => Some(Membership::Invite),
        3 => Some(Membership::Leave),
        4 => Some(Membership::Ban),
        5 => Some(Membership::Knock),
        _ => return Err(NodeCodecError),
    })
}

fn put_column(out: &mut Vec<u8>, values: impl Iterator<Item = u32> + Clone) {
    let lowest = values.clone().min().unwrap_or_default();
    let highest = values.clone().max().unwrap_or_default();
    let width = u32::BITS - (highest - lowest).leading_zeros();
    varint::put(out, lowest);
    out.push(narrow(width));
    let (mut pending, mut bits) = (0_u64, 0);
    for value in values {
        pending |= u64::from(value - lowest) << bits;
        bits += width;
        while bits >= 8 {
            out.push(narrow(pending & 0xff));
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(narrow(pending));
    }
}

fn narrow(value: impl TryInto<u8>) -> u8 {
    value.try_into().ok().expect("the caller has cut it to eight bits")
}

/// The bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], NodeCodecError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(NodeCodecError)?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<u8, NodeCodecError> {
        self.take().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, NodeCodecError> {
        self.take().map(u32::from_le_bytes)
    }

    fn varint(&mut self) -> Result<u32, NodeCodecError> {
        varint::take(&mut self.0).ok_or(NodeCodecError)
    }

    fn root(&mut self) -> Result<Root, NodeCodecError> {
        let flags = self.byte()?;
        let mut part = |height: u8| {
            let height = u32::from(height & 7);
            if height > MAX_HEIGHT {
                return Err(NodeCodecError);
            }
            Ok(Subtree { height, node: NodeId(self.varint()?), highest: Rix(self.varint()?) })
        };
        let (others, members) = (part(flags >> 1)?, part(flags >> 4)?);
        Ok(Root {
            partial: flags & 1 != 0,
            others,
            members,
            fingerprint: u128::from_le_bytes(self.take()?),
            joined: self.varint()?,
            invited: self.varint()?,
        })
    }

    fn column(&mut self, present: u32) -> Result<Vec<u32>, NodeCodecError> {
        let lowest = self.varint()?;
        let width = u32::from(self.byte()?);
        if width > u32::BITS {
            return Err(NodeCodecError);
        }
        let (mut pending, mut bits) = (0_u64, 0);
        (0..present.count_ones())
            .map(|_| {
                while bits < width {
                    pending |= u64::from(self.byte()?) << bits;
                    bits += 8;
                }
                let value = pending & ((1 << width) - 1);
                pending >>= width;
                bits -= width;
                u32::try_from(value + u64::from(lowest)).map_err(|_| NodeCodecError)
            })
            .collect()
    }
}
