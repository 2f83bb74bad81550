//! The gRPC interface, on the port of HTTP: `proto/crux/v1/crux.proto` says what there is. Each
//! method is a route like those of REST, behind the same middleware.
//!
//! [`calls`] are the methods, and [`work`] that of workers; [`health`] is what load balancers ask.

mod calls;
mod deadline;
mod health;
mod work;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::post_service;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTOR;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;

use self::calls::Calls;
use self::health::HealthCalls;
use super::operations::{GRPC_SERVICE, Operation};
use super::problem::{Kind, Problem};
use super::{Shared, middleware};
use crate::proto::DESCRIPTOR;
use crate::proto::v1::crux_server::CruxServer;

/// The routes of all methods.
pub(super) fn router(ingress: &Shared) -> Router<Shared> {
    let calls = CruxServer::new(Calls::new(ingress.clone()))
        .max_decoding_message_size(ingress.settings.max_body_bytes);
    let health = HealthServer::new(HealthCalls::new(ingress.clone()));
    let mut router = Router::new();
    for method in Operation::grpc_methods() {
        let path = format!("{GRPC_SERVICE}{method}");
        router = router.route(&path, post_service(calls.clone()));
    }
    router = router
        .route("/grpc.health.v1.Health/Check", post_service(health.clone()))
        .route("/grpc.health.v1.Health/Watch", post_service(health));
    // Clients of before 2023 ask for the older one.
    let describe = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTOR)
            // Of errors' details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    match (describe().build_v1(), describe().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            router = router
                .route(
                    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                    post_service(v1),
                )
                .route(
                    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                    post_service(v1alpha),
                );
        }
        // Both descriptors are of this build: a test asks for them.
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "clients cannot ask for the gRPC interface");
        }
    }
    router
        .layer(axum::middleware::from_fn(deadline::keep))
        .layer(axum::middleware::from_fn(check_content_type))
}

/// A page of another site can make a browser send other types without asking.
async fn check_content_type(request: Request, next: Next) -> Result<Response, Problem> {
    if middleware::speaks_grpc(request.headers()) {
        return Ok(next.run(request).await);
    }
    let text = "this is a method of gRPC, whose content type is `application/grpc`: call it with a client of gRPC";
    Err(Problem::new(Kind::UnsupportedMediaType, text))
}
