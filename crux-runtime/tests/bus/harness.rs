//! What the tests of buses share: a bus with its far end, and tasks to send.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crux_runtime::App;
use crux_runtime::app::Route;
use crux_runtime::bus::broker::Broker;
use crux_runtime::bus::{Bus, Disposition, Incoming, Message, MessageHandler, PublishOutcome};
use crux_runtime::executor::Cancellation;
use crux_runtime::id::InstanceId;
use crux_runtime::machine::{Contract, EffectKind, Path, Policy, Runs, Time};
use crux_runtime::task::{Origin, Report, Reported, Task};
use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub const WORK: &str = "step.work";
pub const NEWS: &str = "order.done";
pub const COMPLETED: &str = "step.completed";
pub const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const PATIENCE: Duration = Duration::from_secs(120);

/// A bus and its far end.
pub struct Harness {
    pub bus: Arc<dyn Bus>,
    /// The same once more, if it is over a broker.
    pub broker: Option<Arc<Broker>>,
    pub far: Box<dyn Far>,
}

/// The far end of a bus. Each key has the listeners that the harness was opened with.
pub trait Far: Send + Sync {
    /// The next message for that listener of the key, which it takes for good.
    fn next<'a>(&'a self, key: &'a str, listener: &'a str) -> BoxFuture<'a, Got>;

    /// Sends something to Crux.
    fn send<'a>(&'a self, key: &'a str, id: &'a str, body: &'a str) -> BoxFuture<'a, ()>;

    /// The next dead-lettered message: its body, and why.
    fn dead(&self) -> BoxFuture<'_, (String, String)>;
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    pub correlation_id: String,
    pub traceparent: String,
    pub body: Value,
}

/// Opens a bus of one kind; listeners are pairs of a key and a name.
pub type Open =
    dyn Fn(&'static [(&'static str, &'static str)]) -> BoxFuture<'static, Harness> + Send + Sync;

static CONTRACT: Contract = Contract {
    step_type: "work",
    runs: Runs::Service { routing_key: WORK },
    effect: EffectKind::Idempotent,
    reports_started: false,
    payload: true,
    raises: &[],
    check_input: |_| Ok(()),
    check_result: |_| Ok(()),
    input_schema: "{}",
    output_schema: "{}",
};
static CONTRACTS: [&Contract; 1] = [&CONTRACT];
static ROUTES: [Route; 2] = [
    Route { key: NEWS, meaning: "emitted by order", is_published: true },
    Route { key: WORK, meaning: "task of work", is_published: false },
];
static POLICY: Policy = Policy::ONCE;

pub fn app() -> App {
    App {
        workflows: &[],
        contracts: &CONTRACTS,
        events: &[],
        routes: &ROUTES,
        steps: Vec::new(),
        package: crux_runtime::this_package!(),
    }
}

/// Names that no other test uses.
pub fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("bus{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

/// The task of a separate instance.
pub fn task(n: u8) -> (Task, Cancellation) {
    let cancellation = Cancellation::default();
    let instance = InstanceId::new(Time(1_764_000_000_000), [n; 10], None);
    let origin = Origin {
        workflow: "test".into(),
        workflow_id: instance.to_string(),
        request_id: format!("req-{n}"),
        traceparent: TRACE.to_owned(),
        tokens: None,
        payload: Arc::from(raw(r#"{"name":"chair"}"#)),
    };
    let task = Task {
        instance,
        path: Path::new(7),
        path_text: Cow::Borrowed("look/work"),
        attempt: 2,
        contract: &CONTRACT,
        policy: &POLICY,
        input: Arc::from(raw(r#"{"image":"a.png"}"#)),
        own_key: None,
        heartbeat_ms: None,
        origin: Arc::new(origin),
        cancellation: cancellation.clone(),
    };
    (task, cancellation)
}

pub fn message(id: &str) -> Message {
    Message {
        routing_key: NEWS,
        id: id.to_owned(),
        correlation_id: "req-1".to_owned(),
        traceparent: TRACE.to_owned(),
        body: raw(&format!(r#"{{"id":"{id}"}}"#)),
    }
}

/// A published message and its outcome.
pub async fn publish(bus: &dyn Bus, message: Message) -> PublishOutcome {
    let (done, published) = oneshot::channel();
    assert!(
        bus.publish(message, Box::new(move |what| done.send(what).unwrap())).is_ok(),
        "there is room"
    );
    soon(published).await.unwrap()
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it comes soon")
}

/// The result of a task; that a call has begun is skipped.
pub async fn reported(reports: &mut mpsc::Receiver<Report>) -> Reported {
    loop {
        match soon(reports.recv()).await.unwrap().what {
            Reported::Began => {}
            what => return what,
        }
    }
}

/// A handler that does as configured, and accepts everything else.
#[derive(Default)]
pub struct RecordingHandler {
    pub came: Mutex<Vec<Incoming>>,
    pub answers: Mutex<Vec<Disposition>>,
}

impl RecordingHandler {
    pub fn answering(answers: &[Disposition]) -> Arc<Self> {
        let answers = answers.iter().rev().cloned().collect();
        Arc::new(Self { came: Mutex::default(), answers: Mutex::new(answers) })
    }

    /// Bodies in the order of their coming, once there are so many.
    pub async fn bodies(&self, count: usize) -> Vec<String> {
        let wait = async {
            loop {
                let came = self.came.lock().unwrap().clone();
                if came.len() >= count {
                    return came
                        .iter()
                        .map(|incoming| String::from_utf8(incoming.body.to_vec()).unwrap())
                        .collect();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(wait).await
    }
}

impl MessageHandler for RecordingHandler {
    fn handle<'a>(&'a self, incoming: &'a Incoming) -> BoxFuture<'a, Disposition> {
        self.came.lock().unwrap().push(incoming.clone());
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Disposition::Ack);
        Box::pin(std::future::ready(answer))
    }
}
