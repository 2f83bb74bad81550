//! Two nodes on one Redis against one node, as deployed: separate processes, instances started
//! over HTTP that wait for the end. First with steps in the nodes, then with steps of a service
//! behind RabbitMQ. The "floor" is the one node. On one machine nodes, servers and clients share
//! the cores, so that two nodes show what working together costs rather than what it brings.

use super::Setting;
use crate::Outcome;
use crate::crux::{input, runtime};
use crate::http;
use crate::lanes::concurrently;
use crate::measure::{Latencies, Meter};
use crate::report::Row;
use crate::server::Server;
use crate::servers;
use crate::service::Service;
use crux_bench::steps::STEPS;

const CLIENTS: usize = 256;

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let mut rows = local(setting)?.rows("Redis, steps in the nodes");
    rows.extend(remote(setting)?.rows("Redis and RabbitMQ"));
    Ok(rows)
}

fn local(setting: &Setting) -> Outcome<Measured> {
    let mut measured = Measured::default();
    for _ in 0..setting.runs {
        for nodes in [1, 2] {
            let redis = servers::redis("everysec")?;
            measured.add(
                nodes,
                load(setting, nodes, &on_redis(redis.port()), "/api/v1/workflow/ten?wait=30s")?,
            );
        }
    }
    Ok(measured)
}

fn remote(setting: &Setting) -> Outcome<Measured> {
    let broker = servers::rabbitmq()?;
    let mut measured = Measured::default();
    for run in 0..setting.runs {
        for nodes in [1, 2] {
            let (redis, name) = (servers::redis("everysec")?, format!("run{run}_of_{nodes}"));
            let _service = Service::over_rabbitmq(&broker.url(), &name)?;
            let rabbitmq = format!(
                "bus: rabbitmq\nrabbitmq: {{ url: '{}', exchange: {name}, prefix: {name} }}\n",
                broker.url()
            );
            let config = format!("{}{rabbitmq}", on_redis(redis.port()));
            measured.add(nodes, load(setting, nodes, &config, "/api/v1/workflow/remote?wait=30s")?);
        }
    }
    Ok(measured)
}

fn on_redis(port: u16) -> String {
    format!("store: {{ kind: redis }}\nredis: {{ host: 127.0.0.1, port: {port} }}\n")
}

/// One run.
struct Run {
    steps_per_s: f64,
    p50_ms: Option<f64>,
    /// Of all nodes together.
    cpu_us_per_step: Option<f64>,
}

/// The clients are divided among the nodes.
fn load(setting: &Setting, nodes: usize, config: &str, path: &'static str) -> Outcome<Run> {
    let directory = setting.fresh()?;
    let start = |_| Server::with_config(config, directory.path());
    let servers = (0..nodes).map(start).collect::<Outcome<Vec<Server>>>()?;
    servers.iter().try_for_each(Server::until_ready)?;
    let meters: Vec<Meter> = servers.iter().map(|server| Meter::begin(server.process())).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
    let time = setting.short_time();
    let at_one =
        |node: usize| http::closed_loop(addresses[node], path, CLIENTS / nodes, time, input);
    let mut latencies = Latencies::all(runtime()?.block_on(concurrently(nodes, at_one))?);
    let steps = latencies.len() as u64 * u64::from(STEPS);
    Ok(Run {
        steps_per_s: steps as f64 / time.as_secs_f64(),
        p50_ms: latencies.ms_at(0.5),
        cpu_us_per_step: meters.iter().map(|meter| meter.cpu_us_per(steps)).sum(),
    })
}

#[derive(Default)]
struct Measured {
    one: Vec<Run>,
    two: Vec<Run>,
}

impl Measured {
    fn add(&mut self, nodes: usize, run: Run) {
        if nodes == 1 { &mut self.one } else { &mut self.two }.push(run);
    }

    fn rows(&self, what: &str) -> Vec<Row> {
        let of = |runs: &[Run], what: fn(&Run) -> Option<f64>| {
            runs.iter().filter_map(what).collect::<Vec<f64>>()
        };
        let (one, two) = (&self.one, &self.two);
        vec![
            Row::of_runs(
                format!("{what}: two nodes beside one"),
                "steps/s",
                &of(two, |run| Some(run.steps_per_s)),
            )
            .floor(&of(one, |run| Some(run.steps_per_s)))
            .cpu(&of(two, |run| run.cpu_us_per_step)),
            Row::of_runs(
                format!("{what}: two nodes beside one, 10 steps, p50"),
                "ms",
                &of(two, |run| run.p50_ms),
            )
            .floor(&of(one, |run| run.p50_ms)),
            Row::of_runs(
                format!("{what}: one node"),
                "steps/s",
                &of(one, |run| Some(run.steps_per_s)),
            )
            .cpu(&of(one, |run| run.cpu_us_per_step)),
        ]
    }
}
