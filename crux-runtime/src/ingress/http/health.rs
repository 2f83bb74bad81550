//! Health, for people and for whatever restarts or routes around a process.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::bus::http::Listing;
use crate::ingress::Shared;
use crate::store::{Filter, InUse};

/// How long store and engine may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A part of the engine that has been silent for longer does not come back.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Everything at a glance; 503 if it cannot work.
pub(super) async fn health(State(ingress): State<Shared>) -> Response {
    let (store, engine) = tokio::join!(store(&ingress), ingress.engine.answers(ANSWER_TIMEOUT));
    let bus = ingress.engine.bus().health();
    let parked = ingress.engine.bus().parked();
    let is_stopping = ingress.is_stopping();
    let missing = ingress.engine.missing_definitions();
    let word = match (store.as_ref().and(engine.as_ref()), &bus, is_stopping) {
        (.., true) => "stopping",
        (Err(_), ..) => "failing",
        (Ok(_), Err(_), _) => "degraded",
        (Ok(_), Ok(()), false) if !missing.is_empty() || parked.is_some() => "degraded",
        (Ok(_), Ok(()), false) => "ok",
    };
    let said = |result: &Result<(), String>| match result {
        Ok(()) => json!({"status": "ok", "problem": ""}),
        Err(problem) => json!({"status": "failing", "problem": problem}),
    };
    let services: serde_json::Map<String, Value> =
        ingress.services.list().into_iter().map(service).collect();
    let mut body = json!({
        "status": word,
        "version": ingress.engine.app().package.version,
        "runtime": env!("CARGO_PKG_VERSION"),
        "environment": ingress.settings.environment,
        "uptime_s": ingress.began.elapsed().as_secs(),
        "has_recovered": ingress.engine.has_recovered(),
        "store": said(&store),
        "engine": said(&engine),
        "bus": said(&bus),
        "services": services,
    });
    if let (Ok(()), Some(problem)) = (&bus, parked) {
        body["bus"] = json!({"status": "degraded", "problem": problem});
    }
    body["definitions"] = definitions(&missing);
    let clock = ingress.engine.clock();
    body["clock"] = json!({"status": if clock.behind_ms == 0 { "ok" } else { "jumped" }, "behind_ms": clock.behind_ms, "jumps": clock.jumps});
    if let Some(nodes) = ingress.engine.nodes() {
        body["nodes"] = nodes.iter().map(|node| json!(node)).collect();
    }
    let status = if store.is_err() || engine.is_err() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
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

/// Whether the process is worth keeping: it answers, and so does every part of its engine, or did
/// not long ago. Nothing else is asked, for a restart mends nothing else.
pub(super) async fn live(State(ingress): State<Shared>) -> Response {
    match ingress.engine.silent_for() {
        Some(silence) if silence < SILENCE_MAX => Json(json!({"status": "ok"})).into_response(),
        Some(silence) => {
            failing(&format!("the engine has not answered for {} s", silence.as_secs()))
        }
        None => failing("a part of the engine is gone"),
    }
}

fn failing(problem: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "failing", "problem": problem})))
        .into_response()
}

/// Whether to send requests here.
pub(super) async fn ready(State(ingress): State<Shared>) -> Response {
    let problem = if ingress.is_stopping() {
        Err("the server is shutting down".to_owned())
    } else {
        works(&ingress).await
    };
    match problem {
        Ok(()) => Json(json!({"status": "ok"})).into_response(),
        Err(problem) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "not ready", "problem": problem})),
        )
            .into_response(),
    }
}

async fn works(ingress: &Shared) -> Result<(), String> {
    let (store, engine) = tokio::join!(store(ingress), ingress.engine.answers(ANSWER_TIMEOUT));
    store.and(engine)
}

/// The cheapest question that reaches it.
async fn store(ingress: &Shared) -> Result<(), String> {
    if let Some(problem) = ingress.engine.store().problem() {
        return Err(problem);
    }
    let asked = ingress.engine.store().list(Filter { limit: 1, ..Filter::default() });
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store has not answered for 5 s".to_owned()),
    }
}
