//! Messages from device to device. Table numbers 77–79. Written by the `users` crate only.

use primitives::{StreamPosition, UnixMillis, UserNid};
use serde::{Deserialize, Serialize};

use crate::Text;

use super::{tables, version_one};

tables! {
    /// What waits for a device, by the position of its batch: one batch has at most one message for a device. A row is there until the device's
    /// next sync proves that it got the message.
    ToDevice = 77, "to_device", (UserNid, Text, StreamPosition) => ToDeviceRow;
    /// What waits for another server, by its name and the position of the batch: `m.direct_to_device` EDUs.
    ToDeviceOutbox = 78, "to_device_outbox", (Text, StreamPosition) => ToDeviceOutboxRow, large;
}

/// A message to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToDeviceRow {
    /// When it came.
    pub received: UnixMillis,
    /// The event as the client gets it, JSON: `content`, `sender`, `type`.
    pub event: String,
}

/// Messages of one request to the devices of another server's users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToDeviceOutboxRow {
    /// When it came.
    pub received: UnixMillis,
    /// The content of the EDU, JSON: `message_id`, `messages`, `sender`, `type`.
    pub content: String,
}

version_one!(ToDeviceRow, ToDeviceOutboxRow);
