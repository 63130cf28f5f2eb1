//! Coming into rooms of other servers and going out of them (server-server API, "Joining Rooms", "Knocking upon a room", "Inviting to a room",
//! "Leaving Rooms"). What comes back is as the server sent it, unchecked.

use bytes::Bytes;
use http::{Method, StatusCode};
use ruma::{
    EventId, RoomId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    FederationClient, RemoteError,
    client::{Ask, encoded, object, read},
};

const V1: &str = "/_matrix/federation/v1";
const V2: &str = "/_matrix/federation/v2";

/// A member event in the making, as a resident server would have it.
#[derive(Clone, Debug, Deserialize)]
pub struct Template {
    /// The room's version; what gives none for a join or knock is of version 1.
    pub room_version: Option<String>,
    /// The event, without hashes and signatures.
    pub event: CanonicalJsonObject,
}

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// A join.
    Join,
    /// A leave: also refusing an invite and withdrawing a knock.
    Leave,
    /// A knock.
    Knock,
}

impl Making {
    fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Knock => "knock",
        }
    }
}

/// A room as a resident server answers a join with. Kept as it came; [`Self::read`] finds the events in it without a copy.
#[derive(Clone, Debug)]
pub struct JoinedRoom {
    body: Bytes,
    /// It came from version 1 of the endpoint, which puts a number before it.
    in_pair: bool,
}

/// The parts of a [`JoinedRoom`].
#[derive(Debug, Deserialize)]
pub struct JoinedRoomParts<'a> {
    /// The join as the resident server signed it, where it had to.
    #[serde(borrow, default)]
    pub event: Option<&'a RawValue>,
    /// The state before the join.
    #[serde(borrow)]
    pub state: Vec<&'a RawValue>,
    /// The events that authorise the state and the join, and those that authorise them, and so on.
    #[serde(borrow)]
    pub auth_chain: Vec<&'a RawValue>,
    /// The state lacks member events.
    #[serde(default)]
    pub members_omitted: bool,
    /// The servers in the room; only with `members_omitted`.
    #[serde(default)]
    pub servers_in_room: Vec<String>,
}

impl JoinedRoom {
    /// The events, as text.
    ///
    /// # Errors
    /// What came is no such answer.
    pub fn read(&self) -> Result<JoinedRoomParts<'_>, RemoteError> {
        let malformed = |error: serde_json::Error| RemoteError::Malformed(error.to_string());
        if self.in_pair {
            let (_, parts): (u16, JoinedRoomParts<'_>) = serde_json::from_slice(&self.body).map_err(malformed)?;
            return Ok(parts);
        }
        serde_json::from_slice(&self.body).map_err(malformed)
    }
}

impl FederationClient {
    /// `GET /make_join`, `/make_leave` or `/make_knock`: a member event of a user of this server, to be signed and sent. Names the room versions that
    /// this server knows, but for a leave.
    ///
    /// # Errors
    /// The server refused, or did not answer.
    pub async fn make_membership(
        &self,
        server: &ServerName,
        making: Making,
        room: &RoomId,
        user: &UserId,
        versions: &[&str],
    ) -> Result<Template, RemoteError> {
        let mut path = format!("{V1}/make_{}/{}/{}", making.name(), encoded(room.as_str()), encoded(user.as_str()));
        if making != Making::Leave {
            for (number, version) in versions.iter().enumerate() {
                path.push(if number == 0 { '?' } else { '&' });
                path.push_str("ver=");
                path.push_str(&encoded(version));
            }
        }
        read(&self.ask(server, self.get(path)).await?)
    }

    /// `PUT /send_join`, in version 2 or, from a server that doesn't know that, 1.
    ///
    /// # Errors
    /// The server refused, or did not answer.
    pub async fn send_join(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
        event: &CanonicalJsonObject,
        omit_members: bool,
    ) -> Result<JoinedRoom, RemoteError> {
        let tail = format!("send_join/{}/{}", encoded(room.as_str()), encoded(event_id.as_str()));
        let query = if omit_members { "?omit_members=true" } else { "" };
        let bounds = |ask: Ask<'static>| self.with_bounds_of_join(ask);
        let asked = self.ask(server, bounds(self.put(format!("{V2}/{tail}{query}"))).with(event)).await;
        match asked {
            Err(error) if is_unknown_endpoint(&error) => {
                let body = self.ask(server, bounds(self.put(format!("{V1}/{tail}"))).with(event)).await?;
                Ok(JoinedRoom { body, in_pair: true })
            }
            other => Ok(JoinedRoom { body: other?, in_pair: false }),
        }
    }

    /// `PUT /send_leave`, in version 2 or, from a server that doesn't know that, 1.
    ///
    /// # Errors
    /// The server refused, or did not answer.
    pub async fn send_leave(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
        event: &CanonicalJsonObject,
    ) -> Result<(), RemoteError> {
        let tail = format!("send_leave/{}/{}", encoded(room.as_str()), encoded(event_id.as_str()));
        match self.ask(server, self.put(format!("{V2}/{tail}")).with(event)).await {
            Err(error) if is_unknown_endpoint(&error) => {
                self.ask(server, self.put(format!("{V1}/{tail}")).with(event)).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    /// `PUT /send_knock`: the stripped state of the room.
    ///
    /// # Errors
    /// The server refused, or did not answer.
    pub async fn send_knock(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
        event: &CanonicalJsonObject,
    ) -> Result<Vec<Box<RawValue>>, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            knock_room_state: Vec<Box<RawValue>>,
        }
        let path = format!("{V1}/send_knock/{}/{}", encoded(room.as_str()), encoded(event_id.as_str()));
        Ok(read::<Answer>(&self.ask(server, self.put(path).with(event)).await?)?.knock_room_state)
    }

    /// `PUT /invite`: the event with the server's signature added. In version 2; where the server doesn't know that and the room is of
    /// version 1 or 2, which is all that it can say there, in version 1.
    ///
    /// # Errors
    /// The server refused, or did not answer.
    pub async fn invite(
        &self,
        server: &ServerName,
        room: &RoomId,
        event_id: &EventId,
        invite: Invite<'_>,
    ) -> Result<CanonicalJsonObject, RemoteError> {
        let tail = format!("invite/{}/{}", encoded(room.as_str()), encoded(event_id.as_str()));
        let Invite { room_version, event, invite_room_state } = invite;
        let state = CanonicalJsonValue::Array(invite_room_state);
        let body = CanonicalJsonObject::from([
            ("room_version".to_owned(), room_version.into()),
            ("event".to_owned(), CanonicalJsonValue::Object(event.clone())),
            ("invite_room_state".to_owned(), state.clone()),
        ]);
        let asked = self.ask(server, self.put(format!("{V2}/{tail}")).with(&body)).await;
        let is_old = matches!(room_version, "1" | "2");
        let answer = match asked {
            Err(RemoteError::Refused { status: StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, .. }) if is_old => {
                let mut event = event.clone();
                let unsigned = CanonicalJsonObject::from([("invite_room_state".to_owned(), state)]);
                event.insert("unsigned".to_owned(), CanonicalJsonValue::Object(unsigned));
                let body = self.ask(server, self.put(format!("{V1}/{tail}")).with(&event)).await?;
                read::<(u16, CanonicalJsonObject)>(&body)?.1
            }
            other => object(&other?)?,
        };
        match answer.into_iter().find(|(name, _)| name == "event") {
            Some((_, CanonicalJsonValue::Object(event))) => Ok(event),
            _ => Err(RemoteError::Malformed("no event in it".to_owned())),
        }
    }
}

/// An invite to be signed by the server of who is invited.
#[derive(Clone, Debug)]
pub struct Invite<'a> {
    /// The room's version.
    pub room_version: &'a str,
    /// The event, signed by this server.
    pub event: &'a CanonicalJsonObject,
    /// Events by which the room can be recognised.
    pub invite_room_state: Vec<CanonicalJsonValue>,
}

/// Whether the server has no such endpoint, rather than no such room.
pub(super) fn is_unknown_endpoint(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Refused { status, errcode, .. }
        if matches!(*status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST)
            && (errcode == "M_UNRECOGNIZED" || (errcode == "M_UNKNOWN" && *status != StatusCode::BAD_REQUEST)))
}

/// Requests of this file.
impl FederationClient {
    fn put(&self, path: String) -> Ask<'static> {
        Ask { method: Method::PUT, ..self.get(path) }
    }
}

impl<'a> Ask<'a> {
    fn with<'b>(self, body: &'b CanonicalJsonObject) -> Ask<'b>
    where
        'a: 'b,
    {
        Ask { body: Some(body), ..self }
    }
}
