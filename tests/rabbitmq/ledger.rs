//! A ledger outside of the nodes: what clients were answered, and what must hold afterwards. Every
//! acknowledged start has ended well, each of its steps is recorded once, and no queue and no node
//! has anything left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::kit::{Client, Server, order};
use crate::product;
use crate::service::{Line, STEPS, queue};

/// How long everything may take to come to its end. What was not delivered is offered again after a
/// minute at the latest.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// What was acknowledged: the instance, by the request id of its start.
#[derive(Debug, Default)]
pub struct Ledger {
    pub starts: BTreeMap<String, String>,
    /// How often a start was refused, by status.
    pub refused: BTreeMap<u16, u32>,
}

impl Ledger {
    /// Goes through everything, at one node after the other.
    pub async fn audit(&self, nodes: &[&Server], line: &Line) {
        let until = self.audit_instances(nodes).await;
        let own = ["completions", "events"].map(|own| format!("{}.{own}", line.exchange));
        for queue in STEPS.iter().map(|step| queue(&line.exchange, step)).chain(own) {
            until_zero(&format!("messages in {queue}"), until, async || {
                u64::from(line.waiting(&queue).await)
            })
            .await;
        }
        assert_eq!(
            line.waiting(&format!("{}.dead", line.exchange)).await,
            0,
            "something was refused"
        );
        println!("{} acknowledged starts; refused: {:?}", self.starts.len(), self.refused);
    }

    /// Everything but queues. Until when it may take.
    pub async fn audit_instances(&self, nodes: &[&Server]) -> Instant {
        assert!(!self.starts.is_empty(), "nothing was started; refused: {:?}", self.refused);
        let until = Instant::now() + PATIENCE;
        for (n, (request, id)) in self.starts.iter().enumerate() {
            let client = nodes[n % nodes.len()].client();
            let document = ended(&client, id, until).await;
            assert_eq!(document["metadata"]["status"], "completed", "{request}: {document:#}");
            let expected: &[&str] = if is_order(request) {
                let confirmation = document["output"]["confirmation"].as_str().unwrap_or_default();
                assert!(
                    confirmation.starts_with(&format!("C-{request}-")),
                    "{request}: {document:#}"
                );
                &["send_notification", "finalize_order"]
            } else {
                assert_eq!(document["output"]["slug"], format!("slug-{request}"), "{document:#}");
                &STEPS
            };
            assert_eq!(
                recorded(&client, id).await,
                expected.iter().map(|step| ((*step).to_owned(), 1)).collect(),
                "{request}"
            );
        }
        for (request, id) in self.starts.iter().filter(|(request, _)| request.contains('-')).take(5)
        {
            assert_eq!(
                start(&nodes[0].client(), request).await.ok().as_ref(),
                Some(id),
                "{request} means another instance now"
            );
        }
        for node in nodes {
            until_zero(&format!("unsettled instances at {}", node.url()), until, async || {
                metric(&node.client(), "crux_instances_unsettled").await
            })
            .await;
        }
        until
    }
}

/// Each request id begins with its workflow.
fn is_order(request: &str) -> bool {
    request.starts_with("order")
}

/// Starts what this request id is for. The error: the status of the refusal, 0 if there was no
/// answer.
async fn start(client: &Client, request: &str) -> Result<String, u16> {
    let (path, input) = if is_order(request) {
        ("/api/v1/workflow/order", order(request))
    } else {
        ("/api/v1/workflow/upload", product(request))
    };
    let headers = [("content-type", "application/json"), ("idempotency-key", request)];
    let answer = client
        .try_send(hyper::Method::POST, path, &headers, input.to_string().into_bytes())
        .await
        .map_err(|_| 0_u16)?;
    match answer.status {
        200 | 202 => Ok(answer.text("workflow_id")),
        status @ (429 | 503) => {
            assert!(
                answer.header("retry-after").is_some(),
                "{status} without a time: {:?}",
                answer.body
            );
            Err(status)
        }
        status => panic!("{request}: {status}: {:?}", answer.body),
    }
}

/// Its document when it has ended.
async fn ended(client: &Client, id: &str, until: Instant) -> Value {
    loop {
        let answer = client.get(&format!("/api/v1/workflow/status?workflow_id={id}")).await;
        // While the connection to the store is made anew.
        if answer.status == 503 && Instant::now() < until {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        assert_eq!(answer.status, 200, "{id}: {:?}", answer.body);
        let document = answer.json();
        if ["completed", "failed", "cancelled", "parked"]
            .iter()
            .any(|status| document["metadata"]["status"] == *status)
        {
            return document;
        }
        assert!(Instant::now() < until, "{id} does not end: {document:#}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Its document when it has completed, whatever happens to connections meanwhile.
pub async fn completed(client: &Client, id: &str) -> Value {
    let document = ended(client, id, Instant::now() + PATIENCE).await;
    assert_eq!(document["metadata"]["status"], "completed", "{document:#}");
    document
}

/// How often each step is recorded as completed, in a journal without gaps.
pub async fn recorded(client: &Client, id: &str) -> BTreeMap<String, u32> {
    let history = client.get(&format!("/api/v1/workflow/{id}/history")).await.json();
    let mut recorded = BTreeMap::new();
    for (n, row) in (1..).zip(history["rows"].as_array().unwrap()) {
        assert_eq!(row["seq"], n, "a gap: {history:#}");
        for event in row["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["type"] == "step_completed")
        {
            *recorded.entry(event["path"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    recorded
}

/// The sum of a metric of `/metrics`, over its labels.
pub async fn metric(client: &Client, name: &str) -> u64 {
    client.metric(name).await
}

async fn until_zero(what: &str, until: Instant, count: impl AsyncFn() -> u64) {
    loop {
        let now = count().await;
        if now == 0 {
            return;
        }
        assert!(Instant::now() < until, "there are still {now} {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Clients that start products and orders, each start under its own request id, again and
/// again until it is acknowledged by whichever node.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Ledger>>,
}

impl Traffic {
    /// So many clients, each of which pauses after each start.
    pub fn begin(nodes: &[Server], clients: usize, pause: Duration) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let places: Vec<Client> = nodes.iter().map(Server::client).collect();
        let client =
            || tokio::spawn(keep_starting(places.clone(), pause, stop.clone(), next.clone()));
        let clients = (0..clients).map(|_| client()).collect();
        Self { stop, clients }
    }

    /// What was not acknowledged yet is given up: nobody was promised anything.
    pub async fn end(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let mut ledger = Ledger::default();
        for client in self.clients {
            let of_one = client.await.unwrap();
            ledger.starts.extend(of_one.starts);
            of_one
                .refused
                .into_iter()
                .for_each(|(status, times)| *ledger.refused.entry(status).or_default() += times);
        }
        ledger
    }
}

async fn keep_starting(
    places: Vec<Client>,
    pause: Duration,
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
) -> Ledger {
    let mut ledger = Ledger::default();
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let request = if n % 4 == 3 { format!("order-{n}") } else { format!("lamp-{n}") };
        let mut place = usize::try_from(n).unwrap();
        loop {
            match start(&places[place % places.len()], &request).await {
                Ok(id) => {
                    ledger.starts.insert(request, id);
                    break;
                }
                Err(status) => *ledger.refused.entry(status).or_default() += 1,
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            place += 1;
            tokio::time::sleep(PAUSE).await;
        }
        tokio::time::sleep(pause).await;
    }
    ledger
}

/// A start as a client makes it that waits for its acknowledgement.
pub async fn insist(client: &Client, request: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        match start(client, request).await {
            Ok(id) => return id,
            Err(status) => {
                assert!(Instant::now() < until, "{request} is refused with {status} all the time")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What `/health` says.
pub async fn health(node: &Server) -> Value {
    node.client()
        .try_send(hyper::Method::GET, "/health", &[], Vec::new())
        .await
        .map_or(json!({}), |answer| answer.json())
}
