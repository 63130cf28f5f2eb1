//! The server's signing key, in a file of the data directory that its owner alone can read.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, ensure};
use primitives::{Random, ServerKey};

const FILE: &str = "signing.key";

/// Keys whose private half is printed somewhere: anybody can sign with them. The first is the example of the specification's appendix.
const PUBLICLY_KNOWN: &[&str] =
    &["YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];

/// The key of this data directory; the first start makes one.
///
/// # Errors
/// A file that can't be read or written, that holds no key, or that holds one that everybody knows.
pub fn load_or_generate(data_dir: &Path, random: &Random) -> anyhow::Result<ServerKey> {
    let path = data_dir.join(FILE);
    let shown = path.display().to_string();
    let line = match std::fs::read_to_string(&path) {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::NotFound => return generate(&path, random).context(shown),
        Err(error) => return Err(error).context(shown),
    };
    let key = ServerKey::parse(&line).with_context(|| shown.clone())?;
    let is_public = PUBLICLY_KNOWN
        .iter()
        .any(|seed| ServerKey::parse(&format!("ed25519 x {seed}")).is_ok_and(|known| known.public() == key.public()));
    ensure!(
        !is_public,
        "{shown}: the private half of this key is publicly known; remove the file and a new one is made"
    );
    Ok(key)
}

/// Written whole under another name first: a key that was used must never be half a file.
fn generate(path: &Path, random: &Random) -> anyhow::Result<ServerKey> {
    let key = ServerKey::generate(random);
    let new = path.with_extension("key.new");
    let _ = std::fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(key.to_line().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_start_makes_a_private_key_and_later_ones_keep_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let first = load_or_generate(directory.path(), &Random::seeded(1)).expect("made");
        let again = load_or_generate(directory.path(), &Random::seeded(2)).expect("read");
        assert_eq!((first.public(), first.id()), (again.public(), again.id()));
        let mode = std::fs::metadata(directory.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn rubbish_and_publicly_known_keys_are_refused() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for (line, reason) in
            [("rubbish", "signing.key"), (&format!("ed25519 1 {}", PUBLICLY_KNOWN[0]), "publicly known")]
        {
            std::fs::write(directory.path().join(FILE), line).expect("written");
            let error = load_or_generate(directory.path(), &Random::os()).expect_err("refused");
            assert!(format!("{error:#}").contains(reason), "{error:#}");
        }
    }
}
