//! Making a search: what the index finds, as far as the reader may see it, in order, a page of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use primitives::{Rix, RoomNid};
use rooms::{
    Reader,
    read::{Found, FoundContext, Texts},
    render::ClientEvent,
};
use serde::Serialize;

use crate::{
    GroupBy, Key, Search, SearchError, SearchRequest, blocking,
    follow::BEFORE_A_SEARCH,
    place::{Continuation, Place},
    words::Term,
};

/// The newest events with the words that are looked at, of all rooms together. Results and their count come from these.
const CANDIDATES: usize = 1_000;
/// Of a single room at least so many, however many rooms are searched.
const OF_A_ROOM: usize = 20;
/// The most results on a page.
const MAX_RESULTS: usize = 100;

/// Events that were found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RoomEvents {
    /// How many results there are on all pages.
    pub count: usize,
    /// The words that were looked for.
    pub highlights: Vec<String>,
    /// The results of this page, in order.
    pub results: Vec<Hit>,
    /// The state of their rooms, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<BTreeMap<String, Vec<ClientEvent>>>,
    /// The groups that were asked for: by what, then by which value of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<&'static str, BTreeMap<String, Group>>,
    /// The token of the next page; absent after an empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
}

/// A result.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    /// How well it fits: the higher, the better.
    pub rank: f64,
    /// The event.
    pub result: ClientEvent,
    /// What was around it, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<FoundContext>,
}

/// Results that have something in common.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Group {
    /// Their event ids.
    pub results: Vec<String>,
    /// Where the group stands among the groups.
    pub order: usize,
    /// The token of the group's next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
}

/// A result before it is shown.
struct Scored {
    place: Place,
    score: f64,
    found: Found,
}

impl Search {
    /// Searches the events that a reader may see.
    pub async fn search(&self, reader: &Reader, request: &SearchRequest) -> Result<RoomEvents, SearchError> {
        let term = Term::parse(&request.term).ok_or(SearchError::NoWords)?;
        let from = request.next_batch.as_deref().map(Continuation::parse).transpose()?;
        let mut scored = self.candidates(reader, request, &term).await?;
        scored.sort_unstable_by_key(|scored| std::cmp::Reverse(scored.place));
        let mut answer = RoomEvents { count: scored.len(), highlights: term.highlights(), ..RoomEvents::default() };
        if let Some(from) = &from {
            scored.retain(|scored| scored.place < from.after && is_in(scored, from.group.as_ref()));
        }
        scored.truncate(request.filter.limit().min(MAX_RESULTS));
        let group = from.as_ref().and_then(|from| from.group.clone());
        answer.next_batch = scored.last().map(|last| Continuation::again(last.place, group));
        for by in &request.group_by {
            answer.groups.insert(by.name(), grouped(&scored, *by));
        }
        if request.include_state {
            answer.state = Some(self.states(reader, &scored).await?);
        }
        for Scored { score, found, .. } in &scored {
            if let Some((result, context)) = self.0.reads.show_found(reader, found, request.around).await? {
                answer.results.push(Hit { rank: *score, result, context });
            }
        }
        Ok(answer)
    }

    /// The newest events with the words that the reader may see and wants.
    async fn candidates(
        &self,
        reader: &Reader,
        request: &SearchRequest,
        term: &Term,
    ) -> Result<Vec<Scored>, SearchError> {
        let rooms = self.0.reads.searched_rooms(reader, &request.filter).await?;
        let ends: Vec<_> = rooms.iter().map(|room| (room.nid, room.end)).collect();
        self.read_rooms(&ends, BEFORE_A_SEARCH).await?;
        let columns: Vec<_> = request.keys.iter().map(|key| key.column()).collect();
        let query = term.query(&columns);
        let bound = |left: Rix| Rix(left.0.saturating_add(1));
        let bounds: Vec<_> = rooms.iter().map(|room| (room.nid, room.left.map_or(room.end, bound))).collect();
        let of_each = (CANDIDATES / bounds.len().max(1)).max(OF_A_ROOM);
        let index = Arc::clone(&self.0.index);
        let matches = blocking(move || index.matches(&query, &bounds, of_each)).await?;
        let mut scored = Vec::new();
        for (room, rixes) in matches {
            for found in self.0.reads.found(reader, room, &rixes, &request.filter).await? {
                scored.push(score(found, request, term));
            }
        }
        Ok(scored)
    }

    async fn states(
        &self,
        reader: &Reader,
        scored: &[Scored],
    ) -> Result<BTreeMap<String, Vec<ClientEvent>>, SearchError> {
        let rooms: BTreeSet<(RoomNid, String)> =
            scored.iter().map(|scored| (scored.found.room, scored.found.room_id.to_string())).collect();
        let mut states = BTreeMap::new();
        for (room, room_id) in rooms {
            states.insert(room_id, self.0.reads.state_of_found(reader, room).await?);
        }
        Ok(states)
    }
}

fn score(found: Found, request: &SearchRequest, term: &Term) -> Scored {
    let texts = Texts::of(&found.event).unwrap_or_default();
    let text = |key: &Key| match key {
        Key::Body => texts.body.as_deref(),
        Key::Name => texts.name.as_deref(),
        Key::Topic => texts.topic.as_deref(),
    };
    let score: f64 = request.keys.iter().filter_map(text).map(|text| term.score(text)).sum();
    let at = (found.room.0, found.event.rix.0);
    let place = Place::new(request.order, score, found.event.header.origin_server_ts, at);
    Scored { place, score, found }
}

/// The value that puts a result into a group.
fn value_of(scored: &Scored, by: &str) -> String {
    if by == GroupBy::RoomId.name() {
        scored.found.room_id.to_string()
    } else {
        scored.found.event.header.sender.clone()
    }
}

fn is_in(scored: &Scored, group: Option<&(String, String)>) -> bool {
    group.is_none_or(|(by, value)| value_of(scored, by) == *value)
}

/// The results of a page by what they have in common. The group with the first result comes first.
fn grouped(scored: &[Scored], by: GroupBy) -> BTreeMap<String, Group> {
    let mut groups = BTreeMap::<String, Group>::new();
    for result in scored {
        let value = value_of(result, by.name());
        let order = groups.len();
        let group = groups.entry(value.clone()).or_insert_with(|| Group { order, ..Group::default() });
        group.results.push(result.found.event.header.event_id.clone());
        group.next_batch = Some(Continuation::again(result.place, Some((by.name().to_owned(), value))));
    }
    groups
}
