//! The doors: what comes from outside is checked, translated, and given to the engine; what the
//! engine answers is translated back. REST and WebSocket know nothing of each other; what both need
//! stands here and in `follow`, `identity`, `problem` and `json`. Nothing in here decides what
//! happens to an instance.

pub(crate) mod broker;
pub(crate) mod caller;
pub(crate) mod follow;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod metrics;
pub(crate) mod problem;
pub(crate) mod requests;
pub(crate) mod shapes;
mod websocket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::bus::http::Local;
use crate::engine::Engine;
use crate::ingress::metrics::Metrics;

/// What every handler has at hand.
pub(crate) struct Ingress {
    pub(crate) engine: Engine,
    pub(crate) services: Arc<Local>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: Settings,
    pub(crate) shapes: shapes::Shapes,
    pub(crate) began: Instant,
    /// Becomes true when the server begins to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

pub(crate) type Shared = Arc<Ingress>;

/// What the configuration says about the doors.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) environment: String,
    /// Lower case.
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_wait: Duration,
}

impl Ingress {
    /// Ends when the server begins to stop.
    pub(crate) async fn stopping(&self) {
        let mut stopping = self.stopping.clone();
        // Whoever could have said it is gone: then it stops too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Nothing new is taken while the server stops.
    pub(crate) fn check_open(&self) -> Result<(), problem::Problem> {
        if self.is_stopping() {
            Err(crate::engine::api::Error::ShuttingDown.into())
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}
