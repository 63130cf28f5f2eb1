//! The events of a new room, in the order that the specification gives.

use ruma::{
    OwnedRoomAliasId, OwnedUserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use storage::ReadError;

use super::{CreateError, CreateRoom, InitialState, Preset, levels};
use crate::{RoomVersion, outgoing::Outgoing, registry::Rooms};

impl Rooms {
    /// All events after the create event.
    pub(super) async fn events(
        &self,
        request: &CreateRoom,
        version: RoomVersion,
        alias: Option<&OwnedRoomAliasId>,
    ) -> Result<Vec<Outgoing>, CreateError> {
        let creator = &request.creator;
        let state = |event_type: &str, content| Outgoing::state(creator.clone(), event_type, "", content);
        let mut events = vec![self.creators_join(creator).await?];
        if let Some(taken_over) = &request.replacement_state {
            events.extend(taken_over.iter().map(|state| state.event(creator)));
            return Ok(events);
        }
        events.push(state("m.room.power_levels", levels::content(request, version)?));
        if let Some(alias) = alias {
            events.push(state("m.room.canonical_alias", object("alias", alias.as_str())));
        }
        let preset = preset_events(request.preset());
        let given = |event_type: &str| request.initial_state.iter().any(|state| state.is(event_type));
        events.extend(preset.into_iter().filter(|event| !given(event.0)).map(|event| state(event.0, event.1)));
        for initial in &request.initial_state {
            match initial.event_type.as_str() {
                "m.room.create" => return Err(bad("initial_state can't hold a create event")),
                "m.room.power_levels" if initial.state_key.is_empty() => {}
                _ => events.push(initial.event(creator)),
            }
        }
        if let Some(name) = &request.name {
            events.push(state("m.room.name", object("name", name)));
        }
        if let Some(topic) = &request.topic {
            events.push(state("m.room.topic", topic_content(topic)));
        }
        for user in request.invitees().into_iter().filter(|user| self.context().users.is_local(user)) {
            events.push(self.invitation(request, &user).await?);
        }
        Ok(events)
    }

    async fn creators_join(&self, creator: &OwnedUserId) -> Result<Outgoing, ReadError> {
        let content = self.member_content(creator, "join").await?;
        Ok(Outgoing::state(creator.clone(), "m.room.member", creator.as_str(), content))
    }

    pub(super) async fn invitation(&self, request: &CreateRoom, user: &OwnedUserId) -> Result<Outgoing, ReadError> {
        let mut content = self.member_content(user, "invite").await?;
        if request.is_direct {
            content.insert("is_direct".to_owned(), true.into());
        }
        Ok(Outgoing::state(request.creator.clone(), "m.room.member", user.as_str(), content))
    }
}

impl InitialState {
    pub(super) fn is(&self, event_type: &str) -> bool {
        self.event_type == event_type && self.state_key.is_empty()
    }

    fn event(&self, creator: &OwnedUserId) -> Outgoing {
        Outgoing::state(creator.clone(), &*self.event_type, &*self.state_key, self.content.clone())
    }
}

fn bad(reason: &str) -> CreateError {
    CreateError::BadRequest(reason.to_owned())
}

fn object(key: &str, value: &str) -> CanonicalJsonObject {
    CanonicalJsonObject::from([(key.to_owned(), value.into())])
}

/// The topic as plain text, and again in the form for rich topics.
fn topic_content(topic: &str) -> CanonicalJsonObject {
    let text: CanonicalJsonValue = object("body", topic).into();
    let rich = CanonicalJsonObject::from([("m.text".to_owned(), vec![text].into())]);
    let mut content = object("topic", topic);
    content.insert("m.topic".to_owned(), rich.into());
    content
}

/// What a preset says. That guests may not come in, which a public room's does, is so where nothing says otherwise: it needs no event.
fn preset_events(preset: Preset) -> Vec<(&'static str, CanonicalJsonObject)> {
    let (join_rule, guests) = match preset {
        Preset::PublicChat => ("public", None),
        Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", Some("can_join")),
    };
    let guests = guests.map(|guests| ("m.room.guest_access", object("guest_access", guests)));
    let rules = ("m.room.join_rules", object("join_rule", join_rule));
    let visibility = ("m.room.history_visibility", object("history_visibility", "shared"));
    [rules, visibility].into_iter().chain(guests).collect()
}

/// The content of the create event: what the client gave, with what the server decides put over it.
pub(super) fn create_content(request: &CreateRoom, version: RoomVersion) -> Result<CanonicalJsonObject, CreateError> {
    let mut content = request.creation_content.clone();
    content.insert("room_version".to_owned(), version.as_str().into());
    if version.authorization().use_room_create_sender {
        content.remove("creator");
    } else {
        content.insert("creator".to_owned(), request.creator.as_str().into());
    }
    if version.privileges_creators() {
        let mut creators = additional_creators(&content)?;
        if request.preset() == Preset::TrustedPrivateChat {
            for user in request.invitees() {
                if !creators.contains(&user) {
                    creators.push(user);
                }
            }
        }
        if !creators.is_empty() {
            let creators: Vec<CanonicalJsonValue> = creators.iter().map(|user| user.as_str().into()).collect();
            content.insert("additional_creators".to_owned(), creators.into());
        }
    }
    Ok(content)
}

/// The additional creators that a content names (room version 12).
pub(super) fn additional_creators(content: &CanonicalJsonObject) -> Result<Vec<OwnedUserId>, CreateError> {
    let Some(value) = content.get("additional_creators") else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or_else(|| bad("additional_creators is not a list"))?;
    let parse = |value: &CanonicalJsonValue| {
        let text = value.as_str().ok_or_else(|| bad("additional_creators holds something else than strings"))?;
        OwnedUserId::try_from(text).map_err(|error| bad(&format!("additional_creators: {text:?}: {error}")))
    };
    list.iter().map(parse).collect()
}
