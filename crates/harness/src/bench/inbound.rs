//! B6: events of another server, in fifties as a transaction brings them, into a room with 50,000 state events: parsed, hashes and signatures checked,
//! authorised three times, stored and synced to disk. B7: a storm of forks in such a room, each with another conflict.

use std::{collections::BTreeMap, path::Path};

use ::rooms::{
    Incoming, Pdu, Received, Room, RoomVersion,
    auth::auth_types_for,
    pdu::{BuildInput, build},
};
use primitives::{ServerKey, UnixMillis};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, canonical_json::CanonicalJsonObject, serde::Base64,
    server_name, signatures::PublicKeyMap,
};
use serde_json::{Value, json};
use storage::{Batch, schema::rooms::Verdict};

use super::{
    engine::SCALE,
    site::{Site, cpu},
    table::{Figure, Goal, Latencies},
};

/// Members of the room, and with them its state events.
const MEMBERS: usize = 50_000 / SCALE as usize;
/// Events that are taken in for the figure.
const EVENTS: usize = 20_000 / SCALE as usize;
/// Events of a transaction.
const AT_ONCE: usize = 50;
/// Forks of the storm.
const FORKS: usize = 200;
/// Events of the state that are staged at once.
const STAGED_AT_ONCE: usize = 1_000;

/// The other server: what it makes of a room.
struct Far {
    version: RoomVersion,
    key: ServerKey,
    room_id: Option<OwnedRoomId>,
    state: BTreeMap<(String, String), OwnedEventId>,
    last: Vec<OwnedEventId>,
    made: u64,
}

fn member(number: usize) -> OwnedUserId {
    UserId::parse(format!("@user{number}:far.test")).expect("a user id")
}

impl Far {
    fn new(version: RoomVersion) -> Self {
        let key = ServerKey::new("far", [9; 32]).expect("a key");
        let by_hash = version.room_id_is_create_hash();
        let room_id = (!by_hash).then(|| RoomId::parse("!large:far.test").expect("a room id"));
        Self { version, key, room_id, state: BTreeMap::new(), last: Vec::new(), made: 0 }
    }

    /// The next event, which every rule allows.
    fn make(&mut self, sender: &UserId, kind: &str, state_key: Option<&str>, content: &Value) -> anyhow::Result<Pdu> {
        let raw = serde_json::value::to_raw_value(content)?;
        let types = auth_types_for(self.version, &kind.into(), sender, state_key, &raw)?;
        let auth: Vec<_> =
            types.into_iter().filter_map(|(kind, key)| self.state.get(&(kind.to_owned(), key)).cloned()).collect();
        self.made += 1;
        let input = BuildInput {
            version: self.version,
            room_id: self.room_id.as_deref(),
            sender,
            event_type: kind,
            state_key,
            content: serde_json::from_value::<CanonicalJsonObject>(content.clone())?,
            redacts: None,
            prev_events: &self.last,
            auth_events: &auth,
            reference_hashes: None,
            depth: self.made,
            origin_server_ts: UnixMillis(1_700_000_000_000 + self.made),
            extra: Vec::new(),
        };
        let pdu = build(input, &self.key, server_name!("far.test"))?;
        self.room_id.get_or_insert_with(|| pdu.room_id().to_owned());
        self.last = vec![pdu.event_id().clone()];
        if let Some(state_key) = state_key {
            self.state.insert((kind.to_owned(), state_key.to_owned()), pdu.event_id().clone());
        }
        Ok(pdu)
    }

    /// The room's state events, the newest member's join last.
    fn found(&mut self) -> anyhow::Result<Vec<Pdu>> {
        let creator = member(0);
        let levels = if self.version.privileges_creators() { json!({}) } else { json!({ creator.as_str(): 100 }) };
        let create = json!({ "creator": creator, "room_version": self.version.as_str() });
        let mut events = vec![
            self.make(&creator, "m.room.create", Some(""), &create)?,
            self.make(&creator, "m.room.member", Some(creator.as_str()), &json!({ "membership": "join" }))?,
            self.make(&creator, "m.room.power_levels", Some(""), &json!({ "users": levels }))?,
            self.make(&creator, "m.room.join_rules", Some(""), &json!({ "join_rule": "public" }))?,
        ];
        for number in 1..MEMBERS {
            let user = member(number);
            events.push(self.make(&user, "m.room.member", Some(user.as_str()), &json!({ "membership": "join" }))?);
        }
        Ok(events)
    }

    /// Two branches, and an event that joins them.
    fn fork(&mut self, creator: &UserId, number: usize) -> anyhow::Result<Vec<Incoming>> {
        let (before, state) = (self.last.clone(), self.state.clone());
        let mut users = json!({ member(1).as_str(): number % 50 });
        if !self.version.privileges_creators() {
            users[creator.as_str()] = json!(100);
        }
        let levels = self.make(creator, "m.room.power_levels", Some(""), &json!({ "users": users }))?;
        let after_levels = std::mem::replace(&mut self.last, before);
        let levels_state = std::mem::replace(&mut self.state, state);
        let topic = self.make(creator, "m.room.topic", Some(""), &json!({ "topic": number.to_string() }))?;
        let again = json!({ "membership": "join", "displayname": number.to_string() });
        let joins = member(2 + number);
        let joined = self.make(&joins, "m.room.member", Some(joins.as_str()), &again)?;
        self.last.extend(after_levels);
        let key = ("m.room.power_levels".to_owned(), String::new());
        self.state.extend(levels_state.get(&key).map(|id| (key.clone(), id.clone())));
        let joining = self.make(creator, "m.room.message", None, &json!({ "msgtype": "m.text", "body": "both" }))?;
        Ok([levels, topic, joined, joining].iter().map(|pdu| Incoming::new(pdu.json())).collect())
    }

    fn keys(&self) -> PublicKeyMap {
        let of_far = BTreeMap::from([(self.key.id().to_string(), Base64::new(self.key.public().to_vec()))]);
        PublicKeyMap::from([("far.test".to_owned(), of_far)])
    }

    /// Puts the room together here, as a join would.
    async fn stage(&mut self, site: &Site) -> anyhow::Result<Room> {
        let (mut events, keys) = (self.found()?, self.keys());
        let last = events.pop().expect("there are members");
        let staging = site.rooms.stage(last.room_id(), self.version).await?;
        for events in events.chunks(STAGED_AT_ONCE) {
            let events = events.iter().map(|pdu| pdu.json().as_bytes().to_vec()).collect();
            staging.take_in(events, &keys).await?;
        }
        let ids: Vec<_> = events.iter().map(|pdu| pdu.event_id().clone()).collect();
        let state = staging.state(&ids).await?;
        Ok(staging.begin(last.json().as_bytes().to_vec(), state, &keys, Batch::new()).await?)
    }
}

/// Events a second that one core takes in.
pub(super) async fn transactions(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for version in ["10", "12"] {
        let (site, mut far, room) = large_room(folder, version).await?;
        let mut transactions = Vec::with_capacity(EVENTS / AT_ONCE);
        for _ in 0..EVENTS / AT_ONCE {
            let mut events = Vec::with_capacity(AT_ONCE);
            for number in 0..AT_ONCE {
                let sender = member(number * 997 % MEMBERS);
                let content = json!({ "msgtype": "m.text", "body": "a message of ordinary length, as people write them all day" });
                events.push(Incoming::new(far.make(&sender, "m.room.message", None, &content)?.json()));
            }
            transactions.push(events);
        }
        let keys = far.keys();
        let (start, cpu_start) = (site.clock.monotonic(), cpu());
        for events in transactions {
            take_in(&room, events, &keys).await?;
        }
        let span = site.clock.monotonic().saturating_sub(start).as_secs_f64();
        let used = cpu().saturating_sub(cpu_start).as_secs_f64();
        let events = u32::try_from(EVENTS).map_or(f64::NAN, f64::from);
        figures.push(Figure::new(format!("B6 inbound, version {version}"), events / span, "1/s", Goal::None));
        let name = format!("B6 inbound, version {version}, a core");
        figures.push(Figure::new(name, events / used, "1/s", Goal::AtLeast(7_000.0)));
        site.close().await?;
    }
    Ok(figures)
}

/// The time that a fork takes, with the event that joins its branches: other power levels on one, a topic and a member event on the other.
pub(super) async fn storm(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for version in ["11", "12"] {
        let (site, mut far, room) = large_room(folder, version).await?;
        let creator = member(0);
        let forks = (0..FORKS).map(|number| far.fork(&creator, number)).collect::<anyhow::Result<Vec<_>>>()?;
        let (keys, mut latencies) = (far.keys(), Latencies::default());
        for events in forks {
            let start = site.clock.monotonic();
            take_in(&room, events, &keys).await?;
            latencies.add(site.clock.monotonic().saturating_sub(start));
        }
        for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
            let name = format!("B7 storm of forks with {MEMBERS} members, version {version}, {what}");
            figures.push(Figure::new(name, latencies.ms(share), "ms", Goal::AtMost(5.0)));
        }
        site.close().await?;
    }
    Ok(figures)
}

async fn large_room(folder: &Path, version: &str) -> anyhow::Result<(Site, Far, Room)> {
    let site = Site::open(&folder.join(version)).await?;
    let mut far = Far::new(RoomVersion::parse(version).expect("a known version"));
    let room = far.stage(&site).await?;
    Ok((site, far, room))
}

async fn take_in(room: &Room, events: Vec<Incoming>, keys: &PublicKeyMap) -> anyhow::Result<()> {
    let received = room.receive(events, keys).await?;
    let other = received.iter().find(|one| !matches!(one, Received::Stored(_, Verdict::Accepted)));
    other.map_or(Ok(()), |other| Err(anyhow::anyhow!("an event was not accepted: {other:?}")))
}
