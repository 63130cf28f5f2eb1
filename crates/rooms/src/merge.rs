//! Bringing a forked room together: an event of a local user that follows many extremities at once and says nothing.
//!
//! Every extremity makes the room's state dearer to work out, and other servers can make as many as they like (I12). So the worker merges
//! them as soon as there are more than a few, if any local user may send; and where none may, the room takes no further ones (see
//! `receive/judge.rs`).

use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject};
use storage::{ReadError, schema::rooms::Membership};

use crate::{
    append::Appended,
    change::Change,
    context::read_error,
    outgoing::{Outgoing, SendError},
    power::Powers,
    receive::AT_ONCE,
    resolve::MAX_SETS,
};

/// The type of an event that only joins extremities. Synapse knows it by the same name; no client is shown one.
pub(crate) const DUMMY_EVENT: &str = "org.matrix.dummy_event";

/// Extremities above which they are merged.
pub(crate) const MERGE_ABOVE: usize = 10;
/// The most extremities that a room has: as many states as are resolved at once.
pub(crate) const MAX_EXTREMITIES: usize = MAX_SETS;
/// Local members without a power level of their own who are tried as senders.
pub(crate) const MEMBERS_TRIED: usize = 5;

// Where merging is possible, one request to the worker never fills the room.
const _: () = assert!(MERGE_ABOVE + AT_ONCE < MAX_EXTREMITIES);

impl Change {
    /// Merges the extremities if there are more than a few and a local user may send. Otherwise they stay as they are.
    pub(crate) async fn merge_extremities(&mut self) -> Result<(), ReadError> {
        while self.memory.tips.len() > MERGE_ABOVE && self.merge().await? {}
        Ok(())
    }

    /// Sends one merging event. Answers whether anybody could.
    async fn merge(&mut self) -> Result<bool, ReadError> {
        for sender in self.senders().await? {
            let event = Outgoing::message(sender, DUMMY_EVENT, CanonicalJsonObject::new());
            match self.append(&event).await {
                Ok(Appended::Done { .. }) => return Ok(true),
                Err(SendError::Storage(error)) => return Err(error),
                // Outside the worker it can be signed: `remote/policy.rs`.
                Ok(Appended::Unsigned(_)) => return Ok(false),
                Ok(Appended::Overlaps) | Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Local users who can be expected to be allowed to: first those whom the power levels name.
    async fn senders(&mut self) -> Result<Vec<OwnedUserId>, ReadError> {
        let Some(create) = self.current("m.room.create", "").await? else { return Ok(Vec::new()) };
        let levels = self.current("m.room.power_levels", "").await?;
        let powers = Powers::new(&create.pdu, levels.as_ref().map(|event| &event.pdu));
        let needed = powers.needed_to_send(DUMMY_EVENT, None);
        let own_name = &self.context.options.server_name;
        let named = powers.named().into_iter();
        let mut senders: Vec<_> =
            named.filter(|user| user.server_name() == own_name && powers.of(user) >= needed).collect();
        let joined = self.memory.local.iter().filter(|(_, membership)| **membership == Membership::Join);
        for (nid, _) in joined.take(MEMBERS_TRIED) {
            senders.extend(self.context.users.user_id(*nid).await.map_err(read_error)?);
        }
        Ok(senders)
    }
}
