//! An engine as a deployed binary has it, without a server in front: the step structs of this
//! package; SQLite on a real disk, or Redis; and the local bus without services, RabbitMQ or Redis
//! Streams. Every run gets its own directory, server or names, so that no run sees what
//! another has left.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crux_runtime::App;
use crux_runtime::bus::broker::Broker;
use crux_runtime::bus::http::Local;
use crux_runtime::bus::{Bus, rabbitmq, redis_streams as streams};
use crux_runtime::engine::api::Start;
use crux_runtime::engine::{Engine, Options};
use crux_runtime::executor;
use crux_runtime::executor::Executor;
use crux_runtime::id::InstanceId;
use crux_runtime::live::Hub;
use crux_runtime::server;
use crux_runtime::store::Store;
use crux_runtime::store::redis::{self, Redis};
use crux_runtime::store::sqlite::{self, Sqlite};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::lanes::concurrently;
use crate::measure::Latencies;
use crate::watch::{Ends, Watched};

/// The database in a run's directory.
pub const DATABASE: &str = "crux.db";
/// Time for running work to finish at the end of a run.
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
        let app = Arc::new(crux_bench::app());
        let bus = local(&app)?;
        Self::of(app, sqlite(directory)?, bus).await
    }

    /// On a Redis server that nobody else works on.
    pub async fn on_redis(url: String) -> Outcome<Self> {
        let app = Arc::new(crux_bench::app());
        let bus = local(&app)?;
        Self::of(app, Redis::open(redis::Options::new(url)).await?, bus).await
    }

    /// On the directory's database, with tasks over RabbitMQ. `name` is the exchange's, and what
    /// the names of its queues begin with.
    pub async fn over_rabbitmq(directory: &Path, url: &str, name: &str) -> Outcome<Self> {
        let app = Arc::new(crux_bench::app());
        let (exchange, prefix) = (name.to_owned(), name.to_owned());
        let options = rabbitmq::Options {
            url: url.to_owned(),
            exchange,
            prefix,
            ..rabbitmq::Options::default()
        };
        let services = local(&app)?;
        let broker = rabbitmq::open(&app, options, services.clone(), &[]).await?;
        Self::over(app, sqlite(directory)?, broker, services).await
    }

    /// On a Redis server that nobody else works on, with tasks over its streams.
    pub async fn over_streams(url: String, prefix: &str) -> Outcome<Self> {
        let app = Arc::new(crux_bench::app());
        let prefix = prefix.to_owned();
        let options =
            streams::Options { prefix: prefix.clone(), ..streams::Options::new(url.clone()) };
        let services = local(&app)?;
        let broker = streams::open(&app, options, services.clone(), &[]).await?;
        let store = Redis::open(redis::Options { prefix, ..redis::Options::new(url) }).await?;
        Self::over(app, store, broker, services).await
    }

    async fn over(
        app: Arc<App>,
        store: impl Store,
        broker: Broker,
        services: Arc<Local>,
    ) -> Outcome<Self> {
        let broker = Arc::new(broker);
        let crux = Self::of(app, store, broker.clone()).await?;
        broker.consume(server::broker_ingress(crux.engine.clone(), services));
        Ok(crux)
    }

    async fn of(app: Arc<App>, store: impl Store, bus: Arc<dyn Bus>) -> Outcome<Self> {
        let (store, ends) = Watched::new(store);
        let workers = Executor::new(&app.steps, &executor::Options::default())?;
        let engine =
            Engine::open(app, Arc::new(store), bus, workers, Hub::default(), Options::default())
                .await?;
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

    /// Starts an instance of a workflow with the input of `ten` and waits for its end.
    pub async fn whole(&self, workflow: &str, n: u64) -> Outcome<InstanceId> {
        let instance = self.start(workflow, input(n)).await?;
        self.end(instance).await;
        Ok(instance)
    }

    /// Keeps `in_flight` instances going until `until`; how long each took.
    pub async fn in_flight(
        &self,
        workflow: &'static str,
        in_flight: usize,
        until: Instant,
    ) -> Outcome<Latencies> {
        let lane = |lane: usize| {
            let crux = self.clone();
            async move {
                let mut latencies = Latencies::default();
                let mut n = (lane as u64) << 32;
                while Instant::now() < until {
                    let begun = Instant::now();
                    crux.whole(workflow, n).await?;
                    latencies.add(begun.elapsed());
                    n += 1;
                }
                Ok(latencies)
            }
        };
        Ok(Latencies::all(concurrently(in_flight, lane).await?))
    }

    /// Steps that have completed so far.
    pub fn steps(&self) -> u64 {
        self.engine.counters().steps_completed
    }

    /// Waits until nothing is running: what is open waits for time or for events.
    pub async fn at_rest(&self) {
        while self.engine.counters().unsettled > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Rows that are durable so far.
    pub fn transitions(&self) -> u64 {
        self.engine.counters().transitions
    }

    /// The texts of an instance's rows, as they are stored.
    pub async fn rows(&self, instance: InstanceId) -> Outcome<Vec<String>> {
        let rows = self.engine.rows(instance, 0, 10_000).await?;
        Ok(rows.into_iter().map(|stored| stored.row.to_string()).collect())
    }

    pub async fn close(self) {
        self.engine.shutdown(SHUTDOWN).await;
        self.engine.close_bus().await;
    }
}

fn sqlite(directory: &Path) -> Outcome<Sqlite> {
    Ok(Sqlite::open(sqlite::Options::new(directory.join(DATABASE)))?)
}

/// Without services.
fn local(app: &App) -> Outcome<Arc<Local>> {
    Ok(Arc::new(Local::new(app, Vec::new(), Options::default().max_result_bytes)?))
}

/// The input of `ten`, and of all workflows that are like it.
pub fn input(n: u64) -> String {
    format!(r#"{{"order":"ORD-{n:012}","customer":"CUST-89101"}}"#)
}
