//! Recovery after a restart: records lack the changes that the last process had only in memory. The
//! tail of the journal contains them all, and it is short.

use std::time::Instant;

use rusqlite::{Connection, OptionalExtension};

use crate::id::InstanceId;
use crate::store::sqlite::error::before_commit;
use crate::store::sqlite::flush_policy::FlushQueue;
use crate::store::sqlite::record_delta::from_column;
use crate::store::sqlite::unflushed::{ById, Head, Transition, Unflushed, UnsettledFlag};
use crate::store::{Error, Seq};

/// Fills `unflushed`, and says which number the next row gets.
pub(super) fn read_tail(
    conn: &Connection,
    unflushed: &Unflushed,
    now: Instant,
) -> Result<(FlushQueue, i64), Error> {
    let at = |error| before_commit(&error);
    let mark: i64 = conn
        .query_row("SELECT value FROM meta WHERE key = 'mark'", [], |row| row.get(0))
        .map_err(at)?;
    let mut tail = FlushQueue::default();
    let mut moved: ById<Transition> = ById::default();
    let mut recorded: ById<Option<Seq>> = ById::default();
    let mut last = mark;
    // A long journal is removed from its end, in pieces, when its record is gone already.
    let mut removing =
        conn.prepare("SELECT instance FROM removing JOIN journal ON row = head").map_err(at)?;
    for instance in removing.query_map([], |row| row.get(0)).map_err(at)? {
        recorded.insert(InstanceId(instance.map_err(at)?), Some(Seq::MAX));
    }
    let mut record = conn.prepare("SELECT seq FROM instance WHERE id = ?1").map_err(at)?;
    let mut read = conn
        .prepare(
            "SELECT row, instance, seq, settled, record FROM journal WHERE row > ?1 ORDER BY row",
        )
        .map_err(at)?;
    let mut rows = read.query([mark]).map_err(at)?;
    while let Some(row) = rows.next().map_err(at)? {
        let column = |index| row.get(index).map_err(at);
        let (number, seq, settled): (i64, Seq, Seq) =
            (column(0)?, row.get(2).map_err(at)?, row.get(3).map_err(at)?);
        let instance = InstanceId(row.get(1).map_err(at)?);
        tail.appended(number, instance);
        last = number;
        let known = match recorded.get(&instance) {
            Some(known) => *known,
            None => {
                let known =
                    record.query_row([instance.0], |row| row.get(0)).optional().map_err(at)?;
                recorded.insert(instance, known);
                known
            }
        };
        // The record holds what was so up to its own number. Without a record and a first row it
        // has been removed.
        if known.is_some_and(|known| seq <= known)
            || (known.is_none() && seq > 1 && !moved.contains_key(&instance))
        {
            continue;
        }
        let text: Option<String> = row.get(4).map_err(at)?;
        let damaged = |error| {
            Error::Broken(format!(
                "the database is damaged: row {number} of the journal: {error}; restore a copy"
            ))
        };
        let (start, change) = match text {
            Some(text) => {
                from_column(&text).map(|(start, change)| (start, Some(change))).map_err(damaged)?
            }
            None => (None, None),
        };
        let mark =
            if settled >= seq { UnsettledFlag::Settled(None) } else { UnsettledFlag::Unsettled };
        let before = moved.remove(&instance);
        let (start_before, change_before) =
            before.map_or((None, None), |moved| (moved.start, moved.change));
        let head = Head { row: number, seq };
        moved.insert(
            instance,
            Transition {
                head,
                mark,
                start: start.or(start_before),
                change: change.or(change_before),
            },
        );
    }
    for instance in moved.keys() {
        tail.changed(now, *instance, true);
    }
    unflushed.committed([].iter(), moved.into_iter());
    Ok((tail, last + 1))
}
