//! One connection: HTTP/1.1 or HTTP/2, within its limits.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Request, StatusCode, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::Watcher},
};
use ipnet::IpNet;
use primitives::{SharedClock, net::ClientAddress};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt;
use tower_http::timeout::TimeoutBody;
use tracing::debug;

use super::{
    activity::{Activity, Watched},
    address::client_address,
};
use crate::config::Limits;

/// Requests that one HTTP/2 connection may have running.
const MULTIPLEXED_REQUESTS: u32 = 200;

/// What applies to each connection of a listener.
#[derive(Debug)]
pub(super) struct ConnectionOptions {
    trusted_proxies: Vec<IpNet>,
    headers_max_bytes: u32,
    headers_max_count: usize,
    pub(super) header_timeout: Duration,
    body_timeout: Duration,
    idle_timeout: Duration,
}

impl ConnectionOptions {
    /// Those of the configuration.
    pub(super) fn new(limits: &Limits, trusted_proxies: &[IpNet]) -> Self {
        Self {
            trusted_proxies: trusted_proxies.to_vec(),
            headers_max_bytes: limits.headers_max_bytes,
            headers_max_count: limits.headers_max_count as usize,
            header_timeout: Duration::from_secs(limits.header_timeout_seconds),
            body_timeout: Duration::from_secs(limits.body_timeout_seconds),
            idle_timeout: Duration::from_secs(limits.idle_timeout_seconds),
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .max_headers(self.headers_max_count)
            .max_buf_size(self.headers_max_bytes as usize)
            // The watchdog tells slow headers from an idle connection; this one can't.
            .header_read_timeout(None);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(self.headers_max_bytes)
            .max_concurrent_streams(MULTIPLEXED_REQUESTS)
            .keep_alive_interval(self.idle_timeout)
            .keep_alive_timeout(self.header_timeout);
        builder
    }
}

/// Serves one connection to its end: the peer's, the drain's, or the watchdog's.
pub(super) async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    options: &ConnectionOptions,
    clock: SharedClock,
    router: Router,
    watcher: Watcher,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Activity::new(clock);
    let service = service_fn(|request: Request<Incoming>| {
        let running = activity.request(request.version() >= Version::HTTP_2);
        // HTTP/2 has no such limit of its own.
        let too_many = request.headers().len() > options.headers_max_count;
        let answer = router.clone().oneshot(prepare(request, peer, options));
        async move {
            let response: Result<Response, Infallible> =
                if too_many { Ok(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE.into_response()) } else { answer.await };
            drop(running);
            response
        }
    });
    let builder = options.builder();
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let connection = watcher.watch(builder.serve_connection(io, service));
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            debug!(%peer, %error, "connection failed");
        },
        reason = activity.until_useless(options.header_timeout, options.idle_timeout) => {
            debug!(%peer, reason, "connection closed");
        }
    }
}

/// The request with its client's address and with a body that must not pause for long.
fn prepare(request: Request<Incoming>, peer: SocketAddr, options: &ConnectionOptions) -> Request<Body> {
    let address = client_address(peer, request.headers(), &options.trusted_proxies);
    let mut request = request.map(|body| Body::new(TimeoutBody::new(options.body_timeout, body)));
    request.extensions_mut().insert(ClientAddress(address));
    request
}
