//! Sending: the ordinary way of an event into its room, with the delayed event's end as its rider.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use primitives::{UnixMillis, canonical};
use ruma::RoomId;
use storage::{
    Positioned,
    schema::{
        delayed::{CancelReason, Delayed, DelayedRow, NewerState, Outcome},
        rooms::EventLocal,
    },
};

use crate::{
    StoreError,
    end::{Found, Live},
    engine::{Inner, TRIES},
    error::Refusal,
    life::{self, AfterRefusal, Cause},
    meters::Meters,
    outside::{NotSent, Sending},
    queue::{Item, Wave},
    steps::Place,
    timeline::Moment,
    timers::Key,
};

/// What came of offering an event to its room.
pub(crate) enum Attempt {
    /// It is in the room, and memory knows.
    Sent,
    /// The delayed event had changed. Look again.
    Lost,
    /// It can't be sent any more, for this reason.
    Ends(CancelReason),
    /// The room refuses it.
    Refused(Refusal),
    /// Something failed that may work later.
    Fault(String),
}

/// What became of a due event.
enum Fired {
    /// It has ended, or is not due any more.
    Done,
    /// It is still due: to be tried again.
    Again,
}

impl Inner {
    /// Offers an event to its room. `early`: by an action, before it is due.
    pub(crate) async fn attempt(self: &Arc<Self>, live: &Live, early: bool) -> Result<Attempt, StoreError> {
        let Some(row) = self.storage.view().get::<Delayed>(&(live.key,)).await? else { return Ok(Attempt::Lost) };
        let Some(sender) = self.outside.active(row.value.user).await? else {
            return Ok(Attempt::Ends(CancelReason::Account));
        };
        let at = self.wall();
        let Some(sending) = sending(sender, &row, live, early, at) else {
            return Ok(Attempt::Fault("a stored delayed event cannot be read".to_owned()));
        };
        self.steps.pass(Place::BeforeSending)?;
        match self.outside.send(sending).await {
            Ok(accepted) => {
                self.steps.pass(Place::AfterSending)?;
                self.settle(&live.ends(Outcome::Sent { event_id: accepted.event_id.to_string(), early }));
                Ok(Attempt::Sent)
            }
            Err(NotSent::Lost) => Ok(Attempt::Lost),
            Err(NotSent::NewerState) => Ok(Attempt::Ends(CancelReason::NewerState)),
            Err(NotSent::NoRoom) => Ok(Attempt::Ends(CancelReason::Room)),
            Err(NotSent::Refused(refusal)) => Ok(Attempt::Refused(refusal)),
            Err(NotSent::Fault(fault)) => Ok(Attempt::Fault(fault)),
        }
    }

    /// Sends the events of a wave. Answers which are to be tried again.
    pub(crate) async fn fire_wave(self: &Arc<Self>, wave: &Wave) -> Vec<Item> {
        // Polled in this order, so that they take their places in the room's order in this order.
        let fired = join_all(wave.items.iter().map(|item| self.fire(item))).await;
        wave.items
            .iter()
            .zip(fired)
            .filter_map(|(item, fired)| matches!(fired, Fired::Again).then_some(*item))
            .collect()
    }

    async fn fire(self: &Arc<Self>, item: &Item) -> Fired {
        match self.try_fire(item).await {
            Ok(fired) => fired,
            Err(error) => {
                tracing::warn!(%error, "a due delayed event could not be sent and will be tried again");
                Fired::Again
            }
        }
    }

    async fn try_fire(self: &Arc<Self>, item: &Item) -> Result<Fired, StoreError> {
        let Some(key) = self.timing.lock().timers.key_of(item.handle) else { return Ok(Fired::Done) };
        for _ in 0..TRIES {
            let live = match Live::read(&self.storage.view(), &key).await? {
                Found::Live(live) => live,
                Found::Ended(_) | Found::Nothing => {
                    self.forget(&key);
                    return Ok(Fired::Done);
                }
            };
            if !self.is_due(item, &live) {
                return Ok(Fired::Done);
            }
            match self.attempt(&live, false).await? {
                Attempt::Sent => {
                    self.meters.late(self.now().since(item.moment));
                    return Ok(Fired::Done);
                }
                Attempt::Lost => {}
                Attempt::Ends(reason) => {
                    if self.end_live(&live, Outcome::Cancelled(reason)).await? {
                        return Ok(Fired::Done);
                    }
                }
                Attempt::Refused(refusal) => {
                    debug_assert_eq!(life::after_refusal(Cause::Timer), AfterRefusal::Fails);
                    if self.end_live(&live, Outcome::Failed(refusal.failure)).await? {
                        return Ok(Fired::Done);
                    }
                }
                Attempt::Fault(fault) => return Err(StoreError::Outside(fault)),
            }
        }
        Err(StoreError::Contended)
    }

    /// Whether an event that came off the heap is due by its row; if not it goes back on the heap.
    fn is_due(&self, item: &Item, live: &Live) -> bool {
        let timing = &mut *self.timing.lock();
        let (timers, timeline) = (&mut timing.timers, &timing.timeline);
        // The row may be ahead of memory for as long as it takes to tell.
        let due = live.timer.value.due.map(|due| (due.at, timeline.era()));
        timers.rearm(&live.key, live.timer.value.generation, due, timeline);
        let now = timeline.now(&*self.clock);
        let is_due = timers.still_due(item.handle, now, timeline);
        if !is_due {
            timers.requeue(item.handle, Moment(0), timeline);
            self.earlier.notify_one();
        }
        is_due
    }

    fn forget(&self, key: &Key) {
        let timing = &mut *self.timing.lock();
        timing.timers.remove(key, &timing.timeline);
    }
}

/// The event that a delayed event stands for. `None`: its row makes no sense.
fn sending(
    sender: ruma::OwnedUserId,
    row: &Positioned<DelayedRow>,
    live: &Live,
    early: bool,
    at: UnixMillis,
) -> Option<Sending> {
    let Positioned { position, value } = row;
    let live = live.clone();
    Some(Sending {
        sender,
        room_id: RoomId::parse(&value.room_id).ok()?,
        event_type: value.event_type.clone(),
        state_key: value.state_key.clone(),
        content: canonical::parse_object(&value.content).ok()?,
        sticky_duration: value.sticky_duration_ms.map(Duration::from_millis),
        origin_server_ts: value.origin_server_ts,
        local: EventLocal {
            device_id: value.device_id.clone(),
            transaction_id: None,
            delay_id: Some(value.delay_id.clone()),
        },
        gives_way: (value.state_key.is_some() && value.newer_state != NewerState::Ignored)
            .then_some((*position, value.newer_state)),
        rider: Box::new(move |event_id| live.sent(event_id, early, at)),
    })
}

impl Inner {
    /// Counts a fault, for the operator.
    pub(crate) fn retried(count: usize) {
        (0..count).for_each(|_| Meters::retried());
    }
}
