//! What a new room takes over from the one that it replaces.

use ruma::{
    OwnedRoomAliasId, OwnedUserId, RoomId, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    state_res::events::RoomCreateEvent,
};
use storage::{ReadError, schema::rooms::Membership};

use super::levels;
use crate::{
    Pdu, RoomVersion,
    alias::aliases_of,
    canonical_alias,
    create::{CreateError, CreateRoom, InitialState, default_levels},
    read::RoomView,
    room::Room,
};

/// State with an empty state key that is taken over as it is (client-server API, "Room Upgrades").
const TAKEN_OVER: [&str; 7] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
];
/// Bans that are taken over.
const MAX_BANS: usize = 5_000;

/// What an old room says that a new one may take over.
pub(super) struct OldRoom {
    version: RoomVersion,
    create: CanonicalJsonObject,
    creators: Vec<OwnedUserId>,
    /// An event that the room ends with.
    last_event: Option<String>,
    levels: Option<CanonicalJsonObject>,
    join_rules: Option<CanonicalJsonObject>,
    canonical_alias: CanonicalJsonObject,
    /// The aliases of this server that lead to it.
    aliases: Vec<OwnedRoomAliasId>,
    /// What is taken over as it is.
    others: Vec<InitialState>,
    bans: Vec<InitialState>,
}

/// Reads a room; `None` if it has gone.
pub(super) async fn read(room: &Room) -> Result<Option<OldRoom>, ReadError> {
    let context = room.context();
    let view = context.storage.view();
    let Some(seen) = RoomView::by_id(&view, &context.caches, room.id()).await? else { return Ok(None) };
    let Some(head) = seen.head().await? else { return Ok(None) };
    let Some(current) = crate::current::Current::read(context, room.info()).await? else { return Ok(None) };
    let create = current.event("m.room.create", "").await?;
    let creators = create.as_ref().map(creators).unwrap_or_default();
    let last_event = match head.extremities.last() {
        Some(rix) => seen.event(*rix).await?.map(|event| event.header.event_id.clone()),
        None => None,
    };
    let mut old = OldRoom {
        version: room.version(),
        create: create.and_then(|create| create.content_as().ok()).unwrap_or_default(),
        creators,
        last_event,
        levels: None,
        join_rules: None,
        canonical_alias: CanonicalJsonObject::new(),
        aliases: aliases_of(&view, room.id()).await?,
        others: Vec::new(),
        bans: Vec::new(),
    };
    for (slot, entry) in seen.others(head.root).await? {
        let key = seen.slot_key(slot).await?;
        let Some(event) = seen.as_it_is_now(entry.rix).await? else { continue };
        let Some(content) = event.content_as::<CanonicalJsonObject>() else { continue };
        old.take(&key.event_type, &key.state_key, content);
    }
    let mut banned = seen.members(head.root, |entry| entry.membership == Some(Membership::Ban)).await?;
    if banned.len() > MAX_BANS {
        tracing::warn!(room_id = %room.id(), bans = banned.len(), "an upgrade takes {MAX_BANS} bans over and no more");
        banned.truncate(MAX_BANS);
    }
    for (slot, entry) in banned {
        let content = seen.as_it_is_now(entry.rix).await?.and_then(|event| event.content_as()).unwrap_or_default();
        old.bans.push(ban(&seen.slot_key(slot).await?.state_key, &content));
    }
    Ok(Some(old))
}

fn creators(create: &Pdu) -> Vec<OwnedUserId> {
    let creators = RoomCreateEvent::new(create).creators(create.version().authorization());
    creators.map(|creators| creators.into_iter().collect()).unwrap_or_default()
}

fn ban(user: &str, content: &CanonicalJsonObject) -> InitialState {
    let mut ban = CanonicalJsonObject::from([("membership".to_owned(), "ban".into())]);
    ban.extend(content.get("reason").map(|reason| ("reason".to_owned(), reason.clone())));
    InitialState { event_type: "m.room.member".to_owned(), state_key: user.to_owned(), content: ban }
}

fn state(event_type: &str, content: CanonicalJsonObject) -> InitialState {
    InitialState { event_type: event_type.to_owned(), state_key: String::new(), content }
}

impl OldRoom {
    fn take(&mut self, event_type: &str, state_key: &str, content: CanonicalJsonObject) {
        match (event_type, state_key) {
            ("m.room.power_levels", "") => self.levels = Some(content),
            ("m.room.join_rules", "") => self.join_rules = Some(content),
            ("m.room.canonical_alias", "") => self.canonical_alias = content,
            (own, "") if TAKEN_OVER.contains(&own) => self.others.push(state(own, content)),
            // A link that has been taken away is an event with nothing in it.
            ("m.space.parent" | "m.space.child", other) if content.contains_key("via") => {
                let (event_type, state_key) = (event_type.to_owned(), other.to_owned());
                self.others.push(InitialState { event_type, state_key, content });
            }
            _ => {}
        }
    }

    /// What the new room's create event says beside what the server puts there. From room version 12 on it names no event of the old room (client-server API,
    /// "Room Upgrades"): the new room's id, which the tombstone names, is this event's hash, so that no event of the old room can be its last.
    pub(super) fn creation_content(
        &self,
        id: &RoomId,
        version: RoomVersion,
        additional: &[OwnedUserId],
    ) -> CanonicalJsonObject {
        let mut predecessor = CanonicalJsonObject::from([("room_id".to_owned(), id.as_str().into())]);
        let last = self.last_event.as_deref().filter(|_| !version.room_id_is_create_hash());
        predecessor.extend(last.map(|last| ("event_id".to_owned(), last.into())));
        let kept = ["type", "m.federate"].into_iter();
        let kept = kept.filter_map(|key| Some((key.to_owned(), self.create.get(key)?.clone())));
        let mut content: CanonicalJsonObject = kept.collect();
        content.insert("predecessor".to_owned(), predecessor.into());
        if !additional.is_empty() {
            let creators: Vec<CanonicalJsonValue> = additional.iter().map(|user| user.as_str().into()).collect();
            content.insert("additional_creators".to_owned(), creators.into());
        }
        content
    }

    /// The new room's state after its maker has joined. The power levels come last: until there are some, the maker may do everything, even one
    /// who will have little power.
    pub(super) fn state_for(
        mut self,
        version: RoomVersion,
        by: &UserId,
        additional: &[OwnedUserId],
    ) -> Result<Vec<InitialState>, CreateError> {
        let mut creators = additional.to_vec();
        creators.push(by.to_owned());
        let levels = match self.levels.take() {
            Some(levels) => levels::adapted(levels, (self.version, version), &self.creators, &creators),
            None => default_levels(&CreateRoom::new(by.to_owned()), version)?,
        };
        let rules = self.join_rules.take().map(|rules| state("m.room.join_rules", join_rules(rules, version)));
        let alias = self.moved_alias().map(|content| state("m.room.canonical_alias", content));
        let levels = state("m.room.power_levels", levels);
        let not_creators = |ban: &InitialState| creators.iter().all(|creator| ban.state_key != creator.as_str());
        let bans = self.bans.into_iter().filter(not_creators);
        Ok(self.others.into_iter().chain(rules).chain(alias).chain(bans).chain([levels]).collect())
    }

    /// The canonical alias event with those of its aliases that move; none if none does.
    fn moved_alias(&self) -> Option<CanonicalJsonObject> {
        let named = canonical_alias::named(&self.canonical_alias).unwrap_or_default();
        let moves = |value: &CanonicalJsonValue| {
            value.as_str().is_some_and(|text| named.iter().any(|alias| alias == text && self.aliases.contains(alias)))
        };
        let mut content = CanonicalJsonObject::new();
        content.extend(self.canonical_alias.get_key_value("alias").filter(|alias| moves(alias.1)).map(owned));
        if let Some(CanonicalJsonValue::Array(others)) = self.canonical_alias.get("alt_aliases") {
            let others: Vec<_> = others.iter().filter(|alias| moves(alias)).cloned().collect();
            if !others.is_empty() {
                content.insert("alt_aliases".to_owned(), others.into());
            }
        }
        (!content.is_empty()).then_some(content)
    }
}

fn owned((key, value): (&String, &CanonicalJsonValue)) -> (String, CanonicalJsonValue) {
    (key.clone(), value.clone())
}

/// The join rules as the new version knows them: what it doesn't know becomes what lets nobody in whom the old rule kept out.
fn join_rules(mut content: CanonicalJsonObject, version: RoomVersion) -> CanonicalJsonObject {
    let rules = version.authorization();
    let rule = match content.get("join_rule").and_then(|rule| rule.as_str()) {
        Some("knock") if !rules.knocking => "invite",
        Some("restricted") if !rules.restricted_join_rule => "invite",
        Some("knock_restricted") if !rules.knock_restricted_join_rule && rules.restricted_join_rule => "restricted",
        Some("knock_restricted") if !rules.knock_restricted_join_rule => "invite",
        _ => return content,
    };
    content.insert("join_rule".to_owned(), rule.into());
    if rule == "invite" {
        content.remove("allow");
    }
    content
}
