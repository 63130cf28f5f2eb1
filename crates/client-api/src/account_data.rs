//! Account data (client-server API, "Client Config") and its deletion (MSC3391).

use axum::{Json, extract::State};
use http::Method;
use primitives::RoomNid;
use serde_json::{Map, Value, json, value::RawValue};
use users::{
    DataKey, Requester,
    push_rules::{ACCOUNT_DATA_TYPE, Owner},
};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
    profile::user_id,
    rooms::room_id,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    let global = "user/{user}/account_data/{type}";
    let of_room = "user/{user}/rooms/{room}/account_data/{type}";
    routes.add(Method::GET, &format!("/_matrix/client/v3/{global}"), get);
    routes.add(Method::PUT, &format!("/_matrix/client/v3/{global}"), set);
    routes.add(Method::GET, &format!("/_matrix/client/v3/{of_room}"), get_of_room);
    routes.add(Method::PUT, &format!("/_matrix/client/v3/{of_room}"), set_of_room);
    routes.add(Method::DELETE, &format!("/_matrix/client/unstable/org.matrix.msc3391/{global}"), delete);
    routes.add(Method::DELETE, &format!("/_matrix/client/unstable/org.matrix.msc3391/{of_room}"), delete_of_room);
}

/// Everybody sees and changes only what is theirs.
pub(crate) fn own(who: &Requester, user: &str) -> ApiResult<()> {
    if user_id(user)? == who.user_id { Ok(()) } else { Err(ApiError::forbidden("This is somebody else's data")) }
}

/// The number of a room out of a path.
pub(crate) async fn room_nid(api: &Api, room: &str) -> ApiResult<RoomNid> {
    Ok(api.rooms.room(&room_id(room)?).await?.nid())
}

async fn read(api: &Api, who: &Requester, room: Option<RoomNid>, data_type: &str) -> ApiResult<Json<Box<RawValue>>> {
    let content = if room.is_none() && data_type == ACCOUNT_DATA_TYPE {
        let owner = Owner { user: who.user_nid, user_id: &who.user_id };
        Some(api.users.push_rules().get(owner).await.map_err(ApiError::internal)?.content().to_string())
    } else {
        api.users.account_data().get(DataKey { user: who.user_nid, room, data_type }).await?
    };
    let content = content.ok_or_else(|| ApiError::not_found("No such account data"))?;
    RawValue::from_string(content).map(Json).map_err(ApiError::internal)
}

async fn write(
    api: &Api,
    who: &Requester,
    room: Option<RoomNid>,
    data_type: &str,
    content: &Map<String, Value>,
) -> ApiResult<Json<Value>> {
    api.users.account_data().set(DataKey { user: who.user_nid, room, data_type }, content).await?;
    Ok(Json(json!({})))
}

async fn get(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, data_type)): Args<(String, String)>,
) -> ApiResult<Json<Box<RawValue>>> {
    own(&who, &user)?;
    read(&api, &who, None, &data_type).await
}

async fn set(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, data_type)): Args<(String, String)>,
    Body(content): Body<Map<String, Value>>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    write(&api, &who, None, &data_type, &content).await
}

async fn delete(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, data_type)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    write(&api, &who, None, &data_type, &Map::new()).await
}

async fn get_of_room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, room, data_type)): Args<(String, String, String)>,
) -> ApiResult<Json<Box<RawValue>>> {
    own(&who, &user)?;
    read(&api, &who, Some(room_nid(&api, &room).await?), &data_type).await
}

async fn set_of_room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, room, data_type)): Args<(String, String, String)>,
    Body(content): Body<Map<String, Value>>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    write(&api, &who, Some(room_nid(&api, &room).await?), &data_type, &content).await
}

async fn delete_of_room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, room, data_type)): Args<(String, String, String)>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    write(&api, &who, Some(room_nid(&api, &room).await?), &data_type, &Map::new()).await
}
