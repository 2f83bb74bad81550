//! The workloads by name.

mod events;
mod half_load;
mod http;
mod in_flight;
mod latency;
mod nodes;
mod one_at_a_time;
mod rabbitmq;
mod rebuild;
mod redis;
mod rest;
mod restart;
mod stored;
mod streams;
mod timers;
mod websocket;
mod workers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::Outcome;
use crate::report::Row;

/// How to measure.
#[derive(Debug)]
pub struct Setting {
    /// Runs per figure; the median counts.
    pub runs: usize,
    /// Short runs, to see whether everything works.
    pub quick: bool,
    /// Without floors a profile shows Crux alone.
    pub floors: bool,
    /// Of workloads that come with several numbers of instances, only this one.
    pub only: Option<usize>,
    /// Where databases are made.
    pub directory: PathBuf,
}

impl Setting {
    /// How long a run with a constant load lasts. The full time is longer than the steps' timeout,
    /// so that what timeouts leave behind is in the figure.
    pub fn time(&self) -> Duration {
        if self.quick { Duration::from_secs(2) } else { Duration::from_secs(12) }
    }

    /// For floors, which do not change with time, and where several figures of the same kind are
    /// compared.
    pub fn short_time(&self) -> Duration {
        if self.quick { Duration::from_secs(1) } else { Duration::from_secs(4) }
    }

    /// How many instances take part where their number matters.
    pub fn many(&self, full: usize) -> usize {
        if self.quick { full / 50 } else { full }
    }

    /// A directory for one run; it goes with its content when it is dropped.
    pub fn fresh(&self) -> Outcome<TempDir> {
        Ok(tempfile::Builder::new().prefix("crux-bench-").tempdir_in(&self.directory)?)
    }
}

/// Something to measure.
pub struct Workload {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Setting) -> Outcome<Vec<Row>>,
}

/// In the order of the table.
pub const ALL: &[Workload] = &[
    Workload {
        name: "one",
        about: "ten steps one after the other, one instance at a time",
        run: one_at_a_time::run,
    },
    Workload {
        name: "flight",
        about: "1, 16, 256 and 4,096 instances of ten steps in flight",
        run: in_flight::run,
    },
    Workload {
        name: "half",
        about: "half of what 256 in flight come to, as an open loop",
        run: half_load::run,
    },
    Workload {
        name: "http",
        about: "starts over HTTP that wait for the end, from 64 and 256 clients",
        run: http::run,
    },
    Workload {
        name: "stored",
        about: "256 in flight beside 1,000,000 stored instances",
        run: stored::run,
    },
    Workload {
        name: "restart",
        about: "kill -9 with 100,000 open instances, and the next process",
        run: restart::run,
    },
    Workload {
        name: "timers",
        about: "10,000 sleeping instances due per second, and 1,000,000 that sleep on",
        run: timers::run,
    },
    Workload { name: "events", about: "events for 100,000 waiting instances", run: events::run },
    Workload {
        name: "websocket",
        about: "1,000 and 10,000 followers of one instance",
        run: websocket::run,
    },
    Workload {
        name: "rabbitmq",
        about: "256 instances of ten steps of a service behind RabbitMQ",
        run: rabbitmq::run,
    },
    Workload { name: "latency", about: "one step behind RabbitMQ at a time", run: latency::run },
    Workload {
        name: "streams",
        about: "256 instances of ten steps of a service behind Redis Streams",
        run: streams::run,
    },
    Workload {
        name: "workers",
        about: "ten steps in a worker process: by gRPC, over RabbitMQ and over Redis Streams",
        run: workers::run,
    },
    Workload {
        name: "redis",
        about: "256 in flight on Redis, synced once a second and always",
        run: redis::run,
    },
    Workload {
        name: "nodes",
        about: "two nodes on Redis beside one, with their own steps and behind RabbitMQ",
        run: nodes::run,
    },
    Workload {
        name: "rest",
        about: "the deployed binary at rest: ready time and memory",
        run: rest::run,
    },
    Workload {
        name: "rebuild",
        about: "one changed line, 100 pipelines, and `crux check` of them",
        run: rebuild::run,
    },
];

/// The rows of one instance of `ten`, so that floors write the same bytes.
pub fn bodies(directory: &Path) -> Outcome<Vec<String>> {
    crate::crux::runtime()?.block_on(async {
        let crux = crate::crux::Crux::open(directory).await?;
        let instance = crux.whole("ten", 1).await?;
        let rows = crux.rows(instance).await?;
        crux.close().await;
        Ok(rows)
    })
}
