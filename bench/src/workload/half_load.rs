//! Half of what the machine can do, as an open loop: instances begin when it is their time, however long the others take, and their
//! latency counts from that moment. So a stall shows in all who would have begun in it.

use std::thread;
use std::time::{Duration, Instant};

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row};
use crux_bench::steps::STEPS;

/// The load that is halved.
const IN_FLIGHT: usize = 256;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let (mut rate, mut p50, mut p99, mut p999, mut longest, mut cpu) = (vec![], vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..setting.runs {
        let most = most_per_s(setting)?;
        let (mut latencies, cpu_us) = open_loop(setting, most / 2.0)?;
        rate.push(most / 2.0 * f64::from(STEPS));
        p50.extend(latencies.ms_at(0.5));
        p99.extend(latencies.ms_at(0.99));
        p999.extend(latencies.ms_at(0.999));
        longest.extend(latencies.ms_at(1.0));
        cpu.extend(cpu_us);
    }
    Ok(vec![
        Row::of_runs("half load", "steps/s", &rate).cpu(&cpu),
        Row::of_runs("half load, 10 steps, p50", "ms", &p50),
        Row::of_runs("half load, 10 steps, p99", "ms", &p99).goal(Goal::AtMost(10.0)),
        Row::of_runs("half load, 10 steps, p99.9", "ms", &p999).goal(Goal::AtMost(20.0)),
        Row::of_runs("half load, 10 steps, longest", "ms", &longest),
    ])
}

/// Instances per second with 256 in flight, now.
fn most_per_s(setting: &Setting) -> Outcome<f64> {
    let directory = setting.fresh()?;
    runtime()?.block_on(async {
        let crux = Crux::open(directory.path()).await?;
        let begun = Instant::now();
        let done = crux.in_flight("ten", IN_FLIGHT, begun + setting.short_time()).await?;
        let per_s = done.len() as f64 / begun.elapsed().as_secs_f64();
        crux.close().await;
        Ok(per_s)
    })
}

fn open_loop(setting: &Setting, per_s: f64) -> Outcome<(Latencies, Option<f64>)> {
    let directory = setting.fresh()?;
    let runtime = runtime()?;
    let crux = runtime.block_on(Crux::open(directory.path()))?;
    let count = (per_s * setting.time().as_secs_f64()) as u64;
    let meter = Meter::begin(Process::own());
    let begun = Instant::now();
    let mut instances = Vec::new();
    // A thread of its own keeps the time: a task would wait for its turn behind those that it starts.
    for n in 0..count {
        let at = begun + Duration::from_secs_f64(n as f64 / per_s);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let crux = crux.clone();
        instances.push(runtime.spawn(async move {
            crux.whole("ten", n).await?;
            Outcome::Ok(at.elapsed())
        }));
    }
    let latencies = runtime.block_on(async {
        let mut latencies = Latencies::default();
        for instance in instances {
            latencies.add(instance.await??);
        }
        Outcome::Ok(latencies)
    })?;
    let cpu = meter.cpu_us_per(count * u64::from(STEPS));
    runtime.block_on(crux.close());
    Ok((latencies, cpu))
}
