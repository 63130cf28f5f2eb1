//! The state of a room that was joined with a part of it is made whole.
//!
//! The job begins with the join and says that this is to be done; the fetching is done beside it, for it may wait long for other servers. A step only sees to it
//! that somebody does it, so that a restart finds it again.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::RoomNid;
use rooms::Rooms;
use storage::{Key, schema::jobs::JobKind};

use crate::kind::{Kind, Next, StepError};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(30);
/// The cursor of a job that goes on.
const GOES_ON: &[u8] = b"g";

pub(crate) struct Resync {
    rooms: Rooms,
}

impl Resync {
    pub(crate) fn new(rooms: Rooms) -> Self {
        Self { rooms }
    }

    async fn next(&self, id: &[u8]) -> Result<Next, StepError> {
        let Some((room,)) = <(RoomNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        let done = self.rooms.resync(room).await?;
        Ok(if done { Next::Done } else { Next::More { cursor: GOES_ON.to_vec(), pause: PAUSE } })
    }
}

impl Kind for Resync {
    fn number(&self) -> JobKind {
        JobKind::RESYNC
    }

    fn name(&self) -> &'static str {
        "resync"
    }

    fn step<'a>(&'a self, id: &'a [u8], _: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id))
    }
}
