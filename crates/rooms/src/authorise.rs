//! Whether an own event may be sent: the rules of the room, and what is asked of local clients beyond them.

use ruma::{EventId, canonical_json::CanonicalJsonObject, state_res::events::RoomCreateEvent};
use storage::{
    ReadError,
    schema::rooms::{EventHeader, Membership},
};

use crate::{
    Pdu,
    auth::authorise,
    build::Built,
    change::{Change, StateSlice},
    outgoing::SendError,
    power::{Action, Powers},
};

impl Change {
    /// Judges a built event by the state before it.
    pub(crate) async fn authorise_own(&mut self, built: &Built) -> Result<(), SendError> {
        let pdu = &built.pdu;
        let (bytes, most) = (pdu.json().len(), self.context.options.pdu_max_bytes);
        if bytes > most {
            return Err(SendError::TooLarge { reason: format!("it has {bytes} bytes, more than {most}") });
        }
        check_content(pdu, &built.slice)?;
        if pdu.kind() != "m.room.member" && !is_joined(&built.slice, pdu) {
            return Err(SendError::NotInRoom);
        }
        authorise(pdu, |kind, key| built.slice.pdu(kind, key))?;
        match pdu.redacts() {
            Some(target) => self.authorise_redaction(pdu, target, &built.slice).await,
            None => Ok(()),
        }
    }

    /// A user redacts own events, or with the power for it those of others; never the event that the room stands on.
    async fn authorise_redaction(&mut self, pdu: &Pdu, target: &EventId, slice: &StateSlice) -> Result<(), SendError> {
        let Some(rix) = self.find(target).await? else { return Ok(()) };
        let header = self.header(rix).await?;
        if is_never_redacted(&header) {
            return Err(SendError::forbidden(format!("an event of type {} can't be redacted", header.event_type)));
        }
        if header.sender == pdu.sender().as_str() || may_redact_others(pdu, slice) {
            return Ok(());
        }
        Err(SendError::forbidden("you may only redact your own events in this room"))
    }

    /// Whether a redaction that was accepted takes effect on an event (room versions, "Redactions"): by power, or because both events are
    /// of one server. In room versions 1 and 2, being accepted is enough.
    pub(crate) fn redaction_applies(redaction: &Pdu, slice: &StateSlice, target: &EventHeader) -> bool {
        let server = |user: &str| user.split_once(':').map(|(_, server)| server.to_owned());
        !is_never_redacted(target)
            && (redaction.version().has_server_event_ids()
                || server(redaction.sender().as_str()) == server(&target.sender)
                || may_redact_others(redaction, slice))
    }

    /// What [`Self::redaction_applies`] looks at.
    pub(crate) async fn redaction_slice(&mut self, root: primitives::NodeId) -> Result<StateSlice, ReadError> {
        let keys = [("m.room.create", String::new()), ("m.room.power_levels", String::new())];
        self.state_events(root, &keys).await
    }
}

/// What no local client may say, whatever its power: a second create event, and power levels of those who stand above them.
fn check_content(pdu: &Pdu, slice: &StateSlice) -> Result<(), SendError> {
    match pdu.kind() {
        "m.room.create" => Err(SendError::bad("a room has one create event, its first")),
        "m.room.power_levels" if pdu.version().privileges_creators() => {
            let create = slice.pdu("m.room.create", "");
            let creators =
                create.and_then(|create| RoomCreateEvent::new(create).creators(pdu.version().authorization()).ok());
            let content: CanonicalJsonObject = pdu.content_as().map_err(|error| SendError::bad(error.to_string()))?;
            let users = content.get("users").and_then(|users| users.as_object());
            let named =
                users.and_then(|users| creators?.into_iter().find(|creator| users.contains_key(creator.as_str())));
            let bad = |user| SendError::bad(format!("{user} is a creator and can't have a power level"));
            named.map_or(Ok(()), |user| Err(bad(user)))
        }
        _ => Ok(()),
    }
}

fn is_never_redacted(target: &EventHeader) -> bool {
    target.event_type == "m.room.create" && target.state_key.as_deref() == Some("")
}

fn may_redact_others(redaction: &Pdu, slice: &StateSlice) -> bool {
    let Some(create) = slice.pdu("m.room.create", "") else { return false };
    let levels = slice.pdu("m.room.power_levels", "");
    Powers::new(&create, levels.as_ref()).may(redaction.sender(), Action::Redact)
}

fn is_joined(slice: &StateSlice, pdu: &Pdu) -> bool {
    let member = slice.get("m.room.member", pdu.sender().as_str());
    member.and_then(|event| event.pdu.membership()) == Some(Membership::Join)
}
