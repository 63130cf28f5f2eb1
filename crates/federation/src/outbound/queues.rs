//! What waits in memory for each server, and whose turn it is. Does no I/O.
//!
//! Everything here is bounded: PDUs for a server by number, ephemeral EDUs by what they say, debts by what is written at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use federation_client::Owed;
use primitives::{RoomNid, StreamPosition};
use ruma::{OwnedServerName, ServerName};

use super::{OutboundOptions, edus::Ephemeral, sender::Attempt};

/// How long what is in memory only may wait before it is written.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// Items in a row that a server refuses one by one before it is left alone.
const REFUSED_IN_A_ROW: u32 = 20;

/// Whether somebody sends to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Idle,
    Ready,
    Running,
}

/// What waits for one server.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// All up to here is acknowledged, but for debts.
    acknowledged: StreamPosition,
    /// Events, each room's in the order of its log.
    pdus: VecDeque<Owed>,
    /// Of these events it is written that they are owed.
    covered: usize,
    /// Something is written that is owed, or may be.
    has_debts: bool,
    /// Its events are not here: the newest of each room is written, or about to be.
    behind: bool,
    /// Something durable other than events waits, or may.
    stored: bool,
    pub(super) edus: Ephemeral,
    /// A transaction that was not answered.
    attempt: Option<Arc<Attempt>>,
    /// The most items of the next transaction; fewer after one was refused.
    portion: Option<usize>,
    /// Items in a row that were refused.
    refused: u32,
    turn: Turn,
    /// When to look at it again, on the monotonic clock.
    retry_at: Option<Duration>,
}

impl Queue {
    fn has_work(&self) -> bool {
        self.behind || self.stored || !self.pdus.is_empty() || !self.edus.is_empty() || self.attempt.is_some()
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Queues {
    options: OutboundOptions,
    known: HashMap<OwnedServerName, Queue>,
    ready: VecDeque<OwnedServerName>,
    running: usize,
    retries: BTreeSet<(Duration, OwnedServerName)>,
    /// What is owed to whoever is behind and not written yet: the newest event of each room.
    debts: BTreeMap<(OwnedServerName, RoomNid), Owed>,
    /// The logs have been read up to here.
    cursor: StreamPosition,
    /// And this much of that is written.
    kept: StreamPosition,
    keep_at: Option<Duration>,
}

/// What the next transaction is made of.
#[derive(Debug)]
pub(super) enum Next {
    /// The one that was not answered, again.
    Again(Arc<Attempt>),
    /// Events from memory, at most so many items in all.
    Events(Vec<Owed>, usize),
    /// Events that are owed, at most so many items in all.
    Debts(usize),
}

/// How to keep what was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) acknowledged: StreamPosition,
    /// Nothing that is written as owed is owed any more.
    pub(super) owed_nothing: bool,
}

impl Queues {
    pub(super) fn new(options: OutboundOptions, followed: StreamPosition) -> Self {
        Self {
            options,
            known: HashMap::new(),
            ready: VecDeque::new(),
            running: 0,
            retries: BTreeSet::new(),
            debts: BTreeMap::new(),
            cursor: followed,
            kept: followed,
            keep_at: None,
        }
    }

    pub(super) fn knows(&self, server: &ServerName) -> bool {
        self.known.contains_key(server)
    }

    /// Makes the queue of a server.
    pub(super) fn meet(&mut self, server: &OwnedServerName, acknowledged: StreamPosition) {
        let new = || Queue { acknowledged, ..Queue::default() };
        self.known.entry(server.clone()).or_insert_with(new);
    }

    /// The queue of a server. One that has gone since [`Self::meet`] had nothing to do: it begins anew, and that what it acknowledged isn't known
    /// only means that it may be sent something twice.
    fn queue(&mut self, server: &ServerName) -> &mut Queue {
        self.known.entry(server.to_owned()).or_default()
    }

    /// It is written that a server is owed events.
    pub(super) fn resume_behind(&mut self, server: &ServerName) {
        if let Some(queue) = self.known.get_mut(server) {
            (queue.behind, queue.has_debts) = (true, true);
            self.wake(server);
        }
    }

    /// Something durable other than events waits for a server.
    pub(super) fn note_stored(&mut self, server: &ServerName) {
        self.queue(server).stored = true;
        self.wake(server);
    }

    /// Whether somebody who builds a transaction has to look for what is stored; they do so now.
    pub(super) fn looks_at_stored(&mut self, server: &ServerName) -> bool {
        self.known.get_mut(server).is_some_and(|queue| std::mem::take(&mut queue.stored))
    }

    /// An event for a server. `again`: it may have been put here before.
    pub(super) fn push(&mut self, server: &OwnedServerName, owed: Owed, again: bool) {
        let queue = self.queue(server);
        if owed.position <= queue.acknowledged || again && queue.pdus.contains(&owed) {
            return;
        }
        if queue.behind {
            self.debts.insert((server.clone(), owed.room), owed);
        } else {
            queue.pdus.push_back(owed);
            let waiting = queue.pdus.len();
            if waiting > self.options.queue_max_pdus {
                self.fall_behind(server);
            }
        }
        self.wake(server);
    }

    /// An ephemeral EDU for a server.
    pub(super) fn tell(&mut self, server: &ServerName, tell: impl FnOnce(&mut Ephemeral, usize)) {
        let most = self.options.queue_max_edus;
        tell(&mut self.queue(server).edus, most);
        self.wake(server);
    }

    /// Lets go of what waits for a server, and of a transaction that was not answered: of each room the newest event stays owed.
    pub(super) fn fall_behind(&mut self, server: &OwnedServerName) {
        let Some(queue) = self.known.get_mut(server) else { return };
        queue.edus.clear();
        queue.attempt = None;
        if queue.behind {
            return;
        }
        (queue.behind, queue.has_debts, queue.covered) = (true, true, 0);
        for owed in queue.pdus.drain(..) {
            self.debts.insert((server.clone(), owed.room), owed);
        }
        queue.pdus.shrink_to_fit();
        super::meters::fell_behind();
    }

    /// What waits for a server may be sent.
    pub(super) fn wake(&mut self, server: &ServerName) {
        let Some((name, queue)) = self.known.get_key_value(server) else { return };
        if queue.turn == Turn::Idle && queue.has_work() && queue.retry_at.is_none() {
            let name = name.clone();
            if let Some(queue) = self.known.get_mut(server) {
                queue.turn = Turn::Ready;
            }
            self.ready.push_back(name);
        }
    }

    /// A server need not be left alone any longer.
    pub(super) fn revive(&mut self, server: &ServerName) {
        if let Some(queue) = self.known.get_mut(server) {
            if let Some(at) = queue.retry_at.take() {
                self.retries.remove(&(at, server.to_owned()));
            }
            if queue.turn == Turn::Idle && !queue.has_work() {
                self.known.remove(server);
            } else {
                self.wake(server);
            }
        }
    }

    /// The next server to be sent to, if there may be one more. `left` says how long one is left alone.
    pub(super) fn next(
        &mut self,
        now: Duration,
        left: impl Fn(&ServerName) -> Option<Duration>,
    ) -> Option<OwnedServerName> {
        while let Some((at, server)) = self.retries.first().filter(|(at, _)| *at <= now).cloned() {
            self.retries.remove(&(at, server.clone()));
            if let Some(queue) = self.known.get_mut(&server) {
                queue.retry_at = None;
                self.wake(&server);
            }
        }
        while self.running < self.options.concurrent {
            let server = self.ready.pop_front()?;
            let Some(queue) = self.known.get_mut(&server) else { continue };
            if let Some(left) = left(&server).filter(|left| !left.is_zero()) {
                queue.turn = Turn::Idle;
                self.retry(&server, now.saturating_add(left));
            } else {
                queue.turn = Turn::Running;
                self.running += 1;
                return Some(server);
            }
        }
        None
    }

    fn retry(&mut self, server: &OwnedServerName, at: Duration) {
        if let Some(queue) = self.known.get_mut(server) {
            queue.retry_at = Some(at);
            self.retries.insert((at, server.clone()));
        }
    }

    /// Nobody sends to a server any more, and nobody is to before a time, if there is one.
    pub(super) fn rest(&mut self, server: &OwnedServerName, retry_at: Option<Duration>) {
        self.running -= 1;
        let Some(queue) = self.known.get_mut(server) else { return };
        queue.turn = Turn::Idle;
        match retry_at {
            Some(at) if queue.has_work() => self.retry(server, at),
            Some(_) => {}
            None if queue.has_work() => self.wake(server),
            None => {
                self.known.remove(server);
            }
        }
    }

    /// What the next transaction to a server is made of; `None` if nothing waits.
    pub(super) fn take(&self, server: &ServerName) -> Option<Next> {
        let queue = self.known.get(server).filter(|queue| queue.has_work())?;
        if let Some(attempt) = &queue.attempt {
            return Some(Next::Again(Arc::clone(attempt)));
        }
        let portion = queue.portion.unwrap_or(usize::MAX);
        let pdus = portion.min(self.options.transaction_max_pdus);
        if queue.behind {
            return Some(Next::Debts(portion));
        }
        Some(Next::Events(queue.pdus.iter().take(pdus).copied().collect(), portion))
    }

    /// The ephemeral EDUs of the next transaction.
    pub(super) fn take_edus(&mut self, server: &ServerName, limit: usize) -> Vec<super::edus::Edu> {
        self.known.get_mut(server).map(|queue| queue.edus.take(limit)).unwrap_or_default()
    }

    /// A transaction is about to be sent.
    pub(super) fn attempt(&mut self, server: &ServerName, attempt: &Arc<Attempt>) {
        if let Some(queue) = self.known.get_mut(server) {
            queue.attempt = Some(Arc::clone(attempt));
        }
    }

    /// How a server stands once its first `pdus` events are acknowledged.
    pub(super) fn standing(&self, server: &ServerName, pdus: usize) -> Standing {
        let Some(queue) = self.known.get(server) else {
            return Standing { acknowledged: StreamPosition::ZERO, owed_nothing: false };
        };
        if queue.behind {
            return Standing { acknowledged: queue.acknowledged, owed_nothing: false };
        }
        let left = queue.pdus.iter().skip(pdus).map(|owed| owed.position).min();
        let all = left.map_or(self.cursor, |left| StreamPosition(left.0.saturating_sub(1)).min(self.cursor));
        let owed_nothing = queue.has_debts && left.is_none();
        Standing { acknowledged: all.max(queue.acknowledged), owed_nothing }
    }

    /// A server's first `pdus` events are acknowledged, and that is written.
    pub(super) fn acknowledged(&mut self, server: &ServerName, pdus: usize, standing: Standing) {
        let Some(queue) = self.known.get_mut(server) else { return };
        queue.attempt = None;
        if !queue.behind {
            queue.pdus.drain(..pdus.min(queue.pdus.len()));
            queue.covered = queue.covered.saturating_sub(pdus);
            queue.acknowledged = standing.acknowledged;
            queue.has_debts &= !standing.owed_nothing;
        }
    }

    /// A server has taken a transaction.
    pub(super) fn accepted(&mut self, server: &ServerName) {
        if let Some(queue) = self.known.get_mut(server) {
            queue.refused = 0;
            let most = self.options.transaction_max_pdus + self.options.transaction_max_edus;
            queue.portion = queue.portion.map(|portion| portion * 2).filter(|portion| *portion < most);
        }
    }

    /// A transaction of so many items was refused: the next has fewer. Answers whether the server refuses everything, one by one.
    pub(super) fn refused(&mut self, server: &ServerName, items: usize) -> bool {
        let Some(queue) = self.known.get_mut(server) else { return false };
        queue.attempt = None;
        queue.portion = Some((items / 2).max(1));
        queue.refused += u32::from(items <= 1);
        let everything = queue.refused >= REFUSED_IN_A_ROW;
        if everything {
            queue.refused = 0;
        }
        everything
    }

    /// Whether a server is owed something that is not written yet.
    pub(super) fn has_unwritten(&self, server: &OwnedServerName) -> bool {
        let range = (server.clone(), RoomNid(0))..=(server.clone(), RoomNid(u32::MAX));
        self.debts.range(range).next().is_some()
    }

    /// Whether nothing is owed any more to a server that was behind: from here on its events are kept in memory.
    pub(super) fn caught_up(&mut self, server: &OwnedServerName) -> bool {
        if self.has_unwritten(server) {
            return false;
        }
        let cursor = self.cursor;
        if let Some(queue) = self.known.get_mut(server) {
            (queue.behind, queue.has_debts) = (false, false);
            queue.acknowledged = queue.acknowledged.max(cursor);
        }
        true
    }

    /// The position up to which a server has acknowledged everything, if it has a queue.
    pub(super) fn acknowledged_by(&self, server: &ServerName) -> Option<StreamPosition> {
        self.known.get(server).map(|queue| queue.acknowledged)
    }

    /// The logs have been read up to a position.
    pub(super) fn follow_to(&mut self, cursor: StreamPosition, now: Duration) {
        self.cursor = self.cursor.max(cursor);
        self.keep_soon(now);
    }

    /// Where to read on.
    pub(super) fn cursor(&self) -> StreamPosition {
        self.cursor
    }

    /// Something is to be written soon.
    pub(super) fn keep_soon(&mut self, now: Duration) {
        self.keep_at.get_or_insert(now + KEEP_EVERY);
    }

    /// Whether it is time to write what is in memory only.
    pub(super) fn keeps_now(&mut self, now: Duration) -> bool {
        self.keep_at.take_if(|at| *at <= now).is_some()
    }

    /// When something is due next, on the monotonic clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.retries.first().map(|(at, _)| *at).into_iter().chain(self.keep_at).min()
    }

    /// Notes as owed what waits for servers that can't be reached, so that it need not be found again in the logs.
    pub(super) fn cover(&mut self, is_paused: impl Fn(&ServerName) -> bool) {
        for (server, queue) in &mut self.known {
            if queue.behind || queue.covered == queue.pdus.len() || !is_paused(server) {
                continue;
            }
            for owed in queue.pdus.range(queue.covered..) {
                self.debts.insert((server.clone(), owed.room), *owed);
            }
            (queue.covered, queue.has_debts) = (queue.pdus.len(), true);
        }
    }

    /// Takes some of what is owed and not written.
    pub(super) fn take_debts(&mut self, limit: usize) -> Vec<(OwnedServerName, Owed)> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(((server, _), owed)) = self.debts.pop_first()
        {
            taken.push((server, owed));
        }
        taken
    }

    /// Puts back what could not be written, unless there is something newer.
    pub(super) fn put_back(&mut self, debts: Vec<(OwnedServerName, Owed)>) {
        for (server, owed) in debts {
            self.debts.entry((server, owed.room)).or_insert(owed);
        }
    }

    /// All up to here is acknowledged or written as owed, once the debts that were taken are written; `None` if that is known already.
    pub(super) fn floor(&self) -> Option<StreamPosition> {
        let waiting = self.known.values().filter(|queue| !queue.behind);
        let waiting = waiting.flat_map(|queue| queue.pdus.range(queue.covered.min(queue.pdus.len())..));
        let oldest = waiting.chain(self.debts.values()).map(|owed| owed.position).min();
        let floor = oldest.map_or(self.cursor, |oldest| StreamPosition(oldest.0.saturating_sub(1)).min(self.cursor));
        (floor > self.kept).then_some(floor)
    }

    /// So much is written.
    pub(super) fn kept(&mut self, floor: StreamPosition) {
        self.kept = self.kept.max(floor);
    }

    /// Events that wait in memory, and servers that are behind.
    pub(super) fn levels(&self) -> (usize, usize) {
        let waiting = self.known.values().map(|queue| queue.pdus.len()).sum();
        (waiting, self.known.values().filter(|queue| queue.behind).count())
    }
}

#[cfg(test)]
mod tests;
