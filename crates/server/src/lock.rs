//! One process a data directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Why a data directory can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by another Sundial (process {pid}); stop it first", directory.display())]
    Taken {
        /// The data directory.
        directory: PathBuf,
        /// The other's process id, or `?`.
        pid: String,
    },
    /// The operating system refused.
    #[error("the data directory {} can't be used: {error}", directory.display())]
    Io {
        /// The data directory.
        directory: PathBuf,
        /// Its reason.
        error: std::io::Error,
    },
}

/// The right to use a data directory. Ends with the value, and with the process however that ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory if there is none (readable by its owner only) and takes it.
    ///
    /// # Errors
    /// [`LockError::Taken`] if another process has it.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let io = |error| LockError::Io { directory: directory.to_owned(), error };
        create_private(directory).map_err(io)?;
        let path = directory.join("sundial.lock");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
                let pid = if known { pid.trim().to_owned() } else { "?".to_owned() };
                return Err(LockError::Taken { directory: directory.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let pid = std::process::id();
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{pid}")).map_err(io)?;
        Ok(Self { _file: file })
    }
}

fn create_private(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_by_name_until_the_first_is_gone() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let data = directory.path().join("a/b");
        let first = DirectoryLock::acquire(&data).expect("free");
        let error = DirectoryLock::acquire(&data).expect_err("taken").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DirectoryLock::acquire(&data).expect("free again");
    }

    #[test]
    fn a_file_in_the_way_is_an_error_with_its_path() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = DirectoryLock::acquire(file.path()).expect_err("a file is no directory").to_string();
        assert!(error.contains(&file.path().display().to_string()), "{error}");
    }
}
