//! The life of the server, from the lock on its data directory to the last drained connection.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use axum::Router;
use delayed_events::DelayedEvents;
use metrics_exporter_prometheus::PrometheusHandle;
use primitives::{Random, SharedClock, SystemClock};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    admin::{self, AdminSocket, Answer, Request, federation::FederationDesk, reports::ReportDesk},
    backup,
    config::Config,
    listeners::Listeners,
    lock::DirectoryLock,
    logging::{self, LogLevels},
    operations,
    wiring::{Accounts, Stack},
};

/// How long running requests may take to end after SIGTERM. With what follows, the way down stays within five seconds.
const DRAIN_GRACE: Duration = Duration::from_millis(2_500);
/// How long background work may take to stop after that.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// How long the store may take to be put in order. What is cut off here costs the next start a little time, and no data.
const CLOSE_GRACE: Duration = Duration::from_millis(1_500);

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
    let signals = Signals::listen()?;
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let (clock, random) = (SystemClock::shared(), Random::os());
    let mut listeners = Listeners::bind(config, clock.clone()).await?;
    // Before the crates are opened: what they take hold of before there is a recorder is never recorded.
    let metrics = config.metrics.then(operations::start_metrics).transpose()?;
    let stack = Stack::open(config, &clock, &random).await?;
    let socket = AdminSocket::bind(&config.data_dir)?;

    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    if let Some(metrics) = &metrics {
        tasks.spawn(operations::keep_metrics(metrics.clone(), clock.clone(), stop.clone()));
    }
    listeners.serve(&router(&stack, metrics, &clock));
    stack.start(&tasks, &stop);
    let desk = Desk {
        accounts: stack.accounts().clone(),
        delayed: stack.delayed().clone(),
        reports: stack.report_desk(),
        federation: stack.federation_desk(),
        config: Arc::new(config.clone()),
        clock: clock.clone(),
    };
    let administer = move |request, progress| desk.clone().administer(request, progress);
    tasks.spawn(socket.serve(administer, stop.clone()));
    greet(config, &listeners, stack.accounts(), say).await?;
    notify(&NotifyState::Ready);

    let ended = tokio::select! {
        () = signals.until_end(&listeners, &levels, reload) => Ok(()),
        reason = stack.failed() => {
            Err(anyhow!("the store can't be written any more, so the server ends; what was acknowledged is kept: {reason}"))
        }
    };
    notify(&NotifyState::Stopping);
    stop.cancel();
    listeners.drain(DRAIN_GRACE).await;
    tasks.close();
    if tokio::time::timeout(STOP_GRACE, tasks.wait()).await.is_err() {
        warn!(tasks = tasks.len(), "background work did not stop in time");
    }
    if tokio::time::timeout(CLOSE_GRACE, stack.close()).await.is_err() {
        warn!("the store was not put in order in time; the next start does it");
    }
    info!("stopped");
    ended
}

/// All that the listeners serve.
fn router(stack: &Stack, metrics: Option<PrometheusHandle>, clock: &SharedClock) -> Router {
    let measured = metrics.is_some();
    let router = operations::survive_panics(operations::router(metrics).merge(stack.router()));
    if measured { operations::measure(router, clock.clone()) } else { router }
}

/// Tells the person who started the server where it is and, until somebody has used it, the token of the first start.
async fn greet(config: &Config, listeners: &Listeners, accounts: &Accounts, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    if let Some(token) = accounts.users.first_start_token().await? {
        say("Register an account with this token, in any client that asks for one. It is good once, whatever");
        say("registration.mode says, and its user becomes an administrator. It is shown until somebody has used it.");
        say(&format!("    registration token: {token}"));
        say("Or make an administrator at the command line: sundial user create --config FILE NAME --admin");
    }
    let urls = listeners.urls().join(", ");
    say(&format!("Sundial {} serves {} on {urls}", env!("CARGO_PKG_VERSION"), config.server_name));
    Ok(())
}

/// What answers the administrator.
#[derive(Clone)]
struct Desk {
    accounts: Accounts,
    delayed: DelayedEvents,
    reports: ReportDesk,
    federation: FederationDesk,
    config: Arc<Config>,
    clock: SharedClock,
}

impl Desk {
    /// Answers what the administrator asks over the socket.
    async fn administer(self, request: Request, progress: mpsc::Sender<Answer>) -> Answer {
        let failed = |error: anyhow::Error| Answer::Failed { error: format!("{error:#}") };
        match request {
            Request::Ping => Answer::Pong,
            Request::CreateUser(new) => match self.accounts.create_user(new).await {
                Ok(user_id) => Answer::UserCreated { user_id: user_id.into() },
                Err(error) => failed(error),
            },
            Request::Backup { directory } => {
                match backup::take(&self.config, &self.accounts.storage, &directory, &self.clock).await {
                    Ok(()) => {
                        info!(directory = %directory.display(), "a backup was taken");
                        Answer::BackedUp
                    }
                    Err(error) => failed(error),
                }
            }
            Request::Delayed { ask } => admin::delayed::administer(&self.delayed, ask, progress, true).await,
            Request::Reports { ask } => match self.reports.answer(&ask).await {
                Ok(told) => Answer::Reports { told },
                Err(error) => failed(error),
            },
            Request::Federation { ask } => match self.federation.answer(&ask).await {
                Ok(told) => Answer::Federation { told },
                Err(error) => failed(error),
            },
        }
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
