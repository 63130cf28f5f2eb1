//! One room in one view: look-ups that go through the caches.

use std::sync::Arc;

use primitives::{NodeId, Rix, RoomNid, Slot, StreamPosition};
use ruma::{EventId, OwnedRoomId, RoomId};
use storage::{
    Direction, KeyRange, Page, ReadError, Text, View,
    schema::rooms::{
        EventHeader, EventHeaders, EventJson, Membership, Redactions, RoomHead, RoomHeads, RoomIds, RoomLog, Rooms,
        SlotKey, SlotKeys, Slots,
    },
};

use super::{Caches, caches::RoomName};
use crate::{
    RoomVersion,
    event_key::find_event,
    load::corrupt,
    render::StoredEvent,
    state::{self, Difference, EMPTY, Entry},
    tree::StoredTrees,
};

/// A room as a view shows it.
pub(crate) struct RoomView<'a> {
    pub(crate) view: &'a View,
    pub(crate) caches: &'a Caches,
    pub(crate) nid: RoomNid,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) version: RoomVersion,
    trees: StoredTrees,
}

impl<'a> RoomView<'a> {
    /// The room of that id; `None` if there is none. Whether it is being purged, [`Self::head`] tells.
    pub(crate) async fn by_id(view: &'a View, caches: &'a Caches, room_id: &RoomId) -> Result<Option<Self>, ReadError> {
        if let Some(nid) = caches.room_ids.get(room_id) {
            return Self::by_number(view, caches, nid).await;
        }
        let Some(nid) = view.get::<RoomIds>(&(Text::new(room_id.as_str()),)).await? else { return Ok(None) };
        caches.room_ids.insert(room_id.to_owned(), nid);
        Self::by_number(view, caches, nid).await
    }

    /// The room of that number; `None` if there is none.
    pub(crate) async fn by_number(view: &'a View, caches: &'a Caches, nid: RoomNid) -> Result<Option<Self>, ReadError> {
        let name = if let Some(name) = caches.rooms.get(&nid) {
            name
        } else {
            let Some(row) = view.get::<Rooms>(&(nid,)).await? else { return Ok(None) };
            let version = RoomVersion::parse(&row.version).ok_or_else(|| corrupt::<Rooms>("unknown room version"))?;
            let room_id = row.room_id.as_str().try_into().map_err(|_| corrupt::<Rooms>("not a room id"))?;
            let name = RoomName { room_id, version };
            caches.rooms.insert(nid, name.clone());
            name
        };
        let trees = StoredTrees::new(view.clone(), nid, Arc::clone(&caches.nodes));
        Ok(Some(Self { view, caches, nid, room_id: name.room_id, version: name.version, trees }))
    }

    /// Where the room stands; `None` if no event of it is stored or it is being purged.
    pub(crate) async fn head(&self) -> Result<Option<RoomHead>, ReadError> {
        Ok(self.view.get::<RoomHeads>(&(self.nid,)).await?.filter(|head| !head.purging))
    }

    /// The number of an event of this room.
    pub(crate) async fn find_event(&self, event_id: &EventId) -> Result<Option<Rix>, ReadError> {
        find_event(self.view, self.nid, event_id).await
    }

    /// An event as it was stored.
    pub(crate) async fn event(&self, rix: Rix) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        if let Some(event) = self.caches.events.get(&(self.nid, rix)) {
            return Ok(Some(event));
        }
        let Some(header) = self.view.get::<EventHeaders>(&(self.nid, rix)).await? else { return Ok(None) };
        let Some(json) = self.view.get::<EventJson>(&(self.nid, rix)).await? else { return Ok(None) };
        let event = StoredEvent::new(self.version, rix, header, &json.0);
        let event = Arc::new(event.map_err(|error| corrupt::<EventJson>(error.to_string()))?);
        self.caches.events.insert((self.nid, rix), Arc::clone(&event));
        Ok(Some(event))
    }

    /// Whether an event is the membership event of somebody else than a user. Reads no more than that takes.
    pub(crate) async fn is_membership_of_another(&self, rix: Rix, user_id: &str) -> Result<bool, ReadError> {
        let says_so = |header: &EventHeader| {
            header.event_type == "m.room.member" && header.state_key.as_deref().is_some_and(|key| key != user_id)
        };
        if let Some(event) = self.caches.events.get(&(self.nid, rix)) {
            return Ok(says_so(&event.header));
        }
        Ok(self.view.get::<EventHeaders>(&(self.nid, rix)).await?.is_some_and(|header| says_so(&header.value)))
    }

    /// The first page of the rows of the room's log after one position and up to another, newest first. `upto` is at most the view's.
    pub(crate) async fn log_between(
        &self,
        since: StreamPosition,
        upto: StreamPosition,
        limit: usize,
    ) -> Result<Page<RoomLog>, ReadError> {
        if let Some(rows) = self.caches.activity.recent(self.nid, since, upto) {
            let rows = rows.into_iter().map(|((position, index), entry)| ((self.nid, position, index), entry));
            return Ok(Page { rows: rows.collect(), rest: None });
        }
        let range = KeyRange::between(&(self.nid, since.next()), &(self.nid, upto.next()));
        self.view.scan(&range, limit, Direction::Backward).await
    }

    /// Several events as they were stored, in their order. They must exist.
    pub(crate) async fn events(&self, rixes: &[Rix]) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let mut found: Vec<_> = rixes.iter().map(|rix| self.caches.events.get(&(self.nid, *rix))).collect();
        let absent: Vec<_> =
            rixes.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(rix, _)| (self.nid, *rix)).collect();
        let headers = self.view.multi_get::<EventHeaders>(&absent).await?;
        let texts = self.view.multi_get::<EventJson>(&absent).await?;
        let mut loaded = absent.iter().zip(headers).zip(texts);
        for place in found.iter_mut().filter(|place| place.is_none()) {
            let Some(((key, Some(header)), Some(json))) = loaded.next() else {
                return Err(corrupt::<EventHeaders>(format!("an event of room {} is missing", self.nid)));
            };
            let event = StoredEvent::new(self.version, key.1, header, &json.0);
            let event = Arc::new(event.map_err(|error| corrupt::<EventJson>(error.to_string()))?);
            self.caches.events.insert(*key, Arc::clone(&event));
            *place = Some(event);
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The key part under which stands what other events say of an event.
    pub(crate) fn target_hash(&self, event: &StoredEvent) -> [u8; 16] {
        self.hash_of(&event.header.event_id)
    }

    fn hash_of(&self, event_id: &str) -> [u8; 16] {
        self.caches.hash.hash16(&[event_id.as_bytes()])
    }

    /// The event that emptied an event, if one did.
    pub(crate) async fn redaction_of(&self, event: &StoredEvent) -> Result<Option<Rix>, ReadError> {
        self.redaction_of_id(&event.header.event_id).await
    }

    /// The event that emptied the event of an id, if one did.
    pub(crate) async fn redaction_of_id(&self, event_id: &str) -> Result<Option<Rix>, ReadError> {
        if !self.has_redactions().await? {
            return Ok(None);
        }
        let target = self.hash_of(event_id);
        let page = self.view.scan::<Redactions>(&KeyRange::prefix(&(self.nid, target)), 1, Direction::Forward).await?;
        Ok(page.rows.first().map(|((_, _, rix), ())| *rix))
    }

    /// Whether any event of the room may have been redacted.
    pub(crate) async fn has_redactions(&self) -> Result<bool, ReadError> {
        if let Some(known) = self.caches.activity.has_redactions(self.nid) {
            return Ok(known);
        }
        let page = self.view.scan::<Redactions>(&KeyRange::prefix(&(self.nid,)), 1, Direction::Forward).await?;
        if page.rows.is_empty() {
            self.caches.activity.learn_no_redactions(self.nid);
        } else {
            self.caches.activity.redacts(self.nid);
        }
        Ok(!page.rows.is_empty())
    }

    /// The event as a redaction left it.
    pub(crate) fn pruned(&self, event: &StoredEvent) -> Result<Arc<StoredEvent>, ReadError> {
        if let Some(pruned) = self.caches.redacted.get(&(self.nid, event.rix)) {
            return Ok(pruned);
        }
        let pruned = event.redacted(self.version).map_err(|error| corrupt::<EventJson>(error.to_string()))?;
        let pruned = Arc::new(pruned);
        self.caches.redacted.insert((self.nid, event.rix), Arc::clone(&pruned));
        Ok(pruned)
    }

    /// An event as it is to be seen now: pruned, if it has been redacted.
    pub(crate) async fn as_it_is_now(&self, rix: Rix) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        let Some(event) = self.event(rix).await? else { return Ok(None) };
        Ok(Some(if self.redaction_of(&event).await?.is_some() { self.pruned(&event)? } else { event }))
    }

    /// The slot of a type and state key, if the room has given it one.
    pub(crate) async fn slot(&self, event_type: &str, state_key: &str) -> Result<Option<Slot>, ReadError> {
        let parts = [event_type.as_bytes(), state_key.as_bytes()];
        let cached = (self.nid, self.caches.hash.hash16(&parts));
        if let Some(slot) = self.caches.slots.get(&cached) {
            return Ok(Some(slot));
        }
        let list = self.view.get::<Slots>(&(self.nid, self.caches.hash.hash8(&parts))).await?;
        for slot in list.map(|list| list.0).unwrap_or_default() {
            let key = self.slot_key(slot).await?;
            if key.event_type == event_type && key.state_key == state_key {
                self.caches.slots.insert(cached, slot);
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Reads together, where they are not known, the events that a state holds under these types and an empty state key: whoever looks at one after the
    /// other finds them in memory.
    pub(crate) async fn prefetch(&self, root: NodeId, event_types: &[&str]) -> Result<(), ReadError> {
        let hash = self.caches.hash;
        let is_unknown = |event_type: &&&str| {
            self.caches.slots.get(&(self.nid, hash.hash16(&[event_type.as_bytes(), b""]))).is_none()
        };
        let unknown = event_types.iter().filter(is_unknown);
        let keys: Vec<_> = unknown.map(|kind| (self.nid, hash.hash8(&[kind.as_bytes(), b""]))).collect();
        let lists = self.view.multi_get::<Slots>(&keys).await?;
        let found: Vec<_> = lists.into_iter().flatten().flat_map(|list| list.0).collect();
        let keys: Vec<_> = found.iter().map(|slot| (self.nid, *slot)).collect();
        for (slot, key) in found.iter().zip(self.view.multi_get::<SlotKeys>(&keys).await?) {
            let key = Arc::new(key.ok_or_else(|| corrupt::<SlotKeys>(format!("no slot {slot} in room {}", self.nid)))?);
            let parts = [key.event_type.as_bytes(), key.state_key.as_bytes()];
            self.caches.slots.insert((self.nid, hash.hash16(&parts)), *slot);
            self.caches.slot_keys.insert((self.nid, *slot), key);
        }
        let mut slots = Vec::with_capacity(event_types.len());
        for event_type in event_types {
            slots.extend(self.slot(event_type, "").await?);
        }
        let entries = self.entries(root, &slots).await?;
        let rixes: Vec<_> = entries.into_iter().flatten().map(|entry| entry.rix).collect();
        self.events(&rixes).await.map(drop)
    }

    /// The type and state key of a slot.
    pub(crate) async fn slot_key(&self, slot: Slot) -> Result<Arc<SlotKey>, ReadError> {
        if let Some(key) = self.caches.slot_keys.get(&(self.nid, slot)) {
            return Ok(key);
        }
        let key = self.view.get::<SlotKeys>(&(self.nid, slot)).await?;
        let key = Arc::new(key.ok_or_else(|| corrupt::<SlotKeys>(format!("no slot {slot} in room {}", self.nid)))?);
        self.caches.slot_keys.insert((self.nid, slot), Arc::clone(&key));
        Ok(key)
    }

    /// The state event that a state holds under a type and state key.
    pub(crate) async fn state_at(
        &self,
        root: NodeId,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<Rix>, ReadError> {
        if root == EMPTY {
            return Ok(None);
        }
        match self.slot(event_type, state_key).await? {
            Some(slot) => Ok(self.entry(root, slot).await?.map(|entry| entry.rix)),
            None => Ok(None),
        }
    }

    /// The member event and membership that a state holds in a member's slot.
    pub(crate) async fn member_at(
        &self,
        root: NodeId,
        slot: Option<Slot>,
    ) -> Result<Option<(Rix, Membership)>, ReadError> {
        let Some(slot) = slot else { return Ok(None) };
        let entry = self.entry(root, slot).await?;
        Ok(entry.and_then(|entry| entry.membership.map(|membership| (entry.rix, membership))))
    }

    /// What a slot holds in a state.
    pub(crate) async fn entry(&self, root: NodeId, slot: Slot) -> Result<Option<Entry>, ReadError> {
        self.trees.get(root, slot).await
    }

    /// What each of the slots holds in a state.
    pub(crate) async fn entries(&self, root: NodeId, slots: &[Slot]) -> Result<Vec<Option<Entry>>, ReadError> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        self.trees.run(|nodes| state::get_many(&nodes, root, slots)).await
    }

    /// The members that a state holds, as far as `keep` lets them through.
    pub(crate) async fn members(
        &self,
        root: NodeId,
        keep: impl Fn(Entry) -> bool,
    ) -> Result<Vec<(Slot, Entry)>, ReadError> {
        self.trees.run(|nodes| state::members(&nodes, root, &keep)).await
    }

    /// What a state holds besides members.
    pub(crate) async fn others(&self, root: NodeId) -> Result<Vec<(Slot, Entry)>, ReadError> {
        self.trees.run(|nodes| state::others(&nodes, root)).await
    }

    /// Where two states differ.
    pub(crate) async fn diff(&self, before: NodeId, after: NodeId) -> Result<Vec<Difference>, ReadError> {
        self.trees.run(|nodes| state::diff(&nodes, before, after)).await
    }

    /// How many members a state has: joined and invited.
    pub(crate) async fn counts(&self, root: NodeId) -> Result<(u32, u32), ReadError> {
        let root = self.trees.root(root).await?;
        Ok((root.joined, root.invited))
    }
}
