//! One shard: the task that owns a part of the instances. It takes what has come, applies it, sends
//! the rows to the store in one batch, and carries out effects when rows are durable. It never
//! waits for the store, a worker or the bus: whatever takes time comes back as a message.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, error};

use super::api::{self, Error};
use super::extent::Extent;
use super::figures::Figures;
use super::inputs;
use super::message::{Loading, Message, answer, came_back, not_holding, refuse};
use super::stats::Tally;
use super::{Core, INBOX};
use crate::engine::active_instance::{ActiveInstance, Answer, Input, Reply};
use crate::engine::outbox::{EffectId, Outbox};
use crate::engine::running_attempts::RunningAttempts;
use crate::engine::settlement::Marks;
use crate::id::{InstanceId, InstanceMap};
use crate::machine::{Effects, Event, Failure, Phase, Started, Time};
use crate::store::{Append, NewInstance, RequestKey};
use crate::supervise;
use crate::task::{Origin, Report, Task};

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
    /// May hold entries that are void: an instance's own `timer`, or `away`, says which one counts.
    pub(super) timers: BinaryHeap<Reverse<(Time, InstanceId)>>,
    /// The timers of instances that are not in memory. Those that have ended are in neither: what
    /// they leave in `timers` is void.
    pub(super) away: InstanceMap<Time>,
    /// Rows to send at the end of the round.
    pub(super) batch: Vec<Append>,
    pub(super) marks: Marks,
    /// Empty between rows, as `events` and `row`; kept for their room.
    pub(super) scratch: Effects,
    pub(super) events: Vec<Event>,
    pub(super) row: String,
    pub(super) tally: Tally,
    pub(super) figures: Arc<Figures>,
    /// Instances that were idle, in the order in which they came to be, each with its listing: void
    /// if the instance has another one, or none.
    pub(super) idle: VecDeque<(InstanceId, u64)>,
    pub(super) listings: u64,
    pub(super) tokens: u64,
    /// How many were begun.
    pub(super) loads: u64,
    pub(super) draining: bool,
    /// See [`store::Membership`].
    holds: bool,
    /// Tasks that found no room at a worker or the bus, by step type, in order of age. No queue is
    /// empty.
    pub(super) blocked: BTreeMap<&'static str, VecDeque<Blocked>>,
}

/// A task that found no room, and its effect's place.
pub(super) struct Blocked {
    pub(super) effect: EffectId,
    pub(super) task: Task,
}

/// How many messages are taken in one round.
const ROUND: usize = 512;
/// How far ahead timers of settled instances are kept in memory; the waker looks into the store
/// more often than that.
pub(super) const HORIZON_MS: u64 = 60_000;
/// The same where nodes share the store.
pub(super) const SHARED_HORIZON_MS: u64 = 1_500;
/// How long marks wait for company before they are cleared.
const CLEAR_EVERY: Duration = Duration::from_millis(50);

impl Shard {
    pub(super) fn new(
        core: Arc<Core>,
        messages: mpsc::Sender<Message>,
        seed: u64,
        figures: Arc<Figures>,
    ) -> Self {
        // Reports are bounded by the attempts under way; whoever finds no room waits.
        let (reports, reported) = mpsc::channel(INBOX);
        Self {
            core,
            messages,
            reports,
            reported,
            slots: InstanceMap::default(),
            timers: BinaryHeap::new(),
            away: InstanceMap::default(),
            batch: Vec::new(),
            marks: Marks::default(),
            scratch: Effects::default(),
            events: Vec::new(),
            row: String::new(),
            tally: Tally::default(),
            figures,
            idle: VecDeque::new(),
            listings: 0,
            tokens: seed,
            loads: 0,
            draining: false,
            holds: true,
            blocked: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut inbox = Vec::with_capacity(ROUND);
        let mut reported = Vec::with_capacity(ROUND);
        let mut clear = tokio::time::interval(CLEAR_EVERY);
        clear.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm_at = None;
        let mut back = self.core.bus.back();
        loop {
            let next = self.timers.peek().map(|Reverse((due, _))| *due);
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
                n = self.reported.recv_many(&mut reported, ROUND) => if n == 0 { break },
                n = messages.recv_many(&mut inbox, ROUND) => if n == 0 { break },
                () = &mut alarm, if alarm_at.is_some() => {}
                () = came_back(&mut back) => self.hurry(self.core.clock.now()),
                _ = clear.tick(), if !self.marks.is_empty() || !self.blocked.is_empty() => self.marks.clear(&self.core),
            }
            // Both queues are looked at in every round, so that a flood of one does not starve the
            // other.
            while inbox.len() < ROUND
                && let Ok(message) = messages.try_recv()
            {
                inbox.push(message);
            }
            while reported.len() < ROUND
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
            self.offer_blocked();
            self.send_batch();
            if self.marks.are_many() {
                self.marks.clear(&self.core);
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
                    for (delivery, reply) in std::mem::take(&mut active.later) {
                        self.input(instance, Input::Deliver { delivery, reply }, now);
                    }
                }
                self.rest(instance, now);
            }
            Message::PublishFailed { instance, effect, reason } => {
                if let Some(Slot::Ready(active)) = self.slots.get_mut(&instance) {
                    active.outbox.message_undelivered(effect, reason);
                }
            }
            Message::Timer(id, due) => self.remember_timer(id, due),
            Message::ForgetIdle { id, reply } => self.forget_idle(id, reply),
            Message::Hold(holds) => self.hold(holds),
            Message::Drain => self.drain(now),
            Message::Flush(done) => {
                self.marks.clear(&self.core);
                let cleared = self.marks.cleared();
                supervise::spawn("flushing a shard", async move {
                    cleared.await;
                    // Whoever asked has gone away: nobody waits.
                    let _ = done.send(());
                });
            }
            Message::Ping(reply) => {
                // Whoever asked does not wait for long.
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
                // Whoever asked has gone away: nobody is interested in the number.
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
        reply: Reply<api::Started>,
        now: Time,
    ) {
        if !self.holds {
            return answer(reply, Err(not_holding()));
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
                return answer(reply, Err(Error::Broken(Failure::new(Failure::PANIC, text))));
            }
        };
        // Nothing has begun and nothing is lost: better said now than by an instance that has
        // failed.
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
            extent: Extent::default(),
            status: None,
            appending: None,
            queue: VecDeque::new(),
            later: Vec::new(),
            outbox: Outbox::default(),
            running: RunningAttempts::default(),
            timer: None,
            counted: false,
            settled_told: 0,
            wake_told: None,
            listed: 0,
            figures: self.figures.place(workflow.definition),
        };
        let reply: Answer = Box::new(move |result| {
            answer(reply, result.map(|()| api::Started { instance: id, replayed: false }))
        });
        self.slots.insert(id, Slot::Ready(Box::new(active)));
        self.core.stats.cached.fetch_add(1, Ordering::Relaxed);
        let mut events = std::mem::take(&mut self.events);
        events.push(Event::Started(started));
        self.append(id, events, out, vec![reply], Some(Box::new(new)), now);
    }

    /// Others may have taken over what this node had: stop it, and remember nothing.
    fn hold(&mut self, holds: bool) {
        self.holds = holds;
        // What is said of attempts that are stopped here is about them alone, and must not meet the
        // same attempts when they are made again.
        (self.reports, self.reported) = mpsc::channel(INBOX);
        self.timers.clear();
        self.away.clear();
        self.idle.clear();
        self.marks.forget();
        self.batch.clear();
        self.blocked.clear();
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
                        answer(Err(not_holding()));
                    }
                    active.queue.extend(
                        std::mem::take(&mut active.later)
                            .into_iter()
                            .map(|(delivery, reply)| Input::Deliver { delivery, reply }),
                    );
                    std::mem::take(&mut active.queue)
                }
            };
            inputs.into_iter().for_each(|input| refuse(input, not_holding()));
        }
    }

    /// Something came for an instance: apply it, or keep it until it can be applied.
    pub(super) fn input(&mut self, id: InstanceId, input: Input, now: Time) {
        if !self.holds {
            return refuse(input, not_holding());
        }
        match self.slots.get_mut(&id) {
            // Nothing is under way of what is not in memory.
            None if matches!(input, Input::Undelivered { .. }) => refuse(input, Error::NotOpen),
            None => {
                if matches!(input, Input::Report(_)) {
                    // The instance has ended or never knew of it: a straggler.
                    self.core.stats.refused.fetch_add(1, Ordering::Relaxed);
                    debug!(instance = %id, "report for an instance that does not wait for it");
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
                inputs::feed(
                    active,
                    input,
                    now,
                    &self.core,
                    &mut self.tally,
                    &self.figures,
                    &mut events,
                    &mut out,
                    &mut answers,
                )
            }));
            if fed.is_err() {
                // The state may be half changed: throw it away, replay what is durable, and let a
                // person look.
                error!(instance = %id, "applying an event panicked; the instance is parked");
                for answer in answers {
                    answer(Err(Error::Broken(Failure::new(
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
                self.forget(id);
                self.load(id, queue, true);
                return;
            }
        }
        if events.is_empty() {
            (self.scratch, self.events) = (out, events);
            for answer in answers {
                answer(Ok(()));
            }
            return self.rest(id, now);
        }
        self.append(id, events, out, answers, None, now);
    }
}
