//! Taking in events that were made elsewhere: the one way for everything that isn't our own (server-server API, "Checks performed on receipt
//! of a PDU").
//!
//! Here, outside the worker, events are parsed and their hashes and signatures checked; keys come from whoever can fetch them. The worker then
//! judges what passes (`receive/judge.rs`) and stores it with its verdict.

mod history;
mod judge;

pub(crate) use judge::Place;

use std::{collections::BTreeSet, future::Future};

use federation_client::ValidAt;
use primitives::NodeId;
use ruma::{OwnedEventId, ServerName, serde::Base64, signatures::PublicKeyMap};
use storage::{
    CommitError, ReadError,
    schema::rooms::{EventLocal, Verdict},
};
use tokio::sync::oneshot;

use crate::{
    Pdu, StageError,
    context::Context,
    outgoing::{Rider, SendError, Sent},
    pdu::{Opened, RequiredSignature},
    room::Room,
    worker::{NotTaken, ReceiveOwnRequest, ReceiveRequest, Request},
};

/// Events that go to a worker at once.
pub(crate) const AT_ONCE: usize = 50;
/// Events of a given state that a worker looks at at once, in the batch of the event that they are for.
const GIVEN_AT_ONCE: usize = 500;

/// Where the keys of other servers come from. May ask the network.
pub trait EventKeys: Send + Sync {
    /// The keys that are wanted, as far as they can be had, valid at a time.
    fn keys(&self, wanted: &[RequiredSignature], at: ValidAt) -> impl Future<Output = PublicKeyMap> + Send;
}

/// A fixed set of keys.
impl EventKeys for PublicKeyMap {
    async fn keys(&self, _: &[RequiredSignature], _: ValidAt) -> PublicKeyMap {
        self.clone()
    }
}

/// An event as another server sent it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Its JSON.
    pub json: Vec<u8>,
    /// It is wanted for its place in auth chains or state only.
    pub outlier: bool,
    /// The state before it, as the sending server says; looked at only if previous events are missing.
    pub state_before: Option<Vec<OwnedEventId>>,
}

impl Incoming {
    /// An event that arrived live.
    pub fn new(json: impl Into<Vec<u8>>) -> Self {
        Self { json: json.into(), outlier: false, state_before: None }
    }
}

/// What became of a received event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is stored, now or already, with this verdict.
    Stored(OwnedEventId, Verdict),
    /// These events are needed first: auth events, previous events or events of the state before. Where it is none, the signature of the room's policy server is.
    /// Nothing is stored.
    Missing(OwnedEventId, Vec<OwnedEventId>),
    /// It is no event of this room, or not properly signed. Nothing is stored.
    Invalid(String),
}

/// Why nothing was taken in.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The room is not known here, or is being purged.
    #[error("the room is not known here")]
    UnknownRoom,
    /// The store can't take events now.
    #[error("the room cannot be written to at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<CommitError> for ReceiveError {
    fn from(_: CommitError) -> Self {
        Self::Unavailable
    }
}

/// An event whose form, hash and signatures are good.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) pdu: Pdu,
    pub(crate) outlier: bool,
    /// It came here first: this server tells the others of it.
    pub(crate) relay: bool,
    /// The states after those of its previous events that are missing here, as other servers give them; none: they are not known.
    pub(crate) given: Vec<GivenState>,
    /// What only this server knows of it, if it is an own event.
    pub(crate) local: EventLocal,
    /// The room's policy server was asked for its signature: without one, it is not waited for.
    pub(crate) policy_asked: bool,
}

/// A state as another server gives it.
#[derive(Clone, Debug)]
pub(crate) enum GivenState {
    /// Its events, which are stored. Of two under one type and state key the later one counts.
    Events(Vec<OwnedEventId>),
    /// Too many for one batch: put together before.
    Staged(NodeId),
}

impl Room {
    /// Takes in events of this room, in any order. Answers for each, in the order given, what became of it.
    pub async fn receive(&self, events: Vec<Incoming>, keys: &impl EventKeys) -> Result<Vec<Received>, ReceiveError> {
        let mut received = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        while events.len() > 0 {
            let (mut answers, mut prepared, mut places) = (Vec::new(), Vec::new(), Vec::new());
            for event in events.by_ref().take(AT_ONCE) {
                let given = event.state_before.clone();
                match self.prepare(event, keys).await {
                    Ok(mut event) => match self.given(given).await? {
                        Ok(given) => {
                            event.given = given;
                            places.push(answers.len());
                            answers.push(None);
                            prepared.push(event);
                        }
                        Err(missing) => {
                            answers.push(Some(Received::Missing(event.pdu.event_id().clone(), missing)));
                        }
                    },
                    Err(reason) => answers.push(Some(Received::Invalid(reason))),
                }
            }
            for (place, verdict) in places.into_iter().zip(self.submit(prepared).await?) {
                answers[place] = Some(verdict);
            }
            received.extend(answers.into_iter().flatten());
        }
        Ok(received)
    }

    /// Takes in events whose form, hash and signatures are good, however many.
    pub(crate) async fn receive_prepared(&self, events: Vec<Prepared>) -> Result<Vec<Received>, ReceiveError> {
        let mut received = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        while events.len() > 0 {
            received.extend(self.submit(events.by_ref().take(AT_ONCE).collect()).await?);
        }
        Ok(received)
    }

    /// A state that another server gives, as the worker takes it: a large one is put together beforehand, in many batches. Or the events of it that
    /// are not here.
    async fn given(
        &self,
        state: Option<Vec<OwnedEventId>>,
    ) -> Result<Result<Vec<GivenState>, Vec<OwnedEventId>>, ReceiveError> {
        match state {
            None => Ok(Ok(Vec::new())),
            Some(events) => Ok(self.given_state(events).await?.map(|given| vec![given])),
        }
    }

    /// The same of one state.
    pub(crate) async fn given_state(
        &self,
        events: Vec<OwnedEventId>,
    ) -> Result<Result<GivenState, Vec<OwnedEventId>>, ReceiveError> {
        if events.len() <= GIVEN_AT_ONCE {
            return Ok(Ok(GivenState::Events(events)));
        }
        match self.put_state_together(&events).await {
            Ok(root) => Ok(Ok(GivenState::Staged(root))),
            Err(StageError::Missing(missing)) => Ok(Err(missing)),
            Err(StageError::Storage(error)) => Err(error.into()),
            Err(_) => Err(ReceiveError::Unavailable),
        }
    }

    /// Hands events to the worker; those that lack the signature of the room's policy server, and those that wait for them, once more after it was asked.
    async fn submit(&self, events: Vec<Prepared>) -> Result<Vec<Received>, ReceiveError> {
        let mut received = self.hand_over(events.clone()).await?;
        let waiting = waiting_for_policy(&received);
        if !waiting.is_empty() {
            let unsigned = waiting.iter().map(|at| events[*at].clone()).collect();
            let asked = self.asked_policy(unsigned).await?;
            for (at, answer) in waiting.into_iter().zip(self.hand_over(asked).await?) {
                received[at] = answer;
            }
        }
        Box::pin(self.merge_signed()).await?;
        Ok(received)
    }

    async fn hand_over(&self, events: Vec<Prepared>) -> Result<Vec<Received>, ReceiveError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Receive(ReceiveRequest { events, reply });
        self.rooms().ask(self.info(), request).await.map_err(|_| ReceiveError::Unavailable)?;
        answer.await.unwrap_or(Err(ReceiveError::Unavailable))
    }

    /// Checks form, room, hash and signatures. An event whose content doesn't fit its hash counts as its redacted form.
    pub(crate) async fn prepare(&self, event: Incoming, keys: &impl EventKeys) -> Result<Prepared, String> {
        let pdu = Pdu::parse(self.version(), &event.json).map_err(|error| error.to_string())?;
        self.prepare_parsed(pdu, event.outlier, keys).await
    }

    /// The same of an event that has been read.
    pub(crate) async fn prepare_parsed(
        &self,
        pdu: Pdu,
        outlier: bool,
        keys: &impl EventKeys,
    ) -> Result<Prepared, String> {
        if pdu.room_id() != self.id() {
            return Err("the event is of another room".to_owned());
        }
        let pdu = self.checked(pdu, keys).await?;
        let (given, local) = (Vec::new(), EventLocal::default());
        Ok(Prepared { pdu, outlier, relay: false, given, local, policy_asked: false })
    }

    /// Takes in one event that came here first.
    pub(crate) async fn receive_first(&self, pdu: Pdu, keys: &impl EventKeys) -> Result<Received, ReceiveError> {
        let pdu = match self.checked(pdu, keys).await {
            Ok(pdu) => pdu,
            Err(reason) => return Ok(Received::Invalid(reason)),
        };
        let received = self.submit(vec![Prepared::first(pdu, EventLocal::default())]).await?;
        received.into_iter().next().ok_or(ReceiveError::Unavailable)
    }

    /// Takes in an own event that another server has signed too, with what goes with it.
    pub(crate) async fn receive_own(
        &self,
        pdu: Pdu,
        local: EventLocal,
        riders: Vec<Rider>,
        keys: &impl EventKeys,
    ) -> Result<Sent, SendError> {
        let pdu = self.checked(pdu, keys).await.map_err(SendError::bad)?;
        self.take_own(pdu, local, riders).await.map_err(|not_taken| not_taken.error)
    }

    /// The same with an event whose signatures are good.
    pub(crate) async fn take_own(&self, pdu: Pdu, local: EventLocal, riders: Vec<Rider>) -> Result<Sent, NotTaken> {
        let (reply, answer) = oneshot::channel();
        let event = Prepared { policy_asked: true, ..Prepared::first(pdu, local) };
        let request = Request::ReceiveOwn(ReceiveOwnRequest { event, riders, reply });
        let unavailable = || NotTaken { error: SendError::Unavailable, riders: None };
        self.rooms().ask(self.info(), request).await.map_err(|_| unavailable())?;
        answer.await.unwrap_or_else(|_| Err(unavailable()))
    }

    /// The event, if its signatures are good: whole, or redacted if its content doesn't fit its hash.
    async fn checked(&self, pdu: Pdu, keys: &impl EventKeys) -> Result<Pdu, String> {
        checked(self.context(), pdu, keys).await
    }
}

impl Prepared {
    /// An event that came here first.
    fn first(pdu: Pdu, local: EventLocal) -> Self {
        Self { pdu, outlier: false, relay: true, given: Vec::new(), local, policy_asked: false }
    }
}

/// Which of the events lack the signature of the room's policy server, or miss only such events.
fn waiting_for_policy(received: &[Received]) -> Vec<usize> {
    let mut ids = BTreeSet::new();
    loop {
        let before = ids.len();
        for answer in received {
            if let Received::Missing(id, missing) = answer
                && missing.iter().all(|id| ids.contains(id))
            {
                ids.insert(id);
            }
        }
        if ids.len() == before {
            break;
        }
    }
    let waits = |answer: &Received| matches!(answer, Received::Missing(id, _) if ids.contains(id));
    (0..received.len()).filter(|at| waits(&received[*at])).collect()
}

/// The event, of whatever room, if its signatures are good: whole, or redacted if its content doesn't fit its hash.
pub(crate) async fn checked(context: &Context, pdu: Pdu, keys: &impl EventKeys) -> Result<Pdu, String> {
    let opened = pdu.opened().map_err(|error| error.to_string())?;
    check_signatures(context, &pdu, &opened, keys).await?;
    if opened.content_hash_matches() { Ok(pdu) } else { pdu.redacted().map_err(|error| error.to_string()) }
}

async fn check_signatures(context: &Context, pdu: &Pdu, opened: &Opened, keys: &impl EventKeys) -> Result<(), String> {
    let required = opened.required_signatures().map_err(|error| error.to_string())?;
    let own_name: &ServerName = &context.options.server_name;
    let (own, others): (Vec<_>, Vec<_>) = required.into_iter().partition(|one| one.server == own_name);
    let enforced = pdu.version().enforces_key_validity();
    let at = if enforced { ValidAt::Time(pdu.origin_server_ts()) } else { ValidAt::Anytime };
    let mut known = if others.is_empty() { PublicKeyMap::new() } else { keys.keys(&others, at).await };
    if !own.is_empty() {
        known.extend(own_keys(context, &own, at).await);
    }
    opened.verify_signatures(&known).map_err(|error| error.to_string())
}

/// The keys that this server signs with, and those wanted that it signed with before.
async fn own_keys(context: &Context, wanted: &[RequiredSignature], at: ValidAt) -> PublicKeyMap {
    let mut own = match &context.remote {
        Some(remote) => remote.keys(wanted, at).await,
        None => PublicKeyMap::new(),
    };
    let public = Base64::new(context.key.public().to_vec());
    let name = context.options.server_name.to_string();
    own.entry(name).or_default().insert(context.key.id().to_string(), public);
    own
}
