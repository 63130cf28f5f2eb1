//! Ends: what a delayed event is read with, and the batch that ends it and what its end takes along in its group.

use primitives::{UnixMillis, UserNid};
use ruma::EventId;
use storage::{
    Batch, Positioned, ReadError, View,
    schema::delayed::{
        CancelReason, DelayedGroups, DelayedOutcomes, DelayedTimers, Finalised, GroupRow, HashRow, Outcome, OutcomeRow,
        TimerRow, order,
    },
};

use crate::timers::Key;

/// A scheduled event and everything that its end depends on, as read. The batches made from it assert all of it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) key: Key,
    pub(crate) timer: Positioned<TimerRow>,
    group: Option<LiveGroup>,
}

/// A group and its other events that are still scheduled.
#[derive(Clone, Debug)]
struct LiveGroup {
    key: Key,
    row: GroupRow,
    others: Vec<(Key, Positioned<TimerRow>)>,
}

/// What the store knows of an event.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// It is scheduled.
    Live(Box<Live>),
    /// It has ended.
    Ended(OutcomeRow),
    /// There is no such event.
    Nothing,
}

/// An end, for memory and the meters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) key: Key,
    pub(crate) timer: Positioned<TimerRow>,
    pub(crate) outcome: Outcome,
}

impl Live {
    /// Reads an event.
    pub(crate) async fn read(view: &View, key: &Key) -> Result<Found, ReadError> {
        Self::read_for(view, key, None).await
    }

    /// Reads an event for somebody. To anybody but its owner it is as good as none, and takes as many look-ups as none: not even the time
    /// that it takes tells whether there is one. `by`: who asks; `None`: somebody for whom the id is enough.
    pub(crate) async fn read_for(view: &View, key: &Key, by: Option<UserNid>) -> Result<Found, ReadError> {
        let owned_by = |owner: UserNid| by.is_none_or(|by| by == owner);
        let timer = view.get::<DelayedTimers>(&(*key,)).await?;
        let Some(timer) = timer.filter(|timer| owned_by(timer.value.user)) else {
            let outcome = view.get::<DelayedOutcomes>(&(*key,)).await?;
            return Ok(outcome.filter(|row| owned_by(row.user)).map_or(Found::Nothing, Found::Ended));
        };
        let group = match timer.value.group {
            Some(group) => LiveGroup::read(view, group, key).await?,
            None => None,
        };
        Ok(Found::Live(Box::new(Self { key: *key, timer, group })))
    }

    /// Everything that ends when this event ends in this way, itself first.
    pub(crate) fn ends(&self, outcome: Outcome) -> Vec<Ended> {
        let closes = self.closes_group(&outcome);
        let mut ends = vec![Ended { key: self.key, timer: self.timer.clone(), outcome }];
        if let Some(group) = self.group.as_ref().filter(|_| closes) {
            let outcome = Outcome::Cancelled(CancelReason::Group);
            let other = |(key, timer): &(Key, Positioned<TimerRow>)| Ended {
                key: *key,
                timer: timer.clone(),
                outcome: outcome.clone(),
            };
            ends.extend(group.others.iter().map(other));
        }
        ends
    }

    /// Whether the group ends with this event: it was sent, or it was the last with a timer.
    fn closes_group(&self, outcome: &Outcome) -> bool {
        let timed = |group: &LiveGroup| group.others.iter().any(|(_, timer)| timer.value.due.is_some());
        matches!(outcome, Outcome::Sent { .. }) || self.group.as_ref().is_some_and(|group| !timed(group))
    }

    /// The batch that ends this event in this way, with all that ends along. Asserts that nothing has changed since it was read.
    pub(crate) fn batch(&self, outcome: &Outcome, at: UnixMillis) -> Batch {
        let mut batch = Batch::new();
        for end in self.ends(outcome.clone()) {
            write(&mut batch, &end, at);
        }
        if let Some(group) = &self.group {
            let mut row = group.row.clone();
            row.changes += 1;
            row.open &= !self.closes_group(outcome);
            batch.assert_equals::<DelayedGroups>(&(group.key,), &group.row).put::<DelayedGroups>(&(group.key,), &row);
        }
        batch
    }

    /// [`Self::batch`] for the event's being sent.
    pub(crate) fn sent(&self, event_id: &EventId, early: bool, at: UnixMillis) -> Batch {
        self.batch(&Outcome::Sent { event_id: event_id.to_string(), early }, at)
    }
}

impl LiveGroup {
    async fn read(view: &View, key: Key, except: &Key) -> Result<Option<Self>, ReadError> {
        let Some(row) = view.get::<DelayedGroups>(&(key,)).await? else { return Ok(None) };
        let others: Vec<_> = row.members.iter().filter(|member| *member != except).map(|member| (*member,)).collect();
        let timers = view.multi_get::<DelayedTimers>(&others).await?;
        let others = others.into_iter().zip(timers).filter_map(|((key,), timer)| Some((key, timer?))).collect();
        Ok(Some(Self { key, row, others }))
    }
}

fn write(batch: &mut Batch, end: &Ended, at: UnixMillis) {
    let timer = &end.timer.value;
    let begun = timer.due.map_or(at, |due| UnixMillis(due.at.0.saturating_sub(due.delay_ms)));
    let row = OutcomeRow { user: timer.user, at, outcome: end.outcome.clone(), running_since: begun };
    let finalised = (timer.user, at, order(end.timer.position, timer.place));
    batch.assert_equals::<DelayedTimers>(&(end.key,), &end.timer).delete::<DelayedTimers>(&(end.key,));
    batch.put::<DelayedOutcomes>(&(end.key,), &row).put::<Finalised>(&finalised, &HashRow(end.key));
}
