//! The body of a task, as services get it: by push here, by a broker's message elsewhere.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::id::{InstanceId, StepId};
use crate::worker::task::Task;

#[derive(Serialize)]
struct Body<'a> {
    workflow_id: InstanceId,
    step_id: StepId,
    step_type: &'static str,
    attempt: u32,
    key: &'a str,
    input: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

/// `key` is the task's [`Task::key`].
pub(super) fn task_body(task: &Task, key: &str) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Body {
        workflow_id: task.instance,
        step_id: task.step_id(),
        step_type: task.contract.step_type,
        attempt: task.attempt,
        key,
        input: &task.input,
        payload: task.contract.payload.then_some(&*task.origin.payload),
    })
}
