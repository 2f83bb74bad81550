//! Ten steps of a step struct in a worker process: attached to the server by a gRPC stream, and over
//! RabbitMQ and Redis Streams. Clients start instances over HTTP and wait for the end, 256 at a time
//! and one at a time. All of it is on one machine. The floor is the same server with the step struct
//! in its own process.

use std::path::Path;

use super::Setting;
use super::http::{Run, load};
use crate::Outcome;
use crate::report::{Goal, Row};
use crate::server::{Server, Worker};
use crate::servers::{self, Broker, Redis};

/// Instances in flight.
const MANY: usize = 256;
const PATH: &str = "/api/v1/workflow/ten?wait=30s";

/// How tasks get to the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The floor: they do not leave the server.
    InProcess,
    Attached,
    Rabbitmq,
    Redis,
}

impl Way {
    const ALL: [Way; 4] = [Way::InProcess, Way::Attached, Way::Rabbitmq, Way::Redis];

    fn name(self) -> &'static str {
        match self {
            Way::InProcess => "in the server",
            Way::Attached => "attached by gRPC",
            Way::Rabbitmq => "over RabbitMQ",
            Way::Redis => "over Redis Streams",
        }
    }

    /// In workflows per second and milliseconds.
    fn goals(self) -> Option<(Goal, Option<Goal>)> {
        match self {
            Way::Attached => Some((Goal::AtLeast(3_500.0), Some(Goal::AtMost(4.5)))),
            Way::Rabbitmq => Some((Goal::AtLeast(900.0), None)),
            Way::InProcess | Way::Redis => None,
        }
    }
}

pub fn run(setting: &Setting) -> Outcome<Vec<Row>> {
    let (broker, redis) = (servers::rabbitmq()?, servers::redis("everysec")?);
    let mut many: [Vec<Run>; 4] = Default::default();
    let mut one: [Vec<Run>; 4] = Default::default();
    // In turns, so that what else the machine does falls on all.
    for run in 0..setting.runs {
        for (n, way) in Way::ALL.into_iter().enumerate() {
            if way == Way::InProcess && !setting.floors {
                continue;
            }
            let directory = setting.fresh()?;
            let config = config(way, &broker, &redis, &format!("workers{run}"));
            let (server, _worker) = start(way, &config, directory.path())?;
            many[n].push(load(setting, &server, PATH, MANY)?);
            one[n].push(load(setting, &server, PATH, 1)?);
        }
    }
    let per_s = |runs: &[Run]| runs.iter().map(|run| run.per_s).collect::<Vec<_>>();
    let p50 = |runs: &[Run]| runs.iter().filter_map(|run| run.p50_ms).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (n, way) in Way::ALL.into_iter().enumerate().skip(1) {
        let mut throughput = Row::of_runs(
            format!("workers {}, {MANY} in flight, 10 steps", way.name()),
            "workflows/s",
            &per_s(&many[n]),
        )
        .floor(&per_s(&many[0]));
        let mut latency = Row::of_runs(
            format!("workers {}, one at a time, p50", way.name()),
            "ms",
            &p50(&one[n]),
        )
        .floor(&p50(&one[0]));
        if let Some((at_least, at_most)) = way.goals() {
            throughput = throughput.goal(at_least);
            if let Some(at_most) = at_most {
                latency = latency.goal(at_most);
            }
        }
        rows.extend([throughput, latency]);
    }
    Ok(rows)
}

fn config(way: Way, broker: &Broker, redis: &Redis, name: &str) -> String {
    let steps = if way == Way::InProcess { "all" } else { "none" };
    let bus = match way {
        Way::InProcess | Way::Attached => String::new(),
        Way::Rabbitmq => format!(
            "bus: rabbitmq\nrabbitmq: {{ url: '{}', exchange: {name}, prefix: {name} }}\n",
            broker.url()
        ),
        Way::Redis => format!(
            "bus: redis\nredis: {{ host: 127.0.0.1, port: {}, prefix: {name} }}\n",
            redis.port()
        ),
    };
    format!("server: {{ steps: {steps} }}\n{bus}")
}

fn start(way: Way, config: &str, directory: &Path) -> Outcome<(Server, Option<Worker>)> {
    let server = Server::with_config(config, directory)?;
    server.until_ready()?;
    let connect = format!("http://{}", server.address);
    let mut arguments = vec!["--concurrency", "256"];
    match way {
        Way::InProcess => return Ok((server, None)),
        Way::Attached => arguments.extend(["--connect", &connect]),
        Way::Rabbitmq | Way::Redis => {}
    }
    let worker = Worker::start(directory, &arguments)?;
    let has_worker = |server: &Server| {
        let (_, workers) = server.ask("GET", "/api/v1/workers", "")?;
        Ok(workers.contains("\"unserved\":[]"))
    };
    server.until("the worker is known", has_worker)?;
    Ok((server, Some(worker)))
}
