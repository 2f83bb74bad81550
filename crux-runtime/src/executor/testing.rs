//! For tests of step structs by their authors: one attempt without an engine, and without a tokio
//! runtime in the test.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Cancellation;
use crate::executor::step::{Contract, Input, Output, Step, StepContext};
use crate::id::InstanceId;
use crate::machine::{AttemptFailed, Path, Policy, StepType};
use crate::task::{Origin, Task};

/// Runs the first attempt of a step of a separate instance to its end. The failure is what the
/// engine would receive.
///
/// # Panics
///
/// Inside an async function (await [`Step::run`] with [`context`] there), and when the step itself
/// panics.
pub fn run<S: Step>(step: &S, input: Input<S>) -> Result<Output<S>, AttemptFailed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a test may open an event queue of the system");
    runtime.block_on(step.run(input, &context::<S>())).map_err(|error| error.into_failed())
}

/// The surroundings of a first attempt, of a step `test` of a separate instance. Nobody cancels
/// it.
pub fn context<S: Contract>() -> StepContext {
    let instance = InstanceId([0; 16]);
    let nothing: Arc<RawValue> = Arc::from(RawValue::NULL.to_owned());
    let origin = Origin {
        workflow: Cow::Borrowed("test"),
        workflow_id: instance.to_string(),
        request_id: String::new(),
        traceparent: String::new(),
        tokens: None,
        payload: nothing.clone(),
    };
    let task = Task {
        instance,
        path: Path::new(0),
        path_text: Cow::Borrowed("test"),
        attempt: 1,
        contract: <S::Type as StepType>::CONTRACT,
        policy: const { &Policy::ONCE },
        input: nothing,
        own_key: None,
        heartbeat_ms: None,
        origin: Arc::new(origin),
        cancellation: Cancellation::default(),
    };
    StepContext { task }
}
