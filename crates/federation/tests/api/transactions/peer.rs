//! A server that says what the test wants it to say.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use ruma::{ServerName, api::federation::authentication::XMatrix, serde::Base64, signatures::KeyPair};
use serde_json::{Value, json};
use testkit::world::{Server, World};
use tower::ServiceExt;

use super::super::answer;

type Answer = Arc<dyn Fn(String, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// See the module's documentation.
pub(super) struct Peer {
    pub(super) server: Server,
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// A server that publishes its key, and answers 404 to all else.
    pub(super) async fn new(world: &World, name: &str, seed: u8) -> Self {
        let server = world.server(name, seed).await;
        let (answers, asked) = (Arc::<Mutex<BTreeMap<String, Answer>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (of, from, note) = (server.federation.clone(), Arc::clone(&answers), Arc::clone(&asked));
        world.servers.serve(server.name.clone(), move |request: Request<Bytes>| {
            let (of, path) = (of.clone(), request.uri().path_and_query().expect("a path").to_string());
            let answers = from.lock().expect("not poisoned");
            let scripted =
                answers.iter().find(|(part, _)| path.contains(part.as_str())).map(|(_, answer)| answer.clone());
            drop(answers);
            note.lock().expect("not poisoned").push(path.clone());
            async move {
                if path.starts_with("/_matrix/key/") {
                    return routed(of, request).await;
                }
                match scripted {
                    Some(answer) => Response::new(answer(path, request.into_body()).await),
                    None => not_found(),
                }
            }
        });
        Self { server, answers, asked }
    }

    /// What is answered to paths that contain this.
    pub(super) fn answers<A>(&self, part: &str, answer: impl Fn(String, Bytes) -> A + Send + Sync + 'static)
    where
        A: Future<Output = Bytes> + Send + 'static,
    {
        let answer: Answer = Arc::new(move |path, body| Box::pin(answer(path, body)));
        self.answers.lock().expect("not poisoned").insert(part.to_owned(), answer);
    }

    /// The same, always this.
    pub(super) fn says(&self, part: &str, answer: &Value) {
        let bytes = Bytes::from(answer.to_string());
        self.answers(part, move |_, _| std::future::ready(bytes.clone()));
    }

    /// Answers `/event` with these, by their ids.
    pub(super) fn has_event(&self, pdu: &rooms::Pdu) {
        let id = pdu.event_id().as_str().replace('$', "%24");
        self.says(&format!("/v1/event/{id}"), &json!({ "pdus": [super::value(pdu)] }));
    }

    /// The paths asked for so far that contain this.
    pub(super) fn asked(&self, part: &str) -> Vec<String> {
        self.asked.lock().expect("not poisoned").iter().filter(|path| path.contains(part)).cloned().collect()
    }
}

fn not_found() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(br#"{"errcode":"M_NOT_FOUND","error":"no"}"#));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn routed(federation: federation::Federation, request: Request<Bytes>) -> Response<Bytes> {
    let routed = federation::router(federation, axum::Router::new()).oneshot(request.map(Body::from)).await;
    let (parts, body) = routed.expect("an answer").into_parts();
    Response::from_parts(parts, body.collect().await.expect("a body").to_bytes())
}

/// A transaction of a server with these events.
pub(super) fn transaction(server: &Server, pdus: &[Value]) -> Value {
    json!({ "origin": server.name, "origin_server_ts": 1_700_000_000_000_u64, "pdus": pdus })
}

/// Sends a transaction.
pub(super) async fn put(here: &Server, from: &Server, txn: &str, body: &Value) -> (StatusCode, Value) {
    put_as(here, from, from.name.as_str(), txn, body).await
}

/// Sends a transaction in the name of another server.
pub(super) async fn put_as(here: &Server, from: &Server, name: &str, txn: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::put(format!("/_matrix/federation/v1/send/{txn}")).body(body.to_string()).expect("a request");
    let origin = <&ServerName>::try_from(name).expect("a name");
    let object = XMatrix::request_object(&request, origin, &here.name).expect("an object");
    let text = serde_json::to_vec(&object).expect("JSON");
    let (_, signature) = from.keys.current().sign(&text).into_parts();
    let key = from.keys.current().id().clone();
    let signed = XMatrix::new(origin.to_owned(), here.name.clone(), key, Base64::new(signature));
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(header::AUTHORIZATION, signed.to_string().parse().expect("a header"));
    answer(&here.federation, Request::from_parts(parts, Body::from(body))).await
}

/// Sends one text as a transaction, and signs another: canonical but for its numbers.
pub(super) async fn put_text(here: &Server, from: &Server, txn: &str, sent: &str, signed: &str) -> (StatusCode, Value) {
    let (path, name) = (format!("/_matrix/federation/v1/send/{txn}"), &from.name);
    let text = format!(
        r#"{{"content":{signed},"destination":"{}","method":"PUT","origin":"{name}","uri":"{path}"}}"#,
        here.name
    );
    let (_, signature) = from.keys.current().sign(text.as_bytes()).into_parts();
    let key = from.keys.current().id().clone();
    let claim = XMatrix::new(name.clone(), here.name.clone(), key, Base64::new(signature)).to_string();
    let request = Request::put(path).header(header::AUTHORIZATION, claim).body(Body::from(sent.to_owned()));
    answer(&here.federation, request.expect("a request")).await
}
