//! From the logs of rooms into the queues.

use std::sync::atomic::Ordering;

use federation_client::Owed;
use primitives::{RoomNid, StreamPosition};
use rooms::outbound::{Outbound, OutboundReceipts};
use storage::{ReadError, View};
use tracing::error;

use super::{Dispatcher, OutboundError, edus::ReceiptTold};

/// Rooms that are looked at in one page of the first round.
const ROOMS: usize = 1_000;

/// A round through the rooms' logs.
struct Round {
    view: View,
    after: StreamPosition,
    /// An earlier attempt may have queued some of this.
    again: bool,
}

impl Dispatcher {
    /// Reads what is new in the logs of all rooms. A round that fails is done again from its beginning.
    pub(super) async fn follow(&self) -> Result<(), OutboundError> {
        let reads = self.0.federation.rooms.reads();
        let view = reads.view();
        let after = self.0.queues.lock().cursor();
        if view.position() <= after {
            return Ok(());
        }
        let first = self.0.first_round.load(Ordering::Relaxed);
        let mut round = Round { view, after, again: self.0.failed_round.load(Ordering::Relaxed) };
        self.0.failed_round.store(true, Ordering::Relaxed);
        if first {
            let mut from = Some(RoomNid(0));
            while let Some(next) = from {
                let rooms = reads.rooms_from(&round.view, next, ROOMS).await?;
                from = rooms.last().filter(|_| rooms.len() == ROOMS).map(|last| RoomNid(last.0 + 1));
                self.follow_rooms(&mut round, rooms).await?;
            }
        } else {
            let rooms = reads.rooms_with_news(round.after);
            self.follow_rooms(&mut round, rooms).await?;
        }
        let now = self.0.federation.clock.monotonic();
        self.0.queues.lock().follow_to(round.view.position(), now);
        self.0.first_round.store(false, Ordering::Relaxed);
        self.0.failed_round.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn follow_rooms(&self, round: &mut Round, rooms: Vec<RoomNid>) -> Result<(), OutboundError> {
        for room in rooms {
            match self.follow_room(round, room).await {
                Ok(()) => {}
                // One room's damage must not keep the others from being told.
                Err(OutboundError::Read(ReadError::Corrupt(error))) => {
                    error!(%error, %room, "other servers are not told of what happened in a room");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn follow_room(&self, round: &mut Round, room: RoomNid) -> Result<(), OutboundError> {
        let reads = self.0.federation.rooms.reads();
        let mut after = Some(round.after);
        while let Some(from) = after {
            let page = reads.outbound(&round.view, room, from).await?;
            for told in page.news {
                self.queue(round, room, told).await?;
            }
            after = page.more_after;
        }
        if let Some(receipts) = reads.outbound_receipts(&round.view, room, round.after).await? {
            self.queue_receipts(receipts).await?;
        }
        Ok(())
    }

    async fn queue(&self, round: &mut Round, room: RoomNid, told: Outbound) -> Result<(), OutboundError> {
        let Outbound { position, servers, rix } = told;
        self.meet(servers.iter().cloned()).await?;
        let owed = Owed { room, rix, position };
        let mut queues = self.0.queues.lock();
        servers.iter().for_each(|server| queues.push(server, owed, round.again));
        Ok(())
    }

    async fn queue_receipts(&self, told: OutboundReceipts) -> Result<(), OutboundError> {
        let OutboundReceipts { room_id, receipts, servers } = told;
        self.meet(servers.iter().cloned()).await?;
        let mut queues = self.0.queues.lock();
        for receipt in &receipts {
            let thread = receipt.thread.thread_id().map(ToOwned::to_owned);
            let key = (room_id.clone(), receipt.user_id.clone(), thread);
            let told = ReceiptTold { event_id: receipt.event_id.clone(), ts: receipt.ts };
            for server in &*servers {
                queues.tell(server, |edus, most| edus.receipt(key.clone(), told.clone(), most));
            }
        }
        Ok(())
    }
}
