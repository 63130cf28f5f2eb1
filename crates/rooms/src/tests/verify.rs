//! The check of what is stored: whole rooms pass it, and each kind of fault is found.

use std::collections::BTreeSet;

use primitives::{Rix, RoomNid, StreamPosition, UserNid};
use ruma::{EventId, OwnedEventId};
use serde_json::json;
use storage::{
    Batch, Direction, KeyRange, Positioned, Raw, Table, Text, View,
    schema::{
        history::{RelationCounts, ThreadSenders, Threads},
        receipts::{ReceiptLog, ReceiptLogRow},
        rooms::{
            AliasRow, Aliases, AuthPages, EventHeader, EventHeaders, EventIdList, EventIds, EventJson, EventLocal,
            EventLocals, Gaps, LocalMembers, Membership, Memberships, MissingPrevs, PendingRedactions, Redactions,
            RelationRow, Relations, RoomAliases, RoomHead, RoomHeads, RoomIds, RoomLog, RoomLogEntry, RoomServerSlots,
            SlotKeys, SlotList, Slots, StateNodes, Timeline, UserLog, UserLogEntry, Verdict,
        },
        users::{TransactionRow, Transactions},
    },
};

use super::{
    ALICE, BOB, Server,
    forks::{Author, Draft, Look, joined, keys, member, message, state},
    object, say, set, uid, user,
};
use crate::{
    CreateRoom, Details, Incoming, Marks, Outgoing, Reader, ReceiptType, Received, Room, RoomVersion, Thread,
    event_key::event_key,
    state::Node,
    verify::{FaultKind, Report},
};

/// A server with one room in which everything has happened that leaves rows.
struct Lived {
    server: Server,
    room: Room,
    /// Alice's message that Bob reacted to, and Alice's that was redacted.
    message: OwnedEventId,
    redacted: OwnedEventId,
}

async fn verify(server: &Server) -> Report {
    server.rooms.verify().await.expect("the store works")
}

pub(super) async fn assert_whole(server: &Server) {
    let report = verify(server).await;
    assert!(report.is_whole(), "{report}");
}

fn draft(kind: &'static str, sender: &str, content: serde_json::Value) -> Draft {
    Draft { kind, content, ..message(sender) }
}

/// A room of all sorts of events: a fork, a gap, relations, redactions, memberships of local and other users.
async fn lived(version: &str) -> Lived {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, version).await;
    let look = Look { server: &server, room: &room };
    room.join(uid(BOB), Details::default()).await.expect("joins");
    room.invite(uid(ALICE), uid("@carol:x"), Details::default()).await.expect("invites");
    let local = EventLocal { device_id: Some("D".to_owned()), transaction_id: Some("t".to_owned()), delay_id: None };
    let content = object(&json!({ "msgtype": "m.text", "body": "hello" }));
    let outgoing = Outgoing { local, ..Outgoing::message(user(ALICE), "m.room.message", content) };
    let message = room.send(outgoing).await.expect("sends").event_id;
    let relates_to = json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": message, "key": "+" } });
    room.send(Outgoing::message(user(BOB), "m.reaction", object(&relates_to))).await.expect("sends");
    for rel_type in ["m.thread", "m.replace"] {
        let relates_to = json!({ "body": "", "m.relates_to": { "rel_type": rel_type, "event_id": message } });
        room.send(Outgoing::message(user(BOB), "m.room.message", object(&relates_to))).await.expect("sends");
    }
    let redacted = say(&room, ALICE, "gone").await.expect("sends").event_id;
    let base = look.tips().await;
    let redaction = Outgoing {
        redacts: Some(redacted.clone()),
        ..Outgoing::message(user(ALICE), "m.room.redaction", object(&json!({ "redacts": redacted })))
    };
    room.send(redaction).await.expect("sends");
    set(&room, ALICE, "m.room.topic", "", json!({ "topic": "here" })).await.expect("sends");
    read_and_kept(&server, &room, &message).await;
    let name = draft("m.reaction", "@r0:y", json!({}));
    for event in
        [look.make(&mut far, &base, name).await, look.make(&mut far, &base, member("@r0:y", "@r0:y", "leave")).await]
    {
        look.accept(&event).await;
    }
    let rejected = look.make(&mut far, &base, state("@r0:y", "m.room.topic", "", json!({ "topic": "mine" }))).await;
    assert!(matches!(look.verdict(&rejected).await, Verdict::Rejected(_)));
    let unknown = json!({ "redacts": "$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk" });
    if version == "12" {
        let waiting = look.make(&mut Author::own(), &base, draft("m.room.redaction", ALICE, unknown)).await;
        look.accept(&waiting).await;
    }
    Lived { server, room, message, redacted }
}

/// Alice has read a message, and keeps something with the room.
async fn read_and_kept(server: &Server, room: &Room, message: &OwnedEventId) {
    let reader = Reader { user_id: user(ALICE), user_nid: server.nid(ALICE).await, device_id: None };
    let receipts = vec![
        (ReceiptType::Read, Thread::Main, message.clone()),
        (ReceiptType::ReadPrivate, Thread::Unthreaded, message.clone()),
    ];
    room.mark_read(&reader, &Marks { receipts, fully_read: Some(message.clone()) }).await.expect("read");
}

#[tokio::test]
async fn i10_what_is_no_event_is_told_of_where_it_says_and_nowhere_else() {
    let report = found(|stored, batch| {
        batch.delete_prefix::<ReceiptLog>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Log, "the receipt of @alice:x");
    let report = found(|stored, batch| {
        let row = ReceiptLogRow { user_id: ALICE.to_owned(), kind: 0, thread: "main".to_owned() };
        batch.put::<ReceiptLog>(&(stored.nid, StreamPosition(1), 0), &row);
    })
    .await;
    assert_only(&report, FaultKind::Log, "the log has a receipt of @alice:x");
    let lived = lived("12").await;
    let (alice, room) = (lived.server.nid(ALICE).await, Some(lived.room.nid()));
    let entry = UserLogEntry::AccountData { room, data_type: "m.fully_read".to_owned() };
    let report = found_in(&lived, |_, batch| {
        batch.put::<UserLog>(&(alice, StreamPosition(1), 0), &entry);
    })
    .await;
    assert_only(&report, FaultKind::Log, "the log has m.fully_read");
    let report = {
        let mut batch = Batch::new();
        batch.delete_prefix::<UserLog>(&(alice,));
        lived.server.storage.commit(batch).await.expect("commits");
        verify(&lived.server).await
    };
    assert_found(&report, FaultKind::Log, "m.fully_read of user");
}

#[tokio::test]
async fn rooms_of_every_version_are_whole() {
    for version in RoomVersion::supported() {
        let lived = lived(version.as_str()).await;
        assert_whole(&lived.server).await;
        say(&lived.room, ALICE, "joined again").await.expect("sends");
        let report = lived.room.verify().await.expect("readable");
        assert!(report.is_whole() && report.events > 15 && report.resolved >= 1, "{report}");
    }
}

#[tokio::test]
async fn what_users_do_leaves_whole_rooms() {
    let server = Server::new().await;
    for published in [true, false] {
        let request = CreateRoom {
            published,
            name: Some("A room".to_owned()),
            alias_localpart: Some(format!("alias{published}")),
            invite: vec![user(BOB), user("@nobody:x")],
            ..CreateRoom::new(user(ALICE))
        };
        let id = server.rooms.create(request).await.expect("creates");
        let room = server.rooms.room(&id).await.expect("known");
        room.join(uid(BOB), Details::default()).await.expect("joins");
        room.ban(uid(ALICE), uid(BOB), Details::default()).await.expect("bans");
        room.unban(uid(ALICE), uid(BOB), Details::default()).await.expect("unbans");
        room.forget(uid(BOB)).await.expect("forgets");
        say(&room, ALICE, "alone").await.expect("sends");
        assert!(say(&room, BOB, "no").await.is_err());
    }
    let report = verify(&server).await;
    assert!(report.is_whole() && report.rooms == 2, "{report}");
}

/// What is stored of a room, for tests that change it behind the room's back.
struct Stored<'a> {
    lived: &'a Lived,
    view: View,
    nid: RoomNid,
}

impl Stored<'_> {
    #[expect(clippy::needless_pass_by_value, reason = "keys are made where they are used")]
    fn get<T: Table>(&self, key: T::Key) -> T::Value {
        self.view.get_now::<T>(&key).expect("readable").expect("there")
    }

    fn rows<T: Table>(&self) -> Vec<(T::Key, T::Value)> {
        let range = KeyRange::prefix(&(self.nid,));
        self.view.scan_now::<T>(&range, 1_000, Direction::Forward).expect("readable").rows
    }

    fn head(&self) -> RoomHead {
        self.get::<RoomHeads>((self.nid,))
    }

    fn rix(&self, id: &EventId) -> Rix {
        self.get::<EventIds>((event_key(id),)).rix
    }

    /// The newest event of a type.
    fn newest(&self, event_type: &str) -> (Rix, EventHeader) {
        let rows = self.rows::<EventHeaders>().into_iter().rev();
        let mut found = rows.filter(|(_, header)| header.value.event_type == event_type);
        found.next().map(|((_, rix), header)| (rix, header.value)).expect("sent")
    }

    fn hash(&self, id: &EventId) -> [u8; 16] {
        self.lived.server.storage.hash().hash16(&[id.as_bytes()])
    }

    fn change_head(&self, batch: &mut Batch, change: impl FnOnce(&mut RoomHead)) {
        let mut head = self.head();
        change(&mut head);
        batch.put::<RoomHeads>(&(self.nid,), &head);
    }

    fn change_header(&self, batch: &mut Batch, rix: Rix, change: impl FnOnce(&mut Positioned<EventHeader>)) {
        let mut header = self.get::<EventHeaders>((self.nid, rix));
        change(&mut header);
        batch.put::<EventHeaders>(&(self.nid, rix), &header);
    }

    fn change_text(&self, batch: &mut Batch, rix: Rix, from: &str, to: &str) {
        let text = String::from_utf8(self.get::<EventJson>((self.nid, rix)).0).expect("text");
        assert!(text.contains(from), "{text}");
        batch.put::<EventJson>(&(self.nid, rix), &Raw(text.replace(from, to).into_bytes()));
    }

    /// A state that holds a topic: the one after the newest topic.
    fn newest_state(&self) -> (Rix, EventHeader) {
        let rows = self.rows::<EventHeaders>().into_iter().rev();
        let mut found = rows.filter(|(_, header)| header.value.root_after != header.value.root_before);
        found.next().map(|((_, rix), header)| (rix, header.value)).expect("sent")
    }
}

/// What a check finds once a room in which everything was right is spoilt.
async fn found(spoil: impl FnOnce(&Stored<'_>, &mut Batch)) -> Report {
    let lived = lived("12").await;
    found_in(&lived, spoil).await
}

async fn found_in(lived: &Lived, spoil: impl FnOnce(&Stored<'_>, &mut Batch)) -> Report {
    assert_whole(&lived.server).await;
    let stored = Stored { lived, view: lived.server.storage.view(), nid: lived.room.nid() };
    let mut batch = Batch::new();
    spoil(&stored, &mut batch);
    lived.server.storage.commit(batch).await.expect("commits");
    verify(&lived.server).await
}

#[track_caller]
fn assert_found(report: &Report, kind: FaultKind, what: &str) {
    assert!(report.faults.iter().any(|fault| fault.kind == kind && fault.what.contains(what)), "{report}");
}

#[track_caller]
fn assert_only(report: &Report, kind: FaultKind, what: &str) {
    assert_found(report, kind, what);
    let kinds: BTreeSet<_> = report.faults.iter().map(|fault| format!("{:?}", fault.kind)).collect();
    assert_eq!(kinds.len(), 1, "{report}");
}

#[tokio::test]
async fn rows_that_are_missing_or_nonsense_are_found() {
    let report = found(|stored, batch| {
        batch.delete::<EventHeaders>(&(stored.nid, Rix(5)));
    })
    .await;
    assert_found(&report, FaultKind::Unreadable, "no event 5");
    let report = found(|stored, batch| {
        batch.put::<EventJson>(&(stored.nid, Rix(5)), &Raw(b"{".to_vec()));
    })
    .await;
    assert_found(&report, FaultKind::Unreadable, "event_json");
    let report = found(|stored, batch| {
        batch.delete::<StateNodes>(&(stored.nid, stored.head().root));
    })
    .await;
    assert_found(&report, FaultKind::Unreadable, "no node");
}

#[tokio::test]
async fn a_rooms_own_rows_are_checked() {
    let report = found(|stored, batch| stored.change_head(batch, |head| head.max_rank = head.max_rank.next())).await;
    assert_only(&report, FaultKind::Room, "highest rank");
    let report = found(|stored, batch| stored.change_head(batch, |head| head.depth += 1)).await;
    assert_only(&report, FaultKind::Room, "depth");
    let report = found(|stored, batch| stored.change_head(batch, |head| head.next_node -= 1)).await;
    assert_found(&report, FaultKind::Room, "state_node has rows beyond");
    let report = found(|stored, batch| {
        batch.delete::<RoomHeads>(&(stored.nid,));
    })
    .await;
    assert_found(&report, FaultKind::Room, "no head");
    let report = found(|stored, batch| {
        batch.put::<RoomIds>(&(Text::new(stored.lived.room.id().as_str()),), &RoomNid(77));
    })
    .await;
    assert_only(&report, FaultKind::Room, "another");
}

#[tokio::test]
async fn a_header_says_what_its_event_says() {
    for change in [
        |header: &mut EventHeader| header.sender = BOB.to_owned(),
        |header: &mut EventHeader| header.origin_server_ts += 1,
        |header: &mut EventHeader| header.event_type.push('x'),
        |header: &mut EventHeader| header.depth += 1,
    ] {
        let spoil = |stored: &Stored<'_>, batch: &mut Batch| {
            let rix = stored.rix(&stored.lived.message);
            stored.change_header(batch, rix, |header| change(&mut header.value));
        };
        assert_only(&found(spoil).await, FaultKind::Header, "does not say");
    }
}

#[tokio::test]
async fn a_text_has_its_hashes() {
    let spoil = |stored: &Stored<'_>, batch: &mut Batch| {
        stored.change_text(batch, stored.rix(&stored.lived.message), "hello", "jello");
    };
    assert_only(&found(spoil).await, FaultKind::Hash, "neither what was hashed nor redacted");
    for version in ["1", "3", "12"] {
        let lived = lived(version).await;
        let spoil = |stored: &Stored<'_>, batch: &mut Batch| {
            let rix = stored.rix(&stored.lived.message);
            stored.change_text(batch, rix, "\"signatures\"", "\"origin\":\"x\",\"signatures\"");
        };
        assert_found(&found_in(&lived, spoil).await, FaultKind::Hash, "");
    }
    // What is stored redacted has the hashes of what it was.
    let lived = lived("11").await;
    let look = Look { server: &lived.server, room: &lived.room };
    let event = look.make(&mut Author::own(), &look.tips().await, message(ALICE)).await;
    let changed = event.json().replace("\"body\":\"x\"", "\"body\":\"y\"");
    let received = lived.room.receive(vec![Incoming::new(changed)], &keys()).await.expect("judged");
    assert!(matches!(received[0], Received::Stored(_, Verdict::Accepted)), "{received:?}");
    assert_whole(&lived.server).await;
}

#[tokio::test]
async fn an_id_leads_to_its_event_and_no_event_is_there_twice() {
    let report = found(|stored, batch| {
        batch.delete::<EventIds>(&(event_key(&stored.lived.message),));
    })
    .await;
    assert_found(&report, FaultKind::EventId, "leads nowhere");
    let twice = |stored: &Stored<'_>, batch: &mut Batch| {
        let (rix, next) = (stored.rix(&stored.lived.message), Rix(stored.head().next_rix));
        let mut header = stored.get::<EventHeaders>((stored.nid, rix));
        header.position = stored.view.position();
        batch.put::<EventHeaders>(&(stored.nid, next), &header);
        batch.put::<EventJson>(&(stored.nid, next), &stored.get::<EventJson>((stored.nid, rix)));
        stored.change_head(batch, |head| head.next_rix += 1);
    };
    assert_found(&found(twice).await, FaultKind::EventId, "its id leads to event");
    let dangling = |stored: &Stored<'_>, batch: &mut Batch| {
        let place = stored.get::<EventIds>((event_key(&stored.lived.message),));
        batch.put::<EventIds>(&(vec![7; 32],), &place);
    };
    assert_only(&found(dangling).await, FaultKind::EventId, "has another");
}

#[tokio::test]
async fn auth_events_and_their_edges_agree() {
    let spoil = |stored: &Stored<'_>, batch: &mut Batch| {
        let rix = stored.rix(&stored.lived.message);
        stored.change_header(batch, rix, |header| header.value.auth.truncate(1));
    };
    assert_only(&found(spoil).await, FaultKind::Auth, "names other auth events");
    let report = found(|stored, batch| {
        batch.delete::<AuthPages>(&(stored.nid, 0));
    })
    .await;
    assert_found(&report, FaultKind::Auth, "page of auth edges");
}

#[tokio::test]
async fn an_event_stands_where_those_before_it_say() {
    let message = |stored: &Stored<'_>| stored.rix(&stored.lived.message);
    let report = found(|stored, batch| {
        stored.change_header(batch, message(stored), |header| header.value.prev.clear());
    })
    .await;
    assert_found(&report, FaultKind::Prev, "other events before it");
    let report = found(|stored, batch| {
        let rix = message(stored);
        stored.change_header(batch, rix, |header| header.value.rank = header.value.rank.next());
    })
    .await;
    assert_found(&report, FaultKind::Order, "not one above");
    let report = found(|stored, batch| {
        let (rix, header) = (message(stored), stored.get::<EventHeaders>((stored.nid, message(stored))));
        batch.delete::<Timeline>(&(stored.nid, header.value.rank, rix));
    })
    .await;
    assert_only(&report, FaultKind::Order, "not in the timeline");
    let report = found(|stored, batch| {
        let (rix, header) = stored.newest("m.room.topic");
        assert!(matches!(header.verdict, Verdict::Rejected(_)));
        batch.put::<Timeline>(&(stored.nid, header.rank, rix), &());
    })
    .await;
    assert_only(&report, FaultKind::Order, "it is in the timeline");
    let report = found(|stored, batch| {
        stored.change_header(batch, Rix(3), |header| header.position = StreamPosition(header.position.0 + 1_000));
    })
    .await;
    assert_found(&report, FaultKind::Order, "its position");
}

#[tokio::test]
async fn gaps_list_what_is_missing() {
    let gapped = async || {
        let (lived, other) = (lived("12").await, lived("12").await);
        let look = Look { server: &lived.server, room: &lived.room };
        let there = Look { server: &other.server, room: &other.room };
        let mut far = Author::own();
        let missed = look.make(&mut far, &look.tips().await, message(ALICE)).await;
        look.accept(&missed).await;
        let last = look.make(&mut far, &look.tips().await, message(ALICE)).await;
        let state = there.state_after(&there.tips().await).await.into_values();
        let state = state.map(|id| id.try_into().expect("an id")).collect();
        let after = Incoming { state_before: Some(state), ..Incoming::new(last.json()) };
        let received = other.room.receive(vec![after], &keys()).await.expect("judged");
        assert!(matches!(received[0], Received::Stored(_, Verdict::Accepted)), "{received:?}");
        (other, missed)
    };
    let (lived, _) = gapped().await;
    let report = verify(&lived.server).await;
    assert!(report.is_whole() && report.given == 1, "{report}");
    let report = found_in(&lived, |stored, batch| {
        batch.delete_prefix::<Gaps>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Order, "the gap before it");
    let (lived, missed) = gapped().await;
    let report = found_in(&lived, |stored, batch| {
        batch.delete::<MissingPrevs>(&(stored.nid, Text::new(missed.event_id().as_str())));
    })
    .await;
    assert_only(&report, FaultKind::Order, "does not know that it is missing");
    let stray = |stored: &Stored<'_>, batch: &mut Batch| {
        batch.put::<Gaps>(&(stored.nid, primitives::Rank(1)), &EventIdList(vec!["$x".to_owned()]));
    };
    assert_only(&found(stray).await, FaultKind::Order, "gaps are kept");
}

#[tokio::test]
async fn the_log_has_every_event_once_and_what_it_changed() {
    let row = |stored: &Stored<'_>| {
        let (rix, _) = stored.newest("m.room.member");
        let mut rows = stored.rows::<RoomLog>().into_iter();
        rows.find(|(_, entry)| matches!(entry, RoomLogEntry::Event { rix: of, .. } if *of == rix)).expect("logged")
    };
    let report = found(|stored, batch| {
        batch.delete::<RoomLog>(&row(stored).0);
    })
    .await;
    assert_found(&report, FaultKind::Log, "were accepted");
    let report = found(|stored, batch| {
        let ((room, position, index), entry) = row(stored);
        batch.put::<RoomLog>(&(room, position, index + 1), &entry);
    })
    .await;
    assert_found(&report, FaultKind::Log, "where it is not");
    for (what, spoil) in [("as changed", (false, true)), ("", (true, false))] {
        let report = found(|stored, batch| {
            let (key, entry) = row(stored);
            let RoomLogEntry::Event { rix, rank, root, changed, relay } = entry else { panic!("an event") };
            let root = if spoil.0 { stored.get::<EventHeaders>((stored.nid, Rix(3))).value.root_after } else { root };
            let changed = if spoil.1 { Some(Vec::new()) } else { changed };
            batch.put::<RoomLog>(&key, &RoomLogEntry::Event { rix, rank, root, changed, relay });
        })
        .await;
        assert_only(&report, FaultKind::Log, what);
    }
}

#[tokio::test]
async fn extremities_are_what_nothing_follows() {
    let report = found(|stored, batch| stored.change_head(batch, |head| head.extremities.truncate(1))).await;
    assert_found(&report, FaultKind::Extremities, "the extremities are");
    let report = found(|stored, batch| stored.change_head(batch, |head| head.extremities.insert(0, Rix(2)))).await;
    assert_found(&report, FaultKind::Extremities, "the extremities are");
}

#[tokio::test]
async fn i6_a_state_that_is_not_the_fold_of_the_events_is_found() {
    let report = found(|stored, batch| {
        let rix = stored.rix(&stored.lived.message);
        let old = stored.get::<EventHeaders>((stored.nid, Rix(3))).value.root_after;
        stored.change_header(batch, rix, |header| (header.value.root_before, header.value.root_after) = (old, old));
    })
    .await;
    assert_found(&report, FaultKind::State, "the state before it");
    let report = found(|stored, batch| {
        let (rix, header) = stored.newest_state();
        stored.change_header(batch, rix, |changed| changed.value.root_after = header.root_before);
    })
    .await;
    assert_found(&report, FaultKind::State, "with its own change");
    let report = found(|stored, batch| {
        let old = stored.get::<EventHeaders>((stored.nid, Rix(3))).value.root_after;
        stored.change_head(batch, |head| head.root = old);
    })
    .await;
    assert_found(&report, FaultKind::State, "what the extremities make");
    assert_found(&report, FaultKind::Members, "");
    let report = found(|stored, batch| {
        let root = stored.newest_state().1.root_after;
        let Node::Root(mut node) = Node::decode(&stored.get::<StateNodes>((stored.nid, root)).0).expect("a node")
        else {
            panic!("a root")
        };
        node.joined += 1;
        batch.put::<StateNodes>(&(stored.nid, root), &Raw(Node::Root(node).encode()));
    })
    .await;
    assert_found(&report, FaultKind::State, "counts its members wrongly");
    let report = found(|stored, batch| {
        // One leaf in the place of another: the node after it is the one before it.
        let leaves: Vec<_> = stored
            .rows::<StateNodes>()
            .into_iter()
            .filter(|(_, node)| matches!(Node::decode(&node.0), Ok(Node::Leaf(_))))
            .collect();
        let (last, first) = (&leaves[leaves.len() - 1], &leaves[0]);
        batch.put::<StateNodes>(&last.0, &first.1);
    })
    .await;
    assert_found(&report, FaultKind::State, "");
}

#[tokio::test]
async fn slots_are_found_by_what_they_are_for() {
    let report = found(|stored, batch| {
        let (key, _) = stored.rows::<SlotKeys>().remove(1);
        batch.delete::<SlotKeys>(&key);
    })
    .await;
    assert_found(&report, FaultKind::Slots, "not in its place");
    let report = found(|stored, batch| {
        let (key, _) = stored.rows::<Slots>().remove(0);
        batch.put::<Slots>(&key, &SlotList::default());
    })
    .await;
    assert_found(&report, FaultKind::Slots, "not found");
}

#[tokio::test]
async fn i1_members_have_the_rows_that_the_state_asks_for() {
    let lived = lived("12").await;
    let bob = lived.server.nid(BOB).await;
    let report = found_in(&lived, |stored, batch| {
        batch.put::<LocalMembers>(&(stored.nid, bob), &Membership::Ban);
    })
    .await;
    assert_only(&report, FaultKind::Members, "in the room's rows only");
    let report = found(|stored, batch| {
        batch.delete::<Memberships>(&(bob, stored.nid));
    })
    .await;
    assert_only(&report, FaultKind::Members, "in the state only");
    let report = found(|stored, batch| {
        let mut row = stored.get::<Memberships>((bob, stored.nid));
        row.value.rix = Rix(row.value.rix.0 + 1);
        batch.put::<Memberships>(&(bob, stored.nid), &row);
    })
    .await;
    assert_only(&report, FaultKind::Members, "in the state only");
    let report = found(|_, batch| {
        batch.delete_prefix::<UserLog>(&(bob,));
    })
    .await;
    assert_only(&report, FaultKind::Members, "never told");
    let report = found(|stored, batch| {
        let row = stored.get::<Memberships>((bob, stored.nid));
        batch.put::<Memberships>(&(UserNid(99), stored.nid), &row);
    })
    .await;
    assert_only(&report, FaultKind::Members, "in the user's rows only");
    let report = found(|stored, batch| {
        let row = stored.get::<Memberships>((bob, stored.nid));
        batch.put::<Memberships>(&(UserNid(99), stored.nid), &row);
        batch.put::<LocalMembers>(&(stored.nid, UserNid(99)), &row.value.membership);
    })
    .await;
    assert_only(&report, FaultKind::Members, "the state does not say so");
    let report = found(|stored, batch| {
        batch.delete_prefix::<RoomServerSlots>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Members, "not among its server's");
}

#[tokio::test]
async fn relations_and_redactions_are_indexed_and_nothing_else_is() {
    let report = found(|stored, batch| {
        batch.delete_prefix::<Relations>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Relations, "its relation is not found");
    let report = found(|stored, batch| {
        let (mut key, row) = stored.rows::<Relations>().remove(0);
        key.4 = Rix(1);
        batch.put::<Relations>(&key, &RelationRow { rel_type: "m.thread".to_owned(), ..row });
    })
    .await;
    assert_only(&report, FaultKind::Relations, "4 rows of relation are kept");
    let redacted = |stored: &Stored<'_>| {
        let range = (stored.nid, stored.hash(&stored.lived.redacted));
        stored.rows::<Redactions>().into_iter().find(|(key, ())| (key.0, key.1) == range).expect("applied").0
    };
    let report = found(|stored, batch| {
        batch.delete::<Redactions>(&redacted(stored));
    })
    .await;
    assert_only(&report, FaultKind::Redactions, "it is not where");
    let report = found(|stored, batch| {
        let (room, _, rix) = redacted(stored);
        batch.put::<Redactions>(&(room, stored.hash(&stored.lived.message), rix), &());
    })
    .await;
    assert_only(&report, FaultKind::Redactions, "2 rows are kept");
    let report = found(|stored, batch| {
        batch.delete_prefix::<PendingRedactions>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Redactions, "it is not where");
}

#[tokio::test]
async fn what_is_counted_of_relations_is_checked() {
    let report = found(|stored, batch| {
        batch.delete_prefix::<RelationCounts>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Relations, "what relates to an event is not counted right");
    let report = found(|stored, batch| {
        batch.delete_prefix::<ThreadSenders>(&(stored.nid,));
    })
    .await;
    assert_only(&report, FaultKind::Relations, "a sender of a thread is not counted right");
    let report = found(|stored, batch| {
        let (key, row) = stored.rows::<Threads>().remove(0);
        batch.delete::<Threads>(&key).put::<Threads>(&(key.0, key.1, Rix(key.2.0 + 1)), &row);
    })
    .await;
    assert_only(&report, FaultKind::Relations, "what relates to an event is not counted right");
    let report = found(|stored, batch| {
        let (key, row) = stored.rows::<Threads>().remove(0);
        batch.put::<Threads>(&(key.0, key.1, Rix(key.2.0 + 1)), &row);
    })
    .await;
    assert_only(&report, FaultKind::Relations, "2 rows of thread are kept");
}

#[tokio::test]
async fn aliases_lead_both_ways() {
    let row = AliasRow { room_id: "!x:x".to_owned(), creator: ALICE.to_owned() };
    let report = found(|_, batch| {
        batch.put::<Aliases>(&(Text::new("#a:x"),), &row);
    })
    .await;
    assert_only(&report, FaultKind::Aliases, "does not know #a:x");
    let report = found(|_, batch| {
        batch.put::<RoomAliases>(&(Text::new("!x:x"), Text::new("#a:x")), &());
    })
    .await;
    assert_only(&report, FaultKind::Aliases, "does not lead to !x:x");
}

#[tokio::test]
async fn what_was_sent_from_here_is_here() {
    let report = found(|stored, batch| {
        let (rix, _) = stored
            .rows::<EventHeaders>()
            .into_iter()
            .find(|(_, header)| header.value.sender == "@r0:y")
            .map(|((_, rix), header)| (rix, header))
            .expect("sent");
        batch.put::<EventLocals>(&(stored.nid, rix), &EventLocal::default());
    })
    .await;
    assert_only(&report, FaultKind::Sending, "not sent from a device here");
    let row = TransactionRow { result: "$acR1l0raoZnm60CBwAVgqbZqoO/mYU81xysh1u7XcJk".to_owned() };
    let key = (1, UserNid(1), Text::new("D"), [0; 16]);
    let report = found(|_, batch| {
        batch.put::<Transactions>(&key, &row);
    })
    .await;
    assert_only(&report, FaultKind::Sending, "was answered and is not stored");
}

#[tokio::test]
async fn a_report_is_bounded() {
    let row = AliasRow { room_id: "!x:x".to_owned(), creator: ALICE.to_owned() };
    let report = found(|_, batch| {
        for n in 0..150 {
            batch.put::<Aliases>(&(Text::new(format!("#a{n}:x")),), &row);
        }
    })
    .await;
    assert_eq!((report.fault_count, report.faults.len()), (150, 100));
    let shown = report.to_string();
    assert!(
        shown.contains("rooms: 1,") && shown.contains("faults: 150\n") && shown.ends_with("and 50 more"),
        "{shown}"
    );
}

/// A redaction and its target, and an event and what is missing before it, in one batch as in two.
#[tokio::test]
async fn what_arrives_together_is_as_whole_as_what_arrives_apart() {
    for version in ["11", "12"] {
        let (lived, other) = (lived(version).await, lived(version).await);
        let look = Look { server: &lived.server, room: &lived.room };
        let there = Look { server: &other.server, room: &other.room };
        let (mut author, base) = (Author::own(), look.tips().await);
        let target = look.make(&mut author, &base, message(ALICE)).await;
        look.accept(&target).await;
        let redacts = json!({ "redacts": target.event_id() });
        let redaction = look.make(&mut author, &base, draft("m.room.redaction", ALICE, redacts)).await;
        look.accept(&redaction).await;
        let second = look.make(&mut author, &base, message(ALICE)).await;
        look.accept(&second).await;
        let prev = [target.event_id().clone(), second.event_id().clone()];
        let last = look.make(&mut author, &prev, message(ALICE)).await;
        let state = there.state_after(&there.tips().await).await.into_values();
        let state = Some(state.map(|id| id.try_into().expect("an id")).collect());
        let last = Incoming { state_before: state, ..Incoming::new(last.json()) };
        let rest = [&redaction, &target, &second].map(|pdu| Incoming::new(pdu.json()));
        let received = other.room.receive([last].into_iter().chain(rest).collect(), &keys()).await.expect("judged");
        assert!(received.iter().all(|one| matches!(one, Received::Stored(_, Verdict::Accepted))), "{received:?}");
        assert_whole(&other.server).await;
    }
}

/// Outliers that arrive keep their numbers, which are then lower than those of events that they follow.
#[tokio::test]
async fn outliers_that_arrive_leave_a_whole_room() {
    let (lived, other) = (lived("12").await, lived("12").await);
    let look = Look { server: &lived.server, room: &lived.room };
    let mut author = Author::own();
    let mut events = vec![look.make(&mut author, &look.tips().await, message(ALICE)).await];
    let redacts = json!({ "redacts": events[0].event_id() });
    for next in [
        state(ALICE, "m.room.topic", "", json!({ "topic": "late" })),
        draft("m.room.redaction", ALICE, redacts),
        message(ALICE),
    ] {
        look.accept(events.last().expect("one at least")).await;
        events.push(look.make(&mut author, &look.tips().await, next).await);
    }
    let outliers =
        events[1..3].iter().map(|pdu| Incoming { outlier: true, ..Incoming::new(pdu.json()) }).collect::<Vec<_>>();
    other.room.receive(outliers, &keys()).await.expect("judged");
    assert_whole(&other.server).await;
    for event in &events {
        let received = other.room.receive(vec![Incoming::new(event.json())], &keys()).await.expect("judged");
        assert!(matches!(received[0], Received::Stored(_, Verdict::Accepted)), "{received:?}");
        assert_whole(&other.server).await;
    }
    let there = Look { server: &other.server, room: &other.room };
    assert!(there.rix(events[1].event_id()).await < there.rix(events[0].event_id()).await);
}
