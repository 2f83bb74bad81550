//! Steps in this process, and their rows in Redis, which syncs its log once a second (`everysec`)
//! or before each answer (`always`). The floor are the same calls of the same scripts without Crux.

use std::time::Instant;

use super::Setting;
use crate::Outcome;
use crate::crux::{Crux, runtime};
use crate::floor::calls::{Calls, Recorder};
use crate::measure::{Meter, Process};
use crate::report::Row;
use crate::servers::{self, Redis};

/// Connections of the floor. A server reads some KiB of each and then syncs: with several, a sync
/// covers more. The floor over one, as Crux has one, stands beside it.
const CONNECTIONS: usize = 8;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let in_flight = setting.only.unwrap_or(256);
    let mut rows = Vec::new();
    for appendfsync in ["everysec", "always"] {
        rows.extend(measure(setting, appendfsync, in_flight)?.rows(appendfsync, in_flight));
    }
    Ok(rows)
}

/// One value per run.
#[derive(Default)]
struct Measured {
    transitions_per_s: Vec<f64>,
    cpu_us_per_step: Vec<f64>,
    server_us: Vec<f64>,
    calls_per_s: Vec<f64>,
    calls_per_s_over_one: Vec<f64>,
    cpu_us_per_call: Vec<f64>,
    floor_server_us: Vec<f64>,
}

/// Each run on its own server.
fn measure(setting: &Setting, appendfsync: &str, in_flight: usize) -> Outcome<Measured> {
    let mut measured = Measured::default();
    for _ in 0..setting.runs {
        if setting.floors {
            let redis = servers::redis(appendfsync)?;
            runtime()?.block_on(async {
                let calls = record(&redis, Crux::on_redis(redis.url()).await?, "ten").await?;
                // It still knows the scripts then.
                redis.command(&["FLUSHALL"]);
                let of_server = Meter::begin(server(&redis));
                let called = calls
                    .repeat(&redis.url(), CONNECTIONS, in_flight, setting.short_time())
                    .await?;
                measured.calls_per_s.push(called.calls_per_s);
                measured.cpu_us_per_call.extend(called.cpu_us_per_call);
                measured.floor_server_us.extend(of_server.cpu_us_per(called.calls));
                redis.command(&["FLUSHALL"]);
                measured.calls_per_s_over_one.push(
                    calls
                        .repeat(&redis.url(), 1, in_flight, setting.short_time() / 2)
                        .await?
                        .calls_per_s,
                );
                Outcome::Ok(())
            })?;
        }
        let redis = servers::redis(appendfsync)?;
        runtime()?.block_on(async {
            let crux = Crux::on_redis(redis.url()).await?;
            let (meter, of_server) = (Meter::begin(Process::own()), Meter::begin(server(&redis)));
            let begun = Instant::now();
            crux.in_flight("ten", in_flight, begun + setting.time()).await?;
            measured
                .transitions_per_s
                .push(crux.transitions() as f64 / begun.elapsed().as_secs_f64());
            measured.cpu_us_per_step.extend(meter.cpu_us_per(crux.steps()));
            measured.server_us.extend(of_server.cpu_us_per(crux.transitions()));
            crux.close().await;
            Outcome::Ok(())
        })?;
    }
    Ok(measured)
}

/// What the server is asked to append the rows of one instance.
pub async fn record(redis: &Redis, crux: Crux, workflow: &str) -> Outcome<Calls> {
    // With the first the scripts are sent in full.
    crux.whole(workflow, 1).await?;
    crux.at_rest().await;
    let recorder = Recorder::begin(redis.port())?;
    let instance = crux.whole(workflow, 2).await?;
    crux.at_rest().await;
    let calls = recorder.calls_of(&instance.to_string())?;
    crux.close().await;
    Ok(calls)
}

pub fn server(redis: &Redis) -> Process {
    Process::with_id(redis.pid())
}

impl Measured {
    fn rows(&self, appendfsync: &str, in_flight: usize) -> Vec<Row> {
        let what = format!("Redis {appendfsync}, {in_flight} in flight");
        let mut rows = vec![
            Row::of_runs(what.clone(), "transitions/s", &self.transitions_per_s)
                .floor(&self.calls_per_s)
                .cpu(&self.cpu_us_per_step),
            Row::of_runs(
                format!("{what}, redis-server's CPU per transition"),
                "µs",
                &self.server_us,
            )
            .floor(&self.floor_server_us),
        ];
        if !self.calls_per_s.is_empty() {
            rows.push(
                Row::of_runs(format!("{what}: the floor itself"), "calls/s", &self.calls_per_s)
                    .cpu(&self.cpu_us_per_call),
            );
            rows.push(Row::of_runs(
                format!("{what}: the floor over one connection"),
                "calls/s",
                &self.calls_per_s_over_one,
            ));
        }
        rows
    }
}
