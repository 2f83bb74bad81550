//! Only one process may use the store: two locks of the operating system, which are released
//! however the process ends, so nothing has to be cleaned up by hand.
//!
//! The lock on the file beside the database knows which process holds it, and still holds when the
//! database itself is replaced. The lock on the database holds under every name that the database
//! is opened by, and when the file beside it was deleted. SQLite's own locks do not conflict with
//! them on Linux, where `flock` and `fcntl` ignore each other. On other systems they would, so there
//! only the first lock is taken.
//!
//! Closing any handle of a file releases all `fcntl` locks that the process has on it. So the
//! database is opened here once, before SQLite opens it, and closed after SQLite closes it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::commit_record::{CommitRecord, Log, Missing};
use crate::store::Error;

/// Symbolic links followed to a database that does not exist yet.
const LINKS_MAX: usize = 40;

/// The databases that this process has open, by device and inode. Opening one again and closing it
/// would release SQLite's locks.
static OPEN: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Released on drop.
#[derive(Debug)]
pub(super) struct Lock {
    /// The path of the database, links resolved.
    pub path: PathBuf,
    pub database: Arc<File>,
    /// The last process's commit record.
    pub previous: Option<CommitRecord>,
    /// The lock file beside the database, and the offset of the commit record in it.
    pub file: File,
    pub record_at: u64,
    /// Dropped last: the database is closed before another store of this process may open it.
    key: Key,
}

impl Lock {
    /// Takes the lock of the store at `shown` and creates its folder if needed.
    pub fn take(shown: &Path) -> Result<Self, Error> {
        let failed =
            |what: &Path, error| Error::Broken(format!("cannot open {}: {error}", what.display()));
        if let Some(folder) = shown.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        }
        let path = resolve_links(shown).map_err(|error| failed(shown, error))?;
        let in_use = |pid| Error::InUse { path: shown.display().to_string(), pid };
        let lock_path = beside(&path, "-lock");
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&lock_path).map_err(|error| failed(&lock_path, error))?;
        let mut said = String::new();
        // If it is not text, Crux did not write it.
        let read = file.read_to_string(&mut said).map(|_| said).unwrap_or_default();
        if !try_lock(&file).map_err(|error| failed(&lock_path, error))? {
            return Err(in_use(read.lines().next().and_then(|pid| pid.trim().parse().ok())));
        }
        let previous = CommitRecord::parse(read.lines().nth(1).unwrap_or_default());

        let log = Log::read(&path).map_err(|error| failed(&beside(&path, "-wal"), error))?;
        match fs::metadata(&path) {
            Ok(found) => {
                refuse_hard_links(shown, &found)?;
                if open_here().contains(&(found.dev(), found.ino())) {
                    return Err(in_use(Some(std::process::id())));
                }
                if found.len() == 0 {
                    Missing { path: &path, log: &log, previous: previous.as_ref() }.check()?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Missing { path: &path, log: &log, previous: previous.as_ref() }.check()?;
            }
            Err(error) => return Err(failed(&path, error)),
        }
        let database = options.open(&path).map_err(|error| failed(&path, error))?;
        if cfg!(target_os = "linux")
            && !try_lock(&database).map_err(|error| failed(&path, error))?
        {
            return Err(in_use(None));
        }
        let found = database.metadata().map_err(|error| failed(&path, error))?;
        refuse_hard_links(shown, &found)?;
        let key = Key::new((found.dev(), found.ino()));
        let mut lock =
            Self { path, database: Arc::new(database), previous, file, record_at: 0, key };
        if let Err(error) = lock.write_pid() {
            tracing::warn!(path = %lock_path.display(), %error, "cannot write the process id to the lock file");
        }
        Ok(lock)
    }

    /// Keeps the commit record.
    fn write_pid(&mut self) -> io::Result<()> {
        let first = format!("{}\n", std::process::id());
        let previous = self.previous.as_ref().map(CommitRecord::to_string).unwrap_or_default();
        self.record_at = first.len() as u64;
        self.file.rewind()?;
        self.file.write_all(format!("{first}{previous}").as_bytes())?;
        self.file.set_len(self.record_at + previous.len() as u64)
    }

    /// Whether the database is still at its path.
    pub fn is_here(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.key.0)
    }
}

/// Entry of an open database in [`OPEN`]; removed on drop.
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

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Refuses a database with several hard links: each name has its own log, and a process that opens
/// one name does not see the log of the other.
fn refuse_hard_links(shown: &Path, found: &fs::Metadata) -> Result<(), Error> {
    let (names, path) = (found.nlink(), shown.display());
    if names <= 1 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{path} has {names} names (hard links), and SQLite looks for its log beside the one by which it is opened: two processes that use \
         different names destroy it. Remove the others (`find / -samefile {path}` shows them), or copy the file and use the copy"
    )))
}

/// The path with symbolic links resolved, also of a file that does not exist yet.
fn resolve_links(path: &Path) -> io::Result<PathBuf> {
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

/// A file beside the database, by its suffix.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
