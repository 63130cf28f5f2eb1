//! Presence in a sync.

use std::collections::HashSet;

use primitives::RoomNid;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::{ReadError, View};
use users::presence::{Presence, PresenceState, RemotePresence};

use super::{response::Events, room::Asked};
use crate::{
    presence::{have_common, rooms_of_remote},
    read::Reads,
};

#[derive(Serialize)]
struct Content<'a> {
    presence: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_msg: Option<&'a str>,
    /// In milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_active_ago: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currently_active: Option<bool>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sender: &'a str,
    content: Content<'a>,
}

fn event(presence: &RemotePresence) -> Box<RawValue> {
    let ago = presence.last_active_ago.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
    let content = Content {
        presence: presence.state.as_str(),
        status_msg: presence.status_msg.as_deref(),
        last_active_ago: ago,
        currently_active: (presence.state == PresenceState::Online).then_some(presence.currently_active),
    };
    let event = Event { kind: "m.presence", sender: presence.user_id.as_str(), content };
    to_raw_value(&event).expect("an event serialises")
}

/// What is shown is the same for users of any server.
fn shown(presence: Presence) -> RemotePresence {
    let Presence { user_id, state, status_msg, last_active_ago, currently_active, .. } = presence;
    RemotePresence { user_id, state, status_msg, last_active_ago, currently_active }
}

impl Reads {
    /// The presence of those who share a room with the reader, as far as it changed. Of those who share one only now, and in a first sync, of
    /// all who are there.
    pub(super) async fn presence(&self, view: &View, asked: &Asked<'_>) -> Result<Events<Box<RawValue>>, ReadError> {
        let presences = self.0.users.presence();
        if !presences.is_enabled() {
            return Ok(Events::default());
        }
        let initial = asked.request.since.is_none();
        let mut all = if initial { presences.present() } else { presences.changed_since(asked.seen) };
        let newly: Vec<_> = asked.changes.joined.iter().filter(|(_, newly)| *newly).map(|(room, _)| *room).collect();
        if !newly.is_empty() && !initial {
            let told: HashSet<_> = all.iter().map(|presence| presence.user).collect();
            for presence in presences.present() {
                let rooms = self.0.sync.joined_rooms(view, presence.user).await?;
                if !told.contains(&presence.user) && have_common(&rooms, &newly) {
                    all.push(presence);
                }
            }
        }
        let filter = &asked.request.filter.presence;
        let (own, mut events) = (self.0.sync.joined_rooms(view, asked.reader.user_nid).await?, Vec::new());
        for presence in all {
            if filter.selects("m.presence", Some(presence.user_id.as_str()))
                && (presence.user == asked.reader.user_nid
                    || have_common(&own, &self.0.sync.joined_rooms(view, presence.user).await?))
            {
                events.push(event(&shown(presence)));
            }
        }
        events.extend(self.presence_of_others(view, asked, &newly).await?);
        Ok(Events { events })
    }

    /// The same of other servers' users.
    async fn presence_of_others(
        &self,
        view: &View,
        asked: &Asked<'_>,
        newly: &[RoomNid],
    ) -> Result<Vec<Box<RawValue>>, ReadError> {
        let presences = self.0.users.presence();
        let initial = asked.request.since.is_none();
        let mut all = if initial { presences.others_present() } else { presences.others_changed_since(asked.seen) };
        let told = all.len();
        if !newly.is_empty() && !initial {
            all.extend(presences.others_present());
        }
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let rooms = self.0.sync.joined_rooms(view, asked.reader.user_nid).await?;
        let filter = &asked.request.filter.presence;
        let (mut events, mut seen) = (Vec::new(), HashSet::new());
        for (place, presence) in all.iter().enumerate() {
            let user = presence.user_id.as_str();
            if !filter.selects("m.presence", Some(user)) || !seen.insert(user) {
                continue;
            }
            let met_in = if place < told { &rooms } else { newly };
            if have_common(&rooms_of_remote(view, &presence.user_id).await?, met_in) {
                events.push(event(presence));
            }
        }
        Ok(events)
    }
}
