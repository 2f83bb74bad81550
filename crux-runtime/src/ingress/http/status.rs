//! `GET /api/v1/workflow/status?workflow_id=`: the status document.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use serde::Deserialize;

use super::Query;
use crate::id::InstanceId;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::{Shared, follow, requests};
use crate::view::document::{Fold, Shape, document};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusQuery {
    workflow_id: String,
}

pub(super) async fn status(
    State(ingress): State<Shared>,
    Query(query): Query<StatusQuery>,
) -> Result<Response, Problem> {
    let instance = requests::instance_id(&query.workflow_id)?;
    let (shape, fold) = follow::read(&ingress, instance).await?;
    json(&ingress, instance, &shape, &fold).await
}

/// 200 with the document.
pub(super) async fn json(
    ingress: &Shared,
    instance: InstanceId,
    shape: &Arc<Shape>,
    fold: &Fold,
) -> Result<Response, Problem> {
    let undelivered = follow::undelivered(ingress, instance, shape, fold).await;
    let body =
        serde_json::to_vec(&document(instance, shape, fold, &undelivered)).map_err(|error| {
            Problem::new(Kind::StoreFailed, format!("the document cannot be written: {error}"))
        })?;
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
