//! What a server answers a join with: whatever it is, the join ends, and what was joined is the room that was asked for, with nobody in it whom nobody signed.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use proptest::prelude::*;
use rooms::Details;
use ruma::server_name;
use serde_json::{Value, json};
use testkit::{held::Held, hostile::Draft};

use crate::{cases, ground::GROUND, json};

static ROOMS: AtomicU64 = AtomicU64::new(0);

/// A room of the peer's that there was not before.
fn new_room() -> (Held, String) {
    let creator = format!("@m{}:evil.test", ROOMS.fetch_add(1, Ordering::Relaxed));
    (GROUND.evil.public_room("12", &creator), creator)
}

fn template(room: &Held) -> Value {
    let draft = Draft::member(GROUND.alice.as_str(), GROUND.alice.as_str(), "join");
    json!({ "room_version": "12", "event": GROUND.evil.draft(room, &draft) })
}

fn answer(room: &Held) -> Value {
    let state = room.state_json();
    json!({ "origin": "evil.test", "state": state, "auth_chain": state, "members_omitted": false, "servers_in_room": ["evil.test"] })
}

fn check(room: &Held, creator: &str, template: Vec<u8>, answer: Vec<u8>) -> Result<(), TestCaseError> {
    let id = &room.room_id;
    // Other cases run beside this one: each has the scripts of its own room.
    let path = |name: &str| format!("/_matrix/federation/{name}/{}", id.as_str().replace('!', "%21"));
    let scripts = &GROUND.evil.scripts;
    scripts.bytes(&path("v1/make_join"), StatusCode::OK, template);
    scripts.bytes(&path("v2/send_join"), StatusCode::OK, answer);
    let via = [server_name!("evil.test").to_owned()];
    let joining = GROUND.here.parts.rooms.join(&GROUND.alice, id, &via, Details::default());
    let joined = GROUND.runtime.block_on(joining);
    scripts.forget(&path("v1/make_join"));
    scripts.forget(&path("v2/send_join"));
    let held = GROUND.runtime.block_on(GROUND.here.parts.held(id));
    if joined.is_ok() {
        let held = held.expect("what was joined is known");
        prop_assert_eq!(held.membership(GROUND.alice.as_str()), "join");
        prop_assert_eq!(held.version.as_str(), "12");
        let create = held.state_event("m.room.create", "").expect("it has a beginning");
        prop_assert_eq!((create.room_id(), create.sender().as_str()), (&**id, creator));
        prop_assert!(
            held.state
                .keys()
                .all(|(kind, key)| kind != "m.room.member" || [GROUND.alice.as_str(), creator].contains(&key.as_str()))
        );
    } else {
        prop_assert!(held.is_none_or(|held| held.membership(GROUND.alice.as_str()) != "join"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn fuzz_join_response_changed(changes in json::changes()) {
        let (room, creator) = new_room();
        let body = json::changed(answer(&room), &changes);
        check(&room, &creator, template(&room).to_string().into_bytes(), body)?;
    }

    #[test]
    fn fuzz_join_response_template_changed(changes in json::changes()) {
        let (room, creator) = new_room();
        let body = answer(&room).to_string().into_bytes();
        check(&room, &creator, json::changed(template(&room), &changes), body)?;
    }

    #[test]
    fn fuzz_join_response_of_random_values(state in json::value(), auth in json::value()) {
        let (room, creator) = new_room();
        let body = json!({ "state": state, "auth_chain": auth });
        check(&room, &creator, template(&room).to_string().into_bytes(), body.to_string().into_bytes())?;
    }
}
