//! Walks over the events that relate to each other, for other servers (`POST /event_relationships`, MSC2836).

use std::collections::BTreeMap;

use ruma::ServerName;
use serde::Serialize;
use storage::{
    ReadError,
    schema::rooms::{EventJson, EventKind},
};

use super::{EventSeries, ServeError, ServedPdu, ServedRoom, pdus::ServerShower};
use crate::{
    load::corrupt,
    read::{
        RelationshipsRequest, RoomView,
        relationships::{Walk, Walker, children_of},
    },
    registry::Rooms,
    render::StoredEvent,
};

/// The events of a walk.
#[derive(Debug)]
pub struct ServedRelationships {
    /// The events in the order in which the walk came to them. Their `unsigned` says how many events relate to them.
    pub events: Vec<ServedPdu>,
    /// Whether there are more.
    pub limited: bool,
    /// The auth chains of the events, oldest first.
    pub auth_chain: EventSeries,
}

/// What is said of an event beside it.
#[derive(Serialize)]
struct Unsigned {
    children: BTreeMap<String, u64>,
    children_hash: String,
}

impl Walker for ServerShower<'_> {
    fn room(&self) -> &RoomView<'_> {
        self.room
    }

    /// A walk needs no place in the DAG: what the server may have without content only is left out.
    async fn may_relate(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        Ok(event.header.kind != EventKind::Outlier && self.judge(&event.header).await? == Some(true))
    }

    async fn is_emptied(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        Ok(self.room.redaction_of(event).await?.is_some() || self.judge(&event.header).await? != Some(true))
    }
}

impl Rooms {
    /// A walk for a server that asks for it by the id of an event. Nobody else is asked, or two servers could ask each other for ever.
    ///
    /// # Errors
    /// Not found: also if the server has no business in the event's room or may not see the event.
    pub async fn serve_relationships(
        &self,
        request: &RelationshipsRequest,
        server: &ServerName,
    ) -> Result<ServedRelationships, ServeError> {
        self.serve_room_of(&request.event_id, server).await?.relationships(request).await
    }
}

impl ServedRoom {
    async fn relationships(&self, request: &RelationshipsRequest) -> Result<ServedRelationships, ServeError> {
        let room = self.room_view().await?;
        let rix = room.find_event(&request.event_id).await?.ok_or(ServeError::NotFound)?;
        let first = room.event(rix).await?.ok_or(ServeError::NotFound)?;
        let mut shower = self.server_shower(&room);
        if !shower.may_relate(&first).await? {
            return Err(ServeError::NotFound);
        }
        let mut walk = Walk::new(&mut shower, request);
        walk.run(first).await?;
        let (found, limited) = (walk.events, walk.limited);
        let mut events = Vec::with_capacity(found.len());
        for event in &found {
            let children = children_of(&mut shower, event).await?;
            let unsigned = children.map_or_else(
                || Unsigned { children: BTreeMap::new(), children_hash: String::new() },
                |children| Unsigned { children: children.counts, children_hash: children.hash },
            );
            for pdu in shower.show(&[event.rix]).await? {
                let pdu = pdu.with_unsigned(&unsigned);
                events.push(pdu.map_err(|error| corrupt::<EventJson>(error.to_string()))?);
            }
        }
        let auth: Vec<_> = found.iter().flat_map(|event| event.header.auth.iter().copied()).collect();
        let chain = room.auth_chain_with(&auth).await?;
        Ok(ServedRelationships { events, limited, auth_chain: EventSeries::new(self.reads.clone(), self.room, chain) })
    }
}
