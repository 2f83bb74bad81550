//! REST. Every route stands in one table with the role that it needs; a file per family holds the
//! handlers. What all requests pass through is `door`; what they may carry is `body`.

mod body;
mod commands;
mod events;
mod health;
mod history;
mod list;
pub(crate) mod listen;
pub(crate) mod middleware;
mod operations;
mod status;
mod steps;
pub(crate) mod stream;
mod triggers;

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{MethodRouter, any, get, post};
use serde::de::DeserializeOwned;
use tower_http::catch_panic::CatchPanicLayer;

use super::{Shared, websocket};
use crate::ingress::caller::Role;
pub(crate) use crate::ingress::http::triggers::IGNORED;
use crate::ingress::problem::{Kind, Problem};
use crate::suggest::plain;

/// One route.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "on loopback everybody may do everything; what each would need is said and tested now"
        )
    )]
    pub(crate) role: Role,
    handler: MethodRouter<Shared>,
}

/// Every route but the triggers of pipelines, which need [`Role::Start`].
pub(crate) fn table() -> Vec<Route> {
    let route = |method, path, role, handler| Route { method, path, role, handler };
    let ask = |path, role, handler: MethodRouter<Shared>| route("GET", path, role, handler);
    let tell = |path, role, handler: MethodRouter<Shared>| route("POST", path, role, handler);
    vec![
        ask("/api/v1/workflow/status", Role::Read, get(status::status)),
        ask("/api/v1/workflow/list", Role::Read, get(list::list)),
        ask("/api/v1/workflow/{id}/history", Role::Read, get(history::history)),
        ask("/api/v1/workflow/{id}/events", Role::Read, get(history::events)),
        tell("/api/v1/workflow/step-completed", Role::Complete, post(steps::completed)),
        tell("/api/v1/workflow/step-started", Role::Complete, post(steps::started)),
        tell("/api/v1/workflow/step-heartbeat", Role::Complete, post(steps::heartbeat)),
        tell("/api/v1/workflow/{id}/cancel", Role::Operate, post(commands::cancel)),
        tell("/api/v1/workflow/{id}/retry", Role::Operate, post(commands::retry)),
        tell("/api/v1/workflow/{id}/undo", Role::Operate, post(commands::undo)),
        tell("/api/v1/workflow/{id}/fail", Role::Operate, post(commands::fail)),
        tell("/api/v1/workflow/{id}/pause", Role::Operate, post(commands::pause)),
        tell("/api/v1/workflow/{id}/resume", Role::Operate, post(commands::resume)),
        tell("/api/v1/workflow/{id}/restart", Role::Operate, post(commands::restart)),
        tell("/api/v1/events", Role::Start, post(events::take)),
        ask("/api/v1/workers", Role::Admin, get(operations::workers)),
        ask("/health", Role::Anybody, get(health::health)),
        ask("/health/live", Role::Anybody, get(health::live)),
        ask("/health/ready", Role::Anybody, get(health::ready)),
        ask("/metrics", Role::Admin, get(operations::metrics)),
        ask("/ws", Role::Read, any(websocket::connect)),
    ]
}

/// The whole service.
pub(crate) fn router(ingress: Shared) -> Router {
    let mut router: Router<Shared> = triggers::router(&ingress);
    for route in table() {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn_with_state(ingress.clone(), middleware::door))
        .with_state(ingress)
}

async fn no_route(
    axum::extract::State(ingress): axum::extract::State<Shared>,
    uri: Uri,
) -> Problem {
    let path = uri.path();
    let known: Vec<&str> =
        table().iter().map(|route| route.path).chain(triggers::paths(&ingress)).collect();
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

async fn no_method(method: axum::http::Method, uri: Uri) -> Problem {
    let path = uri.path();
    let shown: String = path.chars().take(200).collect();
    // Triggers are posted to; the rest is in the table.
    let takes =
        table().iter().find(|route| route.path == path).map_or("POST", |route| route.method);
    Problem::new(Kind::MethodNotAllowed, format!("`{shown}` does not take {method}: use {takes}"))
}

/// A bug of ours is an answer like any other, with its correlation id; the panic itself is in the
/// log by the panic hook.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    axum::response::IntoResponse::into_response(Problem::new(
        Kind::Internal,
        "the server has a bug; the log knows it by the correlation id",
    ))
}

/// The query, of a type that refuses names which it does not know.
struct Query<T>(T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        query(&parts.uri).map(Self)
    }
}

pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    match axum::extract::Query::<T>::try_from_uri(uri) {
        Ok(axum::extract::Query(query)) => Ok(query),
        Err(rejection) => {
            let text = std::error::Error::source(&rejection)
                .map_or_else(|| rejection.to_string(), ToString::to_string);
            let text = match text.split_once(": ") {
                Some((name, told)) => format!("{name}: {}", plain(told)),
                None => plain(&text),
            };
            Err(Problem { kind: Kind::InvalidRequest, ..Problem::invalid(&text, "") })
        }
    }
}

/// Unique among all that this process and others make at the same time, as far as logs are
/// concerned.
pub(crate) fn random_id() -> String {
    static PROCESS: LazyLock<u64> =
        LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:012x}-{:x}", *PROCESS >> 16, COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented() {
        let docs = include_str!("../../../../docs/api.md");
        for route in table() {
            let written = format!("{} {}", route.method, route.path);
            assert!(docs.contains(&written), "docs/api.md does not explain `{written}`");
        }
    }

    #[test]
    fn whoever_changes_something_posts_and_health_asks_nobody() {
        for route in table() {
            let changes = matches!(route.role, Role::Start | Role::Complete | Role::Operate);
            assert_eq!(changes, route.method == "POST", "{} {}", route.method, route.path);
            assert_eq!(
                route.role == Role::Anybody,
                route.path.starts_with("/health"),
                "{}",
                route.path
            );
        }
    }
}
