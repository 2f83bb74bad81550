//! Steps of a service behind Redis Streams, with the rows in the same server: the store that goes
//! with that bus. The server syncs its log once a second. The service is a separate process, and
//! the same for Crux and floors; each run has its own server.

use std::time::Instant;

use super::{Setting, redis};
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor::calls::Calls;
use crate::floor::remote::{Load, Until};
use crate::floor::streams;
use crate::measure::{Meter, Process};
use crate::report::{Goal, Row};
use crate::servers;
use crate::service::Service;
use crux_bench::steps::STEPS;

/// What every key begins with.
const PREFIX: &str = "crux";

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let in_flight = setting.only.unwrap_or(256);
    let mut measured = Measured::default();
    for _ in 0..setting.runs {
        if setting.floors {
            let load = Load { steps: STEPS, in_flight, until: Until::Over(setting.short_time()) };
            measured.bare.push(floor(load, false)?);
            measured.floor.push(floor(load, true)?);
        }
        measured.crux.push(crux(setting, in_flight)?);
    }
    Ok(measured.rows(in_flight))
}

/// One run; CPU times are per step.
struct Run {
    steps_per_s: f64,
    cpu_us: Option<f64>,
    service_us: Option<f64>,
    server_us: Option<f64>,
}

fn floor(load: Load, with_rows: bool) -> Outcome<Run> {
    let redis = servers::redis("everysec")?;
    let calls = if with_rows { Some(record(&redis)?) } else { None };
    let service = Service::over_streams(&redis.url(), PREFIX)?;
    let (of_service, of_server) =
        (Meter::begin(service.process()), Meter::begin(redis::server(&redis)));
    let floored = streams::run(&redis.url(), PREFIX, load, calls)?;
    let steps = floored.latencies.len() as u64 * u64::from(load.steps);
    let (service_us, server_us) = (of_service.cpu_us_per(steps), of_server.cpu_us_per(steps));
    Ok(Run {
        steps_per_s: floored.steps_per_s,
        cpu_us: floored.cpu_us_per_step,
        service_us,
        server_us,
    })
}

/// Afterwards the server knows the scripts, and nothing else.
fn record(redis: &servers::Redis) -> Outcome<Calls> {
    let service = Service::over_streams(&redis.url(), PREFIX)?;
    let calls = runtime()?.block_on(async {
        redis::record(redis, Crux::over_streams(redis.url(), PREFIX).await?, "remote").await
    });
    drop(service);
    redis.command(&["FLUSHALL"]);
    calls
}

fn crux(setting: &Setting, in_flight: usize) -> Outcome<Run> {
    let redis = servers::redis("everysec")?;
    let service = Service::over_streams(&redis.url(), PREFIX)?;
    runtime()?.block_on(async {
        let crux = Crux::over_streams(redis.url(), PREFIX).await?;
        let (meter, of_service) = (Meter::begin(Process::own()), Meter::begin(service.process()));
        let of_server = Meter::begin(redis::server(&redis));
        let begun = Instant::now();
        crux.in_flight("remote", in_flight, begun + setting.time()).await?;
        let (steps, taken) = (crux.steps(), begun.elapsed());
        let (cpu_us, service_us, server_us) =
            (meter.cpu_us_per(steps), of_service.cpu_us_per(steps), of_server.cpu_us_per(steps));
        crux.close().await;
        Ok(Run { steps_per_s: steps as f64 / taken.as_secs_f64(), cpu_us, service_us, server_us })
    })
}

#[derive(Default)]
struct Measured {
    crux: Vec<Run>,
    floor: Vec<Run>,
    bare: Vec<Run>,
}

impl Measured {
    fn rows(&self, in_flight: usize) -> Vec<Row> {
        let of = |runs: &[Run], what: fn(&Run) -> Option<f64>| {
            runs.iter().filter_map(what).collect::<Vec<f64>>()
        };
        let per_s = |runs: &[Run]| of(runs, |run| Some(run.steps_per_s));
        let what = format!("Redis Streams, {in_flight} in flight");
        let mut rows = vec![
            Row::of_runs(what.clone(), "steps/s", &per_s(&self.crux))
                .floor(&per_s(&self.floor))
                .goal(Goal::FloorAtLeast(0.6))
                .cpu(&of(&self.crux, |run| run.cpu_us)),
            Row::of_runs(format!("{what}, beside the bare floor"), "steps/s", &per_s(&self.crux))
                .floor(&per_s(&self.bare)),
            Row::of_runs(
                format!("{what}, the service's CPU per step"),
                "µs",
                &of(&self.crux, |run| run.service_us),
            )
            .floor(&of(&self.floor, |run| run.service_us)),
            Row::of_runs(
                format!("{what}, redis-server's CPU per step"),
                "µs",
                &of(&self.crux, |run| run.server_us),
            )
            .floor(&of(&self.floor, |run| run.server_us)),
        ];
        for (name, runs) in [("the floor", &self.floor), ("the bare floor", &self.bare)]
            .into_iter()
            .filter(|(_, runs)| !runs.is_empty())
        {
            rows.push(
                Row::of_runs(format!("{what}: {name} itself"), "steps/s", &per_s(runs))
                    .cpu(&of(runs, |run| run.cpu_us)),
            );
        }
        rows
    }
}
