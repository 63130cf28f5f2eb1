//! Events that were made elsewhere: forks, their order, and what is refused.

use std::collections::BTreeMap;

use primitives::{NodeId, Rix, ServerKey, UnixMillis};
use proptest::prelude::*;
use ruma::{
    EventId, OwnedEventId, ServerName, UserId, events::TimelineEventType, serde::Base64, server_name,
    signatures::PublicKeyMap,
};
use serde_json::{Value, json, value::to_raw_value};
use storage::{
    Direction, KeyRange,
    schema::rooms::{
        EventHeader, EventHeaders, EventIdList, EventKind, Gaps, Membership, Memberships, Redactions, RoomHeads,
        RoomLog, RoomLogEntry, RoomServerSlots, Timeline, Verdict,
    },
};

use super::{ALICE, BOB, Server, current, object, say, set, uid, user};
use crate::{
    Details, Incoming, Outgoing, Pdu, Received, Room, RoomVersion,
    auth::auth_types_for,
    change::Change,
    event_key::find_event,
    memory::Memory,
    pdu::{BuildInput, build},
};

/// The other server, and a copy of this one that makes events behind its back.
pub(super) struct Author {
    key: ServerKey,
    name: &'static ServerName,
    now: u64,
}

impl Author {
    fn far() -> Self {
        Self { key: ServerKey::new("k", [9; 32]).expect("valid"), name: server_name!("y"), now: 1_700_000_000_500 }
    }

    pub(super) fn own() -> Self {
        Self { key: ServerKey::new("1", [7; 32]).expect("valid"), name: server_name!("x"), ..Self::far() }
    }
}

pub(super) fn keys() -> PublicKeyMap {
    let public = Base64::new(Author::far().key.public().to_vec());
    PublicKeyMap::from([("y".to_owned(), BTreeMap::from([("ed25519:k".to_owned(), public)]))])
}

/// What an event is to say.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) sender: String,
    pub(super) kind: &'static str,
    pub(super) state_key: Option<String>,
    pub(super) content: Value,
}

pub(super) fn message(sender: &str) -> Draft {
    Draft { sender: sender.to_owned(), kind: "m.room.message", state_key: None, content: json!({ "body": "x" }) }
}

pub(super) fn state(sender: &str, kind: &'static str, key: &str, content: Value) -> Draft {
    Draft { sender: sender.to_owned(), kind, state_key: Some(key.to_owned()), content }
}

pub(super) fn member(sender: &str, target: &str, membership: &str) -> Draft {
    state(sender, "m.room.member", target, json!({ "membership": membership }))
}

/// What a server says of a room.
pub(super) struct Look<'a> {
    pub(super) server: &'a Server,
    pub(super) room: &'a Room,
}

impl Look<'_> {
    pub(super) async fn rix(&self, id: &EventId) -> Rix {
        find_event(&self.server.storage.view(), self.room.nid(), id).await.expect("readable").expect("stored")
    }

    pub(super) async fn header(&self, id: &EventId) -> EventHeader {
        let key = (self.room.nid(), self.rix(id).await);
        self.server.storage.view().get::<EventHeaders>(&key).await.expect("readable").expect("there").value
    }

    async fn pdu(&self, id: &EventId) -> Pdu {
        let view = self.server.storage.view();
        let rix = self.rix(id).await;
        crate::load::event(&view, self.room.nid(), self.room.version(), rix).await.expect("readable").pdu
    }

    pub(super) async fn tips(&self) -> Vec<OwnedEventId> {
        let view = self.server.storage.view();
        let head = view.get::<RoomHeads>(&(self.room.nid(),)).await.expect("readable").expect("there");
        let mut ids = Vec::new();
        for rix in head.extremities {
            let header = view.get::<EventHeaders>(&(self.room.nid(), rix)).await.expect("readable").expect("there");
            ids.push(header.value.event_id.try_into().expect("an id"));
        }
        ids.sort();
        ids
    }

    async fn change(&self) -> Change {
        let view = self.server.storage.view();
        let info = std::sync::Arc::clone(self.room.info());
        let memory = Memory::load(&view, info).await.expect("readable").expect("there");
        Change::new(std::sync::Arc::clone(self.room.context()), view, memory)
    }

    async fn root(&self, prev: &[OwnedEventId]) -> (Change, NodeId) {
        let mut change = self.change().await;
        let mut roots = Vec::new();
        for id in prev {
            roots.push(self.header(id).await.root_after);
        }
        let root = change.resolved(&roots).await.expect("resolves");
        (change, root)
    }

    /// The state after some events, by type and state key.
    pub(super) async fn state_after(&self, prev: &[OwnedEventId]) -> BTreeMap<(String, String), String> {
        let (change, root) = self.root(prev).await;
        let mut state = BTreeMap::new();
        for difference in change.trees.diff(NodeId(0), root).await.expect("readable") {
            let key = change.slot_key(difference.slot).await.expect("readable");
            let rix = difference.after.expect("held").rix;
            state.insert((key.event_type, key.state_key), change.header(rix).await.expect("readable").event_id);
        }
        state
    }

    /// Makes an event that follows some others, authorised by the state there.
    pub(super) async fn make(&self, author: &mut Author, prev: &[OwnedEventId], draft: Draft) -> Pdu {
        let version = self.room.version();
        let (mut change, root) = self.root(prev).await;
        let content = to_raw_value(&draft.content).expect("JSON");
        let (kind, sender) = (TimelineEventType::from(draft.kind), user(&draft.sender));
        let auth = auth_types_for(version, &kind, &sender, draft.state_key.as_deref(), &content).expect("well-formed");
        let slice = change.state_events(root, &auth).await.expect("readable");
        let auth: Vec<_> = slice.0.iter().map(|(_, _, event)| event.pdu.event_id().clone()).collect();
        self.make_with(author, prev, &auth, &draft).await
    }

    pub(super) async fn make_with(
        &self,
        author: &mut Author,
        prev: &[OwnedEventId],
        auth: &[OwnedEventId],
        draft: &Draft,
    ) -> Pdu {
        let mut hashes = BTreeMap::new();
        if self.room.version().references_are_pairs() {
            for id in prev.iter().chain(auth) {
                hashes.insert(id.clone(), self.pdu(id).await.reference_hash().expect("hashable"));
            }
        }
        author.now += 1;
        let input = BuildInput {
            version: self.room.version(),
            room_id: Some(self.room.id()),
            sender: uid(&draft.sender),
            event_type: draft.kind,
            state_key: draft.state_key.as_deref(),
            content: object(&draft.content),
            redacts: None,
            prev_events: prev,
            auth_events: auth,
            reference_hashes: Some(&hashes),
            depth: 20,
            origin_server_ts: UnixMillis(author.now),
            extra: Vec::new(),
        };
        build(input, &author.key, author.name).expect("builds")
    }

    pub(super) async fn receive(&self, pdu: &Pdu) -> Received {
        self.room.receive(vec![Incoming::new(pdu.json())], &keys()).await.expect("judged").remove(0)
    }

    pub(super) async fn accept(&self, pdu: &Pdu) {
        let expected = Received::Stored(pdu.event_id().clone(), Verdict::Accepted);
        assert_eq!(self.receive(pdu).await, expected);
    }

    pub(super) async fn verdict(&self, pdu: &Pdu) -> Verdict {
        match self.receive(pdu).await {
            Received::Stored(_, verdict) => verdict,
            other => panic!("not stored: {other:?}"),
        }
    }

    pub(super) async fn timeline(&self) -> Vec<Rix> {
        let range = KeyRange::prefix(&(self.room.nid(),));
        let page = self.server.storage.view().scan::<Timeline>(&range, 1_000, Direction::Forward).await;
        page.expect("readable").rows.into_iter().map(|((_, _, rix), ())| rix).collect()
    }
}

/// A public room that `@r0:y` has joined.
pub(super) async fn joined(server: &Server, version: &str) -> (Room, Author) {
    let room = server.public(version).await;
    let mut far = Author::far();
    let look = Look { server, room: &room };
    let tips = look.tips().await;
    let join = look.make(&mut far, &tips, member("@r0:y", "@r0:y", "join")).await;
    look.accept(&join).await;
    (room, far)
}

#[tokio::test]
async fn i6_a_fork_is_resolved_and_the_next_event_joins_it() {
    let server = Server::new().await;
    for version in RoomVersion::supported() {
        let (room, mut far) = joined(&server, version.as_str()).await;
        let look = Look { server: &server, room: &room };
        set(&room, ALICE, "m.room.power_levels", "", json!({ "users": if version.privileges_creators() { json!({}) } else { json!({ ALICE: 100 }) }, "state_default": 0 })).await.expect("sends");
        let base = look.tips().await;
        let ours = set(&room, ALICE, "m.room.topic", "", json!({ "topic": "ours" })).await.expect("sends");
        let theirs = look.make(&mut far, &base, state("@r0:y", "m.room.topic", "", json!({ "topic": "theirs" }))).await;
        look.accept(&theirs).await;
        let name = look
            .make(&mut far, &[theirs.event_id().clone()], state("@r0:y", "m.room.name", "", json!({ "name": "n" })))
            .await;
        look.accept(&name).await;
        let mut forked = vec![ours.event_id, name.event_id().clone()];
        forked.sort();
        assert_eq!(look.tips().await, forked, "{version}");
        let topic = current(&room, "m.room.topic", "").await.expect("there");
        let resolved = look.state_after(&forked).await;
        assert_eq!(resolved[&("m.room.topic".to_owned(), String::new())], topic.event_id().as_str());
        assert_eq!(current(&room, "m.room.name", "").await.expect("there").event_id(), name.event_id());
        let merge = say(&room, ALICE, "together").await.expect("sends");
        assert_eq!(look.tips().await, std::slice::from_ref(&merge.event_id));
        assert_eq!(look.header(&merge.event_id).await.prev.len(), 2);
        assert_eq!(look.state_after(&[merge.event_id]).await, resolved);
    }
}

#[tokio::test]
async fn i1_a_local_member_that_resolution_takes_out_is_told() {
    let server = Server::new().await;
    let (room, _) = joined(&server, "11").await;
    let look = Look { server: &server, room: &room };
    let base = look.tips().await;
    // Alice bans Bob on one branch; on the other, which is ours and older, he joins and speaks.
    let ban = look.make(&mut Author::own(), &base, member(ALICE, BOB, "ban")).await;
    room.join(uid(BOB), Details::default()).await.expect("joins");
    say(&room, BOB, "hello").await.expect("sends");
    look.accept(&ban).await;
    let member = current(&room, "m.room.member", BOB).await.expect("there");
    assert_eq!(member.event_id(), ban.event_id());
    let row = server.storage.view().get::<Memberships>(&(server.nid(BOB).await, room.nid())).await.expect("readable");
    let row = row.expect("there");
    assert_eq!((row.value.membership, row.value.rix), (Membership::Ban, look.rix(ban.event_id()).await));
    assert!(say(&room, BOB, "still here?").await.is_err());
}

#[tokio::test]
async fn i4_a_rejected_event_is_stored_and_is_nothing_else() {
    let server = Server::new().await;
    for version in ["1", "11", "12"] {
        let (room, mut far) = joined(&server, version).await;
        let look = Look { server: &server, room: &room };
        let (tips, before, timeline) =
            (look.tips().await, look.state_after(&look.tips().await).await, look.timeline().await);
        let bad = look.make(&mut far, &tips, state("@r0:y", "m.room.name", "", json!({ "name": "mine" }))).await;
        assert!(matches!(look.verdict(&bad).await, Verdict::Rejected(_)));
        assert!(matches!(look.verdict(&bad).await, Verdict::Rejected(_)), "and stays so");
        let stranger = look.make(&mut far, &tips, message("@r1:y")).await;
        assert!(matches!(look.verdict(&stranger).await, Verdict::Rejected(_)));
        assert_eq!(
            (look.tips().await, look.state_after(&tips).await, look.timeline().await),
            (tips.clone(), before, timeline)
        );
        assert!(current(&room, "m.room.name", "").await.is_none());
        // What stands on a rejected event is judged by the state before that.
        let after = look.make(&mut far, &[bad.event_id().clone()], message("@r0:y")).await;
        look.accept(&after).await;
        assert_eq!(look.tips().await, std::slice::from_ref(after.event_id()));
        // A rejected event authorises nothing.
        let join = look.make(&mut far, &look.tips().await, member("@r1:y", "@r1:y", "invite")).await;
        assert!(matches!(look.verdict(&join).await, Verdict::Rejected(_)));
        let mut auth: Vec<_> = after.auth_events().to_vec();
        auth.retain(|id| !id.as_str().is_empty());
        auth.push(join.event_id().clone());
        let speak = look.make_with(&mut far, &look.tips().await, &auth, &message("@r1:y")).await;
        assert!(matches!(look.verdict(&speak).await, Verdict::Rejected(_)));
        say(&room, ALICE, "on").await.expect("sends");
    }
}

#[tokio::test]
async fn i5_a_soft_failed_event_is_no_extremity_and_in_no_timeline() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "12").await;
    let look = Look { server: &server, room: &room };
    let base = look.tips().await;
    room.ban(uid(ALICE), uid("@r0:y"), Details::default()).await.expect("bans");
    let (tips, timeline) = (look.tips().await, look.timeline().await);
    let evading = look.make(&mut far, &base, message("@r0:y")).await;
    assert!(matches!(look.verdict(&evading).await, Verdict::SoftFailed(_)));
    assert_eq!((look.tips().await, look.timeline().await), (tips, timeline));
    // Another's event on top of it is judged for itself, and takes the place of what the soft-failed one followed.
    let base = vec![evading.event_id().clone(), look.tips().await.remove(0)];
    let next = look.make(&mut Author::own(), &base, message(ALICE)).await;
    look.accept(&next).await;
    assert_eq!(look.tips().await, std::slice::from_ref(next.event_id()));
    let log = server.storage.view().scan::<RoomLog>(&KeyRange::prefix(&(room.nid(),)), 99, Direction::Forward).await;
    let evading = look.rix(evading.event_id()).await;
    let logged = log
        .expect("readable")
        .rows
        .into_iter()
        .any(|(_, entry)| matches!(entry, RoomLogEntry::Event { rix, .. } if rix == evading));
    assert!(!logged);
}

#[tokio::test]
async fn what_is_missing_is_named_and_nothing_is_stored() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "12").await;
    let look = Look { server: &server, room: &room };
    let base = look.tips().await;
    let join = look.make(&mut far, &base, member("@r1:y", "@r1:y", "join")).await;
    let other = Server::new().await;
    let (twin, _) = joined(&other, "12").await;
    assert_eq!(twin.id(), room.id(), "the same room on another server");
    let there = Look { server: &other, room: &twin };
    look.accept(&join).await;
    let speak = look.make(&mut far, &[join.event_id().clone()], message("@r1:y")).await;
    let before = other.storage.position();
    let missing = Received::Missing(speak.event_id().clone(), vec![join.event_id().clone()]);
    assert_eq!(there.receive(&speak).await, missing);
    assert_eq!(other.storage.position(), before);
    // Both at once, in the wrong order.
    let events = [&speak, &join].map(|pdu| Incoming::new(pdu.json())).to_vec();
    let received = twin.receive(events, &keys()).await.expect("judged");
    assert!(received.iter().all(|one| matches!(one, Received::Stored(_, Verdict::Accepted))), "{received:?}");
    let slots =
        other.storage.view().scan::<RoomServerSlots>(&KeyRange::prefix(&(twin.nid(),)), 9, Direction::Forward).await;
    assert_eq!(slots.expect("readable").rows.len(), 2, "@r0 and @r1");
}

#[tokio::test]
async fn a_gap_is_remembered_until_it_is_filled() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "12").await;
    let look = Look { server: &server, room: &room };
    let other = Server::new().await;
    let (twin, _) = joined(&other, "12").await;
    let there = Look { server: &other, room: &twin };
    let missed = look.make(&mut far, &look.tips().await, message("@r0:y")).await;
    look.accept(&missed).await;
    let last = look.make(&mut far, &look.tips().await, message("@r0:y")).await;
    assert!(matches!(there.receive(&last).await, Received::Missing(..)));
    let state: Vec<OwnedEventId> = look
        .state_after(&[missed.event_id().clone()])
        .await
        .into_values()
        .map(|id| id.try_into().expect("an id"))
        .collect();
    let after_gap = Incoming { state_before: Some(state), ..Incoming::new(last.json()) };
    let tips = there.tips().await;
    let received = twin.receive(vec![after_gap], &keys()).await.expect("judged");
    assert!(matches!(received[0], Received::Stored(_, Verdict::Accepted)), "{received:?}");
    assert_eq!(there.tips().await.len(), 2, "beside what was there");
    let header = there.header(last.event_id()).await;
    let gaps = || async {
        let page = other.storage.view().scan::<Gaps>(&KeyRange::prefix(&(twin.nid(),)), 9, Direction::Forward).await;
        page.expect("readable").rows
    };
    let expected = vec![((twin.nid(), header.rank), EventIdList(vec![missed.event_id().to_string()]))];
    assert_eq!(gaps().await, expected);
    assert!(header.rank.0 > there.header(&tips[0]).await.rank.0 + u64::from(u32::MAX));
    there.accept(&missed).await;
    assert_eq!(gaps().await, []);
    assert_eq!(there.tips().await, std::slice::from_ref(last.event_id()));
    assert_eq!(there.header(missed.event_id()).await.kind, EventKind::Timeline);
}

#[tokio::test]
async fn what_is_no_proper_event_of_the_room_is_not_stored() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "11").await;
    let look = Look { server: &server, room: &room };
    let tips = look.tips().await;
    let before = server.storage.position();
    let good = look.make(&mut far, &tips, message("@r0:y")).await;
    let mut forged: Value = serde_json::from_str(good.json()).expect("JSON");
    forged["depth"] = 21.into();
    let mut elsewhere = forged.clone();
    elsewhere["room_id"] = "!other:x".into();
    let by_another = look
        .make(
            &mut Author { key: ServerKey::new("k", [1; 32]).expect("valid"), ..Author::far() },
            &tips,
            message("@r0:y"),
        )
        .await;
    let bad =
        [forged.to_string(), elsewhere.to_string(), by_another.json().to_owned(), "{}".to_owned(), "[".to_owned()];
    let events = bad.iter().map(|json| Incoming::new(json.as_bytes())).collect();
    let received = room.receive(events, &keys()).await.expect("judged");
    assert!(received.iter().all(|one| matches!(one, Received::Invalid(_))), "{received:?}");
    assert_eq!(server.storage.position(), before);
    // A content that doesn't fit its hash: the event counts, redacted.
    let mut changed: Value = serde_json::from_str(good.json()).expect("JSON");
    changed["content"]["body"] = "changed".into();
    let received = room.receive(vec![Incoming::new(changed.to_string())], &keys()).await.expect("judged");
    assert_eq!(received, [Received::Stored(good.event_id().clone(), Verdict::Accepted)]);
    assert_eq!(look.pdu(good.event_id()).await.content().get(), "{}");
    // A second beginning.
    let create =
        look.make_with(&mut far, &[], &[], &state("@r0:y", "m.room.create", "", json!({ "room_version": "11" }))).await;
    assert!(matches!(look.verdict(&create).await, Verdict::Rejected(_)));
}

#[tokio::test]
async fn a_redaction_that_comes_first_waits_for_its_target() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "11").await;
    let look = Look { server: &server, room: &room };
    let base = look.tips().await;
    let (own, target) = (
        look.make(&mut far, &base, message("@r0:y")).await,
        look.make(&mut Author::own(), &base, message(ALICE)).await,
    );
    let redact =
        |id: &EventId| Draft { kind: "m.room.redaction", content: json!({ "redacts": id }), ..message("@r0:y") };
    for (target, applies) in [(&own, 1), (&target, 0)] {
        let redaction = look.make(&mut far, &base, redact(target.event_id())).await;
        look.accept(&redaction).await;
        look.accept(target).await;
        let hash = server.storage.hash().hash16(&[target.event_id().as_bytes()]);
        let range = KeyRange::prefix(&(room.nid(), hash));
        let rows = server.storage.view().scan::<Redactions>(&range, 9, Direction::Forward).await.expect("scan").rows;
        assert_eq!(rows.len(), applies);
    }
}

#[tokio::test]
async fn an_outlier_can_still_arrive() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "12").await;
    let look = Look { server: &server, room: &room };
    let tips = look.tips().await;
    let join = look.make(&mut far, &tips, member("@r1:y", "@r1:y", "join")).await;
    let outlier = Incoming { outlier: true, ..Incoming::new(join.json()) };
    let received = room.receive(vec![outlier], &keys()).await.expect("judged");
    assert_eq!(received, [Received::Stored(join.event_id().clone(), Verdict::Accepted)]);
    let (rix, timeline) = (look.rix(join.event_id()).await, look.timeline().await);
    assert_eq!((look.tips().await, timeline.contains(&rix)), (tips, false));
    assert!(current(&room, "m.room.member", "@r1:y").await.is_none());
    look.accept(&join).await;
    assert_eq!(look.rix(join.event_id()).await, rix);
    assert_eq!(look.tips().await, std::slice::from_ref(join.event_id()));
    assert!(current(&room, "m.room.member", "@r1:y").await.is_some());
    look.accept(&join).await;
    assert_eq!(look.timeline().await.len(), timeline.len() + 1);
    super::verify::assert_whole(&server).await;
}

/// A random event of a random local or remote user.
fn random_draft(pick: &mut impl FnMut(usize) -> usize) -> Draft {
    let users = ["@r0:y", "@r1:y", "@r2:y", ALICE, "@b:x"];
    let (sender, target) = (users[pick(users.len())], users[pick(users.len())]);
    match pick(9) {
        0 => state(sender, "m.room.topic", "", json!({ "topic": pick(1_000) })),
        1 => member(sender, target, "ban"),
        2 => member(sender, target, "leave"),
        3 | 4 => member(sender, sender, "join"),
        5 => {
            let levels: BTreeMap<_, _> = users[..3].iter().map(|user| (*user, [0, 50, 100][pick(3)])).collect();
            state(sender, "m.room.power_levels", "", json!({ "users": levels, "state_default": 50 * pick(2) }))
        }
        6 => state(
            sender,
            "m.room.join_rules",
            "",
            json!({ "join_rule": if pick(2) == 0 { "public" } else { "invite" } }),
        ),
        7 => member(sender, target, "invite"),
        _ => message(sender),
    }
}

/// Makes a random DAG on one server, delivers it to two more in other orders, and compares what they know.
async fn orders_agree(version: &str, seed: u64) {
    let random = primitives::Random::seeded(seed);
    let mut pick = |below: usize| usize::try_from(random.below(below as u64)).expect("small");
    let server = Server::new().await;
    let (room, mut far) = joined(&server, version).await;
    let look = Look { server: &server, room: &room };
    let mut own = Author::own();
    let mut nodes = look.tips().await;
    let mut events: Vec<Pdu> = Vec::new();
    for _ in 0..14 {
        let from = nodes.len().saturating_sub(6);
        let mut prev = vec![nodes[from + pick(nodes.len() - from)].clone()];
        let other = nodes[from + pick(nodes.len() - from)].clone();
        if other != prev[0] && pick(3) == 0 {
            prev.push(other);
        }
        let draft = random_draft(&mut pick);
        let author =
            if <&UserId>::try_from(&*draft.sender).expect("an id").server_name() == "y" { &mut far } else { &mut own };
        let event = look.make(author, &prev, draft).await;
        look.verdict(&event).await;
        nodes.push(event.event_id().clone());
        events.push(event);
    }
    let leaves: Vec<_> =
        nodes.iter().filter(|id| events.iter().all(|event| !event.prev_events().contains(id))).cloned().collect();
    for _ in 0..2 {
        let twin_server = Server::new().await;
        let (twin, _) = joined(&twin_server, version).await;
        let there = Look { server: &twin_server, room: &twin };
        let mut waiting = events.clone();
        while !waiting.is_empty() {
            let at = pick(waiting.len());
            if let Received::Stored(..) = there.receive(&waiting[at]).await {
                waiting.swap_remove(at);
            }
        }
        for event in &events {
            let (here, there_too) = (look.header(event.event_id()).await, there.header(event.event_id()).await);
            let rejected = |header: &EventHeader| matches!(header.verdict, Verdict::Rejected(_));
            assert_eq!(rejected(&here), rejected(&there_too), "seed {seed}: {event:?}");
            let id = [event.event_id().clone()];
            assert_eq!(look.state_after(&id).await, there.state_after(&id).await, "seed {seed}: {event:?}");
        }
        assert_eq!(look.state_after(&leaves).await, there.state_after(&leaves).await, "seed {seed}");
        let report = twin_server.rooms.verify().await.expect("readable");
        assert!(report.is_whole(), "seed {seed}: {report}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn i6_state_does_not_depend_on_the_order_of_arrival(seed: u64, version in prop::sample::select(vec!["1", "2", "6", "11", "12"])) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(orders_agree(version, seed));
    }
}

#[tokio::test]
async fn an_outgoing_event_and_a_received_one_share_the_room() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "12").await;
    let look = Look { server: &server, room: &room };
    let mut sends = Vec::new();
    for n in 0..5 {
        let event = look.make(&mut far, &look.tips().await, message("@r0:y")).await;
        let sent = room.send(Outgoing::message(user(ALICE), "m.room.message", object(&json!({ "n": n }))));
        let (sent, received) = tokio::join!(sent, look.receive(&event));
        sends.push(sent.expect("sends").event_id);
        assert_eq!(received, Received::Stored(event.event_id().clone(), Verdict::Accepted));
    }
    assert_eq!(look.timeline().await.len(), 6 + 10);
}
