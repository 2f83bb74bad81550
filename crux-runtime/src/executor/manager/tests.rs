//! The worker manager from outside: tasks in, reports out.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::value::RawValue;

use super::*;
use crate::executor::Cancellation;
use crate::executor::limits::Share;
use crate::executor::step::{Running, StepContext};
use crate::id::InstanceId;
use crate::machine::{Contract, EffectKind, Failure, Outcome, Path, Policy, Runs};
use crate::task::Origin;

/// What a test step does with its input.
type Body = for<'a> fn(&'a RawValue, &'a StepContext) -> Running<'a>;

struct Probe {
    step_type: &'static str,
    blocking: bool,
    now: AtomicUsize,
    most: AtomicUsize,
    body: Body,
}

impl AnyStep for Probe {
    fn step_type(&self) -> &'static str {
        self.step_type
    }

    fn is_blocking(&self) -> bool {
        self.blocking
    }

    fn run<'a>(&'a self, cx: &'a StepContext) -> Running<'a> {
        Box::pin(async move {
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let outcome = (self.body)(&cx.task.input, cx).await;
            self.now.fetch_sub(1, Ordering::SeqCst);
            outcome
        })
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn probe(step_type: &'static str, body: Body) -> Arc<Probe> {
    Arc::new(Probe {
        step_type,
        blocking: false,
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        body,
    })
}

fn blocking(step_type: &'static str, body: Body) -> Arc<Probe> {
    Arc::new(Probe {
        step_type,
        blocking: true,
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        body,
    })
}

fn echo() -> Arc<Probe> {
    probe("echo", |input, _| Box::pin(async move { Ok(input.to_owned()) }))
}

fn nap() -> Arc<Probe> {
    probe("nap", |input, _| {
        Box::pin(async move {
            let ms = input.get().parse().unwrap();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(raw("{}"))
        })
    })
}

fn blocking_nap() -> Arc<Probe> {
    blocking("nap", |input, _| {
        Box::pin(async move {
            std::thread::sleep(Duration::from_millis(input.get().parse().unwrap()));
            Ok(raw("{}"))
        })
    })
}

/// Ends when it is cancelled, and says so.
fn patient() -> Arc<Probe> {
    probe("patient", |_, cx| {
        Box::pin(async move {
            cx.cancelled().await;
            Ok(raw(r#""was cancelled""#))
        })
    })
}

/// As [`patient`], on a thread. It gives up when a test could not tell it.
fn blocking_patient() -> Arc<Probe> {
    blocking("patient", |_, cx| {
        Box::pin(async move {
            for _ in 0..20_000 {
                if cx.is_cancelled() {
                    return Ok(raw(r#""was cancelled""#));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(raw(r#""gave up""#))
        })
    })
}

fn contract(step_type: &'static str) -> &'static Contract {
    Box::leak(Box::new(Contract {
        step_type,
        runs: Runs::Class("Probe"),
        effect: EffectKind::Idempotent,
        reports_started: true,
        payload: false,
        raises: &[],
        check_input: |_| Ok(()),
        check_result: |_| Ok(()),
        input_schema: "{}",
        output_schema: "{}",
    }))
}

static POLICY: Policy = Policy::ONCE;

fn task(step_type: &'static str, input: &str) -> (Task, Cancellation) {
    let cancellation = Cancellation::default();
    let origin = Origin {
        workflow: "test".into(),
        workflow_id: "w".to_owned(),
        request_id: String::new(),
        traceparent: String::new(),
        tokens: None,
        payload: Arc::from(raw("{}")),
    };
    let task = Task {
        instance: InstanceId([0; 16]),
        path: Path::new(7),
        path_text: Cow::Borrowed("a/b"),
        attempt: 3,
        contract: contract(step_type),
        policy: &POLICY,
        input: Arc::from(raw(input)),
        own_key: None,
        heartbeat_ms: None,
        origin: Arc::new(origin),
        cancellation: cancellation.clone(),
    };
    (task, cancellation)
}

fn manager(step: &Arc<Probe>, limits: Limits) -> Executor {
    let share = Share {
        minimum: Some(limits.minimum),
        maximum: Some(limits.maximum),
        max_queued: Some(limits.max_queued),
    };
    let options = Options { tasks: share, threads: share, ..Options::default() };
    Executor::new(&[step.clone() as Arc<dyn AnyStep>], &options).unwrap()
}

fn limits(maximum: usize) -> Limits {
    Limits { minimum: 0, maximum, max_queued: 10_000 }
}

/// Until an attempt has begun.
async fn began(reports: &mut mpsc::Receiver<Report>) {
    let report = tokio::time::timeout(Duration::from_secs(20), reports.recv()).await;
    let what = report.expect("a report within 20 s").unwrap().what;
    assert!(matches!(what, Reported::Began), "{what:?}");
}

/// The next report that ends an attempt; those before it are only counted.
async fn ended(reports: &mut mpsc::Receiver<Report>) -> Result<String, AttemptEnded> {
    loop {
        let report = tokio::time::timeout(Duration::from_secs(20), reports.recv())
            .await
            .expect("a report within 20 s")
            .unwrap();
        assert_eq!((report.path, report.attempt), (Path::new(7), 3));
        match report.what {
            Reported::Completed { result } => return Ok(result.get().to_owned()),
            Reported::Failed(failed) => {
                return Err((
                    failed.failure.name.into_owned(),
                    failed.failure.message,
                    failed.outcome,
                    failed.retry,
                ));
            }
            Reported::Returned => {
                return Err(("returned".to_owned(), String::new(), Outcome::Failed, None));
            }
            Reported::Undelivered { reason, .. } => {
                return Err(("undelivered".to_owned(), reason, Outcome::Failed, None));
            }
            Reported::Delivered | Reported::Began | Reported::Heartbeat => {}
        }
    }
}

type AttemptEnded = (String, String, Outcome, Option<bool>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_is_run_once_and_reported() {
    let step = echo();
    let manager = manager(&step, limits(1024));
    let (sender, mut reports) = mpsc::channel(64);
    let mut expected = Vec::new();
    for n in 0..5_000 {
        let (task, _) = task("echo", &n.to_string());
        manager.submit(task, &sender).unwrap();
        expected.push(n);
    }
    let mut got = Vec::new();
    for _ in 0..5_000 {
        got.push(ended(&mut reports).await.unwrap().parse::<i32>().unwrap());
    }
    got.sort_unstable();
    assert_eq!(got, expected);
    assert_eq!(manager.drain(Duration::from_secs(5)).await, 0);
    let listing = manager.list().remove(0);
    assert_eq!((listing.completed, listing.running, listing.queued), (5_000, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_attempts_run_concurrently_up_to_the_maximum() {
    for (step, maximum) in [(nap(), 8), (blocking_nap(), 8)] {
        let manager = manager(&step, limits(maximum));
        let (sender, mut reports) = mpsc::channel(64);
        for _ in 0..24 {
            manager.submit(task("nap", "50").0, &sender).unwrap();
        }
        for _ in 0..24 {
            ended(&mut reports).await.unwrap();
        }
        assert_eq!(step.most.load(Ordering::SeqCst), maximum, "blocking: {}", step.blocking);
    }
}

#[tokio::test]
async fn a_waiting_attempt_does_not_hold_up_the_ones_behind_it() {
    let step = nap();
    let manager = manager(&step, limits(16));
    let (sender, mut reports) = mpsc::channel(64);
    manager.submit(task("nap", "60000").0, &sender).unwrap();
    manager.submit(task("nap", "1").0, &sender).unwrap();
    assert_eq!(ended(&mut reports).await.unwrap(), "{}");
}

#[tokio::test]
async fn a_blocking_attempt_does_not_hold_up_the_runtime() {
    let step = blocking_patient();
    let manager = manager(&step, limits(2));
    let (sender, mut reports) = mpsc::channel(64);
    let (task, cancel) = task("patient", "1");
    manager.submit(task, &sender).unwrap();
    began(&mut reports).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    cancel.cancel();
    assert_eq!(ended(&mut reports).await.unwrap(), r#""was cancelled""#);
}

#[tokio::test]
async fn a_full_queue_gives_the_task_back() {
    let step = patient();
    let manager = manager(&step, Limits { minimum: 0, maximum: 1, max_queued: 2 });
    let (sender, mut reports) = mpsc::channel(64);
    let mut cancels = Vec::new();
    let mut submit = || {
        let (task, cancel) = task("patient", "1");
        cancels.push(cancel);
        manager.submit(task, &sender).is_ok()
    };
    assert!(submit());
    began(&mut reports).await;
    assert!(submit());
    assert!(submit());
    assert!(!submit(), "one runs, two wait: the fourth has no room");
}

#[tokio::test]
async fn a_task_without_step_struct_reaches_nobody() {
    let manager = manager(&echo(), limits(1));
    let (sender, mut reports) = mpsc::channel(64);
    manager.submit(task("other", "1").0, &sender).unwrap();
    let (name, reason, ..) = ended(&mut reports).await.unwrap_err();
    assert_eq!(
        (name.as_str(), reason.as_str()),
        ("undelivered", "this process runs no step struct for `other`")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_a_failure_of_its_attempt_alone() {
    let body: Body = |input, _| {
        Box::pin(async move {
            match input.get() {
                "1" => panic!("no {}", "oranges"),
                "2" => {
                    tokio::task::yield_now().await;
                    std::panic::panic_any(5)
                }
                _ => Ok(raw("{}")),
            }
        })
    };
    for step in [probe("moody", body), blocking("moody", body)] {
        let manager = manager(&step, limits(1));
        let (sender, mut reports) = mpsc::channel(64);
        for input in ["1", "2", "3"] {
            manager.submit(task("moody", input).0, &sender).unwrap();
        }
        let failed =
            |text: &str| Err((Failure::PANIC.to_owned(), text.to_owned(), Outcome::Failed, None));
        assert_eq!(ended(&mut reports).await, failed("the step struct panicked: no oranges"));
        assert_eq!(ended(&mut reports).await, failed("the step struct panicked"));
        assert_eq!(ended(&mut reports).await, Ok("{}".to_owned()));
        assert_eq!(manager.list().remove(0).failed, 2);
    }
}

#[tokio::test]
async fn a_running_attempt_is_cancelled_and_one_that_has_not_begun_does_not_begin() {
    let step = patient();
    let manager = manager(&step, limits(1));
    let (sender, mut reports) = mpsc::channel(64);
    let (first, cancel_first) = task("patient", "1");
    let (second, cancel_second) = task("patient", "2");
    manager.submit(first, &sender).unwrap();
    manager.submit(second, &sender).unwrap();
    began(&mut reports).await;
    cancel_second.cancel();
    cancel_first.cancel();
    assert_eq!(ended(&mut reports).await.unwrap(), r#""was cancelled""#);
    let (name, message, outcome, retry) = ended(&mut reports).await.unwrap_err();
    assert_eq!(
        (name.as_str(), message.as_str()),
        (Failure::CANCELLED, "cancelled before it began")
    );
    assert_eq!((outcome, retry), (Outcome::Failed, Some(false)));
    assert_eq!(step.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_attempt_that_lasts_reports_its_start_and_sends_heartbeats() {
    static POLICY: Policy = Policy { heartbeat_ms: Some(60), ..Policy::ONCE };
    for step in [patient(), blocking_patient()] {
        let manager = manager(&step, limits(4));
        let (sender, mut reports) = mpsc::channel(64);
        let (task, cancel) = task("patient", "1");
        manager.submit(Task { policy: &POLICY, ..task }, &sender).unwrap();
        drop(sender);
        began(&mut reports).await;
        for _ in 0..5 {
            let what = reports.recv().await.unwrap().what;
            assert!(matches!(what, Reported::Heartbeat), "{what:?}");
        }
        cancel.cancel();
        assert_eq!(ended(&mut reports).await.unwrap(), r#""was cancelled""#);
        // Nothing is left that could report.
        assert!(reports.recv().await.is_none(), "no heartbeat after the end");
    }
}

#[tokio::test]
async fn draining_gives_back_what_has_not_begun_and_waits_for_what_runs() {
    for step in [patient(), blocking_patient()] {
        let manager = manager(&step, limits(1));
        let (sender, mut reports) = mpsc::channel(64);
        let (first, cancel) = task("patient", "1");
        manager.submit(first, &sender).unwrap();
        began(&mut reports).await;
        manager.submit(task("patient", "2").0, &sender).unwrap();
        assert_eq!(manager.drain(Duration::from_millis(1)).await, 1);
        assert!(manager.submit(task("patient", "3").0, &sender).is_err());
        cancel.cancel();
        // It ends as soon as nothing runs any more.
        let drained = manager.drain(Duration::from_secs(3600));
        let drained = tokio::time::timeout(Duration::from_secs(120), drained).await;
        assert_eq!(drained.expect("it does not wait for its limit"), 0);
        let (name, reason, ..) = ended(&mut reports).await.unwrap_err();
        assert_eq!((name.as_str(), reason.as_str()), ("returned", ""));
        assert_eq!(ended(&mut reports).await.unwrap(), r#""was cancelled""#);
    }
}

#[tokio::test]
async fn limits_that_make_no_sense_are_refused_with_their_place() {
    let error = |step: Arc<Probe>, options: Options| {
        Executor::new(&[step as Arc<dyn AnyStep>], &options)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let of = |name: &str, share: Share| Options {
        steps: [(name.to_owned(), share)].into(),
        ..Options::default()
    };
    let none = Share::default();
    assert_eq!(
        error(echo(), of("ecko", none)),
        "workers.steps.ecko: no step struct of this binary has that step type; did you mean `echo`?"
    );
    let minimum = Share { minimum: Some(40), ..none };
    assert_eq!(
        error(blocking_nap(), of("nap", minimum)),
        "workers.steps.nap: `minimum` (40) is more than `maximum` (32)"
    );
    let text = "workers.steps.nap: `minimum` counts threads, and the step struct of `nap` is not `blocking`: leave it out";
    assert_eq!(error(nap(), of("nap", minimum)), text);
    let nothing = Share { maximum: Some(0), ..none };
    assert_eq!(
        error(nap(), of("nap", nothing)),
        "workers.steps.nap: `maximum` and `max_queued` must be at least 1"
    );
    assert_eq!(
        error(nap(), Options { tasks: nothing, ..Options::default() }),
        "workers.tasks: `maximum` and `max_queued` must be at least 1"
    );
    let threads = Options { threads: nothing, ..Options::default() };
    assert_eq!(
        error(blocking_nap(), threads),
        "workers.threads: `maximum` and `max_queued` must be at least 1"
    );
}

#[tokio::test]
async fn what_is_said_of_a_step_type_wins_and_what_is_not_said_is_as_for_the_others() {
    let options = Options {
        threads: Share { maximum: Some(7), max_queued: Some(70), ..Share::default() },
        steps: [(
            "nap".to_owned(),
            Share { minimum: Some(2), max_queued: Some(9), ..Share::default() },
        )]
        .into(),
        ..Options::default()
    };
    let manager = Executor::new(&[blocking_nap() as Arc<dyn AnyStep>, echo()], &options).unwrap();
    let limits: Vec<Limits> = manager.list().iter().map(|listing| listing.limits).collect();
    let echo = Limits { minimum: 0, maximum: 1024, max_queued: 8192 };
    assert_eq!(limits, [echo, Limits { minimum: 2, maximum: 7, max_queued: 9 }]);
}
