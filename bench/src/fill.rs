//! Databases with very many instances in them. The engine makes one instance; its rows are then
//! appended again and again under other ids, by the store's own code, so that the file is the one
//! that the engine would have left, sooner.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crux_runtime::id::InstanceId;
use crux_runtime::machine::{Definition, Time};
use crux_runtime::store::sqlite::{Options, Sqlite};
use crux_runtime::store::{
    Append, Appended, NewInstance, RecordChange, Seq, Settled, Status, Store,
};

use crate::Outcome;
use crate::crux::{Crux, DATABASE, input, runtime};

/// Rows per commit.
const BATCH: usize = 4096;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// How the instances end after their last row.
#[derive(Clone, Copy)]
enum Last {
    Completed,
    /// Waits for a time.
    Sleeps(Time),
}

/// `count` instances of `short` that have completed within the last day.
pub fn completed(directory: &Path, scratch: &Path, count: usize) -> Outcome<()> {
    runtime()?.block_on(async {
        let crux = Crux::open(scratch).await?;
        let instance = crux.start("short", input(1)).await?;
        crux.end(instance).await;
        let rows = crux.rows(instance).await?;
        crux.close().await;
        fill(directory, definition("short")?, &rows, Last::Completed, count).await
    })
}

/// `count` instances of `sleeper` that wake in a year.
pub fn sleeping(directory: &Path, scratch: &Path, count: usize) -> Outcome<()> {
    let until = now()?.plus_ms(365 * DAY_MS.unsigned_abs());
    runtime()?.block_on(async {
        let crux = Crux::open(scratch).await?;
        let instance =
            crux.start("sleeper", format!(r#"{{"until":"{}"}}"#, until.timestamp())).await?;
        crux.at_rest().await;
        let rows = crux.rows(instance).await?;
        crux.close().await;
        fill(directory, definition("sleeper")?, &rows, Last::Sleeps(until), count).await
    })
}

/// Milliseconds since 1970.
pub fn now() -> Outcome<Time> {
    Ok(Time(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?))
}

fn definition(workflow: &str) -> Outcome<&'static Definition> {
    let found = crux_bench::app().current(workflow).map(|workflow| workflow.definition);
    found.ok_or_else(|| format!("there is no workflow `{workflow}`").into())
}

async fn fill(
    directory: &Path,
    definition: &'static Definition,
    rows: &[String],
    last: Last,
    count: usize,
) -> Outcome<()> {
    let store = Sqlite::open(Options::new(directory.join(DATABASE)))?;
    store.define(definition.hash.to_owned(), definition.document.to_owned()).await?;
    let begin = Time(now()?.0 - DAY_MS);
    let ids: Vec<InstanceId> = (0..count as u64).map(|n| id(begin, n, count as u64)).collect();
    for ids in ids.chunks(BATCH) {
        for (seq, row) in (1..).zip(rows) {
            let batch = ids
                .iter()
                .map(|id| append(*id, seq, row, rows.len(), definition, begin, last))
                .collect();
            for appended in store.append(batch).await {
                match appended? {
                    Appended::Done => {}
                    other => {
                        return Err(format!("the database could not be filled: {other:?}").into());
                    }
                }
            }
        }
        if let Last::Sleeps(until) = last {
            let seq = Seq::try_from(rows.len())?;
            store
                .settle(
                    ids.iter()
                        .map(|instance| Settled { instance: *instance, seq, wake_at: Some(until) })
                        .collect(),
                )
                .await?;
        }
    }
    store.close().await?;
    Ok(())
}

fn append(
    instance: InstanceId,
    seq: Seq,
    row: &str,
    rows: usize,
    definition: &Definition,
    at: Time,
    last: Last,
) -> Append {
    let start = (seq == 1).then(|| {
        Box::new(NewInstance {
            workflow: definition.workflow.to_owned(),
            version: definition.version,
            definition: definition.hash.to_owned(),
            owner: String::new(),
            started_at: at,
            request: None,
        })
    });
    let is_last = seq as usize == rows;
    let (record, settled) = match last {
        Last::Completed if is_last => (
            Some(RecordChange {
                status: Status::Completed,
                ended: Some((at, definition.retain_ms)),
            }),
            seq,
        ),
        Last::Sleeps(_) if is_last => {
            (Some(RecordChange { status: Status::Waiting, ended: None }), 0)
        }
        _ => {
            (start.is_some().then_some(RecordChange { status: Status::Processing, ended: None }), 0)
        }
    };
    Append { instance, seq, token: u64::from(seq), row: row.into(), settled, start, record }
}

/// As the engine makes them: by time, the rest random; spread over a day.
fn id(begin: Time, n: u64, count: u64) -> InstanceId {
    let mut random = [0; 10];
    // SplitMix64: random enough, and no two are equal.
    let mut word = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    random[2..].copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    InstanceId::new(begin.plus_ms(n * DAY_MS.unsigned_abs() / count), random, None)
}
