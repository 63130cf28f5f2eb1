//! Messages to devices that come from other servers.

use storage::schema::to_device::ToDeviceOutbox;
use users::{
    SendToDeviceError,
    to_device::{DirectToDevice, ReceiveToDeviceError},
};

use super::*;

fn message(sender: &str, id: &str, to: &Value) -> DirectToDevice {
    let content = json!({ "sender": sender, "type": "m.test", "message_id": id, "messages": to });
    serde_json::from_value(content).expect("a message")
}

async fn waiting(server: &Server, who: &Requester) -> Vec<Value> {
    let device = who.device_id.as_deref().expect("a device");
    let view = server.parts.storage.view();
    let waiting = server.parts.users.to_device().waiting(&view, who.user_nid, device, StreamPosition::ZERO).await;
    waiting.expect("read").events.iter().map(|event| serde_json::from_str(event.get()).expect("JSON")).collect()
}

#[tokio::test]
async fn a_message_comes_in_once_for_its_id_and_only_to_devices_that_are_here() {
    let pair = Pair::new().await;
    let second = on_device(&pair.here, "alice", "A2").await;
    let to = json!({
        "@alice:a.test": { "A": { "n": 1 }, "NONE": {} }, "@nobody:a.test": { "*": {} }, "@bob:b.test": { "B": {} },
        "@x:c.test": { "*": {} },
    });
    let to_device = pair.here.parts.users.to_device();
    for _ in 0..3 {
        to_device.receive(&pair.there.name, message("@bob:b.test", "1", &to)).await.expect("taken");
    }
    let event = json!({ "sender": "@bob:b.test", "type": "m.test", "content": { "n": 1 } });
    assert_eq!(waiting(&pair.here, &pair.alice).await, [event]);
    assert!(waiting(&pair.here, &second).await.is_empty());
    // The same id of another server is another message, and all devices are all.
    let to = json!({ "@alice:a.test": { "*": {} } });
    let other: &ruma::ServerName = "c.test".try_into().expect("a name");
    to_device.receive(other, message("@carol:c.test", "1", &to)).await.expect("taken");
    assert_eq!((waiting(&pair.here, &pair.alice).await.len(), waiting(&pair.here, &second).await.len()), (2, 1));
    let view = pair.here.parts.storage.view();
    let passed_on =
        view.scan_keys::<ToDeviceOutbox>(&KeyRange::prefix(&()), 1, Direction::Forward).await.expect("read");
    assert!(passed_on.keys.is_empty());
}

#[tokio::test]
async fn what_is_anothers_or_too_large_is_refused() {
    let pair = Pair::new().await;
    let to_device = pair.here.parts.users.to_device();
    let to = json!({ "@alice:a.test": { "A": {} } });
    for sender in ["@alice:a.test", "@carol:c.test"] {
        let refused = to_device.receive(&pair.there.name, message(sender, "1", &to)).await;
        assert!(matches!(refused, Err(ReceiveToDeviceError::Foreign)), "{sender}: {refused:?}");
    }
    for id in [String::new(), "x".repeat(300)] {
        let refused = to_device.receive(&pair.there.name, message("@bob:b.test", &id, &to)).await;
        assert!(matches!(refused, Err(ReceiveToDeviceError::BadId)), "{refused:?}");
    }
    let large = json!({ "@alice:a.test": { "A": { "x": "y".repeat(70_000) } } });
    let refused = to_device.receive(&pair.there.name, message("@bob:b.test", "2", &large)).await;
    assert!(matches!(refused, Err(ReceiveToDeviceError::Refused(SendToDeviceError::TooLarge(_)))), "{refused:?}");
    assert!(waiting(&pair.here, &pair.alice).await.is_empty());
}
