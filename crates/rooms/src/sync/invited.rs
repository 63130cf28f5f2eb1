//! Rooms that a user is invited to or has knocked at: stripped state (specification, "Stripped state").

use std::sync::Arc;

use primitives::{Rix, RoomNid};
use ruma::{OwnedRoomId, UserId};
use serde_json::value::RawValue;
use storage::{
    ReadError, View,
    schema::rooms::{Membership, OutOfBand, OutOfBandRow},
};

use users::ignoring::{InviteRule, invite_rule};

use super::{
    changes::UserChanges,
    logged,
    response::{Events, InvitedRoom, KnockedRoom, LeftRoom, Stripped, SyncRooms, SyncTimeline},
    room::{Asked, named},
};
use crate::{
    Pdu, RoomVersion,
    filter::EventFormat,
    load::corrupt,
    read::{Reads, RoomView},
    render::{ClientEvent, StoredEvent, StrippedEvent, Unsigned},
    stripped::{STRIPPED_TYPES, strip},
    tokens::PageToken,
};

impl Reads {
    /// Adds the rooms that the user is invited to or has knocked at.
    pub(super) async fn add_invited(
        &self,
        view: &View,
        changes: &UserChanges,
        asked: &Asked<'_>,
        rooms: &mut SyncRooms,
    ) {
        for (nid, rix) in &changes.asked {
            if let Some((room_id, (membership, events))) = logged(self.asked_part(view, *nid, *rix, asked).await) {
                add(rooms, room_id, membership, events);
            }
        }
        for row in &changes.out_of_band {
            let Some((room_id, ())) = logged(out_of_band_room(view, row, asked).await) else { continue };
            if row.membership == Membership::Leave {
                let (prev_batch, events) = (PageToken::Stream(self.token_of(view)), self.ended(row, asked));
                let left = LeftRoom {
                    state: named(asked.request.state_after, Vec::new()),
                    timeline: SyncTimeline { events: events.into_iter().collect(), limited: false, prev_batch },
                    account_data: Events::default(),
                };
                rooms.leave.insert(room_id, left);
            } else {
                add(rooms, room_id, row.membership, theirs(row));
            }
        }
    }

    /// The event that ended an invite or knock, if the client wants it. None of what ended before such events were kept.
    fn ended(&self, row: &OutOfBandRow, asked: &Asked<'_>) -> Option<ClientEvent> {
        let filter = &asked.request.filter;
        let version = RoomVersion::parse(&row.room_version)?;
        let event = StoredEvent::apart(Pdu::parse(version, &row.event).ok()?);
        let wanted = matches!(event.header.membership, Some(Membership::Leave | Membership::Ban))
            && filter.room.timeline.limit() > 0
            && filter.room.timeline.selects(&event.facts());
        let format = filter.event_format;
        let room_id = OwnedRoomId::try_from(row.room_id.as_str()).ok().filter(|_| format == EventFormat::Federation);
        let unsigned = Unsigned { age: Some(event.age(self.0.clock.now())), ..Unsigned::default() };
        let fields = filter.event_fields.clone();
        wanted.then(|| ClientEvent { event: Arc::new(event), room_id, unsigned, format, fields })
    }

    async fn asked_part(
        &self,
        view: &View,
        nid: RoomNid,
        rix: Rix,
        asked: &Asked<'_>,
    ) -> Result<Option<(OwnedRoomId, (Membership, Vec<Stripped>))>, ReadError> {
        let Some(room) = self.wanted_room(view, nid, asked).await? else { return Ok(None) };
        if let Some(event) = room.event(rix).await?
            && event.header.membership == Some(Membership::Invite)
            && !is_welcome(view, asked, &event.header.sender).await?
        {
            return Ok(None);
        }
        let stripped = self.stripped(&room, rix).await?;
        Ok(stripped.map(|stripped| (room.room_id, stripped)))
    }

    /// What the subject of a member event may see of the state around it.
    async fn stripped(&self, room: &RoomView<'_>, rix: Rix) -> Result<Option<(Membership, Vec<Stripped>)>, ReadError> {
        let Some(event) = room.event(rix).await? else { return Ok(None) };
        let Some(membership) = event.header.membership else { return Ok(None) };
        let root = event.header.root_after;
        let mut found = Vec::with_capacity(STRIPPED_TYPES.len() + 2);
        for event_type in STRIPPED_TYPES {
            found.extend(room.state_at(root, event_type, "").await?);
        }
        found.extend(room.state_at(root, "m.room.member", &event.header.sender).await?.filter(|sender| *sender != rix));
        found.push(rix);
        let mut events = Vec::with_capacity(found.len());
        for event in room.events(&found).await? {
            let redacted = room.redaction_of(&event).await?.is_some();
            let event = if redacted { room.pruned(&event)? } else { event };
            events.push(Stripped::Ours(StrippedEvent(event)));
        }
        Ok(Some((membership, events)))
    }
}

/// The room of an invite or knock that only this row tells of, if the user is to hear of it.
async fn out_of_band_room(
    view: &View,
    row: &OutOfBandRow,
    asked: &Asked<'_>,
) -> Result<Option<(OwnedRoomId, ())>, ReadError> {
    let id = OwnedRoomId::try_from(row.room_id.as_str()).map_err(|error| corrupt::<OutOfBand>(error.to_string()))?;
    let told = asked.request.filter.room.selects(&id)
        && (row.membership != Membership::Invite || is_welcome(view, asked, &row.sender).await?);
    Ok(told.then_some((id, ())))
}

/// Whether the user wants to hear of an invite from this sender.
async fn is_welcome(view: &View, asked: &Asked<'_>, sender: &str) -> Result<bool, ReadError> {
    let Ok(sender) = <&UserId>::try_from(sender) else { return Ok(false) };
    Ok(invite_rule(view, asked.reader.user_nid, sender).await? == InviteRule::Allow)
}

fn add(rooms: &mut SyncRooms, room_id: OwnedRoomId, membership: Membership, events: Vec<Stripped>) {
    let events = Events { events };
    match membership {
        Membership::Invite => drop(rooms.invite.insert(room_id, InvitedRoom { invite_state: events })),
        Membership::Knock => drop(rooms.knock.insert(room_id, KnockedRoom { knock_state: events })),
        // The row is of an invite or knock that has come to its end: the room is told of elsewhere.
        Membership::Join | Membership::Leave | Membership::Ban => {}
    }
}

/// The stripped state that another server sent, and the member event; what can't be read is left out (SECURITY 31).
fn theirs(row: &OutOfBandRow) -> Vec<Stripped> {
    let state: Vec<Box<RawValue>> = serde_json::from_slice(&row.stripped_state).unwrap_or_default();
    let event = std::str::from_utf8(&row.event).ok().and_then(strip);
    state.iter().filter_map(|event| strip(event.get())).chain(event).map(Stripped::Theirs).collect()
}
