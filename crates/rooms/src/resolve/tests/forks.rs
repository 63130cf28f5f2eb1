//! Random forks of a small room: bans, kicks, power struggles, changing join rules, invitations by third parties, restricted joins,
//! stale branches, clocks that jump, and now and then a rejected event.

use primitives::{Random, ServerKey};
use ruma::{canonical_json::to_canonical_value, signatures::KeyPair};
use serde_json::{Value, json};

use crate::{
    auth::authorise,
    testing::{Draft, State, TestRoom},
};

const USERS: [&str; 8] = ["@a:x", "@b:x", "@c:x", "@d:x", "@e:x", "@f:x", "@g:x", "@h:x"];

/// A room and the states of some of its branches.
pub(super) struct Forks {
    pub(super) room: TestRoom,
    pub(super) states: Vec<State>,
}

impl Forks {
    /// Two to five branches, each from the room's start or from another branch's end. The same seed gives the same.
    pub(super) fn random(version: &str, seed: u64) -> Self {
        let random = Random::seeded(seed);
        let (mut room, mut state) = TestRoom::public(version);
        for user in &USERS[1..7] {
            room.apply(&mut state, Draft::member(user, user, "join")).expect("public");
        }
        let levels = room.levels(&[("@b:x", 100), ("@c:x", 50), ("@d:x", 50)]);
        room.apply(&mut state, Draft::state("@a:x", "m.room.power_levels", "", levels)).expect("the creator may");
        let mut pool = vec![state];
        let mut states = vec![];
        for _ in 0..2 + random.below(4) {
            let from = usize::try_from(random.below(pool.len() as u64)).expect("small");
            let mut state = pool[from].clone();
            for _ in 0..=random.below(12) {
                room.now = room.now.saturating_sub(random.below(40)) + random.below(40);
                step(&mut room, &mut state, &random);
            }
            pool.push(state.clone());
            states.push(state);
        }
        Self { room, states }
    }
}

/// One random event; if it isn't allowed it is usually dropped, and sometimes kept as a rejected one that got into the state.
fn step(room: &mut TestRoom, state: &mut State, random: &Random) {
    let user = || USERS[usize::try_from(random.below(8)).expect("small")];
    let (sender, target) = (user(), user());
    let (kind, state_key, content) = content(room, random, sender, target);
    let pdu = room.make(state, &Draft { sender, kind, state_key: Some(&state_key), content });
    let allowed = authorise(&pdu, |kind, key| state.get(&(kind.to_owned(), key.to_owned())).cloned()).is_ok();
    if allowed || random.below(16) == 0 {
        let pdu = pdu.with_rejected(!allowed);
        if !room.by_id.contains_key(pdu.event_id()) {
            room.keep(&pdu);
            state.insert((kind.to_owned(), state_key), pdu);
        }
    }
}

fn content(room: &TestRoom, random: &Random, sender: &str, target: &str) -> (&'static str, String, Value) {
    let member = |target: &str, content: Value| ("m.room.member", target.to_owned(), content);
    match random.below(13) {
        0 => ("m.room.topic", String::new(), json!({ "topic": random.below(1_000) })),
        1 => ("m.room.name", random.below(3).to_string(), json!({ "name": random.below(1_000) })),
        2 => member(target, json!({ "membership": "ban" })),
        3 => member(target, json!({ "membership": "leave" })),
        4..=6 => member(sender, json!({ "membership": "join", "displayname": random.below(9).to_string() })),
        7 => {
            let level = || [0, 50, 50, 100][usize::try_from(random.below(4)).expect("small")];
            let levels = [("@b:x", 100), ("@c:x", level()), ("@d:x", level()), ("@e:x", level()), ("@f:x", level())];
            ("m.room.power_levels", String::new(), room.levels(&levels))
        }
        8 => {
            let rule = ["public", "invite", "restricted", "knock"][usize::try_from(random.below(4)).expect("small")];
            ("m.room.join_rules", String::new(), json!({ "join_rule": rule }))
        }
        9 => member(target, json!({ "membership": "invite" })),
        10 => {
            let content = json!({ "public_key": inviter().public_base64(), "display_name": "x" });
            ("m.room.third_party_invite", random.below(2).to_string(), content)
        }
        11 => member(
            target,
            json!({ "membership": "invite", "third_party_invite": { "signed": signed(target, random.below(2)) } }),
        ),
        _ => member(sender, json!({ "membership": "join", "join_authorised_via_users_server": target })),
    }
}

fn inviter() -> ServerKey {
    ServerKey::new("0", [8; 32]).expect("valid")
}

fn signed(target: &str, token: u64) -> Value {
    let signed = json!({ "mxid": target, "token": token.to_string() });
    let text = to_canonical_value(&signed).expect("canonical").to_string();
    let signature = inviter().sign(text.as_bytes()).base64();
    json!({ "mxid": target, "token": token.to_string(), "signatures": { "id": { "ed25519:0": signature } } })
}
