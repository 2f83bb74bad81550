//! Carrying out effects, after their row is durable; and repeating, after a restart, those that
//! were not settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::Core;
use super::api::{Error, IncomingEvent};
use super::shard::{Blocked, Message, Shard, Slot};
use crate::bus;
use crate::bus::broker::worker_registry::Working;
use crate::engine::active_instance::{
    Delivery, Entry, Input, Outstanding, Pending, Running, Stuck,
};
use crate::engine::outbox::{Publish, backoff};
use crate::executor::Cancellation;
use crate::id::InstanceId;
use crate::machine::{
    self, Attempt, AttemptFailed, Effect, Event, Failure, Hook, Open, Outcome, Path, Runs,
    StepHappened, Time,
};
use crate::store::{Seq, Subscription};
use crate::supervise;
use crate::task::{Report, Reported, Task};

/// A task that the bus has taken is not offered to it again before it has answered; nor is it
/// forgotten if it never does.
const LONGEST_SILENCE_MS: u64 = 24 * 3600 * 1000;

impl Shard {
    /// The effects of a row that has just become durable.
    pub(super) fn carry_out(&mut self, id: InstanceId, seq: Seq, effects: SmallVec<[Effect; 1]>) {
        for (n, effect) in (0..).zip(effects) {
            self.effect(id, seq, n, effect);
        }
    }

    fn effect(&mut self, id: InstanceId, seq: Seq, n: u32, effect: Effect) {
        let Some(Slot::Ready(entry)) = self.slots.get_mut(&id) else { return };
        match effect {
            Effect::Dispatch { path, attempt, input, key } => {
                let Some(meta) = entry.meta(&path) else { return };
                let in_process = self.core.runs_here(meta.contract);
                let cancellation = Cancellation::default();
                let task = Task {
                    instance: id,
                    path,
                    path_text: entry.instance.definition().path_text(&path),
                    attempt,
                    contract: meta.contract,
                    policy: &meta.policy,
                    input,
                    own_key: key,
                    heartbeat_ms: self.core.remote_heartbeat_ms(meta),
                    origin: entry.origin.clone(),
                    cancellation: cancellation.clone(),
                };
                entry.outstanding.push(Outstanding {
                    seq,
                    n,
                    what: Pending::Task { path, attempt, stuck: None },
                });
                entry.running.retain(|running| running.path != path);
                if self.draining {
                    // The next process hands it out; and is told that it may, where it would have
                    // to think that this one did.
                    if self.core.counts_as_begun(meta) {
                        entry.queue.push_back(Input::Report(returned(id, path, attempt)));
                    }
                    return;
                }
                let sent_at = entry.last_at;
                entry.running.push(Running {
                    path,
                    attempt,
                    sent_at,
                    cancellation,
                    in_process,
                    began_at: None,
                    heard_at: None,
                });
                info!(
                    target: "crux::attempts",
                    workflow = &*task.origin.workflow,
                    instance = task.origin.workflow_id.as_str(),
                    path = &*task.path_text,
                    attempt,
                    "attempt dispatched"
                );
                self.tally.dispatched += 1;
                self.offer(seq, n, task);
            }
            Effect::Cancel { path } => {
                let mut is_here = false;
                for running in entry.running.iter().filter(|running| running.path == path) {
                    running.cancellation.cancel();
                    is_here |= running.in_process;
                }
                if !is_here
                    && entry
                        .meta(&path)
                        .is_some_and(|meta| matches!(meta.contract.runs, Runs::Class(_)))
                {
                    self.core.bus.cancel(Working(
                        id,
                        id.step(&entry.instance.definition().path_text(&path)),
                        0,
                    ));
                }
            }
            Effect::Hook { kind, routing_key } => {
                if self.core.bus.wants(routing_key) {
                    entry.outstanding.push(Outstanding {
                        seq,
                        n,
                        what: Pending::Message { routing_key, stuck: None },
                    });
                    let message = message(entry, id, seq, n, routing_key, hook_body(entry, kind));
                    let publish = self.publishing(id, seq, n, message);
                    supervise::spawn("publishing a message", async move { publish.run().await });
                }
            }
            Effect::Emit { event, routing_key, data, .. } => {
                let is_ours = self.core.app.event(event).is_some();
                if is_ours || self.core.bus.wants(routing_key) {
                    entry.outstanding.push(Outstanding {
                        seq,
                        n,
                        what: Pending::Message { routing_key, stuck: None },
                    });
                    let message = message(entry, id, seq, n, routing_key, data);
                    self.emit(is_ours.then_some(event), self.publishing(id, seq, n, message));
                }
            }
            Effect::Subscribe { path, event, value } => {
                entry.outstanding.push(Outstanding { seq, n, what: Pending::Look { path } });
                let path = entry.instance.definition().path_text(&path).into_owned();
                self.subscribe(
                    seq,
                    n,
                    Subscription { event: event.to_owned(), value, instance: id, path },
                );
            }
            Effect::Unsubscribe { path, event, value } => {
                // Lazy: a subscription that stays behind finds no open wait and is removed when
                // that shows.
                let path = entry.instance.definition().path_text(&path).into_owned();
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
        let Some(Slot::Ready(entry)) = self.slots.get_mut(&id) else { return };
        let (mut again, mut void) = (Vec::new(), Vec::new());
        for outstanding in &entry.outstanding {
            if let Pending::Task { path, attempt, stuck: Some(stuck) } = &outstanding.what
                && stuck.again_at <= now
            {
                let number = (outstanding.seq, outstanding.n);
                match entry.task(id, *path, *attempt, &self.core) {
                    Some(task) => again.push((number.0, number.1, task)),
                    // Its step has gone on by an earlier attempt: nobody waits for this one, and it
                    // would be due for ever.
                    None => void.push(number),
                }
            }
        }
        entry.outstanding.retain(|outstanding| !void.contains(&(outstanding.seq, outstanding.n)));
        // Until the next answer it is on its way; it keeps its count of tries.
        again.iter().for_each(|(seq, n, _)| entry.put_off(*seq, *n, now));
        for (seq, n, task) in again {
            self.offer(seq, n, task);
        }
    }

    /// A service is back. Whatever was turned away is offered now, and not when its own pause is
    /// over, which has grown meanwhile; whether it is that service's only the bus knows.
    pub(super) fn hurry(&mut self, now: Time) {
        let mut ids = Vec::new();
        for (id, slot) in &mut self.slots {
            if let Slot::Ready(entry) = slot
                && entry.hurry(now)
            {
                ids.push(*id);
            }
        }
        for id in ids {
            self.resend(id, now);
            // Sets the timer of what has to wait all the same.
            self.rest(id, now);
        }
    }

    /// Hands a task to whoever runs it, or keeps it until there is room, behind those that wait
    /// already.
    fn offer(&mut self, seq: Seq, n: u32, task: Task) {
        let step_type = task.contract.step_type;
        if let Some(waiting) = self.blocked.get_mut(step_type) {
            return waiting.push_back(Blocked { seq, n, task });
        }
        if let Err(task) = self.core.hand_over(task, &self.reports) {
            self.blocked.insert(step_type, VecDeque::from([Blocked { seq, n, task }]));
        }
    }

    /// Begins nothing any more. What has reached nobody so far is left to the next process.
    pub(super) fn drain(&mut self, now: Time) {
        self.draining = true;
        let blocked = std::mem::take(&mut self.blocked).into_values().flatten();
        let mut unsent: Vec<_> =
            blocked.map(|Blocked { task, .. }| (task.instance, task.path, task.attempt)).collect();
        for (id, slot) in &self.slots {
            if let Slot::Ready(entry) = slot {
                unsent.extend(entry.stuck().map(|(path, attempt)| (*id, path, attempt)));
            }
        }
        for (id, path, attempt) in unsent {
            let Some(Slot::Ready(entry)) = self.slots.get(&id) else { continue };
            if entry.meta(&path).is_some_and(|meta| self.core.counts_as_begun(meta)) {
                self.input(id, Input::Report(returned(id, path, attempt)), now);
            }
        }
    }

    /// Tasks that found no room: of each step type the oldest first, until one finds none again.
    pub(super) fn offer_blocked(&mut self) {
        if self.draining || self.blocked.is_empty() {
            return;
        }
        let (core, slots, reports) = (&self.core, &self.slots, &self.reports);
        self.blocked.retain(|_, waiting| {
            while let Some(Blocked { seq, n, task }) = waiting.pop_front() {
                let wanted = matches!(slots.get(&task.instance), Some(Slot::Ready(entry))
                    if entry.outstanding.iter().any(|outstanding| (outstanding.seq, outstanding.n) == (seq, n)));
                if wanted && let Err(task) = core.hand_over(task, reports) {
                    waiting.push_front(Blocked { seq, n, task });
                    return true;
                }
            }
            false
        });
    }

    fn publishing(&self, instance: InstanceId, seq: Seq, n: u32, message: bus::Message) -> Publish {
        Publish { core: self.core.clone(), shard: self.messages.clone(), instance, seq, n, message }
    }

    /// An emitted event goes to this app's own triggers and waits, if it is declared here, and out
    /// under its routing key.
    fn emit(&self, event: Option<&'static str>, publish: Publish) {
        let core = self.core.clone();
        let incoming = event.map(|event| IncomingEvent {
            name: event.to_owned(),
            id: Some(publish.message.id.clone()),
            data: publish.message.body.clone(),
            owner: String::new(),
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
    fn subscribe(&self, seq: Seq, n: u32, subscription: Subscription) {
        let (core, messages) = (self.core.clone(), self.messages.clone());
        let id = subscription.instance;
        supervise::spawn("subscribing", async move {
            let mut pause = Duration::from_millis(50);
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
                        warn!(instance = %id, %error, "a wait could not be made known; trying again");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(10));
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
                    Err(Error::ShuttingDown | Error::Elsewhere { .. }) => return,
                    // It has gone on without this wait.
                    Err(Error::NotOpen | Error::NotNow(_) | Error::UnknownInstance(_)) => break,
                    Err(error) => {
                        warn!(instance = %id, event = event.name, %error, "a wait refuses an event")
                    }
                }
            }
            // The shard is gone only when the process ends.
            let _ = messages.send(Message::Done { instance: id, seq, n }).await;
        });
    }

    /// After a restart: the effects of rows that were not settled, under the same ids. Attempts
    /// that ran in the dead process are lost.
    pub(super) fn recover(&mut self, id: InstanceId, unsettled: Vec<(Seq, u32, Effect)>) {
        for (seq, n, effect) in unsettled {
            let Effect::Dispatch { path, attempt, .. } = &effect else {
                if !matches!(effect, Effect::Cancel { .. }) {
                    self.effect(id, seq, n, effect);
                }
                continue;
            };
            let Some(Slot::Ready(entry)) = self.slots.get_mut(&id) else { return };
            if !entry.is_open(path, *attempt) {
                continue;
            }
            // Whoever works on it has said that it begins, and says what becomes of it, or falls
            // silent.
            if entry.has_begun_elsewhere(path, *attempt) {
                continue;
            }
            if entry.meta(path).is_some_and(|meta| self.core.counts_as_begun(meta)) {
                let failure = Failure::new(
                    Failure::WORKER_LOST,
                    "the process that ran the attempt, or was handing it out, has died",
                );
                let failed = AttemptFailed {
                    outcome: Outcome::Unknown,
                    failure,
                    retry: None,
                    after_ms: None,
                };
                entry.queue.push_back(Input::Report(Report {
                    instance: id,
                    path: *path,
                    attempt: *attempt,
                    what: Reported::Failed(failed),
                }));
            } else {
                self.effect(id, seq, n, effect);
            }
        }
    }
}

impl Core {
    /// Whether an attempt that was on its way when its process died has to be taken for begun: what
    /// ran in it, and what must not begin twice, for nobody knows how far it had come.
    pub(super) fn counts_as_begun(&self, meta: &machine::Task) -> bool {
        self.runs_here(meta.contract) || meta.is_once()
    }

    /// To whoever runs the task, or back when there is no room.
    fn hand_over(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        if self.runs_here(task.contract) {
            self.workers.submit(task, reports)
        } else {
            self.bus.dispatch(task, reports)
        }
    }

    /// What a task says of signs of life, if it leaves for a worker in another process.
    fn remote_heartbeat_ms(&self, meta: &machine::Task) -> Option<u64> {
        let leaves = matches!(meta.contract.runs, Runs::Class(_)) && !self.runs_here(meta.contract);
        leaves.then(|| self.heartbeat_ms(&meta.policy))
    }
}

/// Whether the wait has taken it.
async fn offer_kept(core: &Core, instance: InstanceId, delivery: Delivery) -> Result<bool, Error> {
    let mut pause = Duration::from_millis(50);
    loop {
        let (reply, taken) = tokio::sync::oneshot::channel();
        match core.ask(instance, Input::Deliver { delivery: delivery.clone(), reply }, taken).await
        {
            Err(error) if error.is_passing() && !matches!(error, Error::Elsewhere { .. }) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
            answer => return answer,
        }
    }
}

fn returned(instance: InstanceId, path: Path, attempt: u32) -> Report {
    Report { instance, path, attempt, what: Reported::Returned }
}

/// Gives an emitted event to the router until it is kept; `false`: the next process has to.
async fn take(core: &Arc<super::Core>, instance: InstanceId, incoming: IncomingEvent) -> bool {
    let mut pause = Duration::from_millis(100);
    loop {
        match core.router.take(core, vec![incoming.clone()]).await.pop() {
            Some(Err(error)) if error.is_passing() => {
                warn!(%instance, %error, "an emitted event has to be taken again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(60));
            }
            Some(Err(Error::ShuttingDown)) => return false,
            Some(Err(error @ Error::Store(_))) => {
                error!(%instance, %error, "an emitted event cannot be kept; a restart tries again");
                return false;
            }
            Some(Err(error)) => {
                warn!(%instance, %error, "an emitted event fits no declared type and reaches nobody here");
                return true;
            }
            _ => return true,
        }
    }
}

fn message(
    entry: &Entry,
    id: InstanceId,
    seq: Seq,
    n: u32,
    routing_key: &'static str,
    body: Box<RawValue>,
) -> bus::Message {
    bus::Message {
        routing_key,
        id: format!("{id}/{seq}/{n}"),
        correlation_id: entry.origin.correlation_id().to_owned(),
        traceparent: entry.origin.traceparent.clone(),
        body,
    }
}

fn hook_body(entry: &Entry, kind: Hook) -> Box<RawValue> {
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
        Hook::Failure if entry.instance.phase() == crate::machine::Phase::Cancelled => "cancelled",
        Hook::Failure => "failed",
    };
    let body = Body {
        workflow_id: &entry.origin.workflow_id,
        workflow: &entry.origin.workflow,
        request_id: &entry.origin.request_id,
        status,
        error: entry
            .instance
            .failure()
            .filter(|_| kind == Hook::Failure)
            .map_or(String::new(), ToString::to_string),
        payload: &entry.origin.payload,
    };
    // Texts and a value that was JSON before always encode.
    crate::machine::json::raw(&body).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

impl Entry {
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
        let running = self
            .running
            .iter()
            .find(|running| (running.path, running.attempt) == (path, attempt))?;
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

    /// The task is being offered again: not before the next answer, which the bus owes.
    fn put_off(&mut self, seq: Seq, n: u32, now: Time) {
        for outstanding in self
            .outstanding
            .iter_mut()
            .filter(|outstanding| (outstanding.seq, outstanding.n) == (seq, n))
        {
            if let Pending::Task { stuck: Some(stuck), .. } = &mut outstanding.what {
                stuck.again_at = now.plus_ms(LONGEST_SILENCE_MS);
                stuck.is_out = true;
            }
        }
    }

    /// An event that ends an attempt settles its dispatch.
    pub(super) fn close_task(&mut self, event: &Event) {
        let Event::Step(event) = event else { return };
        if matches!(
            event.what,
            StepHappened::Completed { .. }
                | StepHappened::Failed { .. }
                | StepHappened::Lost { .. }
                | StepHappened::Returned { .. }
        ) {
            let closed =
                |what: &Pending| matches!(what, Pending::Task { path, .. } if *path == event.path);
            self.outstanding.retain(|outstanding| !closed(&outstanding.what));
            if matches!(event.what, StepHappened::Completed { .. }) {
                // Another attempt may still run; its result changes nothing any more.
                for running in self.running.iter().filter(|running| running.path == event.path) {
                    running.cancellation.cancel();
                }
                self.running.retain(|running| running.path != event.path);
            }
        }
    }

    pub(super) fn delivered(&mut self, path: Path, attempt: u32, now: Time) {
        if self.meta(&path).is_some_and(|meta| !meta.contract.reports_started) {
            for running in self
                .running
                .iter_mut()
                .filter(|running| (running.path, running.attempt) == (path, attempt))
            {
                running.began_at = running.began_at.or(Some(now));
            }
        }
        let this = |what: &Pending| matches!(what, Pending::Task { path: p, attempt: a, .. } if (*p, *a) == (path, attempt));
        self.outstanding.retain(|outstanding| !this(&outstanding.what));
    }

    pub(super) fn undelivered(
        &mut self,
        path: Path,
        attempt: u32,
        reason: String,
        after_ms: Option<u64>,
        now: Time,
    ) {
        // A call that had begun may turn out to have reached nobody.
        for running in self
            .running
            .iter_mut()
            .filter(|running| (running.path, running.attempt) == (path, attempt))
        {
            running.began_at = None;
        }
        for outstanding in &mut self.outstanding {
            if let Pending::Task { path: p, attempt: a, stuck } = &mut outstanding.what
                && (*p, *a) == (path, attempt)
            {
                let tries = stuck.as_ref().map_or(0, |stuck| stuck.tries.saturating_add(1));
                let pause = u64::try_from(backoff(tries).as_millis()).unwrap_or(u64::MAX);
                let not_before = now.plus_ms(after_ms.unwrap_or_default());
                let again_at = now.plus_ms(pause).max(not_before);
                *stuck = Some(Stuck {
                    reason: reason.clone(),
                    again_at,
                    not_before,
                    tries,
                    is_out: false,
                });
            }
        }
    }

    /// Somebody is back: what waits for its pause need not. Whether there is anything.
    pub(super) fn hurry(&mut self, now: Time) -> bool {
        let mut hurries = false;
        for outstanding in &mut self.outstanding {
            if let Pending::Task { stuck: Some(stuck), .. } = &mut outstanding.what
                && !stuck.is_out
            {
                stuck.again_at = stuck.again_at.min(stuck.not_before.max(now));
                hurries = true;
            }
        }
        hurries
    }

    /// Why a message is not out.
    pub(super) fn not_out(&mut self, seq: Seq, n: u32, reason: String) {
        for outstanding in self
            .outstanding
            .iter_mut()
            .filter(|outstanding| (outstanding.seq, outstanding.n) == (seq, n))
        {
            if let Pending::Message { stuck, .. } = &mut outstanding.what {
                *stuck = Some(reason.clone());
            }
        }
    }

    pub(super) fn begin(&mut self, path: Path, attempt: u32, now: Time) {
        for running in self
            .running
            .iter_mut()
            .filter(|running| (running.path, running.attempt) == (path, attempt))
        {
            running.began_at = Some(now);
        }
    }

    pub(super) fn hear(&mut self, path: Path, attempt: u32, now: Time) {
        for running in self
            .running
            .iter_mut()
            .filter(|running| (running.path, running.attempt) == (path, attempt))
        {
            running.heard_at = Some(now);
        }
    }
}
