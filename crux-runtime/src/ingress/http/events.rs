//! `POST /api/v1/events`: events from outside, one or many. 202: stored, whatever comes of them.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::middleware;
use crate::ingress::http::body::JsonBody;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::{EventBody, MAX_EVENTS};
use crate::ingress::{Shared, json as parse};

pub(super) async fn take(
    State(ingress): State<Shared>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Problem> {
    ingress.check_open()?;
    let traceparent = middleware::traceparent(&headers);
    let is_many = body.bytes().iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_many {
        many(&ingress, &body, &traceparent).await
    } else {
        one(&ingress, &body, &traceparent).await
    }
}

async fn one(ingress: &Shared, body: &JsonBody, traceparent: &str) -> Result<Response, Problem> {
    let event = body.parse::<EventBody>()?.into_event(traceparent)?;
    let name = event.name.clone();
    let taken = ingress.engine.take_events(vec![event]).await.pop();
    let taken = taken
        .ok_or_else(|| Problem::new(Kind::Internal, "the engine did not answer"))?
        .map_err(|error| within(error, "data"))?;
    Ok((
        StatusCode::ACCEPTED,
        Json(json!({"type": name, "id": taken.id, "duplicate": taken.duplicate})),
    )
        .into_response())
}

/// Each for itself: the answer has one entry per event, in their order. 202 if all were taken, 207
/// if only some were.
async fn many(ingress: &Shared, body: &JsonBody, traceparent: &str) -> Result<Response, Problem> {
    let bodies: Vec<Box<RawValue>> = body.parse()?;
    if bodies.is_empty() || bodies.len() > MAX_EVENTS {
        return Err(Problem::new(
            Kind::InvalidRequest,
            format!("1 to {MAX_EVENTS} events in one request, not {}", bodies.len()),
        ));
    }
    // A request that is not understood is refused as a whole.
    let mut events = Vec::with_capacity(bodies.len());
    for (n, body) in bodies.iter().enumerate() {
        let event = parse::parse::<EventBody>(body.get().as_bytes())
            .and_then(|body| body.into_event(traceparent));
        events.push(event.map_err(|problem| in_list(problem, n))?);
    }
    let names: Vec<String> = events.iter().map(|event| event.name.clone()).collect();
    let answers = ingress.engine.take_events(events).await;
    let all_taken = answers.iter().all(Result::is_ok);
    let entries: Vec<Value> = names
        .into_iter()
        .zip(answers)
        .map(|(name, answer)| match answer {
            Ok(taken) => json!({"type": name, "id": taken.id, "duplicate": taken.duplicate}),
            Err(error) => {
                let problem = within(error, "data");
                json!({"type": name, "error": problem.document("")})
            }
        })
        .collect();
    let status = if all_taken { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
    Ok((status, Json(json!({"events": entries}))).into_response())
}

/// The path of a wrong field, from the beginning of the body.
fn within(error: crate::engine::api::Error, field: &str) -> Problem {
    match error {
        crate::engine::api::Error::Invalid(text) => Problem::invalid(&text, field),
        error => error.into(),
    }
}

fn in_list(problem: Problem, n: usize) -> Problem {
    let field =
        problem.field.as_ref().map_or_else(|| format!("[{n}]"), |field| format!("[{n}].{field}"));
    problem.at(field)
}
