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

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use hyper::client::conn::http2::{SendRequest, handshake};
    use hyper_util::server::graceful::GracefulShutdown;
    use primitives::{ManualClock, UnixMillis};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Whether the body came whole.
    async fn read(body: Body) -> StatusCode {
        match axum::body::to_bytes(body, 1_000).await {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// A connection to a server with the default limits, but a second for bodies; its watchdog sleeps.
    #[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with it")]
    fn connect() -> DuplexStream {
        let (client, stream) = duplex(1 << 20);
        tokio::spawn(async move {
            let limits = Limits { body_timeout_seconds: 1, ..Limits::default() };
            let options = ConnectionOptions::new(&limits, &[]);
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let router = Router::new().route("/", post(read));
            // Without its owner a watcher takes the server to be ending.
            let owner = GracefulShutdown::new();
            serve(stream, peer, &options, ManualClock::new(UnixMillis(0)), router, owner.watcher()).await;
        });
        client
    }

    #[expect(clippy::disallowed_methods, reason = "the runtime of a test ends with it")]
    async fn multiplexed() -> SendRequest<String> {
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(connect())).await.expect("speaks HTTP/2");
        tokio::spawn(connection);
        sender
    }

    #[tokio::test]
    async fn a_body_that_pauses_for_too_long_is_given_up() {
        let mut client = connect();
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n").await.expect("written");
        // Slow in all, but never silent for long.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(600)).await;
            client.write_all(b"x").await.expect("written");
        }
        let mut answer = vec![0; 12];
        let early = tokio::time::timeout(Duration::from_millis(500), client.read_exact(&mut answer)).await;
        assert!(early.is_err(), "the time starts anew with every byte");
        tokio::time::timeout(Duration::from_secs(30), client.read_exact(&mut answer))
            .await
            .expect("in time")
            .expect("an answer");
        assert_eq!(answer, b"HTTP/1.1 400");
    }

    #[tokio::test]
    async fn http2_requests_have_no_more_and_no_larger_headers_than_others() {
        let with = |count: usize, bytes: usize| {
            let mut request = Request::post("http://x/");
            for n in 0..count {
                request = request.header(format!("x-{n}"), "a".repeat(bytes));
            }
            request.body(String::new()).expect("a request")
        };
        let mut client = multiplexed().await;
        assert_eq!(client.send_request(with(90, 1)).await.expect("an answer").status(), StatusCode::OK);
        let many = client.send_request(with(120, 1)).await.expect("an answer");
        assert_eq!(many.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        let large = client.send_request(with(4, 8_000)).await;
        assert!(large.is_err() || large.is_ok_and(|answer| !answer.status().is_success()));
        assert_eq!(client.send_request(with(1, 1)).await.expect("still served").status(), StatusCode::OK);
    }
}
