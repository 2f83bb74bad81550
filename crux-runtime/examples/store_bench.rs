//! How fast the SQLite store appends, beside a floor: bare SQLite writing the same rows and records
//! in the same order, on one thread and with nobody to answer to. Both run in one process, one
//! after the other.
//!
//! `cargo run --release --example store_bench -- [seconds per run] [bytes per row] [folder]`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crux_runtime::id::InstanceId;
use crux_runtime::machine::Time;
use crux_runtime::store::sqlite::{Options, Sqlite};
use crux_runtime::store::{
    Append, Appended, NewInstance, RecordChange, Seq, Settled, Status, Store,
};
use rusqlite::{Connection, params};

/// Rows of one instance: a start, nine steps and an end.
const ROWS: Seq = 11;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let seconds: f64 = arguments.next().map_or(Ok(5.0), |text| text.parse())?;
    let row_bytes: usize = arguments.next().map_or(Ok(400), |text| text.parse())?;
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let length = Duration::from_secs_f64(seconds);
    let body = format!(
        r#"{{"v":1,"at":1764000000000,"events":["{}"]}}"#,
        "x".repeat(row_bytes.saturating_sub(41))
    );

    println!(
        "{:<34}{:>10}{:>10}{:>10}{:>8}{:>9}{:>9}{:>9}",
        "", "rows/s", "CPU us", "B/row", "group", "p50 us", "p99 us", "p99.9"
    );
    for group in [1, 64, 256, 1024] {
        floor(&folder, &format!("bare SQLite, groups of {group}"), length, &body, group)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for (drivers, batch) in [(1, 1), (1, 64), (1, 256), (2, 128), (256, 1), (2, 2048), (4096, 1)] {
        runtime.block_on(store(&folder, length, &body, drivers, batch))?;
    }
    Ok(())
}

/// The store with `drivers` callers that each move `batch` instances, one append per instance at a
/// time.
async fn store(
    folder: &Path,
    length: Duration,
    body: &str,
    drivers: usize,
    batch: usize,
) -> Result<(), Failure> {
    let place = tempfile::tempdir_in(folder)?;
    let store = Arc::new(Sqlite::open(Options::new(place.path().join("crux.db")))?);
    let meter = Meter::start()?;
    let calls = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..drivers {
        tasks.push(tokio::spawn(drive(
            store.clone(),
            length,
            body.to_owned(),
            batch,
            calls.clone(),
        )));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = meter.began.elapsed();
    store.close().await?;
    meter.report(
        &format!("store, {drivers} x {batch} in flight"),
        elapsed,
        batch as u64,
        &mut latencies,
    )
}

async fn drive(
    store: Arc<Sqlite>,
    length: Duration,
    body: String,
    batch: usize,
    ids: Arc<AtomicU64>,
) -> Result<Vec<u32>, Failure> {
    let began = Instant::now();
    let mut latencies = Vec::new();
    // Lives are out of step, as they are in a busy server.
    let mut lives: Vec<(InstanceId, Seq)> =
        (0..batch).map(|n| (new_id(&ids), n as Seq % ROWS)).collect();
    let mut seqs: Vec<Seq> = vec![0; batch];
    while began.elapsed() < length {
        let mut settled = Vec::new();
        let appends = lives.iter_mut().zip(&mut seqs).map(|((id, rest), seq)| {
            *seq += 1;
            let append = append_of(*id, *seq, *rest == ROWS - 1, &body);
            *rest += 1;
            if *rest == ROWS {
                settled.push(Settled { instance: *id, seq: *seq, wake_at: None });
                (*id, *rest, *seq) = (new_id(&ids), 0, 0);
            }
            append
        });
        let appends = appends.collect();
        let asked = Instant::now();
        let results = store.append(appends).await;
        latencies.push(u32::try_from(asked.elapsed().as_micros())?);
        if let Some(wrong) =
            results.into_iter().find(|result| !matches!(result, Ok(Appended::Done)))
        {
            return Err(format!("an append was not done: {wrong:?}").into());
        }
        if !settled.is_empty() {
            // As the engine does it: nobody waits for this.
            drop(store.settle(settled));
        }
    }
    Ok(latencies)
}

fn append_of(instance: InstanceId, seq: Seq, last: bool, body: &str) -> Append {
    let start = (seq == 1).then(|| {
        Box::new(NewInstance {
            workflow: "order".to_owned(),
            version: 1,
            definition: "d".repeat(64),
            owner: String::new(),
            started_at: Time(1_764_000_000_000),
            request: None,
        })
    });
    let record = match (seq, last) {
        (1, _) => Some(RecordChange { status: Status::Processing, ended: None }),
        (_, true) => Some(RecordChange {
            status: Status::Completed,
            ended: Some((Time(1_764_000_000_000), 604_800_000)),
        }),
        _ => None,
    };
    Append {
        instance,
        seq,
        token: u64::from(seq) << 40,
        row: body.into(),
        settled: seq - 1,
        start,
        record,
    }
}

fn new_id(ids: &AtomicU64) -> InstanceId {
    let number = ids.fetch_add(1, Ordering::Relaxed);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    // Some starts per millisecond.
    InstanceId::new(Time(1_764_000_000_000 + (number / 8) as i64), random, None)
}

/// The same rows and records as the store writes for lives of the same length, and a checkpoint
/// whenever the log is long.
fn floor(
    folder: &Path,
    name: &str,
    length: Duration,
    body: &str,
    group: usize,
) -> Result<(), Failure> {
    let place = tempfile::tempdir_in(folder)?;
    let conn = Connection::open(place.path().join("floor.db"))?;
    conn.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=16000; PRAGMA cache_size=-32768;
         CREATE TABLE journal(row INTEGER PRIMARY KEY, instance BLOB, seq INTEGER, prev INTEGER, settled INTEGER, token INTEGER, body TEXT);
         CREATE TABLE instance(id BLOB PRIMARY KEY, kind INTEGER, owner TEXT, status TEXT, started_at INTEGER, ended_at INTEGER) WITHOUT ROWID;
         CREATE INDEX instance_kind ON instance(kind, status, id);",
    )?;
    let mut insert = conn.prepare("INSERT INTO journal VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    let mut begin =
        conn.prepare("INSERT INTO instance VALUES(?1, 1, '', 'processing', ?2, NULL)")?;
    let mut end =
        conn.prepare("UPDATE instance SET status = 'completed', ended_at = ?2 WHERE id = ?1")?;
    let meter = Meter::start()?;
    let ids = AtomicU64::new(0);
    let mut lives: Vec<(InstanceId, Seq, i64)> = (0..256).map(|_| (new_id(&ids), 0, 0)).collect();
    let mut latencies = Vec::new();
    let mut row = 0_i64;
    while meter.began.elapsed() < length {
        let asked = Instant::now();
        conn.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..group {
            let at = row as usize % lives.len();
            let (id, seq, prev) = &mut lives[at];
            row += 1;
            *seq += 1;
            if *seq == 1 {
                begin.execute(params![id.0, 1_764_000_000_000_i64])?;
            }
            insert.execute(params![
                row,
                id.0,
                *seq,
                *prev,
                *seq - 1,
                i64::from(*seq) << 40,
                body
            ])?;
            *prev = row;
            if *seq == ROWS {
                end.execute(params![id.0, 1_764_000_000_000_i64])?;
                (*id, *seq, *prev) = (new_id(&ids), 0, 0);
            }
        }
        conn.execute_batch("COMMIT")?;
        latencies.push(u32::try_from(asked.elapsed().as_micros())?);
    }
    let elapsed = meter.began.elapsed();
    conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    meter.report(name, elapsed, group as u64, &mut latencies)
}

/// Time, processor time and bytes given to the disk by this process.
struct Meter {
    began: Instant,
    cpu: Duration,
    written: u64,
}

impl Meter {
    fn start() -> Result<Self, Failure> {
        Ok(Self { began: Instant::now(), cpu: cpu()?, written: written()? })
    }

    /// One line; `latencies` are per call of `group` rows, in microseconds.
    fn report(
        self,
        name: &str,
        elapsed: Duration,
        group: u64,
        latencies: &mut [u32],
    ) -> Result<(), Failure> {
        latencies.sort_unstable();
        let rows = latencies.len() as u64 * group;
        let cpu = cpu()?.saturating_sub(self.cpu).as_secs_f64() * 1e6 / rows as f64;
        let written = (written()? - self.written) / rows.max(1);
        let per_second = rows as f64 / elapsed.as_secs_f64();
        let at = |share: f64| {
            latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0)
        };
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        println!(
            "{name:<34}{per_second:>10.0}{cpu:>10.2}{written:>10}{group:>8}{p50:>9}{p99:>9}{p999:>9}"
        );
        Ok(())
    }
}

/// Processor time of all threads.
fn cpu() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name, which may hold anything: user and system time are the 12th and 13th field, in
    // hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = fields.get(11).ok_or("no user time")?.parse::<u64>()?
        + fields.get(12).ok_or("no system time")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn written() -> Result<u64, Failure> {
    let io = std::fs::read_to_string("/proc/self/io")?;
    let line =
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).ok_or("no write_bytes")?;
    Ok(line.trim().parse()?)
}
