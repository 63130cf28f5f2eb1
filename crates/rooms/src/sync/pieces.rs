//! A sync that shows whole rooms, as it is sent: a few rooms at a time, so that what is held in memory does not grow with the rooms of the
//! user. All pieces are of one view.

use std::time::Duration;

use primitives::StreamPosition;
use ruma::RoomId;
use serde::Serialize;
use storage::{ReadError, View};

use super::{
    Begun, LeftRoom, Reader, Reads, SyncRequest, SyncRooms,
    changes::UserChanges,
    logged,
    room::{Asked, Member},
    seen,
};
use crate::read::Wishes;

/// A piece is sent once it has this many bytes.
const PIECE: usize = 64 << 10;
/// The longest that a client may take to read: so long is the view held.
const LONGEST: Duration = Duration::from_mins(2);

/// The client reads too slowly. It is cut off, and will ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response was not read within {} seconds", LONGEST.as_secs())]
pub struct ReadTooSlowly;

/// The text of a response in the making.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// Whether a member of `rooms` was written.
    any: bool,
    /// The member of `rooms` that is being written.
    open: Option<&'static str>,
}

impl Text {
    /// Adds a room to one of the members of `rooms`.
    fn room(&mut self, member: &'static str, room_id: &RoomId, room: &impl Serialize) {
        if self.open == Some(member) {
            self.bytes.push(b',');
        } else {
            self.close();
            self.start(member);
            self.bytes.push(b'{');
            self.open = Some(member);
        }
        self.write(room_id);
        self.bytes.push(b':');
        self.write(room);
    }

    /// Adds a member of `rooms` with all that is in it.
    fn whole(&mut self, member: &'static str, rooms: &impl Serialize) {
        self.close();
        self.start(member);
        self.write(rooms);
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        serde_json::to_writer(&mut self.bytes, value).expect("strings, numbers and raw JSON can be written");
    }

    fn start(&mut self, member: &str) {
        let before: &[u8] = if self.any { b",\"" } else { b",\"rooms\":{\"" };
        self.any = true;
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(member.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.bytes.push(b'}');
        }
    }

    /// Ends the response.
    fn end(&mut self) {
        self.close();
        self.bytes.extend_from_slice(if self.any { b"}}" } else { b"}" });
    }
}

/// The answer to a sync that shows whole rooms.
pub struct SyncPieces {
    reads: Reads,
    view: View,
    reader: Reader,
    request: SyncRequest,
    acknowledged: StreamPosition,
    seen: u64,
    changes: UserChanges,
    wishes: Wishes,
    /// Invites and knocks: they come last.
    asked: SyncRooms,
    text: Text,
    /// How many of the rooms are done: those joined, then those left.
    done: usize,
    ended: bool,
    started: Duration,
}

impl std::fmt::Debug for SyncPieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncPieces").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Reads {
    pub(super) async fn pieces(
        &self,
        begun: Begun,
        reader: &Reader,
        request: SyncRequest,
    ) -> Result<SyncPieces, ReadError> {
        let Begun { view, acknowledged, token_void, .. } = begun;
        let token = self.token_of(&view);
        let seen = seen(&request, token);
        let changes = self.changes(&view, reader, &request, seen).await?;
        let wishes = self.wishes(&view, reader).await?;
        let asked = Asked { reader, request: &request, acknowledged, token_void, changes: &changes, seen };
        let mut frame = self.frame(&view, token, &asked).await?;
        let asked = std::mem::take(&mut frame.rooms);
        let mut text = Text::default();
        text.write(&frame);
        // The rooms are still to come.
        text.bytes.pop();
        let (reads, reader, started) = (self.clone(), reader.clone(), self.0.clock.monotonic());
        let (done, ended) = (0, false);
        Ok(SyncPieces {
            reads,
            view,
            reader,
            request,
            acknowledged,
            seen,
            changes,
            wishes,
            asked,
            text,
            done,
            ended,
            started,
        })
    }
}

impl SyncPieces {
    /// The next piece of the response's JSON text; `None` at its end.
    ///
    /// One room's error does not fail a sync: it is logged and the room is left out.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ReadTooSlowly> {
        if self.ended {
            return Ok(None);
        }
        if self.reads.0.clock.monotonic().saturating_sub(self.started) > LONGEST {
            self.ended = true;
            return Err(ReadTooSlowly);
        }
        while self.text.bytes.len() < PIECE && !self.ended {
            self.add().await;
        }
        Ok(Some(std::mem::take(&mut self.text.bytes)))
    }

    /// Adds the next room, or the end.
    async fn add(&mut self) {
        let Self { reads, view, reader, request, changes, wishes, text, .. } = self;
        let (acknowledged, seen) = (self.acknowledged, self.seen);
        let asked = Asked { reader, request, acknowledged, token_void: false, changes, seen };
        if let Some((room, newly)) = changes.joined.get(self.done) {
            let part = reads.member_part(view, *room, Member::Joined { newly: *newly }, &asked, wishes).await;
            if let Some((room_id, part)) = logged(part) {
                text.room("join", &room_id, &part);
            }
        } else if let Some(left) = changes.left.get(self.done - changes.joined.len()) {
            let part = reads.member_part(view, left.room, Member::Left(*left), &asked, wishes).await;
            if let Some((room_id, part)) = logged(part) {
                text.room("leave", &room_id, &LeftRoom::from(part));
            }
        } else {
            self.end();
        }
        self.done += 1;
    }

    fn end(&mut self) {
        for (room_id, left) in &self.asked.leave {
            self.text.room("leave", room_id, left);
        }
        if !self.asked.invite.is_empty() {
            self.text.whole("invite", &self.asked.invite);
        }
        if !self.asked.knock.is_empty() {
            self.text.whole("knock", &self.asked.knock);
        }
        self.text.end();
        self.ended = true;
    }
}
