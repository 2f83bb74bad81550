//! What services tell of their steps: `step-completed`, and if they like `step-started` and
//! `step-heartbeat`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::engine::api::ProgressKind;
use crate::ingress::Shared;
use crate::ingress::http::body::JsonBody;
use crate::ingress::problem::Problem;
use crate::ingress::requests::{CompletionBody, ProgressBody, word};

/// What became of it, and of what.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    status: &'static str,
    workflow_id: String,
    /// As it was given.
    step_id: String,
}

pub(super) async fn completed(
    State(ingress): State<Shared>,
    body: JsonBody,
) -> Result<Json<Told>, Problem> {
    let completion = body.parse::<CompletionBody>()?.into_completion()?;
    let (workflow_id, step_id) = (completion.instance.to_string(), completion.step.to_string());
    let completed = ingress.engine.complete(completion).await?;
    Ok(Json(Told { status: word(completed), workflow_id, step_id }))
}

pub(super) async fn started(
    State(ingress): State<Shared>,
    body: JsonBody,
) -> Result<Json<Told>, Problem> {
    progress(&ingress, &body, ProgressKind::Began).await
}

pub(super) async fn heartbeat(
    State(ingress): State<Shared>,
    body: JsonBody,
) -> Result<Json<Told>, Problem> {
    progress(&ingress, &body, ProgressKind::Heartbeat).await
}

async fn progress(
    ingress: &Shared,
    body: &JsonBody,
    what: ProgressKind,
) -> Result<Json<Told>, Problem> {
    let progress = body.parse::<ProgressBody>()?.into_progress(what)?;
    let (workflow_id, step_id) = (progress.instance.to_string(), progress.step.to_string());
    ingress.engine.progress(progress).await?;
    Ok(Json(Told { status: "accepted", workflow_id, step_id }))
}
