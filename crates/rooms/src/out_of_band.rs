//! Invites and knocks of local users to rooms that this server is not in, and how they end. They are no events of a room here: nothing is known of the room but
//! what came with them.
//!
//! A row is written only while the user has nothing to do with the room by its own events, which the batch asserts; and whatever event of the room speaks of the user
//! takes the row away in its batch (`persist/members.rs`). So at no time do both speak.

use primitives::{RoomNid, StreamPosition, UserNid};
use ruma::{OwnedServerName, RoomId, UserId};
use storage::{
    Batch, CommitError, Positioned, ReadError, Text,
    schema::{
        jobs::StagedRooms,
        rooms::{Membership, Memberships, OutOfBand, OutOfBandRow, RoomIds, UserLog, UserLogEntry},
    },
};

use crate::{Pdu, RoomVersion, load::corrupt, outgoing::SendError, registry::Rooms, staging::StageError};

/// Attempts at a row that others write at the same time.
const ATTEMPTS: usize = 8;

/// What the row of a user and a room is to be.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This invite or knock.
    To(OutOfBandRow),
    /// The end of the one that is there, by this event.
    Ended(Box<Pdu>),
    /// Forgotten; only what has ended can be.
    Forgotten,
}

impl Rooms {
    /// The invite or knock of a user, or its end.
    pub(crate) async fn out_of_band(
        &self,
        user: UserNid,
        room_id: &RoomId,
    ) -> Result<Option<(RoomNid, Positioned<OutOfBandRow>)>, ReadError> {
        let view = self.context().storage.view();
        let key = (Text::new(room_id.as_str()),);
        let nid = match view.get::<RoomIds>(&key).await? {
            Some(nid) => Some(nid),
            None => view.get::<StagedRooms>(&key).await?,
        };
        let Some(nid) = nid else { return Ok(None) };
        Ok(view.get::<OutOfBand>(&(user, nid)).await?.map(|row| (nid, row)))
    }

    /// The same, if it is open.
    pub(crate) async fn open_out_of_band(
        &self,
        user: UserNid,
        room_id: &RoomId,
    ) -> Result<Option<(RoomNid, OutOfBandRow)>, ReadError> {
        let row = self.out_of_band(user, room_id).await?;
        Ok(row.filter(|(_, row)| row.value.membership != Membership::Leave).map(|(nid, row)| (nid, row.value)))
    }

    /// Notes an invite or knock. Where the room's own events say that the user is in it or asked to it, nothing is written.
    pub(crate) async fn note_out_of_band(
        &self,
        user: UserNid,
        room_id: &RoomId,
        version: RoomVersion,
        row: OutOfBandRow,
    ) -> Result<(), StageError> {
        let nid = self.stage(room_id, version).await?.number();
        self.turn_out_of_band(user, nid, &Turn::To(row)).await.map_err(|error| match error {
            SendError::Storage(error) => StageError::Storage(error),
            _ => StageError::Unavailable,
        })
    }

    /// Changes the row of a user and a room. Where there is nothing to change, nothing is written.
    pub(crate) async fn turn_out_of_band(&self, user: UserNid, nid: RoomNid, turn: &Turn) -> Result<(), SendError> {
        let (context, key) = (self.context(), (user, nid));
        for _ in 0..ATTEMPTS {
            let view = context.storage.view();
            let known = view.get::<OutOfBand>(&key).await?;
            let member = view.get::<Memberships>(&key).await?;
            let mut batch = Batch::new();
            batch.assert_unchanged::<OutOfBand>(&key, known.as_ref());
            batch.assert_unchanged::<Memberships>(&key, member.as_ref());
            let membership = member.map(|member| member.value.membership);
            let Some(entry) = turn.apply(&mut batch, key, known, membership) else { return Ok(()) };
            batch.put::<UserLog>(&(user, StreamPosition::PENDING, 0), &entry);
            match context.storage.commit(batch).await {
                Ok(position) => {
                    context.users.wakeups().wake(user, position);
                    return Ok(());
                }
                Err(CommitError::Conflict(_)) => {}
                Err(_) => break,
            }
        }
        Err(SendError::Unavailable)
    }
}

impl Turn {
    /// Writes the change; `None` if there is none.
    fn apply(
        &self,
        batch: &mut Batch,
        key: (UserNid, RoomNid),
        known: Option<Positioned<OutOfBandRow>>,
        member: Option<Membership>,
    ) -> Option<UserLogEntry> {
        let room = key.1;
        match (self, known.map(|known| known.value)) {
            (Self::To(row), known) => {
                let asked = matches!(member, Some(Membership::Join | Membership::Invite));
                if asked || known.as_ref() == Some(row) {
                    return None;
                }
                batch.put::<OutOfBand>(&key, &Positioned::pending(row.clone()));
                Some(UserLogEntry::OutOfBand { room, membership: row.membership })
            }
            (Self::Ended(by), Some(row)) if row.membership != Membership::Leave => {
                let event = by.json().as_bytes().to_vec();
                let row = OutOfBandRow { membership: Membership::Leave, event, ..row };
                batch.put::<OutOfBand>(&key, &Positioned::pending(row));
                Some(UserLogEntry::OutOfBand { room, membership: Membership::Leave })
            }
            (Self::Forgotten, Some(row)) if row.membership == Membership::Leave => {
                batch.delete::<OutOfBand>(&key);
                Some(UserLogEntry::Forget { room })
            }
            (Self::Ended(_) | Self::Forgotten, _) => None,
        }
    }
}

/// The row of an invite or knock.
pub(crate) fn row(pdu: &Pdu, membership: Membership, server: OwnedServerName, stripped_state: Vec<u8>) -> OutOfBandRow {
    OutOfBandRow {
        membership,
        room_id: pdu.room_id().to_string(),
        room_version: pdu.version().as_str().to_owned(),
        sender: pdu.sender().to_string(),
        server: server.into(),
        event: pdu.json().as_bytes().to_vec(),
        stripped_state,
    }
}

/// Whether a member event that came from outside ends an invite or knock: a leave or a ban of the user, by whoever invited them; of a knock, by somebody of the server
/// through which it was made (SECURITY: nobody else's word can be checked without the room). It names what it ends among its auth events; one that does not is
/// older, such as the end of a ban before the invite, and may well come later.
pub(crate) fn ends(row: &OutOfBandRow, pdu: &Pdu, user: &UserId) -> Result<bool, ReadError> {
    let by = match row.membership {
        Membership::Invite => pdu.sender().as_str() == row.sender,
        Membership::Knock => pdu.sender().server_name().as_str() == row.server,
        Membership::Join | Membership::Leave | Membership::Ban => false,
    };
    if !by
        || pdu.room_id().as_str() != row.room_id
        || pdu.state_key() != Some(user.as_str())
        || !matches!(pdu.membership(), Some(Membership::Leave | Membership::Ban))
    {
        return Ok(false);
    }
    let ended = Pdu::parse(pdu.version(), &row.event).map_err(|error| corrupt::<OutOfBand>(error.to_string()))?;
    Ok(pdu.auth_events().contains(ended.event_id()))
}
