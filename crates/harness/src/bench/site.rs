//! The parts of a server in this process, on RocksDB with every commit synced, with one user and without limits on rates.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc, time::Duration};

use ::rooms::Rooms;
use primitives::{Random, ServerKey, SharedClock, SystemClock};
use ruma::{OwnedUserId, ServerName, UserId, server_name};
use storage::{Durability, Storage};
use users::{Authority, NewAccount, Users};

use crate::process::Launch;

/// The parts, and the user.
pub(super) struct Site {
    pub(super) clock: SharedClock,
    pub(super) storage: Storage,
    pub(super) users: Users,
    pub(super) rooms: Rooms,
    pub(super) alice: OwnedUserId,
}

impl Site {
    /// A server in a folder; the user is made if the folder is new.
    pub(super) async fn open(folder: &Path) -> anyhow::Result<Self> {
        let (name, key) = (server_name!("hs.test"), ServerKey::generate(&Random::os()));
        Self::on(storage::Options::directory(folder.join("store"), name.as_str()), name, key).await
    }

    /// The store of a server that does not run, to fill it by the same code as the server would, without HTTP and without syncing each commit:
    /// all is on disk once it is [closed](Self::close).
    pub(super) async fn of(launch: &Launch) -> anyhow::Result<Self> {
        let name = <&ServerName>::try_from(launch.server_name.as_str())?;
        let options = storage::Options::directory(launch.data().join("store"), name.as_str());
        let options = storage::Options { durability: Durability::Os, ..options };
        Self::on(options, name, own_key(&launch.data())?).await
    }

    async fn on(options: storage::Options, name: &ServerName, key: ServerKey) -> anyhow::Result<Self> {
        let (clock, random) = (SystemClock::shared(), Random::os());
        let storage = Storage::open(options, &clock, &random)?;
        let mut options = users::Options::new(name.to_owned());
        options.limits.enforce = false;
        (options.password_hash.memory_kib, options.password_hash.iterations) = (8, 1);
        let users = Users::open(storage.clone(), clock.clone(), random.clone(), options).await?;
        let account = NewAccount {
            authority: Authority::Administrator { admin: false, user_type: None },
            username: Some("alice".to_owned()),
            password: None,
            display_name: None,
            session: None,
        };
        let alice = UserId::parse(format!("@alice:{name}"))?;
        if users.nid(&alice).await?.is_none() {
            users.register(account).await?;
        }
        let key = Arc::new(key);
        let options = ::rooms::Options::new(name.to_owned());
        let rooms = Rooms::open(storage.clone(), users.clone(), clock.clone(), random, key, None, options);
        Ok(Self { clock, storage, users, rooms, alice })
    }

    /// Lets everything be written, and ends.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        self.rooms.close().await;
        Ok(self.storage.close().await?)
    }
}

/// The signing key of a data directory, which is made if there is none: the server that starts there signs with it too.
fn own_key(data: &Path) -> anyhow::Result<ServerKey> {
    let path = data.join("signing.key");
    if let Ok(line) = fs::read_to_string(&path) {
        return Ok(ServerKey::parse(&line)?);
    }
    fs::create_dir_all(data)?;
    let key = ServerKey::generate(&Random::os());
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(key.to_line().as_bytes())?;
    Ok(key)
}

/// The processor time that this process has used so far.
pub(super) fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // utime and stime, in ticks of 10 ms.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
