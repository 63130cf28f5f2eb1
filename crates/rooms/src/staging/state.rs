//! The worker's part of staging: slots and tree nodes that no head points to, and the batch that points the head to them.

use primitives::{NodeId, Rank, Rix};
use ruma::{OwnedEventId, UserId};
use storage::{
    ReadError, Text,
    schema::{
        jobs::{self, JobKind, StagedRooms},
        rooms::{
            EventKind, EventLocal, PartialEvent, PartialEvents, RoomIds, RoomLogEntry, RoomRow, Rooms, SlotKey,
            SlotKeys, Verdict,
        },
    },
};

use super::{Begin, StageError};
use crate::{
    change::Change,
    persist::{Judged, SlotChange},
    state::{self, Difference, is_member_slot},
};

/// Slots whose keys are read at once.
const PAGE: usize = 1_000;

impl Change {
    /// The state that `root` becomes with these events. Slots that are new are given out, and those of members are noted for their servers.
    pub(crate) async fn stage_state(&mut self, root: NodeId, ids: &[OwnedEventId]) -> Result<NodeId, StageError> {
        let (mut changes, mut missing) = (Vec::with_capacity(ids.len()), Vec::new());
        for id in ids {
            let Some(rix) = self.find(id).await? else {
                missing.push(id.clone());
                continue;
            };
            let header = self.header(rix).await?;
            let (Some(state_key), false) = (header.state_key, matches!(header.verdict, Verdict::Rejected(_))) else {
                continue;
            };
            let key = SlotKey { event_type: header.event_type, state_key };
            let slot = self.slot(&key).await?;
            if let ("m.room.member", Ok(user)) = (&*key.event_type, <&UserId>::try_from(key.state_key.as_str()))
                && user.server_name() != self.context.options.server_name
            {
                self.write_server_slot(user, slot, true);
            }
            changes.push(state::Change { slot, rix, membership: header.membership });
        }
        if !missing.is_empty() {
            return Err(StageError::Missing(missing));
        }
        self.keeps_nodes = true;
        let key = self.context.storage.hash();
        Ok(self.trees.apply(root, &changes, &key).await?)
    }

    /// Points the head to an event on a staged state. Answers `false` if the event is there already.
    pub(crate) async fn begin(&mut self, begin: &Begin) -> Result<bool, StageError> {
        let pdu = &begin.event.pdu;
        let known_as = self.find(pdu.event_id()).await?;
        if let Some(rix) = known_as
            && self.header(rix).await?.kind != EventKind::Outlier
        {
            return Ok(false);
        }
        if self.memory.local.values().any(|membership| *membership == storage::schema::rooms::Membership::Join) {
            return Err(StageError::Joined);
        }
        let auth = self.auth_events_of(pdu).await?.map_err(StageError::Missing)?;
        let (mut prev, mut missing_prev) = (Vec::new(), Vec::new());
        for id in pdu.prev_events() {
            match self.find(id).await? {
                Some(rix) if self.header(rix).await?.kind != EventKind::Outlier => prev.push(rix),
                _ => missing_prev.push(id.clone()),
            }
        }
        if pdu.kind() == "m.room.create" || pdu.prev_events().is_empty() {
            return Err(StageError::Refused("it is not an event on others".to_owned()));
        }
        if let Some(partial) = &begin.partial {
            self.begin_partial(partial);
            jobs::begin(&mut self.batch, JobKind::RESYNC, &(self.memory.info.nid,));
            self.begins_job = true;
        }
        let note = self.note_of(begin, &prev, &missing_prev).await?;
        let state = self.state_to_begin_with(begin, &note).await?;
        let verdict = self.judge_in_place(pdu, &auth, Some(state)).await?;
        if let Verdict::Rejected(reason) | Verdict::SoftFailed(reason) = verdict {
            return Err(StageError::Refused(reason));
        }
        let mut rixes: Vec<_> = auth.iter().flatten().map(|(rix, _)| *rix).collect();
        rixes.sort_unstable();
        self.write_begun_room();
        self.forget_tips(state);
        let rank = self.rank_to_begin_with(&prev, &missing_prev).await?;
        let number = self.memory.partial.as_ref().map(|partial| partial.next);
        let rix = self
            .persist(Judged {
                pdu: pdu.clone(),
                kind: EventKind::Timeline,
                verdict,
                rank,
                root_before: state,
                auth: rixes,
                prev,
                missing_prev,
                local: EventLocal::default(),
                relay: false,
                known_as,
                given: Vec::new(),
            })
            .await?;
        if let Some(number) = number {
            self.batch.put::<PartialEvents>(&(self.memory.info.nid, number), &PartialEvent { rix, ..note });
        }
        Ok(true)
    }

    /// The state that was given; or where it is only a part, and all that the event follows is here, what that makes.
    async fn state_to_begin_with(&mut self, begin: &Begin, note: &PartialEvent) -> Result<NodeId, ReadError> {
        if begin.partial.is_none() || !note.awaits.is_empty() {
            return Ok(begin.state);
        }
        let mut roots = Vec::with_capacity(note.prev.len());
        for rix in &note.prev {
            roots.push(self.header(*rix).await?.root_after);
        }
        self.resolved(&roots).await
    }

    /// One above what the event follows; where that is not all here, after a gap.
    async fn rank_to_begin_with(&self, prev: &[Rix], missing_prev: &[OwnedEventId]) -> Result<Rank, ReadError> {
        if !missing_prev.is_empty() {
            return Ok(Rank(self.memory.head.max_rank.0 + Rank::GAP));
        }
        let mut highest = None;
        for rix in prev {
            highest = highest.max(Some(self.header(*rix).await?.rank));
        }
        Ok(highest.map_or(Rank::FIRST, Rank::next))
    }

    /// What the state before an event with which a room begins is made of: states that are still to be fetched, if only a part of it was given.
    async fn note_of(
        &self,
        begin: &Begin,
        prev: &[Rix],
        missing_prev: &[OwnedEventId],
    ) -> Result<PartialEvent, ReadError> {
        let mut note = PartialEvent { begins: true, ..PartialEvent::default() };
        if begin.partial.is_none() {
            note.given.push(begin.state);
            return Ok(note);
        }
        note.awaits = missing_prev.iter().map(ToString::to_string).collect();
        for rix in prev {
            let header = self.header(*rix).await?;
            if header.root_after == state::EMPTY {
                note.awaits.push(header.event_id);
            } else {
                note.prev.push(*rix);
            }
        }
        Ok(note)
    }

    /// The rows by which a room is found, where it is new here.
    fn write_begun_room(&mut self) {
        let info = &self.memory.info;
        let key = (Text::new(info.room_id.as_str()),);
        let row = RoomRow { room_id: info.room_id.to_string(), version: info.version.as_str().to_owned() };
        self.batch.delete::<StagedRooms>(&key).put::<RoomIds>(&key, &info.nid).put::<Rooms>(&(info.nid,), &row);
    }

    /// Lets the state be another and nothing be at the end of the room: what comes next stands alone. Where there was a state, the log says that it is another.
    fn forget_tips(&mut self, state: NodeId) {
        let old = std::mem::replace(&mut self.memory.head.root, state);
        self.replaced = Some(old);
        if !self.memory.tips.is_empty() {
            self.log(RoomLogEntry::Reset { old, new: state });
        }
        self.memory.tips.clear();
        self.memory.state = imbl::HashMap::new();
    }

    /// Of what differs between two states, the slots of local users and those that few rooms have many of: all but other servers' members, whose rows
    /// are written when their slots are staged.
    pub(crate) async fn local_differences(&self, old: NodeId, new: NodeId) -> Result<Vec<SlotChange>, ReadError> {
        let mut changes = Vec::new();
        let all = self.trees.diff(old, new).await?;
        for part in all.chunks(PAGE) {
            let keys = self.slot_keys(part).await?;
            for (difference, key) in part.iter().zip(keys) {
                let is_remote = is_member_slot(difference.slot)
                    && <&UserId>::try_from(key.state_key.as_str())
                        .is_ok_and(|user| user.server_name() != self.context.options.server_name);
                // Of whom a partial state says nothing, nothing has changed.
                let is_unknown = self.is_partial() && is_member_slot(difference.slot) && difference.after.is_none();
                if !is_remote && !is_unknown {
                    let (old, new) =
                        (difference.before.map(|entry| entry.rix), difference.after.map(|entry| entry.rix));
                    changes.push(SlotChange { slot: difference.slot, key, old, new });
                }
            }
        }
        Ok(changes)
    }

    async fn slot_keys(&self, part: &[Difference]) -> Result<Vec<SlotKey>, ReadError> {
        let room = self.memory.info.nid;
        let keys: Vec<_> = part.iter().map(|difference| (room, difference.slot)).collect();
        let rows = self.view.multi_get::<SlotKeys>(&keys).await?;
        let mut found = Vec::with_capacity(part.len());
        for (difference, row) in part.iter().zip(rows) {
            found.push(match row {
                Some(key) => key,
                // One that this change gives out.
                None => self.slot_key(difference.slot).await?,
            });
        }
        Ok(found)
    }
}
