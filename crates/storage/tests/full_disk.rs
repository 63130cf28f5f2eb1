//! What happens when RocksDB cannot write: a full file system, files that may not grow, a place that cannot be written to.
//!
//! In a binary of its own, because the limit on file lengths is the process's.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use primitives::{ManualClock, Random, Rix, RoomNid, SharedClock, UnixMillis};
use storage::{Batch, CommitError, OpenError, Options, Raw, Storage, schema::rooms::EventJson};

const ROW_BYTES: usize = 64 << 10;
/// More rows than fit into any of the places below.
const TOO_MANY_ROWS: u32 = 2_000;

fn open(path: &Path) -> Result<Storage, OpenError> {
    let clock: SharedClock = ManualClock::new(UnixMillis(1_000_000));
    let options = Options { memory_budget_bytes: 16 << 20, ..Options::directory(path, "example.org") };
    Storage::open(options, &clock, &Random::os())
}

fn row(number: u32) -> Vec<u8> {
    let mut bytes = vec![0; ROW_BYTES];
    // Not compressible, so that the tables on disk grow as the log does.
    Random::seeded(u64::from(number)).fill(&mut bytes);
    bytes
}

/// Commits rows until one is refused; answers with the number of rows acknowledged and the refusal.
async fn fill(storage: &Storage) -> (u32, CommitError) {
    for number in 0..TOO_MANY_ROWS {
        let mut batch = Batch::new();
        batch.put::<EventJson>(&(RoomNid(1), Rix(number)), &Raw(row(number)));
        if let Err(error) = storage.commit(batch).await {
            return (number, error);
        }
    }
    panic!("the disk never filled up");
}

/// Fills the disk, makes room again, and checks that nothing that was acknowledged is missing.
async fn run_out_and_recover(path: &Path, make_room: impl FnOnce()) {
    let storage = open(path).expect("opens");
    let (acknowledged, refusal) = fill(&storage).await;
    assert!(acknowledged > 10, "there was room for some: {acknowledged}");
    assert!(matches!(refusal, CommitError::Failed(_)), "{refusal}");
    let reason =
        tokio::time::timeout(Duration::from_secs(5), storage.failed()).await.expect("the failure is announced");
    assert_eq!(refusal.to_string(), format!("the store has failed: {reason}"));
    make_room();
    let mut batch = Batch::new();
    batch.put::<EventJson>(&(RoomNid(2), Rix(0)), &Raw(vec![1]));
    storage.commit(batch).await.expect_err("nothing is acknowledged after a failure, even if there is room again");
    drop(storage);

    let view = open(path).expect("opens again").view();
    for number in 0..acknowledged {
        let stored = view.get::<EventJson>(&(RoomNid(1), Rix(number))).await.expect("readable");
        assert!(stored == Some(Raw(row(number))), "row {number} of {acknowledged}");
    }
    assert_eq!(view.get::<EventJson>(&(RoomNid(2), Rix(0))).await.expect("readable"), None);
}

/// A small file system of its own, in a mount namespace that a child process holds.
struct SmallFileSystem {
    holder: Child,
    root: PathBuf,
}

impl SmallFileSystem {
    /// `None` where this user may not mount anything even in a namespace of its own.
    fn mount() -> Option<Self> {
        let script = "mount -t tmpfs -o size=48m none /mnt && echo mounted && exec cat";
        for namespace in [&["-m"][..], &["-U", "-r", "-m"]] {
            let command = Command::new("unshare")
                .args(namespace)
                .args(["sh", "-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            let Ok(mut holder) = command else { continue };
            let mut line = String::new();
            let read = holder.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
            let root = PathBuf::from(format!("/proc/{}/root/mnt", holder.id()));
            let system = Self { holder, root };
            if matches!(read, Some(Ok(_))) && line == "mounted\n" && std::fs::read_dir(&system.root).is_ok() {
                return Some(system);
            }
        }
        None
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        // It ends by itself too, when its standard input closes.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Limits the length of the files that this process may write, by the tool that util-linux has for it.
fn limit_file_length(bytes: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &std::process::id().to_string(), &format!("--fsize={bytes}:")]).status();
    assert!(status.expect("prlimit runs").success());
}

#[tokio::test]
async fn when_the_disk_is_full_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    if let Some(system) = SmallFileSystem::mount() {
        let ballast = system.root.join("ballast");
        std::fs::write(&ballast, vec![0; 20 << 20]).expect("there is room for the ballast");
        run_out_and_recover(&system.root.join("db"), || std::fs::remove_file(&ballast).expect("removable")).await;
    }
    // Everywhere, also where nothing can be mounted: files that may not grow. The signal that comes with it would end the process.
    let _ignored =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(25)).expect("SIGXFSZ can be caught");
    let directory = tempfile::tempdir().expect("a temporary directory");
    limit_file_length("3000000");
    run_out_and_recover(directory.path(), || limit_file_length("unlimited")).await;
}

#[test]
fn a_place_that_cannot_be_written_to_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "not a directory").expect("writable");
    // No user, not even root, makes files in /proc/self.
    for place in [Path::new("/proc/self"), Path::new("/proc/self/new"), &file, &file.join("below")] {
        let refused = open(place).expect_err("not a place for a store");
        assert!(matches!(refused, OpenError::Failed(_)), "{refused}");
        assert!(refused.to_string().contains(&*place.to_string_lossy()), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), "not a directory");
}
