//! Instances of remote steps without Crux: what the floors over brokers have in common. An instance
//! is the number of its step, and its task is written as Crux writes it; no retries, no timeouts,
//! no recovery, no questions answered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crux_runtime::id::{InstanceId, StepId};
use crux_runtime::machine::Time;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::measure::{Latencies, Meter, Process};

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Of each instance.
    pub steps: u32,
    /// At most as many as may be published and not confirmed, so that no window is needed.
    pub in_flight: usize,
    pub until: Until,
}

/// When no more instances are started.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    Over(Duration),
    Started(usize),
}

/// What it came to.
pub struct Floored {
    pub steps_per_s: f64,
    pub cpu_us_per_step: Option<f64>,
    /// Of whole instances.
    pub latencies: Latencies,
}

pub(super) struct Instance {
    pub id: InstanceId,
    pub text: String,
    /// The running step, from 1 on; 0: none yet.
    pub step: u32,
    /// The row before.
    pub prev: i64,
    order: String,
    /// What the step before has given.
    before: String,
    begun: Instant,
}

/// All instances of a run.
pub(super) struct Instances {
    load: Load,
    meter: Meter,
    begun: Instant,
    started: usize,
    steps: u64,
    latencies: Latencies,
    /// Those with a task in flight.
    open: HashMap<String, Instance>,
}

impl Instances {
    /// Time and CPU time count from now on.
    pub fn begin(load: Load) -> Self {
        let meter = Meter::begin(Process::own());
        Self {
            load,
            meter,
            begun: Instant::now(),
            started: 0,
            steps: 0,
            latencies: Latencies::default(),
            open: HashMap::new(),
        }
    }

    /// The next one, whose first row is to be appended; `None`: there are enough.
    pub fn start(&mut self) -> Option<Instance> {
        let goes_on = match self.load.until {
            Until::Over(time) => self.begun.elapsed() < time,
            Until::Started(count) => self.started < count,
        };
        goes_on.then(|| {
            self.started += 1;
            let mut random = [0; 10];
            random[2..].copy_from_slice(&self.started.to_be_bytes());
            let id = InstanceId::new(Time(1_764_000_000_000), random, None);
            let order = format!("ORD-{:012}", self.started);
            Instance {
                id,
                text: id.to_string(),
                step: 0,
                prev: 0,
                order,
                before: "CUST-89101".to_owned(),
                begun: Instant::now(),
            }
        })
    }

    /// Those that are kept going from the beginning.
    pub fn first(&mut self) -> Vec<Instance> {
        (0..self.load.in_flight).filter_map(|_| self.start()).collect()
    }

    /// Its row is durable: the next step's task, with its id and body. `None`: that was the last
    /// one, and it has ended.
    pub fn next(&mut self, mut instance: Instance) -> Outcome<Option<(String, Vec<u8>)>> {
        if instance.step == self.load.steps {
            self.latencies.add(instance.begun.elapsed());
            return Ok(None);
        }
        instance.step += 1;
        let (workflow_id, path) = (instance.text.as_str(), format!("s{:02}", instance.step));
        let key = format!("{workflow_id}/{path}");
        let body = serde_json::to_vec(&Task {
            workflow_id,
            step_id: instance.id.step(&path),
            step_type: "remote_work",
            attempt: 1,
            key: &key,
            input: Input { order: &instance.order, before: &instance.before },
        })?;
        self.open.insert(instance.text.clone(), instance);
        Ok(Some((format!("{key}/1"), body)))
    }

    /// The instance whose step that is, and whose next row is to be appended.
    pub fn completed(&mut self, body: &[u8]) -> Outcome<Instance> {
        let Completion { workflow_id, result } = serde_json::from_slice(body)?;
        let mut instance = self.open.remove(workflow_id).ok_or("a completion for nobody")?;
        instance.before = result.receipt;
        self.steps += 1;
        Ok(instance)
    }

    /// Whether no task is in flight.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn floored(self) -> Floored {
        let steps_per_s = self.steps as f64 / self.begun.elapsed().as_secs_f64();
        Floored {
            steps_per_s,
            cpu_us_per_step: self.meter.cpu_us_per(self.steps),
            latencies: self.latencies,
        }
    }
}

#[derive(Serialize)]
struct Task<'a> {
    workflow_id: &'a str,
    step_id: StepId,
    step_type: &'a str,
    attempt: u32,
    key: &'a str,
    input: Input<'a>,
}

#[derive(Serialize)]
struct Input<'a> {
    order: &'a str,
    before: &'a str,
}

#[derive(Deserialize)]
struct Completion<'a> {
    workflow_id: &'a str,
    result: Output,
}

#[derive(Deserialize)]
struct Output {
    receipt: String,
    #[serde(rename = "note")]
    _note: String,
}
