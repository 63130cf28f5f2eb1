//! What a full-text search needs of rooms: the texts that can be found, and of what was found that which a reader may see
//! (`POST /search`; specification, "Server Side Search").

use std::{collections::BTreeMap, sync::Arc};

use primitives::{Rank, Rix, RoomNid, StreamPosition};
use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{EventHeaders, EventKind, Membership, Memberships, Redactions, RoomHeads, Verdict},
};

use super::{
    Access, PageDirection, Reader, Reads, RoomView, Shower,
    messages::{BEGINNING, END, PageScan, after, page, page_token},
};
use crate::{
    filter::{EventFormat, RoomEventFilter},
    render::{ClientEvent, StoredEvent},
    tokens::PageToken,
    visibility::Standing,
};

/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// The words of an event that can be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// `content.body` of a message.
    pub body: Option<String>,
    /// `content.name` of the room's name.
    pub name: Option<String>,
    /// `content.topic` of the room's topic, and its plain text in `m.topic`.
    pub topic: Option<String>,
}

/// What a stored event means for an index of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Indexed {
    /// The event can be found by these.
    Texts(Rix, Texts),
    /// An event has been redacted: it can't be found any more.
    Gone(Rix),
}

/// Some stored events of a room, as an index sees them.
#[derive(Clone, Debug)]
pub struct IndexPage {
    /// What they mean; most mean nothing.
    pub entries: Vec<Indexed>,
    /// The number of the first event that was not looked at.
    pub next: Rix,
}

/// A room that a reader may search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchedRoom {
    /// The room.
    pub nid: RoomNid,
    /// The number that the room's next event will have.
    pub end: Rix,
    /// Where the reader left: nothing with a higher number is theirs to see.
    pub left: Option<Rix>,
}

/// An event that was found, and that the reader may see.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its room.
    pub room: RoomNid,
    /// Its room's id.
    pub room_id: OwnedRoomId,
    /// The event.
    pub event: Arc<StoredEvent>,
}

/// What was around an event that was found.
#[derive(Clone, Debug, Serialize)]
pub struct FoundContext {
    /// From here `/messages` goes on to older events.
    pub start: PageToken,
    /// From here `/messages` goes on to newer events.
    pub end: PageToken,
    /// What was before it, newest first.
    pub events_before: Vec<ClientEvent>,
    /// What came after it, oldest first.
    pub events_after: Vec<ClientEvent>,
    /// Who sent these events, as they were called then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_info: Option<BTreeMap<String, MemberProfile>>,
}

/// How a member was called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberProfile {
    /// Their display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub displayname: Option<String>,
    /// Their avatar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// How much of what was around an event is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Around {
    /// Events before it.
    pub before: usize,
    /// Events after it.
    pub after: usize,
    /// Also how their senders were called.
    pub profiles: bool,
}

impl Texts {
    /// The words of an event by which it can be found; none of most events.
    pub fn of(event: &StoredEvent) -> Option<Self> {
        let content = || event.content_as::<Value>();
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let texts = match (&*event.header.event_type, event.header.state_key.as_deref()) {
            ("m.room.message", None) => Self { body: text(&content()?["body"]), ..Self::default() },
            ("m.room.name", Some("")) => Self { name: text(&content()?["name"]), ..Self::default() },
            ("m.room.topic", Some("")) => {
                let content = content()?;
                let plain = plain_topic(&content);
                let topic = text(&content["topic"]);
                let topic = match (topic, plain) {
                    (Some(topic), Some(plain)) if topic != plain => Some(format!("{topic}\n{plain}")),
                    (topic, plain) => topic.or(plain),
                };
                Self { topic, ..Self::default() }
            }
            _ => return None,
        };
        (texts != Self::default()).then_some(texts)
    }
}

/// The plain text of a topic that has several forms.
fn plain_topic(content: &Value) -> Option<String> {
    let forms = content["m.topic"]["m.text"].as_array()?;
    let plain = forms.iter().find(|form| form.get("mimetype").is_none_or(|mime| mime == "text/plain"))?;
    plain["body"].as_str().map(ToOwned::to_owned)
}

impl Reads {
    /// Every room and the number that its next event will have, from a room on: at most `limit`.
    pub async fn room_ends(&self, from: RoomNid, limit: usize) -> Result<Vec<(RoomNid, Rix)>, ReadError> {
        let range = KeyRange::from(&(), &(from,));
        let page = self.0.storage.view().scan::<RoomHeads>(&range, limit, Direction::Forward).await?;
        let there = page.rows.into_iter().filter(|(_, head)| !head.purging);
        Ok(there.map(|((nid,), head)| (nid, Rix(head.next_rix))).collect())
    }

    /// The rooms that may have changed since a position, with the numbers that their next events will have; and the position that this is as of.
    pub async fn changed_rooms(
        &self,
        since: StreamPosition,
    ) -> Result<(Vec<(RoomNid, Rix)>, StreamPosition), ReadError> {
        let view = self.0.storage.view();
        let changed: Vec<_> = self.0.activity.changed_since(since).into_iter().map(|room| (room,)).collect();
        let heads = view.multi_get::<RoomHeads>(&changed).await?;
        let ends = changed.into_iter().zip(heads).filter_map(|((room,), head)| Some((room, Rix(head?.next_rix))));
        Ok((ends.collect(), view.position()))
    }

    /// What the events of a room from a number on mean for an index of texts. Looks at no more than `limit` of them.
    pub async fn index_page(&self, nid: RoomNid, from: Rix, limit: usize) -> Result<IndexPage, ReadError> {
        let view = self.0.storage.view();
        let mut index = IndexPage { entries: Vec::new(), next: from };
        let Some(room) = RoomView::by_number(&view, &self.0.caches, nid).await? else { return Ok(index) };
        let range = KeyRange::from(&(nid,), &(nid, from));
        let page = view.scan::<EventHeaders>(&range, limit, Direction::Forward).await?;
        for ((_, rix), header) in page.rows {
            index.next = Rix(rix.0 + 1);
            let header = header.value;
            if header.verdict != Verdict::Accepted || header.kind == EventKind::Outlier {
                continue;
            }
            match &*header.event_type {
                "m.room.redaction" => index.entries.extend(room.redacted_by(rix).await?.map(Indexed::Gone)),
                "m.room.message" | "m.room.name" | "m.room.topic" => {
                    let Some(event) = room.event(rix).await? else { continue };
                    if room.redaction_of(&event).await?.is_none() {
                        index.entries.extend(Texts::of(&event).map(|texts| Indexed::Texts(rix, texts)));
                    }
                }
                _ => {}
            }
        }
        Ok(index)
    }

    /// The rooms whose events a reader may search: those they are in, and those that they left and did not forget; as the filter says.
    pub async fn searched_rooms(
        &self,
        reader: &Reader,
        filter: &RoomEventFilter,
    ) -> Result<Vec<SearchedRoom>, ReadError> {
        let view = self.0.storage.view();
        let mut rooms = Vec::new();
        let mut rest = Some(KeyRange::prefix(&(reader.user_nid,)));
        while let Some(range) = rest {
            let page = view.scan::<Memberships>(&range, PAGE, Direction::Forward).await?;
            rest = page.rest;
            for ((_, nid), row) in page.rows {
                let was_in = !matches!(row.value.membership, Membership::Invite | Membership::Knock);
                if was_in && !row.value.forgotten {
                    rooms.extend(self.searched_room(&view, reader, filter, nid).await?);
                }
            }
        }
        Ok(rooms)
    }

    async fn searched_room(
        &self,
        view: &View,
        reader: &Reader,
        filter: &RoomEventFilter,
        nid: RoomNid,
    ) -> Result<Option<SearchedRoom>, ReadError> {
        let Some(room) = RoomView::by_number(view, &self.0.caches, nid).await? else { return Ok(None) };
        if !filter.selects_room(&room.room_id) {
            return Ok(None);
        }
        let Some(head) = room.head().await? else { return Ok(None) };
        let shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let left = match shower.eyes.standing() {
            Standing::Joined => None,
            Standing::Left { rix, .. } => Some(rix),
            Standing::Outside => return Ok(None),
        };
        Ok(Some(SearchedRoom { nid, end: Rix(head.next_rix), left }))
    }

    /// Of events of a room, those that a reader may see and wants. What has been redacted is not found, nor what an ignored user said.
    pub async fn found(
        &self,
        reader: &Reader,
        nid: RoomNid,
        rixes: &[Rix],
        filter: &RoomEventFilter,
    ) -> Result<Vec<Found>, ReadError> {
        let view = self.0.storage.view();
        let Some(room) = RoomView::by_number(&view, &self.0.caches, nid).await? else { return Ok(Vec::new()) };
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if room.head().await?.is_none() {
            return Ok(Vec::new());
        }
        // Read together; what was read is in the cache when it is asked for.
        room.events(rixes).await?;
        let mut found = Vec::new();
        for rix in rixes {
            let Some(event) = shower.wanted(*rix, filter).await? else { continue };
            if !shower.is_emptied(&event).await? {
                found.push(Found { room: nid, room_id: room.room_id.clone(), event });
            }
        }
        Ok(found)
    }

    /// Shows an event that was found, with what was around it if that is asked for.
    pub async fn show_found(
        &self,
        reader: &Reader,
        found: &Found,
        around: Option<Around>,
    ) -> Result<Option<(ClientEvent, Option<FoundContext>)>, ReadError> {
        let view = self.0.storage.view();
        let Some(room) = RoomView::by_number(&view, &self.0.caches, found.room).await? else { return Ok(None) };
        let Some(head) = room.head().await? else { return Ok(None) };
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let Some(shown) = shower.show_with_relations(&[Arc::clone(&found.event)]).await?.into_iter().next() else {
            return Ok(None);
        };
        let Some(around) = around else { return Ok(Some((shown, None))) };
        let end = Access::of(&head, &mut shower.eyes).await.map_or(END, |access| access.cut(END));
        let context = context_of(&mut shower, &found.event, around, end).await?;
        Ok(Some((shown, Some(context))))
    }

    /// The state of a room as a reader sees it: the current one, or for one who left, that of then.
    pub async fn state_of_found(&self, reader: &Reader, nid: RoomNid) -> Result<Vec<ClientEvent>, ReadError> {
        let view = self.0.storage.view();
        let Some(room) = RoomView::by_number(&view, &self.0.caches, nid).await? else { return Ok(Vec::new()) };
        let Some(head) = room.head().await? else { return Ok(Vec::new()) };
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let Ok(access) = Access::of(&head, &mut shower.eyes).await else { return Ok(Vec::new()) };
        let mut entries = room.others(access.root()).await?;
        entries.extend(room.members(access.root(), |_| true).await?);
        shower.show_all(entries.into_iter().map(|(_, entry)| entry.rix).collect()).await
    }
}

impl RoomView<'_> {
    /// The event that a redaction emptied, if it applies.
    async fn redacted_by(&self, redaction: Rix) -> Result<Option<Rix>, ReadError> {
        let Some(event) = self.event(redaction).await? else { return Ok(None) };
        let target = event.fields(EventFormat::Client).find(|(name, _)| *name == "redacts");
        let Some(target) = target.and_then(|(_, value)| serde_json::from_str::<String>(value.get()).ok()) else {
            return Ok(None);
        };
        let key = (self.nid, self.caches.hash.hash16(&[target.as_bytes()]), redaction);
        let Ok(target) = ruma::EventId::parse(&target) else { return Ok(None) };
        if self.view.contains::<Redactions>(&key).await? { self.find_event(&target).await } else { Ok(None) }
    }
}

/// What was around an event.
async fn context_of(
    shower: &mut Shower<'_>,
    event: &StoredEvent,
    around: Around,
    end: (Rank, Rix),
) -> Result<FoundContext, ReadError> {
    let room = shower.room;
    let here = (event.header.rank, event.rix);
    let scan = |direction, from, to, limit| PageScan { direction, from, to, limit, stop_at_gaps: false };
    let filter = RoomEventFilter::default();
    let before = scan(PageDirection::Backward, here, BEGINNING, around.before);
    let before = page(shower, before, &filter).await?;
    let later = page(shower, scan(PageDirection::Forward, after(here), end, around.after), &filter).await?;
    let first = before.events.last().map_or(here, |event| (event.header.rank, event.rix));
    let last = later.events.last().map_or(here, |event| (event.header.rank, event.rix));
    let profile_info = if around.profiles {
        let senders = before.events.iter().chain(&later.events).map(|event| event.header.sender.as_str());
        Some(profiles(room, event, senders.chain([event.header.sender.as_str()])).await?)
    } else {
        None
    };
    Ok(FoundContext {
        start: page_token(room, before.next.unwrap_or(first)),
        end: page_token(room, later.next.unwrap_or_else(|| after(last))),
        events_before: shower.show_with_relations(&before.events).await?,
        events_after: shower.show_with_relations(&later.events).await?,
        profile_info,
    })
}

/// How users were called when an event was sent.
async fn profiles<'a>(
    room: &RoomView<'_>,
    at: &StoredEvent,
    users: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, MemberProfile>, ReadError> {
    let mut profiles = BTreeMap::new();
    for user in users {
        if profiles.contains_key(user) {
            continue;
        }
        let Some(rix) = room.state_at(at.header.root_after, "m.room.member", user).await? else { continue };
        let member = room.event(rix).await?;
        let profile = member.and_then(|member| member.content_as::<MemberProfile>()).unwrap_or_default();
        profiles.insert(user.to_owned(), profile);
    }
    Ok(profiles)
}
