//! The tables, and opening the file: format check, settings of each kind of connection. Every index
//! slows down appends; these are the ones that reads need.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::broken;
use crate::store::Error;

/// "Crux", in the header of the file.
const APPLICATION_ID: i32 = 0x4372_7578;

/// The format that this binary reads and writes.
pub(super) const FORMAT: i32 = 1;

/// The journal is a log in commit order: an index on (instance, seq) would halve the speed and
/// double what is written. `prev` is the number of the instance's previous row, so that a journal
/// is read backwards from its head.
///
/// A record is written a little later than the journal: it holds what was so at its `seq`. Rows
/// after the mark (`meta.mark`) may be newer than what records say, those before it are not. What
/// else is in `meta` is explained in [`super::commit_record`].
const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('mark', 0);

CREATE TABLE journal(
    row INTEGER PRIMARY KEY,
    instance BLOB NOT NULL,
    seq INTEGER NOT NULL,
    prev INTEGER NOT NULL,
    settled INTEGER NOT NULL,
    token INTEGER NOT NULL,
    record TEXT,
    body TEXT NOT NULL
);

CREATE TABLE kind(
    kind INTEGER PRIMARY KEY,
    workflow TEXT NOT NULL,
    version INTEGER NOT NULL,
    definition TEXT NOT NULL,
    UNIQUE(workflow, version, definition)
);

CREATE TABLE instance(
    id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    owner TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER,
    expires_at INTEGER,
    request BLOB,
    head INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    unsettled INTEGER NOT NULL,
    wake_at INTEGER
) WITHOUT ROWID;
CREATE INDEX instance_kind ON instance(kind, status, id);
CREATE INDEX instance_owner ON instance(owner, id) WHERE owner <> '';
CREATE INDEX instance_unsettled ON instance(id) WHERE unsettled = 1;
CREATE INDEX instance_wake ON instance(wake_at, id) WHERE wake_at IS NOT NULL;
CREATE INDEX instance_expires ON instance(expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE request(
    key BLOB PRIMARY KEY,
    input_hash BLOB NOT NULL,
    instance BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE removing(head INTEGER PRIMARY KEY);

CREATE TABLE subscription(
    event TEXT NOT NULL,
    any_value INTEGER NOT NULL,
    value TEXT NOT NULL,
    instance BLOB NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY(event, any_value, value, instance, path)
) WITHOUT ROWID;

CREATE TABLE event(
    row INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    value TEXT,
    id TEXT NOT NULL,
    data TEXT NOT NULL,
    at INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    UNIQUE(name, id)
);
CREATE INDEX event_value ON event(name, value);
CREATE INDEX event_undelivered ON event(row) WHERE delivered = 0;
CREATE INDEX event_keep ON event(keep_until) WHERE delivered = 1;

CREATE TABLE definition(hash TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
";

/// What files of the same format may lack; older binaries pass it by.
const INDEXES: &str = "CREATE INDEX IF NOT EXISTS event_started ON event(row) WHERE delivered = 2;";

/// The same of columns of `event`.
const EVENT_COLUMNS: [&str; 2] = ["owner", "traceparent"];

/// Opens the file for the committer: creates it, or checks that it is one of ours and not newer
/// than this binary.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = open(path, flags)?;
    let at = |error| broken(&format!("cannot open {}", path.display()), &error);
    let application: i32 =
        conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(at)?;
    let format: i32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(at)?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(at)?;
    let ours = application == APPLICATION_ID;
    if !ours && (tables > 0 || application != 0) {
        return Err(Error::Broken(format!(
            "{} is a database of another program: set another `store.path`",
            path.display()
        )));
    }
    if format > FORMAT {
        let found = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(Error::Newer {
            path: path.display().to_string(),
            found,
            known: FORMAT.unsigned_abs(),
        });
    }
    let mode: String =
        conn.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0)).map_err(at)?;
    if mode != "wal" {
        return Err(Error::Broken(format!(
            "{}: the file system cannot share memory, which write-ahead logging needs",
            path.display()
        )));
    }
    conn.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-32768;",
    )
    .map_err(at)?;
    conn.set_prepared_statement_cache_capacity(64);
    if !ours {
        let create = format!(
            "BEGIN; {TABLES} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT;"
        );
        conn.execute_batch(&create).map_err(at)?;
    }
    conn.execute_batch(INDEXES).map_err(at)?;
    add_columns(&conn).map_err(at)?;
    Ok(conn)
}

fn add_columns(conn: &Connection) -> rusqlite::Result<()> {
    for column in EVENT_COLUMNS {
        let known: i64 = conn.query_row(
            "SELECT count(*) FROM pragma_table_info('event') WHERE name = ?1",
            [column],
            |row| row.get(0),
        )?;
        if known == 0 {
            let add = format!("ALTER TABLE event ADD COLUMN {column} TEXT NOT NULL DEFAULT ''");
            conn.execute_batch(&add)?;
        }
    }
    Ok(())
}

/// The log is empty: the last to close deletes its file.
pub(super) fn delete_log_on_close(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(|_| ())
}

/// Opens the file for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, Error> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.execute_batch("PRAGMA cache_size=-4096; PRAGMA mmap_size=268435456;")
        .map_err(|error| broken("cannot set up a reader", &error))?;
    Ok(conn)
}

/// Opens the file for checkpoints.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection, Error> {
    let conn = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-512;",
    )
    .map_err(|error| broken("cannot set up checkpoints", &error))?;
    Ok(conn)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let at = |error| broken(&format!("cannot open {}", path.display()), &error);
    let conn = Connection::open_with_flags(path, flags).map_err(at)?;
    // Only a person's tool can hold the file for a moment: other processes of Crux are kept out by
    // the lock.
    conn.busy_timeout(Duration::from_secs(10)).map_err(at)?;
    // A plan never depends on what is bound. Otherwise a `LIMIT ?` or a partial index has a
    // statement prepared anew for every value, at several times the cost of running it.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(at)?;
    // The last to close would move the log into the database and delete it, also when it has
    // turned out to be another database's.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(at)?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_does_not_have_a_statement_prepared_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let conn = open_writer(&folder.path().join("crux.db")).expect("a database");
        let queries = [
            "SELECT id FROM instance WHERE expires_at IS NOT NULL AND expires_at <= ?1 ORDER BY expires_at LIMIT ?2",
            "UPDATE instance SET unsettled = ?2 WHERE id = ?1",
        ];
        for query in queries {
            let mut statement = conn.prepare(query).expect("a statement");
            for n in 1..5 {
                statement.raw_bind_parameter(1, n).expect("bound");
                statement.raw_bind_parameter(2, n).expect("bound");
                assert!(statement.raw_query().next().expect("an answer").is_none());
            }
            assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0, "{query}");
        }
    }
}
