//! Checking what is stored of rooms against the invariants, reading only: for operators, and for tests that end a server without warning.
//!
//! Every event of a room is compared with its rows and with those that it follows; what the events imply for the room as a whole is compared
//! with the room's head, its logs and its indexes afterwards. States are not rebuilt from nothing: the state before an event is the states
//! after its `prev_events` resolved, the state after it is that with its own slot changed, and tree differences show both at the cost of what
//! changed. By induction each state is the fold of the events (I6).
//!
//! A row that can't be read is a fault like any other; only a store that fails ends the check.

mod beside;
mod event;
mod fold;
mod index;
mod log;
mod members;
mod order;
mod partial;
mod report;
mod rows;
mod shared;
mod state;

use std::sync::Arc;

use primitives::{Rix, RoomNid};
use quick_cache::sync::Cache;
use storage::{
    Direction, KeyRange, ReadError, Table, View,
    schema::rooms::{EventHeaders, RoomHead, RoomHeads, RoomRow},
};

pub use report::{Fault, FaultKind, Report};

use crate::{
    Room, RoomVersion, Rooms,
    change::Change,
    context::Context,
    find::Descriptions,
    load::StoredEvent,
    memory::{Memory, RoomInfo},
    partial::Partial,
    read::Caches,
    remote::Turns,
};
use order::Order;

/// Rows that one page of a scan reads.
const PAGE: usize = 500;
/// Events after which caches are looked at.
const EVENTS_BETWEEN_PRUNES: u32 = 1_000;

impl Rooms {
    /// Checks every room, and the tables that rooms share, as one view shows them. Writes nothing.
    ///
    /// Reads everything and can take long: for a store that is not being written.
    pub async fn verify(&self) -> Result<Report, ReadError> {
        let mut check = StoreCheck::new(self);
        check.rooms().await?;
        check.shared().await?;
        Ok(check.report)
    }
}

impl Room {
    /// Checks this room as one view shows it. Writes nothing.
    pub async fn verify(&self) -> Result<Report, ReadError> {
        let mut check = StoreCheck::new(self.rooms());
        check.room(Arc::clone(self.info())).await?;
        Ok(check.report)
    }
}

/// A check of a store.
struct StoreCheck {
    context: Arc<Context>,
    view: View,
    report: Report,
}

impl StoreCheck {
    /// The check sees what is stored: caches that were filled before don't count.
    fn new(rooms: &Rooms) -> Self {
        let Context { storage, users, clock, random, key, options, activity, typing, .. } = &**rooms.context();
        let nodes = Arc::new(Cache::new(options.cached_nodes.max(1)));
        let context = Context {
            storage: storage.clone(),
            users: users.clone(),
            clock: clock.clone(),
            random: random.clone(),
            key: Arc::clone(key),
            turns: Turns::default(),
            descriptions: Descriptions::default(),
            history_turns: Turns::default(),
            merge_turns: Turns::default(),
            remote: None,
            options: options.clone(),
            activity: Arc::clone(activity),
            signals: Arc::default(),
            caches: Arc::new(Caches::new(storage.hash(), Arc::clone(&nodes), Arc::clone(activity))),
            nodes,
            typing: Arc::clone(typing),
        };
        let view = context.storage.view();
        Self { context: Arc::new(context), view, report: Report::default() }
    }

    async fn rooms(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<storage::schema::rooms::Rooms>::all();
        while let Some(rows) = self.report.readable("the rooms", pages.next(&self.view).await)?.flatten() {
            for ((nid,), row) in rows {
                match info_of(nid, &row) {
                    Some(info) => self.room(Arc::new(info)).await?,
                    None => self.report.fault(
                        "the rooms",
                        FaultKind::Room,
                        format!("room {nid} has no known version or no room id"),
                    ),
                }
            }
        }
        Ok(())
    }

    async fn room(&mut self, info: Arc<RoomInfo>) -> Result<(), ReadError> {
        let name = info.room_id.to_string();
        let head = self.report.readable(&name, self.view.get::<RoomHeads>(&(info.nid,)).await)?;
        match head {
            None => {}
            Some(None) => self.report.fault(&name, FaultKind::Room, "it has no head".to_owned()),
            Some(Some(head)) if head.purging => self.report.purging += 1,
            Some(Some(head)) => {
                self.report.rooms += 1;
                RoomCheck::new(self, info, head).run().await?;
            }
        }
        Ok(())
    }
}

fn info_of(nid: RoomNid, row: &RoomRow) -> Option<RoomInfo> {
    let version = RoomVersion::parse(&row.version)?;
    Some(RoomInfo { nid, room_id: row.room_id.as_str().try_into().ok()?, version })
}

/// A check of one room.
struct RoomCheck<'a> {
    name: String,
    info: Arc<RoomInfo>,
    context: &'a Arc<Context>,
    view: &'a View,
    head: RoomHead,
    /// Looks things up. Never committed.
    change: Change,
    order: Order,
    index: index::Expected,
    report: &'a mut Report,
}

impl<'a> RoomCheck<'a> {
    fn new(check: &'a mut StoreCheck, info: Arc<RoomInfo>, head: RoomHead) -> Self {
        let memory = Memory { stored: Some(head.clone()), head: head.clone(), ..Memory::new(RoomInfo::clone(&info)) };
        Self {
            name: info.room_id.to_string(),
            change: Change::new(Arc::clone(&check.context), check.view.clone(), memory),
            info,
            context: &check.context,
            view: &check.view,
            order: Order::new(head.next_rix),
            head,
            index: index::Expected::default(),
            report: &mut check.report,
        }
    }

    async fn run(mut self) -> Result<(), ReadError> {
        self.change.memory.partial = Partial::load(self.view, self.info.nid).await?;
        for number in 1..self.head.next_rix {
            // What can't be read is noted below.
            let header = self.view.get::<EventHeaders>(&(self.info.nid, Rix(number))).await;
            if let Ok(Some(header)) = header {
                self.order.add(Rix(number), header.position, &header.value);
            }
        }
        for number in 1..self.head.next_rix {
            let rix = Rix(number);
            let read = crate::load::event(self.view, self.info.nid, self.info.version, rix).await;
            if let Some(event) = self.readable(read)? {
                self.report.events += 1;
                let checked = self.event(rix, &event).await;
                self.readable(checked)?;
            }
            if number % EVENTS_BETWEEN_PRUNES == 0 {
                self.change.memory.prune();
            }
        }
        // Between two batches of a replay, events have states that the room doesn't show yet.
        if self.is_replaying().await? {
            return Ok(());
        }
        let checked = self.rows().await;
        self.readable(checked)?;
        let checked = self.log().await;
        self.readable(checked)?;
        let checked = self.tips().await;
        self.readable(checked)?;
        let checked = self.index_rows().await;
        self.readable(checked)?;
        let checked = self.partial().await;
        self.readable(checked)?;
        let current = self.current_state().await;
        if let Some(members) = self.readable(current)? {
            let checked = self.members(members).await;
            self.readable(checked)?;
        }
        Ok(())
    }

    /// Everything that one event is held against.
    async fn event(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        self.check_header(rix, event);
        self.check_id(rix, event).await?;
        self.check_auth(rix, event).await?;
        if self.is_replaying().await? {
            return Ok(());
        }
        let place = self.check_place(rix, event).await?;
        self.check_state(rix, event, &place).await?;
        self.check_index(rix, event).await
    }

    fn fault(&mut self, kind: FaultKind, what: String) {
        self.report.fault(&self.name, kind, what);
    }

    /// A fault of one event.
    fn event_fault(&mut self, kind: FaultKind, rix: Rix, event: &StoredEvent, what: &str) {
        self.fault(kind, format!("event {rix} ({}): {what}", event.header.event_id));
    }

    /// What was read; `None` if there was a row that makes no sense, which is noted.
    fn readable<T>(&mut self, read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        self.report.readable(&self.name, read)
    }
}

/// A table or a part of one, a page at a time.
struct Pages<T> {
    rest: Option<KeyRange>,
    table: std::marker::PhantomData<fn() -> T>,
}

impl<T: Table> Pages<T> {
    fn all() -> Self {
        Self::of(KeyRange::prefix(&()))
    }

    fn of(range: KeyRange) -> Self {
        Self { rest: Some(range), table: std::marker::PhantomData }
    }

    /// The next page; `None` after the last. After an error there is none.
    async fn next(&mut self, view: &View) -> Result<Option<Vec<(T::Key, T::Value)>>, ReadError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let page = view.scan::<T>(&range, PAGE, Direction::Forward).await?;
        self.rest = page.rest;
        Ok(Some(page.rows))
    }
}
