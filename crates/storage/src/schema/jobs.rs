//! Durable work. Table numbers 100–109. Run by the `jobs` crate; a job's row is written by whoever causes it, in the batch that does.

use primitives::{NodeId, RoomNid, Slot, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Batch, Key, KeyBytes, KeyPart, Op, Positioned, Table, Text};

use super::{tables, version_one};

tables! {
    /// Work that is to be done or under way, by its kind and by what it is about: a key of its own, as the kind says. The position is that of
    /// the cause, and stays while the cursor moves: a newer cause of the same job is another row.
    Jobs = 100, "job", (JobKind, Vec<u8>) => Positioned<JobRow>;
    /// Which state of a room a projection reflects, by the projection's number. Its rows are written in the same batches.
    Projected = 101, "projection", (u8, RoomNid) => ProjectedRow;
    /// How many members of a server have joined a room. A projection.
    RoomServers = 102, "room_server", (RoomNid, Text) => u32;
    /// The rooms that a user of another server has joined, by user id. The same projection.
    RemoteMembers = 103, "remote_member", (Text, RoomNid) => ();
    /// The number of a room that is being put together, by room id. Written by `rooms`; gone when the room has begun.
    StagedRooms = 104, "staged_room", (Text,) => RoomNid;
}

/// A kind of durable work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKind(pub u8);

impl JobKind {
    /// Guests leave a room that is closed to them. About a room: `(RoomNid,)`.
    pub const GUESTS: Self = Self(1);
    /// A changed display name or avatar is carried into the user's rooms. About a user: `(UserNid,)`.
    pub const PROFILE: Self = Self(2);
    /// A deactivated user leaves every room. About a user: `(UserNid,)`.
    pub const DEACTIVATION: Self = Self(3);
    /// The rooms of a user whose devices or cross-signing keys changed are told. About a user: `(UserNid,)`.
    pub const DEVICE_LIST: Self = Self(4);
    /// Members of a room that replaces another get what they had set for that one. About the new room and a user, [`EVERYBODY`] for all members:
    /// `(RoomNid, UserNid)`.
    pub const UPGRADE: Self = Self(5);
    /// The whole state of a room that was joined with a part of it is fetched. About a room: `(RoomNid,)`.
    pub const RESYNC: Self = Self(6);
    /// What could not be told while a room's state was partial is told: whose devices have changed. About a room: `(RoomNid,)`.
    pub const MADE_WHOLE: Self = Self(7);
    /// Other servers are to be told of a user's devices. About a user, a room and a server: `(UserNid, RoomNid, Text)`; [`EVERY_ROOM`] and the empty
    /// name for all of them, [`EVERYBODY`] for all members.
    pub const DEVICE_MARKS: Self = Self(8);
    /// The rooms of another server's user whose devices or cross-signing keys changed are told. About a user: `(Text,)`.
    pub const REMOTE_DEVICE_LIST: Self = Self(9);
    /// Lists of devices are fetched from another server, those of [`super::remote_devices::StaleLists`]. About a server: `(Text,)`.
    pub const FETCH_DEVICE_LISTS: Self = Self(11);
    /// The lists of devices of the members of a room that every user of this server has left are forgotten. About a room: `(RoomNid,)`.
    pub const FORGET_DEVICE_LISTS: Self = Self(12);
    /// A room that was replaced is closed by the user who has replaced it. About the room and the user: `(RoomNid, UserNid)`. The row goes in the batch of
    /// the event that closes the room.
    pub const CLOSE_REPLACED: Self = Self(14);
}

/// The number of no user: users are counted from 1.
pub const EVERYBODY: UserNid = UserNid(0);
/// The number of no room: rooms are counted from 1.
pub const EVERY_ROOM: RoomNid = RoomNid(0);

impl KeyPart for JobKind {
    fn put(&self, out: &mut KeyBytes) {
        self.0.put(out);
    }
    fn take(input: &mut &[u8]) -> Option<Self> {
        u8::take(input).map(Self)
    }
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// What is done, in the words of the kind: empty at the beginning.
    pub cursor: Vec<u8>,
}

/// What a projection of a room reflects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectedRow {
    /// The root of the state that it reflects; while it is on its way, of the state that it comes from.
    pub root: NodeId,
    /// Where it is on its way to.
    pub towards: Option<Towards>,
}

/// A projection on its way from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Towards {
    /// The root of the state.
    pub root: NodeId,
    /// The last slot, in their order, in which the projection reflects it.
    pub done: Slot,
}

version_one!(JobRow, ProjectedRow);

/// Has a job begin with a batch, from its beginning even if one of the same id is under way: the newest cause wins.
pub fn begin(batch: &mut Batch, kind: JobKind, id: &impl Key) {
    let key = (kind, id.to_bytes().into_parts().0);
    batch.put::<Jobs>(&key, &Positioned::pending(JobRow::default()));
}

/// Whether a job begins with a batch: whoever commits it has to ring for the job afterwards.
pub fn begins(batch: &Batch) -> bool {
    batch.ops().iter().any(|op| matches!(op, Op::Put { table, .. } if *table == <Jobs as Table>::ID))
}

#[cfg(test)]
mod tests {
    use primitives::{StreamPosition, UserNid};

    use super::*;
    use crate::Value;

    #[test]
    fn rows_are_golden() {
        let key = (JobKind::PROFILE, (UserNid(9),).to_bytes().into_parts().0);
        let row = Positioned { position: StreamPosition(7), value: JobRow { cursor: vec![1, 2] } };
        assert_eq!(key.to_bytes().as_slice(), [2, 0, 0, 0, 9]);
        let bytes = row.encode().0;
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 1, 2]);
        assert_eq!(<Jobs as Table>::Value::decode(&bytes).expect("own bytes"), row);
        assert_eq!(<Jobs as Table>::Key::from_bytes(&[2, 0, 0, 0, 9]), Some(key));

        let row = ProjectedRow { root: NodeId(7), towards: Some(Towards { root: NodeId(300), done: Slot(5) }) };
        assert_eq!((1_u8, RoomNid(3)).to_bytes().as_slice(), [1, 0, 0, 0, 3]);
        assert_eq!(row.encode().0, [1, 7, 1, 0xAC, 2, 5]);
        assert_eq!(ProjectedRow::decode(&[1, 7, 0]), Ok(ProjectedRow { towards: None, ..row }));
        let server = (RoomNid(3), Text::new("x.y"));
        assert_eq!(server.to_bytes().as_slice(), b"\0\0\0\x03x.y\0\0");
        let member = (Text::new("@a:x"), RoomNid(3));
        assert_eq!(member.to_bytes().as_slice(), b"@a:x\0\0\0\0\0\x03");
        assert_eq!(<RoomServers as Table>::Value::encode(&3), (vec![1, 3], None));
        assert_eq!((Text::new("!r"),).to_bytes().as_slice(), b"!r\0\0");
        assert_eq!(<StagedRooms as Table>::Value::encode(&RoomNid(3)), (vec![1, 3], None));
    }

    #[test]
    fn a_job_begins_at_the_position_of_its_batch() {
        let mut batch = Batch::new();
        begin(&mut batch, JobKind::GUESTS, &(UserNid(1),));
        assert!(matches!(batch.ops(), [Op::Put { value_stamp: Some(0), .. }]), "{batch:?}");
        assert!(batch.asserts().is_empty());
    }
}
