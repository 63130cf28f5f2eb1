//! Which rooms are being joined through other servers: at one time one join of a room, so that what several users want comes here once.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use ruma::{OwnedRoomId, RoomId};

/// Rooms at which those that nobody joins any more are thrown out of the memory.
const SWEPT_AT: usize = 256;

/// The joins that are under way.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(Mutex<HashMap<OwnedRoomId, Weak<tokio::sync::Mutex<()>>>>);

impl UnderWay {
    /// The turn of a room: who holds its lock joins it.
    pub(crate) fn turn(&self, room: &RoomId) -> Arc<tokio::sync::Mutex<()>> {
        let mut rooms = self.0.lock();
        if let Some(turn) = rooms.get(room).and_then(Weak::upgrade) {
            return turn;
        }
        if rooms.len() >= SWEPT_AT {
            rooms.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::default();
        rooms.insert(room.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// The turn of a room that somebody is joining.
    pub(crate) fn current(&self, room: &RoomId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.0.lock().get(room).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_room_has_one_turn_and_is_forgotten_after_it() {
        let rooms = UnderWay::default();
        let room = <&RoomId>::try_from("!a:x").expect("a room id");
        assert!(rooms.current(room).is_none());
        let turn = rooms.turn(room);
        let held = turn.lock().await;
        assert!(rooms.turn(room).try_lock().is_err());
        assert!(rooms.turn(<&RoomId>::try_from("!b:x").expect("a room id")).try_lock().is_ok());
        drop(held);
        assert!(rooms.current(room).is_some_and(|turn| turn.try_lock().is_ok()));
        drop(turn);
        assert!(rooms.current(room).is_none());
    }
}
