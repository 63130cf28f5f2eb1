//! `PUT /_matrix/federation/v1/send/{txnId}`: PDUs and EDUs on their way to another server (server-server API, "Transactions").

use std::collections::BTreeMap;

use http::Method;
use primitives::UnixMillis;
use ruma::{
    ServerName,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde::Deserialize;

use crate::{
    FederationClient, RemoteError,
    client::{Ask, encoded, read},
};

/// The largest answer that is read: at most 50 PDUs, each with an error.
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// A transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its id. The same always stands for the same content.
    pub id: String,
    /// `origin`, `origin_server_ts`, `pdus`, `edus`.
    body: CanonicalJsonObject,
}

/// What became of a transaction's PDUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// Those that the other server has not taken in: event id and why.
    pub refused: Vec<(String, String)>,
}

impl Transaction {
    /// A transaction of this server, of at most 50 PDUs as they were signed, and 100 EDUs.
    pub fn new(
        id: String,
        origin: &ServerName,
        made: UnixMillis,
        pdus: Vec<CanonicalJsonObject>,
        edus: Vec<CanonicalJsonObject>,
    ) -> Self {
        let list = |objects: Vec<_>| CanonicalJsonValue::Array(objects.into_iter().map(Into::into).collect());
        let ts = i64::try_from(made.0).ok().and_then(|ts| ts.try_into().ok()).unwrap_or_default();
        let body = CanonicalJsonObject::from([
            ("origin".to_owned(), CanonicalJsonValue::String(origin.to_string())),
            ("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(ts)),
            ("pdus".to_owned(), list(pdus)),
            ("edus".to_owned(), list(edus)),
        ]);
        Self { id, body }
    }
}

impl FederationClient {
    /// Sends a transaction. An answer that says nothing of a PDU has taken it in.
    ///
    /// A server that is not the one asked for (404), or that will have nothing from this one (401, 403), is left alone like one that fails: what
    /// is wrong is not the transaction.
    ///
    /// # Errors
    /// See [`RemoteError`]; [`is_poison`] tells what is not worth sending again.
    ///
    /// [`is_poison`]: RemoteError::is_poison
    pub async fn send_transaction(
        &self,
        server: &ServerName,
        transaction: &Transaction,
    ) -> Result<TransactionOutcome, RemoteError> {
        #[derive(Default, Deserialize)]
        struct Answer {
            #[serde(default)]
            pdus: BTreeMap<String, Processed>,
        }
        #[derive(Deserialize)]
        struct Processed {
            error: Option<String>,
        }
        let path = format!("/_matrix/federation/v1/send/{}", encoded(&transaction.id));
        let body = Some(&transaction.body);
        let (method, answer_max_bytes) = (Method::PUT, ANSWER_MAX_BYTES);
        let ask = Ask { method, body, answer_max_bytes, refusals_fail: true, ..self.get(path) };
        let answer = self.ask(server, ask).await?;
        // It was accepted, whatever the rest of the answer looks like.
        let Answer { pdus } = read(&answer).unwrap_or_default();
        let refused = pdus.into_iter().filter_map(|(id, processed)| Some((id, processed.error?)));
        Ok(TransactionOutcome { refused: refused.collect() })
    }
}
