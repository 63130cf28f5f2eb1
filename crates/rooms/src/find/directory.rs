//! The directory of published rooms (client-server API, `GET` and `POST /publicRooms`).

use std::{cmp::Reverse, sync::Arc};

use primitives::RoomNid;
use serde::{Deserialize, Serialize};
use storage::{Direction, KeyRange, ReadError, View, schema::rooms::PublishedRooms};

use super::about::{About, Published};
use crate::{
    read::{ReadRoomError, Reads, RoomView},
    tokens::{BadToken, DirectoryToken},
};

/// Rooms of one page, at most; also if the client asks for no number.
const MAX_LIMIT: usize = 500;
/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Whose rooms are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Those that this server's users published.
    #[default]
    Own,
    /// Those and the ones of every other network.
    All,
    /// Those of one other network (`third_party_instance_id`).
    Instance(String),
}

/// The parameters of a request for a part of a directory, as clients and servers send them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DirectoryQuery {
    /// How many rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// A token of the directory that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Which rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<DirectoryFilter>,
    /// Rooms of all networks.
    #[serde(default)]
    pub include_all_networks: bool,
    /// Rooms of one network that isn't Matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub third_party_instance_id: Option<String>,
}

/// Which rooms of a directory are wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DirectoryFilter {
    /// What the name, the topic or the alias holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generic_search_term: Option<String>,
    /// Only rooms of these types; `null` in it: rooms without a type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_types: Option<Vec<Option<String>>>,
}

/// A query of a directory that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// Its token is none of this directory.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// It wants one network and all of them.
    #[error("`third_party_instance_id` and `include_all_networks` exclude each other")]
    Networks,
}

impl DirectoryQuery {
    /// What is asked of this server's own directory.
    ///
    /// # Errors
    /// The parameters contradict each other.
    pub fn request(self) -> Result<DirectoryRequest, BadQuery> {
        // Clients send an empty text for none.
        let network = match (self.include_all_networks, self.third_party_instance_id.filter(|id| !id.is_empty())) {
            (false, None) => Network::Own,
            (true, None) => Network::All,
            (false, Some(instance)) => Network::Instance(instance),
            (true, Some(_)) => return Err(BadQuery::Networks),
        };
        let since = self.since.filter(|since| !since.is_empty()).map(|since| since.parse()).transpose()?;
        let filter = self.filter.unwrap_or_default();
        let (search_term, room_types) = (filter.generic_search_term, filter.room_types);
        Ok(DirectoryRequest { limit: self.limit, since, search_term, room_types, network })
    }
}

/// Which part of the directory is asked for.
#[derive(Clone, Debug, Default)]
pub struct DirectoryRequest {
    /// How many rooms; 500 if not given, which is also the most.
    pub limit: Option<u64>,
    /// Where the page begins or ends.
    pub since: Option<DirectoryToken>,
    /// What the name, the topic or the alias holds, whatever the case of its letters.
    pub search_term: Option<String>,
    /// Only rooms of these types; `None` in it: rooms without a type.
    pub room_types: Option<Vec<Option<String>>>,
    /// Whose rooms.
    pub network: Network,
}

/// A page of the directory.
#[derive(Clone, Debug, Serialize)]
pub struct DirectoryResponse {
    /// The rooms: those with the most members first, those with as many in the order in which this server came to know them.
    pub chunk: Vec<Published>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<DirectoryToken>,
    /// Where the page before ends, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<DirectoryToken>,
    /// How many rooms there are on all pages.
    pub total_room_count_estimate: usize,
}

/// A listed room. Sorts as the directory shows it.
type Listed = ((Reverse<u32>, RoomNid), Arc<About>);

impl Reads {
    /// Whether a room is published.
    pub async fn is_published(&self, room: RoomNid) -> Result<bool, ReadRoomError> {
        Ok(self.0.storage.view().contains::<PublishedRooms>(&(room,)).await?)
    }

    /// A page of this server's directory.
    pub async fn public_rooms(&self, request: &DirectoryRequest) -> Result<DirectoryResponse, ReadRoomError> {
        let view = self.0.storage.view();
        let mut listed = match request.network {
            Network::Own | Network::All => self.listed(&view, request).await?,
            // No application service has a way to publish rooms yet: no other network has any.
            Network::Instance(_) => Vec::new(),
        };
        listed.sort_unstable_by_key(|room| room.0);
        let limit = request.limit.map_or(MAX_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT));
        let limit = limit.clamp(1, MAX_LIMIT);
        let place = |since: DirectoryToken| (Reverse(since.members), since.room);
        let (start, end) = match request.since {
            None => (0, limit),
            Some(since) if since.backward => {
                let end = listed.partition_point(|room| room.0 < place(since));
                (end.saturating_sub(limit), end)
            }
            Some(since) => {
                let start = listed.partition_point(|room| room.0 <= place(since));
                (start, start.saturating_add(limit))
            }
        };
        let end = end.min(listed.len());
        let shown = &listed[start..end];
        let token = |backward| {
            move |room: &Listed| {
                let (Reverse(members), room) = room.0;
                DirectoryToken { backward, members, room }
            }
        };
        Ok(DirectoryResponse {
            next_batch: shown.last().filter(|_| end < listed.len()).map(token(false)),
            prev_batch: shown.first().filter(|_| start > 0).map(token(true)),
            total_room_count_estimate: listed.len(),
            chunk: shown.iter().map(|(_, about)| about.summary.published.clone()).collect(),
        })
    }

    /// The published rooms that a user of this server is in and that the request wants.
    async fn listed(&self, view: &View, request: &DirectoryRequest) -> Result<Vec<Listed>, ReadError> {
        let term = request.search_term.as_ref().map(|term| term.trim().to_lowercase());
        let mut listed = Vec::new();
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = view.scan_keys::<PublishedRooms>(&range, PAGE, Direction::Forward).await?;
            for (nid,) in page.keys {
                let Some(room) = RoomView::by_number(view, &self.0.caches, nid).await? else { continue };
                let Some(about) = room.about().await?.filter(|about| about.is_here) else { continue };
                let published = &about.summary.published;
                if has_type(published, request.room_types.as_deref()) && matches(published, term.as_deref()) {
                    listed.push(((Reverse(published.num_joined_members), nid), about));
                }
            }
            rest = page.rest;
        }
        Ok(listed)
    }
}

fn has_type(room: &Published, types: Option<&[Option<String>]>) -> bool {
    types.is_none_or(|types| types.contains(&room.room_type))
}

fn matches(room: &Published, term: Option<&str>) -> bool {
    let Some(term) = term else { return true };
    let mut texts = [&room.name, &room.topic, &room.canonical_alias].into_iter().flatten();
    texts.any(|text| text.to_lowercase().contains(term))
}
