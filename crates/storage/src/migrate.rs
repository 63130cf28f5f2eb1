//! Bringing an older database up to the schema of this build.

use primitives::StreamPosition;

use crate::{
    Batch, CommitError, OpenError, View,
    committer::Core,
    schema::meta::{Database, DatabaseRow},
};

/// One step from a schema version to the next. It may be interrupted anywhere and begun again, so each of its batches must leave the
/// database such that running it once more is right.
pub(crate) struct Migration {
    /// The version that the data has afterwards.
    pub(crate) to: u32,
    /// What is done.
    pub(crate) run: fn(&mut Migrator<'_>) -> Result<(), MigrationError>,
}

/// Why a migration could not be finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] crate::ReadError),
    /// Something could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Every migration, oldest first. The last one's `to` is the schema of this build.
pub(crate) const MIGRATIONS: &[Migration] = &[];

/// What a migration works with.
pub(crate) struct Migrator<'a> {
    core: &'a mut Core,
}

impl Migrator<'_> {
    /// Everything committed so far.
    #[cfg_attr(not(test), expect(dead_code, reason = "the first migration will read through it"))]
    pub(crate) fn view(&self) -> View {
        View(self.core.shared.seen.load_full())
    }

    /// Writes a bounded batch.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<StreamPosition, MigrationError> {
        let outcome = self.core.commit(vec![batch]).pop().expect("one batch has one outcome");
        Ok(outcome?)
    }
}

/// Runs the migrations that a database still needs; each is followed by a batch that raises the version.
pub(crate) fn run(core: &mut Core, row: &mut DatabaseRow, migrations: &[Migration]) -> Result<(), OpenError> {
    for migration in migrations.iter().filter(|m| m.to > row.schema).collect::<Vec<_>>() {
        tracing::info!(from = row.schema, to = migration.to, "migrating the database");
        let mut migrator = Migrator { core };
        let next = DatabaseRow { schema: migration.to, ..row.clone() };
        let mut batch = Batch::new();
        batch.assert_equals::<Database>(&(), row).put::<Database>(&(), &next);
        let done = (migration.run)(&mut migrator).and_then(|()| migrator.commit(batch));
        done.map_err(|reason| OpenError::Migration { to: migration.to, reason: reason.to_string() })?;
        *row = next;
    }
    Ok(())
}
