//! Devices across servers: the lists of other servers' users as far as they are known here, and what other servers are told of this one's. Table
//! numbers 84–89. Written by the `users` crate only.

use primitives::{StreamPosition, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Positioned, Text};

use super::{tables, version_one};

tables! {
    /// What is known of the list of devices of another server's user, by user id. Each thing heard of the list writes the row anew, at its own
    /// position: whoever fetches a list meanwhile knows by that.
    RemoteLists = 84, "remote_list", (Text,) => Positioned<RemoteListRow>;
    /// A device of such a user, by user id and device id. Means nothing while the list is not current.
    RemoteDevices = 85, "remote_device", (Text, Text) => RemoteDeviceRow;
    /// Lists that are to be fetched anew, by server and user id.
    StaleLists = 86, "stale_list", (Text, Text) => ();
    /// How far the stream is in which other servers are told of a user's devices. Its position is that of the newest change.
    DeviceStreams = 87, "device_stream", (UserNid,) => Positioned<DeviceStreamRow>;
    /// The newest change of each device in that stream, by device id; that of the cross-signing keys under the empty one. Stays for a while when
    /// the device has gone.
    DeviceStreamChanges = 88, "device_stream_change", (UserNid, Text) => Positioned<DeviceStreamChangeRow>;
}

/// The list of devices of another server's user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteListRow {
    /// The devices and keys that are stored are those of the user's server, as far as can be known.
    pub current: bool,
    /// Somebody asked while the list could not be had: they are told when it can.
    pub unanswered: bool,
    /// The stream ids of the newest updates that it contains, oldest first.
    pub known: Vec<i64>,
    /// The master key, canonical JSON with the user's own signatures.
    pub master: Option<String>,
    /// The self-signing key, likewise.
    pub self_signing: Option<String>,
}

/// A device of another server's user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteDeviceRow {
    /// Its identity keys, canonical JSON with the user's own signatures, without `unsigned`.
    pub json: String,
    /// Its name.
    pub display_name: Option<String>,
}

/// A user's devices as a stream of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStreamRow {
    /// Every server that shares a room has been marked with the changes up to here, but for the newest ones.
    pub marked: StreamPosition,
    /// The same up to the newest.
    pub all_marked: bool,
    /// The newest change is of a device.
    pub of_device: bool,
    /// The positions of the changes of devices before the newest, oldest first: the stream ids that servers may know.
    pub recent: Vec<StreamPosition>,
    /// Changes of devices that have gone are not remembered up to here.
    pub forgotten: StreamPosition,
}

/// A change of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStreamChangeRow {
    /// The device has gone.
    pub deleted: bool,
}

version_one!(RemoteListRow, RemoteDeviceRow, DeviceStreamRow, DeviceStreamChangeRow);
