//! The life of the server, from the lock on its data directory to the last drained connection.

use std::time::Duration;

use anyhow::Context;
use primitives::SystemClock;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    admin::{AdminSocket, Answer, Request},
    config::Config,
    listeners::Listeners,
    lock::DirectoryLock,
    logging::{self, LogLevels},
    operations,
};

/// How long running requests may take to end after SIGTERM. With the rest of the way down it stays within five seconds.
const DRAIN_GRACE: Duration = Duration::from_secs(3);
/// How long background work may take to stop after that.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT. `reload` reads the configuration again (on SIGHUP); `say` tells the person who started the server.
///
/// # Errors
/// Whatever keeps the server from starting, and a store that has failed.
pub async fn serve(
    config: &Config,
    reload: &dyn Fn() -> anyhow::Result<Config>,
    say: &dyn Fn(&str),
) -> anyhow::Result<()> {
    let levels = logging::start(&config.log)?;
    // Every TLS client and server in this process uses the one provider that is built in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let clock = SystemClock::shared();
    let mut listeners = Listeners::bind(config, clock.clone()).await?;
    let signals = Signals::listen()?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let metrics = config.metrics.then(operations::start_metrics).transpose()?;
    if let Some(metrics) = &metrics {
        tasks.spawn(operations::keep_metrics(metrics.clone(), clock.clone(), stop.clone()));
    }
    let admin = AdminSocket::bind(&config.data_dir)?;
    let mut router = operations::survive_panics(operations::router(config, metrics.clone()));
    if metrics.is_some() {
        router = operations::measure(router, clock.clone());
    }
    listeners.serve(&router);
    drop(router);
    tasks.spawn(admin.serve(administer, stop.clone()));
    say(&format!(
        "Sundial {} serves {} on {}",
        env!("CARGO_PKG_VERSION"),
        config.server_name,
        listeners.urls().join(", ")
    ));
    notify(&NotifyState::Ready);

    signals.until_end(&listeners, &levels, reload).await;
    notify(&NotifyState::Stopping);
    stop.cancel();
    listeners.drain(DRAIN_GRACE).await;
    tasks.close();
    if tokio::time::timeout(STOP_GRACE, tasks.wait()).await.is_err() {
        warn!(tasks = tasks.len(), "background work did not stop in time");
    }
    info!("stopped");
    Ok(())
}

/// Answers what the administrator asks over the socket.
async fn administer(request: Request) -> Answer {
    match request {
        Request::Ping => Answer::Pong,
        Request::CreateUser(_) => Answer::Failed { error: "accounts are not served yet".to_owned() },
    }
}

/// The signals that the server answers to, caught before it says that it is ready.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let caught = |kind| signal(kind).context("signals can't be caught");
        let (terminate, interrupt) = (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: caught(SignalKind::hangup())? })
    }

    /// Waits for the signal to end; reloads on each SIGHUP.
    async fn until_end(mut self, listeners: &Listeners, levels: &LogLevels, read: &dyn Fn() -> anyhow::Result<Config>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return info!("SIGTERM: draining"),
                _ = self.interrupt.recv() => return info!("SIGINT: draining"),
                _ = self.hangup.recv() => match reload(listeners, levels, read) {
                    Ok(()) => info!("certificates and log levels are read again"),
                    Err(error) => error!(error = format!("{error:#}"), "reload failed; what can't be read stays as it was"),
                },
            }
        }
    }
}

fn reload(listeners: &Listeners, levels: &LogLevels, read: &dyn Fn() -> anyhow::Result<Config>) -> anyhow::Result<()> {
    levels.set(&read()?.log.filter)?;
    listeners.reload_certificates()
}

/// Tells systemd, if it asked to be told.
fn notify(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        warn!(%error, "the service manager can't be told");
    }
}
