//! For those who run the server: workers, services, figures.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use crate::bus::broker::worker_registry;
use crate::bus::http;
use crate::bus::routing_keys::class_types;
use crate::executor;
use crate::ingress::Shared;
use crate::ingress::problem::{Kind, Problem};

#[derive(Serialize)]
pub(super) struct Workers {
    /// Step structs in this process.
    workers: Vec<executor::Listing>,
    /// Services that get their tasks from this process.
    services: Vec<http::Listing>,
    /// Workers in processes of their own, as far as this node hears them.
    remote: Vec<worker_registry::Listing>,
    /// Step types whose tasks nobody takes: neither this process nor a worker that lives.
    unserved: Vec<&'static str>,
}

pub(super) async fn workers(State(ingress): State<Shared>) -> Json<Workers> {
    let (engine, roster) = (&ingress.engine, ingress.engine.bus().roster());
    let is_unserved = |step_type: &&'static str| {
        !engine.workers().runs(step_type) && !roster.is_some_and(|roster| roster.runs(step_type))
    };
    Json(Workers {
        workers: engine.workers().list(),
        services: ingress.services.list(),
        remote: roster.map_or_else(Vec::new, |roster| roster.list(Timestamp::now().into())),
        unserved: class_types(engine.app()).into_iter().filter(is_unserved).collect(),
    })
}

pub(super) async fn metrics(State(ingress): State<Shared>) -> Result<Response, Problem> {
    ingress.engine.take_census().await;
    let text = ingress.metrics.render().map_err(|error| {
        Problem::new(Kind::Internal, format!("the figures cannot be written: {error}"))
    })?;
    Ok((
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
        text,
    )
        .into_response())
}
