//! Whose devices a user has to look at anew (specification, "Tracking the device list for a user"): in a sync, and for `GET /keys/changes`.
//!
//! Rooms' logs tell whose devices changed, states of rooms who has come and gone. Somebody counts as sharing a room with a member when they have
//! joined it or are invited: what is said to those who are invited is encrypted for their devices too.

use std::collections::BTreeSet;

use primitives::{NodeId, Rix, RoomNid, Slot, StreamPosition};
use ruma::UserId;
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::{
        jobs::RemoteMembers,
        rooms::{Membership, Memberships, RoomLog, RoomLogEntry},
    },
};

use super::{
    SyncRequest,
    changes::{Left, UserChanges},
    response::DeviceLists,
    state_part::is_present,
};
use crate::{
    activity::Activity,
    context::read_error,
    partial::Period,
    read::{Reader, Reads, RoomView},
    state::{EMPTY, Entry, is_member_slot},
    tokens::SyncToken,
};

/// Rows of a room's log that are looked at; when there are more, everybody in the room counts as changed.
const LOOKED_AT: usize = 5_000;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;
/// Changes of one member event that are followed back to see whether the user has been away.
const FOLLOWED: usize = 16;

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    /// Whose devices changed, or who has come.
    changed: BTreeSet<String>,
    /// Who is in a room that was looked at.
    here: BTreeSet<String>,
    /// Who has gone from a room; they may be in another.
    gone: BTreeSet<String>,
    /// The user has come to a room where others are.
    met: bool,
}

/// What a room's log says of the lists of its members.
#[derive(Debug, Default)]
struct Logged {
    users: BTreeSet<String>,
    /// Members may have come or gone.
    members_changed: bool,
    /// The state was partial, with the first of these roots, and became whole, with the second.
    whole: Option<(NodeId, NodeId)>,
    /// There was more than is looked at.
    cut: bool,
}

impl Reads {
    /// Whose devices to look at anew since a token, and whose no more. A token of another database counts as one of the beginning.
    pub async fn device_lists(&self, reader: &Reader, since: SyncToken) -> Result<DeviceLists, ReadError> {
        let view = self.0.storage.view();
        let now = self.token_of(&view);
        let known = since.epoch == now.epoch && since.position <= now.position;
        let since = SyncToken { position: if known { since.position } else { StreamPosition::ZERO }, ..now };
        let request = SyncRequest { since: Some(since), ..SyncRequest::default() };
        // What lives in memory is of no interest here.
        let changes = self.changes(&view, reader, &request, u64::MAX).await?;
        self.lists_since(&view, reader, since.position, &changes, None).await
    }

    /// The same for a sync that has found out already what changed, and that loads members lazily or not; `None`: it is no sync.
    pub(super) async fn lists_since(
        &self,
        view: &View,
        reader: &Reader,
        since: StreamPosition,
        changes: &UserChanges,
        lazy: Option<bool>,
    ) -> Result<DeviceLists, ReadError> {
        let mut found = Found::default();
        for (room, newly) in &changes.joined {
            if *newly || self.0.activity.lists_since(*room, since) != Activity::Quiet {
                log(self.find_in_begun(view, reader, (*room, *newly), (since, lazy), &mut found).await);
            }
        }
        for left in changes.left.iter().filter(|left| left.was_in) {
            log(self.find_left(view, reader, *left, since, &mut found).await);
        }
        let own = reader.user_id.as_str();
        let mut left = Vec::new();
        if !found.gone.is_empty() {
            let rooms = self.0.sync.joined_rooms(view, reader.user_nid).await?;
            for user in &found.gone {
                if user != own && !found.here.contains(user) && !self.shares_one_of(view, user, &rooms).await? {
                    found.changed.remove(user);
                    left.push(user.clone());
                }
            }
        }
        // Who comes to a room shares it with their own other devices too; what else rooms say of the user, their own log has said.
        if !found.met {
            found.changed.remove(own);
        }
        let theirs = changes.lists.iter().map(|user| user.clone().unwrap_or_else(|| own.to_owned()));
        found.changed.extend(theirs);
        Ok(DeviceLists { changed: found.changed.into_iter().collect(), left })
    }

    /// A room that the user is in. For a client that wants all members it begins when its state is whole.
    async fn find_in_begun(
        &self,
        view: &View,
        reader: &Reader,
        (nid, newly): (RoomNid, bool),
        (since, lazy): (StreamPosition, Option<bool>),
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let mut begins = false;
        if lazy != Some(true)
            && let Some(period) = Period::of(view, nid).await?
        {
            if period.whole.is_none() && lazy == Some(false) {
                return Ok(());
            }
            begins = period.whole.is_some() && period.covers(since);
        }
        self.find_in_room(view, reader, nid, (since, newly || begins), found).await
    }

    /// A room that the user is in. `newly`: they know nothing of what was said there before.
    async fn find_in_room(
        &self,
        view: &View,
        reader: &Reader,
        nid: RoomNid,
        (since, newly): (StreamPosition, bool),
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let Some(room) = RoomView::by_number(view, &self.0.caches, nid).await? else { return Ok(()) };
        let Some(head) = room.head().await? else { return Ok(()) };
        let logged = self.read_log(&room, since).await?;
        for user in logged.users {
            let slot = room.slot("m.room.member", &user).await?;
            let member = room.member_at(head.root, slot).await?;
            if is_present(member.map(|(_, membership)| membership)) {
                found.changed.insert(user);
            }
        }
        if newly || logged.cut {
            for (slot, _) in room.members(head.root, |entry| is_present(entry.membership)).await? {
                let user = room.slot_key(slot).await?.state_key.clone();
                found.met |= newly && user != reader.user_id.as_str();
                found.here.insert(user.clone());
                found.changed.insert(user);
            }
        }
        if !(newly || logged.cut || logged.members_changed) {
            return Ok(());
        }
        let root = root_at(&room, since).await?;
        let knew = !newly || was_member(&room, reader, root).await?;
        let mut differences = Vec::new();
        if let Some((partial, whole)) = logged.whole {
            differences.extend(room.diff(root, partial).await?);
            // Who was unknown has neither come nor gone: of whom something was heard meanwhile, the log tells.
            differences.extend(room.diff(partial, whole).await?.into_iter().filter(|one| one.before.is_some()));
            differences.extend(room.diff(whole, head.root).await?);
        } else {
            differences = room.diff(root, head.root).await?;
        }
        for difference in differences {
            let (slot, before, after) = (difference.slot, difference.before, difference.after);
            if !is_member_slot(slot) {
                continue;
            }
            let user = room.slot_key(slot).await?.state_key.clone();
            if !present(after) {
                if present(before) && knew {
                    found.gone.insert(user);
                }
            } else if has_come(&room, slot, before, after).await? {
                found.here.insert(user.clone());
                found.changed.insert(user);
            }
        }
        Ok(())
    }

    /// A room that the user has left: whoever was there when they last looked.
    async fn find_left(
        &self,
        view: &View,
        reader: &Reader,
        left: Left,
        since: StreamPosition,
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let Some(room) = RoomView::by_number(view, &self.0.caches, left.room).await? else { return Ok(()) };
        let root = root_at(&room, since).await?;
        if was_member(&room, reader, root).await? {
            for (slot, _) in room.members(root, |entry| is_present(entry.membership)).await? {
                found.gone.insert(room.slot_key(slot).await?.state_key.clone());
            }
        }
        Ok(())
    }

    /// What a room's log says since a position. Remembers how new it is, so that the next one who asks need not look.
    async fn read_log(&self, room: &RoomView<'_>, since: StreamPosition) -> Result<Logged, ReadError> {
        let (mut logged, mut newest, mut looked_at) = (Logged::default(), since, 0);
        let end = room.view.position().next();
        let mut rest = Some(KeyRange::between(&(room.nid, since.next()), &(room.nid, end)));
        while let Some(range) = rest {
            let page = room.view.scan::<RoomLog>(&range, PAGE, Direction::Forward).await?;
            looked_at += page.rows.len();
            for ((_, position, _), entry) in page.rows {
                let concerns = match entry {
                    RoomLogEntry::DeviceChange { user_id } => {
                        logged.users.insert(user_id);
                        true
                    }
                    RoomLogEntry::Event { changed: Some(slots), .. } => {
                        let members = slots.into_iter().any(is_member_slot);
                        logged.members_changed |= members;
                        members
                    }
                    RoomLogEntry::Event { changed: None, .. } | RoomLogEntry::Reset { .. } => {
                        logged.members_changed = true;
                        true
                    }
                    RoomLogEntry::Whole { old, new } => {
                        logged.members_changed = true;
                        logged.whole = Some((old, new));
                        true
                    }
                };
                newest = if concerns { newest.max(position) } else { newest };
            }
            rest = page.rest;
            if rest.is_some() && looked_at >= LOOKED_AT {
                logged.cut = true;
                return Ok(logged);
            }
        }
        self.0.activity.learn_lists(room.nid, newest);
        Ok(logged)
    }

    /// Whether a user is in one of the rooms, which are sorted by number.
    async fn shares_one_of(&self, view: &View, user: &str, rooms: &[RoomNid]) -> Result<bool, ReadError> {
        let Ok(user_id) = <&UserId>::try_from(user) else { return Ok(false) };
        if !self.0.users.is_local(user_id) {
            return self.shares_room_with_remote(view, user, rooms).await;
        }
        let Some(nid) = self.0.users.nid(user_id).await.map_err(read_error)? else { return Ok(false) };
        let mut rest = Some(KeyRange::prefix(&(nid,)));
        while let Some(range) = rest {
            let page = view.scan::<Memberships>(&range, PAGE, Direction::Forward).await?;
            let in_one = |(_, room): &(_, RoomNid)| rooms.binary_search(room).is_ok();
            if page.rows.iter().any(|(key, row)| is_present(Some(row.value.membership)) && in_one(key)) {
                return Ok(true);
            }
            rest = page.rest;
        }
        Ok(false)
    }

    /// The projection of other servers' users may be a moment late: it says where to look, the rooms' states what is so.
    async fn shares_room_with_remote(&self, view: &View, user: &str, rooms: &[RoomNid]) -> Result<bool, ReadError> {
        let mut rest = Some(KeyRange::prefix(&(Text::new(user),)));
        while let Some(range) = rest {
            let page = view.scan_keys::<RemoteMembers>(&range, PAGE, Direction::Forward).await?;
            for (_, nid) in page.keys.into_iter().filter(|(_, room)| rooms.binary_search(room).is_ok()) {
                let Some(room) = RoomView::by_number(view, &self.0.caches, nid).await? else { continue };
                let Some(head) = room.head().await? else { continue };
                let slot = room.slot("m.room.member", user).await?;
                if is_present(room.member_at(head.root, slot).await?.map(|(_, membership)| membership)) {
                    return Ok(true);
                }
            }
            rest = page.rest;
        }
        Ok(false)
    }
}

/// One room's error never fails a sync.
fn log(looked: Result<(), ReadError>) {
    if let Err(error) = looked {
        tracing::error!(%error, "a room is left out of the lists of devices: it cannot be read");
    }
}

async fn root_at(room: &RoomView<'_>, position: StreamPosition) -> Result<NodeId, ReadError> {
    Ok(room.last_event_at(position).await?.map_or(EMPTY, |(_, root)| root))
}

async fn was_member(room: &RoomView<'_>, reader: &Reader, root: NodeId) -> Result<bool, ReadError> {
    if root == EMPTY {
        return Ok(false);
    }
    let slot = room.slot("m.room.member", reader.user_id.as_str()).await?;
    Ok(room.member_at(root, slot).await?.is_some_and(|(_, membership)| membership == Membership::Join))
}

fn present(entry: Option<Entry>) -> bool {
    is_present(entry.and_then(|entry| entry.membership))
}

/// Whether a member who is there now was not before, or has been away meanwhile.
async fn has_come(
    room: &RoomView<'_>,
    slot: Slot,
    before: Option<Entry>,
    after: Option<Entry>,
) -> Result<bool, ReadError> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(true) };
    if before.membership != after.membership {
        return Ok(true);
    }
    let mut rix: Rix = after.rix;
    for _ in 0..FOLLOWED {
        let Some(event) = room.event(rix).await? else { return Ok(true) };
        match room.member_at(event.header.root_before, Some(slot)).await? {
            Some((earlier, _)) if earlier == before.rix => return Ok(false),
            Some((earlier, membership)) if Some(membership) == after.membership => rix = earlier,
            _ => return Ok(true),
        }
    }
    Ok(true)
}
