//! `PUT /_matrix/federation/v1/send/{txnId}` (server-server API, "Transactions").

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use ruma::{OwnedEventId, OwnedServerName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Refused,
    edu::{self, Edu},
    pdus,
};
use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::Signed,
};

/// Longest id of a transaction, in bytes.
const TXN_ID_MAX_BYTES: usize = 255;

/// What a server sends.
#[derive(Debug, Deserialize)]
struct Transaction {
    origin: OwnedServerName,
    pdus: Vec<Box<RawValue>>,
    #[serde(default)]
    edus: Vec<Box<RawValue>>,
}

/// What it is told.
#[derive(Debug, Serialize)]
struct Answer {
    pdus: BTreeMap<OwnedEventId, PduResult>,
}

/// What became of one PDU.
#[derive(Debug, Default, Serialize)]
pub(super) struct PduResult {
    /// Why it was not taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// `PUT /_matrix/federation/v1/send/{txnId}`.
pub(crate) async fn send(
    State(federation): State<Federation>,
    Path(txn_id): Path<String>,
    signed: Signed,
) -> ApiResult<Response> {
    let transaction: Transaction = signed.json()?;
    check(&federation, &txn_id, &signed, &transaction)?;
    let (inbound, bytes) = (federation.inbound.clone(), signed.body.len());
    let (of, origin) = (federation, signed.origin.clone());
    let work = async move { take_in(&of, origin, transaction).await };
    let answer = inbound.once(&signed.origin, &txn_id, bytes, work).await.map_err(refused)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response())
}

/// Whether the transaction is the signer's, and within its bounds.
fn check(federation: &Federation, txn_id: &str, signed: &Signed, transaction: &Transaction) -> ApiResult<()> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message);
    if transaction.origin != signed.origin {
        return Err(bad("The transaction is of another server than its signature".to_owned()));
    }
    if txn_id.len() > TXN_ID_MAX_BYTES {
        return Err(bad(format!("The transaction's id is longer than {TXN_ID_MAX_BYTES} bytes")));
    }
    let limits = federation.inbound.limits();
    if transaction.pdus.len() > limits.transaction_max_pdus {
        return Err(bad(format!("There are more than {} PDUs in the transaction", limits.transaction_max_pdus)));
    }
    if transaction.edus.len() > limits.transaction_max_edus {
        return Err(bad(format!("There are more than {} EDUs in the transaction", limits.transaction_max_edus)));
    }
    Ok(())
}

/// All that came, each on its own: nothing that is wrong with one does harm to another. EDUs wait for no room.
async fn take_in(federation: &Federation, origin: OwnedServerName, transaction: Transaction) -> String {
    let Transaction { pdus, edus, .. } = transaction;
    let take_edus = async {
        for edu in edus {
            match serde_json::from_str::<Edu>(edu.get()) {
                Ok(edu) => edu::take_in(federation, &origin, edu).await,
                Err(error) => tracing::debug!(%origin, %error, "something that is no EDU was dropped"),
            }
        }
    };
    let (pdus, ()) = futures_util::future::join(pdus::take_in(federation, &origin, pdus), take_edus).await;
    serde_json::to_string(&Answer { pdus }).expect("strings serialise")
}

fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::TooMany => ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "M_LIMIT_EXCEEDED",
            "Too many transactions are waiting: send them one after another",
        ),
        Refused::Failed => {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "The transaction could not be done")
        }
    }
}
