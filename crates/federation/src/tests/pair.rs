//! Servers that reach each other without a network.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use federation_client::{ClientOptions, FakeServers, FederationClient, KeyRing, OldKey, OwnKeys, Pauses};
use http::{Request, Response};
use http_body_util::BodyExt;
use primitives::{ManualClock, Random, ServerKey, SharedClock, UnixMillis};
use ruma::OwnedServerName;
use storage::Storage;
use testkit::Parts;
use tower::ServiceExt;

use crate::{Federation, Options, router};

/// Servers and their common time.
pub(super) struct World {
    pub(super) servers: FakeServers,
    pub(super) clock: Arc<ManualClock>,
}

/// A server.
pub(super) struct Peer {
    pub(super) federation: Federation,
    pub(super) client: FederationClient,
    pub(super) keys: Arc<OwnKeys>,
}

impl World {
    pub(super) fn new() -> Self {
        Self { servers: FakeServers::default(), clock: ManualClock::new(UnixMillis(1_700_000_000_000)) }
    }

    /// A server of this name that signs with the key `ed25519:kSEED`.
    pub(super) async fn peer(&self, name: &str, seed: u8) -> Peer {
        self.peer_with(name, seed, Vec::new()).await
    }

    /// The same, with keys that it signed with before.
    pub(super) async fn peer_with(&self, name: &str, seed: u8, old: Vec<OldKey>) -> Peer {
        let name = OwnedServerName::try_from(name).expect("a name");
        let shared: SharedClock = self.clock.clone();
        let storage = Storage::memory(&shared, &Random::seeded(seed.into()));
        let mut accounts = users::Options::new(name.clone());
        accounts.registration = users::RegistrationMode::Open;
        accounts.limits.enforce = false;
        accounts.password_hash.memory_kib = 8;
        accounts.password_hash.iterations = 1;
        let parts = Parts::with(storage.clone(), self.clock.clone(), accounts).await;
        let key = Arc::new(ServerKey::new(&format!("k{seed}"), [seed; 32]).expect("a key"));
        let keys = Arc::new(OwnKeys::new(name.clone(), key, old));
        let options = ClientOptions {
            answer_max_bytes: 1 << 20,
            timeout: Duration::from_secs(30),
            pauses: Pauses { min: Duration::from_mins(1), max: Duration::from_hours(1) },
        };
        let (servers, random) = (Arc::new(self.servers.clone()), Random::seeded(seed.into()));
        let client = FederationClient::new(keys.clone(), servers, shared.clone(), random, options);
        let ring = KeyRing::new(client.clone(), storage, shared.clone(), Vec::new());
        let options = Options {
            server_address: Some(format!("fed.{name}:443")),
            version: "1.2.3",
            request_max_bytes: 10_000,
            profiles_shown: true,
        };
        let (users, options) = (parts.users, Arc::new(options));
        let federation = Federation { users, client: client.clone(), ring, clock: shared, options };
        let served = federation.clone();
        self.servers.serve(name, move |request| serve(served.clone(), request));
        Peer { federation, client, keys }
    }
}

async fn serve(federation: Federation, request: Request<Bytes>) -> Response<Bytes> {
    let response = router(federation, Router::new()).oneshot(request.map(Body::from)).await.expect("an answer");
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.expect("a body").to_bytes())
}
