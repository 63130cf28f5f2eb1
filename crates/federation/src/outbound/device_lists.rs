//! Telling other servers that the devices of a user of this one have changed (server-server API, "Device Management").
//!
//! A mark (server, user) says from where on the server is to be told; `jobs` writes it. Marks of one user coalesce. They are deleted when the server has
//! acknowledged the transaction that held what is made of them here, unless something has changed since.

use federation_client::DeviceListMark;
use users::{StoreError, keys::MAX_EDUS};

use super::edus::Edu;
use crate::Federation;

/// The EDUs that tell a server of some users' devices: at most `limit`, and which of the marks they settle. What one mark makes is never parted.
pub(super) async fn edus(
    federation: &Federation,
    marks: Vec<DeviceListMark>,
    limit: usize,
) -> Result<(Vec<Edu>, Vec<DeviceListMark>), StoreError> {
    let (mut edus, mut settled) = (Vec::new(), Vec::new());
    for mark in marks {
        let left = limit.saturating_sub(edus.len());
        // With less room than it may need, a list would be told in a way that has it fetched; that is for when there is no other.
        if left == 0 || left < MAX_EDUS && !edus.is_empty() {
            break;
        }
        let news = federation.users.keys().edus_since(&mark.user_id, mark.since, left).await?;
        for one in news {
            let content = serde_json::from_str(one.content.get()).map_err(|error| {
                tracing::error!(user = %mark.user_id, %error, "a change of devices can't be told");
            });
            edus.extend(content.map(|content| Edu { edu_type: one.edu_type, content }));
        }
        settled.push(mark);
    }
    Ok((edus, settled))
}
