//! `POST /api/v1/events`: events from outside, one or many. 202: stored.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body::JsonBody;
use crate::ingress::caller::Caller;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::{EVENTS_MAX, EventBody};
use crate::ingress::{Shared, json as parse};

pub(in crate::ingress) async fn send(
    State(ingress): State<Shared>,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Problem> {
    let is_many = body.bytes().iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_many { many(&ingress, &caller, &body).await } else { one(&ingress, &caller, &body).await }
}

async fn one(ingress: &Shared, caller: &Caller, body: &JsonBody) -> Result<Response, Problem> {
    let event = body.parse::<EventBody>()?.into_event()?;
    let name = event.name.clone();
    let taken = ingress.service.send_event(caller, event).await;
    let taken = taken.map_err(|error| error.within("data"))?;
    let answer = json!({"type": name, "id": taken.id, "duplicate": taken.duplicate});
    Ok((StatusCode::ACCEPTED, Json(answer)).into_response())
}

/// Each for itself: the answer has one entry per event, in their order. 202 if all were taken, 207
/// if only some were.
async fn many(ingress: &Shared, caller: &Caller, body: &JsonBody) -> Result<Response, Problem> {
    let bodies: Vec<Box<RawValue>> = body.parse()?;
    if bodies.is_empty() || bodies.len() > EVENTS_MAX {
        return Err(Problem::new(
            Kind::InvalidRequest,
            format!("1 to {EVENTS_MAX} events in one request, not {}", bodies.len()),
        ));
    }
    // A request that is not understood is refused as a whole.
    let mut events = Vec::with_capacity(bodies.len());
    for (n, body) in bodies.iter().enumerate() {
        let event =
            parse::parse::<EventBody>(body.get().as_bytes()).and_then(EventBody::into_event);
        events.push(event.map_err(|problem| in_list(problem, n))?);
    }
    let names: Vec<String> = events.iter().map(|event| event.name.clone()).collect();
    let answers = ingress.service.send_events(caller, events).await?;
    let all_taken = answers.iter().all(Result::is_ok);
    let entries: Vec<Value> = names
        .into_iter()
        .zip(answers)
        .map(|(name, answer)| match answer {
            Ok(taken) => json!({"type": name, "id": taken.id, "duplicate": taken.duplicate}),
            Err(error) => {
                let problem = error.within("data");
                json!({"type": name, "error": problem.document("")})
            }
        })
        .collect();
    let status = if all_taken { StatusCode::ACCEPTED } else { StatusCode::MULTI_STATUS };
    Ok((status, Json(json!({"events": entries}))).into_response())
}

fn in_list(problem: Problem, n: usize) -> Problem {
    let field =
        problem.field.as_ref().map_or_else(|| format!("[{n}]"), |field| format!("[{n}].{field}"));
    problem.at(field)
}
