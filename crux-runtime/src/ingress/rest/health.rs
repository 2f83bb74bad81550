//! Health, for people and for whatever restarts or routes around a process.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::Shared;
use crate::bus::local::Listing;
use crate::store::{Filter, InUse};

/// Everything at a glance; 503 if it cannot work.
pub(super) async fn health(State(ingress): State<Shared>) -> Response {
    let store = store(&ingress).await;
    let bus = ingress.engine.bus().health();
    let is_stopping = ingress.is_stopping();
    let missing = ingress.engine.missing_definitions();
    let word = match (&store, &bus, is_stopping) {
        (Err(_), ..) => "failing",
        (Ok(()), _, true) => "stopping",
        (Ok(()), Err(_), _) => "degraded",
        (Ok(()), Ok(()), false) if !missing.is_empty() => "degraded",
        (Ok(()), Ok(()), false) => "ok",
    };
    let said = |result: &Result<(), String>| match result {
        Ok(()) => json!({"status": "ok", "problem": ""}),
        Err(problem) => json!({"status": "failing", "problem": problem}),
    };
    let services: serde_json::Map<String, Value> = ingress.services.list().into_iter().map(service).collect();
    let mut body = json!({
        "status": word,
        "version": env!("CARGO_PKG_VERSION"),
        "environment": ingress.settings.environment,
        "uptime_s": ingress.began.elapsed().as_secs(),
        "has_recovered": ingress.engine.has_recovered(),
        "store": said(&store),
        "bus": said(&bus),
        "services": services,
    });
    body["definitions"] = definitions(&missing);
    let clock = ingress.engine.clock();
    body["clock"] =
        json!({"status": if clock.behind_ms == 0 { "ok" } else { "jumped" }, "behind_ms": clock.behind_ms, "jumps": clock.jumps});
    if let Some(nodes) = ingress.engine.nodes() {
        body["nodes"] = nodes.iter().map(|node| json!(node)).collect();
    }
    let status = if store.is_err() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(body)).into_response()
}

/// Instances that stand still because nobody has their definition.
fn definitions(missing: &[InUse]) -> Value {
    let one = |in_use: &InUse| {
        let InUse { workflow, version, definition, instances } = in_use;
        json!({"workflow": workflow, "version": version, "definition": definition, "instances": instances})
    };
    let count: u64 = missing.iter().map(|in_use| in_use.instances).sum();
    let problem = match missing {
        [] => String::new(),
        _ => format!("{count} instances stand still: this binary does not have their definitions"),
    };
    let word = if missing.is_empty() { "ok" } else { "failing" };
    json!({"status": word, "problem": problem, "missing": missing.iter().map(one).collect::<Vec<_>>()})
}

/// A service as its last call showed it; nobody calls one only to see whether it is there.
fn service(listing: Listing) -> (String, Value) {
    let word = match (&listing.problem, listing.is_tried) {
        (Some(_), _) => "failing",
        (None, true) => "ok",
        (None, false) => "unused",
    };
    let said = json!({"status": word, "problem": listing.problem.unwrap_or_default()});
    (listing.service, said)
}

/// The process answers; nothing more is asked.
pub(super) async fn live() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// Whether to send requests here.
pub(super) async fn ready(State(ingress): State<Shared>) -> Response {
    let problem = if ingress.is_stopping() { Err("the server is shutting down".to_owned()) } else { store(&ingress).await };
    match problem {
        Ok(()) => Json(json!({"status": "ok"})).into_response(),
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "not ready", "problem": problem}))).into_response(),
    }
}

/// The cheapest question that reaches it.
async fn store(ingress: &Shared) -> Result<(), String> {
    let asked = ingress.engine.store().list(Filter { limit: 1, ..Filter::default() });
    match tokio::time::timeout(std::time::Duration::from_secs(5), asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store has not answered for 5 s".to_owned()),
    }
}
