//! From what came for an instance to the events of its next row. An input is taken, and then
//! answered when the row is durable, or it is refused at once; a refused one leaves no trace.

use std::sync::atomic::Ordering;

use serde_json::value::RawValue;

use super::Core;
use crate::engine::active_instance::{ActiveInstance, Answer, Delivery, Input, Reply};
use crate::engine::api::{
    Command, Completed, Completion, Error, Progress, ProgressKind, StepRef, Undelivered,
};
use crate::engine::figures::Figures;
use crate::engine::message::{answer, looked_at};
use crate::engine::outbox::Pending;
use crate::engine::stats::Tally;
use crate::machine::{
    Attempt, AttemptFailed, Cause, Effects, Event, Failure, Open, Outcome, Path, Phase, StepEvent,
    StepHappened, TaskState, Time, Timer, Why,
};
use crate::task::{Report, Reported};

/// Why an instance is parked whose journal has reached a limit.
const JOURNAL_FULL: &str = "JournalFull";

/// Where the consequences of one row gather.
struct Feed<'a> {
    active: &'a mut ActiveInstance,
    now: Time,
    core: &'a Core,
    tally: &'a mut Tally,
    figures: &'a Figures,
    events: &'a mut Vec<Event>,
    out: &'a mut Effects,
    answers: &'a mut Vec<Answer>,
}

pub(super) fn feed(
    active: &mut ActiveInstance,
    input: Input,
    now: Time,
    core: &Core,
    tally: &mut Tally,
    figures: &Figures,
    events: &mut Vec<Event>,
    out: &mut Effects,
    answers: &mut Vec<Answer>,
) {
    let mut feed = Feed { active, now, core, tally, figures, events, out, answers };
    match input {
        Input::Report(report) => feed.report(report),
        Input::Wake { done } => {
            feed.wake();
            looked_at(done, true);
        }
        Input::Complete { completion, reply } => feed.complete(completion, reply),
        Input::Progress { progress, reply } => feed.progress(progress, reply),
        Input::Command { command, reply } => feed.command(command, reply),
        Input::Deliver { delivery, reply } => feed.deliver(delivery, reply),
        Input::Undelivered { reply } => {
            // Whoever asked has gone away: nobody needs the list.
            let _ = reply.send(feed.undelivered());
        }
        Input::Park(failure) => {
            if let Err(why) = feed.apply(Event::ParkRequested { failure }) {
                tracing::debug!(%why, "an instance that is not running was not parked");
            }
        }
    }
}

impl Feed<'_> {
    fn apply(&mut self, event: Event) -> Result<(), Why> {
        let limit = &self.core.options;
        if !matches!(event, Event::ParkRequested { .. })
            && self.active.extent.is_full(limit)
            && matches!(self.active.instance.phase(), Phase::Running | Phase::Parked)
        {
            let text = format!(
                "the journal is full: {}; raise the limit and then retry",
                self.active.extent.against(limit)
            );
            let park = Event::ParkRequested { failure: Failure::new(JOURNAL_FULL, text) };
            // Refused where nothing goes on already.
            if self.active.instance.apply(&park, self.now, self.out).is_ok() {
                self.events.push(park);
            }
        }
        match self.active.instance.apply(&event, self.now, self.out) {
            Ok(()) => {
                self.events.push(event);
                Ok(())
            }
            Err(why) => {
                self.core.stats.refused.fetch_add(1, Ordering::Relaxed);
                Err(why)
            }
        }
    }

    fn step(&mut self, path: Path, what: StepHappened) -> Result<(), Why> {
        self.apply(Event::Step(StepEvent { path, what }))
    }

    /// Answers when the row is durable.
    fn later<T: Send + 'static>(&mut self, reply: Reply<T>, value: T) {
        self.answers.push(Box::new(move |result| answer(reply, result.map(|()| value))));
    }

    fn report(&mut self, report: Report) {
        let Report { instance, path, attempt, what } = report;
        match what {
            Reported::Completed { result } => {
                self.attempt_ended(path, attempt);
                if result.get().len() > self.core.options.max_result_bytes {
                    let failure = Failure::new(
                        Failure::INVALID_RESULT,
                        too_big(&result, self.core.options.max_result_bytes),
                    );
                    return self.fail(
                        path,
                        attempt,
                        AttemptFailed {
                            outcome: Outcome::Failed,
                            failure,
                            retry: None,
                            after_ms: None,
                        },
                    );
                }
                match self.step(path, StepHappened::Completed { attempt: Some(attempt), result }) {
                    Ok(()) => self.tally.steps_completed += 1,
                    Err(Why::Invalid(text)) => {
                        let failure = Failure::new(Failure::INVALID_RESULT, text);
                        self.fail(
                            path,
                            attempt,
                            AttemptFailed {
                                outcome: Outcome::Failed,
                                failure,
                                retry: None,
                                after_ms: None,
                            },
                        );
                    }
                    Err(why) => tracing::debug!(%why, "a late result changes nothing"),
                }
            }
            Reported::Failed(failed) => {
                self.attempt_ended(path, attempt);
                self.fail(path, attempt, failed);
            }
            Reported::Delivered => self.active.delivered(path, attempt, self.now),
            Reported::Returned => self.give_back(path, attempt),
            Reported::Undelivered { reason, after_ms } => {
                let counts_as_begun =
                    self.active.meta(&path).is_some_and(|meta| self.core.counts_as_begun(meta));
                if self.core.is_closing() && counts_as_begun {
                    return self.give_back(path, attempt);
                }
                self.active.running.undelivered(path, attempt);
                let (task, seed) = ((path, attempt), instance.seed());
                self.active.outbox.task_undelivered(task, &reason, after_ms, seed, self.now);
            }
            // The attempt dies with this process, and so may the knowledge that it began: not worth
            // a row.
            Reported::Began => self.active.running.began(path, attempt, self.now),
            Reported::Heartbeat => self.active.running.heartbeat(path, attempt, self.now),
        }
    }

    /// Whoever made the attempt is done with it.
    fn attempt_ended(&mut self, path: Path, attempt: u32) {
        let sent_at = self.active.running.ended(path, attempt);
        self.attempt_took(path, sent_at);
    }

    /// An attempt has not begun, and this process does not hand it out again.
    fn give_back(&mut self, path: Path, attempt: u32) {
        self.active.running.ended(path, attempt);
        if let Err(why) = self.step(path, StepHappened::Returned { attempt, next: self.now }) {
            tracing::debug!(%why, "nobody waits for what was given back");
        }
    }

    /// An attempt did not succeed: decide what becomes of it, and journal the decision.
    fn fail(&mut self, path: Path, attempt: u32, failed: AttemptFailed) {
        match self.active.instance.decide(&path, attempt, failed, self.now) {
            Ok(event) => {
                self.core.stats.attempts_failed.fetch_add(1, Ordering::Relaxed);
                if let Err(why) = self.apply(Event::Step(event)) {
                    tracing::error!(%why, "the machine refuses its own decision");
                }
            }
            Err(why) => tracing::debug!(%why, "a late failure changes nothing"),
        }
    }

    fn wake(&mut self) {
        for (path, attempt, timer) in self.active.due(self.now, self.core) {
            match timer {
                Timer::Queue | Timer::Run | Timer::Heartbeat | Timer::Total => {
                    self.time_out(path, attempt, timer)
                }
                Timer::Deadline => {
                    let reason = "the workflow's deadline passed".to_owned();
                    self.apply_due(Event::StopRequested { cause: Cause::Deadline, reason });
                }
                // It would only be given back again.
                Timer::Retry if self.core.is_closing() => {}
                Timer::Retry | Timer::Sleep | Timer::Timeout => {
                    self.apply_due(Event::Step(StepEvent {
                        path,
                        what: StepHappened::TimerFired { timer },
                    }));
                }
            }
        }
    }

    /// A timer was due a moment ago; one that fired before it may have made it void.
    fn apply_due(&mut self, event: Event) {
        if let Err(why) = self.apply(event) {
            tracing::debug!(%why, "a timer became void");
        }
    }

    fn time_out(&mut self, path: Path, attempt: u32, timer: Timer) {
        let (name, text) = match timer {
            Timer::Queue => {
                (Failure::NO_WORKER, "nobody began with the task within its `queue` time-out")
            }
            Timer::Heartbeat => (
                Failure::WORKER_LOST,
                "the worker fell silent for longer than its `heartbeat` time-out",
            ),
            Timer::Total => {
                (Failure::TIMEOUT, "all attempts together took longer than the `total` time-out")
            }
            _ => (Failure::TIMEOUT, "the attempt ran longer than its time-out"),
        };
        // The attempt goes on if it does not listen, and its result still counts; it only is no
        // longer waited for.
        self.active.running.cancel(path, attempt);
        // A worker of which nothing is heard has nothing to be told; and its attempt goes out again
        // under the same number.
        if timer != Timer::Heartbeat
            && let Some(working) = self.active.working_elsewhere(path, attempt)
        {
            self.core.bus.cancel(working);
        }
        let retry = (timer == Timer::Total).then_some(false);
        self.fail(
            path,
            attempt,
            AttemptFailed {
                outcome: Outcome::Unknown,
                failure: Failure::new(name, text),
                retry,
                after_ms: None,
            },
        );
    }

    /// The open task that a message is about.
    fn find(&self, step: &StepRef) -> Option<(Path, u32)> {
        let definition = self.active.instance.definition();
        let workflow_id: crate::id::InstanceId = self.active.origin.workflow_id.parse().ok()?;
        let wanted = match step {
            StepRef::Path(text) => Some(definition.parse_path(text)?),
            StepRef::Id(_) => None,
        };
        let mut found = None;
        self.active.instance.open(&mut |open| {
            if let Open::Task(TaskState { path, number, .. }) = open {
                let matches = match (step, wanted) {
                    (_, Some(wanted)) => *path == wanted,
                    (StepRef::Id(id), None) => workflow_id.step(&definition.path_text(path)) == *id,
                    (StepRef::Path(_), None) => false,
                };
                if matches {
                    found = Some((*path, *number));
                }
            }
        });
        found
    }

    fn complete(&mut self, completion: Completion, reply: Reply<Completed>) {
        let Some((path, current)) = self.find(&completion.step) else {
            return answer(reply, Err(Error::NotOpen));
        };
        if let (Some(said), Some(meta)) = (&completion.step_type, self.active.meta(&path))
            && meta.contract.step_type != said
        {
            return answer(
                reply,
                Err(Error::WrongStepType {
                    is: meta.contract.step_type.to_owned(),
                    said: said.clone(),
                }),
            );
        }
        let attempt = completion.attempt.unwrap_or(current);
        let sent_at = self.active.running.get(path, attempt).map(|running| running.sent_at);
        match completion.outcome {
            Ok(result) => {
                let limit = self.core.options.max_result_bytes;
                if result.get().len() > limit {
                    return answer(reply, Err(Error::Limit(too_big(&result, limit))));
                }
                match self
                    .step(path, StepHappened::Completed { attempt: completion.attempt, result })
                {
                    Ok(()) => {
                        self.tally.steps_completed += 1;
                        self.attempt_took(path, sent_at);
                        self.later(reply, Completed::Accepted);
                    }
                    Err(why) => answer(reply, Err(refusal(why))),
                }
            }
            Err(failed) => {
                let decided = self.active.instance.decide(&path, attempt, failed, self.now);
                match decided.and_then(|event| self.apply(Event::Step(event))) {
                    Ok(()) => {
                        self.core.stats.attempts_failed.fetch_add(1, Ordering::Relaxed);
                        self.attempt_took(path, sent_at);
                        self.later(reply, Completed::Accepted);
                    }
                    Err(Why::Superseded) => answer(reply, Ok(Completed::Superseded)),
                    Err(why) => answer(reply, Err(refusal(why))),
                }
            }
        }
    }

    fn attempt_took(&self, path: Path, sent_at: Option<Time>) {
        if let Some(sent_at) = sent_at {
            self.figures.attempt_took(self.active.figures, path.node, sent_at, self.now);
        }
    }

    fn progress(&mut self, progress: Progress, reply: Reply<()>) {
        let Some((path, current)) = self.find(&progress.step) else {
            return answer(reply, Err(Error::NotOpen));
        };
        let attempt = progress.attempt.unwrap_or(current);
        if attempt != current {
            return answer(reply, Err(Error::NotNow("a later attempt is under way".to_owned())));
        }
        self.active.running.heartbeat(path, attempt, self.now);
        match progress.what {
            ProgressKind::Heartbeat => answer(reply, Ok(())),
            ProgressKind::Began => match self.step(path, StepHappened::Started { attempt }) {
                Ok(()) => self.later(reply, ()),
                // Said before: nothing to add.
                Err(_) => answer(reply, Ok(())),
            },
        }
    }

    fn command(&mut self, command: Command, reply: Reply<()>) {
        if matches!(command, Command::Retry { .. })
            && self.active.extent.is_full(&self.core.options)
            && self.active.instance.failure().is_some_and(|failure| failure.name == JOURNAL_FULL)
        {
            let text = format!(
                "the journal is still full: {}; raise the limit first",
                self.active.extent.against(&self.core.options)
            );
            return answer(reply, Err(Error::NotNow(text)));
        }
        let event = match command {
            Command::Cancel { reason } => Event::StopRequested { cause: Cause::Cancelled, reason },
            Command::Pause => Event::PauseRequested,
            Command::Resume => Event::ResumeRequested,
            Command::Undo => Event::UndoRequested,
            Command::Fail { reason } => Event::FailRequested { reason },
            Command::Retry { step, input } => {
                let step = match step {
                    None => None,
                    Some(step) => match self.find_any(&step) {
                        Some(path) => Some(path),
                        None => return answer(reply, Err(Error::UnknownStep(format!("{step}")))),
                    },
                };
                Event::RetryRequested { step, input }
            }
        };
        match self.apply(event) {
            Ok(()) => self.later(reply, ()),
            Err(why) => answer(reply, Err(refusal(why))),
        }
    }

    /// As [`Self::find`], also for steps of an instance that has ended: those are named by path, or
    /// found among the definition's tasks.
    fn find_any(&self, step: &StepRef) -> Option<Path> {
        if let Some((path, _)) = self.find(step) {
            return Some(path);
        }
        let definition = self.active.instance.definition();
        match step {
            StepRef::Path(text) => definition.parse_path(text),
            StepRef::Id(id) => {
                let workflow_id: crate::id::InstanceId =
                    self.active.origin.workflow_id.parse().ok()?;
                (0..u16::try_from(definition.nodes.len()).ok()?).map(Path::new).find(|path| {
                    workflow_id.step(&definition.path_text(path)) == *id
                        && definition.task(path.node).is_some()
                })
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery, reply: Reply<bool>) {
        let Some(path) = self.active.instance.definition().parse_path(&delivery.path) else {
            return answer(reply, Ok(false));
        };
        // An event may have been kept longer than that, for others who could not take it.
        if delivery
            .keep_until
            .is_some_and(|keep_until| self.active.instance.env().started_at > keep_until)
        {
            return answer(reply, Ok(false));
        }
        if !delivery.is_kept && self.active.outbox.is_subscribing(&path) {
            return self.active.later.push((delivery, reply));
        }
        let data: Box<RawValue> = match RawValue::from_string(delivery.data.to_string()) {
            Ok(data) => data,
            Err(error) => return answer(reply, Err(Error::Invalid(error.to_string()))),
        };
        match self.step(path, StepHappened::Received { event_id: delivery.event_id, data }) {
            Ok(()) => self.later(reply, true),
            Err(Why::Invalid(text)) => answer(reply, Err(Error::Invalid(text))),
            Err(Why::NotOpen | Why::NoMatch | Why::NotNow(_) | Why::Superseded) => {
                answer(reply, Ok(false))
            }
        }
    }

    fn undelivered(&self) -> Undelivered {
        let definition = self.active.instance.definition();
        let mut undelivered = Undelivered::default();
        for pending in self.active.outbox.iter() {
            match pending {
                Pending::Task { path, backoff: Some(backoff), .. } => {
                    undelivered
                        .tasks
                        .push((definition.path_text(path).into_owned(), backoff.reason.clone()));
                }
                // It has not been offered, or waits in its service's queue.
                Pending::Task { path, attempt, backoff: None }
                    if !self.active.running.has_begun(*path, *attempt) =>
                {
                    let contract = definition
                        .task(path.node)
                        .map(|task| task.contract)
                        .filter(|contract| !self.core.runs_here(contract));
                    let reason =
                        contract.and_then(|contract| self.core.bus.delay(Some(contract.step_type)));
                    undelivered.tasks.extend(
                        reason.map(|reason| (definition.path_text(path).into_owned(), reason)),
                    );
                }
                Pending::Message { routing_key, reason: Some(reason) } => {
                    undelivered.messages.push(((*routing_key).to_owned(), reason.clone()))
                }
                Pending::Message { routing_key, reason: None } => {
                    let reason = self.core.bus.held(routing_key);
                    undelivered
                        .messages
                        .extend(reason.map(|reason| ((*routing_key).to_owned(), reason)));
                }
                _ => {}
            }
        }
        undelivered.tasks.extend(self.without_worker());
        undelivered
    }

    /// Tasks that wait in the queue of workers, and nobody is there.
    fn without_worker(&self) -> Vec<(String, String)> {
        let Some(roster) = self.core.bus.roster() else { return Vec::new() };
        let mut waiting = Vec::new();
        self.active.instance.open(&mut |open| {
            if let Open::Task(task) = open
                && task.attempt == Attempt::Sent
                && task.started_at.is_none()
                && let Some(meta) = self.active.meta(&task.path)
                && let running = self.active.running.get(task.path, task.number)
                && self.active.is_remote(task, meta.contract, running)
                && !roster.runs(meta.contract.step_type)
            {
                let step_type = meta.contract.step_type;
                let reason = format!("no worker that lives takes tasks of `{step_type}`: start one with `crux worker --steps {step_type}`");
                waiting.push((self.active.instance.definition().path_text(&task.path).into_owned(), reason));
            }
        });
        waiting
    }
}

fn too_big(result: &RawValue, limit: usize) -> String {
    format!(
        "the result has {} bytes, the limit is {limit}: keep big data elsewhere and pass its address",
        result.get().len()
    )
}

fn refusal(why: Why) -> Error {
    match why {
        Why::Invalid(text) => Error::Invalid(text),
        Why::NotOpen => Error::NotOpen,
        Why::Superseded | Why::NoMatch => Error::NotNow(why.to_string()),
        Why::NotNow(text) => Error::NotNow(text.to_owned()),
    }
}
