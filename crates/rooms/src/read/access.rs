//! Whether a reader may ask about a room at all, and up to where.

use primitives::{NodeId, Rank, Rix};
use storage::schema::rooms::RoomHead;

use super::{ReadRoomError, RoomView};
use crate::visibility::{Eyes, Standing};

/// What of a room a reader may ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The room as it is: the reader is in it, or everybody may read it.
    Now {
        /// The root of the current state.
        root: NodeId,
    },
    /// The room as it was when the reader left it.
    UntilLeft {
        /// The event that ended the stay.
        rix: Rix,
        /// Its rank.
        rank: Rank,
        /// The root of the state after it.
        root: NodeId,
    },
}

impl Access {
    /// The access of a reader; refused to those who never were in the room, or have forgotten it, unless it is world-readable.
    pub(crate) async fn of(head: &RoomHead, eyes: &mut Eyes<'_>) -> Result<Self, ReadRoomError> {
        let now = Self::Now { root: head.root };
        match eyes.standing() {
            Standing::Joined => Ok(now),
            _ if eyes.is_world_readable(head.root).await? => Ok(now),
            Standing::Left { rix, rank, root } => Ok(Self::UntilLeft { rix, rank, root }),
            Standing::Outside => Err(ReadRoomError::Forbidden),
        }
    }

    /// The state that the reader may see.
    pub(crate) fn root(self) -> NodeId {
        match self {
            Self::Now { root } | Self::UntilLeft { root, .. } => root,
        }
    }

    /// Cuts a point of the timeline, (rank, rix) of the event after it, to what the reader may page to.
    pub(crate) fn cut(self, point: (Rank, Rix)) -> (Rank, Rix) {
        match self {
            Self::Now { .. } => point,
            Self::UntilLeft { rank, rix, .. } => point.min((rank, Rix(rix.0.saturating_add(1)))),
        }
    }
}

impl RoomView<'_> {
    /// The head of a room that a reader asks about; a room that isn't there is as closed as one that the reader isn't in.
    pub(crate) async fn open_head(&self) -> Result<RoomHead, ReadRoomError> {
        self.head().await?.ok_or(ReadRoomError::Forbidden)
    }
}
