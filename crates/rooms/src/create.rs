//! Making a room (client-server API, `POST /createRoom`): every event of it in one batch, so that a failure leaves nothing.

mod events;
mod levels;

use std::{sync::Arc, time::Duration};

use primitives::UnixMillis;
use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedUserId, canonical_json::CanonicalJsonObject};
use storage::{
    CommitError, ReadError, Text,
    schema::rooms::{AliasRow, Aliases, EventKind, EventLocal, PublishedRooms, RoomAliases, RoomIds, RoomRow, Verdict},
};
use users::Limit;

pub(crate) use levels::content as default_levels;

use crate::{
    Pdu, RoomVersion,
    change::Change,
    context::read_error,
    find::PublishError,
    memory::{Memory, RoomInfo},
    outgoing::{Outgoing, SendError},
    pdu::{BuildInput, build},
    persist::Judged,
    registry::Rooms,
    room::Room,
};

/// What the first events of a room are to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// By invitation.
    PrivateChat,
    /// By invitation, and who is invited at creation stands as high as the creator.
    TrustedPrivateChat,
    /// For everybody.
    PublicChat,
}

/// A state event that a client wants in a new room.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// Its type.
    pub event_type: String,
    /// Its state key.
    pub state_key: String,
    /// Its content.
    pub content: CanonicalJsonObject,
}

/// A room to be made.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// Who makes it.
    pub creator: OwnedUserId,
    /// Its version; `None` for the configured default.
    pub version: Option<String>,
    /// What it is for; `None`: as `published` suggests.
    pub preset: Option<Preset>,
    /// Whether it is listed in the directory (`visibility: public`).
    pub published: bool,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// The local part of its alias.
    pub alias_localpart: Option<String>,
    /// Who is invited.
    pub invite: Vec<OwnedUserId>,
    /// The invitations say that this is a direct chat.
    pub is_direct: bool,
    /// Further state.
    pub initial_state: Vec<InitialState>,
    /// Further content of the create event.
    pub creation_content: CanonicalJsonObject,
    /// Keys that replace those of the default power levels.
    pub power_level_content_override: CanonicalJsonObject,
    /// What only this server knows of the events.
    pub local: EventLocal,
    /// The state of a room that replaces another, which is all that follows its maker's join.
    pub replacement_state: Option<Vec<InitialState>>,
}

impl CreateRoom {
    /// A private room with nothing special.
    pub fn new(creator: OwnedUserId) -> Self {
        Self {
            creator,
            version: None,
            preset: None,
            published: false,
            name: None,
            topic: None,
            alias_localpart: None,
            invite: Vec::new(),
            is_direct: false,
            initial_state: Vec::new(),
            creation_content: CanonicalJsonObject::new(),
            power_level_content_override: CanonicalJsonObject::new(),
            local: EventLocal::default(),
            replacement_state: None,
        }
    }

    fn preset(&self) -> Preset {
        let default = if self.published { Preset::PublicChat } else { Preset::PrivateChat };
        self.preset.unwrap_or(default)
    }

    /// Those to invite, each once, without the creator.
    fn invitees(&self) -> Vec<OwnedUserId> {
        let mut invitees: Vec<OwnedUserId> = Vec::new();
        for user in &self.invite {
            if *user != self.creator && !invitees.contains(user) {
                invitees.push(user.clone());
            }
        }
        invitees
    }
}

/// Why a room was not made. Nothing of it is stored then.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// This server doesn't know the room version (`M_UNSUPPORTED_ROOM_VERSION`).
    #[error("the room version {0:?} is not supported")]
    UnsupportedVersion(String),
    /// The alias leads to another room (`M_ROOM_IN_USE`).
    #[error("the alias is taken")]
    AliasInUse,
    /// The creator may not put rooms into the directory (`M_FORBIDDEN`).
    #[error("{0}")]
    MayNotPublish(&'static str),
    /// The alias can't be one (`M_INVALID_PARAM`).
    #[error("{0:?} can't be part of a room alias")]
    BadAlias(String),
    /// Something in the request makes no sense (`M_BAD_JSON`).
    #[error("{0}")]
    BadRequest(String),
    /// An event that the request asks for is not allowed by those before it (`M_INVALID_ROOM_STATE`).
    #[error("the initial state is not allowed: {0}")]
    InvalidState(String),
    /// The creator's account is suspended (`M_USER_SUSPENDED`).
    #[error("you cannot do this while your account is suspended")]
    Suspended,
    /// The creator does too much.
    #[error(transparent)]
    LimitExceeded(#[from] users::LimitExceeded),
    /// Somebody is invited whose server can't be asked.
    #[error("{0} is a user of a server that cannot be reached")]
    RemoteUser(OwnedUserId),
    /// Somebody is invited who takes no invites from the creator (`M_INVITE_BLOCKED`).
    #[error("a user takes no invites")]
    InviteBlocked,
    /// An event, or all of them together, is too large (`M_TOO_LARGE`).
    #[error("{0}")]
    TooLarge(String),
    /// The store can't take the room now.
    #[error("rooms cannot be made at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<PublishError> for CreateError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Forbidden(reason) => Self::MayNotPublish(reason),
            PublishError::Storage(error) => Self::Storage(error),
            PublishError::UnknownRoom | PublishError::Unavailable => Self::Unavailable,
        }
    }
}

impl From<SendError> for CreateError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::BadContent { reason } => Self::BadRequest(reason),
            SendError::TooLarge { reason } => Self::TooLarge(reason),
            SendError::Storage(error) => Self::Storage(error),
            SendError::Unavailable => Self::Unavailable,
            SendError::Suspended => Self::Suspended,
            SendError::InviteBlocked => Self::InviteBlocked,
            SendError::LimitExceeded { retry_after } => Self::LimitExceeded(users::LimitExceeded { retry_after }),
            other => Self::InvalidState(other.to_string()),
        }
    }
}

/// Rooms that one user makes in one millisecond: from version 12 on their create events, and so their ids, would be the same.
const MAX_COLLISIONS: usize = 1_000;

/// How writing a room ended.
enum Outcome {
    Made,
    IdTaken,
}

impl Rooms {
    /// Makes a room and answers with its id. When this returns, the room is durable with all its events.
    pub async fn create(&self, request: CreateRoom) -> Result<OwnedRoomId, CreateError> {
        let version = match &request.version {
            Some(name) => RoomVersion::parse(name).ok_or_else(|| CreateError::UnsupportedVersion(name.clone()))?,
            None => self.options().default_room_version,
        };
        self.check_invitees(&request)?;
        if request.published {
            self.context().check_publishes(&request.creator).await?;
        }
        for user in request.invitees() {
            crate::membership::check_invite(self.context(), &request.creator, &user).await?;
        }
        let alias = request.alias_localpart.as_deref().map(|localpart| self.new_alias(localpart)).transpose()?;
        if crate::suspension::is_suspended(self.context(), &request.creator).await? {
            return Err(CreateError::Suspended);
        }
        if let Some(user) = self.context().users.nid(&request.creator).await.map_err(read_error)? {
            self.context().users.limits().check(Limit::Messages(user))?;
        }
        let nid = self.new_number().await.map_err(|_| CreateError::Unavailable)?;
        let mut at = self.context().clock.now();
        for _ in 0..MAX_COLLISIONS {
            let create = self.create_event(&request, version, at)?;
            let info = RoomInfo { nid, room_id: create.room_id().to_owned(), version };
            match self.write_new(&request, info.clone(), create, alias.as_ref()).await? {
                Outcome::Made => {
                    let room = self.handle(info);
                    self.invite_remote(&request, &room).await?;
                    return Ok(room.id().to_owned());
                }
                Outcome::IdTaken => at = at.plus(Duration::from_millis(1)),
            }
        }
        Err(CreateError::Unavailable)
    }

    /// Writes all events of a room in one batch.
    async fn write_new(
        &self,
        request: &CreateRoom,
        info: RoomInfo,
        create: Pdu,
        alias: Option<&OwnedRoomAliasId>,
    ) -> Result<Outcome, CreateError> {
        let version = info.version;
        let view = self.context().storage.view();
        let mut change = Change::new(Arc::clone(self.context()), view, Memory::new(info.clone()));
        change.batch.assert_absent::<RoomIds>(&(Text::new(info.room_id.as_str()),));
        let alias_assert = alias.map(|alias| write_alias(&mut change, alias, request));
        write_room(&mut change, &info, request.published);
        change.persist(first(create, request)).await?;
        for event in self.events(request, version, alias).await? {
            change.append(&Outgoing { local: request.local.clone(), rate_limited: false, ..event }).await?;
        }
        match change.commit().await {
            Ok(_) => Ok(Outcome::Made),
            Err(CommitError::Conflict(0)) => Ok(Outcome::IdTaken),
            Err(CommitError::Conflict(index)) if Some(index) == alias_assert => Err(CreateError::AliasInUse),
            Err(error) => Err(SendError::from(error).into()),
        }
    }

    /// Invites those whose servers have to sign it. The room stands without them: who can't be invited is left out.
    async fn invite_remote(&self, request: &CreateRoom, room: &Room) -> Result<(), CreateError> {
        for user in request.invitees().into_iter().filter(|user| !self.context().users.is_local(user)) {
            let invitation = Outgoing { rate_limited: false, ..self.invitation(request, &user).await? };
            if let Err(error) = room.send(invitation).await {
                tracing::info!(room_id = %room.id(), %user, %error, "a user could not be invited to a new room");
            }
        }
        Ok(())
    }

    fn check_invitees(&self, request: &CreateRoom) -> Result<(), CreateError> {
        if self.remote().is_some() {
            return Ok(());
        }
        let remote = request.invite.iter().find(|user| !self.context().users.is_local(user));
        remote.map_or(Ok(()), |user| Err(CreateError::RemoteUser(user.clone())))
    }

    fn new_alias(&self, localpart: &str) -> Result<OwnedRoomAliasId, CreateError> {
        let bad = || CreateError::BadAlias(localpart.to_owned());
        if localpart.is_empty() || localpart.contains([':', '#', '\0']) || localpart.contains(char::is_whitespace) {
            return Err(bad());
        }
        let alias = format!("#{localpart}:{}", self.options().server_name);
        if alias.len() > crate::pdu::MAX_FIELD {
            return Err(bad());
        }
        OwnedRoomAliasId::try_from(alias).map_err(|_| bad())
    }

    /// The create event. Its id is part of the room's from version 12 on; before, the room's is random.
    fn create_event(&self, request: &CreateRoom, version: RoomVersion, at: UnixMillis) -> Result<Pdu, CreateError> {
        let context = self.context();
        let room_id = format!("!{}:{}", context.random.letters(18), context.options.server_name);
        let room_id = OwnedRoomId::try_from(room_id).map_err(|error| CreateError::BadRequest(error.to_string()))?;
        let input = BuildInput {
            version,
            room_id: (!version.room_id_is_create_hash()).then_some(&room_id),
            sender: &request.creator,
            event_type: "m.room.create",
            state_key: Some(""),
            content: events::create_content(request, version)?,
            redacts: None,
            prev_events: &[],
            auth_events: &[],
            reference_hashes: None,
            depth: 1,
            origin_server_ts: at,
            extra: Vec::new(),
        };
        let pdu = build(input, &context.key, &context.options.server_name).map_err(SendError::from)?;
        crate::auth::check_auth_events(&pdu, |_| None).map_err(|error| CreateError::BadRequest(error.to_string()))?;
        Ok(pdu)
    }
}

fn first(create: Pdu, request: &CreateRoom) -> Judged {
    Judged {
        pdu: create,
        kind: EventKind::Timeline,
        verdict: Verdict::Accepted,
        rank: primitives::Rank::FIRST,
        root_before: primitives::NodeId(0),
        auth: Vec::new(),
        prev: Vec::new(),
        missing_prev: Vec::new(),
        local: request.local.clone(),
        relay: true,
        known_as: None,
        given: Vec::new(),
    }
}

fn write_room(change: &mut Change, info: &RoomInfo, published: bool) {
    let row = RoomRow { room_id: info.room_id.to_string(), version: info.version.as_str().to_owned() };
    change.batch.put::<storage::schema::rooms::Rooms>(&(info.nid,), &row);
    change.batch.put::<RoomIds>(&(Text::new(info.room_id.as_str()),), &info.nid);
    if published {
        change.batch.put::<PublishedRooms>(&(info.nid,), &());
    }
}

/// Writes the alias; answers which assert of the batch says that it was free.
fn write_alias(change: &mut Change, alias: &OwnedRoomAliasId, request: &CreateRoom) -> usize {
    let room_id = change.memory.info.room_id.to_string();
    let key = (Text::new(alias.as_str()),);
    let assert = change.batch.asserts().len();
    change.batch.assert_absent::<Aliases>(&key);
    change.batch.put::<Aliases>(&key, &AliasRow { room_id: room_id.clone(), creator: request.creator.to_string() });
    change.batch.put::<RoomAliases>(&(Text(room_id), Text::new(alias.as_str())), &());
    assert
}
