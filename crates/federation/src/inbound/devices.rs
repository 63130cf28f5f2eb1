//! EDUs about devices, keys and messages to devices. Their owner is `users`, which checks that they come from the user's own server.

use ruma::{OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::Value;
use users::{keys::UpdateError, to_device::ReceiveToDeviceError};

use super::edu::{Edu, EduError};
use crate::Federation;

/// `m.device_list_update`.
pub(super) async fn list_update(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    federation.users.keys().hear_device_list_update(origin, edu.content::<Value>()?).await?;
    note_change(federation, origin, edu).await
}

/// The user may be in a room whose members are not all known yet.
async fn note_change(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    #[derive(Deserialize)]
    struct Content {
        user_id: OwnedUserId,
    }
    let user = edu.content::<Content>()?.user_id;
    let noted = federation.rooms.note_device_change(origin, &user).await;
    noted.map_err(|error| EduError::Internal(error.to_string()))
}

/// `m.signing_key_update`.
pub(super) async fn signing_keys(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    federation.users.keys().hear_signing_key_update(origin, edu.content::<Value>()?).await?;
    note_change(federation, origin, edu).await
}

/// `m.direct_to_device`.
pub(super) async fn to_device(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    Ok(federation.users.to_device().receive(origin, edu.content()?).await?)
}

impl From<UpdateError> for EduError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Foreign => Self::Foreign,
            UpdateError::Malformed(_) => Self::Refused(error.to_string()),
            UpdateError::Store(error) => Self::Internal(error.to_string()),
        }
    }
}

impl From<ReceiveToDeviceError> for EduError {
    fn from(error: ReceiveToDeviceError) -> Self {
        use users::SendToDeviceError::Store;
        match error {
            ReceiveToDeviceError::Foreign => Self::Foreign,
            ReceiveToDeviceError::Refused(Store(error)) => Self::Internal(error.to_string()),
            ReceiveToDeviceError::BadId | ReceiveToDeviceError::Refused(_) => Self::Refused(error.to_string()),
        }
    }
}
