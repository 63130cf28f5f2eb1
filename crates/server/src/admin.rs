//! The administrator's way in from the same machine: `admin.sock` in the data directory, readable by its owner only. Each line is a
//! request in JSON, each answered by a line; an answer that takes long is preceded by lines that say how far it is.

pub mod delayed;
pub mod federation;
pub mod reports;

use std::{
    future::Future,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

/// Longest request, in bytes.
const LINE_MAX: u64 = 64 << 10;
/// Longest answer, in bytes.
const ANSWER_MAX: u64 = 8 << 20;
/// Lines of progress that wait for somebody who reads slowly.
const PROGRESS_MAX: usize = 8;
/// Longest silence on an open connection.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Whether anybody is there.
    Ping,
    /// Makes an account.
    CreateUser(CreateUser),
    /// Takes a backup.
    Backup {
        /// The directory that is made for it.
        directory: PathBuf,
    },
    /// Something about delayed events.
    Delayed {
        /// What.
        ask: delayed::Ask,
    },
    /// Something about what users have reported.
    Reports {
        /// What.
        ask: reports::Ask,
    },
    /// Something about other servers.
    Federation {
        /// What.
        ask: federation::Ask,
    },
}

/// An account to make.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// Local part or full user id.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Whether it administers the server.
    #[serde(default)]
    pub admin: bool,
}

impl std::fmt::Debug for CreateUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateUser").field("name", &self.name).field("admin", &self.admin).finish_non_exhaustive()
    }
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Answer {
    /// The server runs.
    Pong,
    /// The account is there.
    UserCreated {
        /// Its id.
        user_id: String,
    },
    /// The backup is whole.
    BackedUp,
    /// What was asked about delayed events.
    Delayed {
        /// The answer.
        told: delayed::Told,
    },
    /// How far what was asked is. Another line follows.
    Progress {
        /// How far.
        told: delayed::Told,
    },
    /// What was asked about reports.
    Reports {
        /// The answer.
        told: reports::Told,
    },
    /// What was asked about other servers.
    Federation {
        /// The answer.
        told: federation::Told,
    },
    /// It was not done.
    Failed {
        /// Why.
        error: String,
    },
}

/// Where the socket of a data directory is.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// The socket, bound. The caller holds the lock of the data directory, so that a file in its place is a dead server's.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Binds the socket with mode 0600.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(data_dir: &Path) -> anyhow::Result<Self> {
        let path = socket_path(data_dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} is in the way", path.display()));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&path).with_context(|| format!("can't listen on {}", path.display()))?;
        // The directory is its owner's alone until the mode is set.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers requests until told to stop, then removes the socket. The handler may say on the channel how far it is; it is dropped when
    /// whoever asked no longer listens.
    pub async fn serve<H, F>(self, handler: H, stop: CancellationToken)
    where
        H: Fn(Request, mpsc::Sender<Answer>) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let (handler, tasks) = (Arc::new(handler), TaskTracker::new());
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let (handler, stop) = (handler.clone(), stop.clone());
                    tasks.spawn(async move {
                        if let Some(Err(error)) = stop.run_until_cancelled(converse(stream, &*handler)).await {
                            debug!(%error, "an administrator's connection failed");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "an administrator's connection can't be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let _ = std::fs::remove_file(&self.path);
        tasks.close();
        tasks.wait().await;
    }
}

async fn converse<H, F>(mut stream: UnixStream, handler: &H) -> std::io::Result<()>
where
    H: Fn(Request, mpsc::Sender<Answer>) -> F,
    F: Future<Output = Answer>,
{
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let mut bounded = (&mut reader).take(LINE_MAX);
        let length =
            tokio::time::timeout(SILENCE_MAX, bounded.read_line(&mut line)).await.map_err(std::io::Error::from)??;
        if length == 0 {
            return Ok(());
        }
        let request = match serde_json::from_str(&line) {
            Ok(request) => request,
            Err(error) => {
                let error = format!("not a request: {error}");
                writer.write_all(&to_line(&Answer::Failed { error })?).await?;
                continue;
            }
        };
        let (progress, mut told) = mpsc::channel(PROGRESS_MAX);
        let mut answering = pin!(handler(request, progress));
        let answer = loop {
            tokio::select! {
                answer = &mut answering => break answer,
                Some(so_far) = told.recv() => writer.write_all(&to_line(&so_far)?).await?,
            }
        };
        while let Ok(so_far) = told.try_recv() {
            writer.write_all(&to_line(&so_far)?).await?;
        }
        writer.write_all(&to_line(&answer)?).await?;
    }
}

/// A message as it goes over the socket.
fn to_line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Asks the server that runs on this data directory. None if none runs. `progress` hears what comes before the answer.
///
/// # Errors
/// A server that can't be spoken to.
pub async fn ask(
    data_dir: &Path,
    request: &Request,
    mut progress: impl FnMut(&delayed::Told),
) -> anyhow::Result<Option<Answer>> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let path = socket_path(data_dir);
    let mut stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("can't speak to the server at {}", path.display())),
    };
    stream.write_all(&to_line(request)?).await?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        (&mut reader).take(ANSWER_MAX).read_line(&mut line).await?;
        anyhow::ensure!(line.ends_with('\n'), "the server ended before it answered");
        match serde_json::from_str(&line)? {
            Answer::Progress { told } => progress(&told),
            answer => return Ok(Some(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_answered_and_the_socket_is_private_and_removed() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let data = directory.path().to_owned();
        assert_eq!(ask(&data, &Request::Ping, |_| ()).await.expect("nobody there"), None);
        // What a killed server leaves behind.
        drop(std::os::unix::net::UnixListener::bind(socket_path(&data)).expect("bound"));
        assert_eq!(ask(&data, &Request::Ping, |_| ()).await.expect("nobody there"), None);

        let socket = AdminSocket::bind(&data).expect("bound over the dead one");
        let mode = std::fs::metadata(socket_path(&data)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(socket.serve(
            |request, progress: mpsc::Sender<Answer>| async move {
                let told = |count| delayed::Told::Cancelled { count };
                match request {
                    Request::Ping => Answer::Pong,
                    Request::CreateUser(user) => Answer::UserCreated { user_id: user.name },
                    Request::Delayed { .. } => {
                        for count in 0..3 {
                            progress.send(Answer::Progress { told: told(count) }).await.expect("somebody listens");
                        }
                        Answer::Delayed { told: told(3) }
                    }
                    Request::Backup { .. } => Answer::BackedUp,
                    Request::Reports { .. } => Answer::Reports { told: reports::Told::Deleted },
                    Request::Federation { .. } => Answer::Federation { told: federation::Told::Retried },
                }
            },
            stop.clone(),
        ));
        assert_eq!(ask(&data, &Request::Ping, |_| ()).await.expect("answered"), Some(Answer::Pong));
        let user = CreateUser { name: "alice".to_owned(), password: "x".to_owned(), admin: true };
        let answer = ask(&data, &Request::CreateUser(user), |_| ()).await.expect("answered");
        assert_eq!(answer, Some(Answer::UserCreated { user_id: "alice".to_owned() }));

        let request = Request::Delayed { ask: delayed::Ask::Drain { send: true } };
        let mut heard = Vec::new();
        let answer = ask(&data, &request, |told| heard.push(told.clone())).await.expect("answered");
        let told = |count| delayed::Told::Cancelled { count };
        assert_eq!((heard, answer), ((0..3).map(told).collect(), Some(Answer::Delayed { told: told(3) })));

        let request = Request::Reports { ask: reports::Ask::Delete { id: 7 } };
        let answer = ask(&data, &request, |_| ()).await.expect("answered");
        assert_eq!(answer, Some(Answer::Reports { told: reports::Told::Deleted }));

        let mut raw = UnixStream::connect(socket_path(&data)).await.expect("connected");
        raw.write_all(b"{\"command\":\"dance\"}\n").await.expect("written");
        let mut line = String::new();
        BufReader::new(raw).read_line(&mut line).await.expect("answered");
        assert!(line.contains("not a request"), "{line}");

        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert!(!socket_path(&data).exists());
    }

    #[test]
    fn a_password_is_not_shown() {
        let user = CreateUser { name: "alice".to_owned(), password: "secret".to_owned(), admin: false };
        assert!(!format!("{:?}", Request::CreateUser(user)).contains("secret"));
    }
}
