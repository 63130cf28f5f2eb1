//! The server as a process: started on a data directory, watched, ended or killed by its own process id.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};

use crate::loopback::Loopback;

/// How to start the server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Where everything is kept: `sundial.toml`, `data/` and the log.
    pub folder: PathBuf,
    /// `server_name`.
    pub server_name: String,
    /// More of the configuration.
    more: String,
    /// `storage.durability`.
    pub durability: &'static str,
    /// A library to load before all others.
    pub preload: Option<PathBuf>,
    /// More environment variables.
    pub environment: Vec<(String, String)>,
}

impl Launch {
    /// A server in this folder, durable.
    pub fn new(folder: &Path) -> Self {
        let (server_name, more) = ("harness.test".to_owned(), String::new());
        Self {
            folder: folder.to_owned(),
            server_name,
            more,
            durability: "sync",
            preload: None,
            environment: Vec::new(),
        }
    }

    /// The same as one of several that federate on loopback, under a name of its own.
    ///
    /// # Errors
    /// There is no port for it.
    pub fn federating(folder: &Path, loopback: &Loopback) -> anyhow::Result<Self> {
        let port = free_port()?;
        Ok(Self { server_name: format!("localhost:{port}"), more: loopback.config(port), ..Self::new(folder) })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<Server> {
        let port = free_port()?;
        let config = self.folder.join("sundial.toml");
        fs::write(&config, self.config(port))?;
        let log = fs::File::options().append(true).create(true).open(self.folder.join("server.log"))?;
        let mut command = Command::new(binary()?);
        command.arg("serve").arg("--config").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
        command.envs(self.environment.iter().cloned());
        let child = command.spawn().context("the server starts")?;
        let mut server = Server { child, base: format!("http://127.0.0.1:{port}") };
        server.wait_until_ready(&self.folder).await?;
        Ok(server)
    }

    /// Makes the search index anew from the rooms. No server may run.
    pub fn rebuild_search(&self) -> anyhow::Result<()> {
        let config = self.folder.join("sundial.toml");
        fs::write(&config, self.config(0))?;
        let status = Command::new(binary()?).args(["search", "rebuild", "--config"]).arg(&config).status()?;
        anyhow::ensure!(status.success(), "the search index could not be made");
        Ok(())
    }

    fn config(&self, port: u16) -> String {
        format!(
            r#"server_name = "{server_name}"
data_dir = "{data}"
metrics = true

[[listeners]]
bind = "127.0.0.1:{port}"

[registration]
mode = "open"

[limits]
enforce = false
password_hash_memory_kib = 64
password_hash_passes = 1

[storage]
durability = "{durability}"

[delayed_events]
max_scheduled_per_user = 2000000
{more}"#,
            server_name = self.server_name,
            more = self.more,
            data = self.data().display(),
            durability = self.durability,
        )
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The server's binary: `$SUNDIAL`, or the one beside this program.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("SUNDIAL") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?.with_file_name("sundial");
    if !path.exists() {
        bail!(
            "{} is missing: build it with `cargo build --release -p sundial`, or name one in SUNDIAL",
            path.display()
        );
    }
    Ok(path)
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://address:port`.
    pub base: String,
}

impl Server {
    async fn wait_until_ready(&mut self, folder: &Path) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).build()?;
        for _ in 0..6_000 {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(folder.join("server.log")).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(5).collect();
                bail!(
                    "the server ended at its start ({status}): {}",
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            let answer = http.get(format!("{}/_matrix/client/versions", self.base)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the server did not answer within its time")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process at once, as SIGKILL does, and waits until it is gone.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to end and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let status = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status()?;
        anyhow::ensure!(status.success(), "the server could not be signalled");
        for _ in 0..1_000 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the server did not end within 10 s")
    }

    /// A line of `/proc/PID/status` in KiB: `VmRSS` or `VmHWM`.
    pub fn memory_kib(&self, field: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).context("the field exists")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Lets the peak of memory (`VmHWM`) begin anew at what is used now.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid()), "5")?)
    }

    /// The processor time used so far.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a process has a name")?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        // Linux counts in hundredths of a second on every machine that this runs on.
        Ok(Duration::from_millis(10 * ticks))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
