//! Many keys, read while they are sent, so that what is held in memory does not grow with the backup.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::header;
use serde::Serialize;
use users::{StoreError, Users, key_backup::UnreadKeys};

use super::keys::Key;

/// A response in the making.
struct Pieces {
    users: Users,
    /// What is still to be read; `None`: nothing, and the end was written.
    rest: Option<UnreadKeys>,
    /// Whether keys are in rooms (`rooms`), or of one room (`sessions` alone).
    in_rooms: bool,
    /// The room whose keys are being written.
    room: Option<String>,
    text: Vec<u8>,
}

/// `{ "rooms": { room: { "sessions": … } } }`.
pub(super) fn all(users: &Users, left: UnreadKeys) -> Response {
    respond(Pieces {
        users: users.clone(),
        rest: Some(left),
        in_rooms: true,
        room: None,
        text: b"{\"rooms\":{".to_vec(),
    })
}

/// `{ "sessions": … }`.
pub(super) fn of_room(users: &Users, left: UnreadKeys) -> Response {
    let text = b"{\"sessions\":{".to_vec();
    respond(Pieces { users: users.clone(), rest: Some(left), in_rooms: false, room: None, text })
}

fn respond(pieces: Pieces) -> Response {
    let stream = futures_util::stream::try_unfold(pieces, async |mut pieces| {
        let piece = pieces.next().await?;
        Ok::<_, StoreError>(piece.map(|piece| (piece, pieces)))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response()
}

impl Pieces {
    /// The next piece of the response's JSON text; `None` at its end. An error cuts the response off.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(left) = self.rest.take() else { return Ok(None) };
        let page = self.users.key_backups().page(&left).await.inspect_err(|error| {
            tracing::error!(%error, "a backup of keys is cut off: it cannot be read");
        })?;
        for (room, session, key) in page.keys {
            self.start(room);
            self.write(&session);
            self.text.push(b':');
            self.write(&Key::from(key));
        }
        self.rest = page.rest;
        if self.rest.is_none() {
            let end: &[u8] = match (self.in_rooms, &self.room) {
                (true, Some(_)) => b"}}}}",
                _ => b"}}",
            };
            self.text.extend_from_slice(end);
        }
        Ok(Some(std::mem::take(&mut self.text)))
    }

    /// What comes before the next key.
    fn start(&mut self, room: String) {
        if self.room.as_ref() == Some(&room) {
            self.text.push(b',');
            return;
        }
        if self.in_rooms {
            if self.room.is_some() {
                self.text.extend_from_slice(b"}},");
            }
            self.write(&room);
            self.text.extend_from_slice(b":{\"sessions\":{");
        }
        self.room = Some(room);
    }

    fn write(&mut self, value: &impl Serialize) {
        serde_json::to_writer(&mut self.text, value).expect("strings, numbers and objects can be written");
    }
}
