//! Keys for end-to-end encryption (client-server API, "End-to-End Encryption").

mod changes;
mod claim;
mod device_signing;
mod query;
mod signatures;
mod upload;

use std::{collections::BTreeMap, time::Duration};

use ruma::OwnedServerName;
use serde_json::{Value, json};
use users::keys::{RemoteError, Unanswered};

use crate::{error::ApiError, routes::Routes};

pub(crate) fn routes(routes: &mut Routes) {
    upload::routes(routes);
    claim::routes(routes);
    query::routes(routes);
    changes::routes(routes);
    device_signing::routes(routes);
    signatures::routes(routes);
}

/// How long a request waits for other servers if it doesn't say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The time that a request gives to other servers; the configuration bounds it.
fn timeout(ms: Option<u64>) -> Duration {
    ms.map_or(TIMEOUT, Duration::from_millis)
}

/// Servers that did not answer, as a response names them. What they said themselves is not passed on.
fn failures(unanswered: Unanswered) -> BTreeMap<OwnedServerName, Value> {
    let failure = |(server, error): (OwnedServerName, RemoteError)| {
        tracing::debug!(%server, %error, "another server does not answer about keys");
        let ApiError { errcode, message, .. } = error.into();
        (server, json!({ "errcode": errcode, "error": message }))
    };
    unanswered.into_iter().map(failure).collect()
}

/// The failures of servers that can't be asked, because this one talks to no others.
fn alone<T>(remote: BTreeMap<OwnedServerName, T>) -> BTreeMap<OwnedServerName, Value> {
    let failure = || json!({ "errcode": "M_UNKNOWN", "error": "This server does not ask other servers" });
    remote.into_keys().map(|server| (server, failure())).collect()
}
