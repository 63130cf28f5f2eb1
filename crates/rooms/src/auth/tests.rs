use serde_json::json;

use super::*;
use crate::testing::{Draft, State, TestRoom};

/// Versions at both sides of every change of the rules.
const SOME: [&str; 8] = ["1", "3", "6", "7", "8", "10", "11", "12"];

#[expect(clippy::needless_pass_by_value, reason = "drafts are made where they are used")]
fn judge(room: &mut TestRoom, state: &State, draft: Draft<'_>) -> Result<(), AuthError> {
    let pdu = room.make(state, &draft);
    let asked = lookup_types_for(&pdu)?;
    authorise(&pdu, |kind, key| {
        assert!(asked.iter().any(|(k, s)| *k == kind && s == key), "{kind} {key} was not announced");
        state.get(&(kind.to_owned(), key.to_owned())).cloned()
    })
}

fn join_rule<'a>(rule: &str) -> Draft<'a> {
    Draft::state("@a:x", "m.room.join_rules", "", json!({ "join_rule": rule }))
}

#[test]
fn strangers_may_join_public_rooms_and_nothing_else() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        let message = || Draft { sender: "@b:x", kind: "m.room.message", state_key: None, content: json!({}) };
        assert!(judge(&mut room, &state, message()).is_err(), "{version}");
        assert!(judge(&mut room, &state, Draft::member("@b:x", "@c:x", "invite")).is_err());
        assert!(judge(&mut room, &state, Draft::member("@b:x", "@c:x", "join")).is_err());
        room.apply(&mut state, Draft::member("@b:x", "@b:x", "join")).expect("public");
        judge(&mut room, &state, message()).expect("a member");
        assert!(judge(&mut room, &state, Draft::state("@b:x", "m.room.topic", "", json!({}))).is_err(), "needs 50");
    }
}

#[test]
fn invited_users_may_join_and_banned_ones_never() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        room.apply(&mut state, join_rule("invite")).expect("the creator may");
        assert!(judge(&mut room, &state, Draft::member("@b:x", "@b:x", "join")).is_err(), "{version}");
        room.apply(&mut state, Draft::member("@a:x", "@b:x", "invite")).expect("level 0");
        judge(&mut room, &state, Draft::member("@b:x", "@b:x", "join")).expect("invited");
        judge(&mut room, &state, Draft::member("@b:x", "@b:x", "leave")).expect("may refuse");
        room.apply(&mut state, Draft::member("@a:x", "@b:x", "ban")).expect("the creator may");
        room.apply(&mut state, join_rule("public")).expect("the creator may");
        assert!(judge(&mut room, &state, Draft::member("@b:x", "@b:x", "join")).is_err(), "banned");
        assert!(judge(&mut room, &state, Draft::member("@b:x", "@b:x", "leave")).is_err(), "banned");
        room.apply(&mut state, Draft::member("@a:x", "@b:x", "leave")).expect("unban");
        judge(&mut room, &state, Draft::member("@b:x", "@b:x", "join")).expect("unbanned");
    }
}

#[test]
fn knocking_begins_with_version_7() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        room.apply(&mut state, join_rule("knock")).expect("any rule may be set");
        let verdict = judge(&mut room, &state, Draft::member("@b:x", "@b:x", "knock"));
        assert_eq!(verdict.is_ok(), !["1", "3", "6"].contains(&version), "{version}");
    }
}

#[test]
fn restricted_joins_begin_with_version_8_and_need_a_member_who_may_invite() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        room.apply(&mut state, Draft::member("@b:x", "@b:x", "join")).expect("public");
        room.apply(&mut state, join_rule("restricted")).expect("any rule may be set");
        let via = |user: &str| {
            let content = json!({ "membership": "join", "join_authorised_via_users_server": user });
            Draft::state("@c:x", "m.room.member", "@c:x", content)
        };
        let known = !["1", "3", "6", "7"].contains(&version);
        assert_eq!(judge(&mut room, &state, via("@a:x")).is_ok(), known, "{version}");
        assert!(judge(&mut room, &state, via("@z:x")).is_err(), "not a member");
        assert!(judge(&mut room, &state, Draft::member("@c:x", "@c:x", "join")).is_err(), "nobody vouches");
        let levels = json!({ "invite": 50 });
        room.apply(&mut state, Draft::state("@a:x", "m.room.power_levels", "", levels)).expect("the creator may");
        assert!(judge(&mut room, &state, via("@b:x")).is_err(), "may not invite");
    }
}

#[test]
fn levels_can_be_given_up_to_the_own_and_taken_below_it() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        for user in ["@b:x", "@c:x"] {
            room.apply(&mut state, Draft::member(user, user, "join")).expect("public");
        }
        let set = |room: &TestRoom, sender, users: &[(&str, i64)]| {
            let mut levels = room.levels(users);
            levels["events"] = json!({ "m.room.power_levels": 40 });
            Draft::state(sender, "m.room.power_levels", "", levels)
        };
        let draft = set(&room, "@a:x", &[("@b:x", 50), ("@c:x", 50)]);
        room.apply(&mut state, draft).expect("the creator may");
        let draft = set(&room, "@b:x", &[("@b:x", 51), ("@c:x", 50)]);
        assert!(judge(&mut room, &state, draft).is_err(), "{version}: above the own");
        let draft = set(&room, "@b:x", &[("@b:x", 50), ("@c:x", 0)]);
        assert!(judge(&mut room, &state, draft).is_err(), "an equal's");
        let draft = set(&room, "@b:x", &[("@b:x", 40), ("@c:x", 50), ("@d:x", 50)]);
        judge(&mut room, &state, draft).expect("the own down, another up to it");
    }
}

#[test]
fn creators_of_version_12_stand_above_levels_and_are_not_named_there() {
    let (mut room, mut state) = TestRoom::public("12");
    room.apply(&mut state, Draft::member("@b:x", "@b:x", "join")).expect("public");
    let high = json!({ "users": { "@b:x": 9_007_199_254_740_991_i64 }, "state_default": 9_007_199_254_740_991_i64 });
    room.apply(&mut state, Draft::state("@a:x", "m.room.power_levels", "", high)).expect("creators may give anything");
    judge(&mut room, &state, Draft::state("@a:x", "m.room.topic", "", json!({}))).expect("infinite");
    judge(&mut room, &state, Draft::member("@a:x", "@b:x", "ban")).expect("infinite");
    assert!(judge(&mut room, &state, Draft::member("@b:x", "@a:x", "ban")).is_err());
    let named = json!({ "users": { "@a:x": 100 } });
    assert!(judge(&mut room, &state, Draft::state("@a:x", "m.room.power_levels", "", named)).is_err());
}

#[test]
fn string_levels_are_read_before_version_10_only() {
    for (version, allowed) in [("1", true), ("9", true), ("10", false), ("12", false)] {
        let (mut room, state) = TestRoom::public(version);
        let levels = json!({ "ban": "50" });
        let verdict = judge(&mut room, &state, Draft::state("@a:x", "m.room.power_levels", "", levels));
        assert_eq!(verdict.is_ok(), allowed, "{version}");
    }
}

#[test]
fn state_keys_of_users_are_their_own() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        room.apply(&mut state, Draft::member("@b:x", "@b:x", "join")).expect("public");
        judge(&mut room, &state, Draft::state("@a:x", "t", "@a:x", json!({}))).expect("own");
        assert!(judge(&mut room, &state, Draft::state("@a:x", "t", "@b:x", json!({}))).is_err(), "{version}");
        assert!(judge(&mut room, &state, Draft::state("@a:x", "t", "@a:x_1", json!({}))).is_err(), "{version}");
    }
}

#[test]
fn owned_state_may_be_written_by_its_owner_and_from_above() {
    for version in ["org.matrix.msc3757.10", "org.matrix.msc3757.11"] {
        let (mut room, mut state) = TestRoom::public(version);
        for user in ["@b:x", "@c:x"] {
            room.apply(&mut state, Draft::member(user, user, "join")).expect("public");
        }
        let levels = json!({ "users": { "@a:x": 100 }, "events": { "t": 0 } });
        room.apply(&mut state, Draft::state("@a:x", "m.room.power_levels", "", levels)).expect("the creator may");
        let mut write = |sender: &str, key: &str| judge(&mut room, &state, Draft::state(sender, "t", key, json!({})));
        for (sender, key) in [
            ("@b:x", "@b:x"),
            ("@b:x", "@b:x_1"),
            ("@b:x", "@b:x_"),
            ("@a:x", "@b:x"),
            ("@a:x", "@b:x_1"),
            ("@a:x", "@z:y_q"),
        ] {
            assert_eq!(write(sender, key), Ok(()), "{sender} {key}");
        }
        for (sender, key) in
            [("@b:x", "@c:x"), ("@b:x", "@c:x_1"), ("@b:x", "@b:x1"), ("@b:x", "@p_@b:x_1"), ("@b:x", "@a:x_1")]
        {
            assert!(matches!(write(sender, key), Err(AuthError::Forbidden { .. })), "{sender} {key}");
        }
        for key in ["@oops", "@a:x@_1", "@a", "@"] {
            assert_eq!(write("@a:x", key), Err(AuthError::StateKey), "{key}");
        }
        assert!(matches!(write("@z:x", "@oops"), Err(AuthError::Forbidden { .. })), "no member");
    }
}

#[test]
fn auth_events_are_the_selected_ones_once_each_and_not_rejected() {
    for version in SOME {
        let (mut room, mut state) = TestRoom::public(version);
        let join = room.apply(&mut state, Draft::member("@b:x", "@b:x", "join")).expect("public");
        check_auth_events(&join, |id| room.get(id)).expect("well chosen");
        assert!(check_auth_events(&join, |_| None).is_err(), "{version}: unknown auth events");
        let rejected = |id: &EventId| room.get(id).map(|pdu| pdu.with_rejected(true));
        assert!(check_auth_events(&join, rejected).is_err(), "{version}: rejected auth events");
        let wrong = |id: &EventId| room.get(id).map(|_| room.events[3].clone());
        assert!(check_auth_events(&join, wrong).is_err(), "{version}: twice the same key");
        check_auth_events(&room.events[0], |_| None).expect("create events need none");
    }
}

#[test]
fn unfederated_rooms_are_closed_to_other_servers() {
    for version in SOME {
        let mut room = TestRoom::new(version);
        let mut state = State::new();
        let create = json!({ "creator": "@a:x", "m.federate": false });
        room.apply(&mut state, Draft::state("@a:x", "m.room.create", "", create)).expect("allowed");
        room.apply(&mut state, Draft::member("@a:x", "@a:x", "join")).expect("allowed");
        room.apply(&mut state, join_rule("public")).expect("allowed");
        judge(&mut room, &state, Draft::member("@b:x", "@b:x", "join")).expect("the same server");
        assert!(judge(&mut room, &state, Draft::member("@b:y", "@b:y", "join")).is_err(), "{version}");
    }
}

#[test]
fn the_create_event_is_selected_before_version_12_only() {
    for version in SOME {
        let (mut room, state) = TestRoom::public(version);
        let pdu =
            room.make(&state, &Draft { sender: "@a:x", kind: "m.room.message", state_key: None, content: json!({}) });
        let types =
            auth_types_for(pdu.version(), pdu.event_type(), pdu.sender(), None, pdu.content()).expect("well-formed");
        assert_eq!(types.iter().any(|(kind, _)| *kind == "m.room.create"), version != "12");
        assert_eq!(types.len(), if version == "12" { 2 } else { 3 });
    }
}
