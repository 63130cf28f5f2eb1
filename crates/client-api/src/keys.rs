//! Keys for end-to-end encryption (client-server API, "End-to-End Encryption").

mod changes;
mod claim;
mod device_signing;
mod query;
mod signatures;
mod upload;

use std::collections::BTreeMap;

use ruma::{OwnedServerName, OwnedUserId};
use serde_json::{Value, json};
use users::keys::ByServer;

use crate::routes::Routes;

pub(crate) fn routes(routes: &mut Routes) {
    upload::routes(routes);
    claim::routes(routes);
    query::routes(routes);
    changes::routes(routes);
    device_signing::routes(routes);
    signatures::routes(routes);
}

/// What this server answers itself, and the failures of the servers that would have to answer the rest: none of them is reached.
fn reached<T>((local, remote): ByServer<T>) -> (BTreeMap<OwnedUserId, T>, BTreeMap<OwnedServerName, Value>) {
    let failure = || json!({ "errcode": "M_UNKNOWN", "error": "This server does not ask other servers" });
    (local, remote.into_keys().map(|server| (server, failure())).collect())
}
