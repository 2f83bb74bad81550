//! All routes of the server: those of [`OPERATIONS`], with a handler each, the HTTP triggers of the
//! pipelines, and the methods of gRPC.

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::http::{commands, events, health, history, instances, monitoring, steps, triggers};
use super::operations::{OPERATIONS, Operation};
use super::problem::{Kind, Problem};
use super::{Shared, grpc, middleware, websocket};

/// Who serves an operation's route; `None`: it has none in the table.
fn handler(operation: Operation) -> Option<MethodRouter<Shared>> {
    Some(match operation {
        Operation::Restart => post(commands::restart),
        Operation::SendEvents => post(events::send),
        Operation::CompleteStep => post(steps::completed),
        Operation::StepStarted => post(steps::started),
        Operation::StepHeartbeat => post(steps::heartbeat),
        Operation::Status => get(instances::status),
        Operation::List => get(instances::list),
        Operation::History => get(history::history),
        Operation::Follow => get(history::events),
        Operation::Cancel => post(commands::cancel),
        Operation::Retry => post(commands::retry),
        Operation::Undo => post(commands::undo),
        Operation::Fail => post(commands::fail),
        Operation::Pause => post(commands::pause),
        Operation::Resume => post(commands::resume),
        Operation::Workers => get(monitoring::workers),
        Operation::Metrics => get(monitoring::metrics),
        Operation::Health => get(health::health),
        Operation::Live => get(health::live),
        Operation::Ready => get(health::ready),
        // The handler itself says what is wrong with a request of another method.
        Operation::Connect => any(websocket::connect),
        // Triggers have paths of the pipelines; the others are asked otherwise.
        Operation::Start
        | Operation::Work
        | Operation::Unfollow
        | Operation::HealthDetail
        | Operation::Identify => {
            return None;
        }
    })
}

/// The whole server.
pub(crate) fn router(ingress: Shared) -> Router {
    let mut router: Router<Shared> = triggers::router(&ingress).merge(grpc::router(&ingress));
    for row in &OPERATIONS {
        if let (Some((_, path)), Some(handler)) = (row.http, handler(row.operation)) {
            router = router.route(path, handler);
        }
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn_with_state(ingress.clone(), middleware::request))
        .with_state(ingress)
}

async fn no_route(State(ingress): State<Shared>, uri: Uri) -> Problem {
    let path = uri.path();
    let known: Vec<&str> = OPERATIONS
        .iter()
        .filter_map(|row| row.http.map(|(_, path)| path))
        .chain(triggers::paths(&ingress))
        .collect();
    let shown: String = path.chars().take(200).collect();
    let text = match crate::suggest::nearest(path, known.into_iter()) {
        Some(meant) => format!("there is no route `{shown}`; did you mean `{meant}`?"),
        None => match triggers::paths(&ingress).next() {
            Some(start) => format!(
                "there is no route `{shown}`: workflows are started by POST, for example to `{start}`"
            ),
            None => format!("there is no route `{shown}`"),
        },
    };
    Problem::new(Kind::NotFound, text)
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    let path = uri.path();
    let shown: String = path.chars().take(200).collect();
    // Triggers are posted to; the rest is in the table.
    let takes = OPERATIONS
        .iter()
        .filter_map(|row| row.http)
        .find(|(_, route)| *route == path)
        .map_or("POST", |(method, _)| method);
    Problem::new(Kind::MethodNotAllowed, format!("`{shown}` does not take {method}: use {takes}"))
}

/// A bug in the server is answered like any other problem, with its correlation id; the panic
/// itself is in the log by the panic hook.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let text = "the server has a bug; the log has the details under the correlation id";
    Problem::new(Kind::Internal, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_of_the_table_has_a_handler_and_nothing_else_has() {
        for row in &OPERATIONS {
            assert_eq!(row.http.is_some(), handler(row.operation).is_some(), "{:?}", row.operation);
        }
    }
}
