//! Sockets: plain or TLS, HTTP/1.1 and HTTP/2, bounded in time and size, drained on shutdown.

mod activity;
mod address;
mod connection;
mod tls;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use primitives::SharedClock;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use self::{connection::ConnectionOptions, tls::ReloadableTls};
use crate::config::{Config, Limits, Listener};

/// Pause after `accept` failed: most likely there are no file descriptors left, and trying at once again only burns time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Every socket of the configuration, bound and ready.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Socket>,
    clock: SharedClockDebug,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Socket {
    /// None once it serves.
    listener: Option<TcpListener>,
    address: SocketAddr,
    tls: Option<Arc<ReloadableTls>>,
    options: Listener,
}

/// A clock has nothing to show.
struct SharedClockDebug(SharedClock);

impl std::fmt::Debug for SharedClockDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Listeners {
    /// Binds every socket and reads every certificate, so that what is wrong with them shows before anything else starts.
    ///
    /// # Errors
    /// An address that can't be bound or a certificate that can't be used.
    pub async fn bind(config: &Config, clock: SharedClock) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for options in &config.listeners {
            let tls = options.tls.as_ref().map(ReloadableTls::load).transpose()?.map(Arc::new);
            let listener =
                TcpListener::bind(options.bind).await.with_context(|| format!("can't listen on {}", options.bind))?;
            let address = listener.local_addr()?;
            sockets.push(Socket { listener: Some(listener), address, tls, options: options.clone() });
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Ok(Self { sockets, clock: SharedClockDebug(clock), limits: config.limits.clone(), stop, tasks })
    }

    /// The URL of each socket, with the port that it really has.
    pub fn urls(&self) -> Vec<String> {
        let scheme = |socket: &Socket| if socket.tls.is_some() { "https" } else { "http" };
        self.sockets.iter().map(|socket| format!("{}://{}", scheme(socket), socket.address)).collect()
    }

    /// Starts to serve `router` on every socket.
    pub fn serve(&mut self, router: &Router) {
        for socket in &mut self.sockets {
            let Some(listener) = socket.listener.take() else { continue };
            let options = Arc::new(ConnectionOptions::new(&self.limits, &socket.options.trusted_proxies));
            let accept = Accept {
                listener,
                tls: socket.tls.clone(),
                options,
                clock: self.clock.0.clone(),
                router: router.clone(),
                stop: self.stop.clone(),
                tasks: self.tasks.clone(),
            };
            self.tasks.spawn(accept.run());
        }
        for url in self.urls() {
            info!(%url, "listening");
        }
    }

    /// Reads the certificates again; connections that are open keep theirs.
    ///
    /// # Errors
    /// The first certificate that can't be used; it and those after it stay as they were.
    pub fn reload_certificates(&self) -> anyhow::Result<()> {
        self.sockets.iter().filter_map(|socket| socket.tls.as_ref()).try_for_each(|tls| tls.reload())
    }

    /// Accepts no more connections, lets running requests end for at most `grace`, then closes what is left.
    pub async fn drain(&self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => debug!("every connection is drained"),
            () = self.clock.0.sleep(grace) => warn!(tasks = self.tasks.len(), "connections are cut off after the grace period"),
        }
    }
}

/// One socket's loop.
struct Accept {
    listener: TcpListener,
    tls: Option<Arc<ReloadableTls>>,
    options: Arc<ConnectionOptions>,
    clock: SharedClock,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Accept {
    async fn run(self) {
        let graceful = GracefulShutdown::new();
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "a connection can't be accepted");
                        self.clock.sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            self.start(stream, peer, &graceful);
        }
        // Connections hold the router, and through it the whole server; they must end before it is taken apart.
        drop(self.listener);
        graceful.shutdown().await;
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr, graceful: &GracefulShutdown) {
        let (options, clock, router) = (self.options.clone(), self.clock.clone(), self.router.clone());
        let (tls, watcher) = (self.tls.as_ref().map(|tls| tls.acceptor()), graceful.watcher());
        self.tasks.spawn(async move {
            // A reply is a few packets: never hold back the last one.
            let _ = stream.set_nodelay(true);
            let Some(acceptor) = tls else {
                return connection::serve(stream, peer, &options, clock, router, watcher).await;
            };
            let handshake = tokio::time::timeout(options.header_timeout, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) => connection::serve(stream, peer, &options, clock, router, watcher).await,
                Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}
