//! Inserts many journal rows with one statement: most of the cost of an insert is starting and
//! ending the statement and finding the end of the table.

use std::sync::Arc;

use rusqlite::{Connection, Statement};

use crate::id::InstanceId;
use crate::store::Seq;

/// One statement for each power of two up to this many rows, so that groups of any size need few.
const STATEMENT_ROWS_MAX: usize = 32;

const COLUMNS: usize = 8;

/// A row of the journal, see [`crate::store::sqlite::schema`].
#[derive(Debug)]
pub(super) struct NewRow {
    pub row: i64,
    pub instance: InstanceId,
    pub seq: Seq,
    pub prev: i64,
    pub settled: Seq,
    pub token: i64,
    pub record: Option<String>,
    pub body: Arc<str>,
}

pub(super) struct BulkInsert<'c> {
    /// For 1, 2, 4, … rows.
    inserts: Vec<Statement<'c>>,
    waiting: Vec<NewRow>,
}

impl<'c> BulkInsert<'c> {
    pub fn new(conn: &'c Connection) -> rusqlite::Result<Self> {
        let sizes = (0..).map(|power| 1 << power).take_while(|size| *size <= STATEMENT_ROWS_MAX);
        let inserts =
            sizes.map(|size| conn.prepare(&statement(size))).collect::<rusqlite::Result<_>>()?;
        Ok(Self { inserts, waiting: Vec::with_capacity(STATEMENT_ROWS_MAX) })
    }

    /// The row is in the journal after the next [`Self::flush`] at the latest.
    pub fn insert(&mut self, row: NewRow) -> rusqlite::Result<()> {
        self.waiting.push(row);
        if self.waiting.len() == STATEMENT_ROWS_MAX { self.flush() } else { Ok(()) }
    }

    pub fn flush(&mut self) -> rusqlite::Result<()> {
        let Self { inserts, waiting } = self;
        let mut rest = waiting.as_slice();
        for (power, insert) in inserts.iter_mut().enumerate().rev() {
            while let Some((rows, after)) = rest.split_at_checked(1 << power)
                && !rest.is_empty()
            {
                write(insert, rows)?;
                rest = after;
            }
        }
        waiting.clear();
        Ok(())
    }

    /// The transaction is over, or undone.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

fn statement(rows: usize) -> String {
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
    format!(
        "INSERT INTO journal(row, instance, seq, prev, settled, token, record, body) VALUES {values}"
    )
}

fn write(insert: &mut Statement<'_>, rows: &[NewRow]) -> rusqlite::Result<()> {
    for (n, new) in rows.iter().enumerate() {
        let NewRow { row, instance, seq, prev, settled, token, record, body } = new;
        // Parameters count from 1.
        let first = n * COLUMNS + 1;
        insert.raw_bind_parameter(first, row)?;
        insert.raw_bind_parameter(first + 1, instance.0)?;
        insert.raw_bind_parameter(first + 2, seq)?;
        insert.raw_bind_parameter(first + 3, prev)?;
        insert.raw_bind_parameter(first + 4, settled)?;
        insert.raw_bind_parameter(first + 5, token)?;
        insert.raw_bind_parameter(first + 6, record)?;
        insert.raw_bind_parameter(first + 7, &**body)?;
    }
    insert.raw_execute()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_any_size_are_written_whole_and_in_order() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE journal(row INTEGER PRIMARY KEY, instance, seq, prev, settled, token, record, body)").unwrap();
        let mut rows = BulkInsert::new(&conn).unwrap();
        let mut expected = 0;
        for group in [0, 1, 2, 3, 31, 32, 33, 64, 101] {
            for _ in 0..group {
                expected += 1;
                let (row, seq) = (i64::from(expected), expected);
                let record = (seq % 3 == 0).then(|| "changed".to_owned());
                let body = format!("row {row}").into();
                rows.insert(NewRow {
                    row,
                    instance: InstanceId([7; 16]),
                    seq,
                    prev: -row,
                    settled: 1,
                    token: 5,
                    record,
                    body,
                })
                .unwrap();
            }
            rows.flush().unwrap();
            let written: u32 =
                conn.query_row("SELECT count(*) FROM journal", [], |row| row.get(0)).unwrap();
            assert_eq!(written, expected);
        }
        let wrong = "SELECT count(*) FROM journal WHERE seq <> row OR prev <> -row OR settled <> 1 OR token <> 5 OR body <> 'row ' || row
                     OR instance <> x'07070707070707070707070707070707' OR (record IS NULL) <> (seq % 3 <> 0)";
        assert_eq!(conn.query_row(wrong, [], |row| row.get::<_, u32>(0)).unwrap(), 0);
    }
}
