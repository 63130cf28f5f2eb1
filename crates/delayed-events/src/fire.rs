//! Sending: the ordinary way of an event into its room, with the delayed event's end as its rider.

use std::time::Duration;

use futures_util::future::join_all;
use primitives::{UnixMillis, canonical};
use ruma::RoomId;
use storage::{
    Positioned,
    schema::{
        delayed::{CancelReason, Delayed, DelayedRow, Failure, FailureKind, NewerState, Outcome},
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

/// A due event as it was read, and what is sent for it.
struct Made {
    live: Box<Live>,
    sending: Result<Sending, Attempt>,
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
    pub(crate) async fn attempt(&self, live: &Live, early: bool) -> Result<Attempt, StoreError> {
        match self.aim(live, early).await? {
            Ok(sending) => self.shoot(live, sending, early).await,
            Err(attempt) => Ok(attempt),
        }
    }

    /// Makes the event, or says why it can't be.
    async fn aim(&self, live: &Live, early: bool) -> Result<Result<Sending, Attempt>, StoreError> {
        let Some(row) = self.storage.view().get::<Delayed>(&(live.key,)).await? else { return Ok(Err(Attempt::Lost)) };
        let Some(sender) = self.outside.active(row.value.user).await? else {
            return Ok(Err(Attempt::Ends(CancelReason::Account)));
        };
        Ok(sending(sender, &row, live, early, self.wall()).ok_or_else(|| {
            let failure = Failure { kind: FailureKind::Other, message: "the stored event cannot be read".to_owned() };
            Attempt::Refused(Refusal { failure, retry_after: None })
        }))
    }

    /// Hands the event to its room. Does so when first polled.
    async fn shoot(&self, live: &Live, sending: Sending, early: bool) -> Result<Attempt, StoreError> {
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
    pub(crate) async fn fire_wave(&self, wave: &Wave) -> Vec<Item> {
        // All are made before the first is handed over: nothing but the room decides how long that takes. Then they are polled in their
        // order, so that they take their places in the room's order in that order.
        let mut made = Vec::with_capacity(wave.items.len());
        for item in &wave.items {
            made.push(self.make(item).await);
            // A wave of one user is not to hold up what others have asked for.
            tokio::task::yield_now().await;
        }
        let fired = join_all(wave.items.iter().zip(made).map(|(item, made)| self.fire(item, made))).await;
        let again = wave.items.iter().zip(fired).filter(|(_, fired)| matches!(fired, Fired::Again));
        again.map(|(item, _)| *item).collect()
    }

    async fn fire(&self, item: &Item, made: Result<Option<Made>, StoreError>) -> Fired {
        let fired = match made {
            Ok(None) => Ok(()),
            Ok(Some(made)) => self.fire_made(item, made).await,
            Err(error) => Err(error),
        };
        fired.map_or_else(
            |error| {
                tracing::warn!(%error, "a due delayed event could not be sent and will be tried again");
                Fired::Again
            },
            |()| Fired::Done,
        )
    }

    /// Reads a due event and makes what is sent. `None`: it has ended, or is not due any more.
    async fn make(&self, item: &Item) -> Result<Option<Made>, StoreError> {
        let Some(key) = self.timing.lock().timers.key_of(item.handle) else { return Ok(None) };
        let Found::Live(live) = Live::read(&self.storage.view(), &key).await? else {
            self.forget(&key);
            return Ok(None);
        };
        if !self.is_due(item, &live) {
            return Ok(None);
        }
        let sending = self.aim(&live, false).await?;
        Ok(Some(Made { live, sending }))
    }

    /// Sends a due event, or ends it if the room refuses it.
    async fn fire_made(&self, item: &Item, first: Made) -> Result<(), StoreError> {
        let mut made = Some(first);
        for _ in 0..TRIES {
            let Some(Made { live, sending }) = made else { return Ok(()) };
            let attempt = match sending {
                Ok(sending) => self.shoot(&live, sending, false).await?,
                Err(attempt) => attempt,
            };
            let ended = match attempt {
                Attempt::Sent => {
                    self.meters.late(self.now().since(item.moment));
                    true
                }
                Attempt::Lost => false,
                Attempt::Ends(reason) => self.end_live(&live, Outcome::Cancelled(reason)).await?,
                Attempt::Refused(refusal) => {
                    debug_assert_eq!(life::after_refusal(Cause::Timer), AfterRefusal::Fails);
                    self.end_live(&live, Outcome::Failed(refusal.failure)).await?
                }
                Attempt::Fault(fault) => return Err(StoreError::Outside(fault)),
            };
            if ended {
                return Ok(());
            }
            made = self.make(item).await?;
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
