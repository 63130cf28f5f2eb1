//! `sundial keys`: the keys that the server signs with, while no server runs.

use clap::Subcommand;
use primitives::{Clock, Random, SystemClock};

use super::{ConfigFile, load, output};
use crate::{lock::DirectoryLock, signing_key};

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Makes a new signing key. The old one is published as expired from now on, so that what it signed can still be checked.
    Rotate(ConfigFile),
}

impl Keys {
    /// Does it, and prints what is done.
    ///
    /// # Errors
    /// A data directory that a server runs on, or whose keys can't be read or written.
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self::Rotate(ConfigFile { config }) = self;
        let config = load(&config)?;
        let _lock = DirectoryLock::acquire(&config.data_dir)?;
        let rotated = signing_key::rotate(&config.data_dir, &Random::os(), SystemClock::new().now())?;
        output::line(&format!("signing with {} from now on; {} has expired", rotated.new, rotated.old));
        Ok(())
    }
}
