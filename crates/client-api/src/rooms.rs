//! Rooms: making them, being in them, sending to them, reading them.

mod alias;
mod context;
mod create;
mod event;
mod event_relationships;
mod forget;
mod initial_sync;
mod invite;
mod join;
mod joined_rooms;
mod knock;
mod leave;
mod members;
mod messages;
mod moderate;
mod read_markers;
mod receipt;
mod redact;
mod relations;
pub(crate) mod send;
mod state;
mod state_read;
mod thread_subscription;
mod thread_subscriptions;
mod threads;
mod timestamp_to_event;
mod typing;
mod upgrade;

use ::rooms::{
    Details,
    filter::RoomEventFilter,
    read::{PageDirection, Reader},
    tokens::PageToken,
};
use http::Method;
use ruma::{OwnedEventId, OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName};
use serde::Deserialize;
use users::Requester;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    routes::Routes,
};

use send::NewEvent;

const V1: &str = "/_matrix/client/v1";
const V3: &str = "/_matrix/client/v3";

pub(crate) fn routes(routes: &mut Routes) {
    let room = |tail: &str| format!("{V3}/rooms/{{room}}/{tail}");
    routes.add(Method::POST, &format!("{V3}/createRoom"), create::create);
    routes.add(Method::POST, &format!("{V3}/join/{{room}}"), join::by_id_or_alias);
    routes.add(Method::POST, &format!("{V3}/knock/{{room}}"), knock::knock);
    routes.add(Method::GET, &format!("{V3}/joined_rooms"), joined_rooms::joined_rooms);
    routes.add(Method::POST, &room("join"), join::by_id);
    routes.add(Method::POST, &room("leave"), leave::leave);
    routes.add(Method::POST, &room("forget"), forget::forget);
    routes.add(Method::POST, &room("invite"), invite::invite);
    moderate::routes(routes);
    routes.add(Method::POST, &room("upgrade"), upgrade::upgrade);
    routes.add(Method::PUT, &room("send/{type}/{txn}"), send::send);
    routes.add(Method::PUT, &room("redact/{event}/{txn}"), redact::redact);
    routes.add(Method::PUT, &room("state/{type}/{key}"), state::set);
    routes.add(Method::PUT, &room("state/{type}"), state::set_with_empty_key);
    routes.add(Method::GET, &room("state/{type}/{key}"), state_read::one);
    routes.add(Method::GET, &room("state/{type}"), state_read::one_with_empty_key);
    routes.add(Method::GET, &room("state"), state_read::all);
    routes.add(Method::GET, &room("event/{event}"), event::event);
    routes.add(Method::GET, &room("context/{event}"), context::context);
    routes.add(Method::GET, &room("initialSync"), initial_sync::initial_sync);
    routes.add(Method::GET, &room("messages"), messages::messages);
    routes.add(Method::POST, &room("receipt/{type}/{event}"), receipt::receipt);
    routes.add(Method::PUT, &room("typing/{user}"), typing::typing);
    routes.add(Method::POST, &room("read_markers"), read_markers::read_markers);
    routes.add(Method::GET, &room("members"), members::members);
    routes.add(Method::GET, &room("joined_members"), members::joined);
    let relations = format!("{V1}/rooms/{{room}}/relations/{{event}}");
    routes.add(Method::GET, &relations, relations::all);
    routes.add(Method::GET, &format!("{relations}/{{rel_type}}"), relations::of_type);
    routes.add(Method::GET, &format!("{relations}/{{rel_type}}/{{type}}"), relations::of_types);
    routes.add(Method::GET, &format!("{V1}/rooms/{{room}}/threads"), threads::threads);
    let changes = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions";
    routes.add(Method::GET, changes, thread_subscriptions::get);
    let subscription = "/_matrix/client/unstable/io.element.msc4306/rooms/{room}/thread/{event}/subscription";
    routes.add(Method::GET, subscription, thread_subscription::get);
    routes.add(Method::PUT, subscription, thread_subscription::put);
    routes.add(Method::DELETE, subscription, thread_subscription::delete);
    let relationships = "/_matrix/client/unstable/event_relationships";
    routes.add(Method::POST, relationships, event_relationships::event_relationships);
    let timestamp_to_event = format!("{V1}/rooms/{{room}}/timestamp_to_event");
    routes.add(Method::GET, &timestamp_to_event, timestamp_to_event::timestamp_to_event);
    routes.add(Method::GET, &format!("{V3}/directory/room/{{alias}}"), alias::look_up);
    routes.add(Method::PUT, &format!("{V3}/directory/room/{{alias}}"), alias::create);
    routes.add(Method::DELETE, &format!("{V3}/directory/room/{{alias}}"), alias::delete);
}

/// A room id out of a path.
pub(crate) fn room_id(text: &str) -> ApiResult<OwnedRoomId> {
    OwnedRoomId::try_from(text).map_err(|_| ApiError::invalid_param("Not a room id"))
}

/// An event id out of a path.
pub(crate) fn event_id(text: &str) -> ApiResult<OwnedEventId> {
    OwnedEventId::try_from(text).map_err(|_| ApiError::not_found("No such event"))
}

/// Who reads.
pub(crate) fn reader(who: &Requester) -> Reader {
    Reader { user_id: who.user_id.clone(), user_nid: who.user_nid, device_id: who.device_id.clone() }
}

/// A direction out of a query.
fn direction(text: Option<&str>) -> ApiResult<Option<PageDirection>> {
    match text {
        None => Ok(None),
        Some("b") => Ok(Some(PageDirection::Backward)),
        Some("f") => Ok(Some(PageDirection::Forward)),
        Some(_) => Err(ApiError::invalid_param("`dir` is `b` or `f`")),
    }
}

/// A place in a room's history out of a query.
fn page_token(text: Option<&str>) -> ApiResult<Option<PageToken>> {
    Ok(text.map(str::parse::<PageToken>).transpose()?)
}

/// A filter out of a query.
fn room_event_filter(json: Option<&str>) -> ApiResult<RoomEventFilter> {
    let filter = json.map(RoomEventFilter::parse).transpose().map_err(|error| ApiError::bad_json(error.to_string()))?;
    Ok(filter.unwrap_or_default())
}

/// What goes with a change of membership.
fn details(who: &Requester, reason: Option<String>) -> Details {
    Details { reason, local: send::local_of(who, None), ..Details::default() }
}

/// A room id, or the id that an alias of any server leads to; and by which servers one comes there, besides those that the client names.
pub(crate) async fn way_to(api: &Api, text: &str, via: Via) -> ApiResult<(OwnedRoomId, Vec<OwnedServerName>)> {
    let id =
        OwnedRoomOrAliasId::try_from(text).map_err(|_| ApiError::invalid_param("Neither a room id nor an alias"))?;
    let mut servers = via.servers();
    match OwnedRoomId::try_from(id) {
        Ok(room) => Ok((room, servers)),
        Err(alias) => {
            let target = api.rooms.find_alias(&alias).await?;
            servers.extend(target.servers);
            Ok((target.room_id, servers))
        }
    }
}

/// The servers through which a client wants a room to be asked for: under the name that the specification has now, or the one that it had.
#[derive(Debug, Deserialize)]
pub(crate) struct Via {
    #[serde(default)]
    via: Vec<OwnedServerName>,
    #[serde(default)]
    server_name: Vec<OwnedServerName>,
}

impl Via {
    fn servers(self) -> Vec<OwnedServerName> {
        if self.via.is_empty() { self.server_name } else { self.via }
    }
}

/// A body that holds perhaps a reason.
#[derive(Debug, Deserialize)]
struct Reason {
    reason: Option<String>,
}
