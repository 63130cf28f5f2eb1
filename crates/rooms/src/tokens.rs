//! Tokens that say where in a room's history or in a user's stream a client stands. Opaque to clients; each says which order it is in.
//!
//! A token is a letter and the base64url of varints: `s` a place in the stream, as /sync hands out; `t` a place in the topological
//! order of one room, as pagination hands out; `n` a row of a room's log, as the list of notifications hands out; `h`, `m` and `d` places in a
//! space's tree, in the rooms that two users share, in the directory; `f` a change of the threads that a user follows.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use primitives::{Rank, Rix, RoomNid, StreamPosition};

/// The token is none that this server hands out, or is of a kind or a room that has no meaning here. A 400 to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token that has a meaning here")]
pub struct BadToken;

/// How far a user has synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncToken {
    /// Everything up to here was in the response that carried this token, or in an earlier one.
    pub position: StreamPosition,
    /// The database that the position is of ([`storage::Storage::epoch`], its low half). Another one: the position says nothing.
    pub epoch: u32,
    /// The run of the server ([`storage::Storage::boot_id`], its low half) in which `ephemeral` counted.
    pub boot: u32,
    /// How far typing and presence, which live in memory, were seen.
    pub ephemeral: u64,
    /// How far the device's to-device messages were sent: less than `position` if there were too many for one response.
    pub to_device: StreamPosition,
}

/// A place between two events of a room's timeline: just before the event at (rank, rix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelinePoint {
    /// The room.
    pub room: RoomNid,
    /// The rank of the event after the point.
    pub rank: Rank,
    /// Its number, which orders events of one rank.
    pub rix: Rix,
    /// The position of the view that the point was found in.
    pub position: StreamPosition,
}

/// A row of a room's log, and with it a place in the order in which a user was notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotificationToken {
    /// The row's position.
    pub position: StreamPosition,
    /// Its number in the batch of that position.
    pub row: u16,
}

/// What a client may page from or to: `prev_batch`, `start`, `end`, or a `next_batch` of sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageToken {
    /// A place in a room's topological order.
    Timeline(TimelinePoint),
    /// A place in the stream.
    Stream(SyncToken),
}

/// A place in the tree of rooms below a space: just after a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HierarchyToken {
    /// A mark of the user, the space and the parameters that the tree was asked for with. Only with these has the token a meaning.
    pub bound_to: u64,
    /// How many rooms were shown before.
    pub shown: u64,
    /// A mark of the room that was shown last.
    pub last: u64,
}

/// A place in the list of rooms that two users are both in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MutualRoomsToken {
    /// A mark of the two users.
    pub bound_to: u64,
    /// The first room that was not shown.
    pub next: RoomNid,
}

/// A place in the room directory, whose rooms with the most members come first: beside a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryToken {
    /// Whether the page is what comes before the room, rather than after it.
    pub backward: bool,
    /// How many members the room had.
    pub members: u32,
    /// The room.
    pub room: RoomNid,
}

/// A change of the threads that a user follows (MSC4308), by its position in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionToken(pub StreamPosition);

impl fmt::Display for SubscriptionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode('f', &[self.0.0]))
    }
}

impl serde::Serialize for SubscriptionToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The token of a sync is one too: it stands for the changes that are in that sync or in an earlier one.
impl FromStr for SubscriptionToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        if let Ok(sync) = token.parse::<SyncToken>() {
            return Ok(Self(sync.position));
        }
        let [position] = decode('f', token)?;
        Ok(Self(StreamPosition(position)))
    }
}

fn encode(kind: char, numbers: &[u64]) -> String {
    let mut bytes = Vec::with_capacity(24);
    for &number in numbers {
        let mut rest = number;
        while rest >= 0x80 {
            bytes.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        bytes.push(rest.to_le_bytes()[0]);
    }
    let mut token = String::from(kind);
    URL_SAFE_NO_PAD.encode_string(&bytes, &mut token);
    token
}

fn decode<const N: usize>(kind: char, token: &str) -> Result<[u64; N], BadToken> {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(kind).ok_or(BadToken)?).map_err(|_| BadToken)?;
    let mut bytes = bytes.into_iter();
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = varint(&mut bytes)?;
    }
    if bytes.next().is_some() { Err(BadToken) } else { Ok(numbers) }
}

/// Reads one number; only its shortest form, so that a token has one spelling.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Result<u64, BadToken> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = bytes.next().ok_or(BadToken)?;
        let part = u64::from(byte & 0x7F);
        if part << shift >> shift != part || (byte == 0 && shift > 0) {
            return Err(BadToken);
        }
        number |= part << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(BadToken)
}

fn narrow(number: u64) -> Result<u32, BadToken> {
    u32::try_from(number).map_err(|_| BadToken)
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let behind = self.position.0.wrapping_sub(self.to_device.0);
        f.write_str(&encode('s', &[self.position.0, self.epoch.into(), self.boot.into(), self.ephemeral, behind]))
    }
}

impl FromStr for SyncToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let [position, epoch, boot, ephemeral, behind] = decode('s', token)?;
        let to_device = StreamPosition(position.wrapping_sub(behind));
        let position = StreamPosition(position);
        Ok(Self { position, epoch: narrow(epoch)?, boot: narrow(boot)?, ephemeral, to_device })
    }
}

impl fmt::Display for TimelinePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode('t', &[self.room.0.into(), self.rank.0, self.rix.0.into(), self.position.0]))
    }
}

impl FromStr for TimelinePoint {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let [room, rank, rix, position] = decode('t', token)?;
        let position = StreamPosition(position);
        Ok(Self { room: RoomNid(narrow(room)?), rank: Rank(rank), rix: Rix(narrow(rix)?), position })
    }
}

impl fmt::Display for HierarchyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode('h', &[self.bound_to, self.shown, self.last]))
    }
}

impl FromStr for HierarchyToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let [bound_to, shown, last] = decode('h', token)?;
        Ok(Self { bound_to, shown, last })
    }
}

impl fmt::Display for MutualRoomsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode('m', &[self.bound_to, self.next.0.into()]))
    }
}

impl FromStr for MutualRoomsToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let [bound_to, next] = decode('m', token)?;
        Ok(Self { bound_to, next: RoomNid(narrow(next)?) })
    }
}

impl fmt::Display for DirectoryToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode('d', &[self.backward.into(), self.members.into(), self.room.0.into()]))
    }
}

impl FromStr for DirectoryToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let [backward, members, room] = decode('d', token)?;
        let backward = match backward {
            0 => false,
            1 => true,
            _ => return Err(BadToken),
        };
        Ok(Self { backward, members: narrow(members)?, room: RoomNid(narrow(room)?) })
    }
}

impl fmt::Display for NotificationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode('n', &[self.position.0, self.row.into()]))
    }
}

impl FromStr for NotificationToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        let [position, row] = decode('n', token)?;
        Ok(Self { position: StreamPosition(position), row: row.try_into().map_err(|_| BadToken)? })
    }
}

impl serde::Serialize for NotificationToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeline(point) => point.fmt(f),
            Self::Stream(token) => token.fmt(f),
        }
    }
}

impl FromStr for PageToken {
    type Err = BadToken;

    fn from_str(token: &str) -> Result<Self, BadToken> {
        if token.starts_with('t') { token.parse().map(Self::Timeline) } else { token.parse().map(Self::Stream) }
    }
}

macro_rules! written_as_text {
    ($($token:ty),*) => {$(
        impl serde::Serialize for $token {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
written_as_text!(SyncToken, PageToken, HierarchyToken, MutualRoomsToken, DirectoryToken);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_round_trip(position: u64, epoch: u32, boot: u32, ephemeral: u64, to_device: u64, room: u32, rank: u64, rix: u32, row: u16) {
            let position = StreamPosition(position);
            let notification = NotificationToken { position, row };
            prop_assert_eq!(notification.to_string().parse(), Ok(notification));
            let stream = PageToken::Stream(SyncToken { position, epoch, boot, ephemeral, to_device: StreamPosition(to_device) });
            prop_assert_eq!(stream.to_string().parse(), Ok(stream));
            let point = PageToken::Timeline(TimelinePoint { room: RoomNid(room), rank: Rank(rank), rix: Rix(rix), position });
            prop_assert_eq!(point.to_string().parse(), Ok(point));
        }

        #[test]
        fn tokens_of_lists_round_trip(bound_to: u64, shown: u64, last: u64, next: u32, backward: bool, members: u32) {
            let tree = HierarchyToken { bound_to, shown, last };
            prop_assert_eq!(tree.to_string().parse(), Ok(tree));
            let mutual = MutualRoomsToken { bound_to, next: RoomNid(next) };
            prop_assert_eq!(mutual.to_string().parse(), Ok(mutual));
            let directory = DirectoryToken { backward, members, room: RoomNid(next) };
            prop_assert_eq!(directory.to_string().parse(), Ok(directory));
            prop_assert_eq!(tree.to_string().parse::<DirectoryToken>(), Err(BadToken));
        }

        #[test]
        fn garbage_is_refused_and_whatever_is_read_has_one_spelling(token in "[st][-_A-Za-z0-9]{0,40}|.{0,20}") {
            if let Ok(read) = token.parse::<PageToken>() {
                prop_assert_eq!(read.to_string(), token);
            }
        }
    }

    #[test]
    fn what_is_not_a_token_is_refused() {
        for bad in ["", "s", "t", "s1", "null", "s123_456", "t1-2_3", "sAAAA=", "0", "s\u{0}", "-1"] {
            assert_eq!(bad.parse::<PageToken>(), Err(BadToken), "{bad}");
        }
    }
}
