//! `POST /createRoom` (client-server API, "Creation").

use ::rooms::{CreateRoom, InitialState, Preset};
use axum::{Json, extract::State};
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject};
use serde::Deserialize;
use serde_json::{Value, json};

use super::send::local_of;
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Body, NoGuest},
};

#[derive(Debug, Deserialize)]
struct StateBody {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(default)]
    state_key: String,
    content: CanonicalJsonObject,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum PresetBody {
    #[serde(rename = "private_chat")]
    Private,
    #[serde(rename = "trusted_private_chat")]
    TrustedPrivate,
    #[serde(rename = "public_chat")]
    Public,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    Public,
    #[default]
    Private,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    creation_content: CanonicalJsonObject,
    #[serde(default)]
    initial_state: Vec<StateBody>,
    #[serde(default)]
    invite: Vec<OwnedUserId>,
    #[serde(default)]
    invite_3pid: Vec<Value>,
    #[serde(default)]
    is_direct: bool,
    name: Option<String>,
    #[serde(default)]
    power_level_content_override: CanonicalJsonObject,
    preset: Option<PresetBody>,
    room_alias_name: Option<String>,
    room_version: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    visibility: Visibility,
}

impl From<PresetBody> for Preset {
    fn from(preset: PresetBody) -> Self {
        match preset {
            PresetBody::Private => Self::PrivateChat,
            PresetBody::TrustedPrivate => Self::TrustedPrivateChat,
            PresetBody::Public => Self::PublicChat,
        }
    }
}

pub(super) async fn create(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    if !request.invite_3pid.is_empty() {
        return Err(ApiError::threepid_denied());
    }
    let state = |state: StateBody| InitialState {
        event_type: state.event_type,
        state_key: state.state_key,
        content: state.content,
    };
    let room = CreateRoom {
        version: request.room_version,
        preset: request.preset.map(Preset::from),
        published: request.visibility == Visibility::Public,
        name: request.name,
        topic: request.topic,
        alias_localpart: request.room_alias_name,
        invite: request.invite,
        is_direct: request.is_direct,
        initial_state: request.initial_state.into_iter().map(state).collect(),
        creation_content: request.creation_content,
        power_level_content_override: request.power_level_content_override,
        local: local_of(&who, None),
        ..CreateRoom::new(who.user_id)
    };
    Ok(Json(json!({ "room_id": api.rooms.create(room).await? })))
}
