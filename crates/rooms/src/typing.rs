//! Who is typing (specification, "Typing Notifications"). Lives in memory only.
//!
//! Every change of a room's list has a number of the [`Wakeups`]' sequence, which sync tokens hold. It is taken under the lock of the lists, so that
//! whoever reads a number and then the lists finds every change up to it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use primitives::{RoomNid, SharedClock, StreamPosition};
use ruma::{OwnedUserId, ServerName, UserId};
use storage::{ReadError, schema::rooms::Membership};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use users::{News, Wakeups};

use crate::{current::Current, registry::Rooms, room::Room};

/// The longest that somebody is taken to be typing without saying so again.
pub const MAX_TYPING: Duration = Duration::from_mins(2);
/// The same for who doesn't say how long.
pub const DEFAULT_TYPING: Duration = Duration::from_secs(30);

/// The longest that a user of another server is taken to be typing: that server says it again before.
const REMOTE_TYPING: Duration = Duration::from_mins(1);
/// Other servers are told again after so long that somebody goes on typing.
const TELL_AGAIN: Duration = Duration::from_secs(25);
/// Users of one room who type at once. More are not told of.
const MAX_TYPISTS: usize = 100;
/// Rooms in which somebody has typed since the start. Beyond that those are forgotten in which it was longest ago.
const MAX_ROOMS: usize = 100_000;
/// Lists are looked at no more often than this: what runs out in between is told together.
const LOOK: Duration = Duration::from_millis(250);
/// The same where nothing is known to run out soon. Presence is told with so much delay.
const TICK: Duration = Duration::from_secs(1);

/// Why somebody isn't shown as typing.
#[derive(Debug, thiserror::Error)]
pub enum TypingError {
    /// They are not in the room.
    #[error("you are not in this room")]
    NotInRoom,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

#[derive(Debug, Default)]
struct Typists {
    /// The number of the last change.
    changed: u64,
    /// Until when each is typing, on the monotonic clock.
    until: BTreeMap<OwnedUserId, Duration>,
    /// When other servers were told last that a user of this one types.
    told: BTreeMap<OwnedUserId, Duration>,
}

/// The lists of all rooms.
pub(crate) struct Typing {
    clock: SharedClock,
    wakeups: Wakeups,
    rooms: Mutex<HashMap<RoomNid, Typists>>,
    /// Somebody has begun to type.
    begun: Notify,
}

impl Typing {
    pub(crate) fn new(clock: SharedClock, wakeups: Wakeups) -> Self {
        Self { clock, wakeups, rooms: Mutex::default(), begun: Notify::new() }
    }

    /// Somebody types for that long. Answers with the number of the change, if the list is another one now.
    pub(crate) fn begin(&self, room: RoomNid, user: &UserId, span: Duration) -> Option<u64> {
        let until = self.clock.monotonic() + span.min(MAX_TYPING);
        let mut rooms = self.rooms.lock();
        if rooms.len() >= MAX_ROOMS && !rooms.contains_key(&room) {
            forget_half(&mut rooms);
        }
        let typists = rooms.entry(room).or_default();
        if !typists.until.contains_key(user) && typists.until.len() >= MAX_TYPISTS {
            return None;
        }
        self.begun.notify_one();
        let new = typists.until.insert(user.to_owned(), until).is_none();
        new.then(|| self.change(typists))
    }

    /// Somebody types no more. The first word on a room since the start counts as a change in any case: clients may still show what was before.
    pub(crate) fn end(&self, room: RoomNid, user: &UserId) -> Option<u64> {
        let mut rooms = self.rooms.lock();
        if rooms.len() >= MAX_ROOMS && !rooms.contains_key(&room) {
            return None;
        }
        let typists = rooms.entry(room).or_default();
        typists.told.remove(user);
        let was_there = typists.until.remove(user).is_some();
        (was_there || typists.changed == 0).then(|| self.change(typists))
    }

    fn change(&self, typists: &mut Typists) -> u64 {
        typists.changed = self.wakeups.next_change();
        typists.changed
    }

    /// Whether other servers are to be told now that a user types, who has begun to or goes on.
    fn tells_others(&self, room: RoomNid, user: &UserId) -> bool {
        let now = self.clock.monotonic();
        let mut rooms = self.rooms.lock();
        let Some(typists) = rooms.get_mut(&room).filter(|typists| typists.until.contains_key(user)) else {
            return false;
        };
        let due = typists.told.get(user).is_none_or(|told| now.saturating_sub(*told) >= TELL_AGAIN);
        if due {
            typists.told.insert(user.to_owned(), now);
        }
        due
    }

    /// Takes out those whose time is over. Answers with the rooms that changed, with those of a server who have ended, and how long it is to the
    /// next.
    fn expire(&self, own: &ServerName) -> (Vec<Expired>, Option<Duration>) {
        let now = self.clock.monotonic();
        let (mut changed, mut next) = (Vec::new(), None::<Duration>);
        for (room, typists) in self.rooms.lock().iter_mut() {
            let mut ended = BTreeSet::new();
            typists.until.retain(|user, until| *until > now || !ended.insert(user.clone()));
            if !ended.is_empty() {
                typists.told.retain(|user, _| !ended.contains(user));
                ended.retain(|user| user.server_name() == own);
                changed.push(Expired { room: *room, change: self.change(typists), ended });
            }
            next = typists.until.values().copied().chain(next).min();
        }
        (changed, next.map(|next| next.saturating_sub(now)))
    }

    /// The number of the last change in each of the rooms, in their order; 0 if there was none since the start.
    pub(crate) fn changes(&self, rooms: &[RoomNid]) -> Vec<u64> {
        let known = self.rooms.lock();
        if known.is_empty() {
            return vec![0; rooms.len()];
        }
        rooms.iter().map(|room| known.get(room).map_or(0, |typists| typists.changed)).collect()
    }

    /// Who is typing in a room.
    pub(crate) fn list(&self, room: RoomNid) -> Vec<OwnedUserId> {
        let now = self.clock.monotonic();
        let rooms = self.rooms.lock();
        let typists = rooms.get(&room).into_iter().flat_map(|typists| &typists.until);
        typists.filter(|(_, until)| **until > now).map(|(user, _)| user.clone()).collect()
    }
}

/// A room in which somebody types no more.
#[derive(Debug, PartialEq, Eq)]
struct Expired {
    room: RoomNid,
    /// The number of the change.
    change: u64,
    /// Those of this server.
    ended: BTreeSet<OwnedUserId>,
}

/// Forgets the half of the rooms in which the last change was longest ago, but none in which somebody types.
fn forget_half(rooms: &mut HashMap<RoomNid, Typists>) {
    let mut changes: Vec<u64> = rooms.values().map(|typists| typists.changed).collect();
    let middle = changes.len() / 2;
    let (_, median, _) = changes.select_nth_unstable(middle);
    let median = *median;
    rooms.retain(|_, typists| typists.changed > median || !typists.until.is_empty());
}

impl Room {
    /// A local user types for that long, or with `None` no more; 2 minutes at most, then it has to be said again.
    pub async fn set_typing(&self, user: &UserId, span: Option<Duration>) -> Result<(), TypingError> {
        let current = Current::read(self.context(), self.info()).await?.ok_or(TypingError::NotInRoom)?;
        if current.membership(user).await? != Some(Membership::Join) {
            return Err(TypingError::NotInRoom);
        }
        let typing = self.rooms().reads().typing();
        let change = match span {
            Some(span) => typing.begin(self.nid(), user, span),
            None => typing.end(self.nid(), user),
        };
        if change.is_some() && span.is_none() || span.is_some() && typing.tells_others(self.nid(), user) {
            self.rooms().note_typing(self.nid(), user);
        }
        if let Some(change) = change {
            self.rooms().wake_for(self.nid(), change).await?;
        }
        Ok(())
    }

    /// A user of another server types, or no more, as that server says; it says so again within a minute.
    pub async fn keep_typing(&self, user: &UserId, types: bool) -> Result<(), TypingError> {
        let current = Current::read(self.context(), self.info()).await?.ok_or(TypingError::NotInRoom)?;
        if !current.may_have_joined(user).await? {
            return Err(TypingError::NotInRoom);
        }
        let typing = self.rooms().reads().typing();
        let change = if types { typing.begin(self.nid(), user, REMOTE_TYPING) } else { typing.end(self.nid(), user) };
        if let Some(change) = change {
            self.rooms().wake_for(self.nid(), change).await?;
        }
        Ok(())
    }

    /// Whether a user types in the room.
    pub fn is_typing(&self, user: &UserId) -> bool {
        self.rooms().reads().typing().list(self.nid()).iter().any(|typist| typist == user)
    }
}

impl Rooms {
    fn note_typing(&self, room: RoomNid, user: &UserId) {
        // Nobody else looks.
        if self.remote().is_some() {
            self.signals().typing().note((room, user.to_owned()));
        }
    }

    /// Wakes the local members of a room for a change in memory.
    async fn wake_for(&self, room: RoomNid, change: u64) -> Result<(), ReadError> {
        self.wake_all_in(room, News { position: StreamPosition::ZERO, ephemeral: change }).await
    }

    /// Wakes the requests of all local users who are in a room.
    pub(crate) async fn wake_all_in(&self, room: RoomNid, news: News) -> Result<(), ReadError> {
        let members = self.reads().0.sync.local_members(&self.context().storage.view(), room).await?;
        self.context().users.wakeups().wake_all(&members, news);
        Ok(())
    }

    /// Does what is due: ends the typing of those whose time is over, notices who has gone or become idle, and tells those who are to hear of it.
    /// Answers how long it is until somebody's typing ends.
    pub async fn run_due(&self) -> Option<Duration> {
        let (changed, next) = self.reads().typing().expire(&self.options().server_name);
        for Expired { room, change, ended } in changed {
            for user in ended {
                self.note_typing(room, &user);
            }
            if let Err(error) = self.wake_for(room, change).await {
                tracing::error!(%error, "members are not told that somebody types no more");
            }
        }
        if let Err(error) = self.tell_presence().await {
            tracing::error!(%error, "requests that wait are not told of presence");
        }
        next
    }

    /// Does what is due in the background until it is cancelled. The owner spawns it on its tracker.
    pub async fn run(&self, cancel: CancellationToken) {
        let (clock, begun) = (self.context().clock.clone(), &self.reads().typing().begun);
        while !cancel.is_cancelled() {
            let next = self.run_due().await;
            let presence = self.context().users.presence().is_enabled();
            let wait = async {
                match next {
                    None if !presence => begun.notified().await,
                    next => clock.sleep(next.unwrap_or(TICK).clamp(LOOK, TICK)).await,
                }
            };
            cancel.run_until_cancelled(wait).await;
        }
    }
}

#[cfg(test)]
mod tests;
