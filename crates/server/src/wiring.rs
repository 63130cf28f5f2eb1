//! Puts the crates together: each gets its own options and the handles that it uses.

pub mod options;

use std::{fmt, sync::Arc};

use anyhow::Context;
use axum::Router;
use client_api::Api;
use delayed_events::DelayedEvents;
use federation::{Federation, Inbound, outbound::Dispatcher};
use federation_client::{
    Destinations, FederationClient, KeyRing, LeftPdus, NetworkServers, OwnKeys, ReceivedTransactions,
};
use jobs::{Jobs, Projections};
use primitives::{Random, SharedClock};
use rooms::{Remote, Rooms};
use ruma::{OwnedUserId, UserId};
use search::Search;
use storage::Storage;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;
use users::{Authority, NewAccount, Users};

use crate::{
    admin::{CreateUser, federation::FederationDesk, reports::ReportDesk},
    config::Config,
    signing_key,
};

/// The store and the accounts in it: enough for the commands that work while no server runs.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// The store.
    pub storage: Storage,
    /// The accounts.
    pub users: Users,
}

impl Accounts {
    /// Opens the store of the data directory, whose lock the caller holds.
    ///
    /// # Errors
    /// A store that can't be opened, or another server's.
    pub async fn open(config: &Config, clock: &SharedClock, random: &Random) -> anyhow::Result<Self> {
        let storage = Storage::open(options::storage(config), clock, random)?;
        let users = Users::open(storage.clone(), clock.clone(), random.clone(), options::users(config)).await?;
        Ok(Self { storage, users })
    }

    /// Makes an account on the administrator's word.
    ///
    /// # Errors
    /// A name of another server, a name that is taken or impossible, a bad password.
    pub async fn create_user(&self, new: CreateUser) -> anyhow::Result<OwnedUserId> {
        let mut username = new.name;
        if username.starts_with('@') {
            let id = UserId::parse(&username).with_context(|| format!("{username} is no user id"))?;
            anyhow::ensure!(self.users.is_local(&id), "{id} is not a user of {}", self.users.server_name());
            id.localpart().clone_into(&mut username);
        }
        let account = NewAccount {
            authority: Authority::Administrator { admin: new.admin, user_type: None },
            username: Some(username),
            password: Some(new.password),
            display_name: None,
            session: None,
        };
        Ok(self.users.register(account).await?.user_id)
    }

    /// Syncs what is written and closes the store.
    pub async fn close(&self) {
        if let Err(error) = self.storage.close().await {
            warn!(%error, "the store was not closed cleanly");
        }
    }
}

/// Everything behind the listeners.
#[derive(Debug)]
pub struct Stack {
    accounts: Accounts,
    rooms: Rooms,
    projections: Projections,
    api: Api,
    federation: Option<Federation>,
    dispatcher: Option<Dispatcher>,
}

impl Stack {
    /// Opens the store of the data directory, whose lock the caller holds, and what works on it.
    ///
    /// # Errors
    /// A store that can't be opened, or another server's.
    pub async fn open(config: &Config, clock: &SharedClock, random: &Random) -> anyhow::Result<Self> {
        let key = Arc::new(signing_key::load_or_generate(&config.data_dir, random)?);
        let old_keys = signing_key::load_old(&config.data_dir)?;
        let accounts = Accounts::open(config, clock, random).await?;
        let Accounts { storage, users } = accounts.clone();
        let own_keys = Arc::new(OwnKeys::new(config.server_name.clone(), key.clone(), old_keys));
        let remote = config.federation.enabled.then(|| remote(config, &accounts, own_keys, clock, random));
        let remote = remote.transpose()?;
        let options = options::rooms(config)?;
        let (on, us, at) = (storage.clone(), users.clone(), clock.clone());
        let rooms = Rooms::open(on, us, at, random.clone(), key, remote.clone(), options);
        let federation = remote.map(|remote| federate(config, &accounts, &rooms, remote, clock));
        let dispatcher = open_dispatcher(config, &storage, federation.as_ref()).await?;
        let reads = rooms.reads().clone();
        let search = open_search(config, &storage, &rooms, clock).await?;
        let options = options::delayed_events(config);
        let (on, us, at) = (storage.clone(), users.clone(), rooms.clone());
        let projections = Projections::open(on.clone(), at.clone(), clock.clone());
        let jobs = Jobs::open(on, us, at, clock.clone(), &options::jobs(config));
        let (clock, random) = (clock.clone(), random.clone());
        let delayed = DelayedEvents::open(storage, users.clone(), rooms.clone(), clock, random, options).await?;
        let options = Arc::new(options::client_api(config));
        let remotes = federation.as_ref().map(|federation| federation.client.clone());
        let api = Api { users, rooms: rooms.clone(), reads, search, delayed, jobs, remotes, options };
        Ok(Self { accounts, rooms, projections, api, federation, dispatcher })
    }

    /// The accounts.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The delayed events.
    pub fn delayed(&self) -> &DelayedEvents {
        &self.api.delayed
    }

    /// The search; `None`: switched off.
    pub fn search(&self) -> Option<&Search> {
        self.api.search.as_ref()
    }

    /// Where reports are read and deleted.
    pub fn report_desk(&self) -> ReportDesk {
        ReportDesk::new(self.accounts.users.clone(), self.api.reads.clone())
    }

    /// Where the pauses of other servers are read and ended.
    pub fn federation_desk(&self) -> FederationDesk {
        let client = self.federation.as_ref().map(|federation| federation.client.clone());
        FederationDesk::new(Destinations::new(self.accounts.storage.clone()), client)
    }

    /// What the listeners serve.
    pub fn router(&self) -> Router {
        let clients = client_api::router(self.api.clone());
        match &self.federation {
            Some(federation) => federation::router(federation.clone(), clients),
            None => clients,
        }
    }

    /// Starts the work that goes on in the background, until told to stop.
    pub fn start(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        let (users, stopped) = (self.accounts.users.clone(), stop.clone());
        tasks.spawn(async move { users.run(stopped).await });
        let (rooms, stopped) = (self.rooms.clone(), stop.clone());
        tasks.spawn(async move { rooms.run(stopped).await });
        let (delayed, stopped) = (self.api.delayed.clone(), stop.clone());
        tasks.spawn(async move { delayed.run(stopped).await });
        let (jobs, stopped) = (self.api.jobs.clone(), stop.clone());
        tasks.spawn(async move { jobs.run(stopped).await });
        if let Some(search) = self.api.search.clone() {
            let stopped = stop.clone();
            tasks.spawn(async move { search.run(stopped).await });
        }
        if let Some(federation) = &self.federation {
            let (inbound, rooms, stopped) = (federation.inbound.clone(), federation.rooms.clone(), stop.clone());
            tasks.spawn(async move { inbound.run(rooms, stopped).await });
        }
        let (projections, stopped) = (self.projections.clone(), stop.clone());
        tasks.spawn(async move { projections.run(stopped).await });
        if let Some(dispatcher) = self.dispatcher.clone() {
            let stopped = stop.clone();
            tasks.spawn(async move { dispatcher.run(stopped).await });
        }
    }

    /// Checks what is stored against the invariants. For a store that nothing writes.
    ///
    /// # Errors
    /// A store that can't be read.
    pub async fn verify(&self) -> anyhow::Result<Checked> {
        let mut jobs = self.api.jobs.verify().await?;
        self.projections.verify(&mut jobs).await?;
        let (rooms, delayed) = (self.rooms.verify().await?, self.api.delayed.verify().await?);
        let servers = Destinations::new(self.accounts.storage.clone()).verify().await?;
        Ok(Checked { rooms, delayed, jobs, keys: self.accounts.users.verify().await?, servers })
    }

    /// Waits until the store can't write any more. Why.
    pub async fn failed(&self) -> String {
        self.accounts.storage.failed().await
    }

    /// Lets the rooms finish what they were asked, then puts the store in order for a quick start. Nothing can be written after that.
    pub async fn close(self) {
        self.rooms.close().await;
        if let Some(search) = &self.api.search
            && let Err(error) = search.close().await
        {
            warn!(%error, "the search index was not closed cleanly");
        }
        self.accounts.close().await;
    }
}

/// Opens the search index, unless searching is switched off.
async fn open_search(
    config: &Config,
    storage: &Storage,
    rooms: &Rooms,
    clock: &SharedClock,
) -> anyhow::Result<Option<Search>> {
    if !config.search.enabled {
        return Ok(None);
    }
    let options = options::search(config);
    if let Some(directory) = options.file.as_deref().and_then(std::path::Path::parent) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("the search index has no place in {}", directory.display()))?;
    }
    Ok(Some(Search::open(storage, rooms.reads().clone(), clock.clone(), options).await?))
}

/// The way to other servers.
fn remote(
    config: &Config,
    accounts: &Accounts,
    keys: Arc<OwnKeys>,
    clock: &SharedClock,
    random: &Random,
) -> anyhow::Result<Remote> {
    let denied = config.federation.denied().map_err(|text| anyhow::anyhow!("{text:?} is no key"))?;
    anyhow::ensure!(
        !denied.contains(&keys.current().public()),
        "this server's own signing key is among federation.denied_keys: rotate it first"
    );
    let network = Arc::new(NetworkServers::open(&options::network(config))?);
    let client =
        FederationClient::new(keys, network, clock.clone(), random.clone(), options::federation_client(config));
    let (storage, notaries) = (accounts.storage.clone(), config.federation.notaries.clone());
    let ring = KeyRing::denying(client.clone(), storage, clock.clone(), notaries, denied);
    Ok(Remote { client, ring })
}

/// What answers other servers.
fn federate(config: &Config, accounts: &Accounts, rooms: &Rooms, remote: Remote, clock: &SharedClock) -> Federation {
    let Remote { client, ring } = remote;
    let (users, rooms, options) = (accounts.users.clone(), rooms.clone(), Arc::new(options::federation(config)));
    let received = ReceivedTransactions::new(accounts.storage.clone(), clock.clone());
    let left = LeftPdus::new(accounts.storage.clone());
    let inbound = Inbound::new(received, left, clock.clone(), options::inbound(config));
    Federation { users, rooms, client, ring, inbound, clock: clock.clone(), options }
}

/// What sends to other servers, unless federation is switched off.
async fn open_dispatcher(
    config: &Config,
    storage: &Storage,
    federation: Option<&Federation>,
) -> anyhow::Result<Option<Dispatcher>> {
    let Some(federation) = federation else { return Ok(None) };
    let options = options::outbound(config);
    Ok(Some(Dispatcher::open(federation.clone(), storage.clone(), options).await?))
}

/// What a check of the store found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// In the rooms.
    pub rooms: rooms::verify::Report,
    /// In the delayed events.
    pub delayed: delayed_events::verify::Report,
    /// In the jobs and projections.
    pub jobs: jobs::verify::Report,
    /// In the keys of devices.
    pub keys: users::verify::Report,
    /// In what is kept of other servers.
    pub servers: federation_client::verify::Report,
}

impl Checked {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        let of_users = self.rooms.is_whole() && self.delayed.is_whole() && self.keys.is_whole();
        of_users && self.jobs.is_whole() && self.servers.is_whole()
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n{}\n{}", self.rooms, self.delayed, self.jobs, self.keys, self.servers)
    }
}
