//! Half of what the machine can do, as an open loop: instances begin when it is their time, however
//! long the others take, and their latency counts from that moment. So a stall shows in all who
//! would have begun in it. The floor is the sketch at the same rate.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor::sketch::Sketch;
use crate::measure::{Latencies, Meter, Process};
use crate::report::{Goal, Row};
use crux_bench::steps::STEPS;

/// The load that is halved.
const IN_FLIGHT: usize = 256;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let (mut rate, mut cpu, mut crux, mut sketch) =
        (vec![], vec![], Quantiles::default(), Quantiles::default());
    for _ in 0..setting.runs {
        let per_s = most_per_s(setting)? / 2.0;
        if setting.floors {
            sketch.add(sketched(setting, per_s)?);
        }
        let (latencies, cpu_us) = measured(setting, per_s)?;
        rate.push(per_s * f64::from(STEPS));
        crux.add(latencies);
        cpu.extend(cpu_us);
    }
    Ok(vec![
        Row::of_runs("half load", "steps/s", &rate).cpu(&cpu),
        Row::of_runs("half load, 10 steps, p50", "ms", &crux.p50).floor(&sketch.p50),
        Row::of_runs("half load, 10 steps, p99", "ms", &crux.p99)
            .floor(&sketch.p99)
            .goal(Goal::AtMost(10.0)),
        Row::of_runs("half load, 10 steps, p99.9", "ms", &crux.p999)
            .floor(&sketch.p999)
            .goal(Goal::AtMost(20.0)),
        Row::of_runs("half load, 10 steps, longest", "ms", &crux.longest).floor(&sketch.longest),
    ])
}

/// One value per run, in milliseconds.
#[derive(Default)]
struct Quantiles {
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    longest: Vec<f64>,
}

impl Quantiles {
    fn add(&mut self, mut latencies: Latencies) {
        self.p50.extend(latencies.ms_at(0.5));
        self.p99.extend(latencies.ms_at(0.99));
        self.p999.extend(latencies.ms_at(0.999));
        self.longest.extend(latencies.ms_at(1.0));
    }
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

fn measured(setting: &Setting, per_s: f64) -> Outcome<(Latencies, Option<f64>)> {
    let directory = setting.fresh()?;
    let runtime = runtime()?;
    let crux = runtime.block_on(Crux::open(directory.path()))?;
    let count = (per_s * setting.time().as_secs_f64()) as u64;
    let meter = Meter::begin(Process::own());
    let latencies = open_loop(&runtime, per_s, count, |n| {
        let crux = crux.clone();
        async move { crux.whole("ten", n).await.map(drop) }
    })?;
    let cpu = meter.cpu_us_per(count * u64::from(STEPS));
    runtime.block_on(crux.close());
    Ok((latencies, cpu))
}

fn sketched(setting: &Setting, per_s: f64) -> Outcome<Latencies> {
    let directory = setting.fresh()?;
    let sketch = Sketch::open(&directory.path().join("sketch-half.db"))?;
    let count = (per_s * setting.time().as_secs_f64()) as u64;
    let latencies = open_loop(&runtime()?, per_s, count, |n| sketch.instance(n))?;
    sketch.close()?;
    Ok(latencies)
}

/// Begins so many instances at that rate; how long each took from when it was its time.
fn open_loop<F>(
    runtime: &Runtime,
    per_s: f64,
    count: u64,
    instance: impl Fn(u64) -> F,
) -> Outcome<Latencies>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let begun = Instant::now();
    let mut instances = Vec::new();
    // A separate thread keeps the time: a task would wait for its turn behind those that it
    // starts.
    for n in 0..count {
        let at = begun + Duration::from_secs_f64(n as f64 / per_s);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let instance = instance(n);
        instances.push(runtime.spawn(async move {
            instance.await?;
            Outcome::Ok(at.elapsed())
        }));
    }
    runtime.block_on(async {
        let mut latencies = Latencies::default();
        for instance in instances {
            latencies.add(instance.await??);
        }
        Ok(latencies)
    })
}
