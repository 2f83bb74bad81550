//! An instance's journal, read backwards from its newest row: each row names the one before it.

use rusqlite::{Connection, OptionalExtension};

use crate::store::sqlite::error::before_commit;
use crate::store::sqlite::unflushed::Head;
use crate::store::{Seq, Stored};

#[derive(Debug)]
pub(super) enum Error {
    Sql(rusqlite::Error),
    /// A row that must be there is not, or is another instance's.
    Damaged(String),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Error> for crate::store::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(error) => before_commit(&error),
            Error::Damaged(text) => Self::Broken(text),
        }
    }
}

/// The rows with a number greater than `after`, at most `limit`, in order.
pub(super) fn rows(
    conn: &Connection,
    head: Head,
    after: Seq,
    limit: usize,
) -> Result<Vec<Stored>, Error> {
    let last = after.saturating_add(Seq::try_from(limit).unwrap_or(Seq::MAX)).min(head.seq);
    if last <= after {
        return Ok(Vec::new());
    }
    let mut row = locate(conn, head, last)?;
    let mut found = Vec::with_capacity((last - after) as usize);
    let mut read =
        conn.prepare_cached("SELECT seq, settled, body, prev FROM journal WHERE row = ?1")?;
    for seq in (after + 1..=last).rev() {
        let stored = read.query_row([row], |columns| {
            Ok((
                Stored { seq: columns.get(0)?, settled: columns.get(1)?, row: columns.get(2)? },
                columns.get(3)?,
            ))
        });
        match stored.optional()? {
            Some((stored, prev)) if stored.seq == seq => {
                found.push(stored);
                row = prev;
            }
            _ => return Err(damaged(row, seq)),
        }
    }
    found.reverse();
    Ok(found)
}

/// The token of the row `wanted`.
pub(super) fn token(conn: &Connection, head: Head, wanted: Seq) -> Result<u64, Error> {
    let row = locate(conn, head, wanted)?;
    let token: Option<i64> = conn
        .prepare_cached("SELECT token FROM journal WHERE row = ?1")?
        .query_row([row], |columns| columns.get(0))
        .optional()?;
    token.map(i64::cast_unsigned).ok_or_else(|| damaged(row, wanted))
}

/// Where the row `wanted` is, going back from the newest.
fn locate(conn: &Connection, head: Head, wanted: Seq) -> Result<i64, Error> {
    let mut row = head.row;
    let mut back = conn.prepare_cached("SELECT prev FROM journal WHERE row = ?1 AND seq = ?2")?;
    for seq in (wanted + 1..=head.seq).rev() {
        row = back
            .query_row((row, seq), |columns| columns.get(0))
            .optional()?
            .ok_or_else(|| damaged(row, seq))?;
    }
    Ok(row)
}

fn damaged(row: i64, seq: Seq) -> Error {
    Error::Damaged(format!(
        "the database is damaged: row {row} of the journal should be an instance's number {seq}; restore a copy"
    ))
}
