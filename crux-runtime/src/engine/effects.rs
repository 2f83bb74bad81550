//! Carries out effects after their row is durable, and repeats pending ones after a restart.

use std::sync::Arc;

use serde_json::value::RawValue;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::Core;
use super::api::{Error, IncomingEvent};
use super::message::Message;
use super::shard::{Shard, Slot};
use crate::backoff::{self, Backoff};
use crate::bus;
use crate::bus::broker::worker_registry::AttemptIds;
use crate::engine::active_instance::{ActiveInstance, Delivery, Input};
use crate::engine::backlog::Waiting;
use crate::engine::outbox::EffectId;
use crate::engine::publish::Publish;
use crate::executor::queue::cancelled;
use crate::id::InstanceId;
use crate::machine::{
    self, Attempt, AttemptFailed, Effect, Event, Failure, Hook, Open, Outcome, Path, Runs,
    StepHappened, Time,
};
use crate::store::{Seq, Subscription};
use crate::supervise;
use crate::task::cancellation::Cancellation;
use crate::task::{Report, Reported, Task};

impl Shard {
    /// The effects of a row that has just become durable.
    pub(super) fn carry_out(&mut self, id: InstanceId, seq: Seq, effects: SmallVec<[Effect; 1]>) {
        for (n, effect) in (0..).zip(effects) {
            self.effect(id, EffectId { seq, n }, effect);
        }
    }

    fn effect(&mut self, id: InstanceId, number: EffectId, effect: Effect) {
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        match effect {
            Effect::Dispatch { path, attempt, input, key } => {
                let Some(meta) = active.meta(&path) else { return };
                let in_process = self.core.runs_here(meta.contract);
                let cancellation = Cancellation::default();
                let task = Task {
                    instance: id,
                    path,
                    path_text: active.instance.definition().path_text(&path),
                    attempt,
                    contract: meta.contract,
                    policy: &meta.policy,
                    input,
                    own_key: key,
                    heartbeat_ms: self.core.remote_heartbeat_ms(meta),
                    origin: active.origin.clone(),
                    cancellation: cancellation.clone(),
                };
                active.outbox.add_task(number, path, attempt);
                if self.draining {
                    active.running.forget_step(path);
                    // The next process dispatches it. The row says that this one did not, which the
                    // next process could not know otherwise.
                    if self.core.counts_as_begun(meta) {
                        active.queue.push_back(Input::Report(returned(id, path, attempt)));
                    }
                    return;
                }
                let sent_at = active.last_at;
                active.running.dispatch(path, attempt, sent_at, cancellation, in_process);
                info!(
                    target: "crux::attempts",
                    workflow = &*task.origin.workflow,
                    instance = task.origin.workflow_id.as_str(),
                    path = &*task.path_text,
                    attempt,
                    "attempt dispatched"
                );
                self.tally.dispatched += 1;
                self.offer(number, task);
            }
            Effect::Cancel { path } => {
                if let Some(attempt) = active.outbox.undelivered_attempt(path) {
                    // Nobody has it, so nobody would ever say that it is over.
                    let what = Reported::Failed(cancelled());
                    active.queue.push_back(Input::Report(Report {
                        instance: id,
                        path,
                        attempt,
                        what,
                    }));
                }
                if !active.running.cancel_step(path)
                    && active
                        .meta(&path)
                        .is_some_and(|meta| matches!(meta.contract.runs, Runs::Class(_)))
                {
                    self.core.bus.cancel(AttemptIds(
                        id,
                        id.step(&active.instance.definition().path_text(&path)),
                        0,
                    ));
                }
            }
            Effect::Hook { kind, routing_key } => {
                if self.core.bus.wants(routing_key) {
                    active.outbox.add_message(number, routing_key);
                    let message = message(active, id, number, routing_key, hook_body(active, kind));
                    let publish = self.publishing(id, number, message);
                    supervise::spawn("publishing a message", async move { publish.run().await });
                }
            }
            Effect::Emit { event, routing_key, data, .. } => {
                let is_ours = self.core.app.event(event).is_some();
                if is_ours || self.core.bus.wants(routing_key) {
                    active.outbox.add_message(number, routing_key);
                    let message = message(active, id, number, routing_key, data);
                    let owner = active.instance.env().owner.clone();
                    let publish = self.publishing(id, number, message);
                    self.emit(is_ours.then_some(event), owner, publish);
                }
            }
            Effect::Subscribe { path, event, value } => {
                active.outbox.add_subscription(number, path);
                let path = active.instance.definition().path_text(&path).into_owned();
                self.subscribe(
                    number,
                    Subscription { event: event.to_owned(), value, instance: id, path },
                );
            }
            Effect::Unsubscribe { path, event, value } => {
                // Lazy: a stale subscription finds no open wait and is removed then.
                let path = active.instance.definition().path_text(&path).into_owned();
                self.core.unsubscribe(Subscription {
                    event: event.to_owned(),
                    value,
                    instance: id,
                    path,
                });
            }
        }
    }

    /// Tasks that could not be delivered are offered again when their pause is over.
    pub(super) fn resend(&mut self, id: InstanceId, now: Time) {
        if self.draining {
            return;
        }
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        let mut again = Vec::new();
        for (number, path, attempt) in active.outbox.due(now).collect::<Vec<_>>() {
            match active.task(id, path, attempt, &self.core) {
                Some(task) => {
                    active.outbox.offered(number, now);
                    again.push((number, task));
                }
                // An earlier attempt completed the step: this task is not needed, and would stay
                // due.
                None => active.outbox.close(number),
            }
        }
        for (number, task) in again {
            self.offer(number, task);
        }
    }

    /// A service is back: tasks that it refused are offered immediately, not after their pause,
    /// which has grown meanwhile. Whether a task is that service's only the bus knows.
    pub(super) fn retry_undelivered(&mut self, now: Time) {
        let mut ids = Vec::new();
        for (id, slot) in &mut self.slots {
            if let Slot::Ready(active) = slot
                && active.outbox.end_pauses(now)
            {
                ids.push(*id);
            }
        }
        for id in ids {
            self.resend(id, now);
            // Sets the timer of effects that still have to wait.
            self.settle_or_evict(id, now);
        }
    }

    /// Dispatches a task, or queues it behind those of its step type that wait for room.
    fn offer(&mut self, effect: EffectId, task: Task) {
        let (core, reports) = (&self.core, &self.reports);
        self.backlog.dispatch(effect, task, |task| core.dispatch(task, reports));
    }

    /// Starts nothing new. Tasks that reached no worker or service are left to the next process.
    pub(super) fn drain(&mut self, now: Time) {
        self.draining = true;
        let backlog = self.backlog.drain();
        let mut unsent: Vec<_> =
            backlog.map(|task| (task.instance, task.path, task.attempt)).collect();
        for (id, slot) in &self.slots {
            if let Slot::Ready(active) = slot {
                unsent.extend(
                    active.outbox.undelivered_tasks().map(|(path, attempt)| (*id, path, attempt)),
                );
            }
        }
        for (id, path, attempt) in unsent {
            let Some(Slot::Ready(active)) = self.slots.get(&id) else { continue };
            if active.meta(&path).is_some_and(|meta| self.core.counts_as_begun(meta)) {
                self.input(id, Input::Report(returned(id, path, attempt)), now);
            }
        }
    }

    /// Dispatches tasks of the backlog that find room now.
    pub(super) fn retry_backlog(&mut self) {
        if self.draining || self.backlog.is_empty() {
            return;
        }
        let (core, slots, reports) = (&self.core, &self.slots, &self.reports);
        let wanted = |waiting: &Waiting| {
            matches!(slots.get(&waiting.task.instance), Some(Slot::Ready(active))
                if active.outbox.contains(waiting.effect))
        };
        self.backlog.retry(wanted, |task| core.dispatch(task, reports));
    }

    fn publishing(&self, instance: InstanceId, effect: EffectId, message: bus::Message) -> Publish {
        Publish { core: self.core.clone(), shard: self.messages.clone(), instance, effect, message }
    }

    /// An emitted event goes to this app's own triggers and waits, if it is declared here, and out
    /// under its routing key.
    fn emit(&self, event: Option<&'static str>, owner: String, publish: Publish) {
        let core = self.core.clone();
        let incoming = event.map(|event| IncomingEvent {
            name: event.to_owned(),
            id: Some(publish.message.id.clone()),
            data: publish.message.body.clone(),
            owner,
            traceparent: publish.message.traceparent.clone(),
        });
        supervise::spawn("an emitted event", async move {
            if let Some(incoming) = incoming
                && !take(&core, publish.instance, incoming).await
            {
                return;
            }
            if core.bus.wants(publish.message.routing_key) {
                publish.run().await;
            } else {
                publish.done().await;
            }
        });
    }

    /// First the subscription, then a look at the events that came before it: an event sees the one
    /// or the other.
    fn subscribe(&self, effect: EffectId, subscription: Subscription) {
        let (core, messages) = (self.core.clone(), self.messages.clone());
        let id = subscription.instance;
        supervise::spawn("subscribing", async move {
            let mut backoff = Backoff::of(backoff::STORE, id.seed());
            let kept = loop {
                let attempt = async {
                    core.store.subscribe(vec![subscription.clone()]).await?;
                    core.store
                        .kept(
                            subscription.event.clone(),
                            subscription.value.clone(),
                            core.clock.now(),
                        )
                        .await
                };
                match attempt.await {
                    Ok(kept) => break kept,
                    Err(error) => {
                        warn!(instance = %id, %error, "failed to store event subscription; retrying");
                        tokio::time::sleep(backoff.pause()).await;
                    }
                }
            };
            for event in kept {
                let path = subscription.path.clone();
                let delivery = Delivery {
                    path,
                    event_id: event.id,
                    data: event.data.into(),
                    keep_until: None,
                    is_kept: true,
                };
                match offer_kept(&core, id, delivery).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    // The next process looks again, or the node that has the instance now.
                    Err(Error::ShuttingDown | Error::OwnerUnreachable { .. }) => return,
                    // It has continued without this wait.
                    Err(Error::NotOpen | Error::InvalidState(_) | Error::UnknownInstance(_)) => {
                        break;
                    }
                    Err(error) => {
                        warn!(instance = %id, event = event.name, %error, "the wait rejects an event")
                    }
                }
            }
            // The shard is dropped only when the process ends.
            let _ = messages.send(Message::Done { instance: id, effect }).await;
        });
    }

    /// After a restart: the effects of rows that were not settled, under the same ids. Attempts
    /// that ran in the dead process are lost.
    pub(super) fn recover(&mut self, id: InstanceId, unsettled: Vec<(Seq, u32, Effect)>) {
        for (seq, n, effect) in unsettled {
            let Effect::Dispatch { path, attempt, .. } = &effect else {
                if !matches!(effect, Effect::Cancel { .. }) {
                    self.effect(id, EffectId { seq, n }, effect);
                }
                continue;
            };
            let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
            if !active.is_open(path, *attempt) {
                continue;
            }
            // Its worker reported that it began. It will report the result, or its heartbeats stop.
            if active.has_begun_elsewhere(path, *attempt) {
                continue;
            }
            if active.meta(path).is_some_and(|meta| self.core.counts_as_begun(meta)) {
                let failure = Failure::new(
                    Failure::WORKER_LOST,
                    "the process that ran or dispatched the attempt has died",
                );
                let failed = AttemptFailed {
                    outcome: Outcome::Unknown,
                    failure,
                    retry: None,
                    after_ms: None,
                };
                active.queue.push_back(Input::Report(Report {
                    instance: id,
                    path: *path,
                    attempt: *attempt,
                    what: Reported::Failed(failed),
                }));
            } else {
                self.effect(id, EffectId { seq, n }, effect);
            }
        }
    }
}

impl Core {
    /// Whether an attempt in flight when its process died counts as begun: attempts that ran in
    /// that process, and those that must not run twice, because it is unknown how far they came.
    pub(super) fn counts_as_begun(&self, meta: &machine::Task) -> bool {
        self.runs_here(meta.contract) || meta.is_once()
    }

    /// Dispatches the task to the executor or the bus; returns it if their queue is full.
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        if self.runs_here(task.contract) {
            self.workers.submit(task, reports)
        } else {
            self.bus.dispatch(task, reports)
        }
    }

    /// The heartbeat timeout to put into a task, if it leaves for a worker in another process.
    fn remote_heartbeat_ms(&self, meta: &machine::Task) -> Option<u64> {
        let leaves = matches!(meta.contract.runs, Runs::Class(_)) && !self.runs_here(meta.contract);
        leaves.then(|| self.heartbeat_ms(&meta.policy))
    }
}

/// Whether the wait has taken it.
async fn offer_kept(core: &Core, instance: InstanceId, delivery: Delivery) -> Result<bool, Error> {
    let mut backoff = Backoff::of(backoff::EVENT, instance.seed());
    loop {
        let (reply, taken) = tokio::sync::oneshot::channel();
        match core.ask(instance, Input::Deliver { delivery: delivery.clone(), reply }, taken).await
        {
            Err(error)
                if error.is_passing() && !matches!(error, Error::OwnerUnreachable { .. }) =>
            {
                tokio::time::sleep(backoff.pause()).await;
            }
            answer => return answer,
        }
    }
}

fn returned(instance: InstanceId, path: Path, attempt: u32) -> Report {
    Report { instance, path, attempt, what: Reported::Returned }
}

/// Gives an emitted event to the router until it is stored; `false`: the next process has to.
async fn take(core: &Arc<super::Core>, instance: InstanceId, incoming: IncomingEvent) -> bool {
    let mut backoff = Backoff::of(backoff::EVENT, instance.seed());
    loop {
        match core.router.take(core, vec![incoming.clone()]).await.pop() {
            Some(Err(error)) if error.is_passing() => {
                warn!(%instance, %error, "cannot take an emitted event; retrying");
                tokio::time::sleep(backoff.pause()).await;
            }
            Some(Err(Error::ShuttingDown)) => return false,
            Some(Err(error @ Error::Store(_))) => {
                error!(%instance, %error, "cannot store an emitted event; retried after a restart");
                return false;
            }
            Some(Err(error)) => {
                warn!(%instance, %error, "an emitted event matches no declared type and is dropped here");
                return true;
            }
            _ => return true,
        }
    }
}

fn message(
    active: &ActiveInstance,
    id: InstanceId,
    EffectId { seq, n }: EffectId,
    routing_key: &'static str,
    body: Box<RawValue>,
) -> bus::Message {
    bus::Message {
        routing_key,
        id: format!("{id}/{seq}/{n}"),
        correlation_id: active.origin.correlation_id().to_owned(),
        traceparent: active.origin.traceparent.clone(),
        body,
    }
}

fn hook_body(active: &ActiveInstance, kind: Hook) -> Box<RawValue> {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        workflow_id: &'a str,
        workflow: &'a str,
        request_id: &'a str,
        status: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: String,
        payload: &'a RawValue,
    }
    let status = match kind {
        Hook::Start => "processing",
        Hook::Complete => "completed",
        Hook::Failure if active.instance.phase() == crate::machine::Phase::Cancelled => "cancelled",
        Hook::Failure => "failed",
    };
    let body = Body {
        workflow_id: &active.origin.workflow_id,
        workflow: &active.origin.workflow,
        request_id: &active.origin.request_id,
        status,
        error: active
            .instance
            .failure()
            .filter(|_| kind == Hook::Failure)
            .map_or(String::new(), ToString::to_string),
        payload: &active.origin.payload,
    };
    // Texts and a value that was JSON before always encode.
    crate::machine::json::raw(&body).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl ActiveInstance {
    pub(super) fn is_open(&self, path: &Path, attempt: u32) -> bool {
        let mut open = false;
        self.instance.open(&mut |item| {
            if let Open::Task(task) = item {
                open |=
                    task.path == *path && task.number == attempt && task.attempt == Attempt::Sent;
            }
        });
        open
    }

    /// The work order of an attempt that is open already, to be handed out once more.
    fn task(&self, id: InstanceId, path: Path, attempt: u32, core: &Core) -> Option<Task> {
        let meta = self.meta(&path)?;
        let running = self.running.get(path, attempt)?;
        let mut task = None;
        self.instance.open(&mut |item| {
            if let Open::Task(state) = item
                && state.path == path
                && let Some(input) = &state.input
            {
                task = Some(Task {
                    instance: id,
                    path,
                    path_text: self.instance.definition().path_text(&path),
                    attempt,
                    contract: meta.contract,
                    policy: &meta.policy,
                    input: input.clone(),
                    own_key: state.key.clone(),
                    heartbeat_ms: core.remote_heartbeat_ms(meta),
                    origin: self.origin.clone(),
                    cancellation: running.cancellation.clone(),
                });
            }
        });
        task
    }

    /// An event that ends an attempt confirms its dispatch.
    pub(super) fn close_task(&mut self, event: &Event) {
        let Event::Step(event) = event else { return };
        if matches!(
            event.what,
            StepHappened::Completed { .. }
                | StepHappened::Failed { .. }
                | StepHappened::Lost { .. }
                | StepHappened::Returned { .. }
        ) {
            self.outbox.close_step(event.path);
            if matches!(event.what, StepHappened::Completed { .. }) {
                self.running.close_step(event.path);
            }
        }
    }

    /// A service or worker has the task.
    pub(super) fn delivered(&mut self, path: Path, attempt: u32, now: Time) {
        if self.meta(&path).is_some_and(|meta| !meta.contract.reports_started) {
            self.running.delivered(path, attempt, now);
        }
        self.outbox.close_task(path, attempt);
    }
}
