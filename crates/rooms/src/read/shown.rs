//! Stored events made into what one reader is shown.

use std::{collections::HashMap, sync::Arc};

use primitives::{Rix, UnixMillis};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventLocals, RelationRow, Relations},
};

use super::{Reader, RoomView, Wishes};
use crate::{
    filter::{EventFields, EventFormat, Filter, RoomEventFilter},
    render::{ClientEvent, StoredEvent, Unsigned},
    visibility::{Eyes, Standing},
};

/// How many relations of one event a filter looks at.
const RELATIONS_LOOKED_AT: usize = 1_000;

/// How many events of a state are held in memory beside their rendered form.
const EVENTS_AT_ONCE: usize = 500;
/// Of more events of one state it isn't said what each replaced and what the reader's membership was: that would be a look into another state for each.
const MANY: usize = 2_000;

/// Shows the events of one room to one reader.
pub(crate) struct Shower<'a> {
    /// The room.
    pub(crate) room: &'a RoomView<'a>,
    /// What the reader sees.
    pub(crate) eyes: Eyes<'a>,
    reader: &'a Reader,
    now: UnixMillis,
    with_room_id: bool,
    format: EventFormat,
    fields: Option<Arc<EventFields>>,
    /// Senders of whom it is known whether they asked to be erased.
    erased: HashMap<String, bool>,
}

impl<'a> Shower<'a> {
    /// Shows events that say which room they are of.
    pub(crate) async fn open(room: &'a RoomView<'a>, reader: &'a Reader, now: UnixMillis) -> Result<Self, ReadError> {
        let eyes = Eyes::open(room, &reader.user_id, reader.user_nid).await?;
        Ok(Self::with(room, eyes, reader, now))
    }

    /// The same for a reader who is known to be in the room.
    pub(crate) async fn for_member(
        room: &'a RoomView<'a>,
        reader: &'a Reader,
        wishes: &Wishes,
        now: UnixMillis,
    ) -> Result<Self, ReadError> {
        let eyes = Eyes::standing_as(room, &reader.user_id, wishes.ignored.clone(), Standing::Joined).await?;
        Ok(Self::with(room, eyes, reader, now))
    }

    fn with(room: &'a RoomView<'a>, eyes: Eyes<'a>, reader: &'a Reader, now: UnixMillis) -> Self {
        let (format, fields, erased) = (EventFormat::Client, None, HashMap::new());
        Self { room, eyes, reader, now, with_room_id: true, format, fields, erased }
    }

    /// The same for /sync, where the room is said once for all its events, in the form that its filter asks for.
    pub(crate) fn for_sync(self, filter: &Filter) -> Self {
        Self { with_room_id: false, format: filter.event_format, fields: filter.event_fields.clone(), ..self }
    }

    /// An event, if there is one and the reader may see it and wants it.
    pub(crate) async fn wanted(
        &mut self,
        rix: Rix,
        filter: &RoomEventFilter,
    ) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        let Some(event) = self.room.event(rix).await? else { return Ok(None) };
        if self.ignores(&event) || !self.eyes.sees(&event.header).await? {
            return Ok(None);
        }
        if filter.selects_everything() {
            return Ok(Some(event));
        }
        // A filter looks at the event as it is shown, or it would tell what a redaction took away.
        let shown = if self.is_emptied(&event).await? { self.room.pruned(&event)? } else { Arc::clone(&event) };
        let selected = filter.selects(&shown.facts())
            && (!filter.needs_relations() || filter.selects_related(&self.relations(&event).await?));
        Ok(selected.then_some(event))
    }

    /// Who reads.
    pub(super) fn reader(&self) -> &Reader {
        self.reader
    }

    /// Whether the reader ignores the sender of an event. State is shown whoever sent it.
    pub(super) fn ignores(&self, event: &StoredEvent) -> bool {
        self.eyes.ignores(&event.header)
    }

    async fn relations(&self, event: &StoredEvent) -> Result<Vec<RelationRow>, ReadError> {
        let target = self.room.target_hash(event);
        let range = KeyRange::prefix(&(self.room.nid, target));
        let page = self.room.view.scan::<Relations>(&range, RELATIONS_LOOKED_AT, Direction::Forward).await?;
        let rows = page.rows.into_iter().map(|(_, row)| row);
        let ignored = |row: &RelationRow| self.eyes.ignored().any(|user| user == row.sender);
        Ok(rows.filter(|row| row.target == event.header.event_id && !ignored(row)).collect())
    }

    /// An event for the reader, whom the caller has found entitled to it.
    pub(crate) async fn show(&mut self, event: &Arc<StoredEvent>) -> Result<ClientEvent, ReadError> {
        let unsigned = Unsigned {
            membership: Some(self.eyes.membership_after(&event.header).await?),
            replaces: self.replaced(event).await?,
            ..Unsigned::default()
        };
        self.show_with(event, unsigned).await
    }

    /// The same with what its `unsigned` says of other states.
    async fn show_with(&mut self, event: &Arc<StoredEvent>, mut unsigned: Unsigned) -> Result<ClientEvent, ReadError> {
        unsigned.age = Some(event.age(self.now));
        if event.header.sender == self.reader.user_id.as_str() {
            self.add_local(event.rix, &mut unsigned).await?;
        }
        let mut event = Arc::clone(event);
        if let Some(redaction) = self.room.redaction_of(&event).await? {
            event = self.room.pruned(&event)?;
            unsigned.redacted_because = self.room.event(redaction).await?.map(|because| Box::new(self.plain(because)));
        } else if self.is_erased(&event).await? {
            event = self.room.pruned(&event)?;
        }
        Ok(ClientEvent { unsigned, fields: self.fields.clone(), ..self.plain(event) })
    }

    /// Shows events in their order.
    pub(crate) async fn show_each(&mut self, events: &[Arc<StoredEvent>]) -> Result<Vec<ClientEvent>, ReadError> {
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            shown.push(self.show(event).await?);
        }
        Ok(shown)
    }

    /// Several events of a state, for a reader who may see that state. In the order of their numbers, which is that of their arrival. Of [`MANY`] their
    /// `unsigned` says less, as the specification lets servers do where it would be expensive.
    pub(crate) async fn show_all(&mut self, mut rixes: Vec<Rix>) -> Result<Vec<ClientEvent>, ReadError> {
        rixes.sort_unstable();
        let mut shown = Vec::with_capacity(rixes.len());
        for some in rixes.chunks(EVENTS_AT_ONCE) {
            let events = self.room.events(some).await?;
            if rixes.len() <= MANY {
                shown.extend(self.show_each(&events).await?);
                continue;
            }
            for event in &events {
                shown.push(self.show_with(event, Unsigned::default()).await?);
            }
        }
        Ok(shown)
    }

    /// Whether an event is shown without what it said: it was redacted, or is shown to the reader as if it were.
    pub(crate) async fn is_emptied(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        Ok(self.room.redaction_of(event).await?.is_some() || self.is_erased(event).await?)
    }

    /// Whether an event is shown as if it were redacted: its sender asked to be erased, and the reader was not there when it was sent. What
    /// a user said of the room (its name, its rules) is the room's and stays; what they said of themselves is not.
    async fn is_erased(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        let header = &event.header;
        let of_themselves = header.state_key.as_ref().is_none_or(|key| *key == header.sender);
        Ok(of_themselves && self.asked_for_it(&header.sender).await? && !self.eyes.was_there(header).await?)
    }

    async fn asked_for_it(&mut self, sender: &str) -> Result<bool, ReadError> {
        if !self.room.caches.may_be_erased() {
            return Ok(false);
        }
        if let Some(known) = self.erased.get(sender) {
            return Ok(*known);
        }
        let erased = self.room.caches.is_erased(sender).await?;
        self.erased.insert(sender.to_owned(), erased);
        Ok(erased)
    }

    fn plain(&self, event: Arc<StoredEvent>) -> ClientEvent {
        let unsigned = Unsigned { age: Some(event.age(self.now)), ..Unsigned::default() };
        let named = self.with_room_id || self.format == EventFormat::Federation;
        let room_id = named.then(|| self.room.room_id.clone());
        ClientEvent { event, room_id, unsigned, format: self.format, fields: None }
    }

    /// The state event that a state event replaced, as it is to be seen now.
    async fn replaced(&mut self, event: &StoredEvent) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        let header = &event.header;
        let Some(state_key) = &header.state_key else { return Ok(None) };
        let Some(rix) = self.room.state_at(header.root_before, &header.event_type, state_key).await? else {
            return Ok(None);
        };
        let Some(replaced) = self.room.event(rix).await? else { return Ok(None) };
        Ok(Some(if self.is_emptied(&replaced).await? { self.room.pruned(&replaced)? } else { replaced }))
    }

    async fn add_local(&self, rix: Rix, unsigned: &mut Unsigned) -> Result<(), ReadError> {
        let Some(local) = self.room.view.get::<EventLocals>(&(self.room.nid, rix)).await? else { return Ok(()) };
        unsigned.delay_id = local.delay_id;
        let same_device = local.device_id.is_some()
            && local.device_id.as_deref() == self.reader.device_id.as_ref().map(|id| id.as_str());
        unsigned.transaction_id = local.transaction_id.filter(|_| same_device);
        Ok(())
    }
}
