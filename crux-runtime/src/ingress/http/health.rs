//! Health, for people, supervisors and load balancers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::ingress::Shared;
use crate::ingress::caller::Caller;
use crate::ingress::problem::Problem;
use crate::ingress::service::Health;

/// 503 if it cannot work.
pub(in crate::ingress) async fn health(
    State(ingress): State<Shared>,
    caller: Caller,
) -> Result<Response, Problem> {
    let Health { is_able, report } = ingress.service.health(&caller).await?;
    let status = if is_able { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(report)).into_response())
}

pub(in crate::ingress) async fn live(
    State(ingress): State<Shared>,
    caller: Caller,
) -> Result<Response, Problem> {
    Ok(answer("failing", ingress.service.live(&caller)?))
}

pub(in crate::ingress) async fn ready(
    State(ingress): State<Shared>,
    caller: Caller,
) -> Result<Response, Problem> {
    Ok(answer("not ready", ingress.service.ready(&caller).await?))
}

fn answer(word: &str, state: Result<(), String>) -> Response {
    match state {
        Ok(()) => Json(json!({"status": "ok"})).into_response(),
        Err(problem) => {
            let body = Json(json!({"status": word, "problem": problem}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}
