//! For operators: everything that is scheduled, whoever's it is, one event by its number, and ends of all of it.

use std::{collections::HashMap, fmt, str::FromStr};

use futures_util::{StreamExt, stream};
use ruma::{OwnedUserId, UserId};
use storage::{
    Positioned, View,
    schema::delayed::{CancelReason, Delayed, DelayedGroups, DelayedRow, TimerAction},
};

use crate::{
    ActError, DelayId, DelayedEvent, DelayedEvents, ListError, ListQuery, StoreError,
    end::{Found as Stored, Live},
    first::First,
    life::State,
    read::Cursor,
    timers::{Key, Timer},
};

/// Rooms into which a drain sends at once.
const ROOMS_AT_ONCE: usize = 16;
/// A drain that is held to a rate waits no longer than this before it looks again.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// What operators call a delayed event by: the hash that it is stored under, in 32 hexadecimal digits. Unlike the delay id it can be shown,
/// kept and copied: it acts on nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number(Key);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A text that is no [`Number`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a number of a delayed event has 32 hexadecimal digits")]
pub struct NoNumber;

impl FromStr for Number {
    type Err = NoNumber;

    fn from_str(text: &str) -> Result<Self, NoNumber> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(NoNumber);
        }
        u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| NoNumber)
    }
}

/// A delayed event as operators see it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub number: Number,
    /// Its owner.
    pub user_id: OwnedUserId,
    /// What its owner sees of it: content and tokens too, which operators are not to be shown without need.
    pub event: DelayedEvent,
}

/// A group as operators see it.
#[derive(Clone, Debug)]
pub struct GroupSeen {
    /// Whether its events may still be sent.
    pub open: bool,
    /// Its events that are still known, and where each stands.
    pub members: Vec<(Number, State)>,
}

/// A page of everything that is scheduled.
#[derive(Clone, Debug, Default)]
pub struct AllListed {
    /// The events by due time; what has no timer comes last.
    pub events: Vec<Found>,
    /// Where the next page begins; `None`: there is none.
    pub next_batch: Option<String>,
    /// How many events are scheduled.
    pub pending: usize,
    /// Of how many users.
    pub users: usize,
}

/// What came of an operator's cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorCancel {
    /// It was scheduled. So many events have ended: it, and those of its group that went with it.
    Cancelled(usize),
    /// It had ended before, so.
    Before(State),
    /// There is no such event.
    Unknown,
}

/// What a drain does to everything that is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Sends it, in the order in which it is due. Of a group the event that is due first.
    Send,
    /// Cancels it.
    Cancel,
}

/// How far a drain is. What is in none of the three numbers is still to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// How many events were scheduled when it began.
    pub total: usize,
    /// How many of them were sent.
    pub sent: usize,
    /// How many have ended without being sent: by the drain, with their group, or by somebody else meanwhile.
    pub cancelled: usize,
    /// How many the rooms refuse, or have no timer and a group that is not sent. They are still scheduled.
    pub refused: usize,
    /// Why the last of these was refused.
    pub last_refusal: Option<String>,
}

impl Drained {
    /// How many events are done with.
    pub fn done(&self) -> usize {
        self.sent + self.cancelled + self.refused
    }
}

/// What a drain's sending of one event came to.
enum Pushed {
    Sent,
    Over,
    Refused(String),
    /// Held to a rate: to be tried again after this.
    Later(std::time::Duration),
}

impl DelayedEvents {
    /// The number of an event, by that number or by its delay id.
    pub fn number(&self, text: &str) -> Number {
        text.parse().unwrap_or_else(|NoNumber| Number(self.0.key_of(text)))
    }

    /// The number of an event of which the delay id is known.
    pub fn number_of(&self, delay_id: &DelayId) -> Number {
        Number(self.0.key_of(delay_id.as_str()))
    }

    /// The number of a group.
    pub fn group_number(&self, group_id: &str) -> Number {
        Number(self.0.key_of_group(group_id))
    }

    /// A page of everything that is scheduled, of all users. Looks at all of it, a part at a time.
    pub async fn list_all(&self, from: Option<&str>, limit: Option<usize>) -> Result<AllListed, ListError> {
        let limit = limit.unwrap_or(ListQuery::DEFAULT_LIMIT).clamp(1, ListQuery::MAX_LIMIT);
        let parse = |token| Cursor::parse(token).filter(|cursor| cursor.scheduled).ok_or(ListError::BadToken);
        let from = from.map(parse).transpose()?;
        let mut first = First::new(limit + 1, false, from.map(|from| (from.at, from.order)));
        self.visit_all(|timer| {
            if first.wants(timer.list_place()) {
                first.take(timer.list_place(), timer.key);
            }
        })
        .await;
        let (pending, users) = {
            let timers = &self.0.timing.lock().timers;
            (timers.len(), timers.owners().count())
        };
        let mut page = first.into_page();
        let more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().filter(|_| more);
        let next_batch = last.map(|((at, order), _)| Cursor { scheduled: true, at: *at, order: *order }.token());
        let view = self.0.storage.view();
        let mut events = Vec::with_capacity(page.len());
        for (_, key) in page {
            events.extend(self.find(&view, key).await?);
        }
        Ok(AllListed { events, next_batch, pending, users })
    }

    /// How many events a user has scheduled; `None`: there is no such user.
    pub async fn pending_of(&self, user: &UserId) -> Result<Option<usize>, StoreError> {
        let user = self.0.outside.nid(user).await?;
        Ok(user.map(|user| self.0.timing.lock().timers.of_user(user).count()))
    }

    /// One event, and its group if it is in one. `None`: there is none, or it is no longer kept.
    pub async fn inspect(&self, number: Number) -> Result<Option<(Found, Option<GroupSeen>)>, StoreError> {
        let view = self.0.storage.view();
        let Some(found) = self.find(&view, number.0).await? else { return Ok(None) };
        let group = match &found.event.group_id {
            Some(id) => self.group(&view, self.0.key_of_group(id)).await?,
            None => None,
        };
        Ok(Some((found, group)))
    }

    /// Cancels an event on an operator's word.
    pub async fn cancel_number(&self, number: Number) -> Result<OperatorCancel, StoreError> {
        match self.cancel_keys(vec![number.0], CancelReason::Operator, |_| ()).await? {
            0 => {}
            ended => return Ok(OperatorCancel::Cancelled(ended)),
        }
        Ok(match Live::read(&self.0.storage.view(), &number.0).await? {
            Stored::Ended(row) => OperatorCancel::Before(State::of(&row.outcome)),
            // Only what was scheduled after the cancel looked could be found alive.
            Stored::Live(_) | Stored::Nothing => OperatorCancel::Unknown,
        })
    }

    /// Sends or cancels everything that is scheduled at this moment. `progress` hears of every event; dropping the future stops the drain
    /// between two events. What the rooms refuse stays scheduled; what is held to a rate is tried again until it is let through.
    pub async fn drain(&self, how: Drain, mut progress: impl FnMut(&Drained)) -> Result<Drained, StoreError> {
        let mut all: Vec<Timer> = Vec::with_capacity(self.pending());
        self.visit_all(|timer| all.push(timer)).await;
        let mut drained = Drained { total: all.len(), ..Drained::default() };
        match how {
            Drain::Cancel => {
                let keys = all.iter().map(|timer| timer.key).collect();
                let ended = |count| {
                    drained.cancelled += count;
                    progress(&drained);
                };
                self.cancel_keys(keys, CancelReason::Operator, ended).await?;
                // The others had ended before it was their turn.
                drained.cancelled = drained.total;
            }
            Drain::Send => {
                all.sort_unstable_by_key(Timer::list_place);
                let (timed, untimed): (Vec<_>, Vec<_>) = all.into_iter().partition(|timer| timer.due.is_some());
                self.push_all(timed, &mut drained, &mut progress).await?;
                let timing = self.0.timing.lock();
                let left = untimed.iter().filter(|timer| timing.timers.get(&timer.key).is_some()).count();
                drained.refused += left;
                drained.cancelled += untimed.len() - left;
            }
        }
        progress(&drained);
        Ok(drained)
    }

    /// Sends events in their order, rooms side by side, until none is held to a rate any more.
    async fn push_all(
        &self,
        mut timed: Vec<Timer>,
        drained: &mut Drained,
        progress: &mut impl FnMut(&Drained),
    ) -> Result<(), StoreError> {
        while !timed.is_empty() {
            let mut rooms: HashMap<u32, Vec<Timer>> = HashMap::new();
            for timer in timed.drain(..) {
                rooms.entry(timer.room).or_default().push(timer);
            }
            let push = |timers: Vec<Timer>| {
                stream::iter(timers).then(move |timer| async move { (timer, self.push(&timer).await) }).boxed()
            };
            let rooms: Vec<_> = rooms.into_values().map(push).collect();
            let mut pushed = stream::iter(rooms).flatten_unordered(ROOMS_AT_ONCE);
            let mut wait = std::time::Duration::ZERO;
            while let Some((timer, came_to)) = pushed.next().await {
                match came_to? {
                    Pushed::Sent => drained.sent += 1,
                    Pushed::Over => drained.cancelled += 1,
                    Pushed::Refused(why) => {
                        drained.refused += 1;
                        drained.last_refusal = Some(why);
                    }
                    Pushed::Later(after) => {
                        wait = wait.max(after).min(LONGEST_WAIT);
                        timed.push(timer);
                    }
                }
                progress(drained);
            }
            drop(pushed);
            if !timed.is_empty() {
                timed.sort_unstable_by_key(Timer::list_place);
                self.0.clock.sleep(wait).await;
            }
        }
        Ok(())
    }

    async fn push(&self, timer: &Timer) -> Result<Pushed, StoreError> {
        let (inner, key) = (self.0.clone(), timer.key);
        match self.whole(async move { inner.act(None, &key, TimerAction::Send).await }).await {
            Ok(()) => Ok(Pushed::Sent),
            Err(ActError::NotFound | ActError::Conflict(_)) => Ok(Pushed::Over),
            Err(ActError::Refused(refusal)) => Ok(match refusal.retry_after {
                Some(after) => Pushed::Later(after),
                None => Pushed::Refused(refusal.failure.message),
            }),
            Err(ActError::TooFast { retry_after } | ActError::TooManyGuesses { retry_after }) => {
                Ok(Pushed::Later(retry_after))
            }
            Err(ActError::Store(error)) => Err(error),
        }
    }

    /// Visits everything that is scheduled, a part at a time: nothing due waits for all of it.
    async fn visit_all(&self, mut visit: impl FnMut(Timer)) {
        for part in 0.. {
            if !self.0.timing.lock().timers.visit(part, &mut visit) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn find(&self, view: &View, key: Key) -> Result<Option<Found>, StoreError> {
        let Some(row): Option<Positioned<DelayedRow>> = view.get::<Delayed>(&(key,)).await? else { return Ok(None) };
        let Some(user_id) = self.0.outside.name(row.value.user).await? else { return Ok(None) };
        let event = self.0.show_stored(view, &key, &user_id, row).await?;
        Ok(event.map(|event| Found { number: Number(key), user_id, event }))
    }

    async fn group(&self, view: &View, key: Key) -> Result<Option<GroupSeen>, StoreError> {
        let Some(group) = view.get::<DelayedGroups>(&(key,)).await? else { return Ok(None) };
        let mut members = Vec::with_capacity(group.members.len());
        for key in group.members {
            let state = match Live::read(view, &key).await? {
                Stored::Live(live) => State::Scheduled { timed: live.timer.value.due.is_some() },
                Stored::Ended(row) => State::of(&row.outcome),
                Stored::Nothing => continue,
            };
            members.push((Number(key), state));
        }
        Ok(Some(GroupSeen { open: group.open, members }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_back_and_nothing_else_is_one() {
        for key in [[0; 16], [0xAB; 16], [0xFF; 16]] {
            let text = Number(key).to_string();
            assert_eq!((text.len(), text.parse()), (32, Ok(Number(key))));
        }
        for bad in ["", "+0000000000000000000000000000000", "ABABABABABABABABABABABABABABABAB", &"0".repeat(33)] {
            assert_eq!(bad.parse::<Number>(), Err(NoNumber), "{bad}");
        }
    }
}
