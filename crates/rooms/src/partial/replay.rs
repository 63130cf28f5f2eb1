//! Judging again what arrived while the state was partial.
//!
//! ```text
//! notes:   join ── event ── event ── … ── event        (in the order of arrival)
//!          └ the state that was fetched
//! replay:  extremities and current state of its own, note by note, over several batches
//! last:    they become the room's
//! ```
//!
//! Meanwhile the room goes on as it was: what arrives is noted too, and replayed in its turn.

use imbl::HashMap;
use primitives::{NodeId, Rix, StreamPosition};
use ruma::OwnedEventId;
use storage::{
    Direction, KeyRange, Positioned, ReadError,
    schema::{
        jobs::{self, JobKind},
        rooms::{
            EventHeader, EventKind, EventLocal, Gaps, PartialEvent, PartialEvents, PartialRooms, PartialStage,
            PendingRedactions, Redactions, RoomLog, RoomLogEntry, SlotKey, Timeline, Verdict,
        },
    },
};
use tokio::sync::oneshot;

use crate::{
    Pdu, StageError,
    change::Change,
    load::{StoredEvent, corrupt},
    memory::Tip,
    persist::Judged,
    receive::{Place, Prepared},
};

/// Notes that are replayed in one batch: more than one request to the worker adds.
const AT_ONCE: usize = 200;
/// Bytes of a batch at which a replay ends for now.
const ENOUGH_BYTES: usize = 2 << 20;

/// What a room's worker is asked.
pub(crate) enum PartialRequest {
    /// Note the states that were lacking at an event: `Ok` their roots, or `Err` that they are lacking again.
    Give { number: u32, given: Result<Vec<NodeId>, Vec<String>>, reply: oneshot::Sender<Result<(), StageError>> },
    /// Judge the next events again.
    Replay { reply: oneshot::Sender<Result<Replayed, StageError>> },
}

/// How far a replay has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// There is more to do.
    More,
    /// The state is whole.
    Whole,
    /// A state is still lacking.
    Waits,
    /// The state that was given before this note doesn't allow the join that it is of.
    Refused(u32, PartialEvent),
}

/// The room as clients see it, put aside for a replay.
struct Aside {
    tips: Vec<Tip>,
    root: NodeId,
}

impl Change {
    /// Notes the states that were lacking at an event, or that they are lacking again.
    pub(crate) async fn give_states(
        &mut self,
        number: u32,
        given: Result<Vec<NodeId>, Vec<String>>,
    ) -> Result<(), ReadError> {
        let key = (self.memory.info.nid, number);
        let Some(note) = self.view.get::<PartialEvents>(&key).await? else { return Ok(()) };
        let (given, awaits) = match given {
            Ok(given) => (given, Vec::new()),
            Err(awaits) => (Vec::new(), awaits),
        };
        self.batch.put::<PartialEvents>(&key, &PartialEvent { given, awaits, ..note });
        self.keeps_nodes = true;
        Ok(())
    }

    /// Judges the next events again. With the last one, the room's state is whole.
    pub(crate) async fn replay(&mut self) -> Result<Replayed, ReadError> {
        let Some(partial) = self.memory.partial.clone() else { return Ok(Replayed::Whole) };
        let room = self.memory.info.nid;
        let (mut next, extremities, root) = match partial.row.stage.clone() {
            PartialStage::Replaying { next, extremities, root } => (next, extremities, root),
            PartialStage::Fetching | PartialStage::Whole { .. } => (0, Vec::new(), NodeId(0)),
        };
        let range = KeyRange::from(&(room,), &(room, next));
        let page = self.view.scan::<PartialEvents>(&range, AT_ONCE, Direction::Forward).await?;
        if page.rows.first().is_some_and(|(_, note)| !note.awaits.is_empty()) {
            return Ok(Replayed::Waits);
        }
        let aside = self.put_aside(&extremities, root).await?;
        let mut all = page.rest.is_none();
        for ((_, number), note) in page.rows {
            if !note.awaits.is_empty() || self.batch.size() > ENOUGH_BYTES {
                all = false;
                break;
            }
            if !self.redo(&note).await? {
                return Ok(Replayed::Refused(number, note));
            }
            next = number + 1;
        }
        self.keeps_nodes = true;
        if all {
            self.become_whole(aside.root, partial.began).await?;
            return Ok(Replayed::Whole);
        }
        let extremities = self.memory.tips.iter().map(|tip| tip.rix).collect();
        let mut row = partial.row;
        row.stage = PartialStage::Replaying { next, extremities, root: self.memory.head.root };
        self.take_back(aside);
        self.batch.put::<PartialRooms>(&(room,), &Positioned { position: partial.began, value: row.clone() });
        if let Some(partial) = &mut self.memory.partial {
            partial.row = row;
        }
        Ok(Replayed::More)
    }

    async fn put_aside(&mut self, extremities: &[Rix], root: NodeId) -> Result<Aside, ReadError> {
        let mut tips = Vec::with_capacity(extremities.len());
        for rix in extremities {
            let event = self.event(*rix).await?;
            let (rank, root_after) = (event.header.rank, event.header.root_after);
            tips.push(Tip { rix: *rix, rank, root_after, pdu: event.pdu });
        }
        self.memory.state = HashMap::new();
        let tips = std::mem::replace(&mut self.memory.tips, tips);
        let root = std::mem::replace(&mut self.memory.head.root, root);
        self.aside = Some(root);
        self.note_tips();
        Ok(Aside { tips, root })
    }

    /// Lets the room go on as it was. What was judged again has other states now, also where it is an extremity.
    fn take_back(&mut self, aside: Aside) {
        self.memory.tips = aside.tips;
        self.memory.head.root = aside.root;
        self.memory.state = HashMap::new();
        self.note_tips();
        self.aside = None;
    }

    /// What has been replayed becomes the room.
    async fn become_whole(&mut self, old: NodeId, began: StreamPosition) -> Result<(), ReadError> {
        let (room, new) = (self.memory.info.nid, self.memory.head.root);
        self.aside = None;
        let Some(mut partial) = self.memory.partial.take() else { return Ok(()) };
        let changes = self.local_differences(old, new).await?;
        self.memory.state = HashMap::new();
        self.remember(&changes).await?;
        self.write_differences(&changes).await?;
        self.members_changed = true;
        self.log(RoomLogEntry::Whole { old, new });
        partial.row.stage = PartialStage::Whole { began };
        self.batch.put::<PartialRooms>(&(room,), &Positioned::pending(partial.row));
        self.batch.delete_prefix::<PartialEvents>(&(room,));
        jobs::begin(&mut self.batch, JobKind::MADE_WHOLE, &(room,));
        self.begins_job = true;
        Ok(())
    }

    /// Judges one event again. Answers `false` if it is a join with which the room began, and the state that was given doesn't allow it.
    async fn redo(&mut self, note: &PartialEvent) -> Result<bool, ReadError> {
        let StoredEvent { position, header, pdu } = self.event(note.rix).await?;
        let mut roots = note.given.clone();
        for prev in &note.prev {
            roots.push(self.header(*prev).await?.root_after);
        }
        let root_before = self.resolved(&roots).await?;
        if note.begins {
            self.memory.tips.clear();
            self.set_root(root_before);
        }
        let auth = self.auth_events_of(&pdu).await?;
        let auth = auth.map_err(|_| corrupt::<PartialEvents>(format!("auth events of {} are missing", note.rix)))?;
        let place = Place { rank: header.rank, root_before, prev: note.prev.clone(), ..Place::default() };
        let event = Prepared {
            pdu: pdu.clone().with_rejected(false),
            outlier: false,
            relay: false,
            given: Vec::new(),
            local: EventLocal::default(),
            policy_asked: false,
        };
        // Its policy server was asked when it came, if it was known then that the room has one.
        let verdict = self.judge(&event, &auth, &place).await?.unwrap_or_else(|| header.verdict.clone());
        if note.begins && verdict != Verdict::Accepted {
            tracing::warn!(room = %self.memory.info.room_id, ?verdict, "a state that was given doesn't allow the join");
            return Ok(false);
        }
        let judged = Judged {
            pdu: event.pdu,
            kind: EventKind::Timeline,
            verdict: verdict.clone(),
            rank: header.rank,
            root_before,
            auth: header.auth.clone(),
            prev: note.prev.clone(),
            missing_prev: self.still_missing(&pdu, &header).await?,
            local: EventLocal::default(),
            relay: false,
            known_as: Some(note.rix),
            given: Vec::new(),
        };
        let root_after = self.root_after(&judged, note.rix).await?;
        let (was, is) = (header.verdict == Verdict::Accepted, verdict == Verdict::Accepted);
        let rejected = matches!(verdict, Verdict::Rejected(_));
        let redone = StoredEvent {
            position: if is && !was { StreamPosition::PENDING } else { position },
            header: EventHeader { verdict, root_before, root_after, ..header },
            pdu: pdu.with_rejected(rejected),
        };
        self.revise(note.rix, redone);
        match (was, is) {
            (true, false) => self.withdraw(&judged, note.rix, position).await?,
            (false, true) => self.show(&judged, note.rix).await?,
            (true, true) => self.redo_redaction(&judged, note.rix).await?,
            (false, false) => {}
        }
        if !is {
            self.follow_across(&judged).await?;
        } else if self.extend_tips(&judged, note.rix, root_after).await? {
            let roots: Vec<_> = self.memory.tips.iter().map(|tip| tip.root_after).collect();
            let root = self.resolved(&roots).await?;
            self.set_root(root);
        }
        Ok(true)
    }

    fn set_root(&mut self, root: NodeId) {
        if self.memory.head.root != root {
            self.memory.head.root = root;
            self.memory.state = HashMap::new();
        }
    }

    /// The previous events that still are not part of the room's DAG here.
    async fn still_missing(&self, pdu: &Pdu, header: &EventHeader) -> Result<Vec<OwnedEventId>, ReadError> {
        let mut missing = Vec::new();
        for id in pdu.prev_events() {
            let known = self.find(id).await?;
            if known.is_none_or(|rix| !header.prev.contains(&rix)) {
                missing.push(id.clone());
            }
        }
        Ok(missing)
    }

    /// An event that was refused is accepted now: it arrives anew.
    async fn show(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        self.close_gaps(event, rix).await?;
        self.index(event, rix).await?;
        self.write_timeline(event, rix);
        if let (Some(_), Some(state_key)) = (event.pdu.membership(), event.pdu.state_key())
            && let Ok(user) = <&ruma::UserId>::try_from(state_key)
            && user.server_name() != self.context.options.server_name
        {
            let key = SlotKey { event_type: event.pdu.kind().to_owned(), state_key: state_key.to_owned() };
            let slot = self.slot(&key).await?;
            self.write_server_slot(user, slot, true);
        }
        let (root, changed) = (self.aside.unwrap_or(self.memory.head.root), Some(Vec::new()));
        self.log(RoomLogEntry::Event { rix, rank: event.rank, root, changed, relay: false });
        Ok(())
    }

    /// An event that was accepted is refused now: it goes from wherever it is shown.
    async fn withdraw(&mut self, event: &Judged, rix: Rix, position: StreamPosition) -> Result<(), ReadError> {
        let room = self.memory.info.nid;
        self.batch.delete::<Timeline>(&(room, event.rank, rix));
        if !event.missing_prev.is_empty() {
            self.batch.delete::<Gaps>(&(room, event.rank));
            self.new_gaps.insert(event.rank, Vec::new());
        }
        self.unrelate(rix).await?;
        if let Some(target) = event.pdu.redacts() {
            let key = (room, self.target_hash(target.as_str()), rix);
            self.batch.delete::<Redactions>(&key).delete::<PendingRedactions>(&key);
        }
        self.take_from_log(rix, position).await
    }

    /// Takes an event's row out of the room's log. What it changed of the state stays said.
    async fn take_from_log(&mut self, rix: Rix, position: StreamPosition) -> Result<(), ReadError> {
        let room = self.memory.info.nid;
        let rows = self.view.scan::<RoomLog>(&KeyRange::prefix(&(room, position)), AT_ONCE, Direction::Forward).await?;
        let is_its = |entry: &RoomLogEntry| matches!(entry, RoomLogEntry::Event { rix: logged, .. } if *logged == rix);
        let Some((key, entry)) = rows.rows.into_iter().find(|(_, entry)| is_its(entry)) else { return Ok(()) };
        let RoomLogEntry::Event { root: new, .. } = entry else { return Ok(()) };
        self.withdrawn.push(rix);
        let mut rest = Some(KeyRange::until(&(room,), &key));
        while let Some(range) = rest {
            let page = self.view.scan::<RoomLog>(&range, AT_ONCE, Direction::Backward).await?;
            for (_, before) in page.rows {
                let old = match before {
                    RoomLogEntry::Event { root, .. } => root,
                    RoomLogEntry::Reset { new, .. } | RoomLogEntry::Whole { new, .. } => new,
                    RoomLogEntry::DeviceChange { .. } => continue,
                };
                if old == new {
                    self.batch.delete::<RoomLog>(&key);
                } else {
                    self.batch.put::<RoomLog>(&key, &RoomLogEntry::Reset { old, new });
                }
                return Ok(());
            }
            rest = page.rest;
        }
        Ok(())
    }

    /// Whether a redaction takes effect is asked again of the whole state.
    async fn redo_redaction(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        let Some(target) = event.pdu.redacts() else { return Ok(()) };
        let Some(found) = self.find(target).await? else { return Ok(()) };
        let header = self.header(found).await?;
        let slice = self.redaction_slice(event.root_before).await?;
        let key = (self.memory.info.nid, self.target_hash(target.as_str()), rix);
        let applied = self.view.contains::<Redactions>(&key).await?;
        match (applied, Self::redaction_applies(&event.pdu, &slice, &header)) {
            (true, false) => drop(self.batch.delete::<Redactions>(&key)),
            (false, true) => self.put_redaction(&key, found).await?,
            _ => {}
        }
        Ok(())
    }
}
