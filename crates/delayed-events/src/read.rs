//! Reading: one event, and lists.

use std::{collections::BTreeSet, time::Duration};

use primitives::{UnixMillis, UserNid, canonical};
use ruma::{OwnedUserId, RoomId, UserId};
use storage::{
    Direction, KeyRange, Positioned, View,
    schema::delayed::{
        CancelReason, Delayed, DelayedOutcomes, DelayedRow, DelayedTimers, Finalised, HashRow, NewerState, Outcome,
        OutcomeRow, TimerRow,
    },
};

use crate::{
    DelayId, DelayedEvent, DelayedEvents, ListError, ListQuery, Listed, Status, StoreError, engine::Inner,
    outside::SlotOf, timers::Key,
};

/// Events that are read at a time.
const PAGE: usize = 128;
/// Events that one request looks at; a page that is not full by then says where to go on.
const LOOK_AT_MOST: usize = 10_000;

/// Where a list goes on: after the event with this time and order, among the ended or the scheduled ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    scheduled: bool,
    at: u64,
    order: u64,
}

impl Cursor {
    fn parse(token: &str) -> Option<Self> {
        let (kind, rest) = token.split_at_checked(1)?;
        let (at, order) = rest.split_once('_')?;
        let scheduled = match kind {
            "s" => true,
            "f" => false,
            _ => return None,
        };
        Some(Self { scheduled, at: at.parse().ok()?, order: order.parse().ok()? })
    }

    fn token(self) -> String {
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
        let Some(row) = view.get::<Delayed>(&(key,)).await?.filter(|row| row.value.user == nid) else {
            return Ok(None);
        };
        let timer = view.get::<DelayedTimers>(&(key,)).await?;
        let ended = view.get::<DelayedOutcomes>(&(key,)).await?.filter(|row| inner.is_kept(row.at));
        match (timer, ended) {
            (Some(timer), _) => Ok(Some(inner.show_scheduled(user, row, &timer.value).await?)),
            (None, Some(ended)) => Ok(show(row.value, None, Some(&ended))),
            (None, None) => Ok(None),
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

    /// A scheduled event; as cancelled if a newer state event has its slot, which the store is told when the event is due.
    async fn show_scheduled(
        &self,
        owner: &UserId,
        row: Positioned<DelayedRow>,
        timer: &TimerRow,
    ) -> Result<DelayedEvent, StoreError> {
        let ended = self.given_way(owner, &row).await?.then(|| OutcomeRow {
            user: row.value.user,
            at: self.wall(),
            outcome: Outcome::Cancelled(CancelReason::NewerState),
            running_since: row.value.scheduled_at,
        });
        show(row.value, Some(timer), ended.as_ref())
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
fn show(row: DelayedRow, timer: Option<&TimerRow>, ended: Option<&OutcomeRow>) -> Option<DelayedEvent> {
    let begun = match (timer.and_then(|timer| timer.due), ended) {
        _ if row.delay_ms.is_none() => row.scheduled_at,
        (Some(due), _) => UnixMillis(due.at.0.saturating_sub(due.delay_ms)),
        (None, Some(ended)) => ended.running_since,
        (None, None) => row.scheduled_at,
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
        let mut timers: Vec<(u64, u64, Key)> = {
            let timing = self.inner.timing.lock();
            let of_user = timing.timers.of_user(self.user);
            of_user.map(|timer| (timer.due.map_or(u64::MAX, |(at, _)| at.0), timer.order, timer.key)).collect()
        };
        let (backwards, place) = (self.query.backwards, from.map(|from| (from.at, from.order)));
        timers.retain(|(at, order, key)| {
            let after = place.is_none_or(|place| if backwards { (*at, *order) < place } else { (*at, *order) > place });
            after && self.in_time(*at) && self.wanted.as_ref().is_none_or(|wanted| wanted.contains(key))
        });
        let mut rest = timers.as_mut_slice();
        while !rest.is_empty() {
            let page;
            (page, rest) = split_first(rest, PAGE.max(self.limit + 1), backwards);
            for part in page.chunks(PAGE) {
                if self.add_scheduled(part).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn add_scheduled(&mut self, page: &[(u64, u64, Key)]) -> Result<bool, StoreError> {
        let keys: Vec<_> = page.iter().map(|(_, _, key)| (*key,)).collect();
        let rows = self.view.multi_get::<Delayed>(&keys).await?;
        let timers = self.view.multi_get::<DelayedTimers>(&keys).await?;
        for (((at, order, _), row), timer) in page.iter().zip(rows).zip(timers) {
            if self.is_enough() {
                return Ok(true);
            }
            self.looked += 1;
            if let (Some(row), Some(timer)) = (row, timer)
                && self.wants_row(&row.value)
            {
                let event = self.inner.show_scheduled(&self.owner, row, &timer.value).await?;
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

/// What comes first among `all`, sorted, and the rest.
fn split_first<T: Ord>(all: &mut [T], count: usize, backwards: bool) -> (&mut [T], &mut [T]) {
    let compare = |a: &T, b: &T| if backwards { b.cmp(a) } else { a.cmp(b) };
    let count = count.min(all.len());
    if count < all.len() {
        all.select_nth_unstable_by(count - 1, compare);
    }
    let (first, rest) = all.split_at_mut(count);
    first.sort_unstable_by(compare);
    (first, rest)
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

        #[test]
        fn what_comes_first_is_what_a_sort_puts_first(mut all: Vec<u8>, count in 1_usize..20, backwards: bool) {
            let mut sorted = all.clone();
            sorted.sort_unstable();
            if backwards {
                sorted.reverse();
            }
            let (first, _) = split_first(&mut all, count, backwards);
            prop_assert_eq!(&*first, &sorted[..count.min(sorted.len())]);
        }
    }
}
