//! Tags of rooms (client-server API, "Room Tagging"). They are the account data `m.tag` of the room.

use axum::{Json, extract::State};
use http::Method;
use serde_json::{Map, Value, json};
use users::{DataKey, Requester};

use crate::{
    Api,
    account_data::{own, room_nid},
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
    routes::Routes,
};

/// The type of the account data.
const TAG: &str = "m.tag";
/// The longest name of a tag, in bytes.
const MAX_TAG_BYTES: usize = 255;

pub(crate) fn routes(routes: &mut Routes) {
    let tags = "/_matrix/client/v3/user/{user}/rooms/{room}/tags";
    routes.add(Method::GET, tags, list);
    routes.add(Method::PUT, &format!("{tags}/{{tag}}"), set);
    routes.add(Method::DELETE, &format!("{tags}/{{tag}}"), remove);
}

async fn list(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, room)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    let key = DataKey { user: who.user_nid, room: Some(room_nid(&api, &room).await?), data_type: TAG };
    let content = api.users.account_data().get(key).await?;
    let content = content.map(|json| serde_json::from_str(&json)).transpose().map_err(ApiError::internal)?;
    Ok(Json(json!({ "tags": tags_of(content.unwrap_or_default()) })))
}

async fn set(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, room, tag)): Args<(String, String, String)>,
    Body(info): Body<Map<String, Value>>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    if tag.len() > MAX_TAG_BYTES {
        return Err(ApiError::invalid_param(format!("A tag can have at most {MAX_TAG_BYTES} bytes")));
    }
    if let Some(order) = info.get("order") {
        let order = order.as_f64().ok_or_else(|| ApiError::bad_json("`order` is a number"))?;
        if !(0.0..=1.0).contains(&order) {
            return Err(ApiError::invalid_param("`order` is between 0 and 1"));
        }
    }
    edit(&api, &who, &room, |tags| drop(tags.insert(tag.clone(), Value::Object(info.clone())))).await
}

async fn remove(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, room, tag)): Args<(String, String, String)>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    edit(&api, &who, &room, |tags| drop(tags.remove(&tag))).await
}

/// The tags in the content, whatever a client has put there.
fn tags_of(mut content: Map<String, Value>) -> Map<String, Value> {
    match content.remove("tags") {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    }
}

/// Changes the tags of a room. A room that loses its last tag keeps the event, with no tags in it: clients know its deletion from nothing else.
async fn edit(
    api: &Api,
    who: &Requester,
    room: &str,
    change: impl Fn(&mut Map<String, Value>),
) -> ApiResult<Json<Value>> {
    let key = DataKey { user: who.user_nid, room: Some(room_nid(api, room).await?), data_type: TAG };
    let edit = |content: Map<String, Value>| {
        let before = tags_of(content);
        let mut tags = before.clone();
        change(&mut tags);
        (tags != before).then(|| Map::from_iter([("tags".to_owned(), Value::Object(tags))]))
    };
    api.users.account_data().edit(key, edit).await?;
    Ok(Json(json!({})))
}
