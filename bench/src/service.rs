//! The service that does the remote steps, in a separate process, which the bench starts as
//! itself. Crux and floors get the same one: it takes a task, does what the step struct of `ten`
//! does, reports it, and acknowledges the task when the report is safe.

use std::borrow::Cow;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::amqp::{ACK_EVERY, Acks, COMPLETIONS, Line, TASKS, properties};
use crate::measure::Process;
use crate::streams;
use crux_bench::steps::{note, receipt};

/// The first word of the command line by which the bench starts itself as the service.
pub const SERVICE: &str = "service";

/// The process. Killed when it is dropped.
pub struct Service {
    child: Child,
}

impl Service {
    /// Over RabbitMQ, with that exchange and its own queue; returns when it consumes.
    pub fn over_rabbitmq(url: &str, exchange: &str) -> Outcome<Self> {
        Self::start(&["rabbitmq", url, exchange])
    }

    /// Over Redis Streams, as its own group.
    pub fn over_streams(url: &str, prefix: &str) -> Outcome<Self> {
        Self::start(&["redis", url, prefix])
    }

    fn start(arguments: &[&str]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(SERVICE).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut service = Self { child: command.spawn()? };
        let mut said = String::new();
        if let Some(stdout) = service.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said)?;
        }
        // What it says of the reason went to standard error.
        if said.trim() == READY { Ok(service) } else { Err("the service did not begin".into()) }
    }

    pub fn process(&self) -> Process {
        Process::of(&self.child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const READY: &str = "ready";

/// The service itself: `arguments` are those behind its first word.
pub fn serve(arguments: &[String]) -> Outcome<()> {
    let runtime = crate::crux::runtime()?;
    match arguments {
        [bus, url, exchange] if bus == "rabbitmq" => runtime.block_on(rabbitmq(url, exchange)),
        [bus, url, prefix] if bus == "redis" => runtime.block_on(redis(url, prefix)),
        _ => Err("the service is started by the bench".into()),
    }
}

async fn rabbitmq(url: &str, exchange: &str) -> Outcome<()> {
    let line = Line::open(url, exchange).await?;
    let mut tasks = line.consume(&format!("{exchange}.{TASKS}"), TASKS).await?;
    println!("{READY}");
    let mut acks = Acks::default();
    let mut reporting = FuturesUnordered::new();
    let mut tick = tokio::time::interval(ACK_EVERY);
    loop {
        tokio::select! {
            Some(reported) = reporting.next(), if !reporting.is_empty() => {
                acks.done(reported?);
                if acks.is_group() {
                    line.acknowledge(&mut acks).await?;
                }
            }
            task = tasks.next() => {
                let task = task.ok_or("the broker gives no more tasks")??;
                let (tag, reported) = (task.delivery_tag, line.publish(COMPLETIONS, work(&task.data)?, properties()));
                reporting.push(async move { reported.await.map(|()| tag) });
            }
            _ = tick.tick(), if !acks.is_empty() => line.acknowledge(&mut acks).await?,
        }
    }
}

async fn redis(url: &str, prefix: &str) -> Outcome<()> {
    let line = streams::Line::open(url, prefix, TASKS, "workers").await?;
    println!("{READY}");
    let (mut reading, mut reporting) = (FuturesUnordered::new(), FuturesUnordered::new());
    loop {
        if reading.is_empty() {
            reading.push(line.read());
        }
        tokio::select! {
            Some(reported) = reporting.next(), if !reporting.is_empty() => { reported?; }
            Some(tasks) = reading.next() => {
                let tasks = tasks?;
                let mut commands = Vec::with_capacity(tasks.len() + 2);
                for (_, task) in &tasks {
                    commands.push(line.add(COMPLETIONS, "", &work(task)?));
                }
                let ids: Vec<String> = tasks.into_iter().map(|(id, _)| id).collect();
                if !ids.is_empty() {
                    // Behind the reports, so that it is done when they are there.
                    commands.extend(line.settle(&ids));
                    reporting.push(line.send(commands));
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Task<'a> {
    #[serde(borrow)]
    workflow_id: Cow<'a, str>,
    #[serde(borrow)]
    step_id: Cow<'a, str>,
    #[serde(borrow)]
    step_type: Cow<'a, str>,
    attempt: u32,
    #[serde(borrow)]
    input: Input<'a>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    order: Cow<'a, str>,
    #[serde(borrow)]
    before: Cow<'a, str>,
}

#[derive(Serialize)]
struct Completion<'a> {
    workflow_id: &'a str,
    step_id: &'a str,
    step_type: &'a str,
    attempt: u32,
    success: bool,
    result: Output,
}

#[derive(Serialize)]
struct Output {
    receipt: String,
    note: String,
}

/// From a task's body to the body of what is reported.
fn work(task: &[u8]) -> Outcome<Vec<u8>> {
    let Task { workflow_id, step_id, step_type, attempt, input } = serde_json::from_slice(task)?;
    let result = Output { receipt: receipt(&input.order, &input.before), note: note() };
    let (workflow_id, step_id, step_type) = (&*workflow_id, &*step_id, &*step_type);
    Ok(serde_json::to_vec(&Completion {
        workflow_id,
        step_id,
        step_type,
        attempt,
        success: true,
        result,
    })?)
}
