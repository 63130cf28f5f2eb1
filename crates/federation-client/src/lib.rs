//! Requests to other servers: discovery, key ring, signing, back-off, one typed call each.

pub mod address;
mod backoff;
pub mod calls;
mod client;
mod destinations;
mod discovery;
mod fake;
mod keyring;
mod left;
mod network;
mod own_keys;
mod received;
mod remote;
pub mod verify;

pub use backoff::{Pause, Pauses};
pub use calls::transaction::{Transaction, TransactionOutcome};
pub use client::{ClientOptions, FederationClient, RemoteError, ServerVersion};
pub use destinations::{Destination, Destinations, DeviceListMark, Owed, Settled};
pub use fake::FakeServers;
pub use keyring::{DocumentError, FetchError, KeyDocument, KeyError, KeyRing, ValidAt};
pub use left::{Left, LeftPdus};
pub use network::{NetworkError, NetworkOptions, NetworkServers};
pub use own_keys::{OldKey, OwnKeys};
pub use received::{ReceivedError, ReceivedTransactions};
pub use remote::{BoxFuture, Outgoing, RemoteServers, Unreachable};
