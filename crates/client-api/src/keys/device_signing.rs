//! `POST /keys/device_signing/upload`: the user's cross-signing keys (MSC3967).

use axum::{Json, extract::State};
use http::Method;
use ruma::CanonicalJsonObject;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{
    KeysError,
    keys::{Authentication, CrossSigningUpload},
    uia::{Operation, Stage},
};

use crate::{
    Api,
    account::{Auth, interact},
    error::ApiResult,
    extract::{Body, From, NoGuest},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/device_signing/upload", upload);
}

#[derive(Debug, Deserialize)]
struct Upload {
    master_key: Option<CanonicalJsonObject>,
    self_signing_key: Option<CanonicalJsonObject>,
    user_signing_key: Option<CanonicalJsonObject>,
    auth: Option<Auth>,
}

async fn upload(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    From(address): From,
    Body(request): Body<Upload>,
) -> ApiResult<Json<Value>> {
    let upload = CrossSigningUpload {
        master: request.master_key,
        self_signing: request.self_signing_key,
        user_signing: request.user_signing_key,
    };
    let keys = api.users.keys();
    match keys.upload_cross_signing(&who, &upload, Authentication::Token).await {
        Err(KeysError::Unauthenticated) => {
            let keys_as_text =
                [&upload.master, &upload.self_signing, &upload.user_signing].map(|key| json!(key).to_string());
            let operation = Operation::new("replace cross-signing keys", &keys_as_text.each_ref().map(String::as_str));
            interact(&api, Some(&who), operation, vec![vec![Stage::Password]], request.auth, address).await?;
            keys.upload_cross_signing(&who, &upload, Authentication::Interactive).await?;
        }
        done => done?,
    }
    Ok(Json(json!({})))
}
