//! Power levels: who stands how high in a room and what needs how much.

use std::collections::{BTreeSet, HashSet};

use ruma::{
    Int, OwnedUserId, UserId,
    canonical_json::CanonicalJsonObject,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    int,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent},
};

use crate::{Pdu, RoomVersion};

/// Actions that power levels govern under a name of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ban, and lift bans.
    Ban,
    /// Invite.
    Invite,
    /// Take others out.
    Kick,
    /// Redact what others sent.
    Redact,
}

impl Action {
    fn key(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Invite => "invite",
            Self::Kick => "kick",
            Self::Redact => "redact",
        }
    }

    fn default(self) -> Int {
        if self == Self::Invite { int!(0) } else { int!(50) }
    }
}

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

    /// The creators, and the users that the power levels name.
    pub fn named(&self) -> BTreeSet<OwnedUserId> {
        let content = self.levels.as_ref().and_then(|levels| levels.content_as::<CanonicalJsonObject>().ok());
        let users = content.as_ref().and_then(|content| content.get("users")?.as_object());
        let users =
            users.into_iter().flat_map(|users| users.keys()).filter_map(|user| OwnedUserId::try_from(&**user).ok());
        self.creators.iter().cloned().chain(users).collect()
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

    /// What an action needs.
    pub fn needed(&self, action: Action) -> UserPowerLevel {
        UserPowerLevel::Int(self.level(&[action.key()]).unwrap_or_else(|| action.default()))
    }

    /// What is needed to notify others in a way, by its name among `notifications`.
    pub fn needed_to_notify(&self, how: &str) -> UserPowerLevel {
        UserPowerLevel::Int(self.level(&["notifications", how]).unwrap_or(int!(50)))
    }

    /// The level at the end of a path of keys, if there is one.
    fn level(&self, path: &[&str]) -> Option<Int> {
        let content: serde_json::Value = self.levels.as_ref()?.content_as().ok()?;
        let level = path.iter().try_fold(&content, |value, key| value.get(key))?;
        // Before version 10 levels may be strings.
        let text = || level.as_str().filter(|_| !self.version.authorization().integer_power_levels);
        let level = level.as_i64().or_else(|| text()?.trim().parse().ok())?;
        Int::try_from(level).ok()
    }

    /// What sending an event of a type needs.
    pub fn needed_to_send(&self, event_type: &str, state_key: Option<&str>) -> UserPowerLevel {
        let event_type = TimelineEventType::from(event_type);
        let rules = self.version.authorization();
        let level =
            self.levels.as_ref().and_then(|levels| levels.event_power_level(&event_type, state_key, rules).ok());
        let default: Int = if state_key.is_some() && self.levels.is_some() { int!(50) } else { int!(0) };
        UserPowerLevel::Int(level.unwrap_or(default))
    }

    /// Whether a user may do something.
    pub fn may(&self, user: &UserId, action: Action) -> bool {
        self.of(user) >= self.needed(action)
    }

    /// Whether a user may notify others in a way.
    pub fn may_notify(&self, user: &UserId, how: &str) -> bool {
        self.of(user) >= self.needed_to_notify(how)
    }
}
