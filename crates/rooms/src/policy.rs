//! Policy servers (server-server API, "Policy Servers"; MSC4284): a room can name a server that looks at every event before it is sent, and signs what it
//! recommends. Here is what is pure of it, and what the worker looks at; who asks is `remote/policy.rs`, for a worker asks nobody (I13).
//!
//! ```text
//! own event:      built in the worker ──► signed outside ──► comes back as a received one, with its riders
//! received event: judged in the worker ──► not signed: signed outside ──► judged again, and soft-failed if it is still not signed
//! ```

use base64::{Engine, alphabet, engine};
use ruma::{OwnedServerName, ServerName};
use serde::Deserialize;
use storage::{
    Direction, KeyRange, ReadError, Text,
    schema::rooms::{Membership, RoomServerSlots},
};

use crate::{Pdu, change::Change, current::Current};

/// The id of the key with which a policy server signs events, whatever its own keys are called.
pub(crate) const KEY_ID: &str = "ed25519:policy_server";
/// The type of the state event that names the policy server, and its name from before it was specified, which counts where the first isn't there.
const TYPES: [&str; 2] = ["m.room.policy", "org.matrix.msc4284.policy"];
/// Slots of members that are looked at in one page.
const PAGE: usize = 100;

/// A room's policy server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyServer {
    /// Its name.
    pub(crate) via: OwnedServerName,
    /// The key that its signatures are checked with, as the room's state says. One that is no key has signed nothing.
    key: Vec<u8>,
}

/// The content of the state event, in both its forms.
#[derive(Deserialize)]
struct Content {
    via: String,
    public_keys: Option<Keys>,
    /// The form from before it was specified.
    public_key: Option<String>,
}

#[derive(Deserialize)]
struct Keys {
    ed25519: String,
}

impl PolicyServer {
    /// What the state event names; `None` if it lacks what it must have. That somebody of the server has joined is the caller's to see.
    fn named_by(event: &Pdu) -> Option<Self> {
        let content: Content = event.content_as().ok()?;
        let key = match event.kind() {
            "m.room.policy" => content.public_keys?.ed25519,
            _ => content.public_key?,
        };
        let tolerant = engine::GeneralPurposeConfig::new()
            .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true);
        let decoded = [&alphabet::STANDARD, &alphabet::URL_SAFE]
            .into_iter()
            .find_map(|alphabet| engine::GeneralPurpose::new(alphabet, tolerant).decode(&key).ok());
        Some(Self { via: OwnedServerName::try_from(content.via).ok()?, key: decoded.unwrap_or_default() })
    }

    /// Whether it has signed an event.
    pub(crate) fn has_signed(&self, pdu: &Pdu) -> bool {
        pdu.is_signed_with(&self.via, KEY_ID, &self.key)
    }
}

/// Whether an event needs no policy server's signature: it is the one that names the policy server, so that a room can always get rid of it.
pub(crate) fn is_exempt(pdu: &Pdu) -> bool {
    TYPES.iter().any(|kind| pdu.is_state(kind, ""))
}

impl Change {
    /// Whether an event lacks the signature of the policy server that the room has now. Where this server is the policy server, or takes part in no federation,
    /// nobody can be asked, and no event lacks anything.
    pub(crate) async fn lacks_policy_signature(&mut self, pdu: &Pdu) -> Result<bool, ReadError> {
        if self.context.remote.is_none() || is_exempt(pdu) {
            return Ok(false);
        }
        let mut named = self.current(TYPES[0], "").await?;
        if named.is_none() {
            named = self.current(TYPES[1], "").await?;
        }
        let Some(policy) = named.and_then(|event| PolicyServer::named_by(&event.pdu)) else { return Ok(false) };
        let others = policy.via != self.context.options.server_name;
        Ok(others && self.has_member_of(&policy.via).await? && !policy.has_signed(pdu))
    }

    /// Whether a user of another server is joined, by the state that is current with this change.
    async fn has_member_of(&self, server: &ServerName) -> Result<bool, ReadError> {
        let new = self.new_slot_keys.iter().filter(|(_, key)| {
            let user = <&ruma::UserId>::try_from(key.state_key.as_str());
            key.event_type == "m.room.member" && user.is_ok_and(|user| user.server_name() == server)
        });
        for (slot, _) in new {
            if self.is_joined(*slot).await? {
                return Ok(true);
            }
        }
        let mut rest = Some(KeyRange::prefix(&(self.memory.info.nid, Text::new(server.as_str()))));
        while let Some(range) = rest {
            let page = self.view.scan::<RoomServerSlots>(&range, PAGE, Direction::Forward).await?;
            for ((.., slot), ()) in page.rows {
                if self.is_joined(slot).await? {
                    return Ok(true);
                }
            }
            rest = page.rest;
        }
        Ok(false)
    }

    async fn is_joined(&self, slot: primitives::Slot) -> Result<bool, ReadError> {
        let entry = self.trees.entry(self.memory.head.root, slot).await?;
        Ok(entry.is_some_and(|entry| entry.membership == Some(Membership::Join)))
    }
}

impl Current<'_> {
    /// The policy server that the room has; `None` also where it is this server, which then has nobody to ask.
    pub(crate) async fn policy_server(&self) -> Result<Option<PolicyServer>, ReadError> {
        let mut named = self.event(TYPES[0], "").await?;
        if named.is_none() {
            named = self.event(TYPES[1], "").await?;
        }
        let Some(policy) = named.as_ref().and_then(PolicyServer::named_by) else { return Ok(None) };
        let in_use = policy.via != self.own_name() && self.has_server(&policy.via).await?;
        Ok(in_use.then_some(policy))
    }
}

#[cfg(test)]
mod tests {
    use ruma::{canonical_json::CanonicalJsonObject, user_id};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        RoomVersion,
        pdu::{BuildInput, build},
    };

    fn event(kind: &str, state_key: Option<&str>, content: Value) -> Pdu {
        let content: CanonicalJsonObject = serde_json::from_value(content).expect("canonical");
        let input = BuildInput {
            version: RoomVersion::parse("11").expect("known"),
            room_id: Some(ruma::room_id!("!r:x")),
            sender: user_id!("@a:x"),
            event_type: kind,
            state_key,
            content,
            redacts: None,
            prev_events: &[],
            auth_events: &[],
            reference_hashes: None,
            depth: 1,
            origin_server_ts: primitives::UnixMillis(1),
            extra: Vec::new(),
        };
        let key = primitives::ServerKey::new("1", [1; 32]).expect("a key");
        build(input, &key, ruma::server_name!("x")).expect("built")
    }

    fn named(kind: &str, content: Value) -> Option<PolicyServer> {
        PolicyServer::named_by(&event(kind, Some(""), content))
    }

    #[test]
    fn a_policy_server_has_a_name_and_a_key() {
        let public = primitives::ServerKey::new("policy_server", [9; 32]).expect("a key").public();
        let standard = base64::engine::general_purpose::STANDARD_NO_PAD.encode(public);
        let url_safe = base64::engine::general_purpose::URL_SAFE.encode(public);
        for key in [standard, url_safe] {
            let content = json!({ "via": "p.x", "public_keys": { "ed25519": key, "other": "x" } });
            let policy = named("m.room.policy", content).expect("named");
            assert_eq!((policy.via.as_str(), &policy.key[..]), ("p.x", &public[..]));
            let before = named("org.matrix.msc4284.policy", json!({ "via": "p.x", "public_key": key }));
            assert_eq!(before, Some(policy));
        }
        for bad in [
            json!({}),
            json!({ "via": "p.x" }),
            json!({ "via": "p.x", "public_keys": {} }),
            json!({ "via": "p.x", "public_keys": { "ed25519": 5 } }),
            json!({ "via": 5, "public_keys": { "ed25519": "AAAA" } }),
            json!({ "via": "no name", "public_keys": { "ed25519": "AAAA" } }),
            json!({ "public_keys": { "ed25519": "AAAA" } }),
            json!({ "via": "p.x", "public_key": "AAAA" }),
        ] {
            assert_eq!(named("m.room.policy", bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn only_the_event_that_names_it_needs_no_signature() {
        for kind in TYPES {
            assert!(is_exempt(&event(kind, Some(""), json!({}))));
            assert!(!is_exempt(&event(kind, Some("x"), json!({}))));
            assert!(!is_exempt(&event(kind, None, json!({}))));
        }
        assert!(!is_exempt(&event("m.room.power_levels", Some(""), json!({}))));
    }

    #[test]
    fn its_signature_is_checked_with_the_key_in_the_rooms_state() {
        let key = |seed: u8| primitives::ServerKey::new("policy_server", [seed; 32]).expect("a key");
        let (policy, other) = (key(9), key(8));
        let public = base64::engine::general_purpose::STANDARD_NO_PAD.encode(policy.public());
        let content = json!({ "via": "p.x", "public_keys": { "ed25519": public } });
        let named = named("m.room.policy", content).expect("named");
        let (name, pdu) = (ruma::server_name!("p.x"), event("m.room.message", None, json!({ "body": "x" })));
        assert!(!named.has_signed(&pdu));
        let signed = pdu.cosigned(&policy, name).expect("signs");
        assert!(named.has_signed(&signed));
        assert!(!named.has_signed(&pdu.cosigned(&other, name).expect("signs")));
        assert!(!named.has_signed(&pdu.cosigned(&policy, ruma::server_name!("q.x")).expect("signs")));
        let broken = PolicyServer { key: vec![1, 2, 3], ..named };
        assert!(!broken.has_signed(&signed), "a key that is none has signed nothing");
        assert_eq!(signed.event_id(), pdu.event_id());
        assert_eq!(signed.required_signatures().expect("readable"), pdu.required_signatures().expect("readable"));
    }
}
