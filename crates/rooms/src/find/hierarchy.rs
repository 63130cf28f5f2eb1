//! The tree of rooms below a space (client-server API, `GET /rooms/{roomId}/hierarchy`).

use std::{collections::HashSet, sync::Arc};

use primitives::KeyedHash;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde::Serialize;
use serde_json::value::RawValue;
use storage::{ReadError, View};

use super::{
    about::{About, Summary},
    accessible::is_accessible_elsewhere,
    elsewhere::Elsewhere,
};
use crate::{
    Rooms,
    read::{ReadRoomError, Reader, Reads},
    tokens::{BadToken, HierarchyToken},
};

/// Rooms of one page if the client asks for no number, and the most that it gets.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 500;
/// How deep the tree is followed at most. A space at this depth is shown, its children are not.
const MAX_DEPTH: u64 = 100;
/// Rooms of one tree that are looked at.
const MAX_ROOMS: usize = 10_000;

/// Which part of a tree is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct HierarchyRequest {
    /// Only children that their space suggests.
    pub suggested_only: bool,
    /// How many steps below the space; 100 if not given, which is also the most.
    pub max_depth: Option<u64>,
    /// How many rooms; 50 if not given, at most 500.
    pub limit: Option<u64>,
    /// Where the page before ended.
    pub from: Option<HierarchyToken>,
}

/// A page of a tree.
#[derive(Clone, Debug, Serialize)]
pub struct Hierarchy {
    /// The rooms, depth first.
    pub rooms: Vec<SpaceRoom>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<HierarchyToken>,
}

/// A room of a tree.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceRoom {
    /// What it says of itself.
    #[serde(flatten)]
    pub summary: Summary,
    /// The `m.space.child` events of a space, in order.
    pub children_state: Vec<Arc<RawValue>>,
}

/// A room and its children, as another server is told of them.
#[derive(Clone, Debug, Serialize)]
pub struct ServedHierarchy {
    /// The room.
    pub room: SpaceRoom,
    /// Its children that the server may know of.
    pub children: Vec<Summary>,
    /// Those that it may not.
    pub inaccessible_children: Vec<OwnedRoomId>,
}

impl Rooms {
    /// A page of the rooms below a space that a reader may know of, the space first. Rooms that nobody here is in are as other servers describe them.
    ///
    /// Each page walks the tree from its root: what is found is what is there now, and nothing is kept between two pages.
    ///
    /// # Errors
    /// The reader may not know of the space, or the token is of another request.
    pub async fn hierarchy(
        &self,
        reader: &Reader,
        root: &RoomId,
        request: HierarchyRequest,
    ) -> Result<Hierarchy, ReadRoomError> {
        let elsewhere = self.elsewhere();
        self.reads().hierarchy(reader, root, request, elsewhere.as_ref()).await
    }

    /// Other servers, as far as they know rooms that nobody here is in.
    pub(super) fn elsewhere(&self) -> Option<Elsewhere<'_>> {
        let context = self.context();
        context.remote.as_ref().map(|remote| Elsewhere::new(&remote.client, &context.clock, &context.descriptions))
    }
}

impl Reads {
    /// A room and its children, for another server. Not found if the server may not know of the room, or nobody here is in it.
    ///
    /// # Errors
    /// Not found.
    pub async fn hierarchy_for_server(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<ServedHierarchy, ReadRoomError> {
        let view = self.0.storage.view();
        let (about, accessible) = self.for_server(&view, server, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        if !accessible {
            return Err(ReadRoomError::NotFound);
        }
        let (mut children, mut inaccessible_children) = (Vec::new(), Vec::new());
        for child in about.children.iter().filter(|child| child.suggested || !suggested_only).take(MAX_LIMIT) {
            match self.for_server(&view, server, &child.room_id).await? {
                Some((about, true)) => children.push(about.summary.clone()),
                Some((_, false)) => inaccessible_children.push(child.room_id.clone()),
                None => {}
            }
        }
        Ok(ServedHierarchy { room: shown(&about, suggested_only), children, inaccessible_children })
    }

    /// What a room says of itself, and whether a server may know of it; `None` if nobody here is in it.
    async fn for_server(
        &self,
        view: &View,
        server: &ServerName,
        room_id: &RoomId,
    ) -> Result<Option<(Arc<About>, bool)>, ReadError> {
        let Some(room) = self.room(view, room_id).await? else { return Ok(None) };
        let Some(about) = room.about().await?.filter(|about| about.is_here) else { return Ok(None) };
        let accessible = room.is_accessible_to_server(server, &about).await?;
        Ok(Some((about, accessible)))
    }

    async fn hierarchy(
        &self,
        reader: &Reader,
        root: &RoomId,
        request: HierarchyRequest,
        elsewhere: Option<&Elsewhere<'_>>,
    ) -> Result<Hierarchy, ReadRoomError> {
        let view = self.0.storage.view();
        let max_depth = request.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH);
        let limit = request.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT));
        let limit = limit.clamp(1, MAX_LIMIT);
        let hash = self.0.storage.hash();
        let suggested_only = request.suggested_only;
        let parameters = [u8::from(suggested_only), u8::try_from(max_depth).unwrap_or(u8::MAX)];
        let bound_to = short(hash, &[reader.user_id.as_bytes(), root.as_bytes(), &parameters]);
        if request.from.is_some_and(|from| from.bound_to != bound_to) {
            return Err(BadToken.into());
        }

        let walk = Walk { reads: self, view: &view, reader, elsewhere, suggested_only, max_depth };
        let needed = request.from.map_or(0, |from| usize::try_from(from.shown).unwrap_or(usize::MAX));
        let found = walk.rooms(root, needed.saturating_add(limit).saturating_add(1)).await?;
        let ids: Vec<u64> = found.iter().map(|about| room_mark(hash, about)).collect();
        let start = request.from.map_or(0, |from| start_after(&ids, from));
        let end = start.saturating_add(limit).min(found.len());
        let token = |last: &u64| HierarchyToken { bound_to, shown: end as u64, last: *last };
        let next_batch = ids.get(..end).and_then(<[u64]>::last).filter(|_| end < found.len()).map(token);
        let rooms = found[start..end].iter().map(|about| shown(about, suggested_only)).collect();
        Ok(Hierarchy { rooms, next_batch })
    }
}

/// Where the page after a token begins: after the room that was shown last, wherever it is now; where it was, if it is gone.
fn start_after(rooms: &[u64], token: HierarchyToken) -> usize {
    let shown = usize::try_from(token.shown).unwrap_or(usize::MAX).min(rooms.len());
    let is_last = |room: &u64| *room == token.last;
    if shown.checked_sub(1).is_some_and(|last| is_last(&rooms[last])) {
        return shown;
    }
    rooms.iter().position(is_last).map_or(shown, |last| last + 1)
}

fn room_mark(hash: KeyedHash, about: &About) -> u64 {
    short(hash, &[about.summary.published.room_id.as_bytes()])
}

fn short(hash: KeyedHash, parts: &[&[u8]]) -> u64 {
    u64::from_be_bytes(hash.hash8(parts))
}

fn shown(about: &About, suggested_only: bool) -> SpaceRoom {
    let children = about.children.iter().filter(|child| child.suggested || !suggested_only);
    SpaceRoom { summary: about.summary.clone(), children_state: children.map(|child| child.event.clone()).collect() }
}

/// A room that is still to be visited, and how deep it lies.
struct Waiting {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    depth: u64,
}

struct Walk<'a> {
    reads: &'a Reads,
    view: &'a View,
    reader: &'a Reader,
    elsewhere: Option<&'a Elsewhere<'a>>,
    suggested_only: bool,
    max_depth: u64,
}

impl Walk<'_> {
    /// The first rooms of the tree, depth first, each where it is met first: a space that contains itself is shown once.
    async fn rooms(&self, root: &RoomId, most: usize) -> Result<Vec<Arc<About>>, ReadRoomError> {
        let mut found = vec![self.visit(root, &[]).await?.ok_or(ReadRoomError::Forbidden)?];
        let mut seen = HashSet::from([root.to_owned()]);
        let mut stack = Vec::new();
        self.push_children(&found[0], 0, &mut stack);
        while let Some(next) = stack.pop()
            && found.len() < most
            && seen.len() < MAX_ROOMS
        {
            if !seen.insert(next.room_id.clone()) {
                continue;
            }
            if let Some(about) = self.visit(&next.room_id, &next.via).await? {
                self.push_children(&about, next.depth, &mut stack);
                found.push(about);
            }
        }
        Ok(found)
    }

    /// Puts the children of a space on the stack, so that the first of them comes off first.
    fn push_children(&self, about: &About, depth: u64, stack: &mut Vec<Waiting>) {
        if depth >= self.max_depth {
            return;
        }
        let children = about.children.iter().rev().filter(|child| child.suggested || !self.suggested_only);
        stack.extend(children.map(|child| Waiting {
            room_id: child.room_id.clone(),
            via: child.via.clone(),
            depth: depth + 1,
        }));
    }

    /// What a room says of itself, or another server of it, if the reader may know of it.
    async fn visit(&self, room_id: &RoomId, via: &[OwnedServerName]) -> Result<Option<Arc<About>>, ReadError> {
        let user = self.reader.user_nid;
        if let Some(room) = self.reads.room(self.view, room_id).await?
            && let Some(about) = room.about().await?.filter(|about| about.is_here)
        {
            let accessible = room.is_accessible(Some(user), &about).await?;
            return Ok(accessible.then_some(about));
        }
        let Some(elsewhere) = self.elsewhere else { return Ok(None) };
        let Some(about) = elsewhere.room(room_id, via).await else { return Ok(None) };
        let accessible = is_accessible_elsewhere(self.view, self.reads.caches(), user, &about).await?;
        Ok(accessible.then_some(about))
    }
}
