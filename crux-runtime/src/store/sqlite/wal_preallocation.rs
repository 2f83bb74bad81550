//! Preallocates the log file. A commit that extends a file makes the file system write its own
//! journal too, which takes several times as long as overwriting existing blocks. So the log is
//! extended with zeros ahead of time, a block at a time: SQLite treats the first frame without the
//! log's salt as its end. After the log has been restarted, all of it is overwritten anyway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rusqlite::Connection;

/// Pages for which there is always room: most groups have fewer.
const HEADROOM_PAGES: u64 = 64;

/// Pages for which room is made at a time, so that no commit waits long for it.
const STEP_PAGES: u64 = 128;

const BLOCK_BYTES: usize = 4_096;

/// Of the file, and of each page in it; see "WAL File Format" in SQLite's documentation.
const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;

/// The committer's view of the log's file.
pub(super) struct WalPreallocation {
    /// `None`: it cannot be written ahead, and commits take longer.
    file: Option<File>,
    page_bytes: u64,
    /// Where it ends, at least.
    length: u64,
    /// The length of the log, reported by SQLite after each commit.
    pages: Arc<AtomicI32>,
}

impl WalPreallocation {
    /// Of a database that has been read from, so that its log is there.
    pub fn of(conn: &Connection, pages: Arc<AtomicI32>) -> Self {
        let opened = || {
            let page_bytes: u32 = conn
                .query_row("PRAGMA page_size", [], |row| row.get(0))
                .map_err(io::Error::other)?;
            let path = format!("{}-wal", conn.path().unwrap_or_default());
            Ok::<_, io::Error>((
                File::options().write(true).open(path)?,
                u64::from(page_bytes) + FRAME_HEADER_BYTES,
            ))
        };
        match opened() {
            Ok((file, page_bytes)) => Self { file: Some(file), page_bytes, length: 0, pages },
            Err(error) => {
                tracing::debug!(%error, "the log cannot be written ahead");
                Self { file: None, page_bytes: 0, length: 0, pages }
            }
        }
    }

    /// Called within a transaction that writes: nobody else, not even a person's tool, makes the
    /// log longer meanwhile.
    pub fn make_room(&mut self) {
        let used = WAL_HEADER_BYTES
            + u64::from(self.pages.load(Ordering::Relaxed).unsigned_abs()) * self.page_bytes;
        if used + HEADROOM_PAGES * self.page_bytes <= self.length {
            return;
        }
        let Some(file) = &self.file else { return };
        let grown = || {
            let mut length = file.metadata()?.len();
            let wanted = used + STEP_PAGES * self.page_bytes;
            // In small pieces: where the system keeps a large one together in memory, it counts all
            // of it as written for each page of the log that comes into it.
            while length < wanted {
                file.write_all_at(&[0; BLOCK_BYTES], length)?;
                length += BLOCK_BYTES as u64;
            }
            Ok::<_, io::Error>(length)
        };
        match grown() {
            Ok(length) => self.length = length,
            // The disk is full: the commit itself finds out whether there is room for it.
            Err(error) => tracing::debug!(%error, "the log could not be written ahead"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::schema;

    #[test]
    fn what_a_crash_leaves_of_a_log_that_was_written_ahead_is_read_in_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, left) = (folder.path().join("crux.db"), folder.path().join("left.db"));
        let wal = |path: &std::path::Path| format!("{}-wal", path.display());
        let mut conn = schema::open_writer(&path).expect("a database");
        let pages = Arc::new(AtomicI32::new(0));
        let mut ahead = WalPreallocation::of(&conn, pages.clone());
        let hook = move |_: &mut rusqlite::hooks::Wal, count| {
            pages.store(count, Ordering::Relaxed);
            Ok(())
        };
        conn.wal_hook(Some(hook)).expect("watched");
        for n in 0..300_i32 {
            conn.execute_batch("BEGIN IMMEDIATE").expect("begun");
            conn.execute(
                "INSERT INTO definition VALUES(?1, ?2)",
                (n.to_string(), "x".repeat(3_000)),
            )
            .expect("a row");
            ahead.make_room();
            let length = std::fs::metadata(wal(&path)).expect("the log").len();
            conn.execute_batch("COMMIT").expect("committed");
            assert_eq!(
                std::fs::metadata(wal(&path)).expect("the log").len(),
                length,
                "commit {n} made the log's file longer"
            );
        }
        std::fs::copy(&path, &left).expect("the database as a crash leaves it");
        std::fs::copy(wal(&path), wal(&left)).expect("its log");
        let conn = schema::open_writer(&left).expect("what was left");
        let count: i32 = conn
            .query_row("SELECT count(*) FROM definition", [], |row| row.get(0))
            .expect("an answer");
        let whole: String =
            conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
        assert_eq!((count, whole.as_str()), (300, "ok"));
    }
}
