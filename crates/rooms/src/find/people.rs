//! Searching for people (client-server API, `POST /user_directory/search`).
//!
//! A user of this server is found by their profile alone: what they call themselves in one room is that room's. A user of another server is found
//! by what they call themselves in a room that the searcher is in too.

use std::collections::HashMap;

use primitives::{RoomNid, Slot, UserNid};
use ruma::{OwnedUserId, UserId};
use serde::Serialize;
use serde_json::Value;
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{Membership, RoomServerSlots},
};
use users::directory::{Fit, fit};

use crate::{
    context::read_error,
    read::{ReadRoomError, Reader, Reads, RoomView},
};

/// Users of one answer if the client asks for no number, and the most that it gets.
const DEFAULT_LIMIT: usize = 10;
const MAX_LIMIT: usize = 50;
/// Members from other servers that one search looks at.
const MAX_REMOTE_MEMBERS: usize = 5_000;
/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Among which of this server's users people are searched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Searched {
    /// Those who share a room with the searcher or are in a room that everybody may join or read.
    #[default]
    MayMeet,
    /// All.
    Everybody,
}

/// Whom a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FoundPeople {
    /// The users, the best first.
    pub results: Vec<Person>,
    /// Whether there were more.
    pub limited: bool,
}

/// A user who was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their id.
    pub user_id: OwnedUserId,
    /// What they call themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The `mxc:` address of their avatar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}

/// What results are ordered by: how well they fit, whether they call themselves something, whether they are of another server, the id.
type Place = (Fit, bool, bool, OwnedUserId);

impl Reads {
    /// The users whose name or id fits a term: those of this server as far as they are searched, and those of other servers who
    /// share a room with the reader. The reader is among them only where strangers would find them too.
    pub async fn find_people(
        &self,
        reader: &Reader,
        term: &str,
        limit: Option<u64>,
        searched: Searched,
    ) -> Result<FoundPeople, ReadRoomError> {
        let limit = limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT)).min(MAX_LIMIT);
        let view = self.0.storage.view();
        let mut found = self.local_people(&view, reader, term, limit + 1, searched).await?;
        found.extend(self.remote_people(&view, reader, term).await?);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let limited = found.len() > limit;
        Ok(FoundPeople { results: found.into_iter().take(limit).map(|(_, person)| person).collect(), limited })
    }

    /// The best users of this server who fit, up to a number.
    async fn local_people(
        &self,
        view: &View,
        reader: &Reader,
        term: &str,
        most: usize,
        searched: Searched,
    ) -> Result<Vec<(Place, Person)>, ReadError> {
        let own = self.0.sync.joined_rooms(view, reader.user_nid).await?;
        let mut people = Vec::new();
        for found in self.0.users.directory().find(term).await.map_err(read_error)? {
            if people.len() == most {
                break;
            }
            // The reader is in all of their own rooms: they find themselves as a stranger would, or not at all.
            let is_reader = found.user_nid == reader.user_nid;
            let shared = if is_reader { &[][..] } else { &own };
            let meets = match searched {
                Searched::Everybody => !is_reader,
                Searched::MayMeet => self.may_meet(view, shared, found.user_nid).await?,
            };
            if !meets {
                continue;
            }
            let profile = self.0.users.profiles().get(&found.user_id).await.map_err(read_error)?.unwrap_or_default();
            let text = |text: Option<&str>| text.map(str::to_owned);
            let (display_name, avatar_url) = (text(profile.display_name()), text(profile.avatar_url()));
            let place = (found.fit, found.nameless, false, found.user_id.clone());
            people.push((place, Person { user_id: found.user_id, display_name, avatar_url }));
        }
        Ok(people)
    }

    /// Whether a user is in one of these rooms, which are sorted, or in one that everybody may join or read.
    async fn may_meet(&self, view: &View, own: &[RoomNid], user: UserNid) -> Result<bool, ReadError> {
        let theirs = self.0.sync.joined_rooms(view, user).await?;
        if theirs.iter().any(|room| own.binary_search(room).is_ok()) {
            return Ok(true);
        }
        for nid in theirs.iter() {
            let Some(room) = RoomView::by_number(view, &self.0.caches, *nid).await? else { continue };
            let Some(about) = room.about().await? else { continue };
            let published = &about.summary.published;
            if published.world_readable || published.join_rule == "public" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The members from other servers in the reader's rooms who fit.
    async fn remote_people(&self, view: &View, reader: &Reader, term: &str) -> Result<Vec<(Place, Person)>, ReadError> {
        let mut people = HashMap::new();
        let mut left = MAX_REMOTE_MEMBERS;
        for nid in self.0.sync.joined_rooms(view, reader.user_nid).await?.iter() {
            if left == 0 {
                break;
            }
            let Some(room) = RoomView::by_number(view, &self.0.caches, *nid).await? else { continue };
            let slots = room.remote_members(left).await?;
            left -= slots.len();
            for (place, person) in room.fitting(&slots, term).await? {
                people.entry(person.user_id.clone()).or_insert((place, person));
            }
        }
        Ok(people.into_values().collect())
    }
}

impl RoomView<'_> {
    /// The slots that members from other servers have or had.
    async fn remote_members(&self, most: usize) -> Result<Vec<Slot>, ReadError> {
        let mut slots = Vec::new();
        let mut rest = Some(KeyRange::prefix(&(self.nid,)));
        while let Some(range) = rest.filter(|_| slots.len() < most) {
            let limit = PAGE.min(most - slots.len());
            let page = self.view.scan_keys::<RoomServerSlots>(&range, limit, Direction::Forward).await?;
            slots.extend(page.keys.into_iter().map(|(_, _, slot)| slot));
            rest = page.rest;
        }
        Ok(slots)
    }

    /// Those of some members who are in the room and fit a term.
    async fn fitting(&self, slots: &[Slot], term: &str) -> Result<Vec<(Place, Person)>, ReadError> {
        let Some(head) = self.head().await?.filter(|_| !slots.is_empty()) else { return Ok(Vec::new()) };
        let entries = self.entries(head.root, slots).await?.into_iter().flatten();
        let joined: Vec<_> = entries.filter(|entry| entry.membership == Some(Membership::Join)).collect();
        let rixes: Vec<_> = joined.into_iter().map(|entry| entry.rix).collect();
        let mut fitting = Vec::new();
        for event in self.events(&rixes).await? {
            let event = if self.redaction_of(&event).await?.is_some() { self.pruned(&event)? } else { event };
            let Ok(user_id) = <&UserId>::try_from(event.header.state_key.as_deref().unwrap_or_default()) else {
                continue;
            };
            let content: Value = event.content_as().unwrap_or_default();
            let text = |key: &str| content[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            let display_name = text("displayname");
            let Some(fit) = fit(term, user_id.as_str(), display_name.as_deref()) else { continue };
            let place = (fit, display_name.is_none(), true, user_id.to_owned());
            let person = Person { user_id: user_id.to_owned(), display_name, avatar_url: text("avatar_url") };
            fitting.push((place, person));
        }
        Ok(fitting)
    }
}
