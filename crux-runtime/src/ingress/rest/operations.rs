//! For those who run the server: workers, services, figures.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::super::Shared;
use super::super::problem::{Kind, Problem};
use crate::bus::local;
use crate::worker;

#[derive(Serialize)]
pub(super) struct Workers {
    /// Step structs in this process.
    workers: Vec<worker::Listing>,
    /// Services that get their tasks from this process.
    services: Vec<local::Listing>,
}

pub(super) async fn workers(State(ingress): State<Shared>) -> Json<Workers> {
    Json(Workers { workers: ingress.engine.workers().list(), services: ingress.services.list() })
}

pub(super) async fn metrics(State(ingress): State<Shared>) -> Result<Response, Problem> {
    let text = ingress.metrics.render().map_err(|error| Problem::new(Kind::Internal, format!("the figures cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
