//! Opening, closing, whose data it is, schema versions, positions across starts.

use std::time::Duration;

use super::{Bench, Kind};
use crate::{
    Batch, CommitError, Durability, OpenError, Options, Raw, Text,
    migrate::{Migration, MigrationError, Migrator},
    open::{BUILD, Build},
    schema::{meta::Database, testing::Plain},
};

fn note(key: u8, text: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put::<Plain>(&(1, Text::new("note"), key), &Raw(text.as_bytes().to_vec()));
    batch
}

async fn read(storage: &crate::Storage, key: u8) -> Option<String> {
    let value = storage.view().get::<Plain>(&(1, Text::new("note"), key)).await.expect("readable");
    value.map(|raw| String::from_utf8(raw.0).expect("text"))
}

#[tokio::test]
async fn what_was_committed_is_there_after_closing_and_after_dropping() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        storage.commit(note(1, "closed")).await.expect("commits");
        storage.close().await.expect("closes");
        assert!(matches!(storage.commit(note(1, "late")).await, Err(CommitError::Failed(_))), "{kind:?}");
        drop(storage);
        let storage = bench.open();
        storage.commit(note(2, "dropped")).await.expect("commits");
        drop(storage);
        let storage = bench.open();
        assert_eq!(read(&storage, 1).await.as_deref(), Some("closed"), "{kind:?}");
        assert_eq!(read(&storage, 2).await.as_deref(), Some("dropped"), "{kind:?}");
    }
}

#[tokio::test]
async fn positions_go_on_from_the_clock_or_from_the_last_start_whichever_is_later() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let first = bench.open();
        assert!(first.position().0 > 1_000_000 * 256);
        let last = first.commit(note(1, "a")).await.expect("commits");
        assert_eq!(last, first.view().position());
        drop(first);
        bench.clock.step_wall(primitives::UnixMillis(5));
        let second = bench.open();
        assert!(second.position() > last, "{kind:?}: the clock went back, positions do not");
        drop(second);
        bench.clock.step_wall(primitives::UnixMillis(2_000_000));
        bench.clock.advance(Duration::from_millis(1));
        let third = bench.open();
        assert!(third.position().0 > 2_000_001 * 256, "{kind:?}");
    }
}

#[tokio::test]
async fn the_secret_and_the_epoch_stay_and_the_boot_id_changes() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let identity = |s: &crate::Storage| (s.hash().hash16(&[b"x"]), s.epoch(), s.boot_id());
        let before = identity(&bench.open());
        let after = identity(&bench.open());
        assert_eq!((before.0, before.1), (after.0, after.1), "{kind:?}");
        assert_ne!(before.2, after.2, "{kind:?}");
        let restored = bench.open_as(Options { restored: true, ..bench.options() }, BUILD).expect("opens");
        assert_ne!(restored.epoch(), before.1, "{kind:?}");
        let epoch = restored.epoch();
        drop(restored);
        assert_eq!(bench.open().epoch(), epoch, "{kind:?}: the new epoch is kept");
    }
}

#[tokio::test]
async fn a_copy_of_a_store_in_use_holds_what_was_committed_before_it() {
    let (bench, elsewhere) = (Bench::new(Kind::Rocks), tempfile::tempdir().expect("a temporary directory"));
    let store = bench.open();
    store.commit(note(1, "before")).await.expect("commits");
    let copy = elsewhere.path().join("copy");
    let position = store.copy_to(copy.clone()).await.expect("copied");
    assert_eq!(position, store.position());
    store.copy_to(copy.clone()).await.expect_err("the directory is there already");
    store.commit(note(2, "after")).await.expect("commits");
    let options = Options { restored: true, ..Options::directory(&copy, "example.org") };
    let copied = bench.open_as(options, BUILD).expect("opens");
    assert_eq!((read(&copied, 1).await.as_deref(), read(&copied, 2).await), (Some("before"), None));
    assert_eq!(read(&store, 2).await.as_deref(), Some("after"));
    assert_ne!(copied.epoch(), store.epoch());
    assert!(Bench::new(Kind::Inline).open().copy_to(elsewhere.path().join("memory")).await.is_err());
}

#[tokio::test]
async fn another_servers_data_is_refused() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        drop(bench.open());
        let options = Options { server_name: "example.com".to_owned(), ..bench.options() };
        let refused = bench.open_as(options, BUILD).expect_err("another server's");
        assert_eq!(refused.to_string(), "the data belongs to the server example.org, not to example.com", "{kind:?}");
        drop(bench.open());
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        drop(bench.open_as(bench.options(), Build { schema: 7, ..BUILD }).expect("opens"));
        let refused = bench.open_as(bench.options(), BUILD).expect_err("newer");
        assert!(matches!(refused, OpenError::Newer { found: 7, known: 1 }), "{kind:?}: {refused}");
        drop(bench.open_as(bench.options(), Build { schema: 7, ..BUILD }).expect("still opens as what it is"));
    }
}

fn shout(migrator: &mut Migrator<'_>) -> Result<(), MigrationError> {
    let key = (1, Text::new("note"), 1);
    let text = migrator.view().get_now::<Plain>(&key)?.unwrap_or_default();
    let mut batch = Batch::new();
    batch.put::<Plain>(&key, &Raw(text.0.to_ascii_uppercase()));
    migrator.commit(batch)?;
    Ok(())
}

fn fail(_: &mut Migrator<'_>) -> Result<(), MigrationError> {
    Err(CommitError::Failed("no".to_owned()).into())
}

const GOOD: &[Migration] = &[Migration { to: 1, run: fail }, Migration { to: 2, run: shout }];
const BAD: &[Migration] =
    &[Migration { to: 1, run: fail }, Migration { to: 2, run: shout }, Migration { to: 3, run: fail }];

#[tokio::test]
async fn an_older_schema_is_migrated_once_and_a_failed_migration_leaves_the_version_before_it() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        storage.commit(note(1, "quiet")).await.expect("commits");
        drop(storage);
        let failed = bench
            .open_as(bench.options(), Build { schema: 3, migrations: BAD, ..BUILD })
            .expect_err("the third step fails");
        assert!(matches!(failed, OpenError::Migration { to: 3, .. }), "{kind:?}: {failed}");
        let storage = bench.open_as(bench.options(), Build { schema: 2, migrations: GOOD, ..BUILD }).expect("opens");
        assert_eq!(read(&storage, 1).await.as_deref(), Some("QUIET"), "{kind:?}");
        assert_eq!(storage.view().get::<Database>(&()).await.expect("readable").expect("there").schema, 2);
        storage.commit(note(1, "quiet again")).await.expect("commits");
        drop(storage);
        let storage = bench.open_as(bench.options(), Build { schema: 2, migrations: GOOD, ..BUILD }).expect("opens");
        assert_eq!(read(&storage, 1).await.as_deref(), Some("quiet again"), "{kind:?}");
    }
}

#[tokio::test]
async fn a_directory_is_opened_once_at_a_time() {
    let bench = Bench::new(Kind::Rocks);
    let storage = bench.open();
    let refused = bench.open_as(bench.options(), BUILD).expect_err("locked");
    assert!(matches!(&refused, OpenError::InUse(path) if path == bench.path()), "{refused}");
    let view = storage.view();
    drop(storage);
    drop(view);
    drop(bench.open());
}

#[tokio::test]
async fn acknowledging_before_the_sync_is_a_choice() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open_as(Options { durability: Durability::Os, ..bench.options() }, BUILD).expect("opens");
        storage.commit(note(1, "kept by the system")).await.expect("commits");
        storage.close().await.expect("closes");
        drop(storage);
        assert_eq!(read(&bench.open(), 1).await.as_deref(), Some("kept by the system"), "{kind:?}");
    }
}

#[tokio::test]
async fn numbers_of_a_series_are_drawn_once_each_by_many_at_once_and_over_restarts() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        let draws = (0..20).map(|_| storage.next_number("room"));
        let mut numbers: Vec<u32> = futures_util::future::try_join_all(draws).await.expect("drawn");
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "{kind:?}");
        assert_eq!(storage.next_number("user").await.expect("drawn"), 1);
        drop(storage);
        assert_eq!(bench.open().next_number("room").await.expect("drawn"), 21, "{kind:?}");
    }
}
