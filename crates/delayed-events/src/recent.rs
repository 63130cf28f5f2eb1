//! Requests of late that carry no transaction id, so that one that is tried again is known.

use std::{collections::HashMap, time::Duration};

use tokio::sync::watch;

use crate::{DelayId, timeline::Moment, timers::Key};

const SWEEP_AT_LEAST: usize = 1024;

/// What became of a request.
#[derive(Debug)]
enum Slot {
    /// It is being worked on; closed when that ends.
    Open(watch::Receiver<()>),
    /// It scheduled this.
    Done(DelayId, Moment),
}

/// Requests of late, by a hash of all that they say.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    slots: HashMap<Key, Slot>,
    sweep_at: usize,
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Nothing. Whoever holds the sender works on it.
    Never(watch::Sender<()>),
    /// Another is working on the same: look again when this closes.
    Now(watch::Receiver<()>),
    /// It scheduled this.
    Before(DelayId),
}

impl Recent {
    /// Looks a request up; if nothing is known of it, the caller is to work on it and to tell with [`Self::done`] or [`Self::failed`].
    pub(crate) fn look(&mut self, request: Key, now: Moment, window: Duration) -> Seen {
        match self.slots.get(&request) {
            Some(Slot::Open(open)) if open.has_changed().is_ok() => return Seen::Now(open.clone()),
            Some(Slot::Done(id, at)) if now.since(*at) < window => return Seen::Before(id.clone()),
            _ => {}
        }
        if self.slots.len() >= self.sweep_at.max(SWEEP_AT_LEAST) {
            self.slots.retain(|_, slot| {
                matches!(slot, Slot::Open(_)) || matches!(slot, Slot::Done(_, at) if now.since(*at) < window)
            });
            self.sweep_at = self.slots.len() * 2;
        }
        let (sender, receiver) = watch::channel(());
        self.slots.insert(request, Slot::Open(receiver));
        Seen::Never(sender)
    }

    /// The request has scheduled something.
    pub(crate) fn done(&mut self, request: Key, id: DelayId, now: Moment) {
        self.slots.insert(request, Slot::Done(id, now));
    }

    /// The request has scheduled nothing, or what it had scheduled has ended.
    pub(crate) fn failed(&mut self, request: &Key) {
        self.slots.remove(request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(5);

    #[test]
    fn a_request_is_known_while_it_is_worked_on_and_for_the_window_after() {
        let mut recent = Recent::default();
        let Seen::Never(sender) = recent.look([1; 16], Moment(0), WINDOW) else { panic!("known") };
        assert!(matches!(recent.look([1; 16], Moment(0), WINDOW), Seen::Now(_)));
        recent.done([1; 16], DelayId::new("x"), Moment(10));
        drop(sender);
        assert!(matches!(recent.look([1; 16], Moment(5_009), WINDOW), Seen::Before(id) if id.as_str() == "x"));
        assert!(matches!(recent.look([1; 16], Moment(5_010), WINDOW), Seen::Never(_)));
    }

    #[test]
    fn a_request_whose_worker_is_gone_is_unknown() {
        let mut recent = Recent::default();
        drop(recent.look([1; 16], Moment(0), WINDOW));
        assert!(matches!(recent.look([1; 16], Moment(0), WINDOW), Seen::Never(_)));
    }

    #[test]
    fn old_requests_are_forgotten() {
        let mut recent = Recent::default();
        for n in 0_u64..20_000 {
            let key = u128::from(n).to_be_bytes();
            let _sender = recent.look(key, Moment(n * 10), WINDOW);
            recent.done(key, DelayId::new("x"), Moment(n * 10));
        }
        assert!(recent.slots.len() <= 2 * SWEEP_AT_LEAST, "{}", recent.slots.len());
    }
}
