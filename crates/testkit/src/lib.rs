//! What tests of several crates share: a server's parts on a store in memory, and a clock that stands still until it is moved.

pub mod crowd;
pub mod held;
pub mod hostile;
pub mod links;
pub mod simulate;
pub mod world;

use std::sync::Arc;

use delayed_events::DelayedEvents;
use jobs::{Jobs, Projections};
use primitives::{ManualClock, Random, ServerKey, SharedClock, UnixMillis};
use rooms::{Reads, Remote, Rooms};
use ruma::{OwnedServerName, ServerName};
use search::Search;
use storage::Storage;
use users::{RegistrationMode, Users};

/// The parts of a server named `hs.test`, on a store in memory. Rates are not limited, registration is open, guests are let in and the shared
/// secret is `secret`.
#[derive(Debug)]
pub struct Parts {
    /// The store.
    pub storage: Storage,
    /// Accounts.
    pub users: Users,
    /// Rooms, for writing.
    pub rooms: Rooms,
    /// Rooms, for reading.
    pub reads: Reads,
    /// Searching, on an index in memory. Nothing but searches reads rooms into it.
    pub search: Search,
    /// Delayed events. Nothing sends what is due unless a test runs it.
    pub delayed: DelayedEvents,
    /// Jobs. Nothing does them unless a test runs them.
    pub jobs: Jobs,
    /// Projections. Nothing follows the rooms unless a test does.
    pub projections: Projections,
    /// Time; starts in November 2023.
    pub clock: Arc<ManualClock>,
    /// Randomness; the same in every run.
    pub random: Random,
}

/// The name of the server that [`Parts`] belong to.
pub fn server_name() -> OwnedServerName {
    ServerName::parse("hs.test").expect("a server name")
}

impl Parts {
    /// A new server.
    pub async fn new() -> Self {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let shared: SharedClock = clock.clone();
        Self::on(Storage::memory(&shared, &Random::seeded(1)), clock).await
    }

    /// A server on a store that may have been used before.
    pub async fn on(storage: Storage, clock: Arc<ManualClock>) -> Self {
        let mut options = users::Options::new(server_name());
        options.registration = RegistrationMode::Open;
        options.allow_guests = true;
        options.shared_secret = Some("secret".to_owned());
        options.limits.enforce = false;
        options.password_hash.memory_kib = 8;
        options.password_hash.iterations = 1;
        Self::with(storage, clock, options).await
    }

    /// A server on a store, with these options for its accounts.
    pub async fn with(storage: Storage, clock: Arc<ManualClock>, options: users::Options) -> Self {
        let key = Arc::new(ServerKey::new("1", [7; 32]).expect("a valid key"));
        Self::linked(storage, clock, options, key, None).await
    }

    /// A server on a store, with these options for its accounts, that signs with this key and has a way to other servers.
    pub async fn linked(
        storage: Storage,
        clock: Arc<ManualClock>,
        options: users::Options,
        key: Arc<ServerKey>,
        remote: Option<Remote>,
    ) -> Self {
        // Jobs run only where a test runs them: rooms are to be whole when they are joined.
        Self::joining(storage, clock, options, key, remote, false).await
    }

    /// The same, where it is said whether rooms are joined with a part of their state.
    pub async fn joining(
        storage: Storage,
        clock: Arc<ManualClock>,
        options: users::Options,
        key: Arc<ServerKey>,
        remote: Option<Remote>,
        partial_state_joins: bool,
    ) -> Self {
        let (shared, random): (SharedClock, _) = (clock.clone(), Random::seeded(2));
        let rooms_options = rooms::Options { partial_state_joins, ..rooms::Options::new(options.server_name.clone()) };
        let users = Users::open(storage.clone(), shared.clone(), random.clone(), options).await.expect("accounts open");
        let (us, at) = (users.clone(), shared.clone());
        let rooms = Rooms::open(storage.clone(), us, at, random.clone(), key, remote, rooms_options);
        let reads = rooms.reads().clone();
        let memory = search::Options { file: None, memory_bytes: 1 << 20 };
        let search = Search::open(&storage, reads.clone(), clock.clone(), memory).await.expect("the index opens");
        let delayed = delayed_events::Options::default();
        let (on, us, at) = (storage.clone(), users.clone(), rooms.clone());
        let projections = Projections::open(on.clone(), at.clone(), shared.clone());
        let jobs = Jobs::open(on.clone(), us.clone(), at.clone(), shared.clone(), &jobs::Options::default());
        let delayed =
            DelayedEvents::open(on, us, at, shared, random.clone(), delayed).await.expect("delayed events open");
        Self { storage, users, rooms, reads, search, delayed, jobs, projections, clock, random }
    }
}
