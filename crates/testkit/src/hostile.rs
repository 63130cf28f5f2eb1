//! A server that obeys nobody: it has a name and a signing key like any other, signs whatever a test wants signed, and answers whatever a script
//! says. What it knows of a room it reads straight from its victim's store ([`crate::held`]), so that no rule of the victim's keeps a lie from
//! being as good as it can be.

mod events;
mod script;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use federation_client::{FakeServers, Outgoing, OwnKeys, RemoteServers, Unreachable};
use http::{Method, Request, StatusCode, header};
use primitives::{Clock, ManualClock, ServerKey};
use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId, api::federation::authentication::XMatrix, serde::Base64,
    signatures::KeyPair,
};
use serde_json::{Value, json};

use crate::world::{LONGEST_ANSWER, World};

pub use events::{Draft, Forged, forge, raw_draft, references};
pub use script::{Scripts, answer_json};

/// The peer.
#[derive(Debug)]
pub struct Hostile {
    /// Its name.
    pub name: OwnedServerName,
    /// What it signs with.
    pub keys: Arc<OwnKeys>,
    /// What it answers, and what it was asked.
    pub scripts: Scripts,
    servers: FakeServers,
    clock: Arc<ManualClock>,
    transactions: AtomicU64,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body; null if it is no JSON.
    pub body: Value,
}

impl Answer {
    /// The `errcode`; empty if there is none.
    pub fn errcode(&self) -> &str {
        self.body["errcode"].as_str().unwrap_or_default()
    }

    /// The `error` that a transaction's answer tells of an event; `None`: it was taken.
    ///
    /// # Panics
    /// If the transaction was refused.
    pub fn error_of(&self, event: &Forged) -> Option<String> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        let error = &self.body["pdus"][event.event_id.as_str()]["error"];
        error.as_str().map(ToOwned::to_owned)
    }
}

impl World {
    /// A peer of that name, which signs with the key `ed25519:kSEED`. It publishes its keys, and answers 404 to all else until a script says more.
    pub fn hostile(&self, name: &str, seed: u8) -> Hostile {
        let name = OwnedServerName::try_from(name).expect("a name");
        let key = Arc::new(ServerKey::new(&format!("k{seed}"), [seed; 32]).expect("a key"));
        let keys = Arc::new(OwnKeys::new(name.clone(), key, Vec::new()));
        let scripts = Scripts::new(&keys, &self.clock);
        let served = scripts.clone();
        self.servers.serve(name.clone(), move |request| served.clone().answer(request));
        let (servers, clock) = (self.servers.clone(), self.clock.clone());
        Hostile { name, keys, scripts, servers, clock, transactions: AtomicU64::new(0) }
    }
}

impl Hostile {
    /// A user id of this server.
    ///
    /// # Panics
    /// If there can be no such user.
    pub fn user(&self, localpart: &str) -> OwnedUserId {
        UserId::parse(format!("@{localpart}:{}", self.name)).expect("a user id")
    }

    /// Asks as a decent server would: signed with its own key, for the server that is asked.
    ///
    /// # Panics
    /// If the server can't be reached.
    pub async fn ask(&self, to: &ServerName, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.ask_text(to, method, path, body.into_bytes()).await
    }

    /// The same with any bytes as body.
    pub async fn ask_text(&self, to: &ServerName, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Bytes::from(body)).expect("a request");
        let header = signed(&request, &self.name, to, self.keys.current());
        self.ask_claiming(to, request, Some(&header.to_string())).await
    }

    /// Asks with whatever stands in the `Authorization` header.
    ///
    /// # Panics
    /// If the server can't be reached.
    pub async fn ask_claiming(&self, to: &ServerName, mut request: Request<Bytes>, header: Option<&str>) -> Answer {
        if let Some(header) = header {
            request.headers_mut().insert(header::AUTHORIZATION, header.parse().expect("a header"));
        }
        let answer = self.send(to, request).await.expect("the server is there");
        Answer { status: answer.status(), body: serde_json::from_slice(answer.body()).unwrap_or_default() }
    }

    async fn send(&self, to: &ServerName, request: Request<Bytes>) -> Result<http::Response<Bytes>, Unreachable> {
        let timeout = LONGEST_ANSWER;
        let outgoing = Outgoing { destination: to.to_owned(), request, answer_max_bytes: usize::MAX, timeout };
        self.servers.send(outgoing).await
    }

    /// Sends a transaction under a new id.
    pub async fn transaction(&self, to: &ServerName, pdus: &[&Forged], edus: &[Value]) -> Answer {
        let pdus: Vec<_> = pdus.iter().map(|forged| forged.json.clone()).collect();
        self.transaction_of(to, &self.new_transaction(), &pdus, edus).await
    }

    /// Sends a transaction of any JSON under an id.
    pub async fn transaction_of(&self, to: &ServerName, id: &str, pdus: &[Value], edus: &[Value]) -> Answer {
        let now = self.now();
        let body = json!({ "origin": self.name, "origin_server_ts": now, "pdus": pdus, "edus": edus });
        self.ask(to, Method::PUT, &format!("/_matrix/federation/v1/send/{id}"), Some(&body)).await
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().0
    }

    /// A transaction id that was not used yet.
    pub fn new_transaction(&self) -> String {
        format!("t{}", self.transactions.fetch_add(1, Ordering::Relaxed))
    }
}

/// The signature of a request by any key in any server's name.
///
/// # Panics
/// Never: what can't be signed as JSON is signed as if it had no body.
pub fn signed(
    request: &Request<impl AsRef<[u8]>>,
    origin: &ServerName,
    destination: &ServerName,
    key: &ServerKey,
) -> XMatrix {
    let object = XMatrix::request_object(request, origin, destination).unwrap_or_else(|_| {
        let request = Request::builder().method(request.method()).uri(request.uri()).body("").expect("a request");
        XMatrix::request_object(&request, origin, destination).expect("nothing to read")
    });
    let text = serde_json::to_vec(&object).expect("JSON");
    let (_, signature) = key.sign(&text).into_parts();
    XMatrix::new(origin.to_owned(), destination.to_owned(), key.id().clone(), Base64::new(signature))
}
