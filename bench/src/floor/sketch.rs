//! The sketch: the smallest program that does the same job. Ten steps one after the other, each
//! step's result decoded from JSON, the next input encoded, one JSON row per transition, durable by
//! one committer thread that takes what is there. No retries, no timeouts, no recovery, no
//! questions answered: what is left to an engine is the distance to this.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::committer::{Committer, Committing};
use crate::Outcome;
use crate::measure::{Meter, Process};
use crux_bench::steps::{STEPS, note, receipt};

#[derive(Debug, Serialize, Deserialize)]
struct Input {
    order: String,
    before: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Output {
    receipt: String,
    note: String,
}

/// A sketch whose instances are started elsewhere.
pub struct Sketch {
    committer: Committer,
    committing: Committing,
}

impl Sketch {
    pub fn open(file: &Path) -> Outcome<Self> {
        let (committer, committing) = Committer::begin(file)?;
        Ok(Self { committer, committing })
    }

    /// The whole of one instance, until its end is durable.
    pub fn instance(&self, n: u64) -> impl Future<Output = Outcome<()>> + Send + use<> {
        let committer = self.committer.clone();
        async move {
            instance_of(u128::from(n).to_be_bytes(), &committer)
                .await
                .ok_or_else(|| "the sketch's committer has ended".into())
        }
    }

    /// When all instances have ended.
    pub fn close(self) -> Outcome<()> {
        drop(self.committer);
        self.committing.end()
    }
}

/// What a run of the sketch came to.
#[derive(Debug)]
pub struct Sketched {
    pub steps_per_s: f64,
    pub cpu_us_per_step: Option<f64>,
    pub written_per_row: Option<f64>,
}

/// Keeps `in_flight` instances going for `time`.
pub fn run(directory: &Path, in_flight: usize, time: Duration) -> Outcome<Sketched> {
    let (committer, committing) =
        Committer::begin(&directory.join(format!("sketch-{in_flight}.db")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let meter = Meter::begin(Process::own());
    let begun = Instant::now();
    let steps = runtime.block_on(async {
        let lanes: Vec<_> = (0..in_flight as u64)
            .map(|lane| tokio::spawn(instances(lane, committer.clone(), begun + time)))
            .collect();
        drop(committer);
        let mut steps = 0;
        for lane in lanes {
            steps += lane.await?;
        }
        Ok::<u64, tokio::task::JoinError>(steps)
    })?;
    let taken = begun.elapsed();
    let sketched = Sketched {
        steps_per_s: steps as f64 / taken.as_secs_f64(),
        cpu_us_per_step: meter.cpu_us_per(steps),
        written_per_row: meter.written_per(steps + steps / u64::from(STEPS)),
    };
    committing.end()?;
    Ok(sketched)
}

/// One instance after the other until the time is over; how many steps that were.
async fn instances(lane: u64, committer: Committer, until: Instant) -> u64 {
    let mut steps = 0;
    let mut n = 0;
    while Instant::now() < until {
        let instance = ((u128::from(lane) << 64) | n).to_be_bytes();
        n += 1;
        if instance_of(instance, &committer).await.is_none() {
            break;
        }
        steps += u64::from(STEPS);
    }
    steps
}

async fn instance_of(instance: [u8; 16], committer: &Committer) -> Option<()> {
    let order = format!("ORD-{:08}", instance[15]);
    let begin = format!(
        r#"{{"v":1,"at":1764000000000,"events":[{{"type":"started","started":{{"workflow":"ten","version":1,"input":{{"order":"{order}"}}}}}}],"out":[{{"type":"step_started","path":"s01","attempt":1}}]}}"#
    );
    let mut prev = committer.append(instance, 1, 0, begin).await?;
    let mut before = String::from("none");
    for step in 1..=STEPS {
        let input = serde_json::to_string(&Input { order: order.clone(), before }).ok()?;
        let result = attempt(&input)?;
        let body = format!(
            r#"{{"v":1,"at":1764000000000,"events":[{{"type":"step_completed","path":"s{step:02}","attempt":1,"result":{result}}}],"out":[{{"type":"step_started","path":"s{:02}","attempt":1}}]}}"#,
            step + 1
        );
        prev = committer.append(instance, step + 1, prev, body).await?;
        before = serde_json::from_str::<Output>(&result).ok()?.receipt;
    }
    Some(())
}

/// The same work as the bench's step struct does.
fn attempt(input: &str) -> Option<String> {
    let input: Input = serde_json::from_str(input).ok()?;
    serde_json::to_string(&Output { receipt: receipt(&input.order, &input.before), note: note() })
        .ok()
}
