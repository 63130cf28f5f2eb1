//! Invites by address, exchanged for invites of users.

use http::{Method, StatusCode, header};
use primitives::{ServerKey, canonical};
use rooms::{Outgoing, Preset};
use ruma::{api::federation::authentication::XMatrix, serde::Base64, signatures::KeyPair};
use serde_json::{Value, json};
use testkit::world::{Server, World};

use super::{create, membership, told, two};
use crate::far::object;

/// What an identity server says of a user.
fn vouched(key: &ServerKey, user: &str, token: &str) -> Value {
    let said = json!({ "mxid": user, "token": token });
    let signature = key.sign(&canonical::to_bytes(&object(&said))).base64();
    json!({ "mxid": user, "token": token, "signatures": { "id.test": { key.id().to_string(): signature } } })
}

async fn exchange(from: &Server, to: &Server, room: &ruma::RoomId, event: &Value) -> StatusCode {
    let room = room.as_str().replace('!', "%21").replace(':', "%3A");
    let path = format!("/_matrix/federation/v1/exchange_third_party_invite/{room}");
    let body = canonical::to_bytes(&object(event));
    let mut request =
        http::Request::builder().method(Method::PUT).uri(path).body(bytes::Bytes::from(body)).expect("a request");
    let signed = XMatrix::request_object(&request, &from.name, &to.name).expect("an object");
    let text = serde_json::to_vec(&signed).expect("JSON");
    let (_, signature) = from.keys.current().sign(&text).into_parts();
    let (origin, key) = (from.name.clone(), from.keys.current().id().clone());
    let claim = XMatrix::new(origin, to.name.clone(), key, Base64::new(signature));
    request.headers_mut().insert(header::AUTHORIZATION, (&claim).into());
    testkit::world::serve(to.federation.clone(), request).await.status()
}

#[tokio::test]
async fn who_shows_that_the_address_is_theirs_is_invited_and_nobody_else() {
    let world = World::new();
    let (a, alice, b, bob) = two(&world).await;
    let room = create(&a, &alice, "11", Preset::PrivateChat).await;
    let key = ServerKey::new("1", [9; 32]).expect("a key");
    let public = Base64::<ruma::serde::base64::Standard>::new(key.public().to_vec()).to_string();
    let address = object(&json!({ "display_name": "b…", "public_key": public, "key_validity_url": "https://id.test" }));
    let address = Outgoing::state(alice.clone(), "m.room.third_party_invite", "token", address);
    a.parts.rooms.room(&room).await.expect("there").send(address).await.expect("sent");

    let event = |user: &str, signed: Value| {
        let third_party = json!({ "display_name": "b…", "signed": signed, "other": 1 });
        json!({
            "type": "m.room.member", "room_id": room, "sender": alice, "state_key": user,
            "content": { "membership": "invite", "third_party_invite": third_party, "displayname": "Mallory" },
        })
    };
    let good = event(bob.as_str(), vouched(&key, bob.as_str(), "token"));
    let stranger = ServerKey::new("1", [8; 32]).expect("a key");
    for (bad, status) in [
        (event(bob.as_str(), vouched(&stranger, bob.as_str(), "token")), StatusCode::FORBIDDEN),
        (event(bob.as_str(), vouched(&key, "@carol:b.test", "token")), StatusCode::FORBIDDEN),
        (event(bob.as_str(), vouched(&key, bob.as_str(), "other")), StatusCode::FORBIDDEN),
        (event("@carol:c.test", vouched(&key, "@carol:c.test", "token")), StatusCode::FORBIDDEN),
        (
            json!({ "type": "m.room.member", "room_id": room, "content": { "membership": "invite" } }),
            StatusCode::BAD_REQUEST,
        ),
        (json!({ "type": "m.room.name", "room_id": room, "content": {} }), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(exchange(&b, &a, &room, &bad).await, status, "{bad}");
        assert_eq!(membership(&a, &alice, &room, &bob).await, None);
    }
    assert_eq!(exchange(&b, &a, &room, &good).await, StatusCode::OK);
    assert_eq!(membership(&a, &alice, &room, &bob).await.as_deref(), Some("invite"));
    let shown = told(&b, &bob, "invite", &room).await.expect("told");
    assert!(!shown.to_string().contains("Mallory"));
}
