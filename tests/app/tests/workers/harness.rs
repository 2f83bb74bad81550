//! A server, its workers, and what the steps have written down.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use lapin::options::BasicGetOptions;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::kit::{PATIENCE, Redis, Server, eventually};
use crate::rabbit::Broker;
use crate::{BINARY, broker};

/// See the module's text.
pub struct Harness {
    pub server: Server,
    name: String,
    config: String,
    ledger: PathBuf,
}

/// Takes tasks and says nothing; dropped, its connection is gone.
pub struct Thief {
    channel: Channel,
    _connection: Connection,
    name: String,
}

impl Thief {
    pub async fn take(&self, step_type: &str) {
        let queue = format!("{}.work.{step_type}", self.name);
        eventually(&format!("a task in {queue}"), async || {
            self.channel
                .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: false })
                .await
                .unwrap()
                .map(drop)
        })
        .await;
    }
}

impl Harness {
    /// A server that runs no step structs, and takes a worker for dead after a second.
    pub fn new() -> Self {
        Self::with(broker(), &["--steps", "none"])
    }

    pub fn with(broker: &Broker, arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("workers{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let config = config(broker, &name);
        Self::of(config, name, arguments)
    }

    fn of(config: String, name: String, arguments: &[&str]) -> Self {
        let mut server = Server::start(BINARY, &config);
        server.restart_with(arguments);
        let ledger = server.folder().join("ledger");
        Self { server, name, config, ledger }
    }

    /// With its state in Redis, to be shared.
    pub fn new_on(redis: &Redis) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("nodes{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let store = format!(
            "store: {{ kind: redis }}\nredis: {{ host: 127.0.0.1, lease: 1500ms, port: {} }}\n",
            redis.port()
        );
        Self::of(format!("{}{store}", config(broker(), &name)), name, &["--steps", "none"])
    }

    /// With its state in SQLite and the bus over Redis.
    pub fn over_streams(redis: &Redis) -> Self {
        let config = format!(
            "bus: redis\nredis: {{ host: 127.0.0.1, lease: 1500ms, port: {} }}\nworkers: {{ heartbeat_timeout: 1s }}\nconfig: {{ HOME: Ghent }}\n",
            redis.port()
        );
        Self::of(config, "streams".to_owned(), &["--steps", "none"])
    }

    /// Without a broker, for workers that are attached: see [`Self::attached_worker`]. A worker that
    /// only fell silent would be waited for much longer than any test.
    pub fn without_broker() -> Self {
        Self::without_broker_with("")
    }

    /// With more in the configuration.
    pub fn without_broker_with(more: &str) -> Self {
        let config =
            format!("workers: {{ heartbeat_timeout: 5m }}\nconfig: {{ HOME: Ghent }}\n{more}\n");
        Self::of(config, "attached".to_owned(), &["--steps", "none"])
    }

    /// A worker that is attached to the server.
    pub fn attached_worker(&self, arguments: &[&str]) -> Worker {
        let connect = ["--connect", self.server.url()];
        Worker::start(self, &[], &[&connect, arguments].concat())
    }

    /// Waits until so many workers are attached.
    pub async fn sees_attached(&self, count: usize) {
        eventually(&format!("{count} workers are attached"), async || {
            let attached = self.workers().await["attached"].as_array().map(Vec::len);
            (attached == Some(count)).then_some(())
        })
        .await;
    }

    /// Another server of the same configuration, whose steps write into the same ledger.
    pub fn another(&self, arguments: &[&str]) -> Self {
        Self {
            ledger: self.ledger.clone(),
            ..Self::of(self.config.clone(), self.name.clone(), arguments)
        }
    }

    /// A program that takes tasks from the queues of workers.
    pub async fn thief(&self) -> Thief {
        let url = self.config.split('\'').nth(1).unwrap();
        let connection = Connection::connect(&format!("{url}%2f"), ConnectionProperties::default())
            .await
            .unwrap();
        Thief {
            channel: connection.create_channel().await.unwrap(),
            _connection: connection,
            name: self.name.clone(),
        }
    }

    /// A worker of the same configuration.
    pub fn worker(&self, arguments: &[&str]) -> Worker {
        Worker::start(self, &[], arguments)
    }

    /// With environment variables.
    pub fn worker_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Worker {
        Worker::start(self, environment, arguments)
    }

    /// Starts an instance of `timed_work` or `work_once`.
    pub async fn start(&self, workflow: &str, ms: u64) -> String {
        let input = json!({"ledger": self.ledger, "ms": ms});
        self.server.client().start(&format!("/api/v1/workflow/{workflow}"), &input).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.folder().join(name)
    }

    /// What the steps have written down of an instance, in order: `begin` or `end`, and the
    /// process.
    pub fn ledger(&self, id: &str) -> Vec<(String, u32)> {
        self.whole_ledger()
            .into_iter()
            .filter(|line| line.2 == id)
            .map(|(what, pid, _)| (what, pid))
            .collect()
    }

    /// Of all instances.
    pub fn whole_ledger(&self) -> Vec<(String, u32, String)> {
        let text = std::fs::read_to_string(&self.ledger).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.split([' ', '/']).map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap().parse().unwrap(), words.next().unwrap())
        };
        text.lines().map(line).collect()
    }

    /// Waits until the step of an instance has begun so many times.
    pub async fn begun(&self, id: &str, times: usize) {
        eventually(&format!("{times} begins of {id}"), async || {
            (self.ledger(id).iter().filter(|(what, _)| what == "begin").count() >= times)
                .then_some(())
        })
        .await;
    }

    /// That no worker ever ran more than `most` at a time, and each ended `least` at least.
    pub fn assert_shared(&self, workers: &[Worker], most: i32, least: u32) {
        let mut running: BTreeMap<u32, i32> = BTreeMap::new();
        let mut done: BTreeMap<u32, u32> = BTreeMap::new();
        for (what, pid, _) in self.whole_ledger() {
            let count = running.entry(pid).or_default();
            *count += if what == "begin" { 1 } else { -1 };
            assert!(*count <= most, "{pid} runs {count} at a time");
            *done.entry(pid).or_default() += u32::from(what == "end");
        }
        assert_eq!(
            done.keys().copied().collect::<BTreeSet<_>>(),
            workers.iter().map(Worker::pid).collect()
        );
        assert!(done.values().all(|done| *done >= least), "a worker was left out: {done:?}");
    }

    pub async fn workers(&self) -> Value {
        self.server.client().get("/api/v1/workers").await.json()
    }

    /// Waits until the server sees these workers, by their processes, alive, and no others.
    pub async fn sees(&self, workers: &[&Worker]) {
        let mut expected: Vec<u32> = workers.iter().map(|worker| worker.pid()).collect();
        expected.sort_unstable();
        eventually(&format!("the server sees {expected:?}"), async || {
            let seen = self.workers().await;
            let alive = seen["remote"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|worker| worker["is_alive"] == true);
            let mut pids: Vec<u32> = alive
                .map(|worker| u32::try_from(worker["pid"].as_u64().unwrap()).unwrap())
                .collect();
            pids.sort_unstable();
            (pids == expected).then_some(())
        })
        .await;
    }

    /// Types of the events in an instance's journal.
    pub async fn events(&self, id: &str) -> Vec<String> {
        let history =
            self.server.client().get(&format!("/api/v1/workflow/{id}/history")).await.json();
        let events = |row: &Value| row["events"].as_array().cloned().unwrap_or_default();
        history["rows"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(events)
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub fn config(broker: &Broker, name: &str) -> String {
    format!(
        "bus: rabbitmq\nrabbitmq: {{ url: '{}', exchange: {name}, prefix: {name} }}\nworkers: {{ heartbeat_timeout: 1s }}\nconfig: {{ HOME: Ghent }}\n",
        broker.url()
    )
}

/// A worker's process. Dropped: killed.
pub struct Worker {
    child: Child,
    log: PathBuf,
    pub said: String,
}

impl Worker {
    fn start(harness: &Harness, environment: &[(&str, &str)], arguments: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let log = harness.path(&format!("worker{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut command = harness.server.command();
        command.envs(environment.iter().copied());
        command
            .arg("worker")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let worker = Self { child, log, said };
        assert!(
            worker.said.starts_with("worker "),
            "it does not begin in {}: {}",
            harness.name,
            worker.log()
        );
        worker
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// As a power cut does, as far as the process is concerned.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn tell_to_end(&self) {
        let status =
            Command::new("kill").args(["-TERM", &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the worker does not end; its log:\n{}",
                self.log()
            );
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- log of a worker ---\n{}", self.log());
        }
    }
}
