//! `grpc.health.v1.Health`: what load balancers and Kubernetes ask. The server serves when it is
//! ready, and its one service with it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::calls;
use crate::ingress::Shared;
use crate::ingress::caller::Caller;

/// How often a watcher's answer is looked at again.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The server itself, and its service.
const NAMES: [&str; 2] = ["", "crux.v1.Crux"];

pub(super) struct HealthCalls {
    ingress: Shared,
}

impl HealthCalls {
    pub(super) fn new(ingress: Shared) -> Self {
        Self { ingress }
    }
}

type Answer = Result<HealthCheckResponse, Status>;

#[tonic::async_trait]
impl Health for HealthCalls {
    async fn check(
        &self,
        mut request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let caller = calls::caller(&mut request)?;
        let name = &request.get_ref().service;
        if !NAMES.contains(&name.as_str()) {
            let shown: String = name.chars().take(80).collect();
            return Err(Status::not_found(format!("there is no service `{shown}`")));
        }
        Ok(Response::new(answer(state(&self.ingress, &caller).await)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    /// The state now, and again whenever it has changed.
    async fn watch(
        &self,
        mut request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = calls::caller(&mut request)?;
        let is_known = NAMES.contains(&request.get_ref().service.as_str());
        let ingress = self.ingress.clone();
        let states =
            stream::unfold((ingress, caller, None), move |(ingress, caller, last)| async move {
                loop {
                    // As the protocol wants it: a service that is not known may become so.
                    let now = match is_known {
                        true => state(&ingress, &caller).await,
                        false => ServingStatus::ServiceUnknown,
                    };
                    if last != Some(now) {
                        return Some((Ok(answer(now)), (ingress, caller, Some(now))));
                    }
                    tokio::time::sleep(WATCH_INTERVAL).await;
                }
            });
        Ok(Response::new(Box::pin(states)))
    }
}

async fn state(ingress: &Shared, caller: &Caller) -> ServingStatus {
    match ingress.service.ready(caller).await {
        Ok(Ok(())) => ServingStatus::Serving,
        Ok(Err(_)) | Err(_) => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
