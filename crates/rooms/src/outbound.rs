//! What other servers are to be told of a room: read from its log, by whoever sends to them.
//!
//! Every commit to a room's log shows in [`Reads::rooms_with_news`] before it is visible, so that a follower that takes its view first misses none.

mod taking_part;

use std::{collections::BTreeSet, sync::Arc};

use primitives::{NodeId, Rix, RoomNid, StreamPosition, canonical};
use ruma::{OwnedRoomId, OwnedServerName, UserId, canonical_json::CanonicalJsonObject};
use storage::{
    Direction, KeyRange, Page, ReadError, View,
    schema::rooms::{EventJson, Membership, RoomHeads, RoomLog, RoomLogEntry, RoomServerSlots},
};

use crate::{
    load::corrupt,
    partial::Period,
    read::{Reads, RoomView},
    receipts::{self, Receipt, ReceiptType},
    render::StoredEvent,
    state::EMPTY,
};

pub(crate) use taking_part::TakingPart;

/// Rows of a room's log that are looked at in one page.
const PAGE: usize = 200;

/// The servers that are to be told.
pub type Servers = Arc<BTreeSet<OwnedServerName>>;

/// What other servers are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// Its position in the room's log.
    pub position: StreamPosition,
    /// Those who are to be told: never this server, and never who made it.
    pub servers: Servers,
    /// The event, made here, or accepted here for another server.
    pub rix: Rix,
}

/// A page of what other servers are to be told of a room.
#[derive(Clone, Debug, Default)]
pub struct OutboundPage {
    /// In the order of the log.
    pub news: Vec<Outbound>,
    /// The place after which to go on; `None`: the view shows no more.
    pub more_after: Option<StreamPosition>,
}

/// The public receipts of local users that came in a room, and whom to tell.
#[derive(Clone, Debug)]
pub struct OutboundReceipts {
    /// The room.
    pub room_id: OwnedRoomId,
    /// In the order in which they came.
    pub receipts: Vec<Receipt>,
    /// Who is in the room.
    pub servers: Servers,
}

/// Rows of a log, those of a batch together; and the place after which to go on, if there are more.
async fn batches(view: &View, range: &KeyRange) -> Result<(Vec<LogRow>, Option<StreamPosition>), ReadError> {
    let place = |row: Option<&LogRow>| row.map(|((_, position, _), _)| *position);
    let mut limit = PAGE;
    loop {
        let Page { mut rows, rest } = view.scan::<RoomLog>(range, limit, Direction::Forward).await?;
        if rest.is_none() {
            return Ok((rows, None));
        }
        // What the page has of its last batch is left for the next page.
        let last = place(rows.last());
        rows.retain(|row| place(Some(row)) != last);
        if !rows.is_empty() || limit >= storage::MAX_PAGE_ROWS {
            let more_after = place(rows.last()).or(last);
            return Ok((rows, more_after));
        }
        limit *= 8;
    }
}

type LogRow = ((RoomNid, StreamPosition, u16), RoomLogEntry);

impl Reads {
    /// What the store shows now, for the reads below.
    pub fn view(&self) -> View {
        self.0.storage.view()
    }

    /// The rooms whose logs may have rows after a position, as far as is known since the start. Take the view first.
    pub fn rooms_with_news(&self, since: StreamPosition) -> Vec<RoomNid> {
        self.0.activity.changed_since(since)
    }

    /// Waits until a commit to some room's log, or to its receipts. For one follower; what it was not waiting for is not missed.
    pub async fn news(&self) {
        self.0.activity.news().await;
    }

    /// All rooms with a number from `from` on, at most `limit`.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn rooms_from(&self, view: &View, from: RoomNid, limit: usize) -> Result<Vec<RoomNid>, ReadError> {
        let page = view.scan_keys::<RoomHeads>(&KeyRange::from(&(), &(from,)), limit, Direction::Forward).await?;
        Ok(page.keys.into_iter().map(|(room,)| room).collect())
    }

    /// What other servers are to be told of a room: the next page after a position. Of a room in which no other server ever was nothing is read.
    ///
    /// An event goes to the servers that were in the room before it or are after it and that the room's ACL let in before it; a departure also to
    /// the server of who departs, who may have been no more than invited.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn outbound(&self, view: &View, room: RoomNid, after: StreamPosition) -> Result<OutboundPage, ReadError> {
        if !self.has_met_others(view, room).await? {
            return Ok(OutboundPage::default());
        }
        let Some(read) = RoomView::by_number(view, &self.0.caches, room).await? else {
            return Ok(OutboundPage::default());
        };
        if read.head().await?.is_none() {
            return Ok(OutboundPage::default());
        }
        let range = KeyRange::between(&(room, after.next()), &(room, view.position().next()));
        let (rows, more_after) = batches(view, &range).await?;
        let mut news = Vec::new();
        for ((_, position, _), entry) in rows {
            news.extend(self.told(&read, position, entry).await?);
        }
        Ok(OutboundPage { news, more_after })
    }

    /// Whether the state of a room has ever named a user of another server, or lacked some.
    async fn has_met_others(&self, view: &View, room: RoomNid) -> Result<bool, ReadError> {
        if let Some(known) = self.0.activity.has_met_others(room) {
            return Ok(known);
        }
        let page = view.scan_keys::<RoomServerSlots>(&KeyRange::prefix(&(room,)), 1, Direction::Forward).await?;
        let has_met = !page.keys.is_empty() || Period::of(view, room).await?.is_some();
        if has_met {
            self.0.activity.meets_others(room);
        } else {
            self.0.activity.learn_met_no_others(room);
        }
        Ok(has_met)
    }

    async fn told(
        &self,
        room: &RoomView<'_>,
        position: StreamPosition,
        entry: RoomLogEntry,
    ) -> Result<Option<Outbound>, ReadError> {
        let RoomLogEntry::Event { rix, root, relay: true, .. } = entry else { return Ok(None) };
        let mut servers = self.servers_of(room, rix, root).await?;
        // The state that was current then was partial. Who was in the room is known by now.
        if let Some(Period { whole: Some(_), .. }) =
            Period::of(room.view, room.nid).await?.filter(|p| p.covers(position))
        {
            let now = self.other_servers(room.view, room.nid).await?;
            servers = Arc::new(servers.union(&now).cloned().collect());
        }
        Ok((!servers.is_empty()).then_some(Outbound { position, servers, rix }))
    }

    /// Whom to send an event, `root` being the room's state once it had come.
    async fn servers_of(&self, room: &RoomView<'_>, rix: Rix, root: NodeId) -> Result<Servers, ReadError> {
        let event = room.event(rix).await?;
        let event = event.ok_or_else(|| corrupt::<RoomLog>(format!("no event {rix} in room {}", room.nid)))?;
        let before = event.header.root_before;
        let mut servers = BTreeSet::clone(&*self.taking_part(room, before).await?);
        if root != before {
            servers.extend(self.taking_part(room, root).await?.iter().cloned());
        }
        servers.extend(self.departing(room, &event).await?);
        if let Ok(sender) = <&UserId>::try_from(&*event.header.sender) {
            servers.remove(sender.server_name());
        }
        TakingPart::retain_allowed(room, before, &mut servers).await?;
        Ok(Arc::new(servers))
    }

    /// The server of somebody who is taken out of the room, if it is another one that knows of the room.
    async fn departing(&self, room: &RoomView<'_>, event: &StoredEvent) -> Result<Option<OwnedServerName>, ReadError> {
        let departs = matches!(event.header.membership, Some(Membership::Leave | Membership::Ban));
        let Some(state_key) = event.header.state_key.as_deref().filter(|_| departs) else { return Ok(None) };
        let Ok(user) = <&UserId>::try_from(state_key) else { return Ok(None) };
        if self.0.users.is_local(user) || event.header.root_before == EMPTY {
            return Ok(None);
        }
        let slot = room.slot("m.room.member", state_key).await?;
        let before = room.member_at(event.header.root_before, slot).await?;
        let knows = before.is_some_and(|(_, membership)| membership != Membership::Leave);
        Ok(knows.then(|| user.server_name().to_owned()))
    }

    async fn taking_part(&self, room: &RoomView<'_>, root: NodeId) -> Result<Servers, ReadError> {
        let known = self.0.taking_part.others(room, root, self.0.users.server_name()).await?;
        let Some(noted) = self.0.taking_part.noted(room).await? else { return Ok(known) };
        if noted.is_subset(&known) {
            return Ok(known);
        }
        Ok(Arc::new(known.union(&noted).cloned().collect()))
    }

    /// The other servers that take part in a room now and that its ACL lets.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn other_servers(&self, view: &View, room: RoomNid) -> Result<Servers, ReadError> {
        let Some(read) = RoomView::by_number(view, &self.0.caches, room).await? else { return Ok(Servers::default()) };
        let Some(head) = read.head().await? else { return Ok(Servers::default()) };
        let servers = self.taking_part(&read, head.root).await?;
        if servers.is_empty() {
            return Ok(servers);
        }
        let mut allowed = BTreeSet::clone(&*servers);
        TakingPart::retain_allowed(&read, head.root, &mut allowed).await?;
        Ok(if allowed.len() == servers.len() { servers } else { Arc::new(allowed) })
    }

    /// The id of a room.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn room_id(&self, view: &View, room: RoomNid) -> Result<Option<OwnedRoomId>, ReadError> {
        Ok(RoomView::by_number(view, &self.0.caches, room).await?.map(|room| room.room_id))
    }

    /// The public receipts of local users that came in a room after a position, and whom to tell; `None` if there is nobody or nothing to tell.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn outbound_receipts(
        &self,
        view: &View,
        room: RoomNid,
        after: StreamPosition,
    ) -> Result<Option<OutboundReceipts>, ReadError> {
        if !self.has_met_others(view, room).await? {
            return Ok(None);
        }
        let Some(read) = RoomView::by_number(view, &self.0.caches, room).await? else { return Ok(None) };
        let mut receipts = receipts::since(&read, after).await?;
        receipts.retain(|receipt| {
            let of_us = <&UserId>::try_from(&*receipt.user_id).is_ok_and(|user| self.0.users.is_local(user));
            of_us && receipt.receipt_type == ReceiptType::Read
        });
        if receipts.is_empty() {
            return Ok(None);
        }
        let servers = self.other_servers(view, room).await?;
        Ok((!servers.is_empty()).then_some(OutboundReceipts { room_id: read.room_id, receipts, servers }))
    }

    /// An event as other servers get it: as it was signed, or as a redaction left it. `None` if it has gone with its room or
    /// can't be sent.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn pdu(&self, view: &View, room: RoomNid, rix: Rix) -> Result<Option<CanonicalJsonObject>, ReadError> {
        let Some(room) = RoomView::by_number(view, &self.0.caches, room).await? else { return Ok(None) };
        let Some(event) = room.event(rix).await? else { return Ok(None) };
        let Some(json) = view.get::<EventJson>(&(room.nid, rix)).await? else { return Ok(None) };
        let object = match canonical::parse_object(&json.0) {
            Ok(object) => object,
            Err(error) => {
                // Old room versions allow what no transaction can hold.
                tracing::warn!(event_id = %event.header.event_id, %error, "an event can't be sent to other servers");
                return Ok(None);
            }
        };
        if room.redaction_of(&event).await?.is_none() {
            return Ok(Some(object));
        }
        let pruned = ruma::canonical_json::redact(object, room.version.redaction(), None);
        Ok(Some(pruned.map_err(|error| corrupt::<EventJson>(error.to_string()))?))
    }
}
