//! An engine as a deployed binary has it, without a server in front: SQLite on a real disk, the step structs of this package, the local
//! bus without services. Every run gets a directory of its own, so that no run sees what another has left.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crux_runtime::bus::local::Local;
use crux_runtime::engine::api::Start;
use crux_runtime::engine::{Engine, Options};
use crux_runtime::id::InstanceId;
use crux_runtime::live::Hub;
use crux_runtime::store::sqlite::{self, Sqlite};
use crux_runtime::worker::{self, WorkerManager};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::lanes::side_by_side;
use crate::measure::Latencies;
use crate::watch::{Ends, Watched};

/// The database in a run's directory.
pub const DATABASE: &str = "crux.db";
/// Time for what is under way when a run ends.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The engine of one run.
#[derive(Clone)]
pub struct Crux {
    pub engine: Engine,
    ends: Arc<Ends>,
}

/// The runtime that a server has.
pub fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

impl Crux {
    /// On the directory's database, which is made if there is none.
    pub async fn open(directory: &Path) -> Outcome<Self> {
        let (app, options) = (Arc::new(crux_bench::app()), Options::default());
        let (store, ends) = Watched::new(Sqlite::open(sqlite::Options::new(directory.join(DATABASE)))?);
        let workers = WorkerManager::new(&app.steps, &worker::Options::default())?;
        let bus = Arc::new(Local::new(&app, Vec::new(), options.max_result_bytes)?);
        let engine = Engine::open(app, Arc::new(store), bus, workers, Hub::default(), options).await?;
        Ok(Self { engine, ends })
    }

    pub async fn start(&self, workflow: &str, input: String) -> Outcome<InstanceId> {
        let start = Start {
            workflow: workflow.to_owned(),
            input: RawValue::from_string(input)?,
            request_id: None,
            owner: String::new(),
            trigger: "bench".to_owned(),
            traceparent: String::new(),
        };
        Ok(self.engine.start(start).await?.instance)
    }

    /// Waits until an instance's end is durable; once per instance, before or after it has ended.
    pub async fn end(&self, instance: InstanceId) {
        self.ends.wait(instance).await;
    }

    /// Starts an instance of `ten` and waits for its end.
    pub async fn ten(&self, n: u64) -> Outcome<InstanceId> {
        let instance = self.start("ten", input(n)).await?;
        self.end(instance).await;
        Ok(instance)
    }

    /// Keeps `in_flight` instances of `ten` going until `until`; how long each took.
    pub async fn ten_in_flight(&self, in_flight: usize, until: Instant) -> Outcome<Latencies> {
        let lane = |lane: usize| {
            let crux = self.clone();
            async move {
                let mut latencies = Latencies::default();
                let mut n = (lane as u64) << 32;
                while Instant::now() < until {
                    let begun = Instant::now();
                    crux.ten(n).await?;
                    latencies.add(begun.elapsed());
                    n += 1;
                }
                Ok(latencies)
            }
        };
        Ok(Latencies::all(side_by_side(in_flight, lane).await?))
    }

    /// Steps that have completed so far.
    pub fn steps(&self) -> u64 {
        self.engine.stats().steps_completed.load(Ordering::Relaxed)
    }

    /// Waits until nothing is under way: what is open waits for time or for events.
    pub async fn at_rest(&self) {
        while self.engine.stats().unsettled.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Rows that are durable so far.
    pub fn transitions(&self) -> u64 {
        self.engine.stats().transitions.load(Ordering::Relaxed)
    }

    /// The texts of an instance's rows, as they are stored.
    pub async fn rows(&self, instance: InstanceId) -> Outcome<Vec<String>> {
        let rows = self.engine.store().rows(instance, 0, 10_000).await?;
        Ok(rows.into_iter().map(|stored| stored.row.to_string()).collect())
    }

    pub async fn close(self) {
        self.engine.shutdown(SHUTDOWN).await;
    }
}

/// The input of `ten` and of `short`.
pub fn input(n: u64) -> String {
    format!(r#"{{"order":"ORD-{n:012}","customer":"CUST-89101"}}"#)
}
