//! The product upload of the shipped pipelines, with its three services behind a broker: what they
//! get and answer, and what has to be recorded. [`suite`] has the tests that each broker must pass.

pub mod suite;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{Client, Server, eventually};

/// In the order in which they are done.
pub const STEPS: [&str; 3] = ["image_processing", "ai_enhancement", "seo_generation"];
const UPLOAD: &str = "/api/v1/workflow/upload";

/// What a service answers to the body of a task; `null`: nothing.
pub type Answering = dyn Fn(&Value) -> Value + Send + Sync;

/// A connection to the broker that is not the server's: of services, publishers, and people who look
/// into it.
#[allow(async_fn_in_trait, reason = "tests call it where they have the type")]
pub trait Line {
    /// The three services of a product. They come back by themselves when the broker does.
    async fn services(&self, answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Services;

    async fn publish(&self, routing_key: &str, message_id: &str, body: &str);

    /// The next dead letter, which is gone then.
    async fn dead_letter(&self) -> DeadLetter;

    /// Dead letters that are left.
    async fn dead_letters(&self) -> u64;

    /// Waits until everything under this routing key was taken and acknowledged.
    async fn until_empty(&self, routing_key: &str);

    async fn complete(&self, task: &Value, result: &Value) {
        self.publish("step.completed", "", &completion(task, result).to_string()).await;
    }
}

/// A task as the broker brought it.
#[derive(Debug, Clone)]
pub struct Task {
    pub routing_key: String,
    pub message_id: String,
    pub correlation_id: String,
    pub traceparent: String,
    pub body: Value,
}

/// A message that nobody could take.
#[derive(Debug)]
pub struct DeadLetter {
    pub reason: String,
    pub routing_key: String,
    pub message_id: String,
    pub body: String,
}

/// Running services; they end when this is dropped.
pub struct Services {
    tasks: Arc<Mutex<Vec<Task>>>,
    working: Vec<JoinHandle<()>>,
}

impl Services {
    pub fn new(tasks: Arc<Mutex<Vec<Task>>>, working: Vec<JoinHandle<()>>) -> Self {
        Self { tasks, working }
    }

    /// What they were given so far.
    pub fn tasks(&self) -> Vec<Task> {
        self.tasks.lock().expect("no test panics while it holds this").clone()
    }

    /// Until they were given so many more.
    pub async fn get_more(&self, count: usize) {
        let before = self.tasks().len();
        eventually("work goes on", async || (self.tasks().len() >= before + count).then_some(()))
            .await;
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.working.iter().for_each(JoinHandle::abort);
    }
}

/// A name that no other test uses: of an exchange or a prefix.
pub fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn product(name: &str) -> Value {
    json!({"name": name, "description": "A test product", "images": ["image1.jpg", "image2.jpg"], "category": "Electronics", "price": 99.99})
}

/// What good services answer.
pub fn result(task: &Value) -> Value {
    match task["step_type"].as_str() {
        Some("image_processing") => {
            json!({"processed_images": ["processed1.jpg"], "processing_time": "2.5s"})
        }
        Some("ai_enhancement") => {
            json!({"description": "A better text", "highlights": ["light"], "keywords": ["lamp"]})
        }
        _ => {
            let name = task["input"]["name"].as_str().unwrap_or_default();
            json!({"title": "T", "meta_description": "M", "keywords": ["k"], "slug": format!("slug-{name}")})
        }
    }
}

/// The body by which a service reports.
pub fn completion(task: &Value, result: &Value) -> Value {
    json!({"workflow_id": task["workflow_id"], "step_id": task["step_id"], "step_type": task["step_type"], "success": true, "result": result})
}

/// Starts an upload; asks again while the node cannot say yes, because the machine is busy or
/// another has just died.
pub async fn start(node: &Server, name: &str) -> String {
    eventually("a start is taken", || async {
        let answer = node.client().post(UPLOAD, &product(name)).await;
        match answer.status {
            202 => Some(answer.text("workflow_id")),
            503 => None,
            _ => panic!("{answer:?}"),
        }
    })
    .await
}

/// Starts uploads one after the other until told to stop; the ids of those that were acknowledged.
/// `store_too`: the store is away with the broker.
pub fn keep_starting(
    client: Client,
    stop: Arc<AtomicBool>,
    store_too: bool,
) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut ids = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let answer = client.post(UPLOAD, &product("Lamp")).await;
            match answer.status {
                202 => ids.push(answer.text("workflow_id")),
                503 if store_too => assert!(answer.header("retry-after").is_some()),
                _ => panic!("{answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ids
    })
}

/// Why an instance stands where it does, once that mentions `what`.
pub async fn waits_for(client: &Client, id: &str, what: &str) -> String {
    eventually(&format!("it waits for {what}"), || async {
        let document = client.status(id).await;
        let why = document["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
        why.contains(what).then_some(why)
    })
    .await
}

/// How often each step is recorded as completed, in a journal without gaps.
pub async fn recorded(client: &Client, id: &str) -> BTreeMap<String, u32> {
    let history = client.get(&format!("/api/v1/workflow/{id}/history")).await.json();
    let mut recorded: BTreeMap<String, u32> = BTreeMap::new();
    for (n, row) in (1..).zip(history["rows"].as_array().expect("rows")) {
        assert_eq!(row["seq"], n, "{history:#}");
        for event in row["events"].as_array().expect("events") {
            if event["type"] == "step_completed" {
                let path = event["path"].as_str().expect("a path");
                *recorded.entry(path.to_owned()).or_default() += 1;
            }
        }
    }
    recorded
}

/// Waits for its end: each step was recorded once.
pub async fn assert_made(client: &Client, id: &str) -> Value {
    let document = client.until(id, "completed").await;
    let once: BTreeMap<String, u32> = STEPS.iter().map(|step| ((*step).to_owned(), 1)).collect();
    assert_eq!(recorded(client, id).await, once, "{document:#}");
    document
}
