//! Power cuts: SIGKILL alone leaves the page cache, so after it every file is cut back to its length at its last completed sync.
//!
//! What is not simulated: lost directory entries, and blocks written out of order inside the part that was synced.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;

use crate::process::Launch;

const SOURCE: &str = include_str!("../preload/record_sync.c");

/// The preloaded recorder of a run.
#[derive(Debug)]
pub struct Recorder {
    record: PathBuf,
}

impl Recorder {
    /// Compiles the recorder and has the server load it.
    pub fn install(launch: &mut Launch) -> anyhow::Result<Self> {
        let (source, library) = (launch.folder.join("record_sync.c"), launch.folder.join("record_sync.so"));
        let record = launch.folder.join("sync.record");
        fs::write(&source, SOURCE)?;
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .status()?;
        anyhow::ensure!(status.success(), "the recorder does not compile");
        launch.preload = Some(library);
        launch.environment.push(("SUNDIAL_SYNC_RECORD".to_owned(), record.display().to_string()));
        Ok(Self { record })
    }

    /// Cuts every file below `data` to its length at its last completed sync; a file that never was synced loses all.
    /// Answers with the number of bytes that were lost.
    pub fn cut(&self, data: &Path) -> anyhow::Result<u64> {
        let text = fs::read_to_string(&self.record).context("the recorder wrote nothing: is it loaded?")?;
        let durable = durable_lengths(&text);
        let mut lost = 0;
        let mut folders = vec![data.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    lost += cut_file(&entry.path(), &durable)?;
                }
            }
        }
        Ok(lost)
    }
}

fn durable_lengths(record: &str) -> HashMap<u64, u64> {
    let mut lengths = HashMap::new();
    for line in record.lines() {
        let mut words = line.split(' ');
        let (kind, inode, length) = (words.next(), words.next(), words.next());
        let (Some(inode), Some(length)) = (inode.and_then(|w| w.parse().ok()), length.and_then(|w| w.parse().ok()))
        else {
            continue;
        };
        lengths.insert(inode, if kind == Some("S") { length } else { 0 });
    }
    lengths
}

fn cut_file(path: &Path, durable: &HashMap<u64, u64>) -> anyhow::Result<u64> {
    let file = fs::File::options().write(true).open(path)?;
    let at = file.metadata()?;
    let keep = durable.get(&at.ino()).copied().unwrap_or(0).min(at.len());
    file.set_len(keep)?;
    Ok(at.len() - keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_its_last_sync_covered() {
        let lengths = durable_lengths("N 7 0\nS 7 100\nS 8 5\nS 7 250\nN 8 0\ngarbage\n");
        assert_eq!(lengths, HashMap::from([(7, 250), (8, 0)]));
    }

    #[test]
    fn files_are_cut_and_never_grown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wal");
        fs::write(&path, [1; 300]).expect("written");
        let inode = fs::metadata(&path).expect("there").ino();
        assert_eq!(cut_file(&path, &HashMap::from([(inode, 250)])).expect("cut"), 50);
        assert_eq!(cut_file(&path, &HashMap::from([(inode, 9_999)])).expect("cut"), 0);
        assert_eq!(cut_file(&path, &HashMap::new()).expect("cut"), 250);
    }
}
