//! Checking what is stored of delayed events against the invariants, reading only: for operators, and for tests that end a server without
//! warning.

mod report;

use std::marker::PhantomData;

use ruma::EventId;
use storage::{
    Direction, KeyRange, Positioned, ReadError, Table, Text, View,
    schema::{
        delayed::{
            Delayed, DelayedGroups, DelayedOutcomes, DelayedRow, DelayedTimers, DelayedTokens, Finalised, GroupRow,
            HashRow, Outcome, OutcomeRow, TimerRow, TokenRow, order,
        },
        rooms::{EventHeaders, EventIds, EventLocals, EventPlace, RoomIds},
    },
};

use crate::{DelayedEvents, engine::Inner, timers::Key};

pub use report::Report;

/// Rows that one page of a scan reads.
const PAGE: usize = 500;

impl DelayedEvents {
    /// Checks every delayed event as one view shows it. Writes nothing.
    ///
    /// Reads everything and can take long: for a store that is not being written.
    pub async fn verify(&self) -> Result<Report, ReadError> {
        let view = self.0.storage.view();
        let mut check = Check { inner: &self.0, view: &view, tokens: 0, report: Report::default() };
        let checked = check.records().await;
        check.readable(checked)?;
        let checked = check.counts().await;
        check.readable(checked)?;
        let checked = check.groups().await;
        check.readable(checked)?;
        let checked = check.sent_events().await;
        check.readable(checked)?;
        Ok(check.report)
    }
}

/// A check under way.
struct Check<'a> {
    inner: &'a Inner,
    view: &'a View,
    tokens: u64,
    report: Report,
}

type Record = Positioned<DelayedRow>;

impl Check<'_> {
    fn fault(&mut self, key: &Key, what: &str) {
        self.report.fault(key, what);
    }

    /// Notes a row that makes no sense.
    fn readable(&mut self, checked: Result<(), ReadError>) -> Result<(), ReadError> {
        match checked {
            Err(ReadError::Corrupt(error)) => {
                self.report.fault(&Key::default(), &error.to_string());
                Ok(())
            }
            other => other,
        }
    }

    /// Each event is scheduled or has ended (I8).
    async fn records(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<Delayed>::all();
        while let Some(page) = pages.next(self.view).await? {
            for ((key,), record) in page {
                let checked = self.record(&key, &record).await;
                self.readable(checked)?;
            }
        }
        Ok(())
    }

    async fn record(&mut self, key: &Key, record: &Record) -> Result<(), ReadError> {
        let row = &record.value;
        if self.inner.key_of(&row.delay_id) != *key {
            self.fault(key, "its id has another hash");
        }
        let timer = self.view.get::<DelayedTimers>(&(*key,)).await?;
        let outcome = self.view.get::<DelayedOutcomes>(&(*key,)).await?;
        match (&timer, &outcome) {
            (Some(timer), None) => {
                self.report.scheduled += 1;
                self.timer(key, record, timer);
            }
            (None, Some(outcome)) => {
                self.report.ended += 1;
                self.outcome(key, record, outcome).await?;
            }
            (Some(_), Some(_)) => self.fault(key, "it has ended and has a timer"),
            (None, None) => self.fault(key, "it has neither ended nor a timer"),
        }
        for (action, token) in &row.tokens {
            self.tokens += 1;
            let stored = self.view.get::<DelayedTokens>(&(self.inner.key_of_token(token),)).await?;
            if stored != Some(TokenRow { event: *key, action: *action }) {
                self.fault(key, "a token of it does something else");
            }
        }
        let Some(group) = row.group_id.as_deref().map(|id| self.inner.key_of_group(id)) else { return Ok(()) };
        match self.view.get::<DelayedGroups>(&(group,)).await? {
            Some(group) if group.user != row.user || !group.members.contains(key) => {
                self.fault(key, "its group does not know it");
            }
            // A group that has ended goes with the first of its events that retention takes.
            None if timer.is_some() => self.fault(key, "its group is not there"),
            _ => {}
        }
        Ok(())
    }

    fn timer(&mut self, key: &Key, record: &Record, timer: &Positioned<TimerRow>) {
        let row = &record.value;
        let said = TimerRow {
            user: row.user,
            place: row.place,
            group: row.group_id.as_deref().map(|id| self.inner.key_of_group(id)),
            ..timer.value.clone()
        };
        let delay = timer.value.due.map(|due| due.delay_ms);
        if said != timer.value || delay != row.delay_ms || timer.position != record.position {
            self.fault(key, "its timer is another's");
        }
    }

    async fn outcome(&mut self, key: &Key, record: &Record, outcome: &OutcomeRow) -> Result<(), ReadError> {
        let row = &record.value;
        let place = (row.user, outcome.at, order(record.position, row.place));
        if outcome.user != row.user || self.view.get::<Finalised>(&place).await? != Some(HashRow(*key)) {
            self.fault(key, "its end is not among its owner's");
        }
        let Outcome::Sent { event_id, .. } = &outcome.outcome else { return Ok(()) };
        if !self.view.contains::<RoomIds>(&(Text::new(row.room_id.as_str()),)).await? {
            // The room has gone with its events.
            return Ok(());
        }
        let place = match EventId::parse(event_id) {
            Ok(id) => self.view.get::<EventIds>(&(rooms::event_key(&id),)).await?,
            Err(_) => None,
        };
        let Some(EventPlace { room, rix }) = place else {
            self.fault(key, "it was sent, and its event is not stored");
            return Ok(());
        };
        let local = self.view.get::<EventLocals>(&(room, rix)).await?;
        // Another's event can stand for it only in a slot that said the same already.
        if local.and_then(|local| local.delay_id).as_ref() != Some(&row.delay_id) && row.state_key.is_none() {
            self.fault(key, "it was sent, and its event is another's");
        }
        Ok(())
    }

    /// No timer, outcome or token belongs to nothing, and memory has what is scheduled.
    async fn counts(&mut self) -> Result<(), ReadError> {
        let Report { scheduled, ended, .. } = self.report;
        let loaded = self.inner.timing.lock().timers.len() as u64;
        for (what, found, expected) in [
            ("timers", self.count::<DelayedTimers>().await?, scheduled),
            ("timers in memory", loaded, scheduled),
            ("outcomes", self.count::<DelayedOutcomes>().await?, ended),
            ("ends of owners", self.count::<Finalised>().await?, ended),
            ("tokens", self.count::<DelayedTokens>().await?, self.tokens),
        ] {
            if found != expected {
                self.fault(&Key::default(), &format!("{what}: {found}, where there are events for {expected}"));
            }
        }
        Ok(())
    }

    async fn count<T: Table>(&self) -> Result<u64, ReadError> {
        let mut count = 0;
        let mut pages = Pages::<T>::all();
        while let Some(page) = pages.next(self.view).await? {
            count += page.len() as u64;
        }
        Ok(count)
    }

    /// Of a group at most one event is sent; it is open as long as one of its timers runs, and then nothing of it is scheduled.
    async fn groups(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<DelayedGroups>::all();
        while let Some(page) = pages.next(self.view).await? {
            for ((key,), group) in page {
                self.report.groups += 1;
                self.group(&key, &group).await?;
            }
        }
        Ok(())
    }

    async fn group(&mut self, key: &Key, group: &GroupRow) -> Result<(), ReadError> {
        let members: Vec<_> = group.members.iter().map(|member| (*member,)).collect();
        let timers = self.view.multi_get::<DelayedTimers>(&members).await?;
        let outcomes = self.view.multi_get::<DelayedOutcomes>(&members).await?;
        let sent = outcomes.iter().flatten().filter(|row| matches!(row.outcome, Outcome::Sent { .. })).count();
        let runs = timers.iter().flatten().any(|timer| timer.value.due.is_some());
        if sent > 1 || group.open && sent > 0 {
            self.fault(key, "a group has sent more than its one event");
        }
        if group.open != runs || !group.open && timers.iter().any(Option::is_some) {
            self.fault(key, "a group is open or closed against its timers");
        }
        Ok(())
    }

    /// An event that a delayed event became is the one that this says (I8).
    async fn sent_events(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<EventLocals>::all();
        while let Some(page) = pages.next(self.view).await? {
            for (place, local) in page {
                let Some(delay_id) = local.delay_id else { continue };
                let key = self.inner.key_of(&delay_id);
                // Retention may have taken it.
                if !self.view.contains::<Delayed>(&(key,)).await? {
                    continue;
                }
                let outcome = self.view.get::<DelayedOutcomes>(&(key,)).await?;
                let header = self.view.get::<EventHeaders>(&place).await?;
                let said = match outcome.map(|row| row.outcome) {
                    Some(Outcome::Sent { event_id, .. }) => Some(event_id),
                    _ => None,
                };
                if said.is_none() || said != header.map(|header| header.value.event_id) {
                    self.fault(&key, "an event is here for it that its outcome does not name");
                }
            }
        }
        Ok(())
    }
}

/// A table, a page at a time.
struct Pages<T> {
    rest: Option<KeyRange>,
    table: PhantomData<fn() -> T>,
}

impl<T: Table> Pages<T> {
    fn all() -> Self {
        Self { rest: Some(KeyRange::prefix(&())), table: PhantomData }
    }

    /// The next page; `None` after the last. After an error there is none.
    async fn next(&mut self, view: &View) -> Result<Option<Vec<(T::Key, T::Value)>>, ReadError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let page = view.scan::<T>(&range, PAGE, Direction::Forward).await?;
        self.rest = page.rest;
        Ok(Some(page.rows))
    }
}
