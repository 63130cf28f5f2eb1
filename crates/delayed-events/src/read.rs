//! Reading: one event, and lists.

use std::{collections::BTreeSet, time::Duration};

use primitives::{UnixMillis, UserNid, canonical};
use ruma::{OwnedUserId, RoomId, UserId};
use storage::{
    Direction, KeyRange, Positioned, View,
    schema::delayed::{
        CancelReason, Delayed, DelayedOutcomes, DelayedRow, DelayedTimers, Finalised, HashRow, NewerState, Outcome,
        OutcomeRow,
    },
};

use crate::{
    DelayId, DelayedEvent, DelayedEvents, ListError, ListQuery, Listed, Status, StoreError,
    end::Live,
    engine::Inner,
    outside::SlotOf,
    timers::{Key, ListPlace, Timer},
};

/// Events that are read at a time.
const PAGE: usize = 128;
/// Events that are looked for in memory at a time, once the first page was not enough.
const MORE: usize = 2_048;
/// Events that one request looks at; a page that is not full by then says where to go on.
const LOOK_AT_MOST: usize = 10_000;

/// Where a list goes on: after the event with this time and order, among the ended or the scheduled ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) scheduled: bool,
    pub(crate) at: u64,
    pub(crate) order: u64,
}

impl Cursor {
    pub(crate) fn parse(token: &str) -> Option<Self> {
        let (kind, rest) = token.split_at_checked(1)?;
        let (at, order) = rest.split_once('_')?;
        let scheduled = match kind {
            "s" => true,
            "f" => false,
            _ => return None,
        };
        Some(Self { scheduled, at: at.parse().ok()?, order: order.parse().ok()? })
    }

    pub(crate) fn token(self) -> String {
        format!("{}{}_{}", if self.scheduled { 's' } else { 'f' }, self.at, self.order)
    }
}

/// One list being made.
struct Listing<'a> {
    inner: &'a Inner,
    view: View,
    user: UserNid,
    owner: OwnedUserId,
    query: &'a ListQuery,
    wanted: Option<BTreeSet<Key>>,
    limit: usize,
    looked: usize,
    /// The last event that was looked at, whether it is on the page or not.
    last: Option<Cursor>,
    out: Listed,
}

impl DelayedEvents {
    /// One of a user's delayed events, scheduled or ended; `None` if there is none, or it is another user's, or no longer kept.
    pub async fn get(&self, user: &UserId, delay_id: &DelayId) -> Result<Option<DelayedEvent>, StoreError> {
        let inner = &*self.0;
        let Some(nid) = inner.outside.nid(user).await? else { return Ok(None) };
        let (key, view) = (inner.key_of(delay_id.as_str()), inner.storage.view());
        match view.get::<Delayed>(&(key,)).await?.filter(|row| row.value.user == nid) {
            Some(row) => inner.show_stored(&view, &key, user, row).await,
            None => Ok(None),
        }
    }

    /// A user's delayed events: by default those that are scheduled, in the order in which they are due.
    pub async fn list(&self, user: &UserId, query: &ListQuery) -> Result<Listed, ListError> {
        let inner = &*self.0;
        let from = query.from.as_deref().map(|token| Cursor::parse(token).ok_or(ListError::BadToken)).transpose()?;
        let Some(nid) = inner.outside.nid(user).await? else { return Ok(Listed::default()) };
        let keys = query.delay_ids.iter().map(|id| inner.key_of(id.as_str())).collect();
        let mut listing = Listing {
            inner,
            view: inner.storage.view(),
            user: nid,
            owner: user.to_owned(),
            query,
            wanted: (!query.delay_ids.is_empty()).then_some(keys),
            limit: query.limit.unwrap_or(ListQuery::DEFAULT_LIMIT).clamp(1, ListQuery::MAX_LIMIT),
            looked: 0,
            last: from,
            out: Listed::default(),
        };
        // Ended events come first, as they lie in the past; backwards, last.
        let parts = if query.backwards { [true, false] } else { [false, true] };
        let begin = parts.iter().position(|part| from.is_none_or(|from| from.scheduled == *part)).unwrap_or(0);
        for part in &parts[begin..] {
            let from = from.filter(|from| from.scheduled == *part);
            let full = if *part { listing.scheduled(from).await? } else { listing.ended(from).await? };
            if full {
                break;
            }
        }
        Ok(listing.out)
    }
}

impl Inner {
    /// Whether something that ended then may still be read.
    pub(crate) fn is_kept(&self, ended: UnixMillis) -> bool {
        self.wall().since(ended) <= self.options.finalised_kept
    }

    /// An event of which the record is there; `None`: it ended too long ago.
    pub(crate) async fn show_stored(
        &self,
        view: &View,
        key: &Key,
        owner: &UserId,
        row: Positioned<DelayedRow>,
    ) -> Result<Option<DelayedEvent>, StoreError> {
        let timer = view.get::<DelayedTimers>(&(*key,)).await?;
        let ended = view.get::<DelayedOutcomes>(&(*key,)).await?.filter(|row| self.is_kept(row.at));
        match (timer, ended) {
            (Some(timer), _) => {
                let due = timer.value.due.map(|due| due.at);
                Ok(Some(self.show_scheduled(owner, row, due).await?))
            }
            (None, Some(ended)) => Ok(show(row.value, None, Some(&ended))),
            (None, None) => Ok(None),
        }
    }

    /// Whether a newer state event has taken a scheduled event's slot, and the event is to be given up for it.
    pub(crate) async fn is_superseded(&self, live: &Live) -> Result<bool, StoreError> {
        // No heartbeat pays for a look at the record where nothing gives way.
        if live.timer.value.group.is_none() && self.options.newer_state == NewerState::Ignored {
            return Ok(false);
        }
        let row = self.storage.view().get::<Delayed>(&(live.key,)).await?;
        let (Some(row), Some(owner)) = (row, self.outside.name(live.timer.value.user).await?) else { return Ok(false) };
        self.given_way(&owner, &row).await
    }

    /// Ends what a user has scheduled and newer state events have superseded. Answers how many events have ended.
    pub(crate) async fn end_superseded(&self, user: UserNid) -> Result<usize, StoreError> {
        let Some(owner) = self.outside.name(user).await? else { return Ok(0) };
        let keys: Vec<_> =
            self.timing.lock().timers.of_user(user).take(LOOK_AT_MOST).map(|timer| (timer.key,)).collect();
        let mut ended = 0;
        for page in keys.chunks(PAGE) {
            let rows = self.storage.view().multi_get::<Delayed>(page).await?;
            for ((key,), row) in page.iter().zip(rows) {
                if let Some(row) = row
                    && self.given_way(&owner, &row).await?
                {
                    ended += self.end(key, Outcome::Cancelled(CancelReason::NewerState)).await?;
                }
            }
        }
        Ok(ended)
    }

    /// A scheduled event; as cancelled if a newer state event has its slot, which the store is told when the event is due.
    async fn show_scheduled(
        &self,
        owner: &UserId,
        row: Positioned<DelayedRow>,
        due: Option<UnixMillis>,
    ) -> Result<DelayedEvent, StoreError> {
        let ended = self.given_way(owner, &row).await?.then(|| OutcomeRow {
            user: row.value.user,
            at: self.wall(),
            outcome: Outcome::Cancelled(CancelReason::NewerState),
            running_since: row.value.scheduled_at,
        });
        show(row.value, due, ended.as_ref())
            .ok_or_else(|| StoreError::Outside("a stored delayed event cannot be read".to_owned()))
    }

    async fn given_way(&self, owner: &UserId, row: &Positioned<DelayedRow>) -> Result<bool, StoreError> {
        let DelayedRow { newer_state, room_id, event_type, state_key, .. } = &row.value;
        let (Some(state_key), false, Ok(room_id)) =
            (state_key, *newer_state == NewerState::Ignored, <&RoomId>::try_from(room_id.as_str()))
        else {
            return Ok(false);
        };
        self.outside.slot_taken(SlotOf { room_id, event_type, state_key, owner }, row.position, *newer_state).await
    }
}

/// An event as its owner sees it. `None`: its row makes no sense.
fn show(row: DelayedRow, due: Option<UnixMillis>, ended: Option<&OutcomeRow>) -> Option<DelayedEvent> {
    let begun = match (row.delay_ms, due, ended) {
        (Some(delay_ms), Some(due), _) => UnixMillis(due.0.saturating_sub(delay_ms)),
        (Some(_), None, Some(ended)) => ended.running_since,
        _ => row.scheduled_at,
    };
    Some(DelayedEvent {
        delay_id: DelayId::new(row.delay_id),
        room_id: RoomId::parse(&row.room_id).ok()?,
        event_type: row.event_type,
        state_key: row.state_key,
        content: canonical::parse_object(&row.content).ok()?,
        delay: row.delay_ms.map(Duration::from_millis),
        scheduled_at: row.scheduled_at,
        running_since: begun,
        transaction_id: row.transaction_id,
        sticky_duration: row.sticky_duration_ms.map(Duration::from_millis),
        group_id: row.group_id,
        name: row.name,
        tokens: row.tokens,
        finalised: ended.map(|ended| (ended.at, ended.outcome.clone())),
    })
}

fn status_of(outcome: &Outcome) -> Status {
    match outcome {
        Outcome::Sent { .. } => Status::Sent,
        Outcome::Cancelled(_) => Status::Cancelled,
        Outcome::Failed(_) => Status::Failed,
    }
}

impl Listing<'_> {
    fn wants(&self, status: Status) -> bool {
        if self.query.status.is_empty() { status == Status::Scheduled } else { self.query.status.contains(&status) }
    }

    fn in_time(&self, at: u64) -> bool {
        self.query.from_ts.is_none_or(|from| from.0 <= at) && self.query.to_ts.is_none_or(|to| at <= to.0)
    }

    fn wants_row(&self, row: &DelayedRow) -> bool {
        let DelayedRow { room_id, event_type, .. } = row;
        self.query.room_id.as_ref().is_none_or(|room| room == room_id)
            && self.query.event_type.as_ref().is_none_or(|t| t == event_type)
    }

    /// Whether enough has been looked at: the next page goes on from here.
    fn is_enough(&mut self) -> bool {
        let enough = self.looked >= LOOK_AT_MOST;
        if enough {
            self.out.next_batch = self.last.map(Cursor::token);
        }
        enough
    }

    /// Puts an event on the page. If there is no more room, the next page begins with it; answers whether that is so.
    fn push(&mut self, event: DelayedEvent) -> bool {
        let full = self.out.events.len() >= self.limit;
        if full {
            self.out.next_batch = self.last.map(Cursor::token);
        } else {
            self.out.events.push(event);
        }
        full
    }

    /// Adds scheduled events. Answers whether the page is full.
    async fn scheduled(&mut self, from: Option<Cursor>) -> Result<bool, StoreError> {
        if !self.wants(Status::Scheduled) {
            return Ok(false);
        }
        let mut after = from.map(|from| (from.at, from.order));
        let mut count = PAGE.max(self.limit + 1);
        loop {
            let part = {
                let timing = self.inner.timing.lock();
                let wanted = |(at, _): ListPlace, timer: &Timer| {
                    self.in_time(at) && self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&timer.key))
                };
                timing.timers.first_of(self.user, count, self.query.backwards, after, wanted)
            };
            for page in part.chunks(PAGE) {
                if self.add_scheduled(page).await? {
                    return Ok(true);
                }
            }
            if part.len() < count {
                return Ok(false);
            }
            after = part.last().map(|(place, _)| *place);
            count = MORE;
        }
    }

    async fn add_scheduled(&mut self, page: &[(ListPlace, Key)]) -> Result<bool, StoreError> {
        let keys: Vec<_> = page.iter().map(|(_, key)| (*key,)).collect();
        let rows = self.view.multi_get::<Delayed>(&keys).await?;
        for (((at, order), _), row) in page.iter().zip(rows) {
            if self.is_enough() {
                return Ok(true);
            }
            self.looked += 1;
            if let Some(row) = row.filter(|row| self.wants_row(&row.value)) {
                let event = self.inner.show_scheduled(&self.owner, row, Some(UnixMillis(*at))).await?;
                if event.finalised.is_none() && self.push(event) {
                    return Ok(true);
                }
            }
            self.last = Some(Cursor { scheduled: true, at: *at, order: *order });
        }
        Ok(false)
    }

    /// Adds ended events. Answers whether the page is full.
    async fn ended(&mut self, from: Option<Cursor>) -> Result<bool, StoreError> {
        if ![Status::Sent, Status::Cancelled, Status::Failed].into_iter().any(|status| self.wants(status)) {
            return Ok(false);
        }
        let all = (self.user,);
        let (mut range, direction) = match (self.query.backwards, from) {
            (false, None) => (KeyRange::prefix(&all), Direction::Forward),
            (true, None) => (KeyRange::prefix(&all), Direction::Backward),
            (false, Some(from)) => {
                (KeyRange::from(&all, &(self.user, UnixMillis(from.at), from.order + 1)), Direction::Forward)
            }
            (true, Some(from)) => {
                (KeyRange::until(&all, &(self.user, UnixMillis(from.at), from.order)), Direction::Backward)
            }
        };
        loop {
            let page = self.view.scan::<Finalised>(&range, PAGE, direction).await?;
            if self.add_ended(&page.rows).await? {
                return Ok(true);
            }
            match page.rest {
                Some(rest) => range = rest,
                None => return Ok(false),
            }
        }
    }

    async fn add_ended(&mut self, page: &[((UserNid, UnixMillis, u64), HashRow)]) -> Result<bool, StoreError> {
        let keys: Vec<_> = page.iter().map(|(_, row)| (row.0,)).collect();
        let rows = self.view.multi_get::<Delayed>(&keys).await?;
        let outcomes = self.view.multi_get::<DelayedOutcomes>(&keys).await?;
        for ((((_, at, order), HashRow(key)), row), outcome) in page.iter().zip(rows).zip(outcomes) {
            if self.is_enough() {
                return Ok(true);
            }
            self.looked += 1;
            let wanted = self.in_time(at.0)
                && self.inner.is_kept(*at)
                && self.wanted.as_ref().is_none_or(|wanted| wanted.contains(key));
            if let (true, Some(row), Some(outcome)) = (wanted, row, outcome)
                && self.wants(status_of(&outcome.outcome))
                && self.wants_row(&row.value)
                && let Some(event) = show(row.value, None, Some(&outcome))
                && self.push(event)
            {
                return Ok(true);
            }
            self.last = Some(Cursor { scheduled: false, at: at.0, order: *order });
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_of_no_list_are_refused() {
        for bad in ["", "s", "s1", "s1_", "x1_2", "s_1", "é1_2", "s-1_2", "s1_2_3"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_token_round_trips(scheduled: bool, at: u64, order: u64) {
            let cursor = Cursor { scheduled, at, order };
            prop_assert_eq!(Cursor::parse(&cursor.token()), Some(cursor));
        }
    }
}
