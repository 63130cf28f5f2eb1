//! Replacing a room by one of another version (client-server API, "Room Upgrades").
//!
//! The new room is made whole in one batch. Then the old room's tombstone is sent, and in its batch the aliases and the place in the directory
//! move. Whatever stops an upgrade before that leaves the old room as it was. What comes after, closing the old room to messages and to
//! invitations and taking the aliases out of its state, is done as far as the user may. It is a job that the tombstone's batch begins, and the event that
//! closes the room ends it: whatever stops the server in between, the room is closed once.

mod levels;
mod settings;
mod state;

use primitives::UserNid;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId, canonical_json::CanonicalJsonObject};
use storage::{
    Batch, CommitError, Key, ReadError, Text,
    schema::{
        jobs::{self, JobKind, Jobs},
        rooms::{AliasRow, Aliases, EventLocal, Membership, PublishedRooms, RoomAliases},
    },
};

use crate::{
    RoomVersion,
    alias::aliases_of,
    context::read_error,
    create::{CreateError, CreateRoom},
    membership::Details,
    outgoing::{Outgoing, Rider, SendError, SlotUnchanged},
    room::Room,
};

/// Attempts at moving aliases that others change meanwhile.
const ATTEMPTS: usize = 8;

/// An upgrade that is asked for.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Who asks: a local user.
    pub by: OwnedUserId,
    /// The version of the new room.
    pub version: String,
    /// Who is a creator of the new room besides, where its version knows such creators. Those of the old room are not taken over.
    pub additional_creators: Vec<OwnedUserId>,
    /// What only this server knows of the events.
    pub local: EventLocal,
}

/// Why a room was not upgraded. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The new room could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The old room takes no tombstone from this user.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Somebody else has upgraded the room meanwhile (`M_FORBIDDEN`).
    #[error("the room has been upgraded by somebody else meanwhile")]
    Overtaken,
}

impl From<ReadError> for UpgradeError {
    fn from(error: ReadError) -> Self {
        Self::Send(error.into())
    }
}

impl Room {
    /// Makes a room of another version that replaces this one, and tells this one's members with a tombstone. Answers with the new room's id.
    pub async fn upgrade(&self, upgrade: Upgrade) -> Result<OwnedRoomId, UpgradeError> {
        let unsupported = || CreateError::UnsupportedVersion(upgrade.version.clone());
        let version = RoomVersion::parse(&upgrade.version).ok_or_else(unsupported)?;
        let unchanged = SlotUnchanged {
            event_type: "m.room.tombstone".to_owned(),
            state_key: String::new(),
            since: self.context().storage.position(),
            other_sender_only: None,
        };
        self.check_may_upgrade(&upgrade.by).await?;
        let new = self.rooms().create(self.successor(&upgrade, version).await?).await?;
        if let Err(error) = self.entomb(&upgrade, &new, unchanged).await {
            // The new room replaces nothing: its maker is not to find it in a list.
            if let Ok(new) = self.rooms().room(&new).await
                && let Err(error) = new.leave(&upgrade.by, Details::default()).await
            {
                tracing::warn!(%error, room_id = %new.id(), "a room that was to replace another stays");
            }
            return Err(error);
        }
        if let Some(user) = self.context().user_nid(&upgrade.by).await?
            && let Err(error) = self.close_replaced(user).await
        {
            tracing::info!(%error, room_id = %self.id(), "a replaced room is closed later");
        }
        Ok(new)
    }

    async fn check_may_upgrade(&self, user: &UserId) -> Result<(), SendError> {
        let current = self.current().await?;
        if current.membership(user).await? != Some(Membership::Join) {
            return Err(SendError::NotInRoom);
        }
        let powers = current.powers().await?;
        let may = powers.is_some_and(|p| p.of(user) >= p.needed_to_send("m.room.tombstone", Some("")));
        if may { Ok(()) } else { Err(SendError::forbidden("you may not upgrade this room")) }
    }

    /// Sends the tombstone; with it the aliases and the place in the directory move.
    async fn entomb(&self, upgrade: &Upgrade, new: &RoomId, unchanged: SlotUnchanged) -> Result<(), UpgradeError> {
        let content = CanonicalJsonObject::from([
            ("body".to_owned(), "This room has been replaced".into()),
            ("replacement_room".to_owned(), new.as_str().into()),
        ]);
        let user = self.context().user_nid(&upgrade.by).await?.ok_or(SendError::NotInRoom)?;
        for _ in 0..ATTEMPTS {
            let mut batch = self.moving(new).await?;
            jobs::begin(&mut batch, JobKind::CLOSE_REPLACED, &(self.nid(), user));
            let rider = Rider { unchanged: Some(unchanged.clone()), ..Rider::new(move |_| batch.clone()) };
            let event = Outgoing::state(upgrade.by.clone(), "m.room.tombstone", "", content.clone());
            let event = Outgoing { local: upgrade.local.clone(), riders: vec![rider], rate_limited: false, ..event };
            match self.send(event).await {
                Ok(_) => return Ok(()),
                Err(SendError::RiderConflict) => {}
                Err(SendError::PreconditionFailed) => return Err(UpgradeError::Overtaken),
                Err(error) => return Err(error.into()),
            }
        }
        Err(SendError::Unavailable.into())
    }

    /// What moves the aliases and the place in the directory to another room.
    async fn moving(&self, new: &RoomId) -> Result<Batch, UpgradeError> {
        let view = self.context().storage.view();
        let mut batch = Batch::new();
        let (from, to) = (Text::new(self.id().as_str()), Text::new(new.as_str()));
        for alias in aliases_of(&view, self.id()).await? {
            let alias = Text::new(alias.as_str());
            let key = (alias.clone(),);
            let Some(row) = view.get::<Aliases>(&key).await?.filter(|row| row.room_id == from.0) else { continue };
            batch.assert_equals::<Aliases>(&key, &row);
            batch.put::<Aliases>(&key, &AliasRow { room_id: to.0.clone(), ..row });
            batch.delete::<RoomAliases>(&(from.clone(), alias.clone()));
            batch.put::<RoomAliases>(&(to.clone(), alias), &());
        }
        let published = (self.nid(),);
        if view.contains::<PublishedRooms>(&published).await? {
            let new = self.rooms().room(new).await.map_err(|_| SendError::UnknownRoom)?;
            batch.assert_equals::<PublishedRooms>(&published, &()).delete::<PublishedRooms>(&published);
            batch.put::<PublishedRooms>(&(new.nid(),), &());
        }
        Ok(batch)
    }

    /// Takes out of a replaced room's state the aliases that lead elsewhere now, and closes it to messages and to invitations, in the name of the user who
    /// has replaced it and as far as they may. Does nothing unless that is still to be done: the event that closes the room says in its batch that it is done.
    ///
    /// # Errors
    /// It can't be done now, and is to be tried again.
    pub async fn close_replaced(&self, user: UserNid) -> Result<(), SendError> {
        let key = (JobKind::CLOSE_REPLACED, (self.nid(), user).to_bytes().into_parts().0);
        let storage = &self.context().storage;
        let Some(row) = storage.view().get::<Jobs>(&key).await? else { return Ok(()) };
        let mut done = Batch::new();
        done.assert_equals::<Jobs>(&key, &row).delete::<Jobs>(&key);
        let by = self.context().users.user_id(user).await.map_err(read_error)?;
        if let Some(by) = by {
            self.unname_moved(&by).await?;
            if let Some(after) = self.closed_levels().await? {
                let done = done.clone();
                let event = Outgoing::state(by, "m.room.power_levels", "", after);
                let riders = vec![Rider::new(move |_| done.clone())];
                match self.send(Outgoing { rate_limited: false, riders, ..event }).await {
                    Err(error @ (SendError::Storage(_) | SendError::Unavailable)) => return Err(error),
                    Ok(_) | Err(SendError::RiderConflict) => {}
                    Err(error) => tracing::info!(%error, room_id = %self.id(), "a replaced room stays open"),
                }
            }
        }
        match storage.commit(done).await {
            // Somebody else has done it, in the event's batch for one.
            Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
            Err(_) => Err(SendError::Unavailable),
        }
    }

    /// The power levels that close the room; `None` if it is closed, or has none that could be changed.
    async fn closed_levels(&self) -> Result<Option<CanonicalJsonObject>, SendError> {
        let Some(levels) = self.current().await?.event("m.room.power_levels", "").await? else { return Ok(None) };
        let Ok(before) = levels.content_as::<CanonicalJsonObject>() else { return Ok(None) };
        let after = levels::closed(&before);
        Ok((after != before).then_some(after))
    }

    async fn unname_moved(&self, by: &UserId) -> Result<(), SendError> {
        let current = self.current().await?;
        let Some(event) = current.event("m.room.canonical_alias", "").await? else { return Ok(()) };
        let Ok(content) = event.content_as::<CanonicalJsonObject>() else { return Ok(()) };
        let mut moved = Vec::new();
        for alias in crate::canonical_alias::named(&content).unwrap_or_default() {
            let row = current.view().get::<Aliases>(&(Text::new(alias.as_str()),)).await?;
            if row.is_some_and(|row| row.room_id != self.id().as_str()) {
                moved.push(alias);
            }
        }
        drop(current);
        self.unname(by, &moved).await
    }

    /// The request that makes the new room.
    async fn successor(&self, upgrade: &Upgrade, version: RoomVersion) -> Result<CreateRoom, UpgradeError> {
        let old = state::read(self).await?.ok_or(SendError::UnknownRoom)?;
        let mut creators = upgrade.additional_creators.clone();
        creators.retain(|creator| *creator != upgrade.by);
        let creators = if version.privileges_creators() { creators } else { Vec::new() };
        Ok(CreateRoom {
            version: Some(version.as_str().to_owned()),
            creation_content: old.creation_content(self.id(), version, &creators),
            replacement_state: Some(old.state_for(version, &upgrade.by, &creators)?),
            local: upgrade.local.clone(),
            ..CreateRoom::new(upgrade.by.clone())
        })
    }
}
