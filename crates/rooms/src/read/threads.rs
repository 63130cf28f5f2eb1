//! The threads of a room (`GET /rooms/{roomId}/threads`; specification, "Querying threads in a room").

use std::sync::Arc;

use ruma::{EventId, RoomId};
use serde::Serialize;
use storage::{Direction, KeyRange, ReadError, schema::history as schema};

use super::{
    Access, ReadRoomError, Reader, Reads, Shower,
    bundles::may_be_root,
    messages::{END, Point, page_token},
};
use crate::{
    filter::DEFAULT_LIMIT,
    render::{ClientEvent, StoredEvent},
    tokens::{BadToken, PageToken},
};

/// The most threads on a page, whatever the client asks for.
const MAX_THREADS: usize = 100;
/// How many threads one request looks at. Of more, the page ends early with a token to go on from.
const LOOKED_AT: usize = 5_000;
/// Threads that are read at once.
const PAGE: usize = 50;

/// Which threads are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadsRequest {
    /// Only those that the reader has taken part in.
    pub participated: bool,
    /// From where; from the newest if not given.
    pub from: Option<PageToken>,
    /// At most how many; 10 if not given, 100 at most.
    pub limit: Option<u64>,
}

/// A page of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Threads {
    /// Their roots: first the one with the newest event.
    pub chunk: Vec<ClientEvent>,
    /// Where the next page starts; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<PageToken>,
}

impl Reads {
    /// A page of a room's threads, in the order of their newest events. One whose root or whose events the reader may not see is left out.
    pub async fn threads(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: ThreadsRequest,
    ) -> Result<Threads, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        Access::of(&room.open_head().await?, &mut shower.eyes).await?;
        let from = match request.from {
            Some(PageToken::Stream(_)) => return Err(BadToken.into()),
            from => self.point(&room, from, END).await?,
        };
        let limit =
            request.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_THREADS).min(MAX_THREADS));
        let mut chunk = Vec::new();
        let mut looked_at = 0;
        let mut rest = Some(KeyRange::until(&(room.nid,), &(room.nid, from.0, from.1)));
        while let Some(range) = rest {
            let page = room.view.scan::<schema::Threads>(&range, PAGE, Direction::Backward).await?;
            rest = page.rest;
            let mut rows = page.rows.into_iter().peekable();
            while let Some(((_, rank, rix), row)) = rows.next() {
                looked_at += 1;
                chunk.extend(thread(&mut shower, &row.root, request.participated).await?);
                let full = chunk.len() >= limit || looked_at == LOOKED_AT;
                if full && (rows.peek().is_some() || rest.is_some()) {
                    let next: Point = (rank, rix);
                    return Ok(Threads { chunk, next_batch: Some(page_token(&room, next)) });
                }
            }
        }
        Ok(Threads { chunk, next_batch: None })
    }
}

/// The root of a thread, if the reader sees it and an event of the thread.
async fn thread(shower: &mut Shower<'_>, root: &str, participated: bool) -> Result<Option<ClientEvent>, ReadError> {
    let Ok(root) = <&EventId>::try_from(root) else { return Ok(None) };
    let Some(rix) = shower.room.find_event(root).await? else { return Ok(None) };
    let Some(root) = shower.room.event(rix).await? else { return Ok(None) };
    if !may_be_root(&root) || !shower.eyes.sees(&root.header).await? {
        return Ok(None);
    }
    if participated && !shower.participated(&root).await? {
        return Ok(None);
    }
    shown_root(shower, root).await
}

async fn shown_root(shower: &mut Shower<'_>, root: Arc<StoredEvent>) -> Result<Option<ClientEvent>, ReadError> {
    let ignored = shower.ignores(&root);
    let shown = shower.show_with_relations(&[root]).await?.into_iter().next();
    let Some(mut shown) = shown.filter(has_thread) else { return Ok(None) };
    if ignored {
        shown.event = shower.room.pruned(&shown.event)?;
    }
    Ok(Some(shown))
}

fn has_thread(root: &ClientEvent) -> bool {
    root.unsigned.relations.as_ref().is_some_and(|relations| relations.thread.is_some())
}
