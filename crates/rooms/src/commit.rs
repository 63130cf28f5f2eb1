//! Committing a change, and what follows a commit: the worker's memory, then the readers' (I1, I2).

use primitives::StreamPosition;
use ruma::UserId;
use storage::{
    Batch, CommitError, Positioned, Raw,
    schema::rooms::{AuthPages, EventKind, Membership, RoomHeads, SlotKey},
};

use crate::{change::Change, memory::Memory, render::StoredEvent};

/// Of a room with more local members, those who wait are looked through instead of the members.
const CROWD: usize = 500;

impl Change {
    /// Whether the change writes or asserts anything at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Writes the change, publishes it and wakes whom it concerns. Answers with the memory of the room as it is now.
    ///
    /// The last assert of the batch is the room's head; all before it are riders'.
    pub(crate) async fn commit(mut self) -> Result<(Memory, StreamPosition), CommitError> {
        let room = self.memory.info.nid;
        let context = std::sync::Arc::clone(&self.context);
        let old_root = self.memory.stored.as_ref().map(|head| head.root);
        // Events that were refused after they were built may have left slots in the batch, and nodes that nothing holds.
        let sealed =
            !self.events.is_empty() || self.keeps_nodes || self.memory.stored.as_ref() != Some(&self.memory.head);
        if sealed {
            self.seal();
        }
        let batch = std::mem::replace(&mut self.batch, Batch::new());
        // Announced before it is visible, so that no reader takes the room for quiet meanwhile (I10).
        let rows = std::mem::take(&mut self.room_log);
        let logs = !rows.is_empty();
        let lists = self.members_changed || self.replaced.is_some();
        let writing = context.activity.writing(room).of_lists(lists).of_rows(rows);
        let members = context.activity.changing_members(room, &self.affected);
        let position = context.storage.commit(batch).await?;
        members.committed(position);
        if sealed {
            self.trees.publish();
        }
        if !self.withdrawn.is_empty() {
            context.activity.forget_rows(room);
        }
        self.stamp(position);
        self.tell_of_members();
        self.keep(position);
        if logs {
            writing.committed(position);
        }
        if old_root != Some(self.memory.head.root) {
            context.signals.change_state(room);
        }
        if self.begins_job {
            context.signals.begin_job();
        }
        self.wake(logs, position);
        Ok((self.memory, position))
    }

    /// Adds the head and the tree nodes.
    fn seal(&mut self) {
        self.trees.write(&mut self.batch);
        let memory = &mut self.memory;
        for page in &self.changed_pages {
            if let Some(edges) = memory.auth_pages.get(page) {
                self.batch.put::<AuthPages>(&(memory.info.nid, *page), &Raw(edges.encode(*page)));
            }
        }
        memory.head.next_node = self.trees.next().0;
        let key = (memory.info.nid,);
        self.batch.assert_unchanged::<RoomHeads>(&key, memory.stored.as_ref());
        self.batch.put::<RoomHeads>(&key, &memory.head);
        memory.stored = Some(memory.head.clone());
    }

    /// Gives the events of this change their position, where the memory holds them.
    fn stamp(&mut self, position: StreamPosition) {
        if let Some(partial) = self.memory.partial.as_mut().filter(|partial| partial.began == StreamPosition::PENDING) {
            partial.began = position;
        }
        for (rix, event) in &self.events {
            let Some(state_key) = event.pdu.state_key() else { continue };
            let key = SlotKey { event_type: event.pdu.kind().to_owned(), state_key: state_key.to_owned() };
            if let Some(Some(known)) = self.memory.state.get_mut(&key)
                && known.rix == *rix
            {
                known.position = position;
            }
        }
    }

    /// Lets what is in memory follow the members: who is out types no more, and who comes in is heard of.
    fn tell_of_members(&self) {
        for event in self.events.values() {
            let (Some(membership), Some(state_key)) = (event.header.membership, event.pdu.state_key()) else {
                continue;
            };
            let Ok(user) = <&UserId>::try_from(state_key) else { continue };
            if membership == Membership::Join {
                self.context.users.presence().touch(user);
            } else {
                self.context.typing.end(self.memory.info.nid, user);
            }
        }
    }

    /// Puts the events of this change where those who are woken for them look first.
    fn keep(&mut self, position: StreamPosition) {
        let room = self.memory.info.nid;
        let events = std::mem::take(&mut self.events);
        // Nobody is woken for an outlier.
        for (rix, event) in events.into_iter().filter(|(_, event)| event.header.kind != EventKind::Outlier) {
            let header = Positioned { position, value: event.header };
            self.context.caches.keep(room, StoredEvent::fresh(rix, header, event.pdu));
        }
        for rix in self.revised.keys() {
            self.context.caches.forget_event(room, *rix);
        }
    }

    /// Wakes the local users who may see something new. `logs`: something was appended to the room's log.
    fn wake(&self, logs: bool, position: StreamPosition) {
        let (wakeups, local) = (self.context.users.wakeups(), &self.memory.local);
        let joined = |membership: Option<&Membership>| membership == Some(&Membership::Join);
        if logs && local.len() > CROWD {
            wakeups.wake_crowd(|user| joined(local.get(&user)), position);
        } else if logs {
            local.iter().filter(|(_, member)| joined(Some(member))).for_each(|(user, _)| wakeups.wake(*user, position));
        }
        // Who was told above is not woken again.
        self.affected.iter().for_each(|user| wakeups.wake(*user, position));
    }
}
