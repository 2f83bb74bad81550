//! What a person tells an instance: cancel, retry, undo, fail, pause, resume; and restart, which
//! starts another one like it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::{middleware, triggers};
use crate::engine::api;
use crate::engine::api::{Command, Start};
use crate::ingress::http::body::JsonBody;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests;
use crate::ingress::requests::{ReasonBody, RetryBody};
use crate::ingress::{Shared, follow};

/// The command is in the journal; what comes of it is told by the status.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    workflow_id: String,
    status: &'static str,
}

type Answer = Result<Json<Told>, Problem>;

pub(super) async fn cancel(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    let ReasonBody { reason } = body.parse_or_default()?;
    command(&ingress, &id, Command::Cancel { reason: or(reason, "cancelled by a person") }).await
}

pub(super) async fn retry(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    let retry = body.parse_or_default::<RetryBody>()?.into_command()?;
    command(&ingress, &id, retry).await
}

pub(super) async fn undo(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    body.parse_or_default::<Nothing>()?;
    command(&ingress, &id, Command::Undo).await
}

pub(super) async fn fail(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    let ReasonBody { reason } = body.parse_or_default()?;
    command(&ingress, &id, Command::Fail { reason }).await
}

pub(super) async fn pause(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    body.parse_or_default::<Nothing>()?;
    command(&ingress, &id, Command::Pause).await
}

pub(super) async fn resume(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    body.parse_or_default::<Nothing>()?;
    command(&ingress, &id, Command::Resume).await
}

/// Starts a new instance of the same workflow with the same input. Only of an instance that has
/// ended: two that do the same work at the same time are never what was meant.
pub(super) async fn restart(
    State(ingress): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    body.parse_or_default::<Nothing>()?;
    ingress.check_open()?;
    let instance = requests::instance_id(&id)?;
    let record = ingress
        .engine
        .store()
        .record(instance)
        .await?
        .ok_or(api::Error::UnknownInstance(instance))?;
    if !record.status.is_ended() {
        let text =
            format!("the instance is {}: cancel it first, or let it end", record.status.word());
        return Err(Problem::new(Kind::InvalidState, text));
    }
    let started = follow::first_row(&ingress, instance).await?;
    let start = Start {
        workflow: started.workflow,
        input: started.input,
        request_id: triggers::request_id(&headers, None)?,
        owner: record.owner,
        trigger: format!("restart of {instance}"),
        traceparent: middleware::traceparent(&headers),
    };
    let started = ingress.engine.start(start).await?;
    Ok(triggers::accepted(&started, Vec::new()))
}

/// A body that says nothing.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn command(ingress: &Shared, id: &str, command: Command) -> Answer {
    let instance = requests::instance_id(id)?;
    ingress.engine.command(instance, command).await?;
    Ok(Json(Told { workflow_id: instance.to_string(), status: "accepted" }))
}

fn or(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}
