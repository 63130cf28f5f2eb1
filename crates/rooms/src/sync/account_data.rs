//! The user's account data in a sync.

use std::collections::BTreeSet;

use primitives::RoomNid;
use ruma::RoomId;
use serde_json::value::{RawValue, to_raw_value};
use storage::{ReadError, View};
use users::{
    AccountData, DataKey,
    push_rules::{ACCOUNT_DATA_TYPE as PUSH_RULES, Owner},
};

use super::{changes::DataChanges, response::Events, room::Asked};
use crate::read::{Reader, Reads, RoomView};

/// What a client is told of data that has been deleted (MSC3391).
const DELETED: &str = "{}";

impl Reads {
    /// The data that is of no room.
    pub(super) async fn account_data(
        &self,
        view: &View,
        changes: &DataChanges,
        asked: &Asked<'_>,
    ) -> Result<Events<Box<RawValue>>, ReadError> {
        let wants = |data_type: &str| asked.request.filter.account_data.selects(data_type, None);
        let mut data = data_of(view, None, changes.of(None), asked).await?;
        // Push rules look like account data, but are kept by themselves.
        data.retain(|(data_type, _)| data_type != PUSH_RULES);
        let mut events: Vec<_> =
            data.iter().filter(|(data_type, _)| wants(data_type)).map(|(t, content)| event(t, content)).collect();
        if wants(PUSH_RULES) && changes.of(None).includes(PUSH_RULES) {
            let owner = Owner { user: asked.reader.user_nid, user_id: &asked.reader.user_id };
            let rules = self.0.users.push_rules().in_view(view, owner).await?;
            events.push(event(PUSH_RULES, &rules.content().to_string()));
        }
        Ok(Events { events })
    }

    /// All of a user's data of a room, as events.
    pub async fn all_room_account_data(
        &self,
        reader: &Reader,
        room_id: &RoomId,
    ) -> Result<Vec<Box<RawValue>>, ReadError> {
        let view = self.0.storage.view();
        let Some(room) = self.room(&view, room_id).await? else { return Ok(Vec::new()) };
        let data = AccountData::read_all(&view, reader.user_nid, Some(room.nid)).await?;
        Ok(data.iter().map(|(data_type, content)| event(data_type, content)).collect())
    }

    /// The data of a room. All of it, if the client knows nothing of the room.
    pub(super) async fn room_account_data(
        &self,
        room: &RoomView<'_>,
        asked: &Asked<'_>,
        whole: bool,
    ) -> Result<Events<Box<RawValue>>, ReadError> {
        let filter = &asked.request.filter.room.account_data;
        let changed = if whole { Changed::All } else { asked.changes.data.of(Some(room.nid)) };
        let data = data_of(room.view, Some(room.nid), changed, asked).await?;
        let wanted = data.iter().filter(|(data_type, _)| filter.selects_ephemeral(&room.room_id, data_type));
        Ok(Events { events: wanted.map(|(data_type, content)| event(data_type, content)).collect() })
    }
}

/// What changed of one room's data, or of that of none.
#[derive(Clone, Copy)]
enum Changed<'a> {
    All,
    Types(Option<&'a BTreeSet<String>>),
}

impl Changed<'_> {
    fn includes(self, data_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Types(types) => types.is_some_and(|types| types.contains(data_type)),
        }
    }
}

impl DataChanges {
    fn of(&self, room: Option<RoomNid>) -> Changed<'_> {
        match self {
            Self::All => Changed::All,
            Self::Types(types) => Changed::Types(types.get(&room)),
        }
    }
}

/// Types and contents of what changed.
async fn data_of(
    view: &View,
    room: Option<RoomNid>,
    changed: Changed<'_>,
    asked: &Asked<'_>,
) -> Result<Vec<(String, String)>, ReadError> {
    let user = asked.reader.user_nid;
    let types = match changed {
        Changed::All => return AccountData::read_all(view, user, room).await,
        Changed::Types(types) => types.into_iter().flatten(),
    };
    let mut data = Vec::new();
    for data_type in types {
        let content = AccountData::read(view, DataKey { user, room, data_type }).await?;
        data.push((data_type.clone(), content.unwrap_or_else(|| DELETED.to_owned())));
    }
    Ok(data)
}

/// An event of that type, around a content that is JSON already.
fn event(event_type: &str, content: &str) -> Box<RawValue> {
    #[derive(serde::Serialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        event_type: &'a str,
        content: &'a RawValue,
    }
    let content = serde_json::from_str(content).expect("content is stored as JSON");
    to_raw_value(&Event { event_type, content }).expect("an event serialises")
}
