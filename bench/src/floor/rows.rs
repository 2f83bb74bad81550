//! Bare SQLite: rows of a journal appended in the order of their commits, one by one or in groups,
//! and nothing besides.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::Outcome;

/// A journal without an index: the layout that costs least. The columns are those that a durable
/// journal cannot do without.
pub struct Journal {
    connection: Connection,
}

impl Journal {
    pub fn open(file: &Path) -> Outcome<Self> {
        let connection = Connection::open(file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        connection.set_prepared_statement_cache_capacity(8);
        connection.execute_batch(
            "CREATE TABLE journal (row INTEGER PRIMARY KEY, instance BLOB NOT NULL, seq INTEGER NOT NULL, prev INTEGER NOT NULL,
             settled INTEGER NOT NULL, token INTEGER NOT NULL, body TEXT NOT NULL)",
        )?;
        Ok(Self { connection })
    }

    /// Commits rows of (instance, number, previous row, text) as one group.
    pub fn commit<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a [u8; 16], u32, i64, &'a str)>,
        numbers: &mut Vec<i64>,
    ) -> Outcome<()> {
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO journal (instance, seq, prev, settled, token, body) VALUES (?, ?, ?, ?, ?, ?)")?;
            for (instance, seq, prev, body) in rows {
                let token = prev.wrapping_mul(6_364_136_223_846_793_005);
                numbers.push(insert.insert(params![
                    instance,
                    seq,
                    prev,
                    seq.saturating_sub(1),
                    token,
                    body
                ])?);
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// How long it takes to commit all rows of one instance one after the other.
pub fn one_at_a_time(
    directory: &Path,
    bodies: &[String],
    instances: usize,
) -> Outcome<Vec<Duration>> {
    let mut journal = Journal::open(&directory.join("floor-single.db"))?;
    let mut numbers = Vec::new();
    let mut taken = Vec::with_capacity(instances);
    for n in 0..instances {
        let instance = (n as u128).to_be_bytes();
        let begun = Instant::now();
        let mut prev = 0;
        for (seq, body) in (1..).zip(bodies) {
            numbers.clear();
            journal.commit(std::iter::once((&instance, seq, prev, body.as_str())), &mut numbers)?;
            prev = numbers.last().copied().unwrap_or(0);
        }
        taken.push(begun.elapsed());
    }
    Ok(taken)
}

/// Rows per second in groups of `group`, for `time`.
pub fn in_groups(
    directory: &Path,
    bodies: &[String],
    group: usize,
    time: Duration,
) -> Outcome<f64> {
    let mut journal = Journal::open(&directory.join("floor-groups.db"))?;
    let mut numbers = Vec::new();
    let instances: Vec<[u8; 16]> = (0..group as u128).map(u128::to_be_bytes).collect();
    let begun = Instant::now();
    let mut rows = 0;
    let mut bodies = (1..).zip(bodies).cycle();
    while begun.elapsed() < time {
        let Some((seq, body)) = bodies.next() else { break };
        numbers.clear();
        journal.commit(
            instances.iter().map(|instance| (instance, seq, rows as i64, body.as_str())),
            &mut numbers,
        )?;
        rows += group;
    }
    Ok(rows as f64 / begun.elapsed().as_secs_f64())
}
