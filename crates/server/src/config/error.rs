//! What is wrong with a configuration, and where.

use std::path::{Path, PathBuf};

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        error: std::io::Error,
    },
    /// A key of the file is unknown or missing, or its value is bad.
    #[error("{}{}{}{reason}", place(file.as_deref()), line.map(|line| format!("line {line}: ")).unwrap_or_default(), key_of(key))]
    Key {
        /// The file, where it is known.
        file: Option<PathBuf>,
        /// Line of the key, counted from 1. None for a key that is missing.
        line: Option<usize>,
        /// The key, as in `limits.pdu_max_bytes`. Empty if the text is no TOML at all.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable of the environment names an unknown key or holds a bad value.
    #[error("environment variable {variable}: `{key}`: {reason}")]
    Variable {
        /// The variable's name.
        variable: String,
        /// The key that it overrides.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    /// The same error with the name of the file in it.
    #[must_use]
    pub fn in_file(mut self, name: &Path) -> Self {
        if let Self::Key { file, .. } = &mut self {
            *file = Some(name.to_owned());
        }
        self
    }
}

fn place(file: Option<&Path>) -> String {
    file.map(|file| format!("{}: ", file.display())).unwrap_or_default()
}

fn key_of(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}
