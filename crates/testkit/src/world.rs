//! Whole servers in one process that reach each other without a network: each on a store in memory, all on one clock that stands still until it
//! is moved. Requests are signed and verified as between real servers.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use federation::{
    Federation, Inbound, InboundLimits,
    outbound::{Dispatcher, OutboundOptions},
};
use federation_client::{
    ClientOptions, FakeServers, FederationClient, KeyRing, LeftPdus, OldKey, OwnKeys, Pauses, ReceivedTransactions,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use primitives::{ManualClock, Random, ServerKey, SharedClock, UnixMillis};
use rooms::Remote;
use ruma::{OwnedServerName, OwnedUserId, UserId};
use storage::Storage;
use tower::ServiceExt;
use users::{Authority, Limits, NewAccount, RegistrationMode};

use crate::{Parts, links::Links};

/// Longer than any request takes.
pub(crate) const LONGEST_ANSWER: Duration = Duration::from_hours(1);

/// Servers and their common time.
#[derive(Debug)]
pub struct World {
    /// The way from each to each; a name can also lead to a function of the test.
    pub servers: FakeServers,
    /// How good those ways are: perfect, unless a test says otherwise.
    pub links: Links,
    /// Time; starts in November 2023.
    pub clock: Arc<ManualClock>,
}

impl Default for World {
    fn default() -> Self {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        Self { servers: FakeServers::default(), links: Links::default(), clock }
    }
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its name.
    pub name: OwnedServerName,
    /// What it is made of.
    pub parts: Parts,
    /// What answers the other servers.
    pub federation: Federation,
    /// What sends to them. Nothing is sent unless a test runs it.
    pub dispatcher: Dispatcher,
    /// What asks them.
    pub client: FederationClient,
    /// Its keys.
    pub keys: Arc<OwnKeys>,
}

impl World {
    /// No server yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server of this name that signs with the key `ed25519:kSEED`, and has no users.
    pub async fn server(&self, name: &str, seed: u8) -> Server {
        self.server_with(name, seed, Vec::new()).await
    }

    /// The same, with keys that it signed with before.
    pub async fn server_with(&self, name: &str, seed: u8, old: Vec<OldKey>) -> Server {
        let shared: SharedClock = self.clock.clone();
        self.server_on(Storage::memory(&shared, &Random::seeded(seed.into())), name, seed, old).await
    }

    /// The same, with limits that are enforced.
    pub async fn limited_server(&self, name: &str, seed: u8, limits: Limits) -> Server {
        let shared: SharedClock = self.clock.clone();
        let storage = Storage::memory(&shared, &Random::seeded(seed.into()));
        self.server_within(storage, name, seed, Vec::new(), (limits, false)).await
    }

    /// The same, on a store that may have been used before, joining rooms with a part of their state. Its jobs fetch the rest.
    pub async fn partial_server(&self, storage: Storage, name: &str, seed: u8) -> Server {
        let limits = Limits { enforce: false, ..Limits::default() };
        self.server_within(storage, name, seed, Vec::new(), (limits, true)).await
    }

    /// The same, on a store that may have been used before: a server that was started again.
    pub async fn server_on(&self, storage: Storage, name: &str, seed: u8, old: Vec<OldKey>) -> Server {
        let limits = Limits { enforce: false, ..Limits::default() };
        self.server_within(storage, name, seed, old, (limits, false)).await
    }

    async fn server_within(
        &self,
        storage: Storage,
        name: &str,
        seed: u8,
        old: Vec<OldKey>,
        (limits, partial): (Limits, bool),
    ) -> Server {
        let name = OwnedServerName::try_from(name).expect("a name");
        let shared: SharedClock = self.clock.clone();
        let mut accounts = users::Options::new(name.clone());
        accounts.registration = RegistrationMode::Open;
        accounts.limits = limits;
        accounts.password_hash.memory_kib = 8;
        accounts.password_hash.iterations = 1;
        let key = Arc::new(ServerKey::new(&format!("k{seed}"), [seed; 32]).expect("a key"));
        let keys = Arc::new(OwnKeys::new(name.clone(), key.clone(), old));
        let options = ClientOptions {
            answer_max_bytes: 32 << 20,
            timeout: Duration::from_secs(30),
            state_answer_max_bytes: 64 << 20,
            join_timeout: Duration::from_mins(2),
            pauses: Pauses { min: Duration::from_mins(1), max: Duration::from_hours(1) },
        };
        let servers = Arc::new(self.links.of(name.clone(), self.servers.clone(), self.clock.clone()));
        let client = FederationClient::new(keys.clone(), servers, shared.clone(), Random::seeded(seed.into()), options);
        let ring = KeyRing::new(client.clone(), storage.clone(), shared.clone(), Vec::new());
        let remote = Remote { client: client.clone(), ring: ring.clone() };
        let parts = Parts::joining(storage, self.clock.clone(), accounts, key, Some(remote), partial).await;
        let options = federation::Options {
            server_address: Some(format!("fed.{name}:443")),
            version: "1.2.3",
            request_max_bytes: 12 << 20,
            profiles_shown: true,
            get_missing_events_max_events: 20,
            backfill_max_events: 100,
        };
        let (users, rooms, options) = (parts.users.clone(), parts.rooms.clone(), Arc::new(options));
        let received = ReceivedTransactions::new(parts.storage.clone(), shared.clone());
        let left = LeftPdus::new(parts.storage.clone());
        let inbound = Inbound::new(received, left, shared.clone(), InboundLimits::default());
        let federation = Federation { users, rooms, client: client.clone(), ring, inbound, clock: shared, options };
        let dispatcher = Dispatcher::open(federation.clone(), parts.storage.clone(), OutboundOptions::default());
        let dispatcher = dispatcher.await.expect("the dispatcher opens");
        let served = federation.clone();
        self.servers.serve(name.clone(), move |request| serve(served.clone(), request));
        Server { name, parts, federation, dispatcher, client, keys }
    }
}

impl Server {
    /// Makes an account of this name, if there is none yet.
    pub async fn user(&self, localpart: &str) -> OwnedUserId {
        let account = NewAccount {
            authority: Authority::Administrator { admin: false, user_type: None },
            username: Some(localpart.to_owned()),
            password: None,
            display_name: None,
            session: None,
        };
        // On a store that was used before, the account is there.
        drop(self.parts.users.register(account).await);
        UserId::parse(format!("@{localpart}:{}", self.name)).expect("a user id")
    }
}

/// What a server answers.
///
/// # Panics
/// If its body breaks off.
pub async fn serve(federation: Federation, request: Request<Bytes>) -> Response<Bytes> {
    let answered = federation::router(federation, Router::new()).oneshot(request.map(Body::from)).await;
    let (parts, body) = answered.expect("an answer").into_parts();
    Response::from_parts(parts, body.collect().await.expect("a body").to_bytes())
}
