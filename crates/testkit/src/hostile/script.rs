//! What the peer answers.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use federation_client::{BoxFuture, OwnKeys};
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use primitives::{Clock, ManualClock};
use serde_json::{Value, json};

type Script = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// Answers by path: the newest script whose beginning fits counts. Cheap to clone.
#[derive(Clone)]
pub struct Scripts(Arc<Inner>);

struct Inner {
    keys: Arc<OwnKeys>,
    clock: Arc<ManualClock>,
    scripts: Mutex<Vec<(String, Script)>>,
    asked: Mutex<Vec<String>>,
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripts").field("asked", &self.asked()).finish_non_exhaustive()
    }
}

/// A response with a JSON body.
///
/// # Panics
/// Never.
pub fn answer_json(status: StatusCode, body: &Value) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from(body.to_string())).expect("a response")
}

impl Scripts {
    pub(super) fn new(keys: &Arc<OwnKeys>, clock: &Arc<ManualClock>) -> Self {
        let (keys, clock) = (keys.clone(), clock.clone());
        Self(Arc::new(Inner { keys, clock, scripts: Mutex::default(), asked: Mutex::default() }))
    }

    /// Answers what begins so with a function.
    pub fn with<F, A>(&self, path: &str, answer: F)
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let script: Script = Arc::new(move |request| Box::pin(answer(request)));
        self.0.scripts.lock().push((path.to_owned(), script));
    }

    /// Answers what begins so with JSON.
    pub fn json(&self, path: &str, status: StatusCode, body: &Value) {
        self.bytes(path, status, body.to_string().into_bytes());
    }

    /// Answers what begins so with bytes.
    pub fn bytes(&self, path: &str, status: StatusCode, body: Vec<u8>) {
        let body = Bytes::from(body);
        self.with(path, move |_| {
            let answer = Response::builder().status(status).body(body.clone()).expect("a response");
            async { answer }
        });
    }

    /// Answers what begins so only when this much time has passed.
    pub fn late(&self, path: &str, after: Duration, status: StatusCode, body: &Value) {
        let body = body.clone();
        let clock = self.0.clock.clone();
        self.with(path, move |_| {
            let (sleep, answer) = (clock.sleep(after), answer_json(status, &body));
            async {
                sleep.await;
                answer
            }
        });
    }

    /// Forgets the scripts for what begins so.
    pub fn forget(&self, path: &str) {
        self.0.scripts.lock().retain(|(begins, _)| begins != path);
    }

    /// Forgets every script.
    pub fn clear(&self) {
        self.0.scripts.lock().clear();
    }

    /// What the peer was asked so far: method, path and query.
    pub fn asked(&self) -> Vec<String> {
        self.0.asked.lock().clone()
    }

    /// How often it was asked something whose path begins so.
    pub fn times_asked(&self, path: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.split_once(' ').is_some_and(|(_, asked)| asked.starts_with(path)))
            .count()
    }

    pub(super) async fn answer(self, request: Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        self.0.asked.lock().push(format!("{} {}", request.method(), request.uri()));
        let script = {
            let scripts = self.0.scripts.lock();
            scripts.iter().rev().find(|(begins, _)| path.starts_with(begins.as_str())).map(|(_, script)| script.clone())
        };
        match script {
            Some(script) => script(request).await,
            None if path == "/_matrix/key/v2/server" => {
                let document = serde_json::to_value(self.0.keys.document(self.0.clock.now())).expect("JSON");
                answer_json(StatusCode::OK, &document)
            }
            None => answer_json(StatusCode::NOT_FOUND, &json!({ "errcode": "M_UNRECOGNIZED", "error": "No" })),
        }
    }
}
