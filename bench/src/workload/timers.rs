//! Sleeping instances: 10,000 of them due every second, and how much later than due their end is
//! durable; and 1,000,000 that sleep for a year, and what they cost a process that starts with
//! them. The million is made by the store's own code ([`crate::fill`]).

use std::time::{Duration, SystemTime};

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, DATABASE, runtime};
use crate::fill;
use crate::lanes::concurrently;
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row, count};
use crate::server::Server;

const DUE_PER_S: usize = 10_000;
/// Time to start them all before the first is due.
const LEAD: Duration = Duration::from_secs(6);
/// Concurrent starts.
const STARTERS: usize = 64;
/// How long a started process is left alone before its memory is read.
const CALM: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let mut rows = due(setting)?;
    rows.extend(sleeping(setting)?);
    Ok(rows)
}

fn due(setting: &Setting) -> Outcome<Vec<Row>> {
    let (mut p50, mut p99, mut longest, mut cpu) = (vec![], vec![], vec![], vec![]);
    for _ in 0..setting.runs {
        let (mut lateness, cpu_us) = runtime()?.block_on(lateness(setting))?;
        p50.extend(lateness.ms_at(0.5));
        p99.extend(lateness.ms_at(0.99));
        longest.extend(lateness.ms_at(1.0));
        cpu.extend(cpu_us);
    }
    Ok(vec![
        Row::of_runs("10,000 due per second: late, p50", "ms", &p50).cpu(&cpu),
        Row::of_runs("10,000 due per second: late, p99", "ms", &p99).goal(Goal::AtMost(20.0)),
        Row::of_runs("10,000 due per second: late, longest", "ms", &longest),
    ])
}

async fn lateness(setting: &Setting) -> Outcome<(Latencies, Option<f64>)> {
    let directory = setting.fresh()?;
    let crux = Crux::open(directory.path()).await?;
    let seconds = if setting.quick { 2 } else { 5 };
    let first = fill::now()?.plus_ms(u64::try_from(LEAD.as_millis())?);
    let starter = |lane: usize| {
        let crux = crux.clone();
        async move {
            let mut started = Vec::new();
            for n in (lane..DUE_PER_S * seconds).step_by(STARTERS) {
                let at = first.plus_ms((n * 1000 / DUE_PER_S) as u64);
                started.push((
                    at,
                    crux.start("sleeper", format!(r#"{{"until":"{}"}}"#, at.timestamp())).await?,
                ));
            }
            Ok(started)
        }
    };
    let mut waiting = Vec::new();
    for (at, instance) in concurrently(STARTERS, starter).await?.into_iter().flatten() {
        let crux = crux.clone();
        waiting.push(tokio::spawn(async move {
            crux.end(instance).await;
            let due = SystemTime::UNIX_EPOCH + Duration::from_millis(at.0.unsigned_abs());
            SystemTime::now().duration_since(due).unwrap_or_default()
        }));
    }
    if fill::now()? >= first {
        return Err(format!(
            "{} instances could not be started in {} s",
            waiting.len(),
            LEAD.as_secs()
        )
        .into());
    }
    let meter = Meter::begin(Process::own());
    let count = waiting.len() as u64;
    let mut lateness = Latencies::default();
    for instance in waiting {
        lateness.add(instance.await?);
    }
    let cpu = meter.cpu_us_per(count);
    crux.close().await;
    Ok((lateness, cpu))
}

fn sleeping(setting: &Setting) -> Outcome<Vec<Row>> {
    let sleepers = setting.many(1_000_000);
    let directory = setting.fresh()?;
    fill::sleeping(directory.path(), setting.fresh()?.path(), sleepers)?;
    let server = Server::start(&directory.path().join(DATABASE))?;
    server.until_ready()?;
    let ready_ms = server.age().as_secs_f64() * 1e3;
    std::thread::sleep(CALM);
    let resident = server.process().resident_bytes().ok_or("the server's memory cannot be read")?;
    let what = count(sleepers);
    Ok(vec![
        Row::once(format!("{what} sleeping: ready"), "ms", ready_ms),
        Row::once(format!("{what} sleeping: memory of the process"), "MiB", resident as f64 / MIB),
    ])
}
