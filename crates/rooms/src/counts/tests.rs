//! Counts against a model that counts everything from the start, whatever happens and whenever somebody looks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use users::push_rules::{Owner, RuleKind};

use super::*;
use crate::{
    Details, Marks, Outgoing, ReceiptType, Room, Thread,
    tests::{ALICE, BOB, Server, object, uid, user},
};

/// What may happen in a room.
#[derive(Clone, Debug)]
enum Step {
    /// Somebody says something; in a thread if it is an answer, loudly or not.
    Say { bob: bool, answers: Option<usize>, loud: bool },
    /// Somebody reacts.
    React { bob: bool, to: usize },
    /// Somebody redacts something: Bob only what is his.
    Redact { bob: bool, what: usize },
    /// Bob reads up to somewhere.
    Read { up_to: usize, about: About, private: bool },
    /// Bob wants to be told of nothing, or of everything again.
    Mute(bool),
    /// Bob changes his profile, which is no new stay.
    Rename,
    /// Bob leaves and joins again.
    Rejoin,
    /// Somebody looks.
    Look,
    /// The server is started anew.
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum About {
    Everything,
    Main,
    ItsThread,
}

fn step() -> impl Strategy<Value = Step> {
    let about = prop::sample::select(vec![About::Everything, About::Main, About::ItsThread]);
    prop_oneof![
        6 => (any::<bool>(), prop::option::of(0..20_usize), any::<bool>())
            .prop_map(|(bob, answers, loud)| Step::Say { bob: bob && loud, answers, loud }),
        1 => (any::<bool>(), 0..20_usize).prop_map(|(bob, to)| Step::React { bob, to }),
        1 => (any::<bool>(), 0..20_usize).prop_map(|(bob, what)| Step::Redact { bob, what }),
        3 => (0..20_usize, about, any::<bool>()).prop_map(|(up_to, about, private)| Step::Read { up_to, about, private }),
        1 => any::<bool>().prop_map(Step::Mute),
        1 => Just(Step::Rename),
        1 => Just(Step::Rejoin),
        3 => Just(Step::Look),
        1 => Just(Step::Reopen),
    ]
}

/// An event as the model knows it.
#[derive(Debug)]
struct Said {
    id: OwnedEventId,
    bob: bool,
    /// The root of its thread.
    thread: Option<usize>,
    what: What,
    redacted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Message,
    /// It names Bob.
    Loud,
    /// Nobody is told of it.
    Other,
}

/// What Bob has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reading {
    Everything,
    /// What is in one thread, or in none.
    Thread(Option<usize>),
}

/// What the model knows.
#[derive(Debug, Default)]
struct Model {
    said: Vec<Said>,
    /// What was said before Bob joined.
    before: usize,
    /// Up to which event Bob has read.
    read: BTreeMap<Reading, usize>,
    muted: bool,
}

impl Model {
    fn counts(&self) -> Tally {
        let mut tally = Tally::default();
        for (at, said) in self.said.iter().enumerate().skip(self.before) {
            let up_to = |key| self.read.get(&key).is_some_and(|read| *read >= at);
            let answered = self.said[at..].iter().any(|later| later.bob && later.thread == said.thread);
            let is_read = up_to(Reading::Everything) || up_to(Reading::Thread(said.thread)) || answered;
            if said.what != What::Other && !said.bob && !said.redacted && !self.muted && !is_read {
                tally.add(said.thread.map(|root| self.said[root].id.to_string()), said.what == What::Loud);
            }
        }
        tally
    }
}

struct Run {
    server: Server,
    room: Room,
    model: Model,
    names: usize,
}

impl Run {
    async fn new() -> Self {
        let server = Server::new().await;
        let room = server.public("11").await;
        room.join(uid(BOB), Details::default()).await.expect("joins");
        Self { server, room, model: Model::default(), names: 0 }
    }

    async fn reader(&self) -> Reader {
        Reader { user_id: user(BOB), user_nid: self.server.nid(BOB).await, device_id: None }
    }

    async fn send(&mut self, bob: bool, kind: &str, content: Value, thread: Option<usize>, what: What) {
        let sender = user(if bob { BOB } else { ALICE });
        let sent = self.room.send(Outgoing::message(sender, kind, object(&content))).await.expect("sends");
        self.model.said.push(Said { id: sent.event_id, bob, thread, what, redacted: false });
    }

    /// The root of the thread that an answer to an event goes to.
    fn thread_for(&self, answers: usize) -> Option<usize> {
        let said = self.model.said.get(answers)?;
        (said.what != What::Other).then(|| said.thread.unwrap_or(answers))
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Say { bob, answers, loud } => {
                let thread = answers.and_then(|answers| self.thread_for(answers));
                let mut content = json!({ "msgtype": "m.text", "body": if loud { "hello bob" } else { "hello" } });
                if let Some(root) = thread {
                    let root = &self.model.said[root].id;
                    content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
                }
                let what = if loud { What::Loud } else { What::Message };
                self.send(bob, "m.room.message", content, thread, what).await;
            }
            Step::React { bob, to } => {
                let Some(said) = self.model.said.get(to) else { return };
                let relation = json!({ "rel_type": "m.annotation", "event_id": said.id, "key": self.model.said.len().to_string() });
                let thread = said.thread;
                self.send(bob, "m.reaction", json!({ "m.relates_to": relation }), thread, What::Other).await;
            }
            Step::Redact { bob, what } => self.redact(bob, what).await,
            Step::Read { up_to, about, private } => self.read(up_to, about, private).await,
            Step::Mute(on) => {
                let reader = self.reader().await;
                let owner = Owner { user: reader.user_nid, user_id: &reader.user_id };
                let rules = self.server.users.push_rules();
                rules.set_enabled(owner, RuleKind::Override, ".m.rule.master", on).await.expect("set");
                self.model.muted = on;
            }
            Step::Rename => {
                self.names += 1;
                let content = json!({ "membership": "join", "displayname": format!("Name {}", self.names) });
                let event = Outgoing::state(user(BOB), "m.room.member", BOB, object(&content));
                self.room.send(event).await.expect("renamed");
            }
            Step::Rejoin => {
                self.room.leave(uid(BOB), Details::default()).await.expect("leaves");
                self.room.join(uid(BOB), Details::default()).await.expect("joins");
                self.model.before = self.model.said.len();
            }
            Step::Look => self.compare().await,
            Step::Reopen => {
                self.server = Server::on(self.server.storage.clone(), self.server.clock.clone()).await;
                self.room = self.server.rooms.room(self.room.id()).await.expect("known");
            }
        }
    }

    async fn redact(&mut self, bob: bool, what: usize) {
        let Some(said) = self.model.said.get(what) else { return };
        if bob && !said.bob {
            return;
        }
        let (sender, id) = (user(if bob { BOB } else { ALICE }), said.id.clone());
        let redaction = Outgoing {
            redacts: Some(id.clone()),
            ..Outgoing::message(sender, "m.room.redaction", object(&json!({ "redacts": id })))
        };
        let sent = self.room.send(redaction).await.expect("redacts");
        self.model.said[what].redacted = true;
        self.model.said.push(Said { id: sent.event_id, bob, thread: None, what: What::Other, redacted: false });
    }

    async fn read(&mut self, up_to: usize, about: About, private: bool) {
        let Some(said) = self.model.said.get(up_to) else { return };
        let root = |at: usize| self.model.said[at].id.clone();
        let (thread, key) = match (about, said.thread) {
            (About::Everything, _) => (Thread::Unthreaded, Reading::Everything),
            (About::ItsThread, Some(at)) => (Thread::Root(root(at)), Reading::Thread(Some(at))),
            (About::Main | About::ItsThread, _) => (Thread::Main, Reading::Thread(None)),
        };
        let receipt_type = if private { ReceiptType::ReadPrivate } else { ReceiptType::Read };
        let marks = Marks { receipts: vec![(receipt_type, thread, said.id.clone())], fully_read: None };
        // What a redaction took out of its thread is refused there.
        if self.room.mark_read(&self.reader().await, &marks).await.is_ok() {
            let read = self.model.read.entry(key).or_insert(up_to);
            *read = up_to.max(*read);
        }
    }

    /// What is counted on from earlier, what is counted from the start, and what the model counts are the same.
    async fn compare(&self) {
        let (reads, reader) = (self.server.rooms.reads(), self.reader().await);
        let view = self.server.storage.view();
        let room = reads.room(&view, self.room.id()).await.expect("read").expect("there");
        let wishes = reads.wishes(&view, &reader).await.expect("read");
        let mut eyes = Eyes::open(&room, &reader.user_id, reader.user_nid).await.expect("read");
        let counted = reads.unread(&room, &reader, &wishes, &mut eyes).await.expect("read").expect("in the room");
        assert_eq!(counted.tally, self.model.counts(), "{:#?}", self.model);
        // So that the next start goes on from there.
        reads.store(&counted, (reader.user_nid, room.nid), &room).await.expect("read");
        let counting = Counting { room: &room, reader: &reader, wishes: &wishes };
        let anew = reads.count_anew(counting, &mut eyes).await.expect("read").expect("in the room");
        assert_eq!((&anew.tally, anew.since), (&counted.tally, counted.since));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn counts_are_those_of_a_fold_over_all_that_happened(steps in proptest::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut run = Run::new().await;
            for step in steps {
                run.take(step).await;
            }
            run.compare().await;
        });
    }
}

#[tokio::test]
async fn much_that_was_counted_is_stored_and_counted_on_from_after_a_start() {
    let mut run = Run::new().await;
    for _ in 0..STORED_AFTER * 3 {
        run.take(Step::Say { bob: false, answers: None, loud: false }).await;
    }
    let synced = run.server.rooms.reads().sync(&run.reader().await, crate::sync::SyncRequest::default()).await;
    assert!(synced.is_ok());
    let view = run.server.storage.view();
    let key = (run.server.nid(BOB).await, run.room.nid());
    let row = view.get::<CountsTable>(&key).await.expect("read").expect("stored");
    assert_eq!(row.main.0 as usize, STORED_AFTER * 3);
    run.take(Step::Reopen).await;
    run.take(Step::Say { bob: false, answers: None, loud: true }).await;
    run.compare().await;
}
