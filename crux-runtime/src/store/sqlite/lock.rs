//! One process at a time: a lock of the operating system on a file beside the database. It goes with the process, however that ends, so
//! nothing has to be cleaned up by hand.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::store::Error;

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the store at `path`, whose folder is made if it is not there.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let failed = |what: &Path, error| Error::Broken(format!("cannot open {}: {error}", what.display()));
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        }
        let lock_path = Self::path(path);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed(&lock_path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The number only makes the message better.
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(Error::InUse { path: path.display().to_string(), pid });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path, error)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            tracing::warn!(path = %lock_path.display(), %error, "cannot write this process's number into the lock file");
        }
        Ok(Self { _file: file })
    }

    fn path(store: &Path) -> PathBuf {
        let mut name = store.as_os_str().to_owned();
        name.push("-lock");
        PathBuf::from(name)
    }
}
