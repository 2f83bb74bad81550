//! Where a run of the demo keeps its things: one folder in the target folder, the same for every
//! run, so that what one run has begun the next can go on with. Two demos at a time get two
//! folders.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// More demos at a time than this are an accident.
const MAX_PLACES: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{MAX_PLACES} demos run already: end one of them")]
    AllTaken,
}

/// A folder that is this process's own until it ends.
#[derive(Debug)]
pub struct Place {
    pub folder: PathBuf,
    _lock: File,
}

impl Place {
    /// `demo`, or the first of `demo-2`, `demo-3`, … that nobody uses, in `parent`.
    pub fn take(parent: &Path) -> Result<Self, Error> {
        for number in 1..=MAX_PLACES {
            let name = if number == 1 { "demo".to_owned() } else { format!("demo-{number}") };
            let folder = parent.join(name);
            let failed = |error| Error::Io { path: folder.clone(), error };
            fs::create_dir_all(&folder).map_err(failed)?;
            let lock = File::create(folder.join("lock")).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Err(Error::AllTaken)
    }

    pub fn configuration(&self) -> PathBuf {
        self.folder.join("crux.yaml")
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join("crux.db")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// What the image service writes.
    pub fn pictures(&self) -> PathBuf {
        self.folder.join("pictures")
    }

    /// The final documents.
    pub fn documents(&self) -> PathBuf {
        self.folder.join("documents")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_at_a_time_get_two_folders_and_the_next_gets_the_first_again() {
        let parent = tempfile::tempdir().expect("a folder");
        let first = Place::take(parent.path()).expect("a place");
        let second = Place::take(parent.path()).expect("a place");
        assert_eq!(first.folder, parent.path().join("demo"));
        assert_eq!(second.folder, parent.path().join("demo-2"));
        drop(first);
        assert_eq!(Place::take(parent.path()).expect("a place").folder, parent.path().join("demo"));
    }
}
