//! The server's signing key, in a file of the data directory that its owner alone can read, and the public halves of those before it in another.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use federation_client::OldKey;
use primitives::{Random, ServerKey, UnixMillis};
use ruma::OwnedServerSigningKeyId;

const FILE: &str = "signing.key";
/// One line for each key that the server no longer signs with: `ed25519 a_XXXX PUBLIC EXPIRED`, the last in milliseconds since 1970.
const OLD_FILE: &str = "signing.key.old";

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

fn generate(path: &Path, random: &Random) -> anyhow::Result<ServerKey> {
    let key = ServerKey::generate(random);
    write(path, &key.to_line())?;
    Ok(key)
}

/// The keys that the server of this data directory signed with before.
///
/// # Errors
/// A file that can't be read, or with a line that is no old key.
pub fn load_old(data_dir: &Path) -> anyhow::Result<Vec<OldKey>> {
    let path = data_dir.join(OLD_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(path.display().to_string()),
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let keys = lines.map(|(index, line)| {
        parse_old(line).with_context(|| format!("{}, line {}: not an old key", path.display(), index + 1))
    });
    keys.collect()
}

fn parse_old(line: &str) -> Option<OldKey> {
    let mut words = line.split_ascii_whitespace();
    let (Some("ed25519"), Some(version), Some(public), Some(expired), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    let id = OwnedServerSigningKeyId::try_from(format!("ed25519:{version}")).ok()?;
    let public = STANDARD_NO_PAD.decode(public).ok()?.try_into().ok()?;
    Some(OldKey { id, public, expired: UnixMillis(expired.parse().ok()?) })
}

fn old_line(key: &OldKey) -> String {
    format!("ed25519 {} {} {}\n", key.id.key_name(), STANDARD_NO_PAD.encode(key.public), key.expired.0)
}

/// What a rotation did.
#[derive(Debug)]
pub struct Rotated {
    /// The key that the server signs with now.
    pub new: OwnedServerSigningKeyId,
    /// The key that it signed with until now.
    pub old: OwnedServerSigningKeyId,
}

/// Makes a new signing key for this data directory, whose lock the caller holds. The one that was there becomes an old key.
///
/// # Errors
/// Files that can't be read or written. What can be read afterwards is the old key or the new one, never none.
pub fn rotate(data_dir: &Path, random: &Random, now: UnixMillis) -> anyhow::Result<Rotated> {
    let current = load_or_generate(data_dir, random)?;
    let mut old = load_old(data_dir)?;
    old.retain(|key| key.id != *current.id());
    old.push(OldKey { id: current.id().clone(), public: current.public(), expired: now });
    // Another key under the name of an old one could be taken for it.
    let new = std::iter::repeat_with(|| ServerKey::generate(random))
        .find(|new| old.iter().all(|old| old.id != *new.id()))
        .expect("an endless iterator");
    // In this order: if only the first is done, the key in use is listed as old too, which is passed over.
    let path = data_dir.join(OLD_FILE);
    write(&path, &old.iter().map(old_line).collect::<String>()).with_context(|| path.display().to_string())?;
    let path = data_dir.join(FILE);
    write(&path, &new.to_line()).with_context(|| path.display().to_string())?;
    Ok(Rotated { new: new.id().clone(), old: current.id().clone() })
}

/// Copies the keys of one directory to another, which may have the same ones already.
///
/// # Errors
/// Files that can't be read or written; a directory that has another signing key.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for name in [FILE, OLD_FILE] {
        let (from, to) = (from.join(name), to.join(name));
        let text = match std::fs::read_to_string(&from) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && name == OLD_FILE => continue,
            Err(error) => return Err(error).with_context(|| from.display().to_string()),
        };
        match std::fs::read_to_string(&to) {
            Ok(there) if there == text => continue,
            Ok(_) => bail!("{} holds other keys than {}: move it away first", to.display(), from.display()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| to.display().to_string()),
        }
        write(&to, &text).with_context(|| to.display().to_string())?;
    }
    Ok(())
}

/// Written whole under another name first: a key that was used must never be half a file.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let _ = std::fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(directory)?.sync_all()?;
    Ok(())
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

    #[test]
    fn a_rotation_keeps_the_public_halves_of_all_keys_before() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let random = Random::seeded(1);
        let first = load_or_generate(directory.path(), &random).expect("made");
        let rotated = rotate(directory.path(), &random, UnixMillis(5)).expect("rotated");
        assert_eq!(&rotated.old, first.id());
        rotate(directory.path(), &random, UnixMillis(9)).expect("rotated again");
        let old = load_old(directory.path()).expect("read");
        assert_eq!(old[0], OldKey { id: first.id().clone(), public: first.public(), expired: UnixMillis(5) });
        assert_eq!((&old[1].id, old[1].expired, old.len()), (&rotated.new, UnixMillis(9), 2));
        let current = load_or_generate(directory.path(), &random).expect("read");
        assert!(old.iter().all(|key| key.id != *current.id()));
        let text = std::fs::read_to_string(directory.path().join(OLD_FILE)).expect("there");
        assert!(!text.contains(first.to_line().split(' ').nth(2).expect("a seed").trim()), "no private half is kept");
    }

    #[test]
    fn a_broken_line_of_an_old_key_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(directory.path().join(OLD_FILE), "\ned25519 a_x AAAA 5\n").expect("written");
        let error = load_old(directory.path()).expect_err("refused");
        assert!(format!("{error:#}").contains("line 2"), "{error:#}");
    }
}
