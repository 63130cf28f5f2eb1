//! The ways between the servers of a [`crate::world::World`]: perfect at first, as bad as a test wants. Each way from one server to another decides by a
//! seed of its own, so that what the network does to the n-th request on it is the same in every run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use federation_client::{BoxFuture, FakeServers, Outgoing, RemoteServers, Unreachable};
use http::Response;
use parking_lot::Mutex;
use primitives::{Clock, KeyedHash, ManualClock, Random};
use ruma::{OwnedServerName, ServerName};

/// How bad a network is. Chances are in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// A request, and an answer, takes up to this long: what is sent later can arrive earlier.
    pub delay: Duration,
    /// The chance that a request never arrives.
    pub request_lost: u64,
    /// The chance that a request arrives but its answer doesn't, so that it will be sent again.
    pub answer_lost: u64,
    /// The chance that a request arrives twice.
    pub twice: u64,
}

/// The ways between servers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Links(Arc<Mutex<Network>>);

#[derive(Debug, Default)]
struct Network {
    seed: u64,
    weather: Weather,
    /// The servers that are on the other side of a partition.
    apart: BTreeSet<OwnedServerName>,
    ways: BTreeMap<(OwnedServerName, OwnedServerName), Random>,
    /// Requests that were lost, doubled or kept from arriving by a partition.
    troubles: u64,
}

/// What happens to one request.
struct Fate {
    there: Duration,
    back: Duration,
    request_lost: bool,
    answer_lost: bool,
    twice: bool,
}

impl Links {
    /// Sets what the network decides by from now on.
    pub fn seed(&self, seed: u64) {
        let mut network = self.0.lock();
        network.seed = seed;
        network.ways.clear();
    }

    /// Sets how bad the network is.
    pub fn weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    /// Lets nothing pass between these servers and all others.
    pub fn part(&self, apart: impl IntoIterator<Item = OwnedServerName>) {
        self.0.lock().apart = apart.into_iter().collect();
    }

    /// The network is whole and perfect from now on.
    pub fn heal(&self) {
        self.part([]);
        self.weather(Weather::default());
    }

    /// How many requests the network has spoiled.
    pub fn troubles(&self) -> u64 {
        self.0.lock().troubles
    }

    /// The way of a server to all others.
    pub(crate) fn of(&self, from: OwnedServerName, servers: FakeServers, clock: Arc<ManualClock>) -> LinkedServers {
        LinkedServers { from, servers, links: self.clone(), clock }
    }

    /// What happens to the next request on a way; `None`: there is no way.
    fn fate(&self, from: &ServerName, to: &ServerName) -> Option<Fate> {
        let mut network = self.0.lock();
        if network.apart.contains(from) != network.apart.contains(to) {
            network.troubles += 1;
            return None;
        }
        let (seed, weather) = (network.seed, network.weather);
        let random = network.ways.entry((from.to_owned(), to.to_owned())).or_insert_with(|| {
            let parts = [&seed.to_be_bytes()[..], from.as_bytes(), to.as_bytes()];
            Random::seeded(u64::from_be_bytes(KeyedHash::new([0; 16]).hash8(&parts)))
        });
        let most = u64::try_from(weather.delay.as_millis()).unwrap_or(u64::MAX - 1);
        let delay = |random: &Random| Duration::from_millis(random.below(1 + most));
        let fate = Fate {
            there: delay(random),
            back: delay(random),
            request_lost: random.below(1_000) < weather.request_lost,
            answer_lost: random.below(1_000) < weather.answer_lost,
            twice: random.below(1_000) < weather.twice,
        };
        network.troubles += u64::from(fate.request_lost || fate.answer_lost || fate.twice);
        Some(fate)
    }
}

/// The network as one server has it. Keeps to the time-outs of its requests, by the clock of the world.
#[derive(Debug)]
pub(crate) struct LinkedServers {
    from: OwnedServerName,
    servers: FakeServers,
    links: Links,
    clock: Arc<ManualClock>,
}

impl LinkedServers {
    async fn pass(&self, outgoing: Outgoing) -> Result<Response<Bytes>, Unreachable> {
        let lost = || Unreachable::Connection("the simulated network lost it".to_owned());
        let Some(fate) = self.links.fate(&self.from, &outgoing.destination) else {
            return Err(Unreachable::Connection("the simulated network is cut".to_owned()));
        };
        self.wait(fate.there).await;
        if fate.request_lost {
            return Err(lost());
        }
        if fate.twice {
            drop(self.servers.send(again(&outgoing)).await);
        }
        let answer = self.servers.send(outgoing).await;
        self.wait(fate.back).await;
        if fate.answer_lost { Err(lost()) } else { answer }
    }

    async fn wait(&self, span: Duration) {
        if !span.is_zero() {
            self.clock.sleep(span).await;
        }
    }
}

/// The same request.
fn again(outgoing: &Outgoing) -> Outgoing {
    let Outgoing { destination, request, answer_max_bytes, timeout } = outgoing;
    let (destination, request) = (destination.clone(), request.clone());
    Outgoing { destination, request, answer_max_bytes: *answer_max_bytes, timeout: *timeout }
}

impl RemoteServers for LinkedServers {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Response<Bytes>, Unreachable>> {
        let late = self.clock.sleep(outgoing.timeout);
        Box::pin(async move {
            tokio::select! {
                biased;
                answer = self.pass(outgoing) => answer,
                () = late => Err(Unreachable::TimedOut),
            }
        })
    }
}
