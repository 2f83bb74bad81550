//! What services report about their steps: `step-completed`, and if they like `step-started` and
//! `step-heartbeat`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::body::JsonBody;
use crate::engine::api::ProgressKind;
use crate::ingress::Shared;
use crate::ingress::caller::Caller;
use crate::ingress::problem::Problem;
use crate::ingress::requests::{CompletionBody, ProgressBody, word};

/// The report was taken.
#[derive(Debug, Serialize)]
pub(in crate::ingress) struct StepAccepted {
    status: &'static str,
    workflow_id: String,
    /// As it was given.
    step_id: String,
}

type Answer = Result<Json<StepAccepted>, Problem>;

pub(in crate::ingress) async fn completed(
    State(ingress): State<Shared>,
    caller: Caller,
    body: JsonBody,
) -> Answer {
    let mut body = body.parse::<CompletionBody>()?;
    let caller = ingress.authenticator.of_report(&caller, body.take_token()).await?;
    let completion = body.into_completion()?;
    let (workflow_id, step_id) = (completion.instance.to_string(), completion.step.to_string());
    let completed = ingress.service.complete(&caller, completion).await?;
    Ok(Json(StepAccepted { status: word(completed), workflow_id, step_id }))
}

pub(in crate::ingress) async fn started(
    State(ingress): State<Shared>,
    caller: Caller,
    body: JsonBody,
) -> Answer {
    progress(&ingress, &caller, &body, ProgressKind::Began).await
}

pub(in crate::ingress) async fn heartbeat(
    State(ingress): State<Shared>,
    caller: Caller,
    body: JsonBody,
) -> Answer {
    progress(&ingress, &caller, &body, ProgressKind::Heartbeat).await
}

async fn progress(
    ingress: &Shared,
    caller: &Caller,
    body: &JsonBody,
    what: ProgressKind,
) -> Answer {
    let mut body = body.parse::<ProgressBody>()?;
    let caller = ingress.authenticator.of_report(caller, body.take_token()).await?;
    let progress = body.into_progress(what)?;
    let (workflow_id, step_id) = (progress.instance.to_string(), progress.step.to_string());
    ingress.service.progress(&caller, progress).await?;
    Ok(Json(StepAccepted { status: "accepted", workflow_id, step_id }))
}
