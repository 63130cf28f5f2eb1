//! Which request it is.

use primitives::UserNid;
use ruma::OwnedDeviceId;

/// Which request it is (specification, "Transaction identifiers").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TxnKey {
    /// The user.
    pub user_nid: UserNid,
    /// The device.
    pub device_id: Option<OwnedDeviceId>,
    /// The request's path without the transaction id.
    pub path: String,
    /// The transaction id.
    pub txn_id: String,
}
