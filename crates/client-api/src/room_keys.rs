//! Backups of room keys (client-server API, "Server-side key backups").

mod keys;
mod pieces;

use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use users::key_backup::{BackupState, KeyBackup, KeyBackupError, Object};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, KeysBody, NoGuest},
    routes::Routes,
};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, VERSION, create);
    routes.add(Method::GET, VERSION, newest);
    routes.add(Method::GET, &format!("{VERSION}/{{version}}"), get);
    routes.add(Method::PUT, &format!("{VERSION}/{{version}}"), update);
    routes.add(Method::DELETE, &format!("{VERSION}/{{version}}"), delete);
    keys::routes(routes);
}

/// A version as clients write it. What is no number is no backup.
fn version(text: &str) -> ApiResult<u64> {
    text.parse().map_err(|_| KeyBackupError::UnknownBackup.into())
}

fn state(state: BackupState) -> Json<Value> {
    Json(json!({ "etag": state.etag.to_string(), "count": state.count }))
}

fn body(backup: &KeyBackup) -> Json<Value> {
    Json(json!({
        "algorithm": backup.algorithm,
        "auth_data": backup.auth_data,
        "count": backup.state.count,
        "etag": backup.state.etag.to_string(),
        "version": backup.version.to_string(),
    }))
}

#[derive(Debug, Deserialize)]
struct Backup {
    algorithm: String,
    auth_data: Object,
    version: Option<String>,
}

async fn create(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    KeysBody(request): KeysBody<Backup>,
) -> ApiResult<Json<Value>> {
    let version = api.users.key_backups().create(who.user_nid, &request.algorithm, &request.auth_data).await?;
    Ok(Json(json!({ "version": version.to_string() })))
}

async fn newest(State(api): State<Api>, NoGuest(who): NoGuest) -> ApiResult<Json<Value>> {
    Ok(body(&api.users.key_backups().get(who.user_nid, None).await?))
}

async fn get(State(api): State<Api>, NoGuest(who): NoGuest, Args(asked): Args<String>) -> ApiResult<Json<Value>> {
    Ok(body(&api.users.key_backups().get(who.user_nid, Some(version(&asked)?)).await?))
}

async fn update(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(asked): Args<String>,
    KeysBody(request): KeysBody<Backup>,
) -> ApiResult<Json<Value>> {
    if request.version.is_some_and(|version| version != asked) {
        return Err(ApiError::invalid_param("The version in the body is not that of the path"));
    }
    let backups = api.users.key_backups();
    backups.update(who.user_nid, version(&asked)?, &request.algorithm, &request.auth_data).await?;
    Ok(Json(json!({})))
}

async fn delete(State(api): State<Api>, NoGuest(who): NoGuest, Args(asked): Args<String>) -> ApiResult<Json<Value>> {
    api.users.key_backups().delete(who.user_nid, version(&asked)?).await?;
    Ok(Json(json!({})))
}
