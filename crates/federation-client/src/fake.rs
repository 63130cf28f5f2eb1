//! Other servers without a network, for tests: a name leads to a function.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use ruma::OwnedServerName;

use crate::{BoxFuture, Outgoing, RemoteServers, Unreachable};

type Handler = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync>;

/// Servers that live in the test's own process. A name that leads nowhere is [`Unreachable::Unresolved`]; an answer over the bound is
/// [`Unreachable::TooLarge`]. Cheap to clone.
#[derive(Clone, Default)]
pub struct FakeServers {
    handlers: Arc<Mutex<BTreeMap<OwnedServerName, Handler>>>,
    asked: Arc<Mutex<Vec<(OwnedServerName, String)>>>,
}

impl fmt::Debug for FakeServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.lock().keys()).finish()
    }
}

impl FakeServers {
    /// Has a function answer for a name.
    pub fn serve<F, A>(&self, name: OwnedServerName, answer: F)
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(answer(request)));
        self.handlers.lock().insert(name, handler);
    }

    /// The name leads nowhere from now on.
    pub fn remove(&self, name: &OwnedServerName) {
        self.handlers.lock().remove(name);
    }

    /// What was asked so far: of whom, and method, path and query.
    pub fn asked(&self) -> Vec<(OwnedServerName, String)> {
        self.asked.lock().clone()
    }
}

impl RemoteServers for FakeServers {
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Response<Bytes>, Unreachable>> {
        let Outgoing { destination, request, answer_max_bytes, .. } = outgoing;
        self.asked.lock().push((destination.clone(), format!("{} {}", request.method(), request.uri())));
        let handler = self.handlers.lock().get(&destination).cloned();
        Box::pin(async move {
            let handler = handler.ok_or_else(|| Unreachable::Unresolved(destination.to_string()))?;
            let answer = handler(request).await;
            if answer.body().len() > answer_max_bytes {
                return Err(Unreachable::TooLarge(answer_max_bytes));
            }
            Ok(answer)
        })
    }
}
