//! Power levels: who stands how high in a room and what needs how much.

use std::collections::HashSet;

use ruma::{
    Int, OwnedUserId, UserId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    int,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, power_levels::RoomPowerLevelsIntField as Field},
};

use crate::{Pdu, RoomVersion};

/// The power levels of a room at some state.
#[derive(Debug)]
pub struct Powers {
    version: RoomVersion,
    creators: HashSet<OwnedUserId>,
    levels: Option<RoomPowerLevelsEvent<Pdu>>,
}

impl Powers {
    /// The levels that a create event and, if there is one, a power levels event make. What can't be read counts as absent.
    pub fn new(create: &Pdu, levels: Option<&Pdu>) -> Self {
        let version = create.version();
        let creators = RoomCreateEvent::new(create).creators(version.authorization()).unwrap_or_default();
        Self { version, creators, levels: levels.cloned().map(RoomPowerLevelsEvent::new) }
    }

    /// How high a user stands.
    pub fn of(&self, user: &UserId) -> UserPowerLevel {
        let is_creator = self.creators.contains(user);
        if is_creator && self.version.privileges_creators() {
            return UserPowerLevel::Infinite;
        }
        let level = match &self.levels {
            Some(levels) => levels.user_power_level(user, self.version.authorization()).unwrap_or(int!(0)),
            None if is_creator => int!(100),
            None => int!(0),
        };
        UserPowerLevel::Int(level)
    }

    /// What an action such as `invite` or `redact` needs.
    pub fn needed(&self, field: Field) -> UserPowerLevel {
        let level = self.levels.as_ref().map(|levels| levels.get_as_int_or_default(field, self.version.authorization()));
        UserPowerLevel::Int(level.and_then(Result::ok).unwrap_or_else(|| field.default_value()))
    }

    /// What sending an event of a type needs.
    pub fn needed_to_send(&self, event_type: &str, state_key: Option<&str>) -> UserPowerLevel {
        let event_type = TimelineEventType::from(event_type);
        let rules = self.version.authorization();
        let level = self.levels.as_ref().and_then(|levels| levels.event_power_level(&event_type, state_key, rules).ok());
        let default: Int = if state_key.is_some() && self.levels.is_some() { int!(50) } else { int!(0) };
        UserPowerLevel::Int(level.unwrap_or(default))
    }

    /// Whether a user may do what a field of the power levels governs.
    pub fn may(&self, user: &UserId, field: Field) -> bool {
        self.of(user) >= self.needed(field)
    }
}
