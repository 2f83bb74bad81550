//! One attempt in this process: from the broker's delivery to the confirmed result.
//!
//! A task that may be repeated is acknowledged once its result is published or, if it takes longer,
//! once it is reported as started: from then on servers rely on its heartbeats. An at-most-once task
//! is reported as started, and acknowledged, before it runs.

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tracing::{debug, info};

use crate::bus::Message;
use crate::bus::broker::task_delivery::{Delivery, Order, Receipt};
use crate::bus::routing_keys::{COMPLETED, STARTED};
use crate::id::{InstanceId, StepId};
use crate::machine::{AttemptFailed, Contract, Failure, Outcome};
use crate::task::{Reported, Task};
use crate::worker::slots::{SlotGuard, Worker};

/// Reports of an attempt that are not looked at yet: it has began, and ended.
const REPORTS_QUEUED_MAX: usize = 4;

#[derive(Serialize)]
struct Started {
    workflow_id: InstanceId,
    step_id: StepId,
    attempt: u32,
}

/// As services say it.
#[derive(Serialize)]
struct Completed<'a> {
    workflow_id: InstanceId,
    step_id: StepId,
    step_type: &'a str,
    attempt: u32,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ReportedError>,
}

#[derive(Serialize)]
struct ReportedError {
    name: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// Identifies an attempt in reports and logs.
struct AttemptMeta {
    workflow_id: InstanceId,
    step_id: StepId,
    step_type: &'static str,
    attempt: u32,
    id: String,
    correlation_id: String,
    traceparent: String,
}

pub(super) async fn run(
    mut slot: SlotGuard,
    contract: &'static Contract,
    order: Order,
    delivery: Delivery,
) {
    let Delivery { is_again, receipt, .. } = delivery;
    let meta = AttemptMeta {
        workflow_id: order.workflow_id,
        step_id: order.step_id,
        step_type: contract.step_type,
        attempt: order.attempt,
        id: order.id(),
        correlation_id: order.correlation_id(),
        traceparent: order.traceparent.clone(),
    };
    let worker = slot.worker.clone();
    let once = order.once;
    if once && is_again {
        // Another worker may have begun it. If it is still running there, its heartbeats say so; if
        // not, the heartbeat timeout fails it.
        info!(
            task = meta.id,
            "an at-most-once task was redelivered; it is left to the worker that has begun it"
        );
        worker.say(meta.started()).await;
        receipt.done().await;
        return;
    }
    let cancellation = crate::executor::Cancellation::default();
    if !slot.begin(&order, cancellation.clone()) {
        debug!(task = meta.id, "a task that is running here was delivered again");
        receipt.done().await;
        return;
    }
    let mut receipt = Some(receipt);
    if once {
        worker.say(meta.started()).await;
        let is_ours = match receipt.take() {
            Some(receipt) => receipt.done().await,
            None => false,
        };
        if !is_ours {
            return;
        }
    }
    let task = Task { cancellation, ..order.task(contract) };
    let (reports, mut reported) = mpsc::channel(REPORTS_QUEUED_MAX);
    if worker.manager.submit(task, &reports).is_err() {
        return not_begun(&worker, &meta, receipt).await;
    }
    drop(reports);
    while let Some(report) = reported.recv().await {
        match report.what {
            Reported::Began => {
                if let Some(receipt) = receipt.take() {
                    worker.say(meta.started()).await;
                    receipt.done().await;
                }
            }
            Reported::Completed { result } => {
                worker.say(meta.completed(&worker, Ok(result))).await;
                break;
            }
            Reported::Failed(failed) => {
                worker.say(meta.completed(&worker, Err(failed))).await;
                break;
            }
            Reported::Undelivered { .. } | Reported::Returned => {
                return not_begun(&worker, &meta, receipt).await;
            }
            Reported::Delivered | Reported::Heartbeat => {}
        }
    }
    if let Some(receipt) = receipt {
        receipt.done().await;
    }
}

/// The process ends before the attempt has begun.
async fn not_begun(worker: &Worker, meta: &AttemptMeta, receipt: Option<Box<dyn Receipt>>) {
    match receipt {
        Some(receipt) => receipt.give_back().await,
        None => {
            let failure =
                Failure::new(Failure::ERROR, "the worker ended before it began with the attempt");
            let failed =
                AttemptFailed { outcome: Outcome::Failed, failure, retry: None, after_ms: None };
            worker.say(meta.completed(worker, Err(failed))).await;
        }
    }
}

impl AttemptMeta {
    fn started(&self) -> Message {
        let Self { workflow_id, step_id, attempt, .. } = *self;
        self.message(STARTED, &Started { workflow_id, step_id, attempt })
    }

    fn completed(&self, worker: &Worker, outcome: Result<Box<RawValue>, AttemptFailed>) -> Message {
        let outcome = outcome.and_then(|result| match result.get().len() {
            length if length > worker.max_result_bytes => {
                Err(too_big(length, worker.max_result_bytes))
            }
            _ => Ok(result),
        });
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(AttemptFailed { failure, retry, after_ms, .. }) => {
                let Failure { name, message } = failure;
                let after = after_ms.map(|after| format!("{after}ms"));
                (None, Some(ReportedError { name: name.into_owned(), message, retry, after }))
            }
        };
        let Self { workflow_id, step_id, step_type, attempt, .. } = *self;
        self.message(
            COMPLETED,
            &Completed {
                workflow_id,
                step_id,
                step_type,
                attempt,
                success: error.is_none(),
                result,
                error,
            },
        )
    }

    fn message(&self, routing_key: &'static str, body: &impl Serialize) -> Message {
        Message {
            routing_key,
            id: self.id.clone(),
            correlation_id: self.correlation_id.clone(),
            traceparent: self.traceparent.clone(),
            // Texts, numbers and a value that was JSON before always encode.
            body: crate::machine::json::raw(body).unwrap_or_else(|_| RawValue::NULL.to_owned()),
        }
    }
}

fn too_big(length: usize, limit: usize) -> AttemptFailed {
    let text = format!(
        "the result has {length} bytes, the limit is {limit}: keep big data elsewhere and pass its address"
    );
    AttemptFailed {
        outcome: Outcome::Failed,
        failure: Failure::new(Failure::INVALID_RESULT, text),
        retry: None,
        after_ms: None,
    }
}
