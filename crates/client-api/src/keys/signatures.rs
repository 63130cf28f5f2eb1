//! `POST /keys/signatures/upload`: signatures of keys.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedUserId;
use serde_json::{Value, json};
use users::keys::{SignatureFailure, SignatureUpload};

use crate::{
    Api,
    error::ApiResult,
    extract::{KeysBody, NoGuest},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/signatures/upload", upload);
}

fn failure(failure: SignatureFailure) -> Value {
    let errcode = match failure {
        SignatureFailure::UnknownKey => "M_NOT_FOUND",
        SignatureFailure::OtherKey => "M_INVALID_PARAM",
        SignatureFailure::NotYours => "M_FORBIDDEN",
        SignatureFailure::BadSignature => "M_INVALID_SIGNATURE",
    };
    json!({ "errcode": errcode, "error": failure.to_string() })
}

async fn upload(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    KeysBody(request): KeysBody<SignatureUpload>,
) -> ApiResult<Json<Value>> {
    let failures = api.users.keys().upload_signatures(&who, &request).await?;
    let of_user = |keys: BTreeMap<String, SignatureFailure>| -> BTreeMap<String, Value> {
        keys.into_iter().map(|(key, why)| (key, failure(why))).collect()
    };
    let failures: BTreeMap<OwnedUserId, _> = failures.into_iter().map(|(user, keys)| (user, of_user(keys))).collect();
    Ok(Json(json!({ "failures": failures })))
}
