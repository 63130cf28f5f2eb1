//! An own event's whole way into a change: precondition, building, authorisation, rows, riders.

use std::{collections::HashSet, ops::Range};

use primitives::StreamPosition;
use ruma::OwnedEventId;
use storage::{Assert, Batch, Op, TableId};

use crate::{
    Pdu,
    build::Built,
    change::Change,
    outgoing::{Outgoing, Rider, SendError, SlotUnchanged},
};

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Appended {
    /// It is part of the change, or the state said the same before; its riders are part of the change.
    Done {
        /// The event's id.
        event_id: OwnedEventId,
        /// When it was stored; [`StreamPosition::PENDING`] for an event of this change.
        position: StreamPosition,
        /// Which asserts of the batch are its riders'.
        asserts: Range<usize>,
    },
    /// The room's policy server has to sign the event first.
    Unsigned(Pdu),
    /// A rider asks for something that another event of this change writes: it can only be judged in a change of its own.
    Overlaps,
}

type Rows = HashSet<(TableId, Vec<u8>)>;

impl Change {
    /// Adds an own event. On an error, or if it overlaps or is to be signed first, the change is as it was before.
    pub(crate) async fn append(&mut self, outgoing: &Outgoing) -> Result<Appended, SendError> {
        for unchanged in outgoing.riders.iter().filter_map(|rider| rider.unchanged.as_ref()) {
            self.check_unchanged(unchanged).await?;
        }
        let built = self.build(outgoing).await?;
        self.authorise_own(&built).await?;
        let existing = self.says_the_same(&built.pdu).await?;
        if existing.is_none() && self.lacks_policy_signature(&built.pdu).await? {
            return Ok(Appended::Unsigned(built.pdu));
        }
        let (event_id, position) = match &existing {
            Some((event_id, position)) => (event_id.clone(), *position),
            None => (built.pdu.event_id().clone(), StreamPosition::PENDING),
        };
        let riders: Vec<_> = outgoing.riders.iter().map(|rider: &Rider| (rider.batch)(&event_id)).collect();
        if riders.iter().any(|rider| overlaps(rider, &self.ridden)) {
            return Ok(Appended::Overlaps);
        }
        if existing.is_none() {
            self.persist(Built::accepted(built, outgoing)).await?;
        }
        let start = self.batch.asserts().len();
        for rider in riders {
            self.ridden.extend(rider.ops().iter().map(row_of));
            self.batch.merge(rider);
        }
        Ok(Appended::Done { event_id, position, asserts: start..self.batch.asserts().len() })
    }

    pub(crate) async fn check_unchanged(&mut self, unchanged: &SlotUnchanged) -> Result<(), SendError> {
        let Some(event) = self.current(&unchanged.event_type, &unchanged.state_key).await? else { return Ok(()) };
        if unchanged.allows(event.position, event.pdu.sender()) { Ok(()) } else { Err(SendError::PreconditionFailed) }
    }

    /// The event of the current state that a state event would only repeat.
    async fn says_the_same(&mut self, pdu: &Pdu) -> Result<Option<(OwnedEventId, StreamPosition)>, SendError> {
        let Some(state_key) = pdu.state_key() else { return Ok(None) };
        let current = self.current(pdu.kind(), state_key).await?;
        let same = current
            .filter(|event| event.pdu.sender() == pdu.sender() && event.pdu.content().get() == pdu.content().get());
        Ok(same.map(|event| (event.pdu.event_id().clone(), event.position)))
    }
}

fn overlaps(rider: &Batch, ridden: &Rows) -> bool {
    let asserted = rider.asserts().iter().map(|assert| match assert {
        Assert::Absent { table, key } | Assert::Equals { table, key, .. } => (*table, key.clone()),
    });
    asserted.into_iter().any(|row| ridden.contains(&row))
}

fn row_of(op: &Op) -> (TableId, Vec<u8>) {
    match op {
        Op::Put { table, key, .. } | Op::Delete { table, key } | Op::DeletePrefix { table, prefix: key } => {
            (*table, key.clone())
        }
    }
}
