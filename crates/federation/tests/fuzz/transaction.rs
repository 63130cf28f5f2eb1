//! Transactions: whatever is in one, it is answered, and the room's state stays what its members made it.

use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::hostile::Draft;

use crate::{
    cases,
    ground::{GROUND, MALLORY},
    json,
};

/// A transaction with an event and EDUs of every type, all good.
fn good() -> Value {
    let held = GROUND.runtime.block_on(GROUND.here.parts.held(GROUND.room.id())).expect("known");
    let (message, room) = (GROUND.evil.event(&held, &Draft::message(MALLORY, "good")), GROUND.room.id());
    let read = json!({ "m.read": { MALLORY: { "event_ids": [message.event_id], "data": { "ts": 5 } } } });
    let to_device =
        json!({ "sender": MALLORY, "type": "t", "message_id": "m", "messages": { "@alice:hs.test": { "*": {} } } });
    json!({
        "origin": "evil.test",
        "origin_server_ts": 1_700_000_000_000_u64,
        "pdus": [message.json],
        "edus": [
            { "edu_type": "m.typing", "content": { "room_id": room, "user_id": MALLORY, "typing": true } },
            { "edu_type": "m.receipt", "content": { room.as_str(): read } },
            { "edu_type": "m.presence", "content": { "push": [{ "user_id": MALLORY, "presence": "online" }] } },
            { "edu_type": "m.direct_to_device", "content": to_device },
            { "edu_type": "m.device_list_update", "content": { "user_id": MALLORY, "device_id": "D", "stream_id": 5, "prev_id": [] } },
            { "edu_type": "m.signing_key_update", "content": { "user_id": MALLORY } },
        ],
    })
}

fn check(body: Vec<u8>) -> Result<(), TestCaseError> {
    let state = |held: testkit::held::Held| held.state;
    let held = || GROUND.runtime.block_on(GROUND.here.parts.held(GROUND.room.id())).expect("known");
    let before = state(held());
    let path = format!("/_matrix/federation/v1/send/{}", GROUND.evil.new_transaction());
    let asked = GROUND.evil.ask_text(&GROUND.here.name, Method::PUT, &path, body);
    let answer = GROUND.runtime.block_on(asked);
    let refused = answer.status.is_client_error() && answer.status != StatusCode::TOO_MANY_REQUESTS;
    prop_assert!(answer.status == StatusCode::OK || refused, "{} {}", answer.status, answer.body);
    prop_assert_eq!(state(held()), before);
    Ok(())
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn fuzz_transaction_changed(changes in json::changes()) {
        check(json::changed(good(), &changes))?;
    }

    #[test]
    fn fuzz_transaction_of_random_values(pdus in json::value(), edus in json::value(), changes in json::changes()) {
        let body = json!({ "origin": "evil.test", "origin_server_ts": 5, "pdus": [pdus], "edus": [edus] });
        check(json::changed(body, &changes))?;
    }

    #[test]
    fn fuzz_transaction_of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(bytes)?;
    }
}
