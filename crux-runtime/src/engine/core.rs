//! State shared by all shards, and the routing of requests to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use super::api::{self, Error, Start};
use super::instance_counts::InstanceCounts;
use super::liveness::LivenessProbes;
use super::message::Message;
use super::shard::{SHARED_TIMER_LOOKAHEAD_MS, TIMER_LOOKAHEAD_MS};
use super::{Options, Stats, request_key};
use crate::app::{App, Workflow};
use crate::backoff::{Backoff, Pauses};
use crate::bus::Bus;
use crate::bus::broker::worker_registry::AttemptIds;
use crate::clock::Clock;
use crate::definition::secrets::{Secrets, shown_input};
use crate::definition::shape::Shape;
use crate::engine::active_instance::Input;
use crate::engine::forwarding::PeerRouter;
use crate::engine::missing_definitions::Missing;
use crate::engine::router::Router;
use crate::executor::Executor;
use crate::id::InstanceId;
use crate::live::{Follower, Hub};
use crate::machine::{self, Contract, Definition, Policy, Runs, Time};
use crate::source;
use crate::store::{self, RequestKey, Status, Store, Subscription};
use crate::supervise;
use crate::telemetry::times::Times;

pub(crate) struct Core {
    pub(crate) app: Arc<App>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) workers: Executor,
    pub(crate) hub: Hub,
    pub(super) stats: Arc<Stats>,
    pub(crate) options: Options,
    pub(crate) clock: Arc<Clock>,
    pub(crate) router: Router,
    pub(super) inboxes: Vec<mpsc::Sender<Message>>,
    closing: AtomicBool,
    pub(super) recovered: AtomicBool,
    /// The disk has less free space than `min_free_bytes`.
    pub(super) disk_low: AtomicBool,
    /// `None`: this process has the store to itself.
    pub(super) peer_router: Option<PeerRouter>,
    pub(super) unsubscribed: std::sync::Mutex<Vec<Subscription>>,
    pub(crate) missing: Missing,
    began_at: Time,
    /// By hash, of the definitions whose input holds secrets.
    secrets: HashMap<&'static str, Secrets>,
    pub(super) probes: LivenessProbes,
    pub(super) append_times: Arc<Times>,
    pub(super) census: InstanceCounts,
}

impl Core {
    pub(super) fn new(
        app: Arc<App>,
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        workers: Executor,
        hub: Hub,
        options: Options,
        inboxes: Vec<mpsc::Sender<Message>>,
    ) -> Self {
        let router = Router::new(&app);
        let peer_router = store.peers().map(PeerRouter::new);
        let clock = Arc::new(Clock::new(options.source.clone()));
        let secrets = app.workflows.iter().filter_map(|workflow| {
            // One that cannot be read is logged where documents are made.
            let shape = Shape::new(workflow.definition.document, None).ok()?;
            shape.secrets.has_input().then_some((workflow.definition.hash, shape.secrets))
        });
        Self {
            secrets: secrets.collect(),
            app,
            store,
            bus,
            workers,
            hub,
            stats: Arc::default(),
            options,
            began_at: clock.now(),
            clock,
            router,
            inboxes,
            closing: AtomicBool::new(false),
            recovered: AtomicBool::new(false),
            disk_low: AtomicBool::new(false),
            peer_router,
            unsubscribed: std::sync::Mutex::default(),
            missing: Missing::default(),
            probes: LivenessProbes::default(),
            append_times: Arc::default(),
            census: InstanceCounts::default(),
        }
    }

    /// An instance's input as its hooks and the payload of its tasks carry it: without secrets.
    pub(super) fn shown_input(
        &self,
        definition: &Definition,
        input: &Arc<RawValue>,
    ) -> Arc<RawValue> {
        if self.secrets.is_empty() {
            return input.clone();
        }
        shown_input(self.secrets.get(definition.hash), input)
    }

    /// Of tries that are no single instance's: nodes do not have the same pauses.
    pub(super) fn backoff(&self, pauses: Pauses) -> Backoff {
        // Without randomness nodes may try together.
        let seed = crate::source::random(&*self.options.source).unwrap_or_default();
        Backoff::of(pauses, u64::from_le_bytes(seed))
    }

    pub(super) fn shards(&self) -> usize {
        self.inboxes.len()
    }

    pub(super) fn inbox(&self, id: InstanceId) -> &mpsc::Sender<Message> {
        let hash = machine::hash(&[&id.0]);
        let shard = usize::try_from(hash % self.inboxes.len() as u64).unwrap_or(0);
        &self.inboxes[shard]
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Starts a task that everything depends on until the engine closes.
    pub(super) fn keep_running(
        self: &Arc<Self>,
        what: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let core = self.clone();
        supervise::keep_running(what, move || core.is_closing(), work);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(super) fn has_recovered(&self) -> bool {
        self.recovered.load(Ordering::Relaxed)
    }

    pub(super) fn count_status(&self, status: Status) {
        let counter = match status {
            Status::Completed => &self.stats.completed,
            Status::Failed => &self.stats.failed,
            Status::Cancelled => &self.stats.cancelled,
            Status::Parked => &self.stats.parked,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether other nodes may work on the same store.
    pub(crate) fn nodes_share(&self) -> bool {
        self.peer_router.is_some()
    }

    /// A step waits no more. Removed in batches by [`super::recovery`].
    pub(crate) fn unsubscribe(&self, subscription: Subscription) {
        if let Ok(mut waiting) = self.unsubscribed.lock() {
            waiting.push(subscription);
        }
    }

    /// Sends an input to an instance and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        id: InstanceId,
        input: Input,
        answer: oneshot::Receiver<Result<T, Error>>,
    ) -> Result<T, Error> {
        if self.is_closing() {
            return Err(Error::ShuttingDown);
        }
        self.inbox(id).send(Message::For(id, input)).await.map_err(|_| Error::ShuttingDown)?;
        answer.await.map_err(|_| Error::ShuttingDown)?
    }

    /// How many instances are busy.
    pub(super) async fn busy(&self) -> usize {
        let mut busy = 0;
        for inbox in &self.inboxes {
            let (reply, answer) = oneshot::channel();
            if inbox.send(Message::Busy(reply)).await.is_ok() {
                busy += answer.await.unwrap_or(0);
            }
        }
        busy
    }

    pub(crate) async fn start(&self, start: Start) -> Result<api::StartAccepted, Error> {
        let new = self.new_instance(start)?;
        self.begin(new).await
    }

    /// Follows the instance from before its first row, so that nothing is missed; a replayed start
    /// from now on.
    pub(crate) async fn start_and_follow(
        &self,
        start: Start,
    ) -> Result<(api::StartAccepted, Follower), Error> {
        let new = self.new_instance(start)?;
        let follower = self.hub.follow(new.id);
        let started = self.begin(new).await?;
        let follower = if started.replayed { self.hub.follow(started.instance) } else { follower };
        Ok((started, follower))
    }

    fn new_instance(&self, start: Start) -> Result<New, Error> {
        let Some(workflow) = self.version_to_start(&start.workflow) else {
            let names = self.app.workflows.iter().map(|workflow| workflow.definition.workflow);
            return Err(Error::UnknownWorkflow {
                hint: crate::suggest::hint(&start.workflow, names),
                name: start.workflow,
            });
        };
        self.admit(workflow.definition)?;
        let request = request_key(&start);
        let random = source::random(&*self.options.source).map_err(|text| {
            Error::Corrupted(machine::Failure::new(machine::Failure::ERROR, text))
        })?;
        let id = InstanceId::new(self.clock.now(), random, start.request_id.as_deref());
        let definition = workflow.definition;
        let config = definition
            .config
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.options.values.get(*name)?.clone())));
        let started = machine::Started {
            workflow: definition.workflow.to_owned(),
            version: definition.version,
            definition: definition.hash.to_owned(),
            input: start.input,
            request_id: start.request_id.unwrap_or_default(),
            config: config.collect(),
            owner: start.owner,
            trigger: start.trigger,
            traceparent: start.traceparent,
        };
        Ok(New { id, workflow, started: Box::new(started), request })
    }

    async fn begin(
        &self,
        New { id, workflow, started, request }: New,
    ) -> Result<api::StartAccepted, Error> {
        let (reply, answer) = oneshot::channel();
        self.inbox(id)
            .send(Message::Start { id, workflow, started, request, reply })
            .await
            .map_err(|_| Error::ShuttingDown)?;
        match answer.await.map_err(|_| Error::ShuttingDown)? {
            Ok(started) => {
                self.stats.started.fetch_add(1, Ordering::Relaxed);
                Ok(started)
            }
            Err(Error::Replayed(instance)) => Ok(api::StartAccepted { instance, replayed: true }),
            Err(error) => Err(error),
        }
    }

    /// The newest version that all nodes that live have, so that any of them can go on with it;
    /// without one, this node's own.
    fn version_to_start(&self, workflow: &str) -> Option<&'static Workflow> {
        let own = self.app.current(workflow)?;
        let Some(peer_router) = &self.peer_router else { return Some(own) };
        let nodes = peer_router.peers.nodes();
        let everywhere =
            |version: &&Workflow| nodes.iter().all(|node| node.info.hosts(version.definition.hash));
        let versions =
            self.app.workflows.iter().filter(|version| version.definition.workflow == workflow);
        Some(
            versions
                .filter(everywhere)
                .max_by_key(|version| version.definition.version)
                .unwrap_or(own),
        )
    }

    /// Whether attempts of that step type run in this process, and end with it.
    pub(super) fn runs_here(&self, contract: &Contract) -> bool {
        matches!(contract.runs, Runs::Class(_)) && self.workers.runs(contract.step_type)
    }

    /// Of a step struct in another process: how long its worker may be silent.
    pub(super) fn heartbeat_ms(&self, policy: &Policy) -> u64 {
        policy.heartbeat_ms.unwrap_or(self.options.heartbeat_timeout_ms)
    }

    /// Since when an attempt in another process counts as silent. Heartbeats sent while this
    /// process did not listen are not known.
    pub(super) fn last_heartbeat(&self, working: &AttemptIds, now: Time) -> Time {
        match self.bus.worker_registry() {
            Some(workers) => workers.last_heartbeat(working, now),
            None => self.began_at,
        }
    }

    /// How far ahead timers are kept in memory. Where nodes share the store, another node may have
    /// to fire the timers of instances settled here.
    pub(super) fn timer_lookahead_ms(&self) -> u64 {
        if self.peer_router.is_some() { SHARED_TIMER_LOOKAHEAD_MS } else { TIMER_LOOKAHEAD_MS }
    }

    /// Admission control for new instances.
    fn admit(&self, definition: &machine::Definition) -> Result<(), Error> {
        if self.is_closing() {
            return Err(Error::ShuttingDown);
        }
        let unsettled = self.stats.unsettled.load(Ordering::Relaxed);
        if unsettled >= u64::try_from(self.options.max_unsettled).unwrap_or(u64::MAX) {
            self.stats.overloaded.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Overloaded {
                reason: format!("{unsettled} instances are unsettled"),
                retry_after_s: 1,
            });
        }
        if definition.needs_bus(|step_type| self.workers.runs(step_type))
            && let Some(reason) = self.bus.congestion()
        {
            self.stats.overloaded.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Overloaded { reason, retry_after_s: 1 });
        }
        if self.disk_low.load(Ordering::Relaxed) {
            self.stats.overloaded.fetch_add(1, Ordering::Relaxed);
            let text = format!(
                "less than {} MiB are free where the store is",
                self.options.min_free_bytes >> 20
            );
            return Err(Error::Store(store::Error::Full(text)));
        }
        Ok(())
    }
}

/// An instance that is to be started.
struct New {
    id: InstanceId,
    workflow: &'static Workflow,
    started: Box<machine::Started>,
    request: Option<RequestKey>,
}
