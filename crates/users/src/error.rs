//! What can go wrong below every part of this crate: the store.

use storage::{CommitError, ReadError};

/// How often a write that lost a race is built anew before the caller hears of it.
pub(crate) const MAX_ATTEMPTS: usize = 32;

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing failed, for another reason than a lost race.
    #[error(transparent)]
    Commit(CommitError),
    /// Others changed the same rows again and again.
    #[error("the same rows were changed by others {MAX_ATTEMPTS} times in a row")]
    Contended,
}

/// How one attempt of an optimistic write ended.
pub(crate) enum Outcome<T> {
    /// Written, or known to be impossible.
    Done(T),
    /// What it was built on has changed.
    Again,
}

/// Tells a lost race, which is tried again, from a failure.
pub(crate) fn outcome<T>(committed: Result<T, CommitError>) -> Result<Outcome<T>, StoreError> {
    match committed {
        Ok(done) => Ok(Outcome::Done(done)),
        Err(CommitError::Conflict(_)) => Ok(Outcome::Again),
        Err(error) => Err(StoreError::Commit(error)),
    }
}
