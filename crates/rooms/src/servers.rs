//! Which servers take part in a room, and which may.

use std::cell::LazyCell;

use ruma::{ServerName, UserId, events::room::server_acl::RoomServerAclEventContent};
use storage::{
    Direction, KeyRange, ReadError, Text,
    schema::rooms::{Membership, PartialNote, PartialNotes, RoomServerSlots},
};

use crate::{current::Current, partial::Period, read::Caches, room::Room};

/// Slots that are looked at in one page.
const PAGE: usize = 100;

impl Room {
    /// Whether the room's `m.room.server_acl` lets a server take part (client-server API, "Server ACLs"). Where there is none, or none that can be
    /// read, every server may. A room that has gone lets nobody.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn allows_server(&self, server: &ServerName) -> Result<bool, ReadError> {
        match Current::read(self.context(), self.info()).await? {
            Some(current) => current.allows_server(server).await,
            None => Ok(false),
        }
    }

    /// Whether a user of the server is joined, by the current state.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn has_server(&self, server: &ServerName) -> Result<bool, ReadError> {
        match Current::read(self.context(), self.info()).await? {
            Some(current) => current.has_server(server).await,
            None => Ok(false),
        }
    }
}

impl Room {
    /// Whether a user is joined, by the current state.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn has_joined(&self, user: &UserId) -> Result<bool, ReadError> {
        match Current::read(self.context(), self.info()).await? {
            Some(current) => Ok(current.membership(user).await? == Some(Membership::Join)),
            None => Ok(false),
        }
    }
}

impl Caches {
    /// Whether an `m.room.server_acl` event lets a server take part; one that can't be read lets every server. Its content is asked for where the
    /// answer is not remembered.
    pub(crate) fn lets_in<'a>(
        &self,
        acl: &str,
        server: &ServerName,
        content: impl FnOnce() -> Option<&'a RoomServerAclEventContent>,
    ) -> bool {
        let key = (acl.to_owned(), server.to_owned());
        if let Some(known) = self.acl.get(&key) {
            return known;
        }
        let allowed = content().is_none_or(|content| content.is_allowed(server));
        self.acl.insert(key, allowed);
        allowed
    }
}

impl Room {
    /// Whether the state is partial and says nothing of a user.
    pub(crate) async fn is_unknown(&self, user: &UserId) -> Result<bool, ReadError> {
        let Some(current) = Current::read(self.context(), self.info()).await? else { return Ok(false) };
        let is_partial = Period::open(current.view(), self.nid()).await?.is_some();
        Ok(is_partial && current.membership(user).await?.is_none())
    }

    /// The same of a user of another server; where the state is partial and says nothing of the user, they may be if their server is in the room (MSC3902).
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn may_have_joined(&self, user: &UserId) -> Result<bool, ReadError> {
        match Current::read(self.context(), self.info()).await? {
            Some(current) => current.may_have_joined(user).await,
            None => Ok(false),
        }
    }
}

impl Current<'_> {
    pub(crate) async fn may_have_joined(&self, user: &UserId) -> Result<bool, ReadError> {
        match self.membership(user).await? {
            Some(membership) => Ok(membership == Membership::Join),
            None => self.is_noted(user.server_name()).await,
        }
    }

    /// Whether a server is in the room, as far as is known of a partial state.
    async fn is_noted(&self, server: &ServerName) -> Result<bool, ReadError> {
        let key = (self.nid(), PartialNote::Server, Text::new(server.as_str()));
        let noted = self.view().contains::<PartialNotes>(&key).await?;
        Ok(noted && Period::open(self.view(), self.nid()).await?.is_some())
    }

    pub(crate) async fn allows_server(&self, server: &ServerName) -> Result<bool, ReadError> {
        let Some(event) = self.event("m.room.server_acl", "").await? else { return Ok(true) };
        let content = LazyCell::new(|| event.content_as().ok());
        Ok(self.caches().lets_in(event.event_id().as_str(), server, || content.as_ref()))
    }

    pub(crate) async fn has_server(&self, server: &ServerName) -> Result<bool, ReadError> {
        if server == self.own_name() {
            return self.has_local_member().await;
        }
        let mut rest = Some(KeyRange::prefix(&(self.nid(), Text::new(server.as_str()))));
        while let Some(range) = rest {
            let page = self.view().scan::<RoomServerSlots>(&range, PAGE, Direction::Forward).await?;
            for ((.., slot), ()) in page.rows {
                if self.membership_in(slot).await? == Some(Membership::Join) {
                    return Ok(true);
                }
            }
            rest = page.rest;
        }
        // Of the members of a partial state not all are known, but the servers are.
        self.is_noted(server).await
    }

    async fn has_local_member(&self) -> Result<bool, ReadError> {
        let mut after = None;
        loop {
            let some = crate::local_members::some(self.view(), self.nid(), after, PAGE).await?;
            if !some.joined.is_empty() {
                return Ok(true);
            }
            match some.last {
                Some(last) => after = Some(last),
                None => return Ok(false),
            }
        }
    }
}
