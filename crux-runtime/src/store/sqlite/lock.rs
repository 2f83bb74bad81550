//! One process at a time: locks of the operating system. They go with the process, however that
//! ends, so nothing has to be cleaned up by hand.
//!
//! There are two. The one on the file beside the database knows which process holds it, and holds
//! also while the database itself is replaced. The one on the database holds by whatever name it is
//! opened, and when the file beside it was deleted. SQLite's own locks do not meet them: on Linux
//! `flock` and `fcntl` know nothing of each other; elsewhere they do, and there the first has to be
//! enough.
//!
//! Closing any handle of a file takes away the `fcntl` locks that the process has on it. So the
//! database is opened here once, before SQLite does, and closed after.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::witness::{Claim, Log, Missing};
use crate::store::Error;

/// Links of links that are followed to a database that is not there yet.
const LINKS_MAX: usize = 40;

/// The databases that this process has open, by device and inode: what it must not open a second
/// time even to look.
static OPEN: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Held as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    /// Where the database really is.
    pub path: PathBuf,
    pub database: Arc<File>,
    /// What the last process has written of the database.
    pub former: Option<Claim>,
    /// The file beside the database, and where a claim stands in it.
    pub file: File,
    pub claim_at: u64,
    /// Last: the database is closed before another store of this process may open it.
    key: Key,
}

impl Lock {
    /// Takes the lock of the store at `shown`, whose folder is made if it is not there.
    pub fn take(shown: &Path) -> Result<Self, Error> {
        let failed =
            |what: &Path, error| Error::Broken(format!("cannot open {}: {error}", what.display()));
        if let Some(folder) = shown.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        }
        let path = resolved(shown).map_err(|error| failed(shown, error))?;
        let in_use = |pid| Error::InUse { path: shown.display().to_string(), pid };
        let lock_path = beside(&path, "-lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&lock_path).map_err(|error| failed(&lock_path, error))?;
        let mut said = String::new();
        // What is not text was not written here.
        let read = file.read_to_string(&mut said).map(|_| said).unwrap_or_default();
        if !taken(&file).map_err(|error| failed(&lock_path, error))? {
            return Err(in_use(read.lines().next().and_then(|pid| pid.trim().parse().ok())));
        }
        let former = Claim::parse(read.lines().nth(1).unwrap_or_default());

        let log = Log::look(&path).map_err(|error| failed(&beside(&path, "-wal"), error))?;
        match fs::metadata(&path) {
            Ok(found) => {
                alone(shown, &found)?;
                if open_here().contains(&(found.dev(), found.ino())) {
                    return Err(in_use(Some(std::process::id())));
                }
                if found.len() == 0 {
                    Missing { path: &path, log: &log, former: former.as_ref() }.check()?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Missing { path: &path, log: &log, former: former.as_ref() }.check()?;
            }
            Err(error) => return Err(failed(&path, error)),
        }
        let database = options.open(&path).map_err(|error| failed(&path, error))?;
        if cfg!(target_os = "linux") && !taken(&database).map_err(|error| failed(&path, error))? {
            return Err(in_use(None));
        }
        let found = database.metadata().map_err(|error| failed(&path, error))?;
        alone(shown, &found)?;
        let key = Key::new((found.dev(), found.ino()));
        let mut lock = Self { path, database: Arc::new(database), former, file, claim_at: 0, key };
        if let Err(error) = lock.write_number() {
            tracing::warn!(path = %lock_path.display(), %error, "cannot write the process id to the lock file");
        }
        Ok(lock)
    }

    /// What else is in the file stays.
    fn write_number(&mut self) -> io::Result<()> {
        let first = format!("{}\n", std::process::id());
        let former = self.former.as_ref().map(Claim::to_string).unwrap_or_default();
        self.claim_at = first.len() as u64;
        self.file.rewind()?;
        self.file.write_all(format!("{first}{former}").as_bytes())?;
        self.file.set_len(self.claim_at + former.len() as u64)
    }

    /// Whether the database is still where it was.
    pub fn is_here(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.key.0)
    }
}

/// Of a database that this process has open.
#[derive(Debug)]
struct Key((u64, u64));

impl Key {
    fn new(file: (u64, u64)) -> Self {
        open_here().insert(file);
        Self(file)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        open_here().remove(&self.0);
    }
}

fn open_here() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    // A set of numbers is never half changed.
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn taken(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A database of two names has two logs, and who opens it by one does not see the other.
fn alone(shown: &Path, found: &fs::Metadata) -> Result<(), Error> {
    let (names, path) = (found.nlink(), shown.display());
    if names <= 1 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{path} has {names} names (hard links), and SQLite looks for its log beside the one by which it is opened: two processes that use \
         different names destroy it. Remove the others (`find / -samefile {path}` shows them), or copy the file and use the copy"
    )))
}

/// The path without links, also of a file that is not there yet.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .to_owned();
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
                return Ok(fs::canonicalize(folder)?.join(name));
            }
        }
    }
    Err(io::Error::other("too many links"))
}

/// A file of that store.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
