//! Starts over HTTP that wait for the end (`POST …?wait=30s`), from clients that keep their
//! connections. Server and clients are separate processes on one machine, which both need; the
//! CPU time of each is counted apart. The floor is the same client against a bare axum server that
//! gives the JSON back.

use super::Setting;
use crate::Outcome;
use crate::crux::{DATABASE, input, runtime};
use crate::http;
use crate::measure::{Meter, Process};
use crate::report::{Goal, Row};
use crate::server::Server;
use crux_bench::steps::STEPS;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for clients in setting.only.map_or(vec![64, 256], |only| vec![only]) {
        rows.extend(measure(setting, clients)?);
    }
    Ok(rows)
}

/// One run against one server.
pub(super) struct Run {
    pub(super) per_s: f64,
    pub(super) p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    server_us: Option<f64>,
    client_us: Option<f64>,
}

fn measure(setting: &Setting, clients: usize) -> Outcome<Vec<Row>> {
    let (mut floors, mut runs) = (Vec::new(), Vec::new());
    for _ in 0..setting.runs {
        if setting.floors {
            floors.push(load(setting, &Server::echo()?, "/", clients)?);
        }
        let directory = setting.fresh()?;
        let server = Server::start(&directory.path().join(DATABASE))?;
        server.until_ready()?;
        runs.push(load(setting, &server, "/api/v1/workflow/ten?wait=30s", clients)?);
    }
    let of = |runs: &[Run], what: fn(&Run) -> Option<f64>| {
        runs.iter().filter_map(what).collect::<Vec<_>>()
    };
    let per_step = |runs: &[Run]| {
        runs.iter().filter_map(|run| Some(run.server_us? / f64::from(STEPS))).collect::<Vec<_>>()
    };
    let mut throughput = Row::of_runs(
        format!("http, {clients} clients, 10 steps"),
        "workflows/s",
        &of(&runs, |run| Some(run.per_s)),
    )
    .floor(&of(&floors, |run| Some(run.per_s)))
    .cpu(&per_step(&runs));
    if clients == 256 {
        throughput = throughput.goal(Goal::AtLeast(8_000.0));
    }
    Ok(vec![
        throughput,
        Row::of_runs(format!("http, {clients} clients, p50"), "ms", &of(&runs, |run| run.p50_ms))
            .floor(&of(&floors, |run| run.p50_ms)),
        Row::of_runs(format!("http, {clients} clients, p99"), "ms", &of(&runs, |run| run.p99_ms))
            .floor(&of(&floors, |run| run.p99_ms)),
        Row::of_runs(
            format!("http, {clients} clients, client's CPU per workflow"),
            "µs",
            &of(&runs, |run| run.client_us),
        )
        .floor(&of(&floors, |run| run.client_us)),
    ])
}

pub(super) fn load(
    setting: &Setting,
    server: &Server,
    path: &'static str,
    clients: usize,
) -> Outcome<Run> {
    let (of_server, of_client) = (Meter::begin(server.process()), Meter::begin(Process::own()));
    let time = setting.short_time();
    let mut latencies =
        runtime()?.block_on(http::closed_loop(server.address, path, clients, time, input))?;
    let count = latencies.len() as u64;
    Ok(Run {
        per_s: count as f64 / time.as_secs_f64(),
        p50_ms: latencies.ms_at(0.5),
        p99_ms: latencies.ms_at(0.99),
        server_us: of_server.cpu_us_per(count),
        client_us: of_client.cpu_us_per(count),
    })
}
