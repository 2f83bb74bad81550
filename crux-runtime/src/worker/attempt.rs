//! One attempt in this process: from the broker's delivery to the confirm of its result.
//!
//! What may begin twice is acknowledged when the broker has the result, or, of what takes longer,
//! the word that it has begun: from then on its signs of life are what servers go by. What must not
//! begin twice is said to begin, and acknowledged, before it does.

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
use crate::worker::slots::{Crew, Place};

/// Reports of an attempt that are not looked at yet: it has began, and ended.
const REPORTS: usize = 4;

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
    error: Option<Complaint>,
}

#[derive(Serialize)]
struct Complaint {
    name: String,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// What is needed to speak of an attempt.
struct About {
    workflow_id: InstanceId,
    step_id: StepId,
    step_type: &'static str,
    attempt: u32,
    id: String,
    correlation_id: String,
    traceparent: String,
}

pub(super) async fn run(
    mut place: Place,
    contract: &'static Contract,
    order: Order,
    delivery: Delivery,
) {
    let Delivery { is_again, receipt, .. } = delivery;
    let about = About {
        workflow_id: order.workflow_id,
        step_id: order.step_id,
        step_type: contract.step_type,
        attempt: order.attempt,
        id: order.id(),
        correlation_id: order.correlation_id(),
        traceparent: order.traceparent.clone(),
    };
    let crew = place.crew.clone();
    let once = order.once;
    if once && is_again {
        // Another worker may have begun with it. If it still is at it, its signs of life say so; if
        // not, silence will.
        info!(
            task = about.id,
            "a task that must not begin twice was delivered again, and is left to whoever has begun with it"
        );
        crew.say(about.started()).await;
        receipt.done().await;
        return;
    }
    let cancellation = crate::executor::Cancellation::default();
    if !place.begin(&order, cancellation.clone()) {
        debug!(task = about.id, "a task that is under way here came once more");
        receipt.done().await;
        return;
    }
    let mut receipt = Some(receipt);
    if once {
        crew.say(about.started()).await;
        let is_ours = match receipt.take() {
            Some(receipt) => receipt.done().await,
            None => false,
        };
        if !is_ours {
            return;
        }
    }
    let task = Task { cancellation, ..order.task(contract) };
    let (reports, mut reported) = mpsc::channel(REPORTS);
    if crew.manager.submit(task, &reports).is_err() {
        return not_begun(&crew, &about, receipt).await;
    }
    drop(reports);
    while let Some(report) = reported.recv().await {
        match report.what {
            Reported::Began => {
                if let Some(receipt) = receipt.take() {
                    crew.say(about.started()).await;
                    receipt.done().await;
                }
            }
            Reported::Completed { result } => {
                crew.say(about.completed(&crew, Ok(result))).await;
                break;
            }
            Reported::Failed(failed) => {
                crew.say(about.completed(&crew, Err(failed))).await;
                break;
            }
            Reported::Undelivered { .. } | Reported::Returned => {
                return not_begun(&crew, &about, receipt).await;
            }
            Reported::Delivered | Reported::Heartbeat => {}
        }
    }
    if let Some(receipt) = receipt {
        receipt.done().await;
    }
}

/// The process ends before the attempt has begun.
async fn not_begun(crew: &Crew, about: &About, receipt: Option<Box<dyn Receipt>>) {
    match receipt {
        Some(receipt) => receipt.give_back().await,
        None => {
            let failure =
                Failure::new(Failure::ERROR, "the worker ended before it began with the attempt");
            let failed =
                AttemptFailed { outcome: Outcome::Failed, failure, retry: None, after_ms: None };
            crew.say(about.completed(crew, Err(failed))).await;
        }
    }
}

impl About {
    fn started(&self) -> Message {
        let Self { workflow_id, step_id, attempt, .. } = *self;
        self.message(STARTED, &Started { workflow_id, step_id, attempt })
    }

    fn completed(&self, crew: &Crew, outcome: Result<Box<RawValue>, AttemptFailed>) -> Message {
        let outcome = outcome.and_then(|result| match result.get().len() {
            length if length > crew.max_result_bytes => Err(too_big(length, crew.max_result_bytes)),
            _ => Ok(result),
        });
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(AttemptFailed { failure, retry, after_ms, .. }) => {
                let Failure { name, message } = failure;
                let after = after_ms.map(|after| format!("{after}ms"));
                (None, Some(Complaint { name: name.into_owned(), message, retry, after }))
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
