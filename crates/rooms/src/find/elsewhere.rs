//! Rooms that nobody here is in, as other servers describe them (server-server API, `GET /hierarchy/{roomId}`). What they say is shown, and believed in
//! nothing else.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use federation_client::FederationClient;
use parking_lot::Mutex;
use primitives::SharedClock;
use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::about::{About, Child, Published, Summary, child};
use crate::RoomVersion;

/// Spaces of other servers that are remembered, and for how long.
const REMEMBERED: usize = 1_000;
const FRESH: Duration = Duration::from_mins(5);
/// Questions for one request of a client.
const MAX_QUESTIONS: usize = 50;
/// How long no question is begun after the first, for one request of a client.
const PATIENCE: Duration = Duration::from_secs(20);
/// Servers that are asked for one room.
const MAX_SERVERS: usize = 3;
/// Children of one space that are looked at.
const MAX_CHILDREN: usize = 1_000;
/// The longest text that is shown of what another server says of a room, in bytes.
const MAX_TEXT: usize = 4_096;

/// A room as another server describes it, with what it says of its children.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) about: Arc<About>,
    children: HashMap<OwnedRoomId, Arc<About>>,
    inaccessible: HashSet<OwnedRoomId>,
}

/// What other servers have described lately.
pub(crate) struct Descriptions(Cache<OwnedRoomId, (Duration, Arc<Described>)>);

impl Default for Descriptions {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED))
    }
}

/// Asking other servers for rooms, for one request of a client.
pub(crate) struct Elsewhere<'a> {
    client: &'a FederationClient,
    clock: &'a SharedClock,
    known: &'a Descriptions,
    until: Duration,
    asked: Mutex<Asked>,
}

/// What has been asked for one request, and what was told by the way.
#[derive(Default)]
struct Asked {
    questions: usize,
    told: HashMap<OwnedRoomId, Arc<About>>,
    inaccessible: HashSet<OwnedRoomId>,
}

/// What was told of a room by the way.
enum Told {
    Nothing,
    Described(Arc<About>),
    Inaccessible,
}

impl<'a> Elsewhere<'a> {
    /// Nothing is asked yet.
    pub(crate) fn new(client: &'a FederationClient, clock: &'a SharedClock, known: &'a Descriptions) -> Self {
        let until = clock.monotonic().saturating_add(PATIENCE);
        Self { client, clock, known, until, asked: Mutex::default() }
    }

    /// A room, from what is known of it or from one of the servers by which it can be found.
    pub(super) async fn room(&self, room_id: &RoomId, via: &[OwnedServerName]) -> Option<Arc<About>> {
        match self.told(room_id) {
            Told::Described(about) => return Some(about),
            Told::Inaccessible => return None,
            Told::Nothing => {}
        }
        if let Some((at, known)) = self.known.0.get(room_id)
            && self.clock.monotonic().saturating_sub(at) < FRESH
        {
            return Some(self.note(&known));
        }
        let own = self.client.own_keys().server_name();
        for server in via.iter().filter(|server| *server != own).take(MAX_SERVERS) {
            if !self.may_ask() {
                return None;
            }
            if let Some(found) = self.ask(server, room_id).await {
                let found = Arc::new(found);
                self.known.0.insert(room_id.to_owned(), (self.clock.monotonic(), Arc::clone(&found)));
                return Some(self.note(&found));
            }
        }
        None
    }

    /// What a space's server has said of a child, unless that is a space, whose own children are wanted too.
    fn told(&self, room_id: &RoomId) -> Told {
        let asked = self.asked.lock();
        if asked.inaccessible.contains(room_id) {
            return Told::Inaccessible;
        }
        let is_space = |about: &About| about.summary.published.room_type.as_deref() == Some("m.space");
        match asked.told.get(room_id) {
            Some(about) if !is_space(about) => Told::Described(Arc::clone(about)),
            _ => Told::Nothing,
        }
    }

    fn note(&self, found: &Described) -> Arc<About> {
        let mut asked = self.asked.lock();
        asked.told.extend(found.children.iter().map(|(id, about)| (id.clone(), Arc::clone(about))));
        asked.inaccessible.extend(found.inaccessible.iter().cloned());
        Arc::clone(&found.about)
    }

    fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock();
        asked.questions += 1;
        asked.questions <= MAX_QUESTIONS && self.clock.monotonic() < self.until
    }

    async fn ask(&self, server: &ServerName, room_id: &RoomId) -> Option<Described> {
        #[derive(Deserialize)]
        struct Answer {
            room: Value,
            #[serde(default)]
            children: Vec<Value>,
            #[serde(default)]
            inaccessible_children: Vec<String>,
        }
        let late = self.clock.sleep(self.until.saturating_sub(self.clock.monotonic()));
        let answer = tokio::select! {
            answer = self.client.hierarchy(server, room_id, false) => answer,
            () = late => return None,
        };
        let answer = answer
            .inspect_err(|error| tracing::debug!(%server, %room_id, %error, "a server describes no room"))
            .ok()?;
        let answer: Answer = serde_json::from_value(serde_json::to_value(answer).ok()?).ok()?;
        let about = described(answer.room).filter(|about| about.summary.published.room_id == room_id)?;
        let children = answer.children.into_iter().take(MAX_CHILDREN).filter_map(described);
        let children = children.map(|about| (about.summary.published.room_id.clone(), Arc::new(about)));
        let inaccessible = answer.inaccessible_children.into_iter().take(MAX_CHILDREN);
        Some(Described {
            about: Arc::new(about),
            children: children.collect(),
            inaccessible: inaccessible.filter_map(|id| OwnedRoomId::try_from(id).ok()).collect(),
        })
    }
}

/// A room as a server describes it; `None`: that makes no sense.
fn described(room: Value) -> Option<About> {
    #[derive(Deserialize)]
    struct Shown {
        #[serde(flatten)]
        published: Published,
        #[serde(default)]
        allowed_room_ids: Vec<OwnedRoomId>,
        encryption: Option<String>,
        room_version: Option<String>,
        #[serde(default)]
        children_state: Vec<Value>,
    }
    let room: Shown = serde_json::from_value(room).ok()?;
    let Published { name, topic, canonical_alias, avatar_url, room_type, join_rule, .. } = &room.published;
    let texts = [name, topic, canonical_alias, avatar_url, room_type, &room.encryption].into_iter().flatten();
    if texts.chain([join_rule]).any(|text| text.len() > MAX_TEXT) {
        return None;
    }
    let version = room.room_version.and_then(|version| RoomVersion::parse(&version));
    let summary = Summary {
        published: room.published,
        allowed_room_ids: room.allowed_room_ids,
        encryption: room.encryption,
        room_version: version.map(RoomVersion::as_str),
    };
    let mut children: Vec<_> = room.children_state.iter().take(MAX_CHILDREN).filter_map(described_child).collect();
    children.sort_by(Child::compare);
    Some(About { summary, children, is_here: false })
}

fn described_child(event: &Value) -> Option<Child> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
        state_key: String,
        sender: String,
        origin_server_ts: u64,
        content: Box<RawValue>,
    }
    let event: Event = serde_json::from_str(&event.to_string()).ok()?;
    if event.kind != "m.space.child" {
        return None;
    }
    child(&event.state_key, &event.sender, event.origin_server_ts, &event.content)
}
