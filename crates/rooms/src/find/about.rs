//! What a room says of itself, at its current state.

use std::{cmp::Ordering, sync::Arc};

use primitives::{RoomNid, StreamPosition};
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedRoomId, OwnedServerName, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{LocalMembers, Membership, RoomHead},
};

use crate::{activity::Activity, membership::JoinRules, read::RoomView, visibility::HistoryVisibility};

/// What is remembered of all rooms together: one for a room, and one for every 512 bytes of a space's children. About 60 MB.
const REMEMBERED: u64 = 100_000;
/// Children of one space that are told of, and their size all together: the first ones.
const MAX_CHILDREN: usize = 5_000;
const MAX_CHILDREN_BYTES: usize = 8 << 20;
/// Rows that one page of a scan reads.
const PAGE: usize = 200;
/// Servers that are kept of those by which a child can be found.
const MAX_VIA: usize = 10;
/// The longest `order` of a space's child (specification, `m.space.child`).
const MAX_ORDER: usize = 50;

/// The state that a summary is made of, besides members.
const TYPES: [&str; 9] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.name",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.encryption",
];

/// What the directory shows of a room (`PublishedRoomsChunk`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its name, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its topic as plain text, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its canonical alias, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_alias: Option<String>,
    /// The `mxc:` address of its avatar, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// Its `type`, if it has one: `m.space`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_type: Option<String>,
    /// Its join rule; of rooms that other servers know and don't tell of, `public`.
    #[serde(default = "public")]
    pub join_rule: String,
    /// Members who have joined.
    pub num_joined_members: u32,
    /// Whether everybody may read it.
    pub world_readable: bool,
    /// Whether guests may join it.
    pub guest_can_join: bool,
}

fn public() -> String {
    "public".to_owned()
}

/// What previews show of a room (`RoomSummary`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// What the directory shows too.
    #[serde(flatten)]
    pub published: Published,
    /// The rooms whose members may join, if the join rule is one of the restricted ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_room_ids: Vec<OwnedRoomId>,
    /// The algorithm that messages are encrypted with, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<String>,
    /// Its version, if it is one that is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_version: Option<&'static str>,
}

/// A room that a space names as its child.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) room_id: OwnedRoomId,
    pub(super) suggested: bool,
    /// Servers by which it can be found.
    pub(super) via: Vec<OwnedServerName>,
    /// The event as the hierarchy shows it.
    pub(super) event: Arc<RawValue>,
    order: Option<String>,
    origin_server_ts: u64,
}

impl Child {
    /// Before or after another child (specification, "Ordering of children within a space").
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let order = match (&self.order, &other.order) {
            (Some(a), Some(b)) => a.cmp(b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        order
            .then(self.origin_server_ts.cmp(&other.origin_server_ts))
            .then_with(|| self.room_id.as_str().cmp(other.room_id.as_str()))
    }
}

/// What a room says of itself.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) summary: Summary,
    /// The children of a space, in order; none of another room.
    pub(super) children: Vec<Child>,
    /// Whether a user of this server is in the room, so that its state here is the room's.
    pub(super) is_here: bool,
}

/// What was found of a room, and as of when.
#[derive(Clone, Debug)]
struct Known {
    position: StreamPosition,
    head: RoomHead,
    about: Arc<About>,
}

#[derive(Clone, Debug)]
struct BySize;

impl Weighter<RoomNid, Arc<Known>> for BySize {
    fn weight(&self, _: &RoomNid, known: &Arc<Known>) -> u64 {
        bytes(&known.about.children) as u64 / 512 + 1
    }
}

fn bytes(children: &[Child]) -> usize {
    children.iter().map(|child| child.event.get().len() + size_of::<Child>()).sum()
}

/// What rooms said of themselves when somebody last asked.
pub(crate) struct AboutCache(Cache<RoomNid, Arc<Known>, BySize>);

impl Default for AboutCache {
    fn default() -> Self {
        Self(Cache::with_weighter(10_000, REMEMBERED, BySize))
    }
}

impl RoomView<'_> {
    /// What the room says of itself; `None` if it has gone.
    pub(super) async fn about(&self) -> Result<Option<Arc<About>>, ReadError> {
        let now = self.view.position();
        let known = self.caches.about.0.get(&self.nid).filter(|known| known.position <= now);
        if let Some(known) = &known
            && self.caches.activity.since(&[self.nid], known.position)[0] == Activity::Quiet
        {
            return Ok(Some(Arc::clone(&known.about)));
        }
        let Some(head) = self.head().await? else { return Ok(None) };
        let about = match known {
            Some(known) if self.says_the_same(&known.head, &head).await? => Arc::clone(&known.about),
            _ => Arc::new(self.find_about(&head).await?),
        };
        // An older view never puts back what a newer one has found.
        if self.caches.about.0.peek(&self.nid).is_none_or(|known| known.position < now) {
            let known = Known { position: now, head, about: Arc::clone(&about) };
            self.caches.about.0.insert(self.nid, Arc::new(known));
        }
        Ok(Some(about))
    }

    /// Whether the state is the same and nothing of it can have been redacted since, which no state tells.
    async fn says_the_same(&self, before: &RoomHead, now: &RoomHead) -> Result<bool, ReadError> {
        Ok(before.root == now.root && (before.next_rix == now.next_rix || !self.has_redactions().await?))
    }

    async fn find_about(&self, head: &RoomHead) -> Result<About, ReadError> {
        let mut contents: [Value; TYPES.len()] = Default::default();
        self.prefetch(head.root, &TYPES).await?;
        for (content, event_type) in contents.iter_mut().zip(TYPES) {
            let Some(rix) = self.state_at(head.root, event_type, "").await? else { continue };
            if let Some(event) = self.as_it_is_now(rix).await? {
                *content = event.content_as().unwrap_or_default();
            }
        }
        let (joined, _) = self.counts(head.root).await?;
        let summary = self.summary_of(&contents, joined);
        let is_space = summary.published.room_type.as_deref() == Some("m.space");
        let children = if is_space { self.children(head).await? } else { Vec::new() };
        Ok(About { summary, children, is_here: self.is_here().await? })
    }

    fn summary_of(&self, contents: &[Value; TYPES.len()], joined: u32) -> Summary {
        let [create, join_rules, visibility, guests, name, topic, alias, avatar, encryption] = contents;
        let text =
            |content: &Value, key: &str| content[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let rules = JoinRules::deserialize(join_rules).unwrap_or_default();
        let restricted = self.version.authorization().restricted_join_rule;
        let allowed = rules.rooms().filter(|_| restricted).into_iter().flatten().map(RoomId::to_owned).collect();
        let visibility = HistoryVisibility::parse(visibility["history_visibility"].as_str().unwrap_or_default());
        let published = Published {
            room_id: self.room_id.clone(),
            name: text(name, "name"),
            topic: plain_topic(topic),
            canonical_alias: text(alias, "alias"),
            avatar_url: text(avatar, "url").filter(|url| url.starts_with("mxc://")),
            room_type: text(create, "type"),
            join_rule: rules.join_rule,
            num_joined_members: joined,
            world_readable: visibility == HistoryVisibility::WorldReadable,
            guest_can_join: guests["guest_access"] == "can_join",
        };
        let encryption = text(encryption, "algorithm");
        Summary { published, allowed_room_ids: allowed, encryption, room_version: Some(self.version.as_str()) }
    }

    /// The valid children of a space.
    async fn children(&self, head: &RoomHead) -> Result<Vec<Child>, ReadError> {
        let (mut children, mut left) = (Vec::new(), MAX_CHILDREN_BYTES);
        for (slot, entry) in self.others(head.root).await? {
            let key = self.slot_key(slot).await?;
            if key.event_type != "m.space.child" {
                continue;
            }
            let Some(event) = self.as_it_is_now(entry.rix).await? else { continue };
            let header = &event.header;
            let child = child(&key.state_key, &header.sender, header.origin_server_ts, event.content());
            let Some(child) = child else { continue };
            let Some(less) = left.checked_sub(child.event.get().len()) else { break };
            left = less;
            children.push(child);
            if children.len() == MAX_CHILDREN {
                break;
            }
        }
        children.sort_by(Child::compare);
        Ok(children)
    }

    async fn is_here(&self) -> Result<bool, ReadError> {
        let mut rest = Some(KeyRange::prefix(&(self.nid,)));
        while let Some(range) = rest {
            let page = self.view.scan::<LocalMembers>(&range, PAGE, Direction::Forward).await?;
            if page.rows.iter().any(|(_, membership)| *membership == Membership::Join) {
                return Ok(true);
            }
            rest = page.rest;
        }
        Ok(false)
    }
}

/// The child that an event names; none if it names no room or no server to find it through, which takes the child away.
pub(super) fn child(state_key: &str, sender: &str, origin_server_ts: u64, content: &RawValue) -> Option<Child> {
    #[derive(Serialize)]
    struct Shown<'a> {
        content: &'a RawValue,
        origin_server_ts: u64,
        sender: &'a str,
        state_key: &'a str,
        #[serde(rename = "type")]
        event_type: &'a str,
    }
    let room_id = OwnedRoomId::try_from(state_key).ok()?;
    let shown = content;
    let content: Value = serde_json::from_str(content.get()).ok()?;
    let via = content["via"].as_array().filter(|via| via.iter().any(Value::is_string))?;
    let via = via.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok()).take(MAX_VIA).collect();
    let is_valid = |order: &&str| order.len() <= MAX_ORDER && order.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let order = content["order"].as_str().filter(is_valid).map(str::to_owned);
    let shown = Shown { content: shown, origin_server_ts, sender, state_key, event_type: "m.space.child" };
    let event = serde_json::value::to_raw_value(&shown).ok()?.into();
    Some(Child { room_id, suggested: content["suggested"] == true, via, event, order, origin_server_ts })
}

/// The topic as plain text: the first plain representation (specification, `m.room.topic`), or the field that came before it.
fn plain_topic(content: &Value) -> Option<String> {
    let is_plain = |text: &&Value| text.get("mimetype").is_none_or(|mimetype| mimetype == "text/plain");
    let rich = content["m.topic"]["m.text"].as_array().and_then(|texts| texts.iter().find(is_plain));
    let text = rich.and_then(|text| text["body"].as_str()).or_else(|| content["topic"].as_str());
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}
