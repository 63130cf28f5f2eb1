//! The table of room versions: what differs between them, in one place.
//!
//! The rules themselves are ruma's; the columns beside them say where the specification, or a room version that ruma doesn't
//! know, asks for something else.

use std::fmt;

use ruma::{
    RoomVersionId,
    room_version_rules::{
        AuthorizationRules, EventIdFormatVersion, EventsReferenceFormatVersion, RedactionRules, RoomVersionRules,
    },
};

/// One row of the table.
struct Row {
    name: &'static str,
    rules: RoomVersionRules,
    resolution: Resolution,
    stable: bool,
    owned_state: bool,
    strict_field_bytes: bool,
}

/// Which algorithm resolves the state of a forked room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Room version 1's own.
    V1,
    /// Version 2, of room versions 2 to 11.
    V2,
    /// Version 2.1, of room version 12: starts from an empty state and honours the conflicted state subgraph.
    V2_1,
}

/// A room version that this server knows. Cheap to copy.
#[derive(Clone, Copy)]
pub struct RoomVersion(&'static Row);

const fn row(name: &'static str, rules: RoomVersionRules, resolution: Resolution) -> Row {
    Row { name, rules, resolution, stable: true, owned_state: false, strict_field_bytes: false }
}

static TABLE: [Row; 14] = [
    row("1", RoomVersionRules::V1, Resolution::V1),
    row("2", RoomVersionRules::V2, Resolution::V2),
    row("3", RoomVersionRules::V3, Resolution::V2),
    row("4", RoomVersionRules::V4, Resolution::V2),
    row("5", RoomVersionRules::V5, Resolution::V2),
    row("6", RoomVersionRules::V6, Resolution::V2),
    row("7", RoomVersionRules::V7, Resolution::V2),
    row("8", RoomVersionRules::V8, Resolution::V2),
    row("9", RoomVersionRules::V9, Resolution::V2),
    row("10", RoomVersionRules::V10, Resolution::V2),
    Row { strict_field_bytes: true, ..row("11", RoomVersionRules::V11, Resolution::V2) },
    Row { strict_field_bytes: true, ..row("12", RoomVersionRules::V12, Resolution::V2_1) },
    Row { stable: false, owned_state: true, ..row("org.matrix.msc3757.10", RoomVersionRules::V10, Resolution::V2) },
    Row {
        stable: false,
        owned_state: true,
        strict_field_bytes: true,
        ..row("org.matrix.msc3757.11", RoomVersionRules::V11, Resolution::V2)
    },
];

impl RoomVersion {
    /// The version of new rooms unless the configuration says otherwise.
    pub const DEFAULT: Self = Self(&TABLE[11]);

    /// The version of that name, if this server knows it.
    pub fn parse(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(Self)
    }

    /// Every version that this server knows, oldest first, the unstable ones last.
    pub fn supported() -> impl Iterator<Item = Self> {
        TABLE.iter().map(Self)
    }

    /// The name, as in `m.room.create`.
    pub fn as_str(self) -> &'static str {
        self.0.name
    }

    /// The name as ruma's identifier.
    pub fn id(self) -> RoomVersionId {
        self.0.name.try_into().expect("every name in the table is a room version id")
    }

    /// Whether the specification calls it stable (`m.room_versions` of /capabilities).
    pub fn is_stable(self) -> bool {
        self.0.stable
    }

    /// All of ruma's rules.
    pub fn rules(self) -> &'static RoomVersionRules {
        &self.0.rules
    }

    /// The rules of authorisation.
    pub fn authorization(self) -> &'static AuthorizationRules {
        &self.0.rules.authorization
    }

    /// The rules of redaction.
    pub fn redaction(self) -> &'static RedactionRules {
        &self.0.rules.redaction
    }

    /// Which algorithm resolves forks.
    pub fn resolution(self) -> Resolution {
        self.0.resolution
    }

    /// Whether an event's id is chosen by its server (`$opaque:server`, versions 1 and 2) rather than its reference hash.
    pub fn has_server_event_ids(self) -> bool {
        self.0.rules.event_id_format == EventIdFormatVersion::V1
    }

    /// Whether `prev_events` and `auth_events` are pairs of id and hash (versions 1 and 2) rather than plain ids.
    pub fn references_are_pairs(self) -> bool {
        self.0.rules.events_reference_format == EventsReferenceFormatVersion::V1
    }

    /// Whether the room id is the create event's id with another sigil (version 12).
    pub fn room_id_is_create_hash(self) -> bool {
        self.0.rules.authorization.room_create_event_id_as_room_id
    }

    /// Whether room creators stand above every power level (version 12).
    pub fn privileges_creators(self) -> bool {
        self.0.rules.authorization.explicitly_privilege_room_creators
    }

    /// Whether received events must be strict canonical JSON (version 6 and later).
    pub fn strict_json(self) -> bool {
        self.0.rules.authorization.strict_canonical_json
    }

    /// Whether the 255 of the size limits counts bytes for received events too (version 11 and later) rather than code points.
    pub fn strict_field_bytes(self) -> bool {
        self.0.strict_field_bytes
    }

    /// Whether a redaction names its target in `content` (version 11 and later) rather than at the top level.
    pub fn redacts_in_content(self) -> bool {
        self.0.rules.redaction.content_field_redacts
    }

    /// Whether a signing key must be valid at the event's `origin_server_ts` (version 5 and later).
    pub fn enforces_key_validity(self) -> bool {
        self.0.rules.enforce_key_validity
    }

    /// Whether state keys of the form `@user:server_suffix` belong to that user (MSC3757).
    pub fn has_owned_state(self) -> bool {
        self.0.owned_state
    }
}

impl fmt::Debug for RoomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomVersion({})", self.0.name)
    }
}

impl fmt::Display for RoomVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for RoomVersion {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for RoomVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolution_column_agrees_with_the_rules() {
        use ruma::room_version_rules::StateResolutionVersion;
        for version in RoomVersion::supported() {
            let expected = match version.rules().state_res {
                StateResolutionVersion::V1 => Resolution::V1,
                StateResolutionVersion::V2(rules) if rules.consider_conflicted_state_subgraph => Resolution::V2_1,
                _ => Resolution::V2,
            };
            assert_eq!(version.resolution(), expected, "{version}");
        }
    }

    #[test]
    fn names_are_found_and_others_are_not() {
        for version in RoomVersion::supported() {
            assert_eq!(RoomVersion::parse(version.as_str()), Some(version));
            assert_eq!(version.id().as_str(), version.as_str());
        }
        assert_eq!(RoomVersion::parse("13"), None);
        assert_eq!(RoomVersion::parse(""), None);
        assert_eq!(RoomVersion::DEFAULT.as_str(), "12");
        assert_eq!(RoomVersion::supported().filter(|version| version.is_stable()).count(), 12);
    }

    #[test]
    fn each_change_happens_at_the_version_that_the_specification_names() {
        let first = |has: fn(RoomVersion) -> bool| {
            RoomVersion::supported().find(|version| has(*version)).map(RoomVersion::as_str)
        };
        assert_eq!(first(|version| !version.has_server_event_ids()), Some("3"));
        assert_eq!(first(|version| !version.references_are_pairs()), Some("3"));
        assert_eq!(first(RoomVersion::enforces_key_validity), Some("5"));
        assert_eq!(first(RoomVersion::strict_json), Some("6"));
        assert_eq!(first(RoomVersion::redacts_in_content), Some("11"));
        assert_eq!(first(RoomVersion::strict_field_bytes), Some("11"));
        assert_eq!(first(RoomVersion::room_id_is_create_hash), Some("12"));
        assert_eq!(first(RoomVersion::privileges_creators), Some("12"));
        assert_eq!(first(RoomVersion::has_owned_state), Some("org.matrix.msc3757.10"));
    }
}
