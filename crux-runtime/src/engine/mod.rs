//! The engine: the life of instances. Load, apply, append, then effects; never an effect before the
//! append.
//!
//! [`Engine`] is the handle that ingress and the command line use. Behind it instances are spread
//! by hash over shards (`shard`), one task each, which own the instances in memory
//! (`active_instance`): inputs become events (`inputs`), rows go to the store in batches
//! (`append`), effects follow (`effects`, `outbox`), and what is idle is settled and evicted
//! (`settlement`, `eviction`). `loading` replays journals, `recovery` finds unsettled instances
//! after a restart and due timers. Where nodes share the store, `forwarding` asks the owner node of
//! an instance.

mod active_instance;
pub mod api;
mod append;
mod backlog;
mod core;
mod effects;
mod eviction;
pub(crate) mod forwarding;
mod idle_queue;
mod inputs;
mod instance_counts;
mod instance_log;
mod journal_size;
mod late_completion;
mod liveness;
mod loading;
mod message;
mod missing_definitions;
mod options;
mod outbox;
mod publish;
mod reads;
mod recovery;
mod replay;
pub(crate) mod router;
mod running_attempts;
mod settlement;
mod shard;
mod snapshot;
mod stats;
mod timers;
pub(crate) mod workflow_metrics;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use api::{
    Command, Completion, CompletionOutcome, Error, EventAccepted, IncomingEvent, Progress, Start,
    StartAccepted, Undelivered,
};

use crate::app::App;
use crate::bus::Bus;
use crate::canonical;
use crate::executor::Executor;
use crate::id::InstanceId;
use crate::live::{Follower, Hub};
use crate::source;
use crate::store::peers::Peer;
use crate::store::{InUse, RequestKey, Store};

pub(crate) use self::core::Core;
use self::message::Message;
use self::shard::Shard;
use crate::engine::forwarding::{Request, Response};

pub use crate::clock::ClockState;
pub use crate::source::{Source, System};
pub use options::Options;
pub use snapshot::Counters;
pub(crate) use snapshot::Snapshot;
use stats::Stats;

/// Messages that wait for a shard; beyond it the sender waits.
const INBOX_LEN: usize = 4096;

/// The engine's handle; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    /// By shard.
    metrics: Arc<[Arc<workflow_metrics::WorkflowMetrics>]>,
}

/// Why an engine cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "workflow `{workflow}` reads `config.{name}`, which is not set: add `{name}` under `config` in the configuration"
    )]
    MissingValue { workflow: &'static str, name: &'static str },
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error("{0}")]
    Random(String),
}

impl Engine {
    /// Opens the engine: it accepts requests immediately, and recovers unsettled instances in the
    /// background.
    pub async fn open(
        app: Arc<App>,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        workers: Executor,
        hub: Hub,
        options: Options,
    ) -> Result<Self, OpenError> {
        for workflow in app.workflows {
            for name in workflow.definition.config {
                if !options.values.contains_key(*name) {
                    return Err(OpenError::MissingValue {
                        workflow: workflow.definition.workflow,
                        name,
                    });
                }
            }
            store
                .define(
                    workflow.definition.hash.to_owned(),
                    workflow.definition.document.to_owned(),
                )
                .await?;
        }
        let mut inboxes = Vec::new();
        let mut channels = Vec::new();
        for _ in 0..options.shards.max(1) {
            let (messages, inbox) = mpsc::channel(INBOX_LEN);
            inboxes.push(messages.clone());
            channels.push((messages, inbox));
        }
        let core = Arc::new(Core::new(app, store, bus, workers, hub, options, inboxes));
        let mut shards = Vec::new();
        for (messages, inbox) in channels {
            let seed = source::random(&*core.options.source)
                .map(u64::from_le_bytes)
                .map_err(OpenError::Random)?;
            let metrics = workflow_metrics::WorkflowMetrics::new(core.app.workflows);
            shards.push(metrics.clone());
            core.keep_running(
                "a shard",
                Shard::new(core.clone(), messages, seed, metrics).run(inbox),
            );
        }
        recovery::begin(&core);
        forwarding::begin(&core);
        Ok(Self { core, metrics: shards.into() })
    }

    pub fn app(&self) -> &Arc<App> {
        &self.core.app
    }

    pub fn options(&self) -> &Options {
        &self.core.options
    }

    /// The live nodes that share the store, this one included; `None` if the store cannot be
    /// shared.
    pub fn nodes(&self) -> Option<Vec<Peer>> {
        self.core.peer_router.as_ref().map(|peer_router| peer_router.peers.nodes())
    }

    /// Definitions that instances need and no live node has: these instances cannot continue.
    pub fn missing_definitions(&self) -> Vec<InUse> {
        self.core.missing.list()
    }

    /// Why an instance that started so is blocked, if it is.
    pub fn blocked_reason(&self, started: &crate::machine::Started) -> Option<String> {
        self.core.blocked_reason(started)
    }

    pub fn clock(&self) -> ClockState {
        self.core.clock.state()
    }

    /// Whether recovery of unsettled instances is complete.
    pub fn has_recovered(&self) -> bool {
        self.core.has_recovered()
    }

    /// Whether every shard answers in time; the error is for people.
    pub(crate) async fn answers(&self, limit: Duration) -> Result<(), String> {
        self.core.answers(limit).await
    }

    /// For how long a shard has not answered; `None`: one has ended. Does not wait.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.core.silent_for()
    }

    /// Starts an instance; durable when answered.
    pub async fn start(&self, start: Start) -> Result<StartAccepted, Error> {
        self.core.start(start).await
    }

    /// As [`Self::start`], with a follower of the instance: of one that this starts, from its first
    /// row.
    pub(crate) async fn start_and_follow(
        &self,
        start: Start,
    ) -> Result<(StartAccepted, Follower), Error> {
        self.core.start_and_follow(start).await
    }

    /// Takes a result or a failure; durable when answered.
    pub async fn complete(&self, completion: Completion) -> Result<CompletionOutcome, Error> {
        let (instance, step) = (completion.instance, completion.step.clone());
        let reported = late_completion::ReportedResult::of(&completion);
        match self.core.request(instance, Request::Complete(completion)).await {
            Ok(Response::Completed(completed)) => Ok(completed),
            // Not open any more, or never was: the journal knows.
            Err(Error::NotOpen | Error::InvalidState(_) | Error::UnknownInstance(_)) => {
                late_completion::classify_from_journal(&self.core, instance, &step, reported).await
            }
            answer => answer.and_then(unexpected),
        }
    }

    /// Takes a heartbeat.
    pub async fn progress(&self, progress: Progress) -> Result<(), Error> {
        self.core.request(progress.instance, Request::Progress(progress)).await.map(drop)
    }

    /// Carries out a command; durable when answered.
    pub async fn command(&self, instance: InstanceId, command: Command) -> Result<(), Error> {
        self.core.request(instance, Request::Command(command)).await.map(drop)
    }

    /// Takes events; each is durable when answered, in the order given.
    pub async fn take_events(
        &self,
        events: Vec<IncomingEvent>,
    ) -> Vec<Result<EventAccepted, Error>> {
        self.core.router.take(&self.core, events).await
    }

    /// Undelivered tasks and messages of an instance, with the reasons. Empty if it is not in
    /// memory, for then it is settled.
    pub async fn undelivered(&self, instance: InstanceId) -> Undelivered {
        self.core.undelivered(instance).await
    }

    /// Accepts nothing new, waits for running attempts and busy instances until `limit`, and closes
    /// the store. The next process recovers what is unsettled.
    pub async fn shutdown(&self, limit: Duration) {
        tokio::join!(self.core.workers.drain(limit), self.close_store(limit));
    }

    /// Closes the bus, after [`Self::shutdown`]: ends when everything that it consumed is
    /// acknowledged and everything that is ready to go out is out.
    pub async fn close_bus(&self) {
        self.core.bus.close().await;
    }

    async fn close_store(&self, limit: Duration) {
        self.core.close();
        let begun = tokio::time::Instant::now();
        for inbox in &self.core.inboxes {
            // A shard that has ended is drained.
            let _ = inbox.send(Message::Drain).await;
        }
        self.core.bus.drain();
        while begun.elapsed() < limit && self.core.busy().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for inbox in &self.core.inboxes {
            let (done, flushed) = oneshot::channel();
            if inbox.send(Message::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        }
        if let Err(error) = self.core.store.close().await {
            tracing::warn!(%error, "the store did not close cleanly; nothing acknowledged is lost");
        }
    }
}

/// The peer replied with the wrong variant.
fn unexpected<T>(response: forwarding::Response) -> Result<T, Error> {
    let text = format!("unexpected response from peer: {response:?}");
    Err(Error::Corrupted(crate::machine::Failure::new(crate::machine::Failure::ERROR, text)))
}

/// A new id, for requests without one.
pub(crate) fn fresh_id(source: &dyn Source, now: crate::machine::Time) -> Result<String, Error> {
    let random = source::random(source).map(u64::from_le_bytes);
    let random = random.map_err(|text| {
        Error::Corrupted(crate::machine::Failure::new(crate::machine::Failure::ERROR, text))
    })?;
    Ok(format!("{:012x}{random:016x}", now.0))
}

/// The key under which a request id is used once: per owner and workflow.
fn request_key(start: &Start) -> Option<RequestKey> {
    let id = start.request_id.clone()?;
    Some(RequestKey {
        scope: format!("{}/{}", start.owner, start.workflow),
        id,
        input_hash: canonical::hash(&start.input),
    })
}
