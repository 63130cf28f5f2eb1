//! Many other servers that are no more than a key and an ear: for rooms in which an event goes to hundreds.

use std::{collections::BTreeSet, future, sync::Arc};

use bytes::Bytes;
use federation_client::OwnKeys;
use http::{Request, Response};
use parking_lot::Mutex;
use primitives::{Clock, ServerKey, UnixMillis};
use rooms::{
    Incoming, Outgoing, Reader, Received, Room,
    auth::auth_types_for,
    pdu::{BuildInput, build},
};
use ruma::{
    OwnedEventId, OwnedServerName, OwnedUserId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde_json::value::RawValue;
use storage::schema::rooms::Verdict;

use crate::world::{Server, World};

/// Servers that publish their keys, take every transaction, and note that they got one.
#[derive(Debug)]
pub struct Crowd {
    keys: Vec<Arc<OwnKeys>>,
    told: Arc<Mutex<BTreeSet<OwnedServerName>>>,
}

impl Crowd {
    /// So many servers, named `s0.test` and on.
    pub fn gather(world: &World, size: usize) -> Self {
        let told: Arc<Mutex<BTreeSet<OwnedServerName>>> = Arc::default();
        let keys = (0..size).map(|number| {
            let name = OwnedServerName::try_from(format!("s{number}.test")).expect("a name");
            let key = Arc::new(ServerKey::new("k", [7; 32]).expect("a key"));
            let keys = Arc::new(OwnKeys::new(name.clone(), key, Vec::new()));
            let (mine, clock, told) = (Arc::clone(&keys), Arc::clone(&world.clock), Arc::clone(&told));
            world.servers.serve(name.clone(), move |request: Request<Bytes>| {
                let body = if request.uri().path().starts_with("/_matrix/key/") {
                    serde_json::to_vec(&mine.document(clock.now())).expect("JSON")
                } else {
                    told.lock().insert(name.clone());
                    b"{}".to_vec()
                };
                future::ready(Response::new(body.into()))
            });
            keys
        });
        Self { keys: keys.collect(), told }
    }

    /// The names of the servers.
    pub fn names(&self) -> Vec<OwnedServerName> {
        self.keys.iter().map(|keys| keys.server_name().to_owned()).collect()
    }

    /// The first so many answer nothing from now on, and hold whoever asks them.
    pub fn kill(&self, world: &World, many: usize) {
        for name in self.names().into_iter().take(many) {
            world.servers.serve(name, |_| future::pending());
        }
    }

    /// Who has been told something since this was asked last.
    pub fn take_told(&self) -> BTreeSet<OwnedServerName> {
        std::mem::take(&mut *self.told.lock())
    }

    /// How many have been told something since then.
    pub fn told(&self) -> usize {
        self.told.lock().len()
    }

    /// A user of each joins a public room of `here`, made by this user.
    pub async fn join(&self, here: &Server, room: &Room, creator: &UserId) {
        let remote = here.parts.rooms.remote().expect("federation");
        let begin = Outgoing::message(creator.to_owned(), "m.room.message", CanonicalJsonObject::new());
        let mut last = room.send(begin).await.expect("sent").event_id;
        let joins = CanonicalJsonValue::String("join".to_owned());
        let content: CanonicalJsonObject = [("membership".to_owned(), joins)].into();
        for keys in &self.keys {
            let user = OwnedUserId::try_from(format!("@u:{}", keys.server_name())).expect("a user id");
            let auth = vouchers(here, room, creator, &user).await;
            let input = BuildInput {
                version: room.version(),
                room_id: Some(room.id()),
                sender: &user,
                event_type: "m.room.member",
                state_key: Some(user.as_str()),
                content: content.clone(),
                redacts: None,
                prev_events: std::slice::from_ref(&last),
                auth_events: &auth,
                reference_hashes: None,
                depth: 100,
                origin_server_ts: UnixMillis(1_700_000_000_000),
                extra: Vec::new(),
            };
            let pdu = build(input, keys.current(), keys.server_name()).expect("built");
            let received = room.receive(vec![Incoming::new(pdu.json())], remote).await.expect("received");
            let [Received::Stored(id, Verdict::Accepted)] = &received[..] else { panic!("{received:?}") };
            last = id.clone();
        }
    }
}

/// The auth events of a user's join.
async fn vouchers(here: &Server, room: &Room, creator: &UserId, user: &UserId) -> Vec<OwnedEventId> {
    let user_nid = here.parts.users.nid(creator).await.expect("readable").expect("registered");
    let reader = Reader { user_id: creator.to_owned(), user_nid, device_id: None };
    let content = RawValue::from_string(r#"{"membership":"join"}"#.to_owned()).expect("JSON");
    let wanted = auth_types_for(room.version(), &"m.room.member".into(), user, Some(user.as_str()), &content);
    let mut auth = Vec::new();
    for (kind, key) in wanted.expect("auth types") {
        let found = here.parts.reads.state_event(&reader, room.id(), kind, &key).await.ok();
        auth.extend(found.and_then(|found| OwnedEventId::try_from(&*found.event.header.event_id).ok()));
    }
    auth
}
