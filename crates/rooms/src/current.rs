//! A room's current state, read from the store: for what is asked before a request goes to the worker, which judges again.

use std::sync::Arc;

use primitives::{NodeId, RoomNid, Slot};
use ruma::{RoomId, ServerName, UserId};
use storage::{
    ReadError, View,
    schema::rooms::{Membership, RoomHeads, SlotKey},
};

use crate::{
    Pdu,
    context::Context,
    load::{self, StoredEvent},
    memory::RoomInfo,
    power::Powers,
    read::Caches,
    slots,
    tree::StoredTrees,
};

/// The current state of a room as one view shows it.
pub(crate) struct Current<'a> {
    context: &'a Context,
    info: &'a RoomInfo,
    view: View,
    root: NodeId,
    trees: StoredTrees,
}

impl<'a> Current<'a> {
    /// The state as it is now; `None` if the room has gone.
    pub(crate) async fn read(context: &'a Context, info: &'a RoomInfo) -> Result<Option<Self>, ReadError> {
        let view = context.storage.view();
        let Some(head) = view.get::<RoomHeads>(&(info.nid,)).await?.filter(|head| !head.purging) else {
            return Ok(None);
        };
        let trees = StoredTrees::new(view.clone(), info.nid, Arc::clone(&context.nodes));
        Ok(Some(Self { context, info, view, root: head.root, trees }))
    }

    /// The event under a type and state key.
    pub(crate) async fn event(&self, event_type: &str, state_key: &str) -> Result<Option<Pdu>, ReadError> {
        Ok(self.stored(event_type, state_key).await?.map(|event| event.pdu))
    }

    /// A user's member event.
    pub(crate) async fn member(&self, user: &UserId) -> Result<Option<StoredEvent>, ReadError> {
        self.stored("m.room.member", user.as_str()).await
    }

    /// The event under a type and state key, with all that is stored of it.
    pub(crate) async fn stored(&self, event_type: &str, state_key: &str) -> Result<Option<StoredEvent>, ReadError> {
        let key = SlotKey { event_type: event_type.to_owned(), state_key: state_key.to_owned() };
        let slot = slots::find(&self.view, self.context.storage.hash(), self.info.nid, &key).await?;
        let Some(slot) = slot else { return Ok(None) };
        let Some(entry) = self.trees.get(self.root, slot).await? else { return Ok(None) };
        load::event(&self.view, self.info.nid, self.info.version, entry.rix).await.map(Some)
    }

    /// A user's membership.
    pub(crate) async fn membership(&self, user: &UserId) -> Result<Option<Membership>, ReadError> {
        Ok(self.member(user).await?.and_then(|event| event.header.membership))
    }

    /// The power levels.
    pub(crate) async fn powers(&self) -> Result<Option<Powers>, ReadError> {
        let create = self.event("m.room.create", "").await?;
        let levels = self.event("m.room.power_levels", "").await?;
        Ok(create.map(|create| Powers::new(&create, levels.as_ref())))
    }

    /// The membership that a member's slot says.
    pub(crate) async fn membership_in(&self, slot: Slot) -> Result<Option<Membership>, ReadError> {
        Ok(self.trees.get(self.root, slot).await?.and_then(|entry| entry.membership))
    }

    /// The name of this server.
    pub(crate) fn own_name(&self) -> &ServerName {
        &self.context.options.server_name
    }

    /// What reads remember.
    pub(crate) fn caches(&self) -> &Caches {
        &self.context.caches
    }

    /// The room's number.
    pub(crate) fn nid(&self) -> RoomNid {
        self.info.nid
    }

    /// The room's id.
    pub(crate) fn room_id(&self) -> &RoomId {
        &self.info.room_id
    }

    /// The view that the state is read from.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }
}
