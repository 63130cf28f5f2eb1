//! The loop: takes what is due off the heap, sends it room by room, sweeps what is no longer kept.
//!
//! ```text
//!  heap ──due──▶ queue ──waves──▶ tasks, one a room ──done──▶ queue
//!    ▲                                                   │
//!    └────────────── not due after all ◀─────────────────┘
//! ```

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    DelayedEvents,
    engine::Inner,
    meters::Meters,
    queue::{Item, Queue, Shares, Wave},
    timeline::Moment,
};

/// The wall clock is looked at this often.
const LOOK: Duration = Duration::from_secs(2);
/// Due events that are taken off the heap under one lock,
const POP: usize = 2048;
/// and how often that is done before anything else has its turn: who is due last must be found before the first of a flood are sent.
const POPS: usize = 8;
/// After a fault a room waits so long, then twice as long, and so on,
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// but never longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What is no longer kept is swept this often.
const SWEEP: Duration = Duration::from_mins(1);

/// A wave that has ended, and those of its events that are to be tried again.
type Done = (Wave, Vec<Item>);

/// The loop's own.
struct Loop {
    inner: Arc<Inner>,
    queue: Queue,
    done: mpsc::UnboundedSender<Done>,
    /// Faults in a row, by room.
    faults: HashMap<u32, u32>,
}

impl DelayedEvents {
    /// Sends what is due, until cancelled; then ends what has begun. Nothing is sent on time without it.
    pub async fn run(&self, cancel: CancellationToken) {
        self.run_with(cancel, Shares::default()).await;
    }

    pub(crate) async fn run_with(&self, cancel: CancellationToken, shares: Shares) {
        let sweeping = {
            let (this, cancel) = (self.clone(), cancel.clone());
            self.0.tasks.spawn(async move { this.sweep_now_and_then(cancel).await })
        };
        // At most as many waves are under way as there are shares for rooms: that bounds the channel.
        let (done, mut ended) = mpsc::unbounded_channel();
        let mut this = Loop { inner: self.0.clone(), queue: Queue::new(shares), done, faults: HashMap::new() };
        while !cancel.is_cancelled() {
            let more = this.take_all_due().await;
            this.start_waves();
            if more {
                // Other tasks, and the ends of waves, come first.
                tokio::task::yield_now().await;
                while let Ok(wave) = ended.try_recv() {
                    this.end_wave(wave);
                }
                continue;
            }
            let wait = this.wait();
            tokio::select! {
                () = cancel.cancelled() => {}
                Some(wave) = ended.recv() => this.end_wave(wave),
                () = this.inner.earlier.notified() => {}
                () = this.inner.clock.sleep(wait) => {}
            }
            while let Ok(wave) = ended.try_recv() {
                this.end_wave(wave);
            }
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
        drop(sweeping);
    }

    async fn sweep_now_and_then(&self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "ended delayed events could not be swept");
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.0.clock.sleep(SWEEP) => {}
            }
        }
    }
}

impl Loop {
    /// Moves what is due to the queue. Answers whether there is more.
    fn take_due(&mut self) -> bool {
        if self.queue.is_full() {
            return false;
        }
        let mut due = Vec::new();
        let timing = &mut *self.inner.timing.lock();
        if timing.timeline.observe(&*self.inner.clock) {
            tracing::warn!("the wall clock has stepped");
            timing.timers.rebuild(&timing.timeline);
        }
        let now = timing.timeline.now(&*self.inner.clock);
        let more = timing.timers.pop_due(now, &timing.timeline, POP, &mut due);
        for due in &due {
            self.queue.push(due);
        }
        Meters::levels(timing.timers.len(), self.queue.depth());
        self.queue.unpark(now);
        more
    }

    /// Moves what is due to the queue, some of a flood at a time. Answers whether there is more.
    async fn take_all_due(&mut self) -> bool {
        for _ in 0..POPS {
            if !self.take_due() {
                return false;
            }
            tokio::task::yield_now().await;
        }
        true
    }

    fn start_waves(&mut self) {
        while let Some(wave) = self.queue.next() {
            let (inner, done) = (self.inner.clone(), self.done.clone());
            self.inner.tasks.spawn(async move {
                let again = inner.fire_wave(&wave).await;
                // The loop that would listen is gone: the events are still scheduled, the next start sends them.
                let _ = done.send((wave, again));
            });
        }
    }

    fn end_wave(&mut self, (wave, again): Done) {
        if again.is_empty() {
            self.faults.remove(&wave.room);
            self.queue.done(&wave, &again, None);
            return;
        }
        Inner::retried(again.len());
        let faults = self.faults.entry(wave.room).or_default();
        let wait = FIRST_WAIT.saturating_mul(1 << (*faults).min(16)).min(LONGEST_WAIT);
        *faults += 1;
        let until = self.inner.now().0.saturating_add(u64::try_from(wait.as_millis()).expect("seconds"));
        self.queue.done(&wave, &again, Some(Moment(until)));
    }

    /// How long nothing is due, as far as is known.
    fn wait(&self) -> Duration {
        let timing = self.inner.timing.lock();
        let now = timing.timeline.now(&*self.inner.clock);
        let heap = timing.timers.next_moment().filter(|_| !self.queue.is_full());
        let next = heap.into_iter().chain(self.queue.next_moment()).min();
        next.map_or(LOOK, |next| next.since(now).min(LOOK))
    }
}
