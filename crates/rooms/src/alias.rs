//! Room aliases of this server (client-server API, "Room aliases").

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use storage::{
    Batch, CommitError, Direction, KeyRange, ReadError, Text, View,
    schema::rooms::{AliasRow, Aliases, Membership, RoomAliases},
};

use crate::{
    outgoing::{Outgoing, SendError},
    read::{ReadRoomError, Reader, Reads},
    registry::{RoomError, Rooms},
    remote::NotAsked,
    room::Room,
    visibility::{Eyes, Standing},
};

/// Aliases of one room that are listed.
const MAX_LISTED: usize = 1_000;

/// Why an alias was not made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum AliasError {
    /// It is an alias of another server (`M_INVALID_PARAM`).
    #[error("{0} is not an alias of this server")]
    NotLocal(OwnedRoomAliasId),
    /// It is taken (409).
    #[error("the alias {0} already exists")]
    Taken(OwnedRoomAliasId),
    /// There is no such alias (404).
    #[error("there is no alias {0}")]
    Unknown(OwnedRoomAliasId),
    /// The user may not do it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The room is not known here (404).
    #[error("the room is not known here")]
    UnknownRoom,
    /// Its server can't be asked.
    #[error(transparent)]
    Remote(#[from] NotAsked),
    /// The store can't be written now.
    #[error("aliases cannot be changed at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<RoomError> for AliasError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Unknown => Self::UnknownRoom,
            RoomError::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<SendError> for AliasError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Storage(error) => Self::Storage(error),
            SendError::UnknownRoom => Self::UnknownRoom,
            _ => Self::Unavailable,
        }
    }
}

impl Rooms {
    /// The room that an alias of this server leads to.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<OwnedRoomId, AliasError> {
        let unknown = || AliasError::Unknown(alias.to_owned());
        let row = self.alias_row(alias).await?.ok_or_else(unknown)?;
        OwnedRoomId::try_from(row.room_id).map_err(|_| unknown())
    }

    /// Makes an alias that leads to a room. Its maker must be in the room.
    pub async fn create_alias(&self, by: &UserId, alias: &RoomAliasId, room: &RoomId) -> Result<(), AliasError> {
        self.check_local(alias)?;
        let room = self.room(room).await?;
        if room.current().await?.membership(by).await? != Some(Membership::Join) {
            return Err(AliasError::Forbidden("you have to be in a room to make an alias of it"));
        }
        let key = (Text::new(alias.as_str()),);
        let row = AliasRow { room_id: room.id().to_string(), creator: by.to_string() };
        let mut batch = Batch::new();
        batch.assert_absent::<Aliases>(&key).put::<Aliases>(&key, &row);
        batch.put::<RoomAliases>(&(Text::new(room.id().as_str()), Text::new(alias.as_str())), &());
        match self.context().storage.commit(batch).await {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict(_)) => Err(AliasError::Taken(alias.to_owned())),
            Err(_) => Err(AliasError::Unavailable),
        }
    }

    /// Removes an alias: its maker may, who may set the room's canonical alias may, and an administrator. If the room's canonical alias event
    /// names it and the user may change that, it is taken out there too.
    pub async fn delete_alias(&self, by: &UserId, is_admin: bool, alias: &RoomAliasId) -> Result<(), AliasError> {
        self.check_local(alias)?;
        let row = self.alias_row(alias).await?.ok_or_else(|| AliasError::Unknown(alias.to_owned()))?;
        let room = match <&RoomId>::try_from(row.room_id.as_str()) {
            Ok(id) => self.room(id).await.ok(),
            Err(_) => None,
        };
        if row.creator != by.as_str() && !is_admin && !may_name(room.as_ref(), by).await? {
            return Err(AliasError::Forbidden("you may not remove this alias"));
        }
        let key = (Text::new(alias.as_str()),);
        let mut batch = Batch::new();
        batch.assert_equals::<Aliases>(&key, &row).delete::<Aliases>(&key);
        batch.delete::<RoomAliases>(&(Text::new(&*row.room_id), Text::new(alias.as_str())));
        match self.context().storage.commit(batch).await {
            Ok(_) => {}
            Err(CommitError::Conflict(_)) => return Err(AliasError::Unknown(alias.to_owned())),
            Err(_) => return Err(AliasError::Unavailable),
        }
        if let Some(room) = room {
            room.unname(by, std::slice::from_ref(&alias.to_owned())).await?;
        }
        Ok(())
    }

    async fn alias_row(&self, alias: &RoomAliasId) -> Result<Option<AliasRow>, ReadError> {
        self.context().storage.view().get::<Aliases>(&(Text::new(alias.as_str()),)).await
    }

    fn check_local(&self, alias: &RoomAliasId) -> Result<(), AliasError> {
        if alias.server_name() == self.options().server_name && alias.as_str().len() <= crate::pdu::MAX_FIELD {
            return Ok(());
        }
        Err(AliasError::NotLocal(alias.to_owned()))
    }
}

impl Reads {
    /// The aliases of this server that lead to a room, for one who is in it, or for everybody if it is world-readable. At most 1,000.
    pub async fn local_aliases(
        &self,
        reader: &Reader,
        room_id: &RoomId,
    ) -> Result<Vec<OwnedRoomAliasId>, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let head = room.open_head().await?;
        let mut eyes = Eyes::open(&room, &reader.user_id, reader.user_nid).await?;
        if eyes.standing() != Standing::Joined && !eyes.is_world_readable(head.root).await? {
            return Err(ReadRoomError::Forbidden);
        }
        Ok(aliases_of(&view, room_id).await?)
    }
}

/// The aliases of this server that lead to a room.
pub(crate) async fn aliases_of(view: &View, room: &RoomId) -> Result<Vec<OwnedRoomAliasId>, ReadError> {
    let range = KeyRange::prefix(&(Text::new(room.as_str()),));
    let page = view.scan_keys::<RoomAliases>(&range, MAX_LISTED, Direction::Forward).await?;
    Ok(page.keys.into_iter().filter_map(|(_, Text(alias))| alias.try_into().ok()).collect())
}

/// Whether a user has the power to set the room's canonical alias.
pub(crate) async fn may_name(room: Option<&Room>, user: &UserId) -> Result<bool, SendError> {
    let Some(room) = room else { return Ok(false) };
    let current = room.current().await?;
    let joined = current.membership(user).await? == Some(Membership::Join);
    let powers = current.powers().await?;
    Ok(joined
        && powers.is_some_and(|powers| powers.of(user) >= powers.needed_to_send("m.room.canonical_alias", Some(""))))
}

impl Room {
    /// Takes aliases out of the canonical alias event, as far as they are there and the user may.
    pub(crate) async fn unname(&self, by: &UserId, aliases: &[OwnedRoomAliasId]) -> Result<(), SendError> {
        let Some(event) = self.current().await?.event("m.room.canonical_alias", "").await? else { return Ok(()) };
        let Ok(mut content) = event.content_as::<CanonicalJsonObject>() else { return Ok(()) };
        let before = content.clone();
        let is_one = |value: &CanonicalJsonValue| aliases.iter().any(|alias| value.as_str() == Some(alias.as_str()));
        if content.get("alias").is_some_and(is_one) {
            content.remove("alias");
        }
        if let Some(CanonicalJsonValue::Array(others)) = content.get_mut("alt_aliases") {
            others.retain(|other| !is_one(other));
        }
        if content == before {
            return Ok(());
        }
        let event = Outgoing::state(by.to_owned(), "m.room.canonical_alias", "", content);
        self.send_if_allowed(Outgoing { rate_limited: false, ..event }).await
    }

    /// Sends an event that is a courtesy: who may not send it does without.
    pub(crate) async fn send_if_allowed(&self, event: Outgoing) -> Result<(), SendError> {
        match self.send(event).await {
            Err(error @ (SendError::Storage(_) | SendError::Unavailable)) => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
