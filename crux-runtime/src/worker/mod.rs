//! `crux worker`: a process that only runs step structs, as a server does ([`crate::executor`]). It
//! has neither a store nor an ingress. [`WorkerProcess`] takes tasks from a broker's queues and
//! publishes their results; [`AttachedProcess`] takes them from servers over gRPC streams.
//!
//! Over a broker, [`slots`] bounds what runs at a time; [`attempt`] is the life of one attempt;
//! [`heartbeat`] tells the nodes that the worker is alive and what it runs. [`attached`] is the
//! stream.

mod attached;
mod attempt;
mod heartbeat;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::app::{App, Package};
use crate::bus::Bus;
use crate::bus::broker::Broker;
use crate::bus::http;
use crate::bus::http::Local;
use crate::bus::routing_keys::class_types;
use crate::bus::{rabbitmq, redis_streams as streams};
use crate::config::{BusKind, Config};
use crate::executor;
use crate::executor::{Executor, StepSelection};
use crate::machine::Contract;
use crate::open_files;
use crate::signals::Signals;
use crate::supervise;
use crate::worker::attached::{AttachedWorker, Credential};
use crate::worker::slots::Worker;

/// Extra time for closing connections after the shutdown timeout.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`bus: local` has no broker to take tasks from: name the servers with --connect, or set `bus: rabbitmq` or `bus: redis`, here and for the server"
    )]
    NoBroker,
    #[error("--concurrency: must be at least 1")]
    Nothing,
    #[error("--connect: `{url}` is not the address of a server: {reason}")]
    Address { url: String, reason: String },
    #[error("CRUX_API_KEY: {0}")]
    Key(String),
    #[error("this binary has no step structs")]
    NoSteps,
    #[error("steps: `none` leaves nothing to do")]
    NoneChosen,
    #[error(transparent)]
    Workers(#[from] executor::Error),
    #[error(transparent)]
    Services(#[from] http::Error),
    #[error(transparent)]
    Broker(#[from] rabbitmq::Problem),
    #[error(transparent)]
    Streams(#[from] streams::Problem),
    #[error("no randomness from the system: {0}")]
    Random(String),
    #[error("cannot install signal handlers: {0}")]
    Signals(std::io::Error),
}

/// A worker process that is connected, or tries to connect, and takes no tasks yet.
pub struct WorkerProcess {
    worker: Arc<Worker>,
    bus: Arc<Broker>,
    heartbeats: JoinHandle<()>,
    /// How long ending may take.
    limit: Duration,
    package: Package,
}

impl WorkerProcess {
    pub async fn open(
        app: App,
        config: &Config,
        selection: &StepSelection,
        concurrency: usize,
    ) -> Result<Self, Error> {
        let Chosen { contracts, executor } = choose(&app, config, selection, concurrency)?;
        let chosen: Vec<&'static str> =
            contracts.iter().map(|contract| contract.step_type).collect();
        let max_result_bytes =
            usize::try_from(config.limits.max_result_size.0).unwrap_or(usize::MAX);
        let nobody = Arc::new(Local::new(&app, Vec::new(), max_result_bytes)?);
        let bus = Arc::new(match config.bus {
            BusKind::Rabbitmq => {
                let options = config.rabbitmq.clone().unwrap_or_default().options();
                rabbitmq::open(&app, options, nobody, &chosen).await?
            }
            BusKind::Redis => {
                streams::open(
                    &app,
                    config.redis.clone().unwrap_or_default().streams(false),
                    nobody,
                    &chosen,
                )
                .await?
            }
            BusKind::Local => return Err(Error::NoBroker),
        });
        let worker = Worker::new(
            contracts,
            executor,
            bus.clone(),
            concurrency,
            max_result_bytes,
            config.workers.heartbeat_timeout.0,
        )?;
        let heartbeats = supervise::keep_running(
            "heartbeats of this worker",
            supervise::never,
            heartbeat::send_all(worker.clone()),
        );
        open_files::raise();
        Ok(Self { worker, bus, heartbeats, limit: config.server.shutdown.0, package: app.package })
    }

    /// A line about the worker, printed at its start.
    pub fn about(&self) -> String {
        let Worker { id, concurrency, .. } = &*self.worker;
        format!("worker {id} takes {}, {concurrency} at a time", self.worker.names().join(", "))
    }

    /// Runs until a signal (SIGTERM, SIGINT, Ctrl-C), then shuts down: takes no new tasks, requeues
    /// what has not begun, lets running attempts finish and publishes their results. A second signal
    /// exits immediately; attempts that ran then count as lost.
    pub async fn run(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let Self { worker, bus, heartbeats, limit, package } = self;
        bus.fetch(worker.clone());
        info!(
            worker = worker.id,
            package = package.name,
            version = package.version,
            runtime = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        let signal = signals.next().await;
        info!(
            signal,
            limit_s = limit.as_secs(),
            "shutting down: no new tasks are taken, running attempts may finish"
        );
        worker.close();
        let ending = async {
            // Results that cannot be published yet are waited for like running attempts.
            let finished = tokio::time::timeout(limit, async {
                worker.drain(limit).await;
                worker.quiet().await;
            });
            if finished.await.is_err() {
                warn!(
                    attempts = worker.working(),
                    "shutdown timeout reached with attempts running; servers treat them as lost and retry where allowed"
                );
                worker.cancel_all();
            }
            heartbeats.abort();
            heartbeat::send_last(&worker).await;
            bus.close().await;
        };
        tokio::select! {
            ended = tokio::time::timeout(limit + SHUTDOWN_GRACE, ending) => match ended {
                Ok(()) => info!("shutdown complete"),
                Err(_) => warn!("broker did not confirm in time; exiting without its confirmation"),
            },
            again = signals.next() => warn!(signal = again, "second signal received, exiting immediately"),
        }
        Ok(())
    }
}

/// What a worker runs.
struct Chosen {
    contracts: Vec<&'static Contract>,
    executor: Executor,
}

fn choose(
    app: &App,
    config: &Config,
    selection: &StepSelection,
    concurrency: usize,
) -> Result<Chosen, Error> {
    let types = class_types(app);
    selection.check(types.iter().copied())?;
    let chosen: Vec<&'static str> =
        types.iter().copied().filter(|step_type| selection.takes(step_type)).collect();
    match (concurrency, types.is_empty(), chosen.is_empty()) {
        (0, ..) => return Err(Error::Nothing),
        (_, true, _) => return Err(Error::NoSteps),
        (_, _, true) => return Err(Error::NoneChosen),
        _ => {}
    }
    let mut options = config.workers.clone();
    // A task that was accepted begins immediately: `concurrency` bounds how many, and `steps` those
    // of a single step type.
    for share in [&mut options.tasks, &mut options.threads] {
        share.maximum = Some(share.maximum.unwrap_or(concurrency).max(concurrency));
    }
    let executor = Executor::of(&app.steps, selection, &options)?;
    let contracts = app.contracts.iter().copied();
    let contracts = contracts.filter(|contract| chosen.contains(&contract.step_type)).collect();
    Ok(Chosen { contracts, executor })
}

/// A worker process that is attached to servers, and needs no broker.
pub struct AttachedProcess {
    worker: Arc<AttachedWorker>,
    servers: Vec<Uri>,
    /// How long ending may take.
    limit: Duration,
    package: Package,
}

impl AttachedProcess {
    /// `servers`: their addresses, `http://crux-1:8080`. `key`: of the client that the worker is, if
    /// the servers ask for one.
    pub fn open(
        app: App,
        config: &Config,
        selection: &StepSelection,
        concurrency: usize,
        servers: &[String],
        key: Option<&str>,
    ) -> Result<Self, Error> {
        let Chosen { contracts, executor } = choose(&app, config, selection, concurrency)?;
        let address = |url: &String| {
            crate::address::http(url).map_err(|reason| Error::Address { url: url.clone(), reason })
        };
        let servers = servers.iter().map(address).collect::<Result<Vec<_>, Error>>()?;
        let credential = Credential::new(key).map_err(Error::Key)?;
        let worker =
            AttachedWorker::new(contracts, executor, concurrency, servers.len(), credential);
        open_files::raise();
        let limit = config.server.shutdown.0;
        Ok(Self { worker: Arc::new(worker), servers, limit, package: app.package })
    }

    /// A line about the worker, printed at its start.
    pub fn about(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(Uri::to_string).collect();
        format!(
            "worker takes {} from {}, {} at a time from each",
            self.worker.names().join(", "),
            servers.join(", "),
            self.worker.concurrency
        )
    }

    /// Runs until a signal (SIGTERM, SIGINT, Ctrl-C), then shuts down as [`WorkerProcess::run`]
    /// does.
    pub async fn run(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let Self { worker, servers, limit, package } = self;
        let (stop, stopping) = watch::channel(false);
        let running = supervise::spawn("attached to all servers", {
            let worker = worker.clone();
            async move { worker.run(servers, stopping).await }
        });
        info!(
            package = package.name,
            version = package.version,
            runtime = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        let signal = signals.next().await;
        info!(
            signal,
            limit_s = limit.as_secs(),
            "shutting down: no new tasks are taken, running attempts may finish"
        );
        // The links are here.
        let _ = stop.send(true);
        let ending = async {
            // What has not begun goes back first: it is reported by the links.
            tokio::join!(worker.executor.drain(limit), running)
        };
        tokio::select! {
            ended = tokio::time::timeout(limit + SHUTDOWN_GRACE, ending) => match ended {
                Ok(_) => info!("shutdown complete"),
                Err(_) => warn!("shutdown timeout reached with attempts running; servers treat them as lost and retry where allowed"),
            },
            again = signals.next() => warn!(signal = again, "second signal received, exiting immediately"),
        }
        Ok(())
    }
}
