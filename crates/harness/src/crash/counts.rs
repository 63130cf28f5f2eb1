//! Unread counts: those of the server against those of the timeline.

use std::time::Duration;

use serde_json::Value;

use super::{User, kept::receipt};

/// What is wrong with a user's unread count in their room: it is the number of messages of others since the newest one that the user sent, or that a
/// receipt of theirs is at.
pub(super) async fn miscounted(user: &User, base: &str) -> anyhow::Result<Option<String>> {
    let client = user.client.at(base);
    let history = client.history(&user.room).await?;
    let is_own = |event: &Value| event["sender"] == *client.user_id;
    // State is no message, and what was scheduled was sent by nobody who was there.
    let reads =
        |event: &Value| is_own(event) && event["state_key"].is_null() && event["unsigned"]["delay_id"].is_null();
    let synced = client.sync(None, Duration::ZERO).await?;
    let room = &synced["rooms"]["join"][user.room.as_str()];
    let receipts = ["m.read", "m.read.private"].map(|receipt_type| receipt(room, &client, receipt_type));
    let is_read = |event: &Value| reads(event) || receipts.contains(&event["event_id"].as_str());
    let unread = history.iter().take_while(|event| !is_read(event));
    let unread = unread.filter(|event| event["type"] == "m.room.message" && !is_own(event)).count();
    let counted = room["unread_notifications"]["notification_count"].as_u64();
    let wrong = counted != u64::try_from(unread).ok();
    Ok(wrong.then(|| format!("{}:{counted:?}-instead-of-{unread}", client.user_id)))
}
