//! Services and workers that are attached by a stream each: they get the tasks of their step
//! types from this process and report the results to it, without a broker. The transport that
//! carries the stream ([`crate::ingress`]) holds an [`Attachment`].
//!
//! A task goes to an attached worker with a free slot, the one that was served longest ago; without
//! one it waits in a queue of its step type. When a stream ends, what was out on it counts as lost
//! immediately.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::app::App;
use crate::bus::broker::worker_registry::AttemptIds;
use crate::executor::queue::{Job, ReplyTo, not_begun};
use crate::machine::{AttemptFailed, Contract, Failure, Outcome};
use crate::suggest::hint;
use crate::supervise;
use crate::task::cancellation::Cancellation;
use crate::task::{Reported, Task};

/// Tasks of a step type that wait for a free slot; beyond it they are given back to the engine.
const QUEUED_MAX: usize = 8192;
/// Workers attached at a time.
const WORKERS_MAX: usize = 10_000;
/// Slots of one worker.
const CONCURRENCY_MAX: usize = 10_000;
const NAME_CHARS_MAX: usize = 200;

/// What a worker says of itself when it attaches.
#[derive(Debug, Clone)]
pub(crate) struct AttachRequest {
    /// For people.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) step_types: Vec<String>,
    pub(crate) concurrency: usize,
}

/// Why a worker cannot attach.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("no step type is named: say whose tasks are wanted")]
    NoStepType,
    #[error("there is no step type `{step_type}`{hint}")]
    UnknownStepType { step_type: String, hint: String },
    #[error(
        "the tasks of `{step_type}` are pushed to services.{service}: leave it out, or take it out of the configuration there"
    )]
    Pushed { step_type: String, service: String },
    #[error("a worker has 1 to {CONCURRENCY_MAX} tasks at a time, not {0}")]
    Concurrency(usize),
    #[error("{WORKERS_MAX} workers are attached already")]
    TooMany,
}

/// A worker, as `GET /api/v1/workers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listing {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) steps: Vec<&'static str>,
    pub(crate) concurrency: usize,
    pub(crate) running: usize,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
}

/// What a worker is handed.
#[derive(Debug)]
pub(crate) enum Handed {
    Task {
        /// On this stream.
        number: u64,
        task: Task,
    },
    /// Its result is no longer needed.
    Cancelled(u64),
}

/// How a task has ended at its worker.
#[derive(Debug)]
pub(crate) enum TaskOutcome {
    Completed(Box<RawValue>),
    Failed(AttemptFailed),
    /// It has not begun: another may have it.
    Returned,
}

/// All attached workers.
pub(crate) struct AttachedWorkers {
    contracts: &'static [&'static Contract],
    max_result_bytes: usize,
    state: Mutex<State>,
    /// Told when tasks that found nobody should come again.
    back: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    workers: BTreeMap<u64, Worker>,
    next_worker: u64,
    /// By step type; those that a worker takes or has taken.
    types: HashMap<&'static str, TypeState>,
}

#[derive(Default)]
struct TypeState {
    waiting: VecDeque<Job>,
    /// Workers that take it, the one that was served longest ago first.
    takers: VecDeque<u64>,
}

struct Worker {
    name: String,
    version: String,
    step_types: Vec<&'static str>,
    concurrency: usize,
    is_draining: bool,
    next_task: u64,
    running: HashMap<u64, Running>,
    /// As many as there are slots at most.
    handed: mpsc::UnboundedSender<Handed>,
    completed: u64,
    failed: u64,
}

/// A task that is out.
struct Running {
    ids: AttemptIds,
    contract: &'static Contract,
    reply: ReplyTo,
    cancellation: Cancellation,
    is_cancelled: bool,
}

impl Worker {
    fn has_room(&self) -> bool {
        !self.is_draining && self.running.len() < self.concurrency
    }

    /// Gives it the job; there must be room. The job comes back if the engine's queue is full.
    fn hand(&mut self, job: Job) -> Result<(), Job> {
        // From here on its time counts; a service that reports its start does so itself.
        let first = match job.task.contract.reports_started {
            true => Reported::Delivered,
            false => Reported::Began,
        };
        if !job.report(first) {
            return Err(job);
        }
        let number = self.next_task;
        self.next_task += 1;
        let (task, reply) = job.split();
        let running = Running {
            ids: AttemptIds(task.instance, task.step_id(), task.attempt),
            contract: task.contract,
            reply,
            cancellation: task.cancellation.clone(),
            is_cancelled: false,
        };
        self.running.insert(number, running);
        // The stream may just have ended; then the attachment is dropped next, and reports it lost.
        let _ = self.handed.send(Handed::Task { number, task });
        Ok(())
    }
}

impl State {
    /// A worker with a free slot for that step type; it is the last to be chosen next time.
    fn free_worker(&mut self, step_type: &str) -> Option<&mut Worker> {
        let takers = &mut self.types.get_mut(step_type)?.takers;
        for _ in 0..takers.len() {
            let number = takers.pop_front()?;
            takers.push_back(number);
            if self.workers.get(&number).is_some_and(Worker::has_room) {
                return self.workers.get_mut(&number);
            }
        }
        None
    }

    /// Hands out what waits for a slot of this worker.
    fn fill(&mut self, number: u64) {
        let Some(worker) = self.workers.get_mut(&number) else { return };
        // One of each step type in turn, so that none starves.
        let mut is_idle = false;
        while worker.has_room() && !is_idle {
            is_idle = true;
            for step_type in worker.step_types.clone() {
                if !worker.has_room() {
                    break;
                }
                let waiting = self.types.get_mut(step_type).map(|of_type| &mut of_type.waiting);
                let Some(waiting) = waiting else { continue };
                let Some(job) = waiting.pop_front() else { continue };
                // What nobody waits for any more has surely not happened.
                let handed = match not_begun(&job.task).map(|reported| job.report(reported)) {
                    Some(true) => Ok(()),
                    Some(false) => Err(job),
                    None => worker.hand(job),
                };
                match handed {
                    Ok(()) => is_idle = false,
                    // Later, when the engine has room: see `Attachment::tick`.
                    Err(job) => waiting.push_front(job),
                }
            }
        }
    }
}

impl AttachedWorkers {
    pub(crate) fn new(app: &App, max_result_bytes: usize, back: watch::Sender<u64>) -> Self {
        Self { contracts: app.contracts, max_result_bytes, state: Mutex::default(), back }
    }

    /// Whether a worker takes tasks of that step type.
    pub(crate) fn takes(&self, step_type: &str) -> bool {
        self.lock().types.get(step_type).is_some_and(|of_type| !of_type.takers.is_empty())
    }

    /// Hands the task to a worker or queues it; gives it back if nobody takes its step type, or
    /// without room.
    pub(crate) fn dispatch(&self, job: Job) -> Result<(), Job> {
        let step_type = job.task.contract.step_type;
        let mut state = self.lock();
        if let Some(worker) = state.free_worker(step_type) {
            return worker.hand(job);
        }
        match state.types.get_mut(step_type) {
            Some(of_type) if !of_type.takers.is_empty() && of_type.waiting.len() < QUEUED_MAX => {
                of_type.waiting.push_back(job);
                Ok(())
            }
            Some(_) | None => Err(job),
        }
    }

    /// `pushed_to`: the service to which tasks of a step type are pushed instead.
    pub(crate) fn attach(
        self: &Arc<Self>,
        request: AttachRequest,
        pushed_to: impl Fn(&str) -> Option<String>,
    ) -> Result<(Attachment, mpsc::UnboundedReceiver<Handed>), Error> {
        let AttachRequest { name, version, step_types, concurrency } = request;
        if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
            return Err(Error::Concurrency(concurrency));
        }
        if step_types.is_empty() {
            return Err(Error::NoStepType);
        }
        let mut known: Vec<&'static str> = Vec::with_capacity(step_types.len());
        for step_type in step_types {
            let names = self.contracts.iter().map(|contract| contract.step_type);
            let Some(found) = names.clone().find(|name| *name == step_type) else {
                return Err(Error::UnknownStepType { hint: hint(&step_type, names), step_type });
            };
            if let Some(service) = pushed_to(found) {
                return Err(Error::Pushed { step_type, service });
            }
            if !known.contains(&found) {
                known.push(found);
            }
        }
        let (handed, tasks) = mpsc::unbounded_channel();
        let cut = |text: String| text.chars().take(NAME_CHARS_MAX).collect::<String>();
        let (name, version) = (cut(name), cut(version));
        info!(worker = name, steps = ?known, concurrency, "a worker is attached");
        let mut state = self.lock();
        if state.workers.len() >= WORKERS_MAX {
            return Err(Error::TooMany);
        }
        let number = state.next_worker;
        state.next_worker += 1;
        for step_type in &known {
            state.types.entry(step_type).or_default().takers.push_back(number);
        }
        let worker = Worker {
            name,
            version,
            step_types: known,
            concurrency,
            is_draining: false,
            next_task: 1,
            running: HashMap::new(),
            handed,
            completed: 0,
            failed: 0,
        };
        state.workers.insert(number, worker);
        state.fill(number);
        drop(state);
        self.back.send_modify(|times| *times += 1);
        Ok((Attachment { workers: self.clone(), number }, tasks))
    }

    pub(crate) fn list(&self) -> Vec<Listing> {
        let state = self.lock();
        let listing = |worker: &Worker| Listing {
            name: worker.name.clone(),
            version: worker.version.clone(),
            steps: worker.step_types.clone(),
            concurrency: worker.concurrency,
            running: worker.running.len(),
            completed: worker.completed,
            failed: worker.failed,
        };
        state.workers.values().map(listing).collect()
    }

    /// Why tasks of that step type are not out yet; `None`: nothing holds them up.
    pub(crate) fn delay(&self, step_type: &str) -> Option<String> {
        let waiting = self.lock().types.get(step_type)?.waiting.len();
        (waiting > 0).then(|| format!("{waiting} tasks wait for a free slot of an attached worker"))
    }

    /// Hands out nothing more. Of what waits, tasks that are chosen come back.
    pub(crate) fn drain(&self, is_chosen: impl Fn(&Task) -> bool) -> Vec<Job> {
        let mut state = self.lock();
        state.workers.values_mut().for_each(|worker| worker.is_draining = true);
        let mut all = Vec::new();
        for of_type in state.types.values_mut() {
            let (chosen, left): (Vec<Job>, Vec<Job>) = std::mem::take(&mut of_type.waiting)
                .into_iter()
                .partition(|job| is_chosen(&job.task));
            of_type.waiting = left.into();
            all.extend(chosen);
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a result means: it must be of the declared type, and not too large.
    fn reported(&self, contract: &Contract, outcome: TaskOutcome) -> Reported {
        let invalid = |text: String| {
            let failure = Failure::new(Failure::INVALID_RESULT, text);
            let outcome = Outcome::Failed;
            Reported::Failed(AttemptFailed { outcome, failure, retry: None, after_ms: None })
        };
        match outcome {
            TaskOutcome::Completed(result) if result.get().len() > self.max_result_bytes => {
                invalid(format!(
                    "the result has {} bytes, the limit is {}: keep big data elsewhere and pass its address",
                    result.get().len(),
                    self.max_result_bytes
                ))
            }
            TaskOutcome::Completed(result) => match (contract.check_result)(&result) {
                Ok(()) => Reported::Completed { result },
                Err(text) => invalid(format!("the result is not of the declared type: {text}")),
            },
            TaskOutcome::Failed(failed) => Reported::Failed(failed),
            TaskOutcome::Returned => {
                let reason = "its worker gave it back: it is shutting down".to_owned();
                Reported::Undelivered { reason, after_ms: Some(0) }
            }
        }
    }
}

/// One attached worker. Dropped: its stream has ended, and what was out on it is lost.
pub(crate) struct Attachment {
    workers: Arc<AttachedWorkers>,
    number: u64,
}

impl Attachment {
    /// Takes the result of a task. `false`: it has no such task.
    pub(crate) async fn finish(&self, task: u64, outcome: TaskOutcome) -> bool {
        let taken = {
            let mut state = self.workers.lock();
            let Some(worker) = state.workers.get_mut(&self.number) else { return false };
            let Some(running) = worker.running.remove(&task) else { return false };
            let reported = self.workers.reported(running.contract, outcome);
            match &reported {
                Reported::Completed { .. } => worker.completed += 1,
                Reported::Failed(_) => worker.failed += 1,
                _ => {}
            }
            state.fill(self.number);
            (running.reply, reported)
        };
        let (reply, reported) = taken;
        reply.send(reported).await;
        true
    }

    /// The attempt that a task is, and its step type; `None`: it has no such task.
    pub(crate) fn attempt_of(&self, task: u64) -> Option<(AttemptIds, &'static str)> {
        let state = self.workers.lock();
        let running = state.workers.get(&self.number)?.running.get(&task)?;
        Some((running.ids, running.contract.step_type))
    }

    /// It works on these tasks; on all, if none is named.
    pub(crate) fn heartbeat(&self, tasks: &[u64]) {
        let state = self.workers.lock();
        let Some(worker) = state.workers.get(&self.number) else { return };
        let of_task = |task: &u64| worker.running.get(task);
        let say = |running: &Running| {
            // One that finds no room is followed by the next.
            running.reply.offer(Reported::Heartbeat);
        };
        match tasks {
            [] => worker.running.values().for_each(say),
            tasks => tasks.iter().filter_map(of_task).for_each(say),
        }
    }

    /// Nothing more is handed to it.
    pub(crate) fn drain(&self) {
        if let Some(worker) = self.workers.lock().workers.get_mut(&self.number) {
            worker.is_draining = true;
        }
    }

    /// Whether it gets nothing more, and nothing is out.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.workers.lock();
        state
            .workers
            .get(&self.number)
            .is_none_or(|worker| worker.is_draining && worker.running.is_empty())
    }

    /// To be called now and then: tells the worker of tasks whose results nobody waits for any more,
    /// and hands out what did not go out because the engine's queue was full.
    pub(crate) fn tick(&self) {
        let mut state = self.workers.lock();
        let Some(worker) = state.workers.get_mut(&self.number) else { return };
        for (number, running) in &mut worker.running {
            if !running.is_cancelled && running.cancellation.is_cancelled() {
                running.is_cancelled = true;
                // The stream may just have ended.
                let _ = worker.handed.send(Handed::Cancelled(*number));
            }
        }
        state.fill(self.number);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut state = self.workers.lock();
        let Some(worker) = state.workers.remove(&self.number) else { return };
        let mut unserved = Vec::new();
        for step_type in &worker.step_types {
            let Some(of_type) = state.types.get_mut(step_type) else { continue };
            of_type.takers.retain(|taker| *taker != self.number);
            if of_type.takers.is_empty() {
                unserved.extend(std::mem::take(&mut of_type.waiting));
            }
        }
        drop(state);
        info!(worker = worker.name, lost = worker.running.len(), "a worker is no longer attached");
        let lost = worker.running.into_values().map(|running| {
            let text = format!("the stream of worker `{}` ended before its result", worker.name);
            let failure = Failure::new(Failure::WORKER_LOST, text);
            let outcome = Outcome::Unknown;
            let failed = AttemptFailed { outcome, failure, retry: None, after_ms: None };
            (running.reply, Reported::Failed(failed))
        });
        let reports: Vec<(ReplyTo, Reported)> = lost
            .chain(unserved.into_iter().map(|job| {
                let reason = no_worker(job.task.contract.step_type);
                let (_, reply) = job.split();
                (reply, Reported::Undelivered { reason, after_ms: None })
            }))
            .collect();
        if reports.is_empty() {
            return;
        }
        // The engine's queue may be full, and here nothing may wait. Without a runtime the process
        // ends, and nobody needs the reports.
        let Ok(runtime) = Handle::try_current() else { return };
        supervise::spawn_on(&runtime, "reporting lost tasks", async move {
            for (reply, reported) in reports {
                reply.send(reported).await;
            }
        });
    }
}

/// Why a task of a step type waits that attached workers take.
pub(crate) fn no_worker(step_type: &str) -> String {
    format!("no worker for `{step_type}` is attached")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::http::tests::{CLASS, CONTRACT, app, task};
    use crate::task::Report;

    struct Harness {
        workers: Arc<AttachedWorkers>,
        reports: mpsc::Sender<Report>,
        reported: mpsc::Receiver<Report>,
    }

    impl Harness {
        fn new() -> Self {
            let workers = Arc::new(AttachedWorkers::new(&app(), 64, watch::Sender::new(0)));
            let (reports, reported) = mpsc::channel(100);
            Self { workers, reports, reported }
        }

        fn attach(
            &self,
            name: &str,
            step_types: &[&str],
            concurrency: usize,
        ) -> Result<(Attachment, mpsc::UnboundedReceiver<Handed>), Error> {
            let (name, version) = (name.to_owned(), String::new());
            let step_types = step_types.iter().map(|name| (*name).to_owned()).collect();
            let request = AttachRequest { name, version, step_types, concurrency };
            let pushed_to = |name: &str| (name == "charge").then(|| "bank".to_owned());
            self.workers.attach(request, pushed_to)
        }

        /// Whether the task was taken.
        fn dispatch(&self, contract: &'static Contract) -> bool {
            self.workers.dispatch(Job::new(task(contract).0, self.reports.clone())).is_ok()
        }

        fn next(&mut self) -> Option<Reported> {
            self.reported.try_recv().ok().map(|report| report.what)
        }
    }

    fn handed(tasks: &mut mpsc::UnboundedReceiver<Handed>) -> Option<(u64, &'static str)> {
        match tasks.try_recv().ok()? {
            Handed::Task { number, task } => Some((number, task.contract.step_type)),
            Handed::Cancelled(number) => Some((number, "cancelled")),
        }
    }

    fn result(text: &str) -> TaskOutcome {
        TaskOutcome::Completed(RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn a_worker_says_what_it_takes_and_is_refused_what_cannot_be() {
        let harness = Harness::new();
        let refused = |step_types: &[&str], concurrency| {
            harness.attach("a", step_types, concurrency).err().map(|error| error.to_string())
        };
        assert_eq!(refused(&["resize"], 1), None);
        for (step_types, concurrency, why) in [
            (&["resise"][..], 1, "there is no step type `resise`; did you mean `resize`?"),
            (&["charge"], 1, "are pushed to services.bank"),
            (&[], 1, "no step type is named"),
            (&["resize"], 0, "1 to 10000 tasks at a time, not 0"),
            (&["resize"], 10_001, "not 10001"),
        ] {
            let text = refused(step_types, concurrency).unwrap();
            assert!(text.contains(why), "{text}");
        }
    }

    #[tokio::test]
    async fn tasks_go_to_free_slots_in_turn_and_wait_for_the_next() {
        let mut harness = Harness::new();
        assert!(!harness.dispatch(&CONTRACT), "no worker takes it");
        let (first, mut to_first) = harness.attach("first", &["resize", "notify"], 2).unwrap();
        let (_second, mut to_second) = harness.attach("second", &["resize"], 1).unwrap();
        for _ in 0..3 {
            assert!(harness.dispatch(&CONTRACT));
        }
        assert_eq!((to_first.len(), to_second.len()), (2, 1));
        assert!(harness.dispatch(&CONTRACT) && harness.dispatch(&CLASS));
        let why = harness.workers.delay("resize").unwrap();
        assert!(why.contains("1 tasks wait for a free slot"), "{why}");
        assert!(handed(&mut to_second).is_some());
        let (number, _) = handed(&mut to_first).unwrap();
        assert!(handed(&mut to_first).is_some());
        while harness.next().is_some() {}
        // One that ends makes room for one that waits.
        assert!(first.finish(number, result(r#"{"width":3}"#)).await);
        assert!(!first.finish(number, result("{}")).await, "it was reported already");
        assert_eq!(handed(&mut to_first).unwrap().1, "resize");
        assert!(matches!(harness.next(), Some(Reported::Began)));
        assert!(matches!(harness.next(), Some(Reported::Completed { .. })));
        assert_eq!(harness.workers.delay("resize"), None);
        assert!(harness.workers.delay("notify").is_some());
    }

    #[tokio::test]
    async fn a_result_is_of_its_type_and_not_too_large() {
        let mut harness = Harness::new();
        let (worker, mut tasks) = harness.attach("a", &["resize"], 1).unwrap();
        let long = format!(r#"{{"note":"{}"}}"#, "x".repeat(64));
        for (text, why) in [(r#"{"width":"3"}"#, "width: not a number"), (&long, "the limit is 64")]
        {
            assert!(harness.dispatch(&CONTRACT));
            assert!(matches!(harness.next(), Some(Reported::Began)));
            let (number, _) = handed(&mut tasks).unwrap();
            assert!(worker.finish(number, result(text)).await);
            let Some(Reported::Failed(failed)) = harness.next() else { panic!("{text}") };
            assert_eq!(failed.failure.name, Failure::INVALID_RESULT);
            assert!(failed.failure.message.contains(why), "{}", failed.failure.message);
        }
    }

    #[tokio::test]
    async fn what_was_out_is_lost_with_the_worker_and_what_waited_comes_back() {
        let mut harness = Harness::new();
        let (worker, _tasks) = harness.attach("a", &["resize"], 1).unwrap();
        assert!(harness.dispatch(&CONTRACT) && harness.dispatch(&CONTRACT));
        assert!(matches!(harness.next(), Some(Reported::Began)));
        drop(worker);
        let lost = harness.reported.recv().await.unwrap().what;
        let Reported::Failed(failed) = lost else { panic!("{lost:?}") };
        assert_eq!(
            (failed.failure.name.as_ref(), failed.outcome),
            ("WorkerLost", Outcome::Unknown)
        );
        let waited = harness.reported.recv().await.unwrap().what;
        assert!(matches!(waited, Reported::Undelivered { .. }), "{waited:?}");
        assert!(!harness.dispatch(&CONTRACT) && harness.workers.list().is_empty());
    }

    #[test]
    fn a_cancellation_reaches_the_worker_once() {
        let harness = Harness::new();
        let (worker, mut tasks) = harness.attach("a", &["resize"], 1).unwrap();
        let (task, cancellation) = task(&CONTRACT);
        assert!(harness.workers.dispatch(Job::new(task, harness.reports.clone())).is_ok());
        assert_eq!(handed(&mut tasks), Some((1, "resize")));
        worker.tick();
        assert_eq!(handed(&mut tasks), None);
        cancellation.cancel();
        worker.tick();
        worker.tick();
        assert_eq!((handed(&mut tasks), handed(&mut tasks)), (Some((1, "cancelled")), None));
    }
}
