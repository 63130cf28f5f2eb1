//! Messages that other servers send to devices of this one (server-server API, "Send-to-device messaging").

use primitives::UserNid;
use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;

use super::{Messages, SendToDeviceError, ToDevice};
use crate::transactions::TxnKey;

/// The number of no user: users are counted from 1. Under it stand the transactions of other servers.
const NO_USER: UserNid = UserNid(0);
/// The longest id of a message, in bytes. The specification allows 32 characters.
const MAX_ID_BYTES: usize = 255;

/// The content of an `m.direct_to_device` EDU.
#[derive(Debug, Deserialize)]
pub struct DirectToDevice {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    event_type: String,
    message_id: String,
    messages: Messages,
}

/// Why a message of another server is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveToDeviceError {
    /// Its sender is not of the server that sends it.
    #[error("a server speaks for another server's user")]
    Foreign,
    /// The id is too long or empty.
    #[error("the id of a message has 1 to {MAX_ID_BYTES} bytes")]
    BadId,
    /// It is not taken from this server's own users either.
    #[error(transparent)]
    Refused(#[from] SendToDeviceError),
}

impl ToDevice {
    /// Takes in what another server sends to devices of this one; once for each of its message ids, which are remembered for a day and more. Users and
    /// devices that don't exist are passed over.
    ///
    /// # Errors
    /// See [`ReceiveToDeviceError`].
    pub async fn receive(&self, origin: &ServerName, content: DirectToDevice) -> Result<(), ReceiveToDeviceError> {
        let DirectToDevice { sender, event_type, message_id, mut messages } = content;
        if sender.server_name() != origin {
            return Err(ReceiveToDeviceError::Foreign);
        }
        if message_id.is_empty() || message_id.len() > MAX_ID_BYTES {
            return Err(ReceiveToDeviceError::BadId);
        }
        // Nothing is passed on.
        messages.retain(|user, _| self.accounts.is_local(user));
        let txn = TxnKey {
            user_nid: NO_USER,
            device_id: Some(origin.as_str().into()),
            path: String::new(),
            txn_id: message_id,
        };
        Ok(self.send(&sender, &txn, &event_type, &messages).await?)
    }
}
