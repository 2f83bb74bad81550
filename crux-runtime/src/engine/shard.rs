//! A shard: the task that owns a part of the instances, chosen by the hash of their id. It takes
//! what arrived, applies it, sends the new rows to the store in one batch, and carries out effects
//! when their rows are durable. For example: in one tick it takes 200 results for 150 instances,
//! appends 150 rows in one batch, and when `Message::Appended` comes back, answers the callers and
//! dispatches the next tasks. It never waits for the store, a worker or the bus: their results come
//! back as messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error};

use super::api::{self, Error};
use super::inputs;
use super::journal_size::JournalSize;
use super::message::{Loading, Message, answer, lease_lost, refuse, service_returned};
use super::stats::Tally;
use super::workflow_metrics::WorkflowMetrics;
use super::{Core, INBOX_LEN};
use crate::engine::active_instance::{ActiveInstance, Answer, Input, Reply};
use crate::engine::backlog::Backlog;
use crate::engine::idle_queue::IdleQueue;
use crate::engine::outbox::Outbox;
use crate::engine::running_attempts::RunningAttempts;
use crate::engine::settlement::Settlement;
use crate::engine::timers::Timers;
use crate::id::{InstanceId, InstanceMap};
use crate::machine::{Effects, Event, Failure, Phase, Started, Time};
use crate::store::{Append, NewInstance, RequestKey};
use crate::supervise;
use crate::task::{Origin, Report};

/// An instance as the shard has it.
pub(super) enum Slot {
    Loading(Loading),
    Ready(Box<ActiveInstance>),
}

pub(super) struct Shard {
    pub(super) core: Arc<Core>,
    pub(super) messages: mpsc::Sender<Message>,
    pub(super) reports: mpsc::Sender<Report>,
    reported: mpsc::Receiver<Report>,
    pub(super) slots: InstanceMap<Slot>,
    pub(super) timers: Timers,
    /// Rows to send at the end of the round.
    pub(super) batch: Vec<Append>,
    pub(super) settlement: Settlement,
    /// Empty between rows, as `events` and `row`; kept for their room.
    pub(super) scratch: Effects,
    pub(super) events: Vec<Event>,
    pub(super) row: String,
    pub(super) tally: Tally,
    pub(super) metrics: Arc<WorkflowMetrics>,
    pub(super) idle: IdleQueue,
    pub(super) tokens: u64,
    /// How many were begun.
    pub(super) loads: u64,
    pub(super) draining: bool,
    /// See [`crate::store::Membership`].
    holds_lease: bool,
    pub(super) backlog: Backlog,
}

/// How many messages are taken in one tick.
const MESSAGES_PER_TICK_MAX: usize = 512;
/// How far ahead timers of settled instances are kept in memory; the waker looks into the store
/// more often than that.
pub(super) const TIMER_LOOKAHEAD_MS: u64 = 60_000;
/// The same where nodes share the store.
pub(super) const SHARED_TIMER_LOOKAHEAD_MS: u64 = 1_500;
/// How long a flag waits for a full batch before it is cleared.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

impl Shard {
    pub(super) fn new(
        core: Arc<Core>,
        messages: mpsc::Sender<Message>,
        seed: u64,
        metrics: Arc<WorkflowMetrics>,
    ) -> Self {
        // Reports are bounded by the running attempts; beyond the channel's length the sender
        // waits.
        let (reports, reported) = mpsc::channel(INBOX_LEN);
        Self {
            core,
            messages,
            reports,
            reported,
            slots: InstanceMap::default(),
            timers: Timers::default(),
            batch: Vec::new(),
            settlement: Settlement::default(),
            scratch: Effects::default(),
            events: Vec::new(),
            row: String::new(),
            tally: Tally::default(),
            metrics,
            idle: IdleQueue::default(),
            tokens: seed,
            loads: 0,
            draining: false,
            holds_lease: true,
            backlog: Backlog::default(),
        }
    }

    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut inbox = Vec::with_capacity(MESSAGES_PER_TICK_MAX);
        let mut reported = Vec::with_capacity(MESSAGES_PER_TICK_MAX);
        let mut clear = tokio::time::interval(SETTLE_INTERVAL);
        clear.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm_at = None;
        let mut back = self.core.bus.back();
        loop {
            let next = self.timers.next_due();
            // Setting it costs more than a round with little to do.
            if next != alarm_at || alarm.is_elapsed() {
                alarm_at = next;
                if let Some(due) = next {
                    alarm.as_mut().reset(
                        Instant::now() + Duration::from_millis(due.since_ms(self.core.clock.now())),
                    );
                }
            }
            tokio::select! {
                biased;
                n = self.reported.recv_many(&mut reported, MESSAGES_PER_TICK_MAX) => if n == 0 { break },
                n = messages.recv_many(&mut inbox, MESSAGES_PER_TICK_MAX) => if n == 0 { break },
                () = &mut alarm, if alarm_at.is_some() => {}
                () = service_returned(&mut back) => self.retry_undelivered(self.core.clock.now()),
                _ = clear.tick(), if !self.settlement.is_empty() || !self.backlog.is_empty() => self.settlement.clear(&self.core),
            }
            // Both queues are looked at in every round, so that a flood of one does not starve the
            // other.
            while inbox.len() < MESSAGES_PER_TICK_MAX
                && let Ok(message) = messages.try_recv()
            {
                inbox.push(message);
            }
            while reported.len() < MESSAGES_PER_TICK_MAX
                && let Ok(report) = self.reported.try_recv()
            {
                reported.push(report);
            }
            let now = self.core.clock.now();
            for report in reported.drain(..) {
                self.input(report.instance, Input::Report(report), now);
            }
            for message in inbox.drain(..) {
                self.message(message, now);
            }
            self.fire_timers(now);
            self.retry_backlog();
            self.send_batch();
            if self.settlement.is_batch_full() {
                self.settlement.clear(&self.core);
            }
            self.tally.add_to(&self.core.stats);
        }
    }

    fn message(&mut self, message: Message, now: Time) {
        match message {
            Message::Start { id, workflow, started, request, reply } => {
                self.start(id, workflow, *started, request, reply, now)
            }
            Message::For(id, input) => self.input(id, input, now),
            Message::Appended { rows, results } => {
                for ((id, token), result) in rows.into_iter().zip(results) {
                    self.appended(id, token, result, now);
                }
            }
            Message::Again(id) => self.append_again(id),
            Message::Loaded(id, number, result) => self.loaded(id, number, *result, now),
            Message::Done { instance, effect } => {
                if let Some(Slot::Ready(active)) = self.slots.get_mut(&instance) {
                    active.outbox.close(effect);
                    for (delivery, reply) in std::mem::take(&mut active.deferred_events) {
                        self.input(instance, Input::Deliver { delivery, reply }, now);
                    }
                }
                self.settle_or_evict(instance, now);
            }
            Message::PublishFailed { instance, effect, reason } => {
                if let Some(Slot::Ready(active)) = self.slots.get_mut(&instance) {
                    active.outbox.message_undelivered(effect, reason);
                }
            }
            Message::Timer(id, due) => self.schedule_timer(id, due),
            Message::UnloadIfIdle { id, reply } => self.unload_if_idle(id, reply),
            Message::LeaseChanged(holds) => self.lease_changed(holds),
            Message::Drain => self.drain(now),
            Message::Flush(done) => {
                self.settlement.clear(&self.core);
                let cleared = self.settlement.cleared();
                supervise::spawn("flushing a shard", async move {
                    cleared.await;
                    // The receiver was dropped; ignore.
                    let _ = done.send(());
                });
            }
            Message::Ping(reply) => {
                // The receiver may have been dropped; ignore.
                let _ = reply.send(());
            }
            Message::Busy(reply) => {
                let busy = self.slots.values().filter(|slot| match slot {
                    Slot::Loading(_) => true,
                    Slot::Ready(active) => {
                        let runs = active.running.any_in_process();
                        runs || active.appending.is_some() || active.is_handing_out(&self.core)
                    }
                });
                // The receiver was dropped; ignore.
                let _ = reply.send(busy.count());
            }
        }
    }

    fn start(
        &mut self,
        id: InstanceId,
        workflow: &'static crate::app::Workflow,
        started: Started,
        request: Option<RequestKey>,
        reply: Reply<api::StartAccepted>,
        now: Time,
    ) {
        if !self.holds_lease {
            return answer(reply, Err(lease_lost()));
        }
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let workflow_id = id.to_string();
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (workflow.start)(&workflow_id, &started, now, &mut out)
        }));
        let instance = match made {
            Ok(Ok(instance)) => instance,
            Ok(Err(text)) => {
                self.scratch = out;
                return answer(reply, Err(Error::Invalid(text)));
            }
            Err(_) => {
                self.scratch = out;
                let text = "the workflow's own code panicked on this input";
                return answer(reply, Err(Error::Corrupted(Failure::new(Failure::PANIC, text))));
            }
        };
        // Nothing has begun and nothing is lost: a refused start is better than an instance that
        // fails immediately.
        if let Some(failure) = out.excess.take()
            && instance.phase() != Phase::Running
        {
            self.scratch = out;
            return answer(reply, Err(Error::Limit(failure.message)));
        }
        let origin = Arc::new(Origin {
            workflow: workflow.definition.workflow.into(),
            workflow_id,
            request_id: started.request_id.clone(),
            traceparent: started.traceparent.clone(),
            tokens: self.core.options.tokens.clone(),
            payload: self.core.shown_input(workflow.definition, &instance.env().input),
        });
        let new = NewInstance {
            workflow: started.workflow.clone(),
            version: started.version,
            definition: started.definition.clone(),
            owner: started.owner.clone(),
            started_at: now,
            request,
        };
        let active = ActiveInstance {
            instance,
            origin,
            seq: 0,
            last_at: now,
            journal_size: JournalSize::default(),
            status: None,
            appending: None,
            queue: VecDeque::new(),
            deferred_events: Vec::new(),
            outbox: Outbox::default(),
            running: RunningAttempts::default(),
            timer: None,
            counted: false,
            settled_stored: 0,
            wake_stored: None,
            idle_ticket: None,
            metrics: self.metrics.place(workflow.definition),
        };
        let reply: Answer = Box::new(move |result| {
            answer(reply, result.map(|()| api::StartAccepted { instance: id, replayed: false }))
        });
        self.slots.insert(id, Slot::Ready(Box::new(active)));
        self.core.stats.cached.fetch_add(1, Ordering::Relaxed);
        let mut events = std::mem::take(&mut self.events);
        events.push(Event::Started(started));
        self.append(id, events, out, vec![reply], Some(Box::new(new)), now);
    }

    /// The lease changed: other nodes may have taken over. Stops the attempts, and drops all state.
    fn lease_changed(&mut self, holds_lease: bool) {
        self.holds_lease = holds_lease;
        // Reports about attempts stopped here must not reach the same attempts when they are
        // dispatched again.
        (self.reports, self.reported) = mpsc::channel(INBOX_LEN);
        self.timers.clear();
        self.idle.clear();
        self.settlement.discard();
        self.batch.clear();
        self.backlog.clear();
        for (_, slot) in self.slots.drain() {
            let inputs = match slot {
                Slot::Loading(loading) => loading.queue,
                Slot::Ready(mut active) => {
                    active.count(false, &self.core.stats);
                    self.core.stats.cached.fetch_sub(1, Ordering::Relaxed);
                    active.running.cancel_all();
                    for answer in
                        active.appending.take().into_iter().flat_map(|appending| appending.answers)
                    {
                        answer(Err(lease_lost()));
                    }
                    active.queue.extend(
                        std::mem::take(&mut active.deferred_events)
                            .into_iter()
                            .map(|(delivery, reply)| Input::Deliver { delivery, reply }),
                    );
                    std::mem::take(&mut active.queue)
                }
            };
            inputs.into_iter().for_each(|input| refuse(input, lease_lost()));
        }
    }

    /// Something came for an instance: apply it, or keep it until it can be applied.
    pub(super) fn input(&mut self, id: InstanceId, input: Input, now: Time) {
        if !self.holds_lease {
            return refuse(input, lease_lost());
        }
        match self.slots.get_mut(&id) {
            // An instance that is not in memory has nothing undelivered.
            None if matches!(input, Input::Undelivered { .. }) => refuse(input, Error::NotOpen),
            None => {
                if matches!(input, Input::Report(_)) {
                    // The instance has ended or never knew of it: a straggler.
                    self.core.stats.refused.fetch_add(1, Ordering::Relaxed);
                    debug!(instance = %id, "report for an instance that is not in memory");
                    return;
                }
                self.load(id, VecDeque::from([input]), false);
            }
            Some(Slot::Loading(loading)) => loading.queue.push_back(input),
            Some(Slot::Ready(active)) if active.appending.is_some() => {
                active.queue.push_back(input)
            }
            Some(Slot::Ready(_)) => self.work(id, Some(input), now),
        }
    }

    /// Applies what has come for an instance, its queue and then `last`, and makes one row of it.
    pub(super) fn work(&mut self, id: InstanceId, mut last: Option<Input>, now: Time) {
        let Some(Slot::Ready(active)) = self.slots.get_mut(&id) else { return };
        if active.appending.is_some() {
            return;
        }
        let now = now.max(active.last_at);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let mut events = std::mem::take(&mut self.events);
        let mut answers: Vec<Answer> = Vec::new();
        while let Some(input) = active.queue.pop_front().or_else(|| last.take()) {
            let fed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                inputs::handle(
                    active,
                    input,
                    now,
                    &self.core,
                    &mut self.tally,
                    &self.metrics,
                    &mut events,
                    &mut out,
                    &mut answers,
                )
            }));
            if fed.is_err() {
                // The state may be half changed: discard it, replay the journal, and log an error
                // for a person.
                error!(instance = %id, "applying an event panicked; the instance is parked");
                for answer in answers {
                    answer(Err(Error::Corrupted(Failure::new(
                        Failure::PANIC,
                        "applying the event panicked",
                    ))));
                }
                let mut queue = std::mem::take(&mut active.queue);
                queue.extend(last);
                queue.push_front(Input::Park(Failure::new(
                    Failure::PANIC,
                    "applying an event panicked",
                )));
                self.unload(id);
                self.load(id, queue, true);
                return;
            }
        }
        if events.is_empty() {
            (self.scratch, self.events) = (out, events);
            for answer in answers {
                answer(Ok(()));
            }
            return self.settle_or_evict(id, now);
        }
        self.append(id, events, out, answers, None, now);
    }
}
