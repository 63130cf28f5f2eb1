//! One reader's sight of one room, in one view.

use std::{collections::HashMap, sync::Arc};

use primitives::{NodeId, Rank, Rix, Slot, UserNid};
use ruma::UserId;
use serde::Deserialize;
use storage::{
    ReadError,
    schema::rooms::{EventHeader, Membership, Memberships, Verdict},
};
use users::ignoring::IgnoredUsers;

use super::{HistoryVisibility, Moment, Sight, allows, was_there};
use crate::{merge::DUMMY_EVENT, read::RoomView};

/// How many changes of a user's membership are walked back to find the end of their last stay.
const MEMBERSHIP_STEPS: usize = 100;

/// How a reader stands to a room, by their newest membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the room now.
    Joined,
    /// Was in the room, until this event (which is in the timeline at this rank).
    Left {
        /// The event that ended the stay.
        rix: Rix,
        /// Its rank.
        rank: Rank,
        /// The root of the state after it.
        root: NodeId,
    },
    /// Never was in the room, or has forgotten it.
    Outside,
}

/// One reader's sight of one room. Remembers what it has looked up.
pub(crate) struct Eyes<'a> {
    room: &'a RoomView<'a>,
    user_id: &'a UserId,
    standing: Standing,
    /// The reader's member slot; `None`: never had one.
    slot: Option<Slot>,
    ignored: Option<Arc<IgnoredUsers>>,
    moments: HashMap<NodeId, Moment>,
    visibilities: Visibilities,
}

impl<'a> Eyes<'a> {
    /// The sight of a local user.
    pub(crate) async fn open(
        room: &'a RoomView<'a>,
        user_id: &'a UserId,
        user_nid: UserNid,
    ) -> Result<Self, ReadError> {
        let ignored = room.caches.ignored(room.view, user_nid).await?;
        let mut eyes = Self::standing_as(room, user_id, ignored, Standing::Outside).await?;
        eyes.standing = eyes.find_standing(user_nid).await?;
        Ok(eyes)
    }

    /// The sight of a user who is known to stand so and to ignore these.
    pub(crate) async fn standing_as(
        room: &'a RoomView<'a>,
        user_id: &'a UserId,
        ignored: Option<Arc<IgnoredUsers>>,
        standing: Standing,
    ) -> Result<Self, ReadError> {
        let slot = room.slot("m.room.member", user_id.as_str()).await?;
        Ok(Self {
            room,
            user_id,
            standing,
            slot,
            ignored,
            moments: HashMap::new(),
            visibilities: Visibilities::default(),
        })
    }

    /// The reader's member slot, if they ever had one.
    pub(crate) fn slot(&self) -> Option<Slot> {
        self.slot
    }

    /// How the reader stands to the room.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    async fn find_standing(&self, user_nid: UserNid) -> Result<Standing, ReadError> {
        let row = self.room.view.get::<Memberships>(&(user_nid, self.room.nid)).await?;
        let Some(row) = row.map(|row| row.value).filter(|row| !row.forgotten) else { return Ok(Standing::Outside) };
        if row.membership == Membership::Join {
            return Ok(Standing::Joined);
        }
        let mut rix = row.rix;
        for _ in 0..MEMBERSHIP_STEPS {
            let Some(event) = self.room.event(rix).await? else { break };
            let header = &event.header;
            match self.room.member_at(header.root_before, self.slot).await? {
                Some((_, Membership::Join)) => {
                    return Ok(Standing::Left { rix, rank: header.rank, root: header.root_after });
                }
                Some((earlier, _)) => rix = earlier,
                None => break,
            }
        }
        Ok(Standing::Outside)
    }

    /// Whether the reader may see an event. The event is one of this room's.
    pub(crate) async fn sees(&mut self, event: &EventHeader) -> Result<bool, ReadError> {
        let shown = event.verdict == Verdict::Accepted && event.event_type != DUMMY_EVENT;
        if event.root_after == NodeId(0) || !shown {
            return Ok(false);
        }
        let joined_later = match self.standing {
            Standing::Joined => true,
            Standing::Left { rank, .. } => event.rank < rank,
            Standing::Outside => false,
        };
        let own_member_event = is_member_event_of(event, self.user_id);
        let before = self.moment(event.root_before).await?;
        let changes = own_member_event || event.event_type == "m.room.history_visibility";
        let after = if changes { self.moment(event.root_after).await? } else { before };
        Ok(allows(before, after, own_member_event, joined_later))
    }

    /// Whether the reader, who may see an event, could do so when it was sent.
    pub(crate) async fn was_there(&mut self, event: &EventHeader) -> Result<bool, ReadError> {
        let before = self.moment(event.root_before).await?;
        let after = if is_member_event_of(event, self.user_id) { self.moment(event.root_after).await? } else { before };
        Ok(was_there(before, after))
    }

    /// The users whom the reader ignores.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = &str> {
        let all = self.ignored.iter().flat_map(|ignored| ignored.iter());
        all.filter(|user| *user != self.user_id.as_str())
    }

    /// Whether an event is one of a user whom the reader ignores. State is never left out, or rooms would look different.
    pub(crate) fn ignores(&self, event: &EventHeader) -> bool {
        let ignored = self.ignored.as_ref().filter(|_| event.state_key.is_none());
        ignored.is_some_and(|ignored| ignored.contains(&event.sender) && event.sender != self.user_id.as_str())
    }

    /// The reader's membership just after an event: `leave` if there is none (MSC4115).
    pub(crate) async fn membership_after(&mut self, event: &EventHeader) -> Result<Membership, ReadError> {
        // The state after an event differs from that before it in nothing that matters here, except for the reader's own events.
        let own = is_member_event_of(event, self.user_id);
        let root = if own { event.root_after } else { event.root_before };
        Ok(self.moment(root).await?.membership.unwrap_or(Membership::Leave))
    }

    /// Whether the room's state may be read by everybody.
    pub(crate) async fn is_world_readable(&mut self, root: NodeId) -> Result<bool, ReadError> {
        Ok(self.moment(root).await?.visibility == HistoryVisibility::WorldReadable)
    }

    async fn moment(&mut self, root: NodeId) -> Result<Moment, ReadError> {
        if let Some(moment) = self.moments.get(&root) {
            return Ok(*moment);
        }
        let membership = self.room.member_at(root, self.slot).await?.map(|(_, membership)| membership);
        let visibility = self.visibilities.at(self.room, root).await?;
        let moment = Moment { visibility, membership };
        self.moments.insert(root, moment);
        Ok(moment)
    }
}

impl Sight for Eyes<'_> {
    async fn sees(&mut self, event: &EventHeader) -> Result<bool, ReadError> {
        Eyes::sees(self, event).await
    }
}

/// The history visibilities that a room has had, as far as they were looked up.
#[derive(Default)]
pub(super) struct Visibilities(HashMap<Rix, HistoryVisibility>);

impl Visibilities {
    /// The history visibility in a state.
    pub(super) async fn at(&mut self, room: &RoomView<'_>, root: NodeId) -> Result<HistoryVisibility, ReadError> {
        match room.state_at(root, "m.room.history_visibility", "").await? {
            Some(rix) => self.set_by(room, rix).await,
            None => Ok(HistoryVisibility::default()),
        }
    }

    async fn set_by(&mut self, room: &RoomView<'_>, rix: Rix) -> Result<HistoryVisibility, ReadError> {
        #[derive(Deserialize)]
        struct Content {
            history_visibility: String,
        }
        if let Some(visibility) = self.0.get(&rix) {
            return Ok(*visibility);
        }
        let event = room.event(rix).await?;
        let content = event.and_then(|event| event.content_as::<Content>());
        let visibility =
            content.map_or_else(HistoryVisibility::default, |c| HistoryVisibility::parse(&c.history_visibility));
        self.0.insert(rix, visibility);
        Ok(visibility)
    }
}

fn is_member_event_of(event: &EventHeader, user_id: &UserId) -> bool {
    event.event_type == "m.room.member" && event.state_key.as_deref() == Some(user_id.as_str())
}
