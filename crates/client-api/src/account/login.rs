//! `GET` and `POST /login` (client-server API, "Login").

use axum::{Json, extract::State};
use ruma::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{Identifier, Login, NewSession};

use super::{interactive::IdentifierBody, put_tokens};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Body, From},
};

/// The ways to log in that this server knows.
pub(super) async fn flows() -> Json<Value> {
    Json(json!({ "flows": [{ "type": "m.login.password" }] }))
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<IdentifierBody>,
    /// From before there were identifiers.
    user: Option<String>,
    medium: Option<String>,
    address: Option<String>,
    password: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

impl Request {
    fn identifier(&self) -> ApiResult<Identifier> {
        if let Some(identifier) = &self.identifier {
            let known = identifier.clone().known();
            return known.ok_or_else(|| ApiError::bad("M_UNKNOWN", "Unknown login identifier type"));
        }
        match (&self.user, &self.medium, &self.address) {
            (Some(user), _, _) => Ok(Identifier::User(user.clone())),
            (None, Some(medium), Some(address)) => {
                Ok(Identifier::ThirdParty { medium: medium.clone(), address: address.clone() })
            }
            _ => Err(ApiError::missing_param("`identifier` is missing")),
        }
    }
}

pub(super) async fn login(
    State(api): State<Api>,
    From(address): From,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    if request.kind != "m.login.password" {
        return Err(ApiError::bad("M_UNKNOWN", "Unknown login type"));
    }
    let identifier = request.identifier()?;
    let password = request.password.as_deref().ok_or_else(|| ApiError::missing_param("`password` is missing"))?;
    let session = NewSession {
        device_id: request.device_id.clone(),
        initial_device_display_name: request.initial_device_display_name.clone(),
        refresh_token: request.refresh_token,
    };
    let login = Login { identifier: &identifier, password, session, address: Some(address) };
    let logged_in = api.users.login(login).await?;
    let mut body = json!({
        "user_id": logged_in.user_id,
        "device_id": logged_in.session.device_id,
        "home_server": api.users.server_name(),
    });
    put_tokens(&mut body, &logged_in.session.tokens);
    if let Some(base_url) = &api.options.public_base_url {
        body["well_known"] = json!({ "m.homeserver": { "base_url": base_url } });
    }
    Ok(Json(body))
}
