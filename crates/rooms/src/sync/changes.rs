//! The core of every kind of sync: what changed for a user between two positions.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{Rix, RoomNid, StreamPosition};
use storage::{
    Direction, KeyRange, Positioned, ReadError, View,
    schema::rooms::{Membership, MembershipRow, Memberships, OutOfBand, OutOfBandRow, RoomLog, UserLog, UserLogEntry},
};

use super::SyncRequest;
use crate::{
    activity::Activity,
    read::{Reader, Reads},
    receipts,
};

/// Rows that one page of a scan reads: few enough to be read where the request is.
const PAGE: usize = 500;

/// What changed for a user in rooms.
#[derive(Debug, Default)]
pub(super) struct UserChanges {
    /// Rooms that the user is in and in which something may have happened; whether the user joined since.
    pub(super) joined: Vec<(RoomNid, bool)>,
    /// Rooms that the user has left since.
    pub(super) left: Vec<Left>,
    /// Rooms that the user was invited to or has knocked at since.
    pub(super) asked: Vec<(RoomNid, Rix)>,
    /// The same, and their ends, for rooms that no local user is in.
    pub(super) out_of_band: Vec<OutOfBandRow>,
    /// Account data that changed.
    pub(super) data: DataChanges,
    /// Whose devices the user's own log says have changed to them; `None`: their own.
    pub(super) lists: BTreeSet<Option<String>>,
}

/// Account data that changed, by room (`None`: of none) and type.
#[derive(Debug)]
pub(super) enum DataChanges {
    /// All that there is may be new to the client.
    All,
    /// These types.
    Types(BTreeMap<Option<RoomNid>, BTreeSet<String>>),
}

impl Default for DataChanges {
    fn default() -> Self {
        Self::Types(BTreeMap::new())
    }
}

/// A room that the user has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) room: RoomNid,
    /// The event that ended the user's membership.
    pub(super) rix: Rix,
    /// The position of its batch.
    pub(super) position: StreamPosition,
    /// The client shows the room as joined, or it was joined since: it is told what it missed up to the end.
    pub(super) was_in: bool,
}

/// What a user's log says of one room.
#[derive(Clone, Copy, Debug)]
struct Story {
    before: Option<Membership>,
    joined: bool,
    last: Option<(Membership, Rix, StreamPosition)>,
    out_of_band: bool,
}

impl Reads {
    /// What changed for a user up to a view, and in memory after a change that they have seen.
    pub(super) async fn changes(
        &self,
        view: &View,
        reader: &Reader,
        request: &SyncRequest,
        seen: u64,
    ) -> Result<UserChanges, ReadError> {
        let Some(since) = request.since else { return initial(view, reader, request.filter.room.include_leave).await };
        let Log { stories, types, lists } = stories(view, reader, since.position).await?;
        let has_data = |room: &RoomNid| types.contains_key(&Some(*room));
        let mut changes = UserChanges { lists, ..UserChanges::default() };
        for (room, story) in &stories {
            changes.add(*room, story);
            // Once the room is known here, its own events tell what became of the invite.
            if story.out_of_band
                && story.last.is_none()
                && let Some(row) = view.get::<OutOfBand>(&(reader.user_nid, *room)).await?
            {
                changes.out_of_band.push(row.value);
            }
        }
        let rooms = self.0.sync.joined_rooms(view, reader.user_nid).await?;
        let newly = |room: &RoomNid| stories.get(room).is_some_and(|story| story.joined);
        if request.full_state {
            changes.joined = rooms.iter().map(|room| (*room, newly(room))).collect();
            if request.filter.room.include_leave {
                changes.add_all_left(view, reader).await?;
            }
            changes.data = DataChanges::All;
            return Ok(changes);
        }
        let activity = self.0.activity.since(&rooms, since.position);
        let typing = self.0.typing.changes(&rooms);
        for ((room, activity), typing) in rooms.iter().zip(activity).zip(typing) {
            let changed = match activity {
                Activity::Quiet => false,
                Activity::Changed => true,
                Activity::Unknown => self.last_position(view, *room).await? > since.position,
            };
            if changed || has_data(room) || typing > seen {
                changes.joined.push((*room, newly(room)));
            }
        }
        changes.data = DataChanges::Types(types);
        Ok(changes)
    }

    /// The position of the newest row of a room's logs, of events and of receipts; remembered for the next one who asks.
    async fn last_position(&self, view: &View, room: RoomNid) -> Result<StreamPosition, ReadError> {
        let page = view.scan::<RoomLog>(&KeyRange::prefix(&(room,)), 1, Direction::Backward).await?;
        let last = page.rows.first().map_or(StreamPosition::ZERO, |((_, position, _), _)| *position);
        let last = last.max(receipts::last_position(view, room).await?);
        self.0.activity.learn(room, last);
        Ok(last)
    }
}

/// What a user's log says since a position.
#[derive(Debug, Default)]
struct Log {
    /// Of each room.
    stories: BTreeMap<RoomNid, Story>,
    /// Of account data, by room.
    types: BTreeMap<Option<RoomNid>, BTreeSet<String>>,
    /// Of lists of devices.
    lists: BTreeSet<Option<String>>,
}

async fn stories(view: &View, reader: &Reader, since: StreamPosition) -> Result<Log, ReadError> {
    let Log { mut stories, mut types, mut lists } = Log::default();
    let range = KeyRange::between(&(reader.user_nid, since.next()), &(reader.user_nid, view.position().next()));
    let mut rest = Some(range);
    while let Some(range) = rest {
        let page = view.scan::<UserLog>(&range, PAGE, Direction::Forward).await?;
        for ((_, position, _), entry) in page.rows {
            let new = |before| Story { before, joined: false, last: None, out_of_band: false };
            match entry {
                UserLogEntry::Membership { room, membership, rix, before } => {
                    let story = stories.entry(room).or_insert_with(|| new(before));
                    story.joined |= membership == Membership::Join && before != Some(Membership::Join);
                    story.last = Some((membership, rix, position));
                }
                UserLogEntry::OutOfBand { room, .. } => {
                    stories.entry(room).or_insert_with(|| new(None)).out_of_band = true;
                }
                // Other devices of a user who leaves and forgets at once have to know of the leave.
                UserLogEntry::Forget { .. } => {}
                UserLogEntry::DeviceList { user_id } => {
                    lists.insert(user_id);
                }
                UserLogEntry::AccountData { room, data_type } => {
                    types.entry(room).or_default().insert(data_type);
                }
            }
        }
        rest = page.rest;
    }
    Ok(Log { stories, types, lists })
}

impl UserChanges {
    fn add(&mut self, room: RoomNid, story: &Story) {
        let Some((membership, rix, position)) = story.last else { return };
        match membership {
            Membership::Join => {}
            Membership::Invite | Membership::Knock => self.asked.push((room, rix)),
            Membership::Leave | Membership::Ban => {
                let was_in = story.joined || story.before == Some(Membership::Join);
                self.left.push(Left { room, rix, position, was_in });
            }
        }
    }

    /// For a full sync: every room that the user has left, not only lately.
    async fn add_all_left(&mut self, view: &View, reader: &Reader) -> Result<(), ReadError> {
        let all = initial(view, reader, true).await?;
        for left in all.left {
            if self.left.iter().all(|known| known.room != left.room) {
                self.left.push(left);
            }
        }
        for ended in all.out_of_band.into_iter().filter(|row| row.membership == Membership::Leave) {
            if self.out_of_band.iter().all(|known| known.room_id != ended.room_id) {
                self.out_of_band.push(ended);
            }
        }
        Ok(())
    }
}

/// Everything that a user is to know of.
async fn initial(view: &View, reader: &Reader, include_leave: bool) -> Result<UserChanges, ReadError> {
    let mut changes = UserChanges { data: DataChanges::All, ..UserChanges::default() };
    let mut rest = Some(KeyRange::prefix(&(reader.user_nid,)));
    while let Some(range) = rest {
        let page = view.scan::<Memberships>(&range, PAGE, Direction::Forward).await?;
        for ((_, room), row) in page.rows {
            let Positioned { position, value: MembershipRow { membership, rix, forgotten } } = row;
            match membership {
                Membership::Join => changes.joined.push((room, false)),
                Membership::Invite | Membership::Knock => changes.asked.push((room, rix)),
                Membership::Leave | Membership::Ban if forgotten || !include_leave => {}
                Membership::Leave | Membership::Ban => changes.left.push(Left { room, rix, position, was_in: true }),
            }
        }
        rest = page.rest;
    }
    let mut rest = Some(KeyRange::prefix(&(reader.user_nid,)));
    while let Some(range) = rest {
        let page = view.scan::<OutOfBand>(&range, PAGE, Direction::Forward).await?;
        for ((_, room), Positioned { value: row, .. }) in page.rows {
            if include_leave || row.membership != Membership::Leave {
                // It is newer than what the room's own events say of the user, or it would not be there.
                changes.left.retain(|left| left.room != room);
                changes.out_of_band.push(row);
            }
        }
        rest = page.rest;
    }
    Ok(changes)
}
