//! The engine: the life of instances. Load, apply, append, then effects; never an effect before the
//! append.
//!
//! [`Engine`] is the handle that ingress and the command line use. Behind it instances are spread
//! by hash over shards (`shard`), one task each, which own the instances' states (`active_instance`): what
//! comes is turned into events (`feed`), rows go to the store in batches, effects follow
//! (`effects`), and what has nothing under way rests (`rest`, `marks`). `loading` replays journals,
//! `recovery` finds what a restart left behind and what time has come for. Where nodes share the
//! store, `elsewhere` asks the node that works on an instance.

pub(crate) mod active_instance;
pub mod api;
mod append;
mod census;
mod core;
mod effects;
mod eviction;
mod extent;
pub(crate) mod figures;
pub(crate) mod forwarding;
mod inputs;
mod late_completion;
mod loading;
mod message;
mod missing_definitions;
mod options;
mod outbox;
mod publish;
mod pulse;
mod recovery;
mod replay;
pub(crate) mod router;
mod running_attempts;
mod settlement;
mod shard;
mod stats;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use api::{
    Command, Completed, Completion, Error, EventTaken, IncomingEvent, Progress, Start, Started,
    Undelivered,
};

use crate::app::App;
use crate::bus::Bus;
use crate::canonical;
use crate::executor::WorkerManager;
use crate::id::InstanceId;
use crate::live::{Follower, Hub};
use crate::source;
use crate::store::peers::Peer;
use crate::store::{Count, InUse, RequestKey, Store};
use crate::supervise;
use crate::telemetry::times::Times;

pub(crate) use self::core::Core;
use self::message::Message;
use self::shard::Shard;
use crate::engine::forwarding::{Request, Response};

pub use crate::clock::ClockState;
pub use crate::source::{Source, System};
pub use options::Options;
pub use stats::Stats;

/// Messages that wait for a shard; whoever sends more waits.
const INBOX: usize = 4096;

/// The engine's handle; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    core: Arc<Core>,
    /// By shard.
    figures: Arc<[Arc<figures::Figures>]>,
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
    /// Begins: accepts at once, and takes up in the background what an earlier process left.
    pub async fn open(
        app: Arc<App>,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        workers: WorkerManager,
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
            let (messages, inbox) = mpsc::channel(INBOX);
            inboxes.push(messages.clone());
            channels.push((messages, inbox));
        }
        let core = Arc::new(Core::new(app, store, bus, workers, hub, options, inboxes));
        let mut shards = Vec::new();
        for (messages, inbox) in channels {
            let seed = source::random(&*core.options.source)
                .map(u64::from_le_bytes)
                .map_err(OpenError::Random)?;
            let figures = figures::Figures::new(core.app.workflows);
            shards.push(figures.clone());
            supervise::spawn(
                "a shard",
                Shard::new(core.clone(), messages, seed, figures).run(inbox),
            );
        }
        recovery::begin(&core);
        forwarding::begin(&core);
        Ok(Self { core, figures: shards.into() })
    }

    pub fn app(&self) -> &Arc<App> {
        &self.core.app
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core.store
    }

    pub fn hub(&self) -> &Hub {
        &self.core.hub
    }

    pub fn stats(&self) -> &Arc<Stats> {
        &self.core.stats
    }

    /// What was counted by workflow and by step since the process began.
    pub(crate) fn figures(&self) -> std::collections::BTreeMap<&'static str, figures::WorkflowSum> {
        figures::sum(&self.figures)
    }

    /// How long the store took to make batches of rows durable.
    pub(crate) fn append_times(&self) -> &Times {
        &self.core.append_times
    }

    /// Counts instances by workflow and state, for [`Self::census`], unless that was done a moment
    /// ago.
    pub(crate) async fn take_census(&self) {
        self.core.take_census().await;
    }

    /// How many instances have not ended; `None`: the store did not say.
    pub(crate) fn census(&self) -> Option<Vec<Count>> {
        self.core.census.known()
    }

    pub fn options(&self) -> &Options {
        &self.core.options
    }

    pub fn workers(&self) -> &WorkerManager {
        &self.core.workers
    }

    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.core.bus
    }

    /// The nodes that share the store and live, this one too; `None` where nobody can share it.
    pub fn nodes(&self) -> Option<Vec<Peer>> {
        self.core.elsewhere.as_ref().map(|elsewhere| elsewhere.peers.nodes())
    }

    /// Definitions that instances need and neither this binary nor another node has: they stand
    /// still.
    pub fn missing_definitions(&self) -> Vec<InUse> {
        self.core.missing.list()
    }

    /// Why an instance that began so stands still, if it does.
    pub fn why_still(&self, started: &crate::machine::Started) -> Option<String> {
        self.core.why_still(started)
    }

    pub fn clock(&self) -> ClockState {
        self.core.clock.state()
    }

    /// Whether what an earlier process left has been taken up.
    pub fn has_recovered(&self) -> bool {
        self.core.has_recovered()
    }

    /// Whether every part of the engine answers in time; the error is for people.
    pub(crate) async fn answers(&self, limit: Duration) -> Result<(), String> {
        self.core.answers(limit).await
    }

    /// For how long a part of the engine has not answered; `None`: one is gone. Does not wait.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        self.core.silent_for()
    }

    /// Starts an instance; durable when answered.
    pub async fn start(&self, start: Start) -> Result<Started, Error> {
        self.core.start(start).await
    }

    /// As [`Self::start`], and who hears of all that the instance does from then on; of one that
    /// this starts, of all that it ever does.
    pub(crate) async fn start_and_follow(
        &self,
        start: Start,
    ) -> Result<(Started, Follower), Error> {
        self.core.start_and_follow(start).await
    }

    /// Takes a result or a failure; durable when answered.
    pub async fn complete(&self, completion: Completion) -> Result<Completed, Error> {
        let (instance, step) = (completion.instance, completion.step.clone());
        let said = late_completion::Said::of(&completion);
        match self.core.request(instance, Request::Complete(completion)).await {
            Ok(Response::Completed(completed)) => Ok(completed),
            // Not open any more, or never was: the journal knows.
            Err(Error::NotOpen | Error::NotNow(_) | Error::UnknownInstance(_)) => {
                late_completion::look_back(&self.core, instance, &step, said).await
            }
            answer => answer.and_then(unexpected),
        }
    }

    /// Takes a sign of life.
    pub async fn progress(&self, progress: Progress) -> Result<(), Error> {
        self.core.request(progress.instance, Request::Progress(progress)).await.map(drop)
    }

    /// Carries out a command; durable when answered.
    pub async fn command(&self, instance: InstanceId, command: Command) -> Result<(), Error> {
        self.core.request(instance, Request::Command(command)).await.map(drop)
    }

    /// Takes events; each is durable when answered, in the order given.
    pub async fn take_events(&self, events: Vec<IncomingEvent>) -> Vec<Result<EventTaken, Error>> {
        self.core.router.take(&self.core, events).await
    }

    /// What of an instance does not reach whom it is for, and why. Empty if the instance is not in
    /// memory, for then nothing of it is under way.
    pub async fn undelivered(&self, instance: InstanceId) -> Undelivered {
        self.core.undelivered(instance).await
    }

    /// Takes nothing new, waits for what is under way until `limit`, and closes the store. What is
    /// still under way then is taken up by the next process.
    pub async fn shutdown(&self, limit: Duration) {
        self.core.close();
        let begun = tokio::time::Instant::now();
        for inbox in &self.core.inboxes {
            // A shard that is gone is drained.
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
            tracing::warn!(%error, "the store did not close in order; nothing acknowledged is lost");
        }
    }
}

/// Another kind of answer than to what was asked.
fn unexpected<T>(response: forwarding::Response) -> Result<T, Error> {
    let text = format!("an answer to another question: {response:?}");
    Err(Error::Broken(crate::machine::Failure::new(crate::machine::Failure::ERROR, text)))
}

/// An id for what came without one.
pub(crate) fn fresh_id(source: &dyn Source, now: crate::machine::Time) -> Result<String, Error> {
    let random = source::random(source).map(u64::from_le_bytes);
    let random = random.map_err(|text| {
        Error::Broken(crate::machine::Failure::new(crate::machine::Failure::ERROR, text))
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
