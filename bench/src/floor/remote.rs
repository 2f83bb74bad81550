//! Remote steps without Crux: the same messages over RabbitMQ, to and from the same service, with the same confirms and acknowledgements;
//! and, if it is to, the same rows in SQLite. A completion is acknowledged when its row is durable; only then the next task goes out. One
//! task that owns everything: no retries, no time-outs, no returns, no recovery, no questions answered.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crux_runtime::id::{InstanceId, StepId};
use crux_runtime::machine::Time;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};

use super::committer::Committer;
use crate::Outcome;
use crate::amqp::{ACK_EVERY, Acks, COMPLETIONS, Line, TASKS, properties};
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

/// `rows` are the texts of an instance's rows and the folder of their database; without them nothing is appended.
pub fn run(url: &str, exchange: &str, load: Load, rows: Option<(&[String], &Path)>) -> Outcome<Floored> {
    let (appending, committing) = match rows {
        None => (None, None),
        Some((rows, _)) if rows.len() != load.steps as usize + 1 => {
            return Err(format!("an instance of {} steps has {} rows: the floor writes one for each", load.steps, rows.len()).into());
        }
        Some((rows, folder)) => {
            let (committer, committing) = Committer::begin(&folder.join("floor-remote.db"))?;
            (Some((committer, rows.to_vec().into())), Some(committing))
        }
    };
    let floored = crate::crux::runtime()?.block_on(async {
        let line = Line::open(url, exchange).await?;
        let completions = line.consume(&format!("{exchange}.completions"), COMPLETIONS).await?;
        let dispatcher = Dispatcher { line, appending, open: HashMap::new(), load, begun: Instant::now(), started: 0 };
        dispatcher.run(completions).await
    });
    committing.map_or(Ok(()), |committing| committing.end())?;
    floored
}

/// Where the rows go, and what they say.
type Appending = (Committer, Arc<[String]>);

struct Instance {
    id: InstanceId,
    text: String,
    order: String,
    begun: Instant,
    /// The one that is under way, from 1 on; 0: none yet.
    step: u32,
    /// The row before.
    prev: i64,
}

/// A row is durable.
struct Appended {
    instance: Instance,
    /// The delivery that said it.
    tag: Option<u64>,
    /// What the step before has given.
    before: String,
}

struct Dispatcher {
    line: Line,
    appending: Option<Appending>,
    /// Those with a task under way.
    open: HashMap<String, Instance>,
    load: Load,
    begun: Instant,
    started: usize,
}

impl Dispatcher {
    async fn run(mut self, mut completions: lapin::Consumer) -> Outcome<Floored> {
        let meter = Meter::begin(Process::own());
        let (mut acks, mut latencies, mut steps) = (Acks::default(), Latencies::default(), 0);
        let (mut appending, mut publishing) = (FuturesUnordered::new(), FuturesUnordered::new());
        for _ in 0..self.load.in_flight {
            appending.push(append(self.appending.clone(), self.start()));
        }
        let mut tick = tokio::time::interval(ACK_EVERY);
        while !(appending.is_empty() && self.open.is_empty()) {
            tokio::select! {
                Some(appended) = appending.next(), if !appending.is_empty() => {
                    let Appended { instance, tag, before } = appended?;
                    if let Some(tag) = tag {
                        acks.done(tag);
                        steps += 1;
                    }
                    if instance.step < self.load.steps {
                        publishing.push(self.publish(instance, &before)?);
                    } else {
                        latencies.add(instance.begun.elapsed());
                        if self.goes_on() {
                            appending.push(append(self.appending.clone(), self.start()));
                        }
                    }
                    if acks.is_group() {
                        self.line.acknowledge(&mut acks).await?;
                    }
                }
                Some(published) = publishing.next(), if !publishing.is_empty() => published?,
                delivery = completions.next() => {
                    let delivery = delivery.ok_or("the broker gives no more completions")??;
                    let Completion { workflow_id, result } = serde_json::from_slice(&delivery.data)?;
                    let instance = self.open.remove(workflow_id).ok_or("a completion for nobody")?;
                    let appended = Appended { instance, tag: Some(delivery.delivery_tag), before: result.receipt };
                    appending.push(append(self.appending.clone(), appended));
                }
                _ = tick.tick(), if !acks.is_empty() => self.line.acknowledge(&mut acks).await?,
            }
        }
        let steps_per_s = steps as f64 / self.begun.elapsed().as_secs_f64();
        let cpu_us_per_step = meter.cpu_us_per(steps);
        self.line.acknowledge(&mut acks).await?;
        Ok(Floored { steps_per_s, cpu_us_per_step, latencies })
    }

    fn goes_on(&self) -> bool {
        match self.load.until {
            Until::Over(time) => self.begun.elapsed() < time,
            Until::Started(count) => self.started < count,
        }
    }

    /// The next instance, whose first row is to be appended.
    fn start(&mut self) -> Appended {
        self.started += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.started.to_be_bytes());
        let id = InstanceId::new(Time(1_764_000_000_000), random, None);
        let order = format!("ORD-{:012}", self.started);
        let instance = Instance { id, text: id.to_string(), order, begun: Instant::now(), step: 0, prev: 0 };
        Appended { instance, tag: None, before: "CUST-89101".to_owned() }
    }

    /// The next step's task, as Crux writes it.
    fn publish(&mut self, mut instance: Instance, before: &str) -> Outcome<impl Future<Output = Outcome<()>> + use<>> {
        instance.step += 1;
        let (workflow_id, path) = (instance.text.as_str(), format!("s{:02}", instance.step));
        let key = format!("{workflow_id}/{path}");
        let body = serde_json::to_vec(&Task {
            workflow_id,
            step_id: instance.id.step(&path),
            step_type: "remote_work",
            attempt: 1,
            key: &key,
            input: Input { order: &instance.order, before },
        })?;
        let properties = properties().with_app_id("floor".into()).with_message_id(format!("{key}/1").as_str().into());
        let published = self.line.publish(TASKS, body, properties);
        self.open.insert(instance.text.clone(), instance);
        Ok(published)
    }
}

/// Ends when the row that says it is durable, if rows are appended.
async fn append(appending: Option<Appending>, mut appended: Appended) -> Outcome<Appended> {
    if let Some((committer, rows)) = appending {
        let instance = &mut appended.instance;
        let text = rows.get(instance.step as usize).cloned().unwrap_or_default();
        let row = committer.append(instance.id.0, instance.step + 1, instance.prev, text).await;
        instance.prev = row.ok_or("the floor's committer has ended")?;
    }
    Ok(appended)
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
