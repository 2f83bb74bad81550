//! The three services of the demo, as any service in any language could be: an HTTP server that
//! takes a task in the body of a POST, does it, and answers with the result. They know nothing of
//! Crux but the shape of that body and of that answer, and share no code with it. Read
//! `image_processing` first; the other two are shorter.

pub mod ai_enhancement;
pub mod image_processing;
pub mod seo_generation;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::routing::post;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_blocking};

/// One attempt of a step, as Crux pushes it. There is more in it (`step_id`, `key`, `payload`, …),
/// which these services do not need.
#[derive(Debug, Clone, Deserialize)]
pub struct Task {
    pub workflow_id: String,
    pub input: Value,
}

/// Why a service did not do it: one of the errors that the step `raises`, or any other name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct Refused {
    pub name: &'static str,
    pub message: String,
}

impl Refused {
    pub fn new(name: &'static str, message: impl ToString) -> Self {
        Self { name, message: message.to_string() }
    }
}

/// A running service.
pub struct Service {
    pub address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves `work` on a free port. It may take its time: it runs on its own thread, not on one
/// that answers sockets.
pub async fn serve<I, O, W>(work: W) -> std::io::Result<Service>
where
    I: DeserializeOwned + Send + 'static,
    O: Serialize + Send + 'static,
    W: Fn(&str, I) -> Result<O, Refused> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let handler = move |Json(task): Json<Task>| {
        let work = Arc::clone(&work);
        async move { Json(answer(spawn_blocking(move || run(task, &*work)).await)) }
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, Router::new().fallback(post(handler)));
    Ok(Service { address, task: tokio::spawn(server.into_future()) })
}

fn run<I: DeserializeOwned, O: Serialize>(
    task: Task,
    work: &impl Fn(&str, I) -> Result<O, Refused>,
) -> Result<Value, Refused> {
    let input =
        serde_json::from_value(task.input).map_err(|error| Refused::new("InvalidInput", error))?;
    let output = work(&task.workflow_id, input)?;
    serde_json::to_value(output).map_err(|error| Refused::new("Error", error))
}

/// The body that Crux understands: `{success, result | error}`.
fn answer(outcome: Result<Result<Value, Refused>, tokio::task::JoinError>) -> Value {
    match outcome {
        Ok(Ok(result)) => json!({ "success": true, "result": result }),
        Ok(Err(refused)) => {
            json!({ "success": false, "error": { "name": refused.name, "message": refused.message } })
        }
        Err(panicked) => {
            json!({ "success": false, "error": { "name": "Panic", "message": panicked.to_string() } })
        }
    }
}
