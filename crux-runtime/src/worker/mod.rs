//! `crux worker`: a process that only works. It has the step structs and a connection to the
//! broker, and neither a store nor a door: it takes tasks from the queues of its step types, runs
//! them as a server does (`worker`), and says on the broker what became of them.
//!
//! [`crew`] is who takes tasks and how many; [`attempt`] is the life of one of them; [`beat`] the
//! signs of life.

mod attempt;
mod heartbeat;
mod slots;

use std::sync::Arc;
use std::time::Duration;

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
use crate::executor::{Choice, WorkerManager};
use crate::open_files;
use crate::signals::Signals;
use crate::supervise;
use crate::worker::slots::Crew;

/// How long the rest may take once the time for finishing is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a worker does not begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "`bus: local` carries no tasks to other processes: set `bus: rabbitmq` or `bus: redis`, here and for the server"
    )]
    NoBroker,
    #[error("--concurrency: must be at least 1")]
    Nothing,
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

/// A worker that is connected, or tries to be, and takes nothing yet.
pub struct Station {
    crew: Arc<Crew>,
    bus: Arc<Broker>,
    beating: JoinHandle<()>,
    /// How long ending may take.
    limit: Duration,
    package: Package,
}

impl Station {
    pub async fn open(
        app: App,
        config: &Config,
        choice: &Choice,
        concurrency: usize,
    ) -> Result<Self, Error> {
        let types = class_types(&app);
        choice.check(types.iter().copied())?;
        let chosen: Vec<&'static str> =
            types.iter().copied().filter(|step_type| choice.takes(step_type)).collect();
        match (concurrency, types.is_empty(), chosen.is_empty()) {
            (0, ..) => return Err(Error::Nothing),
            (_, true, _) => return Err(Error::NoSteps),
            (_, _, true) => return Err(Error::NoneChosen),
            _ => {}
        }
        let mut options = config.workers.clone();
        // A task that was taken begins at once: how many that may be is said by `concurrency`, and
        // for single step types by `steps`.
        for share in [&mut options.tasks, &mut options.threads] {
            share.maximum = Some(share.maximum.unwrap_or(concurrency).max(concurrency));
        }
        let manager = WorkerManager::of(&app.steps, choice, &options)?;
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
        let contracts = app
            .contracts
            .iter()
            .copied()
            .filter(|contract| chosen.contains(&contract.step_type))
            .collect();
        let crew = Crew::new(
            contracts,
            manager,
            bus.clone(),
            concurrency,
            max_result_bytes,
            config.workers.heartbeat_timeout.0,
        )?;
        let beating = supervise::spawn("heartbeats of this worker", heartbeat::beat(crew.clone()));
        open_files::raise();
        Ok(Self { crew, bus, beating, limit: config.server.shutdown.0, package: app.package })
    }

    /// What it is, for whoever started it.
    pub fn about(&self) -> String {
        let Crew { id, concurrency, .. } = &*self.crew;
        format!("worker {id} takes {}, {concurrency} at a time", self.crew.names().join(", "))
    }

    /// Works until the process is told to end (SIGTERM, SIGINT, Ctrl-C), then ends in order: takes
    /// nothing new, gives back what has not begun, lets what runs finish and tells its results. A
    /// second signal ends it at once; what ran then is lost, and known to be.
    pub async fn run(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(Error::Signals)?;
        let Self { crew, bus, beating, limit, package } = self;
        bus.fetch(crew.clone());
        info!(
            worker = crew.id,
            package = package.name,
            version = package.version,
            runtime = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        let signal = signals.next().await;
        info!(
            signal,
            limit_s = limit.as_secs(),
            "ending: nothing new is taken, what runs may finish"
        );
        crew.close();
        let ending = async {
            // Results that are not out while the broker is away are waited for as attempts are.
            let finished = tokio::time::timeout(limit, async {
                crew.drain(limit).await;
                crew.quiet().await;
            });
            if finished.await.is_err() {
                warn!(
                    attempts = crew.working(),
                    "not everything ended in time: servers take it for lost, and send it again where they may"
                );
                crew.cancel_all();
            }
            beating.abort();
            heartbeat::last(&crew).await;
            bus.close().await;
        };
        tokio::select! {
            ended = tokio::time::timeout(limit + LAST_WORDS, ending) => match ended {
                Ok(()) => info!("ended"),
                Err(_) => warn!("the broker is away, or slow: ending without its answer"),
            },
            again = signals.next() => warn!(signal = again, "second signal received, exiting immediately"),
        }
        Ok(())
    }
}
