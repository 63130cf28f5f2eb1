//! The time of a simulation: it goes on only when no task of any server has anything to do, so that a run takes as long as its work does, and what a server
//! does between two ticks doesn't depend on how fast the machine is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use primitives::ManualClock;
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
};
use tokio_util::task::TaskTracker;

/// How far the clock goes at once.
#[derive(Debug)]
pub(super) struct Pace {
    /// Everybody is idle.
    idle: Arc<Notify>,
    tick_millis: AtomicU64,
    /// What moves the clock; it ends with the runtime.
    task: TaskTracker,
}

impl Pace {
    /// What runs a simulation, on the thread that waits for it, and the pace of its time.
    pub(super) fn new(tick: Duration) -> std::io::Result<(Runtime, Arc<Self>)> {
        let idle = Arc::new(Notify::new());
        let told = idle.clone();
        // With one thread for what blocks, all of it is done when what was begun last is.
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).on_thread_park(move || told.notify_one()).build()?;
        let pace = Self { idle, tick_millis: AtomicU64::new(0), task: TaskTracker::new() };
        pace.set(tick);
        Ok((runtime, Arc::new(pace)))
    }

    pub(super) fn set(&self, tick: Duration) {
        self.tick_millis.store(u64::try_from(tick.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Moves the clock from now on, whenever everybody waits.
    pub(super) fn start(self: &Arc<Self>, clock: Arc<ManualClock>) {
        let pace = self.clone();
        self.task.spawn(async move {
            loop {
                pace.idle.notified().await;
                if tokio::task::spawn_blocking(|| ()).await.is_err() {
                    return;
                }
                clock.advance(Duration::from_millis(pace.tick_millis.load(Ordering::Relaxed)));
            }
        });
    }
}
