//! Asking a room's policy server for its signature (server-server API, "Asking for a Policy Server signature on an event").

use federation_client::RemoteError;
use futures_util::{StreamExt, stream};
use ruma::canonical_json::CanonicalJsonObject;
use storage::{ReadError, schema::rooms::RoomHeads};

use super::{Remote, join::object};
use crate::{
    Outgoing, Pdu, SendError,
    context::read_error,
    current::Current,
    local_members,
    merge::{DUMMY_EVENT, MEMBERS_TRIED, MERGE_ABOVE},
    policy::{KEY_ID, PolicyServer, is_exempt},
    receive::Prepared,
    room::Room,
};

/// Received events for which a policy server is asked beside each other.
const AT_ONCE: usize = 8;
/// When who is sending too much for a policy server may try again: it can't say so in this interface's words.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

impl Room {
    /// An own event with the policy server's signature, if the room has a policy server and the event needs one and has none. The policy server is asked even if it
    /// failed lately: somebody waits for it.
    ///
    /// # Errors
    /// It refuses, in its own words ([`SendError::Forbidden`]), or gives no valid signature.
    pub(crate) async fn signed_by_policy(&self, pdu: Pdu) -> Result<Pdu, SendError> {
        let Some(remote) = &self.context().remote else { return Ok(pdu) };
        match self.policy_server().await? {
            Some(policy) if !is_exempt(&pdu) && !policy.has_signed(&pdu) => {
                sign(remote, &policy, &pdu, true).await.map_err(refusal)
            }
            _ => Ok(pdu),
        }
    }

    /// Received events, for which the policy server has been asked where they are not signed by it: with its signature, if it gave one.
    pub(crate) async fn asked_policy(&self, events: Vec<Prepared>) -> Result<Vec<Prepared>, ReadError> {
        let asked = |event: Prepared| Prepared { policy_asked: true, ..event };
        let (Some(remote), Some(policy)) = (&self.context().remote, self.policy_server().await?) else {
            return Ok(events.into_iter().map(asked).collect());
        };
        let policy = &policy;
        let signed = stream::iter(events)
            .map(|event| async move {
                if event.outlier || is_exempt(&event.pdu) || policy.has_signed(&event.pdu) {
                    return asked(event);
                }
                match sign(remote, policy, &event.pdu, false).await {
                    Ok(pdu) => Prepared { pdu, ..asked(event) },
                    Err(error) => {
                        let event_id = event.pdu.event_id();
                        tracing::debug!(room_id = %self.id(), %event_id, via = %policy.via, %error, "not signed");
                        asked(event)
                    }
                }
            })
            .buffered(AT_ONCE);
        Ok(signed.collect().await)
    }

    /// Merges the extremities of a room with a policy server, if there are more than a few: the worker can't, for the event that does so is to be signed.
    pub(crate) async fn merge_signed(&self) -> Result<(), ReadError> {
        let context = self.context();
        let view = context.storage.view();
        let head = view.get::<RoomHeads>(&(self.nid(),)).await?;
        if head.is_none_or(|head| head.extremities.len() <= MERGE_ABOVE) || self.policy_server().await?.is_none() {
            return Ok(());
        }
        let turn = context.merge_turns.of(self.nid());
        let Ok(_turn) = turn.try_lock() else { return Ok(()) };
        for nid in local_members::some(&view, self.nid(), None, MEMBERS_TRIED).await?.joined {
            let Some(user) = context.users.user_id(nid).await.map_err(read_error)? else { continue };
            let event = Outgoing::message(user, DUMMY_EVENT, CanonicalJsonObject::new());
            match self.send(Outgoing { rate_limited: false, ..event }).await {
                Ok(_) => return Ok(()),
                Err(error) => tracing::debug!(room_id = %self.id(), %error, "extremities could not be merged"),
            }
        }
        Ok(())
    }

    async fn policy_server(&self) -> Result<Option<PolicyServer>, ReadError> {
        match Current::read(self.context(), self.info()).await? {
            Some(current) => current.policy_server().await,
            None => Ok(None),
        }
    }
}

/// The event with the policy server's signature added, which is valid. Its other signatures stay, whatever the policy server says of them.
async fn sign(remote: &Remote, policy: &PolicyServer, pdu: &Pdu, insist: bool) -> Result<Pdu, RemoteError> {
    let malformed = |error: String| RemoteError::Malformed(error);
    let event = object(pdu).map_err(|error| malformed(error.to_string()))?;
    let signatures = remote.client.policy_sign(&policy.via, &event, insist).await?;
    let signature = signatures.get(policy.via.as_str()).and_then(|keys| keys.as_object()?.get(KEY_ID)?.as_str());
    let signature = signature.ok_or_else(|| malformed("there is no signature in it".to_owned()))?;
    let signed = pdu.with_signature(&policy.via, KEY_ID, signature).map_err(|error| malformed(error.to_string()))?;
    if policy.has_signed(&signed) { Ok(signed) } else { Err(malformed("its signature is not valid".to_owned())) }
}

/// What a policy server's refusal is to the user. Only what it says of the event is handed on as it is (SECURITY 8).
fn refusal(error: RemoteError) -> SendError {
    match error {
        RemoteError::Refused { status, errcode, error } if status.is_client_error() && errcode == "M_FORBIDDEN" => {
            let reason = Some(error).filter(|error| !error.is_empty());
            SendError::forbidden(reason.unwrap_or_else(|| "the room's policy server refuses the event".to_owned()))
        }
        RemoteError::Refused { status, .. } if status.as_u16() == 429 => {
            SendError::LimitExceeded { retry_after: RETRY_AFTER }
        }
        other => other.into(),
    }
}
