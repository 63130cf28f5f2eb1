//! Faults on order: what a test makes go wrong in the committer, on either engine.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::EngineError;

/// The steps of a commit, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Asserts are checked and positions assigned.
    Check,
    /// The group is written, not yet durable.
    Write,
    /// What is written is made durable.
    Sync,
    /// Views begin to show it.
    Publish,
    /// The callers are told.
    Acknowledge,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 5] = [Self::Check, Self::Write, Self::Sync, Self::Publish, Self::Acknowledge];
}

/// What happens instead of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The step fails, as with a full or broken disk. The store refuses everything from then on.
    Fail,
    /// The process is as good as killed: nothing more is written, synced, shown or acknowledged, not even by closing.
    Stop,
}

/// Why the committer cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Halt {
    /// A step has failed.
    #[error("{0}")]
    Failed(String),
    /// As if the process had been killed.
    #[error("stopped by order")]
    Stopped,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.0)
    }
}

struct Order {
    /// `None`: any step counts.
    step: Option<Step>,
    /// How many times the step is still to go well.
    spare: u32,
    fault: Fault,
}

type Observer = Arc<dyn Fn(Step) + Send + Sync>;

#[derive(Default)]
struct Plan {
    orders: Vec<Order>,
    observer: Option<Observer>,
}

/// A handle with which a test makes the committer of one store fail. Cheap to clone; [`Faults::none`] costs nothing.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Mutex<Plan>>>);

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Faults(on)" } else { "Faults(none)" })
    }
}

impl Faults {
    /// Nothing goes wrong, ever.
    pub fn none() -> Self {
        Self(None)
    }

    /// A handle on which faults can be ordered.
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Orders a fault in place of a step: the `nth` time from now on that it is due (1: the next time).
    ///
    /// # Panics
    /// On a handle made by [`Self::none`], or if `nth` is 0.
    pub fn at(&self, step: Step, nth: u32, fault: Fault) {
        self.order(Some(step), nth, fault);
    }

    /// Orders a fault in place of the `nth` step from now on, whichever it is: for crashes at random places.
    ///
    /// # Panics
    /// On a handle made by [`Self::none`], or if `nth` is 0.
    pub fn at_any(&self, nth: u32, fault: Fault) {
        self.order(None, nth, fault);
    }

    /// Calls `observer` before every step, on the committer's thread; it may wait, and so hold the committer up.
    ///
    /// # Panics
    /// On a handle made by [`Self::none`].
    pub fn observe(&self, observer: impl Fn(Step) + Send + Sync + 'static) {
        self.plan().lock().observer = Some(Arc::new(observer));
    }

    fn plan(&self) -> &Mutex<Plan> {
        self.0.as_ref().expect("faults are ordered on a handle made by Faults::new")
    }

    fn order(&self, step: Option<Step>, nth: u32, fault: Fault) {
        let spare = nth.checked_sub(1).expect("the first time is 1");
        self.plan().lock().orders.push(Order { step, spare, fault });
    }

    /// The committer is about to take a step.
    pub(crate) fn reach(&self, step: Step) -> Result<(), Halt> {
        let Some(plan) = &self.0 else { return Ok(()) };
        let observer = plan.lock().observer.clone();
        if let Some(observer) = observer {
            observer(step);
        }
        for order in &mut plan.lock().orders {
            if order.step.is_some_and(|s| s != step) {
                continue;
            }
            match order.spare.checked_sub(1) {
                Some(spare) => order.spare = spare,
                None => {
                    return Err(match order.fault {
                        Fault::Fail => Halt::Failed(format!("{step:?} failed by order")),
                        Fault::Stop => Halt::Stopped,
                    });
                }
            }
        }
        Ok(())
    }
}
