//! Rooms: the event DAG, authorisation, state and its resolution.
//!
//! # The way of a send
//!
//! [`Room::send`] (`room.rs`) puts an [`Outgoing`] into the inbox of the room's worker (`worker.rs`), which makes one change (`change.rs`) of all that
//! wait and commits it. For each event `append.rs` calls `build.rs` (prev events from the extremities, auth events by point look-ups),
//! `authorise.rs` and `persist.rs` (rows); `commit.rs` writes the one batch, and after that wakes whom it concerns. Creation (`create.rs`) and
//! what other servers send take the same `persist`.

pub mod activity;
mod alias;
mod append;
pub mod auth;
mod authorise;
mod build;
mod canonical_alias;
mod change;
mod commit;
mod context;
pub mod counts;
pub mod create;
mod current;
mod device_change;
mod event_key;
pub mod filter;
pub mod find;
mod load;
mod local_members;
pub mod membership;
mod memory;
mod merge;
mod out_of_band;
pub mod outbound;
pub mod outgoing;
mod partial;
pub mod pdu;
mod persist;
mod policy;
pub mod power;
mod presence;
pub mod read;
pub mod receipts;
pub mod receive;
mod registry;
mod relating;
pub mod remote;
pub mod render;
pub mod resident;
pub mod resolve;
mod resolved;
mod room;
mod servers;
mod signals;
mod slots;
pub mod staging;
pub mod state;
mod stripped;
pub mod subscriptions;
mod suspension;
pub mod sync;
pub mod tokens;
pub mod tree;
pub mod typing;
mod upgrade;
mod varint;
pub mod verify;
pub mod version;
pub mod visibility;
mod worker;

pub use alias::AliasError;
pub use auth::AuthError;
pub use context::Options;
pub use create::{CreateError, CreateRoom, InitialState, Preset};
pub use device_change::{DeviceChangeError, DeviceChanges};
pub use event_key::event_key;
pub use membership::{Details, ForgetError};
pub use memory::RoomInfo;
pub use outgoing::{Outgoing, Rider, SendError, Sent, SlotUnchanged};
pub use pdu::{Pdu, PduError};
pub use read::{ReadRoomError, Reader, Reads};
pub use receipts::{Marks, ReceiptError, ReceiptType, RemoteReceipt, Thread};
pub use receive::{EventKeys, Incoming, ReceiveError, Received};
pub use registry::{RoomError, Rooms};
pub use remote::{IncomingInvite, Remote, RemoteMembershipError, TakenIn};
pub use room::Room;
pub use signals::Signals;
pub use staging::{StageError, StagedState, Staging};
pub use storage::schema::rooms::{EventLocal, Membership};
pub use subscriptions::{SubscriptionChanges, SubscriptionChangesRequest, SubscriptionError};
pub use upgrade::{Upgrade, UpgradeError};
pub use version::RoomVersion;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
