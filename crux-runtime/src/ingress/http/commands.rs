//! Commands of people: cancel, retry, undo, fail, pause, resume; and restart, which
//! starts another one like it.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;

use super::body::JsonBody;
use super::triggers;
use crate::engine::api::Command;
use crate::ingress::Shared;
use crate::ingress::caller::Caller;
use crate::ingress::problem::Problem;
use crate::ingress::requests::{self, CANCELLED, ReasonBody, RetryBody};

/// The command is in the journal; the status shows its effect.
#[derive(Debug, Serialize)]
pub(in crate::ingress) struct CommandAccepted {
    workflow_id: String,
    status: &'static str,
}

type Answer = Result<Json<CommandAccepted>, Problem>;

pub(in crate::ingress) async fn cancel(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    let ReasonBody { reason } = body.parse_or_default()?;
    let reason = if reason.is_empty() { CANCELLED.to_owned() } else { reason };
    command(&ingress, &caller, &id, Command::Cancel { reason }).await
}

pub(in crate::ingress) async fn retry(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    let retry = body.parse_or_default::<RetryBody>()?.into_command()?;
    command(&ingress, &caller, &id, retry).await
}

pub(in crate::ingress) async fn undo(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    body.parse_or_default::<EmptyBody>()?;
    command(&ingress, &caller, &id, Command::Undo).await
}

pub(in crate::ingress) async fn fail(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    let ReasonBody { reason } = body.parse_or_default()?;
    command(&ingress, &caller, &id, Command::Fail { reason }).await
}

pub(in crate::ingress) async fn pause(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    body.parse_or_default::<EmptyBody>()?;
    command(&ingress, &caller, &id, Command::Pause).await
}

pub(in crate::ingress) async fn resume(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody,
) -> Answer {
    body.parse_or_default::<EmptyBody>()?;
    command(&ingress, &caller, &id, Command::Resume).await
}

/// Answered like a start.
pub(in crate::ingress) async fn restart(
    State(ingress): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    body.parse_or_default::<EmptyBody>()?;
    let instance = requests::instance_id(&id)?;
    let request_id = triggers::request_id(&headers, None)?;
    let begun = ingress.service.restart(&caller, instance, request_id).await?;
    Ok(triggers::accepted(begun))
}

/// No fields are known.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

async fn command(ingress: &Shared, caller: &Caller, id: &str, command: Command) -> Answer {
    let instance = requests::instance_id(id)?;
    ingress.service.command(caller, instance, command).await?;
    Ok(Json(CommandAccepted { workflow_id: instance.to_string(), status: "accepted" }))
}
