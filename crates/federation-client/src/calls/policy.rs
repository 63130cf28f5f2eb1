//! Asking a policy server (server-server API, "Policy Servers"; MSC4284).

use http::Method;
use ruma::{ServerName, canonical_json::CanonicalJsonObject};

use super::membership::is_unknown_endpoint;
use crate::{
    FederationClient, RemoteError,
    client::{Ask, object},
};

/// Largest answer that is read, in bytes: signatures of one server.
const ANSWER_MAX_BYTES: usize = 64 << 10;

impl FederationClient {
    /// `POST /_matrix/policy/v1/sign`, or from a server that doesn't know that the same under its name from before it was specified: the signatures that the policy server
    /// gives an event, by server and key id, unchecked. With `insist`, it is asked even if it failed lately.
    ///
    /// # Errors
    /// The server refused, or did not answer.
    pub async fn policy_sign(
        &self,
        server: &ServerName,
        event: &CanonicalJsonObject,
        insist: bool,
    ) -> Result<CanonicalJsonObject, RemoteError> {
        let ask = |path: &str| Ask {
            method: Method::POST,
            body: Some(event),
            answer_max_bytes: ANSWER_MAX_BYTES,
            ..self.get(path.to_owned())
        };
        let asked = async |path: &str| {
            let ask = ask(path);
            if insist { self.send(server, ask).await } else { self.ask(server, ask).await }
        };
        match asked("/_matrix/policy/v1/sign").await {
            Err(error) if is_unknown_endpoint(&error) => {
                object(&asked("/_matrix/policy/unstable/org.matrix.msc4284/sign").await?)
            }
            other => object(&other?),
        }
    }
}
