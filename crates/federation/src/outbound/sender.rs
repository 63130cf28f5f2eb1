//! Sending to one server: one transaction after another, each made of what waits and taken out only when it was acknowledged.

use std::{sync::Arc, time::Duration};

use federation_client::{Destinations, Owed, RemoteError, Settled, Transaction};
use primitives::{StreamPosition, canonical};
use ruma::{
    OwnedServerName,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue, to_canonical_value},
};
use storage::Batch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use users::ToDevice;

use super::{AFTER_FAILURE, Dispatcher, OutboundError, edus::Edu, meters, queues::Next};

/// A transaction takes no further PDU or to-device EDU when it has so many bytes of them; a single one may be larger.
const TRANSACTION_BYTES: usize = 1 << 20;
/// Failures in a row after which what waits in memory is let go: the server gets the newest event of each room when it is back.
const FAILURES_IN_MEMORY: u32 = 5;
/// How long a server is left alone that refuses everything.
const AFTER_REFUSALS: Duration = Duration::from_mins(10);

/// A transaction on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    transaction: Transaction,
    /// How many events it takes from the queue in memory; the transaction itself may have fewer, where some are gone.
    pdus: usize,
    /// What it settles of what is stored.
    settled: Settled,
    /// What it takes from the outbox of messages to devices.
    outbox: Vec<StreamPosition>,
    /// Ephemeral EDUs in it.
    ephemeral: usize,
    /// EDUs that are stored, in it.
    durable: usize,
    /// PDUs in it.
    sent: usize,
}

impl Attempt {
    /// What would be sent again after a refusal.
    fn items(&self) -> usize {
        self.pdus + self.settled.owed.len() + self.durable
    }

    /// Whether there is anything to send, or only something to be noted.
    fn is_empty(&self) -> bool {
        self.sent + self.durable + self.ephemeral == 0
    }

    fn has_news(&self) -> bool {
        self.pdus + self.settled.owed.len() + self.settled.marks.len() + self.outbox.len() > 0
    }
}

/// How to go on with a server.
enum Step {
    /// There may be more.
    Again,
    /// Nothing waits.
    Done,
    /// Not before this time, on the monotonic clock.
    Later(Duration),
}

impl Dispatcher {
    /// Sends to a server until nothing waits, it fails, or the work is cancelled.
    pub(super) async fn send_to(&self, server: OwnedServerName, cancel: CancellationToken) {
        let clock = &self.0.federation.clock;
        let retry_at = loop {
            match cancel.run_until_cancelled(self.step(&server)).await {
                None | Some(Ok(Step::Done)) => break None,
                Some(Ok(Step::Again)) => {}
                Some(Ok(Step::Later(at))) => break Some(at),
                Some(Err(error)) => {
                    tracing::error!(%error, %server, "nothing is sent to a server until the store works");
                    break Some(clock.monotonic() + AFTER_FAILURE);
                }
            }
        };
        self.0.queues.lock().rest(&server, retry_at);
        self.0.turn.notify_one();
    }

    /// The next transaction.
    async fn step(&self, server: &OwnedServerName) -> Result<Step, OutboundError> {
        let next = self.0.queues.lock().take(server);
        let attempt = match next {
            None => return Ok(Step::Done),
            Some(Next::Again(attempt)) => attempt,
            Some(Next::Events(owed, portion)) => {
                let pdus = owed.len();
                self.build(server, owed, pdus, portion).await?
            }
            Some(Next::Debts(portion)) => {
                // What is newer takes the place of what is written.
                if self.0.queues.lock().has_unwritten(server) {
                    self.keep().await?;
                }
                let limit = portion.min(self.0.options.transaction_max_pdus);
                let mut owed = self.0.destinations.owed(server, limit).await?;
                if owed.is_empty() {
                    return self.catch_up(server).await;
                }
                owed.sort_by_key(|owed| owed.position);
                self.build(server, owed, 0, portion).await?
            }
        };
        if attempt.is_empty() {
            if attempt.has_news() {
                self.acknowledge(server, &attempt).await?;
            }
            return Ok(Step::Again);
        }
        self.0.queues.lock().attempt(server, &attempt);
        let sent = self.0.federation.client.send_transaction(server, &attempt.transaction).await;
        match sent {
            Ok(outcome) => {
                for (event_id, error) in outcome.refused {
                    debug!(%server, %event_id, %error, "a server did not take in an event");
                }
                self.acknowledge(server, &attempt).await?;
                self.0.queues.lock().accepted(server);
                meters::sent(attempt.sent, attempt.durable + attempt.ephemeral);
                Ok(Step::Again)
            }
            Err(error) if error.is_poison() || matches!(error, RemoteError::Malformed(_)) => {
                self.refused(server, &attempt, &error).await
            }
            Err(error) => Ok(self.failed(server, &error)),
        }
    }

    /// A server that was behind has got everything that was written. If nothing has come meanwhile, it is behind no more.
    async fn catch_up(&self, server: &OwnedServerName) -> Result<Step, OutboundError> {
        let _alone = self.0.keeping.lock().await;
        if self.0.destinations.owed(server, 1).await?.is_empty() && self.0.queues.lock().caught_up(server) {
            let acknowledged = self.0.queues.lock().acknowledged_by(server).unwrap_or_default();
            let mut batch = Batch::new();
            Destinations::put(&mut batch, server, self.destination(server, acknowledged));
            self.0.destinations.commit(batch).await?;
        }
        Ok(Step::Again)
    }

    /// Makes a transaction of some events and as many EDUs as fit.
    async fn build(
        &self,
        server: &OwnedServerName,
        owed: Vec<Owed>,
        pdus: usize,
        portion: usize,
    ) -> Result<Arc<Attempt>, OutboundError> {
        let federation = &self.0.federation;
        let acknowledged = self.0.queues.lock().acknowledged_by(server).unwrap_or_default();
        let (mut bytes, mut events, mut taken) = (0, Vec::new(), Vec::new());
        let view = federation.rooms.reads().view();
        for owed in owed {
            if bytes >= TRANSACTION_BYTES {
                break;
            }
            taken.push(owed);
            // What is written as owed may have been acknowledged since.
            if owed.position <= acknowledged {
                continue;
            }
            if let Some(event) = federation.rooms.reads().pdu(&view, owed.room, owed.rix).await? {
                bytes += canonical::to_bytes(&event).len();
                events.push(event);
            }
        }
        drop(view);
        let from_memory = pdus > 0;
        let mut settled = Settled { owed: if from_memory { Vec::new() } else { taken.clone() }, marks: Vec::new() };
        let left = portion.saturating_sub(taken.len()).min(self.0.options.transaction_max_edus);
        let (mut edus, outbox) =
            self.stored(server, left, TRANSACTION_BYTES.saturating_sub(bytes), &mut settled).await?;
        let durable = edus.len();
        let ephemeral = self.0.queues.lock().take_edus(server, left.saturating_sub(durable));
        edus.extend(ephemeral.iter().filter_map(canonical_edu));
        let ephemeral = edus.len() - durable;
        let sent = events.len();
        let own = federation.keys().server_name();
        let transaction = Transaction::new(self.transaction_id(), own, federation.clock.now(), events, edus);
        let pdus = if from_memory { taken.len() } else { 0 };
        Ok(Arc::new(Attempt { transaction, pdus, settled, outbox, ephemeral, durable, sent }))
    }

    /// The EDUs that are stored for a server: messages to devices, and lists of devices. Answers also which rows of the outbox they are.
    async fn stored(
        &self,
        server: &OwnedServerName,
        limit: usize,
        max_bytes: usize,
        settled: &mut Settled,
    ) -> Result<(Vec<CanonicalJsonObject>, Vec<StreamPosition>), OutboundError> {
        if limit == 0 || !self.0.queues.lock().looks_at_stored(server) {
            return Ok((Vec::new(), Vec::new()));
        }
        let federation = &self.0.federation;
        let waiting = federation.users.to_device().outbox(server, limit, max_bytes).await?;
        let (mut edus, mut outbox) = (Vec::new(), Vec::new());
        for one in waiting {
            outbox.push(one.position);
            match canonical::parse_object(one.content.as_bytes()) {
                Ok(content) => edus.push(edu("m.direct_to_device", content.into())),
                Err(error) => warn!(%server, %error, "messages to devices can't be sent"),
            }
        }
        let left = limit.saturating_sub(outbox.len());
        let marks = self.0.destinations.marks(server, left).await?;
        let (told, told_of) = super::device_lists::edus(federation, marks, left).await?;
        edus.extend(told.iter().filter_map(canonical_edu));
        settled.marks = told_of;
        if !outbox.is_empty() || !settled.marks.is_empty() {
            self.0.queues.lock().note_stored(server);
        }
        Ok((edus, outbox))
    }

    /// Takes out what a server has acknowledged.
    async fn acknowledge(&self, server: &OwnedServerName, attempt: &Attempt) -> Result<(), OutboundError> {
        let standing = self.0.queues.lock().standing(server, attempt.pdus);
        if attempt.has_news() {
            let mut batch = Batch::new();
            Destinations::put(&mut batch, server, self.destination(server, standing.acknowledged));
            if standing.owed_nothing {
                Destinations::owe_nothing(&mut batch, server);
            }
            ToDevice::acknowledged_in(&mut batch, server, &attempt.outbox);
            self.0.destinations.settle(server, &attempt.settled, &batch).await?;
        }
        self.0.queues.lock().acknowledged(server, attempt.pdus, standing);
        Ok(())
    }

    /// A server lives and will not have this transaction: the next has fewer items, and a single one is dropped. What was ephemeral in it is gone.
    async fn refused(
        &self,
        server: &OwnedServerName,
        attempt: &Attempt,
        error: &RemoteError,
    ) -> Result<Step, OutboundError> {
        meters::refused();
        let items = attempt.items();
        if items == 1 {
            warn!(%server, %error, "a server refuses an item, which it is not sent again");
            meters::poison();
            self.acknowledge(server, attempt).await?;
        }
        if self.0.queues.lock().refused(server, items) {
            return Ok(Step::Later(self.0.federation.clock.monotonic() + AFTER_REFUSALS));
        }
        Ok(Step::Again)
    }

    /// A server can't be reached, or not now.
    fn failed(&self, server: &OwnedServerName, error: &RemoteError) -> Step {
        let now = self.0.federation.clock.monotonic();
        let Some(pause) = self.pause(server) else {
            // It has been heard of since.
            return Step::Later(now);
        };
        if !matches!(error, RemoteError::LeftAlone(_)) {
            meters::failed();
            info!(%server, %error, failures = pause.failures, pause_s = pause.left.as_secs(), "a server can't be sent to");
        }
        let mut queues = self.0.queues.lock();
        if pause.failures >= FAILURES_IN_MEMORY {
            queues.fall_behind(server);
        }
        queues.keep_soon(now);
        Step::Later(now.saturating_add(pause.left))
    }
}

fn edu(edu_type: &str, content: CanonicalJsonValue) -> CanonicalJsonObject {
    [("edu_type".to_owned(), edu_type.into()), ("content".to_owned(), content)].into()
}

fn canonical_edu(made: &Edu) -> Option<CanonicalJsonObject> {
    match to_canonical_value(&made.content) {
        Ok(content) => Some(edu(made.edu_type, content)),
        Err(error) => {
            warn!(edu_type = made.edu_type, %error, "an EDU has no canonical form");
            None
        }
    }
}
