//! Lists of devices that are not what their server has are fetched from it, once for each user however much was heard of the list meanwhile.
//!
//! The job of a server begins with the first such list and goes on until there are none, waiting while the server can't be asked. It ends only a while
//! after that, so that lists that change without end are fetched now and then.

use std::time::Duration;

use futures_util::{StreamExt, future::BoxFuture, stream};
use rooms::Rooms;
use ruma::OwnedServerName;
use storage::{Key, Storage, Text, schema::jobs::JobKind};
use users::{
    Users,
    keys::{FetchError, Fetched, RemoteError, stale_lists},
};

use crate::kind::{Kind, Next, StepError};

/// Lists that one step fetches.
const LISTS: usize = 16;
/// Lists that are fetched at the same time.
const AT_ONCE: usize = 4;
/// The longest wait for a list.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two rounds of fetching from a server that answers.
const PAUSE: Duration = Duration::from_secs(2);
/// Until a server that doesn't answer is asked again, if nothing else says when.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_mins(1);
/// The cursor of a job that has found nothing more to fetch.
const IDLE: &[u8] = b"i";
/// The cursor of a job that goes on.
const GOES_ON: &[u8] = b"g";

pub(crate) struct FetchDeviceLists {
    storage: Storage,
    users: Users,
    rooms: Rooms,
}

impl FetchDeviceLists {
    pub(crate) fn new(storage: Storage, users: Users, rooms: Rooms) -> Self {
        Self { storage, users, rooms }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((Text(server),)) = <(Text,)>::from_bytes(id) else { return Ok(Next::Done) };
        let Ok(server) = OwnedServerName::try_from(server) else { return Ok(Next::Done) };
        let Some(remote) = self.rooms.remote() else { return Ok(Next::Done) };
        let stale = stale_lists(&self.storage.view(), &server, LISTS).await?;
        if stale.is_empty() {
            let idle = Next::More { cursor: IDLE.to_vec(), pause: PAUSE };
            return Ok(if cursor == IDLE { Next::Done } else { idle });
        }
        let keys = self.users.keys();
        let fetched = stream::iter(stale).map(async |user| {
            let fetched = keys.fetch_list(&remote.client, &user, TIMEOUT).await;
            (user, fetched)
        });
        let mut fetched = fetched.buffer_unordered(AT_ONCE);
        let mut pause = Duration::ZERO;
        while let Some((user, fetched)) = fetched.next().await {
            match fetched {
                Ok(Fetched::Current) => {}
                Ok(Fetched::Restless) => pause = pause.max(PAUSE),
                Ok(Fetched::Unshared) => keys.give_up_list(&user).await?,
                Err(FetchError::Remote(error @ (RemoteError::Refused { .. } | RemoteError::Malformed(_)))) => {
                    tracing::debug!(%user, %error, "a list of devices can't be had");
                    keys.give_up_list(&user).await?;
                }
                Err(FetchError::Remote(RemoteError::LeftAlone(left))) => pause = pause.max(left),
                Err(FetchError::Remote(RemoteError::Unreachable(_) | RemoteError::Ourselves)) => {
                    pause = pause.max(PAUSE_AFTER_FAILURE);
                }
                Err(FetchError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(Next::More { cursor: GOES_ON.to_vec(), pause })
    }
}

impl Kind for FetchDeviceLists {
    fn number(&self) -> JobKind {
        JobKind::FETCH_DEVICE_LISTS
    }

    fn name(&self) -> &'static str {
        "fetch_device_lists"
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
