//! After a restart: the records of instances that moved shortly before the end do not know their newest rows. The tail of the journal
//! does, and it is short.

use rusqlite::{Connection, OptionalExtension};

use super::heads::{ById, Head, Heads, Mark};
use super::tail::Tail;
use crate::id::InstanceId;
use crate::store::Seq;

/// Fills `heads`, and says which number the next row gets.
pub(super) fn read_tail(conn: &Connection, heads: &Heads) -> rusqlite::Result<(Tail, i64)> {
    let mark: i64 = conn.query_row("SELECT value FROM meta WHERE key = 'mark'", [], |row| row.get(0))?;
    let mut tail = Tail::default();
    let mut newest: ById<Head> = ById::default();
    let mut last = mark;
    let mut read = conn.prepare("SELECT row, instance, seq FROM journal WHERE row > ?1 ORDER BY row")?;
    let mut rows = read.query([mark])?;
    while let Some(row) = rows.next()? {
        let (number, instance, seq): (i64, [u8; 16], Seq) = (row.get(0)?, row.get(1)?, row.get(2)?);
        tail.appended(number, InstanceId(instance));
        newest.insert(InstanceId(instance), Head { row: number, seq, mark: Mark::Unsettled });
        last = number;
    }
    let mut known = conn.prepare("SELECT seq FROM instance WHERE id = ?1")?;
    let mut behind = Vec::new();
    for (instance, head) in newest {
        let seq: Option<Seq> = known.query_row([instance.0], |row| row.get(0)).optional()?;
        // Without a record it is one that was being removed.
        if seq.is_some_and(|seq| seq < head.seq) {
            behind.push((instance, Some(head)));
        }
    }
    heads.change(behind.into_iter());
    Ok((tail, last + 1))
}
