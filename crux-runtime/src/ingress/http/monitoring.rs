//! For people who run the server: workers, services, metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::ingress::Shared;
use crate::ingress::caller::Caller;
use crate::ingress::problem::Problem;
use crate::ingress::service::Workers;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(in crate::ingress) async fn workers(
    State(ingress): State<Shared>,
    caller: Caller,
) -> Result<Json<Workers>, Problem> {
    ingress.service.workers(&caller).map(Json)
}

pub(in crate::ingress) async fn metrics(
    State(ingress): State<Shared>,
    caller: Caller,
) -> Result<Response, Problem> {
    let text = ingress.service.metrics(&caller).await?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
