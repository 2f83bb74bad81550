//! How many attempts of a trivial step struct go through the worker manager: two tasks in the place
//! of engine shards each keep some hundred attempts in flight. `cargo run --release -p crux-runtime
//! --example worker_rate [SECONDS]`

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crux_runtime::executor::step::any_step;
use crux_runtime::executor::{Cancellation, Executor, Options};
use crux_runtime::id::InstanceId;
use crux_runtime::machine::{
    Contract, EffectKind, Failure, Path, Policy, Raised, Record, Runs, StepType, json,
};
use crux_runtime::task::{Origin, Report, Reported, Task};
use crux_runtime::{Input, Step, StepContext, StepResult};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

#[derive(Record)]
struct Text {
    text: String,
}

enum Never {}

impl Raised for Never {
    fn into_failure(self) -> Failure {
        match self {}
    }
}

struct EchoType;

impl StepType for EchoType {
    const CONTRACT: &'static Contract = &CONTRACT;
    type Input = Text;
    type Output = Text;
    type Error = Never;
}

struct Echo {
    waits: bool,
}

impl crux_runtime::Contract for Echo {
    type Type = EchoType;
}

impl Step for Echo {
    async fn run(&self, input: Input<Self>, _: &StepContext) -> StepResult<Self> {
        if self.waits {
            tokio::task::yield_now().await;
        }
        Ok(input)
    }
}

static CONTRACT: Contract = Contract {
    step_type: "echo",
    runs: Runs::Class("Echo"),
    effect: EffectKind::Idempotent,
    reports_started: true,
    payload: false,
    raises: &[],
    check_input: json::check::<Text>,
    check_result: json::check::<Text>,
    input_schema: "{}",
    output_schema: "{}",
};

static POLICY: Policy = Policy::ONCE;

/// In the place of an engine shard: hands out a task for each result.
async fn shard(manager: Executor, in_flight: usize, done: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let (sender, mut reports) = mpsc::channel::<Report>(8192);
    let origin = Arc::new(Origin {
        workflow: "bench".into(),
        workflow_id: "019aaaaa-aaaa-7aaa-8aaa-aaaaaaaaaaaa".to_owned(),
        request_id: "req-1".to_owned(),
        traceparent: String::new(),
        tokens: None,
        payload: Arc::from(RawValue::NULL.to_owned()),
    });
    let input: Arc<RawValue> =
        Arc::from(json::encode(&Text { text: "x".repeat(200) }).expect("a text encodes"));
    let submit = || {
        let task = Task {
            instance: InstanceId([0; 16]),
            path: Path::new(1),
            path_text: Cow::Borrowed("a"),
            attempt: 1,
            contract: &CONTRACT,
            policy: &POLICY,
            input: input.clone(),
            own_key: None,
            heartbeat_ms: None,
            origin: origin.clone(),
            cancellation: Cancellation::default(),
        };
        assert!(
            manager.submit(task, &sender).is_ok(),
            "the queue has room for all that are in flight"
        );
    };
    for _ in 0..in_flight {
        submit();
    }
    let mut round = Vec::with_capacity(512);
    while !stop.load(Ordering::Relaxed) {
        reports.recv_many(&mut round, 512).await;
        let ended = round
            .drain(..)
            .filter(|report| matches!(report.what, Reported::Completed { .. }))
            .count();
        done.fetch_add(u64::try_from(ended).unwrap_or(0), Ordering::Relaxed);
        for _ in 0..ended {
            submit();
        }
    }
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3.0);
    println!("{:<28} {:>10} {:>12} {:>12}", "step", "in flight", "attempts/s", "CPU µs each");
    for (name, waits) in [("ends immediately", false), ("waits once", true)] {
        for in_flight in [1, 256, 4096] {
            let (rate, cpu_us) = measure(waits, in_flight, seconds);
            println!("{name:<28} {in_flight:>10} {rate:>12.0} {cpu_us:>12.2}");
        }
    }
}

fn measure(waits: bool, in_flight: usize, seconds: f64) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let manager = Executor::new(&[any_step(Echo { waits })], &Options::default())
            .expect("the limits are the default ones");
        let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for _ in 0..in_flight.min(2) {
            tokio::spawn(shard(manager.clone(), in_flight.div_ceil(2), done.clone(), stop.clone()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (began, cpu_before, before) =
            (Instant::now(), cpu_seconds(), done.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        let count = (done.load(Ordering::Relaxed) - before) as f64;
        let measured =
            (count / began.elapsed().as_secs_f64(), (cpu_seconds() - cpu_before) * 1e6 / count);
        stop.store(true, Ordering::Relaxed);
        measured
    })
}

/// User and system time of this process (Linux; elsewhere 0).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or("")
        .split(' ')
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    fields.get(11..13).map_or(0.0, |ticks| ticks.iter().sum::<f64>() / 100.0)
}
