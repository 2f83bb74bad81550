//! A service that gets tasks by HTTP and does with them what the test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::eventually;

/// What the service does with a task.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Done, with this result.
    Done(Value),
    /// Failed, with this error.
    Failed(Value),
    /// The result comes later, by another way.
    Later,
    /// This status and body, whatever they mean.
    Raw(u16, String),
    /// First nothing for a while.
    After(Duration, Box<Reply>),
    /// First nothing until the test opens the gate.
    When(Gate, Box<Reply>),
    /// The connection ends in the middle of the answer.
    HalfWay,
}

/// What holds up replies until the test has seen what must come before them.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets everything pass from now on.
    pub fn open(&self) {
        self.0.close();
    }

    async fn passed(&self) {
        // It has no permits; an error says that it is open.
        let _ = self.0.acquire().await;
    }
}

type Behaviour = dyn Fn(&Value) -> Reply + Send + Sync;

/// A running service; ends when it is dropped.
pub struct Service {
    url: String,
    tasks: Arc<Mutex<Vec<Value>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    tasks: Arc<Mutex<Vec<Value>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    behaviour: Box<Behaviour>,
}

impl Service {
    pub async fn start(behaviour: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Self::on(listener, behaviour)
    }

    pub fn on(
        listener: TcpListener,
        behaviour: impl Fn(&Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("it has an address");
        let tasks = Arc::new(Mutex::new(Vec::new()));
        let headers = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared {
            tasks: tasks.clone(),
            headers: headers.clone(),
            behaviour: Box::new(behaviour),
        });
        let router = axum::Router::new().route("/", post(take)).with_state(shared);
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { url: format!("http://{address}/"), tasks, headers, serving }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The configuration of it, for these step types.
    pub fn config(&self, steps: &[&str]) -> String {
        format!("services:\n  test: {{ url: '{}', steps: [{}] }}\n", self.url, steps.join(", "))
    }

    /// What it was given so far.
    pub fn tasks(&self) -> Vec<Value> {
        self.tasks.lock().expect("no test panics while it holds this").clone()
    }

    /// A header of each task that it was given so far.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let headers = self.headers.lock().expect("no test panics while it holds this");
        headers
            .iter()
            .map(|headers| {
                headers
                    .get(name)
                    .map_or_else(String::new, |value| value.to_str().unwrap_or("").to_owned())
            })
            .collect()
    }

    /// The `n`th task (from 1) of a step type, once it has come.
    pub async fn task(&self, step_type: &str, n: usize) -> Value {
        eventually(&format!("task {n} of {step_type}"), || async {
            self.tasks().into_iter().filter(|task| task["step_type"] == step_type).nth(n - 1)
        })
        .await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    shared.headers.lock().expect("no test panics while it holds this").push(headers);
    let task: Value = serde_json::from_slice(&body).expect("a task is JSON");
    shared.tasks.lock().expect("no test panics while it holds this").push(task.clone());
    let mut reply = (shared.behaviour)(&task);
    loop {
        return match reply {
            Reply::Done(result) => {
                axum::Json(json!({"success": true, "result": result})).into_response()
            }
            Reply::Failed(error) => {
                axum::Json(json!({"success": false, "error": error})).into_response()
            }
            Reply::Later => StatusCode::ACCEPTED.into_response(),
            Reply::Raw(status, body) => {
                (StatusCode::from_u16(status).expect("a status"), body).into_response()
            }
            Reply::After(pause, then) => {
                tokio::time::sleep(pause).await;
                reply = *then;
                continue;
            }
            Reply::When(gate, then) => {
                gate.passed().await;
                reply = *then;
                continue;
            }
            Reply::HalfWay => {
                let pieces =
                    [Ok(Bytes::from_static(b"{\"success\":")), Err(std::io::Error::other("cut"))];
                axum::body::Body::from_stream(futures_util::stream::iter(pieces)).into_response()
            }
        };
    }
}
