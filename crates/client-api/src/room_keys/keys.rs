//! The keys in a backup: all, those of a room, or one.

use std::collections::BTreeMap;

use axum::{Json, extract::State, response::Response};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::{
    Requester,
    key_backup::{BackedUpKey, Object, Part, Sessions},
};

use super::{pieces, state, version};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, KeysBody, NoGuest, Query},
    routes::Routes,
};

const KEYS: &str = "/_matrix/client/v3/room_keys/keys";

pub(super) fn routes(routes: &mut Routes) {
    let room = format!("{KEYS}/{{room}}");
    let session = format!("{KEYS}/{{room}}/{{session}}");
    routes.add(Method::PUT, KEYS, put_all).add(Method::GET, KEYS, get_all).add(Method::DELETE, KEYS, delete_all);
    routes.add(Method::PUT, &room, put_room).add(Method::GET, &room, get_room);
    routes.add(Method::DELETE, &room, delete_room);
    routes.add(Method::PUT, &session, put_session).add(Method::GET, &session, get_session);
    routes.add(Method::DELETE, &session, delete_session);
}

#[derive(Debug, Deserialize)]
struct Parameters {
    version: String,
}

/// A key, as clients write and read it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Key {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: Object,
}

impl From<Key> for BackedUpKey {
    fn from(key: Key) -> Self {
        let Key { first_message_index, forwarded_count, is_verified, session_data } = key;
        Self { first_message_index, forwarded_count, is_verified, session_data }
    }
}

impl From<BackedUpKey> for Key {
    fn from(key: BackedUpKey) -> Self {
        let BackedUpKey { first_message_index, forwarded_count, is_verified, session_data } = key;
        Self { first_message_index, forwarded_count, is_verified, session_data }
    }
}

#[derive(Debug, Deserialize)]
struct RoomKeys {
    sessions: BTreeMap<String, Key>,
}

#[derive(Debug, Deserialize)]
struct AllKeys {
    rooms: BTreeMap<String, RoomKeys>,
}

fn sessions(keys: RoomKeys) -> BTreeMap<String, BackedUpKey> {
    keys.sessions.into_iter().map(|(session, key)| (session, key.into())).collect()
}

async fn put(api: &Api, who: &Requester, parameters: &Parameters, keys: &Sessions) -> ApiResult<Json<Value>> {
    let version = version(&parameters.version)?;
    Ok(state(api.users.key_backups().put(who.user_nid, version, keys).await?))
}

async fn delete(api: &Api, who: &Requester, parameters: &Parameters, part: Part<'_>) -> ApiResult<Json<Value>> {
    let version = version(&parameters.version)?;
    Ok(state(api.users.key_backups().delete_keys(who.user_nid, version, part).await?))
}

async fn put_all(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Query(parameters): Query<Parameters>,
    KeysBody(request): KeysBody<AllKeys>,
) -> ApiResult<Json<Value>> {
    let keys = request.rooms.into_iter().map(|(room, keys)| (room, sessions(keys))).collect();
    put(&api, &who, &parameters, &keys).await
}

async fn put_room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
    KeysBody(request): KeysBody<RoomKeys>,
) -> ApiResult<Json<Value>> {
    put(&api, &who, &parameters, &BTreeMap::from([(room, sessions(request))])).await
}

async fn put_session(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, session)): Args<(String, String)>,
    Query(parameters): Query<Parameters>,
    KeysBody(request): KeysBody<Key>,
) -> ApiResult<Json<Value>> {
    let keys = BTreeMap::from([(room, BTreeMap::from([(session, request.into())]))]);
    put(&api, &who, &parameters, &keys).await
}

async fn get_all(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Response> {
    let range = api.users.key_backups().keys(who.user_nid, version(&parameters.version)?, Part::All).await?;
    Ok(pieces::all(&api.users, range))
}

async fn get_room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Response> {
    let version = version(&parameters.version)?;
    let range = api.users.key_backups().keys(who.user_nid, version, Part::Room(&room)).await?;
    Ok(pieces::of_room(&api.users, range))
}

async fn get_session(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, session)): Args<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Key>> {
    let version = version(&parameters.version)?;
    Ok(Json(api.users.key_backups().key(who.user_nid, version, &room, &session).await?.into()))
}

async fn delete_all(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Value>> {
    delete(&api, &who, &parameters, Part::All).await
}

async fn delete_room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Value>> {
    delete(&api, &who, &parameters, Part::Room(&room)).await
}

async fn delete_session(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, session)): Args<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Value>> {
    delete(&api, &who, &parameters, Part::Session(&room, &session)).await
}
