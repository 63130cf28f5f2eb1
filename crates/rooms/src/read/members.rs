//! The members of a room (`GET /rooms/{roomId}/members`, `…/joined_members`, `GET /joined_rooms`).

use std::collections::BTreeMap;

use primitives::{NodeId, Rix, StreamPosition};
use ruma::{OwnedRoomId, RoomId};
use serde::Serialize;
use serde_json::Value;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{Membership, RoomLog, RoomLogEntry, Timeline},
};

use super::{Access, ReadRoomError, Reader, Reads, RoomView, Shower};
use crate::{
    partial::Period,
    render::ClientEvent,
    tokens::{BadToken, PageToken},
    visibility::Standing,
};

/// Which members are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct MembersRequest {
    /// As of when; now if not given.
    pub at: Option<PageToken>,
    /// Only members of this membership.
    pub membership: Option<Membership>,
    /// No members of this membership.
    pub not_membership: Option<Membership>,
}

/// `GET …/joined_members`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct JoinedMembers {
    /// By user id.
    pub joined: BTreeMap<String, JoinedMember>,
}

/// How a joined member is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct JoinedMember {
    /// The display name, if it is a string; else `null`.
    pub display_name: Option<String>,
    /// The avatar's `mxc:` address, if it is a string; else `null`.
    pub avatar_url: Option<String>,
}

impl Reads {
    /// The member events of a room, now or as of a token.
    pub async fn members(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: MembersRequest,
    ) -> Result<Vec<ClientEvent>, ReadRoomError> {
        self.until_whole(reader, room_id).await?;
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let access = Access::of(&room.open_head().await?, &mut shower.eyes).await?;
        let root = match request.at {
            Some(at) => self.root_at(&mut shower, access, at).await?,
            None => access.root(),
        };
        let wanted = |membership: Membership| {
            request.membership.is_none_or(|only| membership == only) && request.not_membership != Some(membership)
        };
        let entries = room.members(root, |entry| entry.membership.is_some_and(wanted)).await?;
        Ok(shower.show_all(entries.into_iter().map(|(_, entry)| entry.rix).collect()).await?)
    }

    /// The state as of a token, if the reader may see that; for those who left, at most as it was then.
    async fn root_at(&self, shower: &mut Shower<'_>, access: Access, at: PageToken) -> Result<NodeId, ReadRoomError> {
        let room = shower.room;
        let at = match at {
            PageToken::Stream(token) => self.checked(room, token)?,
            PageToken::Timeline(point) if point.room == room.nid => {
                let before = KeyRange::until(&(room.nid,), &(room.nid, point.rank, point.rix));
                let page = room.view.scan::<Timeline>(&before, 1, Direction::Backward).await?;
                match page.rows.first() {
                    Some(((_, _, rix), ())) => return root_after(shower, access, *rix).await,
                    // Before the first event there is no state; what the client had when it got the token is meant.
                    None => point.position,
                }
            }
            PageToken::Timeline(_) => return Err(BadToken.into()),
        };
        match room.last_event_at(at).await? {
            Some((rix, root)) => {
                let after = root_after(shower, access, rix).await?;
                // What the log says of then is what was known then.
                let was_partial = Period::of(room.view, room.nid).await?.is_some_and(|period| period.covers(at));
                Ok(match access {
                    Access::UntilLeft { rix: left, root: as_left, .. } if rix > left => as_left,
                    _ if was_partial => after,
                    _ => root,
                })
            }
            None => Err(ReadRoomError::NotFound),
        }
    }

    /// The users who are in a room, for one who is in it too.
    pub async fn joined_members(&self, reader: &Reader, room_id: &RoomId) -> Result<JoinedMembers, ReadRoomError> {
        self.until_whole(reader, room_id).await?;
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if shower.eyes.standing() != Standing::Joined {
            return Err(ReadRoomError::Forbidden);
        }
        let root = room.open_head().await?.root;
        let entries = room.members(root, |entry| entry.membership == Some(Membership::Join)).await?;
        let rixes: Vec<_> = entries.into_iter().map(|(_, entry)| entry.rix).collect();
        let mut joined = BTreeMap::new();
        for event in room.events(&rixes).await? {
            let content: Value = event.content_as().unwrap_or_default();
            let text = |name: &str| content[name].as_str().map(ToOwned::to_owned);
            let member = JoinedMember { display_name: text("displayname"), avatar_url: text("avatar_url") };
            joined.insert(event.header.state_key.clone().unwrap_or_default(), member);
        }
        Ok(JoinedMembers { joined })
    }

    /// The rooms that a user is in.
    pub async fn joined_rooms(&self, reader: &Reader) -> Result<Vec<OwnedRoomId>, ReadRoomError> {
        let view = self.0.storage.view();
        let mut rooms = Vec::new();
        for nid in self.0.sync.joined_rooms(&view, reader.user_nid).await?.iter() {
            if let Some(room) = RoomView::by_number(&view, &self.0.caches, *nid).await? {
                rooms.push(room.room_id);
            }
        }
        Ok(rooms)
    }
}

/// The state after an event that the reader must be able to see.
async fn root_after(shower: &mut Shower<'_>, access: Access, rix: Rix) -> Result<NodeId, ReadRoomError> {
    let event = shower.room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
    if let Access::UntilLeft { root, rank, .. } = access
        && event.header.rank > rank
    {
        return Ok(root);
    }
    if shower.eyes.sees(&event.header).await? { Ok(event.header.root_after) } else { Err(ReadRoomError::Forbidden) }
}

impl RoomView<'_> {
    /// The newest event of the room's log up to a position, and the root of what then was the current state.
    pub(crate) async fn last_event_at(&self, position: StreamPosition) -> Result<Option<(Rix, NodeId)>, ReadError> {
        let range = KeyRange::until(&(self.nid,), &(self.nid, position.next()));
        let mut state = None;
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = self.view.scan::<RoomLog>(&range, 16, Direction::Backward).await?;
            for (_, entry) in page.rows {
                match entry {
                    RoomLogEntry::Event { rix, root, .. } => return Ok(Some((rix, state.unwrap_or(root)))),
                    RoomLogEntry::Reset { new, .. } | RoomLogEntry::Whole { new, .. } => state = state.or(Some(new)),
                    RoomLogEntry::DeviceChange { .. } => {}
                }
            }
            rest = page.rest;
        }
        Ok(None)
    }
}
