//! What a user's rules make of the events of a room.

use std::{collections::HashMap, sync::Arc};

use primitives::{NodeId, Rix, RoomNid, Slot};
use quick_cache::sync::Cache;
use ruma::UserId;
use serde::Deserialize;
use serde_json::{Map, Value};
use storage::{
    ReadError,
    schema::rooms::{EventLocals, StateNodes},
};
use users::push_rules::{Compiled, Facts, Missing, Outcome, PushEvent};

use crate::{
    filter::EventFormat,
    load,
    power::Powers,
    read::{Reader, RoomView, Wishes},
    render::StoredEvent,
    state::is_member_slot,
    visibility::Eyes,
};

/// Events that are kept in the form in which rules look at them: one serves all members.
const EVENTS: usize = 5_000;

/// Events in the form in which rules look at them.
pub(crate) struct PushEvents(Cache<(RoomNid, Rix), Arc<PushEvent>>);

impl Default for PushEvents {
    fn default() -> Self {
        Self(Cache::new(EVENTS))
    }
}

/// Holds a user's rules against the events of a room.
pub(super) struct Judge<'a> {
    pub(super) room: &'a RoomView<'a>,
    reader: &'a Reader,
    rules: &'a Compiled,
    events: &'a PushEvents,
    slot: Option<Slot>,
    /// What was looked up, by the state that it was looked up in.
    states: HashMap<NodeId, StateFacts>,
}

/// What rules ask of a state.
#[derive(Default)]
struct StateFacts {
    member_count: Option<u64>,
    display_name: Option<String>,
    powers: Option<Powers>,
}

impl<'a> Judge<'a> {
    /// `slot` is the user's member slot in the room.
    pub(super) fn new(
        room: &'a RoomView<'a>,
        reader: &'a Reader,
        wishes: &'a Wishes,
        events: &'a PushEvents,
        slot: Option<Slot>,
    ) -> Self {
        let rules = &wishes.rules.compiled;
        Self { room, reader, rules, events, slot, states: HashMap::new() }
    }

    /// Whether an event is another member's membership event, of which the user's rules tell nothing: in a large room most are. `changed` is which slots of the
    /// state it changed, as far as the log says.
    pub(super) async fn passes_over(&self, rix: Rix, changed: Option<&[Slot]>) -> Result<bool, ReadError> {
        let Some(&[slot]) = changed else { return Ok(false) };
        if self.rules.tells_of_members() || !is_member_slot(slot) || Some(slot) == self.slot {
            return Ok(false);
        }
        // A message can change a slot too, where it joins branches of the room.
        self.room.is_membership_of_another(rix, self.reader.user_id.as_str()).await
    }

    /// Whether the user sent an event.
    pub(super) fn is_own(&self, event: &StoredEvent) -> bool {
        event.header.sender == self.reader.user_id.as_str()
    }

    /// Whether the user has read up to an own event: they have, if they sent it. State is set by programs too, when profiles change and calls
    /// end, and what was scheduled is sent while nobody looks.
    pub(super) async fn reads(&self, event: &StoredEvent) -> Result<bool, ReadError> {
        if event.header.state_key.is_some() {
            return Ok(false);
        }
        let local = self.room.view.get::<EventLocals>(&(self.room.nid, event.rix)).await?;
        Ok(local.is_none_or(|local| local.delay_id.is_none()))
    }

    /// What is to be done with an event that somebody else sent, if the user, whose eyes these are, is to be told of it. `root` is the room's
    /// state when it came.
    pub(super) async fn outcome(
        &mut self,
        eyes: &mut Eyes<'_>,
        event: &StoredEvent,
        root: NodeId,
    ) -> Result<Option<&'a Arc<Outcome>>, ReadError> {
        if eyes.ignored().any(|user| user == event.header.sender) {
            return Ok(None);
        }
        if !eyes.sees(&event.header).await? || self.room.redaction_of(event).await?.is_some() {
            return Ok(None);
        }
        let push_event = self.push_event(event);
        loop {
            let missing = match self.evaluate(&push_event, event, root) {
                Ok(outcome) => return Ok(outcome.filter(|outcome| outcome.notify)),
                Err(missing) => missing,
            };
            self.look_up(missing, root).await?;
        }
    }

    fn evaluate(
        &mut self,
        push_event: &PushEvent,
        event: &StoredEvent,
        root: NodeId,
    ) -> Result<Option<&'a Arc<Outcome>>, Missing> {
        let state = self.states.entry(root).or_default();
        let sender = <&UserId>::try_from(event.header.sender.as_str()).ok();
        let may_notify = |how: &str| match (&state.powers, sender) {
            (Some(powers), Some(sender)) => powers.may_notify(sender, how),
            _ => false,
        };
        let facts = Facts {
            member_count: state.member_count,
            display_name: state.display_name.as_deref(),
            may_notify: state.powers.as_ref().map(|_| &may_notify as &dyn Fn(&str) -> bool),
        };
        self.rules.evaluate(push_event, &facts)
    }

    async fn look_up(&mut self, missing: Missing, root: NodeId) -> Result<(), ReadError> {
        let mut found = StateFacts::default();
        match missing {
            Missing::MemberCount => found.member_count = Some(self.room.counts(root).await?.0.into()),
            Missing::DisplayName => found.display_name = Some(self.display_name(root).await?),
            Missing::MayNotify => found.powers = Some(self.powers(root).await?),
        }
        let state = self.states.entry(root).or_default();
        state.member_count = found.member_count.or(state.member_count);
        state.display_name = found.display_name.or(state.display_name.take());
        state.powers = found.powers.or(state.powers.take());
        Ok(())
    }

    async fn display_name(&self, root: NodeId) -> Result<String, ReadError> {
        #[derive(Default, Deserialize)]
        struct Content {
            displayname: Option<String>,
        }
        let Some((rix, _)) = self.room.member_at(root, self.slot).await? else { return Ok(String::new()) };
        let event = self.room.event(rix).await?;
        let content = event.and_then(|event| event.content_as::<Content>()).unwrap_or_default();
        Ok(content.displayname.unwrap_or_default())
    }

    async fn powers(&self, root: NodeId) -> Result<Powers, ReadError> {
        let room = self.room;
        let create = room.state_at(root, "m.room.create", "").await?;
        let create = create.ok_or_else(|| load::corrupt::<StateNodes>("a state without a create event"))?;
        let create = load::event(room.view, room.nid, room.version, create).await?;
        let levels = match room.state_at(root, "m.room.power_levels", "").await? {
            Some(rix) => Some(load::event(room.view, room.nid, room.version, rix).await?.pdu),
            None => None,
        };
        Ok(Powers::new(&create.pdu, levels.as_ref()))
    }

    fn push_event(&self, event: &StoredEvent) -> Arc<PushEvent> {
        let key = (self.room.nid, event.rix);
        if let Some(known) = self.events.0.get(&key) {
            return known;
        }
        let fields = event.fields(EventFormat::Client);
        let value = |raw: &serde_json::value::RawValue| serde_json::from_str::<Value>(raw.get()).ok();
        let mut object: Map<_, _> = fields.filter_map(|(name, raw)| Some((name.to_owned(), value(raw)?))).collect();
        object.insert("event_id".to_owned(), event.header.event_id.clone().into());
        object.insert("room_id".to_owned(), self.room.room_id.as_str().into());
        let made = Arc::new(PushEvent::new(object));
        self.events.0.insert(key, Arc::clone(&made));
        made
    }
}
