//! Places between any two steps of an operation, at which tests stop the engine as a crash would. Nothing in a release.

/// A place between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Everything has been read and checked, nothing is written.
    BeforeScheduling,
    /// The rows are written, memory does not know of them yet.
    AfterScheduling,
    /// The restarted timer's row is about to be written.
    BeforeRestart,
    /// It is written, memory still has the old due time.
    AfterRestart,
    /// The event is about to be offered to the room.
    BeforeSending,
    /// It is in the room, memory still has it as scheduled.
    AfterSending,
    /// An end without an event is about to be written.
    BeforeEnding,
    /// It is written, memory still has it as scheduled.
    AfterEnding,
    /// What is no longer kept is about to be deleted.
    BeforeSweeping,
    /// It is deleted.
    AfterSweeping,
}

#[cfg(test)]
pub(crate) use armed::Steps;
#[cfg(not(test))]
pub(crate) use unarmed::Steps;

#[cfg(not(test))]
mod unarmed {
    use super::Place;
    use crate::StoreError;

    /// Lets everything pass.
    #[derive(Debug)]
    pub(crate) struct Steps;

    impl Steps {
        pub(crate) fn new() -> Self {
            Self
        }

        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the form of the one that tests use")]
        pub(crate) fn pass(&self, _place: Place) -> Result<(), StoreError> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod armed {
    use parking_lot::Mutex;

    use super::Place;
    use crate::StoreError;

    /// Counts the places that are passed, and lets nothing pass from a given one on.
    #[derive(Debug, Default)]
    pub(crate) struct Steps(Mutex<(Vec<Place>, Option<usize>)>);

    impl Steps {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        /// From now on, lets `count` places be passed and stops at the next for good.
        pub(crate) fn stop_after(&self, count: usize) {
            *self.0.lock() = (Vec::new(), Some(count));
        }

        /// Whether something was stopped.
        pub(crate) fn stopped(&self) -> bool {
            let (passed, stop) = &*self.0.lock();
            stop.is_some_and(|stop| passed.len() > stop)
        }

        pub(crate) fn pass(&self, place: Place) -> Result<(), StoreError> {
            let (passed, stop) = &mut *self.0.lock();
            if stop.is_some() {
                passed.push(place);
            }
            match stop {
                Some(stop) if passed.len() > *stop => Err(StoreError::Outside(format!("stopped at {place:?}"))),
                _ => Ok(()),
            }
        }
    }
}
