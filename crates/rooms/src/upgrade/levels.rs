//! Power levels in an upgrade: those of the new room, and those that close the old one.

use ruma::{
    OwnedUserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};

use crate::RoomVersion;

/// What a replaced room asks of those who write to it or invite, at least (client-server API, "Room Upgrades").
const CLOSED: i64 = 50;
/// What a room with privileged creators asks of those who replace it: above what an administrator has.
const TOMBSTONE: i64 = 150;
/// Of whom a power levels event speaks one by one.
const LISTS: [&str; 3] = ["users", "events", "notifications"];

/// The levels of the new room.
///
/// A creator who stands above all levels is in no list of them; one who no longer does gets the highest level that anything asks for or anybody
/// has.
pub(super) fn adapted(
    mut content: CanonicalJsonObject,
    (from, to): (RoomVersion, RoomVersion),
    old_creators: &[OwnedUserId],
    new_creators: &[OwnedUserId],
) -> CanonicalJsonObject {
    if to.authorization().integer_power_levels {
        make_integers(&mut content);
    }
    let highest = highest(&content);
    let users = list(&mut content, "users");
    if to.privileges_creators() {
        users.retain(|user, _| new_creators.iter().all(|creator| creator.as_str() != user));
    } else if from.privileges_creators() {
        users.extend(old_creators.iter().map(|creator| (creator.to_string(), integer(highest))));
    }
    if to.privileges_creators() && !from.privileges_creators() {
        raise(list(&mut content, "events"), "m.room.tombstone", TOMBSTONE);
    }
    content
}

/// The highest level of all, at least what an administrator has.
fn highest(content: &CanonicalJsonObject) -> i64 {
    let lists = LISTS.iter().filter_map(|key| content.get(*key)?.as_object());
    let levels = lists.chain([content]).flat_map(CanonicalJsonObject::values).filter_map(level);
    levels.fold(100, i64::max)
}

/// The levels that close the old room to messages and to invitations of those who have no more power than everybody.
pub(super) fn closed(content: &CanonicalJsonObject) -> CanonicalJsonObject {
    let mut closed = content.clone();
    let everybody = content.get("users_default").and_then(level).unwrap_or(0);
    for key in ["events_default", "invite"] {
        raise(&mut closed, key, CLOSED.max(everybody.saturating_add(1)));
    }
    closed
}

fn raise(content: &mut CanonicalJsonObject, key: &str, least: i64) {
    if content.get(key).and_then(level).is_none_or(|level| level < least) {
        content.insert(key.to_owned(), integer(least));
    }
}

/// A list of the content; an empty one takes the place of what is none.
fn list<'a>(content: &'a mut CanonicalJsonObject, key: &str) -> &'a mut CanonicalJsonObject {
    let value = content.entry(key.to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
    if value.as_object().is_none() {
        *value = CanonicalJsonObject::new().into();
    }
    value.as_object_mut().expect("it has just been made one")
}

/// Numbers that are written as text, as they could be before version 10, become numbers; what is none goes.
fn make_integers(content: &mut CanonicalJsonObject) {
    for key in LISTS {
        if content.contains_key(key) {
            integers_only(list(content, key));
        }
    }
    let lists: Vec<_> = LISTS.iter().filter_map(|key| content.remove_entry(*key)).collect();
    integers_only(content);
    content.extend(lists);
}

fn integers_only(content: &mut CanonicalJsonObject) {
    content.retain(|_, value| level(value).is_some());
    for value in content.values_mut() {
        *value = integer(level(value).unwrap_or_default());
    }
}

/// A level, also one that is written as text.
fn level(value: &CanonicalJsonValue) -> Option<i64> {
    match value {
        CanonicalJsonValue::Integer(level) => Some((*level).into()),
        CanonicalJsonValue::String(level) => level.trim().parse().ok(),
        _ => None,
    }
}

/// A level as JSON. No level that an event can hold is beyond what canonical JSON knows.
fn integer(level: i64) -> CanonicalJsonValue {
    CanonicalJsonValue::Integer(ruma::Int::new_saturating(level))
}

#[cfg(test)]
mod tests {
    use ruma::{canonical_json::to_canonical_value, user_id};
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "written where it is used")]
    fn object(value: Value) -> CanonicalJsonObject {
        to_canonical_value(&value).expect("canonical").as_object().expect("an object").clone()
    }

    fn between(from: &str, to: &str, content: Value) -> Value {
        let version = |name| RoomVersion::parse(name).expect("known");
        let (old, new) = ([user_id!("@old:x").to_owned()], [user_id!("@new:x").to_owned()]);
        let adapted = adapted(object(content), (version(from), version(to)), &old, &new);
        serde_json::to_value(adapted).expect("JSON")
    }

    #[test]
    fn creators_leave_the_list_and_come_back() {
        let before = json!({ "users": { "@new:x": 100, "@mod:x": 50 }, "events": { "m.room.name": 50 } });
        let expected = json!({
            "users": { "@mod:x": 50 }, "events": { "m.room.name": 50, "m.room.tombstone": 150 },
        });
        assert_eq!(between("11", "12", before.clone()), expected);
        assert_eq!(between("10", "11", before.clone()), before);
        let highest = json!({ "users": { "@mod:x": 120 } });
        assert_eq!(between("12", "11", highest), json!({ "users": { "@mod:x": 120, "@old:x": 120 } }));
        let asked = json!({ "users": {}, "events": { "m.room.tombstone": 150 }, "ban": 130 });
        assert_eq!(between("12", "11", asked)["users"], json!({ "@old:x": 150 }));
        assert_eq!(between("12", "11", json!({})), json!({ "users": { "@old:x": 100 } }));
        let own = json!({ "users": {}, "events": { "m.room.tombstone": 100 } });
        assert_eq!(between("12", "12", own.clone()), own, "what the room says of itself stays");
    }

    #[test]
    fn levels_that_are_text_become_numbers_where_the_version_asks_for_them() {
        let before =
            json!({ "ban": "50", "kick": " 5 ", "invite": "x", "users": { "@a:x": "100", "@b:x": [] }, "events": 5 });
        let expected = json!({ "ban": 50, "kick": 5, "users": { "@a:x": 100 }, "events": {} });
        assert_eq!(between("9", "10", before.clone()), expected);
        assert_eq!(between("8", "9", before.clone()), before);
    }

    #[test]
    fn a_closed_room_lets_nobody_without_power_write_or_invite() {
        let close = |content| serde_json::to_value(closed(&object(content))).expect("JSON");
        assert_eq!(close(json!({})), json!({ "events_default": 50, "invite": 50 }));
        let high = json!({ "events_default": 60, "invite": 0, "users_default": 70, "users": {} });
        assert_eq!(close(high), json!({ "events_default": 71, "invite": 71, "users_default": 70, "users": {} }));
        let enough = json!({ "events_default": 100, "invite": 50 });
        assert_eq!(close(enough.clone()), enough);
    }
}
