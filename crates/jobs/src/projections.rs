//! Projections: rows that can be derived from the states of rooms at any time, each written by one [`Projection`] and by nobody else.
//!
//! For each room a projection stores which state root it reflects ([`storage::schema::jobs::Projected`]). State trees never change, so it catches up by
//! the difference between that root and the current one, a bounded part a batch, each batch asserting the row: what is applied is applied once, and a kill
//! leaves a projection that goes on where it was. Why the state changed doesn't matter: events, resolutions, joins and restarts need no code of their own.
//!
//! Which rooms to look at is known from [`rooms::Signals`] in a running server, and from one scan of the heads when it starts. A send writes nothing for it.
//!
//! A reader sees a projection a moment after the state; one that must not miss what it has just read calls [`Projections::catch_up`] first.
//!
//! To add a projection: a number of its own, a file here that implements [`Projection`] (its tables' rows are made of the changes in
//! [`RoomChange`] and of nothing else that can change), and a line in [`Projections::open`]. It sees every room from its beginning, also on a store
//! that is older than the projection. A redaction changes no state, so a projection that keeps content keeps it as it was.
//!
//! Whoever purges a room marks its head first; then the state is the empty one for every projection. It may delete the room's tree once
//! [`Projections::catch_up`] has been through.

mod members;
mod verify;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use primitives::{NodeId, Rix, RoomNid, SharedClock, Slot};
use rooms::{
    Rooms,
    state::{self, Difference, Entry},
    tree::StoredTrees,
};
use storage::{
    Batch, CommitError, CorruptValue, Direction, KeyRange, ReadError, Storage, Table, View,
    schema::{
        jobs::{self, Projected, ProjectedRow, Towards},
        rooms::{EventJson, RoomHeads, SlotKey, SlotKeys},
    },
};
use tokio_util::sync::CancellationToken;

pub use members::Members;

/// Changed slots that one batch reflects.
const SLOTS: usize = 500;
/// Rooms that one page of the scan at the start looks at.
const PAGE: usize = 1_000;
/// Rooms that are taken from the signals at once.
const ROOMS: usize = 1_000;
/// A room that could not be reflected is tried again after this long.
const RETRY: Duration = Duration::from_secs(30);

/// Why a projection is behind.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error(transparent)]
    Commit(CommitError),
}

/// Rows derived from the states of rooms.
pub trait Projection: Send + Sync + 'static {
    /// Its number, in the key of [`Projected`]. Never used for another projection: what it reflects is forgotten by taking a new one.
    fn number(&self) -> u8;

    /// Its name, in logs.
    fn name(&self) -> &'static str;

    /// Whether it makes anything of a slot: [`state::is_member_slot`] tells members from the rest.
    fn concerns(&self, slot: Slot) -> bool;

    /// Writes what some changed slots mean. They come in order, each exactly once between two states; the rows that other batches of this projection
    /// wrote are as the change's view shows them.
    fn apply<'a>(&'a self, change: &'a RoomChange, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), ReadError>>;
}

/// A slot of a room that holds something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotChange {
    /// The type and state key.
    pub key: SlotKey,
    /// What it held.
    pub before: Option<Entry>,
    /// What it holds now.
    pub after: Option<Entry>,
}

/// Some of what differs between two states of a room.
#[derive(Clone, Debug)]
pub struct RoomChange {
    /// What the store shows.
    pub view: View,
    /// The room.
    pub room: RoomNid,
    /// The root of the newer state.
    pub root: NodeId,
    /// The room's states.
    pub trees: StoredTrees,
    /// The slots, in their order.
    pub slots: Vec<SlotChange>,
}

impl RoomChange {
    /// An event, canonical JSON as it was received.
    pub async fn json(&self, rix: Rix) -> Result<Vec<u8>, ReadError> {
        let json = self.view.get::<EventJson>(&(self.room, rix)).await?;
        json.map(|json| json.0).ok_or_else(|| missing::<EventJson>(&format!("event {rix} of room {}", self.room)))
    }
}

fn missing<T: Table>(what: &str) -> ReadError {
    CorruptValue { table: T::NAME, reason: format!("{what} is missing") }.into()
}

/// The projections of this server. Cheap to clone.
#[derive(Clone)]
pub struct Projections(Arc<Inner>);

struct Inner {
    storage: Storage,
    rooms: Rooms,
    clock: SharedClock,
    all: Vec<Arc<dyn Projection>>,
}

impl std::fmt::Debug for Projections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Projections")
    }
}

impl Projections {
    /// The projections of the rooms in a store. Nothing is written before [`Self::run`].
    pub fn open(storage: Storage, rooms: Rooms, clock: SharedClock) -> Self {
        let all: Vec<Arc<dyn Projection>> = vec![Arc::new(Members::new(rooms.options().server_name.clone()))];
        Self::of(storage, rooms, clock, all)
    }

    pub(crate) fn of(storage: Storage, rooms: Rooms, clock: SharedClock, all: Vec<Arc<dyn Projection>>) -> Self {
        Self(Arc::new(Inner { storage, rooms, clock, all }))
    }

    /// Brings every projection of a room up to its state as it is now.
    pub async fn catch_up(&self, room: RoomNid) -> Result<(), ProjectionError> {
        for projection in &self.0.all {
            self.0.reflect(&**projection, room).await?;
        }
        Ok(())
    }

    /// Brings every projection of every room up to its state.
    pub async fn catch_up_all(&self) -> Result<(), ProjectionError> {
        for room in self.0.behind().await? {
            self.catch_up(room).await?;
        }
        Ok(())
    }

    /// Follows the rooms until cancelled. The owner spawns it on its tracker.
    pub async fn run(&self, cancel: CancellationToken) {
        let signals = self.0.rooms.signals();
        match self.0.behind().await {
            Ok(behind) => behind.into_iter().for_each(|room| signals.change_state(room)),
            Err(error) => tracing::error!(%error, "what projections have missed is not known before the next start"),
        }
        let (mut failed, mut retry_at) = (BTreeSet::new(), None);
        while !cancel.is_cancelled() {
            self.follow(&cancel, &mut failed).await;
            let now = self.0.clock.monotonic();
            // The first failure counts: what goes on changing must not put the retry off for ever.
            retry_at = retry_at.or(Some(now + RETRY)).filter(|_| !failed.is_empty());
            tokio::select! {
                () = cancel.cancelled() => {}
                () = signals.state_changed() => {}
                () = self.0.clock.sleep(retry_at.unwrap_or(now).saturating_sub(now)), if retry_at.is_some() => {
                    retry_at = None;
                    for room in std::mem::take(&mut failed) {
                        signals.change_state(room);
                    }
                }
            }
        }
    }

    /// Reflects the rooms that have changed.
    async fn follow(&self, cancel: &CancellationToken, failed: &mut BTreeSet<RoomNid>) {
        loop {
            let changed = self.0.rooms.signals().take_changed(ROOMS);
            if changed.is_empty() {
                return;
            }
            for room in changed {
                if cancel.is_cancelled() {
                    return;
                }
                if let Err(error) = self.catch_up(room).await {
                    tracing::warn!(%error, %room, "a room's projections are behind and will be tried again");
                    failed.insert(room);
                }
            }
        }
    }
}

impl Inner {
    /// The rooms whose state is another than a projection reflects.
    async fn behind(&self) -> Result<Vec<RoomNid>, ReadError> {
        let view = self.storage.view();
        let mut behind = Vec::new();
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = view.scan::<RoomHeads>(&range, PAGE, Direction::Forward).await?;
            rest = page.rest;
            for projection in &self.all {
                let keys: Vec<_> = page.rows.iter().map(|((room,), _)| (projection.number(), *room)).collect();
                let rows = view.multi_get::<Projected>(&keys).await?;
                for (((room,), head), row) in page.rows.iter().zip(rows) {
                    let current = if head.purging { state::EMPTY } else { head.root };
                    let reflected = ProjectedRow { root: current, towards: None };
                    if row.unwrap_or(ProjectedRow { root: state::EMPTY, towards: None }) != reflected {
                        behind.push(*room);
                    }
                }
            }
        }
        behind.sort_unstable();
        behind.dedup();
        Ok(behind)
    }

    /// Brings a projection of a room up to its state, a batch at a time.
    async fn reflect(&self, projection: &dyn Projection, room: RoomNid) -> Result<(), ProjectionError> {
        let mut way = Way::default();
        loop {
            let view = self.storage.view();
            let key = (projection.number(), room);
            let row = view.get::<Projected>(&key).await?;
            let head = view.get::<RoomHeads>(&(room,)).await?.filter(|head| !head.purging);
            let reflected = row.unwrap_or(ProjectedRow { root: state::EMPTY, towards: None });
            let (to, done) = match reflected.towards {
                Some(towards) => (towards.root, Some(towards.done)),
                None => (head.map_or(state::EMPTY, |head| head.root), None),
            };
            if reflected.root == to {
                return Ok(());
            }
            let trees = StoredTrees::new(view.clone(), room, Arc::clone(self.rooms.nodes()));
            way.go(&trees, (reflected.root, to), done, projection).await?;
            let (part, left) = way.part();
            let next = match part.last().filter(|_| left) {
                Some(last) => ProjectedRow { towards: Some(Towards { root: to, done: last.slot }), ..reflected },
                None => ProjectedRow { root: to, towards: None },
            };
            let slots = slot_changes(&view, room, part).await?;
            let change = RoomChange { view, room, root: to, trees, slots };
            let mut batch = Batch::new();
            batch.assert_unchanged::<Projected>(&key, row.as_ref()).put::<Projected>(&key, &next);
            projection.apply(&change, &mut batch).await?;
            let begins_job = jobs::begins(&batch);
            match self.storage.commit(batch).await {
                Ok(_) if begins_job => self.rooms.signals().begin_job(),
                // Where there is a conflict, somebody else has done the same.
                Ok(_) | Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(ProjectionError::Commit(error)),
            }
        }
    }
}

/// What is left of the difference between two states.
#[derive(Debug, Default)]
struct Way {
    ends: Option<(NodeId, NodeId)>,
    /// The last slot that was taken.
    done: Option<Slot>,
    left: VecDeque<Difference>,
}

impl Way {
    /// Goes on after a slot on the way between two states; the difference is looked up once.
    async fn go(
        &mut self,
        trees: &StoredTrees,
        ends: (NodeId, NodeId),
        done: Option<Slot>,
        projection: &dyn Projection,
    ) -> Result<(), ReadError> {
        // A way that somebody else has gone a part of meanwhile is looked up again too.
        if self.ends == Some(ends) && self.done == done && done.is_some() {
            return Ok(());
        }
        let all = trees.run(|source| state::diff(&source, ends.0, ends.1)).await?;
        let left = all.into_iter().filter(|next| projection.concerns(next.slot) && Some(next.slot) > done);
        *self = Self { ends: Some(ends), done, left: left.collect() };
        Ok(())
    }

    /// Takes the next part, and says whether there is more.
    fn part(&mut self) -> (Vec<Difference>, bool) {
        let part: Vec<_> = self.left.drain(..self.left.len().min(SLOTS)).collect();
        self.done = part.last().map(|last| last.slot);
        (part, !self.left.is_empty())
    }
}

async fn slot_changes(view: &View, room: RoomNid, part: Vec<Difference>) -> Result<Vec<SlotChange>, ReadError> {
    let keys: Vec<_> = part.iter().map(|difference| (room, difference.slot)).collect();
    let rows = view.multi_get::<SlotKeys>(&keys).await?;
    let changes = part.into_iter().zip(rows).map(|(difference, key)| {
        let key = key.ok_or_else(|| missing::<SlotKeys>(&format!("slot {} of room {room}", difference.slot)))?;
        Ok(SlotChange { key, before: difference.before, after: difference.after })
    });
    changes.collect()
}
