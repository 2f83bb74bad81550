//! The body of a task, as services get it: by HTTP push or in a broker's message.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::id::{InstanceId, StepId};
use crate::machine::Runs;
use crate::task::Task;

#[derive(Serialize)]
struct Body<'a> {
    workflow_id: InstanceId,
    step_id: StepId,
    step_type: &'static str,
    attempt: u32,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_token: Option<String>,
    input: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// Only in tasks of step structs.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    work: Option<Work<'a>>,
}

/// What a worker needs besides what services get; it reads all of it as
/// [`crate::bus::broker::task_delivery::Order`].
#[derive(Serialize)]
struct Work<'a> {
    workflow: &'a str,
    path: &'a str,
    request_id: &'a str,
    traceparent: &'a str,
    heartbeat_ms: Option<u64>,
    once: bool,
}

/// `key` is the task's [`Task::key`].
pub(in crate::bus) fn task_body(task: &Task, key: &str) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Body {
        workflow_id: task.instance,
        step_id: task.step_id(),
        step_type: task.contract.step_type,
        attempt: task.attempt,
        key,
        // Workers report by way of the broker, which has let them in.
        completion_token: match task.contract.runs {
            Runs::Service { .. } => task.completion_token(),
            Runs::Class(_) => None,
        },
        input: &task.input,
        payload: task.contract.payload.then_some(&*task.origin.payload),
        work: matches!(task.contract.runs, Runs::Class(_)).then(|| Work {
            workflow: &task.origin.workflow,
            path: &task.path_text,
            request_id: &task.origin.request_id,
            traceparent: &task.origin.traceparent,
            heartbeat_ms: task.heartbeat_ms,
            once: task.is_once(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The body is made from the ids, input and payload of the example, and must be the example
    /// again.
    #[test]
    fn the_task_of_the_page_is_a_task() {
        let page = include_str!("../../../docs/services.md");
        let example =
            page.split("```json task\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let example: Value = serde_json::from_str(example).unwrap();
        let raw = |field: &str| RawValue::from_string(example[field].to_string()).unwrap();
        let (input, payload) = (raw("input"), raw("payload"));
        let workflow_id: InstanceId = example["workflow_id"].as_str().unwrap().parse().unwrap();
        let body = Body {
            workflow_id,
            step_id: workflow_id.step("image_processing"),
            step_type: "image_processing",
            attempt: 1,
            key: &format!("{workflow_id}/image_processing"),
            completion_token: None,
            input: &input,
            payload: Some(&payload),
            work: None,
        };
        assert_eq!(serde_json::to_value(body).unwrap(), example);
    }
}
