//! The bus over RabbitMQ: tasks, hooks and emitted events leave by a topic exchange, results and
//! events come in by queues.
//!
//! [`publisher`] owns the channel for publishing and keeps what the broker has not confirmed;
//! [`unroutable`] distinguishes routed messages from returned ones; [`consumer`] handles incoming
//! messages and acknowledges them once they are durable ([`acks`]); [`broadcast`] receives
//! heartbeats and cancellations, and [`task_consumer`] gets a worker process its tasks.
//! [`topology`] is what is declared, [`connection`] makes connections, [`properties`] encodes AMQP
//! properties.

mod acks;
mod broadcast;
pub(crate) mod connection;
mod consumer;
mod properties;
mod publisher;
mod task_consumer;
pub mod topology;
mod unroutable;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

pub use connection::Problem;
pub use topology::Topology;

use self::consumer::Consumer;
use self::publisher::Publisher;
use super::broker::{Broker, Parts};
use crate::app::App;
use crate::bus::broker::parking::Parking;
use crate::bus::broker::status::State;
use crate::bus::http::Local;
use crate::bus::routing_keys::{class_types, task_keys, work_key};
use crate::bus::session::is_stopping;
use crate::supervise;

/// How long the start waits for the broker before it goes on without.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Refused messages that wait to be diverted.
const DIVERTED_LEN_MAX: usize = 64;

/// Options of the bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// `amqp://user:password@host:port/vhost`.
    pub url: String,
    /// The topic exchange by which everything leaves.
    pub exchange: String,
    /// The names of the queues that Crux consumes begin with it.
    pub prefix: String,
    /// How often a message is published again that a queue did not take, before the instance shows
    /// it.
    pub max_retries: u32,
    /// Before the first of these; it doubles, up to a minute.
    pub retry_delay: Duration,
    /// Messages published and not confirmed, at most.
    pub max_unconfirmed: usize,
    /// Messages that wait to be published, at most.
    pub max_queued: usize,
    /// Deliveries taken and not acknowledged, at most, of each queue.
    pub prefetch: u16,
    /// How long a message is diverted that cannot be taken yet.
    pub parked_retry_delay: Duration,
    /// How often bindings are made again: another client may have removed one.
    pub rebind: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@localhost:5672/".to_owned(),
            exchange: "workflow_exchange".to_owned(),
            prefix: "crux".to_owned(),
            max_retries: 3,
            retry_delay: Duration::from_secs(5),
            max_unconfirmed: 1024,
            max_queued: 8192,
            prefetch: 512,
            parked_retry_delay: Duration::from_secs(60),
            rebind: Duration::from_secs(15),
        }
    }
}

/// Begins to publish, on the tokio runtime of the caller. A broker that is not there is no error:
/// what is to be published waits for it. The error: what is declared there contradicts what is
/// declared here. Services in `pushed` get their tasks by HTTP. `work`: the step types of step
/// structs whose tasks leave for workers in other processes, or, at such a worker, come to it.
pub async fn open(
    app: &App,
    options: Options,
    pushed: Arc<Local>,
    work: &[&'static str],
) -> Result<Broker, Problem> {
    let (options, topology) =
        (Arc::new(options.clone()), Arc::new(Topology::new(app, &options, work)));
    let keys = task_keys(app).into_iter().chain(work.iter().map(|step_type| work_key(step_type)));
    let parking = Parking::new(
        topology.parked().to_owned(),
        options.prefetch.into(),
        options.parked_retry_delay,
    );
    let state = Arc::new(State::new("RabbitMQ", keys.collect(), parking));
    let (stop, stopping) = watch::channel(false);
    let (outgoing, inbox) = mpsc::channel(options.max_queued);
    let (refuse, refused) = mpsc::channel(DIVERTED_LEN_MAX);
    let publisher = Publisher::new(
        options.clone(),
        topology.clone(),
        state.clone(),
        (inbox, refused),
        stopping.clone(),
    );
    let (first, tried) = oneshot::channel();
    let probe = stopping.clone();
    let publishing = supervise::keep_running(
        "publishing over RabbitMQ",
        move || is_stopping(&probe),
        publisher.run(first),
    );
    // Not connected yet: the publisher says why, and tries again.
    if let Ok(Ok(Err(conflict @ Problem::Conflict(_)))) =
        tokio::time::timeout(FIRST_CONNECT_TIMEOUT, tried).await
    {
        publishing.abort();
        return Err(conflict);
    }
    let consumer = Box::new(Consumer {
        options,
        topology,
        state: state.clone(),
        refused: refuse,
        workers: Arc::default(),
        stopping,
    });
    Ok(Broker::new(Parts { state, outgoing, pushed, consumer, stop, publishing }))
}

/// Declares everything, the queues of services too, and says how it went.
pub async fn declare(app: &App, options: &Options) -> Result<Topology, Problem> {
    let topology = Topology::new(app, options, &class_types(app));
    let connection = connection::connect(options, "topology").await?;
    let channel = connection.create_channel().await.map_err(|error| connection::problem(&error))?;
    topology.declare(&channel).await?;
    topology.declare_services(&channel).await?;
    connection.close(200, "done".into()).await.map_err(|error| connection::problem(&error))?;
    Ok(topology)
}
