//! Domain errors as the client sees them, exhaustively: what an error says in words is never looked at, only which one it is.

use std::time::Duration;

use ::rooms::{
    AliasError, CreateError, ForgetError, ReceiptError, RemoteMembershipError, RoomError, SendError, SubscriptionError,
    UpgradeError,
    find::{BadQuery, MutualError, PublishError},
    read::ReadRoomError,
    remote::NotAsked,
    tokens::BadToken,
    typing::TypingError,
};
use federation_client::{RemoteError, Unreachable};
use http::StatusCode;
use search::SearchError;
use serde_json::{Map, Value, json};
use users::{
    AccountDataError, AuthError, DeactivateError, DehydratedError, KeyBackupError, KeysError, LimitExceeded,
    LoginError, ModerationError, OpenIdError, PasswordChangeError, ProfileError, PushRulesError, RegisterError,
    ReportError, SendToDeviceError, StoreError,
    devices::DeviceError,
    filters::FilterError,
    passwords::PasswordError,
    presence::PresenceError,
    push_rules::{BadRule, RulesetError},
    shared_secret::SharedSecretError,
    uia::{Challenge, StageError, UiaError},
};

use crate::error::ApiError;

/// When to try again where only a short queue is full.
const SOON: Duration = Duration::from_secs(1);

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

/// What another server said is never passed on raw: its 401 would log out the client. That something isn't there, or is forbidden, is worth telling.
impl From<RemoteError> for ApiError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Refused { status: StatusCode::NOT_FOUND, .. } => Self::not_found("Not found on its server"),
            RemoteError::Refused { status: StatusCode::FORBIDDEN, errcode, .. } if errcode == "M_INVITE_BLOCKED" => {
                invite_blocked()
            }
            RemoteError::Refused { status: StatusCode::FORBIDDEN, .. } => Self::forbidden("Its server forbids it"),
            RemoteError::Refused { status: StatusCode::BAD_REQUEST, errcode, .. } => match errcode.as_str() {
                "M_UNABLE_TO_AUTHORISE_JOIN" => {
                    Self::bad("M_UNABLE_TO_AUTHORISE_JOIN", "The other server can't tell whether you may join")
                }
                "M_UNABLE_TO_GRANT_JOIN" => {
                    Self::bad("M_UNABLE_TO_GRANT_JOIN", "Nobody on the other server may let you in")
                }
                "M_INCOMPATIBLE_ROOM_VERSION" => {
                    Self::bad("M_INCOMPATIBLE_ROOM_VERSION", "The room is of a version that this server does not know")
                }
                _ => cannot_be_asked(&errcode),
            },
            RemoteError::Unreachable(Unreachable::TimedOut) => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", "The other server did not answer in time")
            }
            RemoteError::Ourselves
            | RemoteError::LeftAlone(_)
            | RemoteError::Unreachable(_)
            | RemoteError::Refused { .. }
            | RemoteError::Malformed(_) => cannot_be_asked(&error),
        }
    }
}

impl From<NotAsked> for ApiError {
    fn from(error: NotAsked) -> Self {
        match error {
            NotAsked::NoFederation => Self::not_found("Other servers are not asked"),
            NotAsked::Remote(error) => error.into(),
        }
    }
}

impl From<BadQuery> for ApiError {
    fn from(error: BadQuery) -> Self {
        Self::invalid_param(error.to_string())
    }
}

fn cannot_be_asked(reason: &dyn std::fmt::Display) -> ApiError {
    tracing::debug!(%reason, "another server did not do what it was asked");
    ApiError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "The other server can't be asked now")
}

impl From<LimitExceeded> for ApiError {
    fn from(error: LimitExceeded) -> Self {
        Self::limit_exceeded(error.retry_after)
    }
}

fn locked() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "M_USER_LOCKED", "This account has been locked").with("soft_logout", true)
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => Self::missing_token(),
            AuthError::Unknown { soft_logout } => Self::unknown_token(soft_logout),
            AuthError::Locked => locked(),
            AuthError::Store(error) => error.into(),
        }
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Empty | PasswordError::TooLong => Self::bad("M_WEAK_PASSWORD", error.to_string()),
            PasswordError::Busy => Self::limit_exceeded(SOON),
        }
    }
}

impl From<DeviceError> for ApiError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Unknown => Self::not_found("No such device"),
            DeviceError::BadId | DeviceError::NameTooLong => Self::invalid_param(error.to_string()),
            DeviceError::Store(error) => error.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Deactivated => {
                Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", "This account has been deactivated")
            }
            LoginError::Locked => locked(),
            LoginError::LimitExceeded(error) => error.into(),
            LoginError::Password(PasswordError::Busy) => Self::limit_exceeded(SOON),
            LoginError::BadCredentials | LoginError::Password(_) => Self::forbidden("Wrong user name or password"),
            LoginError::Device(error) => error.into(),
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<DeactivateError> for ApiError {
    fn from(error: DeactivateError) -> Self {
        match error {
            DeactivateError::UnknownUser => Self::not_found("No such user"),
            DeactivateError::RiderConflict => Self::internal(error),
            DeactivateError::Store(error) => error.into(),
        }
    }
}

impl From<PasswordChangeError> for ApiError {
    fn from(error: PasswordChangeError) -> Self {
        match error {
            // Whoever asks is logged in: the account is being deactivated at the same time.
            PasswordChangeError::UnknownUser => Self::forbidden("This account has been deactivated"),
            PasswordChangeError::Password(error) => error.into(),
            PasswordChangeError::Store(error) => error.into(),
        }
    }
}

impl From<ModerationError> for ApiError {
    fn from(error: ModerationError) -> Self {
        match error {
            ModerationError::NotAdmin => Self::forbidden("You are not an administrator of this server"),
            ModerationError::Protected => Self::forbidden("The account is an administrator's"),
            ModerationError::NotLocal => Self::invalid_param("The user does not belong to this server"),
            ModerationError::UnknownUser => Self::not_found("User not found"),
            ModerationError::Store(error) => error.into(),
        }
    }
}

impl From<OpenIdError> for ApiError {
    fn from(error: OpenIdError) -> Self {
        match error {
            OpenIdError::LimitExceeded(error) => error.into(),
            OpenIdError::Store(error) => error.into(),
        }
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::ReasonTooLong(_) => Self::too_large(error.to_string()),
            ReportError::TooMany => Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string()),
            ReportError::LimitExceeded(error) => error.into(),
            ReportError::Store(error) => error.into(),
        }
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::UserInUse => Self::bad("M_USER_IN_USE", "This user name is taken"),
            RegisterError::InvalidUsername(error) => Self::bad("M_INVALID_USERNAME", error.to_string()),
            RegisterError::Password(error) => error.into(),
            RegisterError::Device(error) => error.into(),
            RegisterError::InvalidToken => Self::forbidden("The registration token is not valid any more"),
            RegisterError::Closed => Self::forbidden("Registration is closed"),
            RegisterError::GuestsForbidden => Self::forbidden("Guest access is disabled"),
            RegisterError::Store(error) => error.into(),
        }
    }
}

impl From<SharedSecretError> for ApiError {
    fn from(error: SharedSecretError) -> Self {
        match error {
            SharedSecretError::Disabled | SharedSecretError::BadNonce => Self::bad("M_UNKNOWN", error.to_string()),
            SharedSecretError::BadUsername | SharedSecretError::BadPassword => {
                Self::bad("M_UNKNOWN", error.to_string())
            }
            SharedSecretError::BadMac => Self::forbidden("HMAC incorrect"),
            SharedSecretError::Register(error) => error.into(),
        }
    }
}

fn challenge(challenge: &Challenge) -> Map<String, Value> {
    let stages = |flow: &Vec<users::uia::Stage>| json!({ "stages": flow.iter().map(|stage| stage.as_str()).collect::<Vec<_>>() });
    let mut body = Map::new();
    body.insert("session".to_owned(), json!(challenge.session));
    body.insert("flows".to_owned(), challenge.flows.iter().map(stages).collect());
    body.insert("params".to_owned(), json!({}));
    let completed: Vec<_> = challenge.completed.iter().map(|stage| stage.as_str()).collect();
    body.insert("completed".to_owned(), json!(completed));
    body
}

impl From<UiaError> for ApiError {
    fn from(error: UiaError) -> Self {
        match error {
            UiaError::Challenge(open) => {
                let mut body = challenge(&open);
                if let Some(error) = open.error {
                    let errcode = match error {
                        StageError::WrongPassword => "M_FORBIDDEN",
                        StageError::InvalidToken => "M_UNAUTHORIZED",
                        StageError::NotOffered => "M_UNRECOGNIZED",
                        StageError::Missing(_) => "M_MISSING_PARAM",
                    };
                    body.insert("errcode".to_owned(), json!(errcode));
                    body.insert("error".to_owned(), json!(error.to_string()));
                }
                Self::interactive(body)
            }
            UiaError::OtherRequest | UiaError::OtherUser => Self::forbidden(error.to_string()),
            UiaError::LimitExceeded(error) => error.into(),
            UiaError::Password(error) => error.into(),
            UiaError::Store(error) => error.into(),
        }
    }
}

impl From<ProfileError> for ApiError {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::UnknownUser => Self::not_found("No such user"),
            ProfileError::BadFieldName => Self::invalid_param(error.to_string()),
            ProfileError::FieldNameTooLong => Self::bad("M_KEY_TOO_LARGE", error.to_string()),
            ProfileError::BadValue(..) => Self::bad_json(error.to_string()),
            ProfileError::ValueTooLong(..) => Self::bad("M_INVALID_PARAM", error.to_string()),
            ProfileError::TooLarge => Self::bad("M_PROFILE_TOO_LARGE", error.to_string()),
            ProfileError::RiderConflict => Self::internal(error),
            ProfileError::Store(error) => error.into(),
        }
    }
}

impl From<AccountDataError> for ApiError {
    fn from(error: AccountDataError) -> Self {
        match error {
            AccountDataError::Managed(_) => Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_BAD_JSON", error.to_string()),
            AccountDataError::BadType => Self::invalid_param(error.to_string()),
            AccountDataError::TooLarge(_) => Self::too_large(error.to_string()),
            AccountDataError::TooMany(_) => Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string()),
            AccountDataError::Store(error) => error.into(),
        }
    }
}

impl From<SendToDeviceError> for ApiError {
    fn from(error: SendToDeviceError) -> Self {
        match error {
            SendToDeviceError::TooLarge(_) | SendToDeviceError::TooManyDevices(_) => Self::too_large(error.to_string()),
            SendToDeviceError::BadType => Self::invalid_param(error.to_string()),
            SendToDeviceError::Store(error) => error.into(),
        }
    }
}

impl From<DehydratedError> for ApiError {
    fn from(error: DehydratedError) -> Self {
        match error {
            DehydratedError::Unknown => Self::not_found(error.to_string()),
            DehydratedError::BadId | DehydratedError::NameTooLong => Self::invalid_param(error.to_string()),
            DehydratedError::TooLarge(_) => Self::too_large(error.to_string()),
            DehydratedError::Keys(error) => error.into(),
            DehydratedError::Store(error) => error.into(),
        }
    }
}

impl From<KeyBackupError> for ApiError {
    fn from(error: KeyBackupError) -> Self {
        match error {
            KeyBackupError::UnknownBackup | KeyBackupError::UnknownKey => Self::not_found(error.to_string()),
            KeyBackupError::WrongVersion { current } => {
                Self::new(StatusCode::FORBIDDEN, "M_WRONG_ROOM_KEYS_VERSION", error.to_string())
                    .with("current_version", current.to_string())
            }
            KeyBackupError::OtherAlgorithm | KeyBackupError::BadId => Self::invalid_param(error.to_string()),
            KeyBackupError::TooLarge(_) => Self::too_large(error.to_string()),
            KeyBackupError::TooManyKeys(_) | KeyBackupError::TooManyBackups(_) => {
                Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string())
            }
            KeyBackupError::Store(error) => error.into(),
        }
    }
}

impl From<KeysError> for ApiError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Malformed(_) => Self::bad_json(error.to_string()),
            KeysError::Foreign(_) | KeysError::TooMuch(_) => Self::invalid_param(error.to_string()),
            KeysError::TooLarge(_) => Self::too_large(error.to_string()),
            KeysError::TooMany(_) => Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string()),
            // Clients that have lost count of their keys know this by its words.
            KeysError::OtherKey(_) | KeysError::NoDevice => Self::bad("M_UNKNOWN", error.to_string()),
            KeysError::BadSignature(_) => Self::bad("M_INVALID_SIGNATURE", error.to_string()),
            KeysError::NoMasterKey => Self::missing_param(error.to_string()),
            KeysError::KeyIdInUse | KeysError::Unauthenticated => Self::forbidden(error.to_string()),
            KeysError::Store(error) => error.into(),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        match error {
            FilterError::TooLarge => Self::too_large(error.to_string()),
            FilterError::TooMany => Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string()),
            FilterError::Store(error) => error.into(),
        }
    }
}

impl From<PushRulesError> for ApiError {
    fn from(error: PushRulesError) -> Self {
        match error {
            PushRulesError::Rules(error) => match error {
                RulesetError::Bad(BadRule::ReservedId | BadRule::Id | BadRule::IdOfKind(_))
                | RulesetError::DefaultNeighbour
                | RulesetError::Default => Self::invalid_param(error.to_string()),
                RulesetError::Bad(BadRule::LongPattern | BadRule::TooLarge) => Self::too_large(error.to_string()),
                RulesetError::Bad(BadRule::NoPattern) => Self::missing_param(error.to_string()),
                RulesetError::Bad(BadRule::Action(_) | BadRule::Condition { .. }) => Self::bad_json(error.to_string()),
                RulesetError::Unknown | RulesetError::UnknownNeighbour => Self::not_found(error.to_string()),
                RulesetError::TooMany(_) => Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string()),
            },
            PushRulesError::TooLarge => Self::bad("M_RESOURCE_LIMIT_EXCEEDED", error.to_string()),
            PushRulesError::Store(error) => error.into(),
        }
    }
}

fn invite_blocked() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", "The user takes no invites")
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Forbidden { reason } => Self::forbidden(reason),
            SendError::NotInRoom => Self::forbidden("You are not joined to the room"),
            SendError::LimitExceeded { retry_after } => Self::limit_exceeded(retry_after),
            SendError::TooLarge { reason } => Self::too_large(reason),
            SendError::BadContent { reason } => Self::bad_json(reason),
            SendError::InvalidAlias { .. } => Self::invalid_param(error.to_string()),
            SendError::BadAlias { alias } => Self::bad("M_BAD_ALIAS", format!("{alias} does not lead to this room")),
            SendError::DuplicateAnnotation => Self::bad("M_DUPLICATE_ANNOTATION", error.to_string()),
            SendError::NoThreadRoot => Self::bad("M_UNKNOWN", error.to_string()),
            SendError::RiderConflict | SendError::PreconditionFailed => Self::internal(error),
            SendError::UnknownRoom => Self::not_found("The room is not known here"),
            SendError::GuestForbidden => {
                Self::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", error.to_string())
            }
            SendError::Suspended => Self::suspended(),
            SendError::InviteBlocked => invite_blocked(),
            SendError::Remote(error) => error.into(),
            SendError::NobodyVouches => Self::forbidden(error.to_string()),
            SendError::RemoteUser => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string()),
            SendError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string()),
            SendError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Unknown => Self::not_found("The room is not known here"),
            RoomError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<RemoteMembershipError> for ApiError {
    fn from(error: RemoteMembershipError) -> Self {
        match error {
            RemoteMembershipError::Here(error) => error.into(),
            RemoteMembershipError::NobodyToAsk => Self::not_found("No server is known that is in the room"),
            RemoteMembershipError::Remote(error) => error.into(),
            RemoteMembershipError::UnsupportedVersion(_) => Self::bad("M_INCOMPATIBLE_ROOM_VERSION", error.to_string()),
            RemoteMembershipError::Unusable(_) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string()),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::UnsupportedVersion(_) => Self::bad("M_UNSUPPORTED_ROOM_VERSION", error.to_string()),
            CreateError::AliasInUse => Self::bad("M_ROOM_IN_USE", "The alias is taken"),
            CreateError::MayNotPublish(reason) => Self::forbidden(reason),
            CreateError::BadAlias(_) => Self::invalid_param(error.to_string()),
            CreateError::BadRequest(reason) => Self::bad_json(reason),
            CreateError::InvalidState(_) => Self::bad("M_INVALID_ROOM_STATE", error.to_string()),
            CreateError::Suspended => Self::suspended(),
            CreateError::LimitExceeded(error) => error.into(),
            CreateError::InviteBlocked => invite_blocked(),
            CreateError::RemoteUser(_) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string()),
            CreateError::TooLarge(reason) => Self::too_large(reason),
            CreateError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string()),
            CreateError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<ForgetError> for ApiError {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::StillThere => Self::bad("M_UNKNOWN", "The room has to be left first"),
            ForgetError::NeverThere => Self::not_found("You have never been in the room"),
            ForgetError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string()),
            ForgetError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<BadToken> for ApiError {
    fn from(error: BadToken) -> Self {
        Self::invalid_param(error.to_string())
    }
}

impl From<ReadRoomError> for ApiError {
    fn from(error: ReadRoomError) -> Self {
        match error {
            ReadRoomError::NotFound => Self::not_found("Not found"),
            ReadRoomError::Forbidden => Self::forbidden("You are not in this room"),
            ReadRoomError::BadToken(error) => error.into(),
            ReadRoomError::Unfinished => Self::new(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", error.to_string()),
            ReadRoomError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<ReceiptError> for ApiError {
    fn from(error: ReceiptError) -> Self {
        match error {
            ReceiptError::NotInRoom => Self::forbidden("You are not in this room"),
            ReceiptError::UnknownEvent => Self::not_found("No such event"),
            ReceiptError::OtherThread => Self::invalid_param(error.to_string()),
            ReceiptError::Marker(error) => error.into(),
            ReceiptError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string()),
            ReceiptError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<SubscriptionError> for ApiError {
    fn from(error: SubscriptionError) -> Self {
        match error {
            SubscriptionError::NotFound => Self::not_found(error.to_string()),
            SubscriptionError::NotInThread => Self::bad("IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", error.to_string()),
            SubscriptionError::ConflictingUnsubscription => {
                let errcode = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";
                Self::new(StatusCode::CONFLICT, errcode, error.to_string())
            }
            SubscriptionError::Unavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string())
            }
            SubscriptionError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<SearchError> for ApiError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::NoWords | SearchError::BadToken => Self::invalid_param(error.to_string()),
            SearchError::Index(_) | SearchError::Storage(_) | SearchError::Interrupted => Self::internal(error),
        }
    }
}

impl From<TypingError> for ApiError {
    fn from(error: TypingError) -> Self {
        match error {
            TypingError::NotInRoom => Self::forbidden("You are not in this room"),
            TypingError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<PresenceError> for ApiError {
    fn from(error: PresenceError) -> Self {
        match error {
            PresenceError::StatusTooLong => Self::invalid_param(error.to_string()),
            PresenceError::Store(error) => error.into(),
        }
    }
}

impl From<AliasError> for ApiError {
    fn from(error: AliasError) -> Self {
        match error {
            AliasError::NotLocal(_) => Self::invalid_param(error.to_string()),
            AliasError::Taken(_) => Self::new(StatusCode::CONFLICT, "M_UNKNOWN", error.to_string()),
            AliasError::Unknown(_) | AliasError::UnknownRoom => Self::not_found(error.to_string()),
            AliasError::Forbidden(reason) => Self::forbidden(reason),
            AliasError::Remote(error) => error.into(),
            AliasError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string()),
            AliasError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::UnknownRoom => Self::not_found(error.to_string()),
            PublishError::Forbidden(reason) => Self::forbidden(reason),
            PublishError::Unavailable => Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", error.to_string()),
            PublishError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<MutualError> for ApiError {
    fn from(error: MutualError) -> Self {
        match error {
            MutualError::Oneself => Self::invalid_param(error.to_string()),
            MutualError::BadToken(error) => error.into(),
            MutualError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<UpgradeError> for ApiError {
    fn from(error: UpgradeError) -> Self {
        match error {
            UpgradeError::Create(error) => error.into(),
            UpgradeError::Send(error) => error.into(),
            UpgradeError::Overtaken => Self::forbidden(error.to_string()),
        }
    }
}
