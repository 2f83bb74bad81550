//! The commit record: a line in the lock file that says what is committed in the database. The log
//! may be deleted, truncated or replaced while no process runs, and SQLite accepts whatever log it
//! finds. So every commit updates the record (without a sync: it survives the process, and after a
//! power failure it may be behind the database, never ahead of it), and the next process to open
//! the store compares. If anything is missing that was acknowledged, the store is not opened and
//! nothing is changed, so that the files can be put back.
//!
//! Three numbers in the database are compared. `birth` identifies the database. `count` grows with
//! every transaction that changes more than journal and records, and at least once per log. `open`
//! says in the database file itself, which can be read without the log, that a process uses it. The
//! newest journal row, identified by its token, covers the rest.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::error::broken;
use super::lock::{Lock, beside};
use crate::store::Error;

/// The first salt grows by one whenever the log is restarted. After a power failure the record may
/// be this far behind.
const NEWER_LOGS_MAX: u32 = 65_536;

/// What is committed, as the lock file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CommitRecord {
    /// A process is using the store, or died while using it.
    pub is_open: bool,
    pub birth: u64,
    /// Of the log; 0: there was no log, or it is unknown.
    pub salts: u64,
    pub count: u64,
    /// The count in the database file itself, without the log. Earlier logs are contained in it.
    pub base: u64,
    /// The newest row of the journal, and its token; 0: there is none.
    pub row: u64,
    pub token: u64,
}

impl fmt::Display for CommitRecord {
    /// Fixed length, so that a record overwrites the previous one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { is_open, birth, salts, count, base, row, token } = self;
        let word = if *is_open { "open  " } else { "closed" };
        writeln!(
            f,
            "{word} birth={birth:016x} salts={salts:016x} count={count:016x} base={base:016x} row={row:016x} token={token:016x}"
        )
    }
}

impl CommitRecord {
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let is_open = match words.next()? {
            "open" => true,
            "closed" => false,
            _ => return None,
        };
        let mut number = |name: &str| {
            u64::from_str_radix(words.next()?.strip_prefix(name)?.strip_prefix('=')?, 16).ok()
        };
        Some(Self {
            is_open,
            birth: number("birth")?,
            salts: number("salts")?,
            count: number("count")?,
            base: number("base")?,
            row: number("row")?,
            token: number("token")?,
        })
    }
}

/// The log file, as seen without SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Log {
    pub bytes: u64,
    /// `None`: SQLite treats it as empty.
    pub salts: Option<u64>,
}

impl Log {
    pub fn read(database: &Path) -> io::Result<Self> {
        let mut file = match File::open(beside(database, "-wal")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { bytes: 0, salts: None });
            }
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        let mut header = [0; 32];
        let salts = file.read_exact(&mut header).ok().and_then(|()| salts_of(&header));
        Ok(Self { bytes, salts })
    }
}

/// See "WAL File Format" in SQLite's documentation.
fn salts_of(header: &[u8; 32]) -> Option<u64> {
    let [a, b, c, d, ..] = *header;
    let is_log = matches!(u32::from_be_bytes([a, b, c, d]), 0x377f_0682 | 0x377f_0683);
    let salts: [u8; 8] = header.get(16..24)?.try_into().ok()?;
    is_log.then_some(u64::from_be_bytes(salts))
}

/// A database that is missing or empty.
pub(super) struct Missing<'a> {
    pub path: &'a Path,
    pub log: &'a Log,
    pub previous: Option<&'a CommitRecord>,
}

impl Missing<'_> {
    /// SQLite would delete a log that has no database.
    pub fn check(&self) -> Result<(), Error> {
        let names = Names::of(self.path);
        let Names { db, log, lock } = &names;
        if self.log.bytes > 0 {
            return Err(Error::Refused(format!(
                "{db} is not there or empty, but its log {log} is: what is in both is lost if a new database is made now. Put the database \
                 back; if it is to be given up, remove {log} and {lock}"
            )));
        }
        match self.previous {
            Some(previous) if previous.is_open => Err(Error::Refused(format!(
                "{db} is not there or empty, but {lock} says that it was in use when its process ended. Put the database and its log back; \
                 if they are to be given up, remove {lock}"
            ))),
            Some(_) => {
                tracing::warn!(
                    "{db} is missing although {lock} says it existed; creating a new database"
                );
                Ok(())
            }
            None => Ok(()),
        }
    }
}

struct Names {
    db: String,
    log: String,
    lock: String,
}

impl Names {
    fn of(path: &Path) -> Self {
        let name = |suffix| beside(path, suffix).display().to_string();
        Self { db: name(""), log: name("-wal"), lock: name("-lock") }
    }

    fn refuse(&self, why: &str) -> Error {
        let Self { db, log, lock } = self;
        Error::Refused(format!(
            "{why}. Nothing was changed. Put {db} and {log} back as they were when the last process ended; if what is missing is to be given \
             up, or {db} is a copy that was put here on purpose, remove {lock}"
        ))
    }
}

/// What is checked before SQLite opens the database.
pub(super) struct OpenCheck {
    names: Names,
    log: Log,
    previous: Option<CommitRecord>,
    /// Birth and count in the database file itself, if there is a log that may differ.
    without_log: Option<(u64, u64)>,
}

impl OpenCheck {
    /// Refuses a log of another database: opening it would already mix its pages into this one.
    pub fn run(lock: &Lock) -> Result<Self, Error> {
        let names = Names::of(&lock.path);
        let log = Log::read(&lock.path)
            .map_err(|error| Error::Broken(format!("cannot read {}: {error}", names.log)))?;
        let mut before = Self { names, log, previous: lock.previous, without_log: None };
        let Some(salts) = log.salts else { return Ok(before) };
        before.without_log = without_log(&lock.path);
        let Some(previous) = lock.previous else { return Ok(before) };
        let Names { db, log, lock } = &before.names;
        if !previous.is_open {
            return Err(Error::Refused(format!(
                "{db} was closed properly and had no log then, but now {log} is there: it belongs to another database, or another program has \
                 written. Nothing was changed. Move {log} away; if another program has written what is to stay, have it checkpoint, or \
                 remove {lock}"
            )));
        }
        let newer = ((salts >> 32) as u32).wrapping_sub((previous.salts >> 32) as u32);
        if previous.salts != 0 && salts != previous.salts && !(1..=NEWER_LOGS_MAX).contains(&newer)
        {
            return Err(before.names.refuse(&format!(
                "{log} is not the log of {db} that was there when the last process ended"
            )));
        }
        if let Some((birth, count)) = before.without_log {
            if birth != previous.birth {
                return Err(before
                    .names
                    .refuse(&format!("{db} is not the database that {log} belongs to")));
            }
            if count < previous.base {
                return Err(before.names.refuse(&format!(
                    "{db} is older than {log}, which begins where a later state of it ended"
                )));
            }
        }
        Ok(before)
    }
}

/// Birth and count in the database file itself; `None`: not written yet. They are on two pages that
/// depend on no others, so they can be read even after an interrupted checkpoint.
fn without_log(path: &Path) -> Option<(u64, u64)> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(format!("{uri}?immutable=1"), flags).ok()?;
    let birth = meta(&conn, "birth").ok()??;
    Some((birth, meta(&conn, "count").ok()?.unwrap_or(0)))
}

fn meta(conn: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    let mut read = conn.prepare("SELECT value FROM meta WHERE key = ?1")?;
    read.query_row([key], |row| row.get(0).map(i64::cast_unsigned)).optional()
}

fn newest(conn: &Connection) -> rusqlite::Result<(u64, u64)> {
    let mut read =
        conn.prepare_cached("SELECT row, token FROM journal ORDER BY row DESC LIMIT 1")?;
    let found = read.query_row([], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
    });
    found.optional().map(Option::unwrap_or_default)
}

/// Whether database and log are still the files that were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilesState {
    InPlace,
    DatabaseReplaced,
    LogReplaced,
}

/// Maintains the commit record in the lock file.
#[derive(Debug)]
pub(super) struct CommitRecordFile {
    lock: Lock,
    /// The log, once there is one.
    log: Option<File>,
    record: CommitRecord,
    /// The record once the open transaction is committed.
    next: CommitRecord,
    /// The log was restarted since the count last grew, so the next transaction increments it.
    stamps: bool,
    /// Whether the database says that it is open.
    is_marked: bool,
    could_write: bool,
}

impl CommitRecordFile {
    /// Compares the last process's record with the files, and marks the store as open. Until now
    /// `conn` has written nothing except a new database's schema.
    pub fn take(conn: &Connection, lock: Lock, before: OpenCheck) -> Result<Self, Error> {
        let OpenCheck { names, log, previous, without_log } = before;
        let at = |error| broken(&format!("cannot read {}", names.db), &error);
        let (birth, count) =
            (meta(conn, "birth").map_err(at)?, meta(conn, "count").map_err(at)?.unwrap_or(0));
        let was_open = meta(conn, "open").map_err(at)? == Some(1);
        let token = match previous {
            Some(previous) if previous.row != 0 => {
                let mut read =
                    conn.prepare("SELECT token FROM journal WHERE row = ?1").map_err(at)?;
                read.query_row([previous.row.cast_signed()], |row| {
                    row.get(0).map(i64::cast_unsigned)
                })
                .optional()
                .map_err(at)?
            }
            _ => None,
        };
        let found = DatabaseState {
            birth,
            count,
            was_open,
            token,
            without_log: without_log.map(|(birth, _)| birth),
        };
        match compare(previous.as_ref(), &log, &found, &names) {
            Comparison::Intact => {}
            Comparison::Suspect(text) => tracing::error!("{text}"),
            Comparison::Incomplete(why) => return Err(names.refuse(&why)),
        }
        let birth = match birth {
            Some(birth) => birth,
            None => random()?,
        };
        let (row, token) = newest(conn).map_err(at)?;
        let has_log = log.salts.is_some();
        let base = match previous {
            Some(previous) if has_log && previous.birth == birth => previous.base,
            _ if has_log => 0,
            _ => count,
        };
        let record = CommitRecord {
            is_open: true,
            birth,
            salts: log.salts.unwrap_or(0),
            count,
            base,
            row,
            token,
        };
        let mut commit_record = Self {
            lock,
            log: None,
            record,
            next: record,
            stamps: true,
            is_marked: false,
            could_write: true,
        };
        // Before a log begins whose salts are not recorded.
        commit_record.write();
        commit_record.sync();
        let marked = conn
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| commit_record.stamp(conn, true, true))
            .and_then(|()| {
                conn.execute_batch("COMMIT")?;
                commit_record.committed();
                if has_log {
                    return Ok(());
                }
                // The mark reaches the database file itself, and the next transaction restarts the
                // log and stamps it.
                commit_record.stamps = true;
                conn.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
            });
        if let Err(error) = marked {
            // The disk may be full: the first transaction that fits sets the mark.
            tracing::debug!(%error, "the database could not be marked as open");
            if !conn.is_autocommit() {
                conn.execute_batch("ROLLBACK").map_err(at)?;
            }
        }
        Ok(commit_record)
    }

    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Whether database and log are still at their paths: what is written to deleted files is lost
    /// when the process ends.
    pub fn files_state(&self) -> FilesState {
        if !self.lock.is_here() {
            return FilesState::DatabaseReplaced;
        }
        let same = |here: &File| {
            let (here, there) =
                (here.metadata().ok()?, fs::metadata(beside(&self.lock.path, "-wal")).ok()?);
            ((here.dev(), here.ino()) == (there.dev(), there.ino())).then_some(())
        };
        match &self.log {
            Some(log) if same(log).is_none() => FilesState::LogReplaced,
            _ => FilesState::InPlace,
        }
    }

    /// Called at the end of each writing transaction. `appended`: it adds journal rows; `changed`:
    /// it changes anything besides journal and records.
    pub fn stamp(
        &mut self,
        conn: &Connection,
        appended: bool,
        changed: bool,
    ) -> rusqlite::Result<()> {
        self.next = self.record;
        if appended || changed {
            (self.next.row, self.next.token) = newest(conn)?;
        }
        if changed || self.stamps || !self.is_marked {
            self.next.count += 1;
            self.set(conn, "count", self.next.count)?;
        }
        if !self.is_marked {
            self.set(conn, "birth", self.record.birth)?;
            self.set(conn, "open", 1)?;
        }
        Ok(())
    }

    /// In the last transaction of a regular shutdown.
    pub fn stamp_closed(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.stamp(conn, true, true)?;
        self.set(conn, "open", 0)
    }

    fn set(&self, conn: &Connection, key: &str, value: u64) -> rusqlite::Result<()> {
        let sql =
            "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2";
        conn.prepare_cached(sql)?.execute(params![key, value.cast_signed()]).map(|_| ())
    }

    /// The transaction is committed.
    pub fn committed(&mut self) {
        let before = self.record;
        self.record = self.next;
        if self.record.count > before.count {
            (self.stamps, self.is_marked) = (false, true);
        }
        let salts = self.salts();
        if salts != 0 && salts != before.salts {
            if before.salts != 0 {
                // SQLite restarts a log only after all of it is in the database.
                self.record.base = before.count;
                self.stamps = true;
            }
            self.record.salts = salts;
        }
        self.write();
    }

    fn salts(&mut self) -> u64 {
        if self.log.is_none() {
            self.log = File::open(beside(&self.lock.path, "-wal")).ok();
        }
        let mut header = [0; 32];
        let read = self.log.as_ref().and_then(|log| log.read_exact_at(&mut header, 0).ok());
        read.and_then(|()| salts_of(&header)).unwrap_or(0)
    }

    fn write(&mut self) {
        match self.lock.file.write_all_at(self.record.to_string().as_bytes(), self.lock.record_at) {
            Ok(()) => self.could_write = true,
            Err(error) => {
                // After a crash less is detected then.
                if std::mem::replace(&mut self.could_write, false) {
                    tracing::warn!(%error, "cannot record the last commit in the lock file");
                }
            }
        }
    }

    fn sync(&self) {
        if let Err(error) = self.lock.file.sync_all() {
            tracing::warn!(%error, "cannot sync the lock file to disk");
        }
    }

    /// The log is checkpointed and empty.
    pub fn closed(&mut self) {
        (self.record.is_open, self.record.salts) = (false, 0);
        self.record.base = self.record.count;
        self.write();
        self.sync();
    }
}

fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Broken(format!("no randomness from the system: {error}")))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What the database holds, read through its log.
#[derive(Debug, Clone, Copy)]
struct DatabaseState {
    birth: Option<u64>,
    count: u64,
    was_open: bool,
    /// The token of the record's row.
    token: Option<u64>,
    /// The birth in the database file itself.
    without_log: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Comparison {
    Intact,
    /// Suspicious, but refusing to start would not help.
    Suspect(String),
    Incomplete(String),
}

fn compare(
    previous: Option<&CommitRecord>,
    log: &Log,
    found: &DatabaseState,
    names: &Names,
) -> Comparison {
    let Names { db, log: wal, lock } = names;
    if found.without_log.is_some() && found.without_log != found.birth {
        return Comparison::Incomplete(format!("{wal} is the log of another database than {db}"));
    }
    // Not marked yet: it is new or was written by an older version, and the disk was full.
    let Some(birth) = found.birth else { return Comparison::Intact };
    let Some(previous) = previous else {
        return match (found.was_open, log.bytes) {
            (true, 0) => Comparison::Suspect(format!(
                "{db} was in use when it was last written, and neither {wal} nor {lock} is beside it: it is a copy, or they were deleted after a \
                 crash, and then what was committed last is lost"
            )),
            (true, _) => Comparison::Suspect(format!(
                "{lock} is not beside {db}: whether the log {wal} is whole cannot be known"
            )),
            (false, _) => Comparison::Intact,
        };
    };
    if birth != previous.birth {
        return match log.bytes {
            0 => Comparison::Suspect(format!("{db} is not the database that was here before")),
            _ => Comparison::Incomplete(format!("{wal} and {db} do not belong together")),
        };
    }
    let has_row = previous.row == 0 || found.token == Some(previous.token);
    // A later transaction may have removed the row.
    if found.count > previous.count || (found.count == previous.count && has_row) {
        return Comparison::Intact;
    }
    match (previous.is_open, log.bytes) {
        (false, _) => Comparison::Suspect(format!(
            "{db} is older than it was when it was last closed properly: a copy was put in its place"
        )),
        (true, 0) => Comparison::Incomplete(format!(
            "{wal} is gone, the log with what was committed last in {db}"
        )),
        (true, _) => Comparison::Incomplete(format!(
            "{wal} ends before what was committed last in {db}: it was cut, or exchanged for an older one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: CommitRecord = CommitRecord {
        is_open: true,
        birth: 7,
        salts: (9 << 32) | 5,
        count: 12,
        base: 11,
        row: 40,
        token: u64::MAX - 3,
    };

    #[test]
    fn a_claim_is_read_as_it_was_written_and_all_are_of_one_length() {
        let closed = CommitRecord {
            is_open: false,
            birth: 0,
            salts: 0,
            count: 0,
            base: 0,
            row: 0,
            token: 0,
        };
        for record in [CLAIM, closed] {
            assert_eq!(CommitRecord::parse(record.to_string().trim_end()), Some(record));
            assert_eq!(record.to_string().len(), CLAIM.to_string().len());
        }
        for line in [
            "",
            "4711",
            "open",
            "open birth=1",
            "half birth=0 salts=0 count=0 base=0 row=0 token=0",
        ] {
            assert_eq!(CommitRecord::parse(line), None, "{line}");
        }
    }
}
