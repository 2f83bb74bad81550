//! `kill -9` under load, again and again, with a ledger outside of the process: what was
//! acknowledged is there, ends, and is recorded once, and its hooks arrive. `CRUX_KILLS=1000` makes
//! it long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::{Client, Reply, Server, Service, eventually};
use crate::server;

/// What clients were answered, by request id: the instance.
#[derive(Default)]
struct Ledger {
    starts: Mutex<BTreeMap<String, (&'static str, String)>>,
    /// Events that were taken, by the order that they are about.
    events: Mutex<BTreeMap<String, String>>,
    /// The longest that one of them took.
    longest: Mutex<Duration>,
    /// Starts that are asked for and not acknowledged.
    pending: Mutex<BTreeSet<String>>,
}

impl Ledger {
    fn waited(&self, time: Duration) {
        let mut longest = self.longest.lock().unwrap();
        *longest = time.max(*longest);
    }
}

/// What the listener received.
#[derive(Default)]
struct Hooks {
    /// How often, by instance and status, a hook was answered with 2xx.
    taken: BTreeMap<(String, String), u32>,
    count: u32,
}

impl Hooks {
    fn receive(&mut self, hook: &Value) -> Reply {
        self.count += 1;
        if self.count.is_multiple_of(7) {
            return Reply::Raw(500, String::new());
        }
        let text = |name: &str| hook[name].as_str().unwrap().to_owned();
        *self.taken.entry((text("workflow_id"), text("status"))).or_default() += 1;
        Reply::Raw(204, String::new())
    }
}

/// Where the servers are that live at the moment.
type Places = Arc<Mutex<Vec<String>>>;

const WORKFLOWS: [&str; 4] = ["double", "work", "approval", "parcel"];
const CLIENTS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_recorded_twice_however_often_the_process_is_killed() {
    kill_again_and_again("", 1, 20).await;
}

/// With that store and so many servers on it, one after the other, so many times unless
/// `CRUX_KILLS` says another number.
pub(crate) async fn kill_again_and_again(store: &str, nodes: usize, kills: u64) {
    let kills: u64 =
        std::env::var("CRUX_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(kills);
    let mut load = Load::begin(store, nodes).await;
    for kill in 0..kills {
        // Spread over start, work and rest, without two moments that are always the same.
        tokio::time::sleep(Duration::from_millis(20 + kill * 37 % 180)).await;
        load.kill_one().await;
    }
    load.end(kills).await;
}

/// Servers under load, and the ledger of what they have acknowledged.
pub(crate) struct Load {
    pub servers: Vec<Server>,
    places: Places,
    ledger: Arc<Ledger>,
    hooks: Arc<Mutex<Hooks>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
    _services: (Service, Service),
}

impl Load {
    pub(crate) async fn begin(store: &str, nodes: usize) -> Self {
        let service = Service::start(|task| match task["step_type"].as_str() {
            Some("prepare") => Reply::Done(json!({"size": 3})),
            _ => Reply::Done(json!({"label": "L"})),
        })
        .await;
        // Hooks go to a listener that says no now and then.
        let hooks = Arc::new(Mutex::new(Hooks::default()));
        let received = hooks.clone();
        let listener =
            Service::start(move |message| received.lock().unwrap().receive(message)).await;
        let config = format!(
            "{}  mail: {{ url: '{}', subscribe: [workflow.*] }}\n{store}",
            service.config(&["prepare", "finish"]),
            listener.url()
        );
        let servers: Vec<Server> = (0..nodes).map(|_| server(&config)).collect();
        let places: Places =
            Arc::new(Mutex::new(servers.iter().map(|server| server.url().to_owned()).collect()));
        let ledger = Arc::new(Ledger::default());
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicU64::new(0));
        let clients = (0..CLIENTS)
            .map(|_| tokio::spawn(ask(places.clone(), ledger.clone(), stop.clone(), next.clone())))
            .collect();
        Self { servers, places, ledger, hooks, stop, clients, _services: (service, listener) }
    }

    async fn kill_one(&mut self) {
        let mut server = self.servers.remove(0);
        server.kill();
        self.places.lock().unwrap().retain(|place| place != server.url());
        server = tokio::task::spawn_blocking(move || {
            server.restart();
            server
        })
        .await
        .unwrap();
        self.places.lock().unwrap().push(server.url().to_owned());
        self.servers.push(server);
    }

    /// How many starts were acknowledged.
    pub(crate) fn starts(&self) -> usize {
        self.ledger.starts.lock().unwrap().len()
    }

    /// Starts that are asked for and not acknowledged yet.
    pub(crate) fn pending(&self) -> BTreeSet<String> {
        self.ledger.pending.lock().unwrap().clone()
    }

    /// The longest that a client has waited for an acknowledgement since this was asked last.
    pub(crate) fn longest_wait(&self) -> Duration {
        std::mem::take(&mut *self.ledger.longest.lock().unwrap())
    }

    /// No more load; what was acknowledged is looked for.
    pub(crate) async fn end(self, kills: u64) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        audit(&self.servers[0].client(), &self.ledger, kills).await;
        audit_hooks(&self.ledger, &self.hooks).await;
    }
}

/// A client: starts with its own request ids, each until it is answered; for every approval the
/// event that it waits for.
async fn ask(places: Places, ledger: Arc<Ledger>, stop: Arc<AtomicBool>, next: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let request = format!("req-{n}");
        let workflow = WORKFLOWS[usize::try_from(n).unwrap() % WORKFLOWS.len()];
        let input = match workflow {
            "double" => json!({"number": 21}),
            "work" => json!({"item": request}),
            "parcel" => json!({"parcel": request}),
            _ => json!({"orderId": request}),
        };
        let path = format!("/api/v1/workflow/{workflow}");
        let headers = [("content-type", "application/json"), ("idempotency-key", request.as_str())];
        ledger.pending.lock().unwrap().insert(request.clone());
        let begun = Instant::now();
        let answer = insist(&places, &path, &headers, &input).await;
        ledger.pending.lock().unwrap().remove(&request);
        ledger.waited(begun.elapsed());
        ledger.starts.lock().unwrap().insert(
            request.clone(),
            (workflow, answer["workflow_id"].as_str().unwrap().to_owned()),
        );
        if workflow == "approval" {
            let event = json!({"type": "order.approved", "id": format!("event-{n}"), "data": {"orderId": request, "by": "me"}});
            insist(&places, "/api/v1/events", &headers[..1], &event).await;
            ledger.events.lock().unwrap().insert(request, format!("event-{n}"));
        }
    }
}

/// Asks until there is an answer, whichever process dies.
async fn insist(places: &Places, path: &str, headers: &[(&str, &str)], body: &Value) -> Value {
    for n in body.to_string().len().. {
        let url = {
            let places = places.lock().unwrap();
            places.get(n % places.len().max(1)).cloned()
        };
        if let Some(url) = url {
            let answer = Client::new(&url)
                .try_send(hyper::Method::POST, path, headers, body.to_string().into_bytes())
                .await;
            match answer {
                Ok(answer) if answer.status < 300 => return answer.json(),
                Ok(answer) if answer.status < 500 && answer.status != 429 => {
                    panic!("{path}: {} {:?}", answer.status, answer.body)
                }
                Ok(_) | Err(_) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("it asks until there is an answer")
}

/// Every acknowledged start sent its hooks for start and end, at least once.
async fn audit_hooks(ledger: &Ledger, hooks: &Mutex<Hooks>) {
    let ids: Vec<String> = ledger
        .starts
        .lock()
        .unwrap()
        .values()
        .filter(|(workflow, _)| *workflow == "parcel")
        .map(|(_, id)| id.clone())
        .collect();
    assert!(!ids.is_empty());
    for status in ["processing", "completed"] {
        for id in &ids {
            let key = (id.clone(), status.to_owned());
            eventually(&format!("the hook of {id}, {status}"), || async {
                hooks.lock().unwrap().taken.get(&key).copied()
            })
            .await;
        }
    }
    let hooks = hooks.lock().unwrap();
    println!(
        "{} instances with hooks; {} hooks sent, {} of them refused",
        ids.len(),
        hooks.count,
        hooks.count / 7
    );
}

async fn audit(client: &Client, ledger: &Ledger, kills: u64) {
    let starts = ledger.starts.lock().unwrap().clone();
    assert!(
        starts.len() as u64 > kills,
        "hardly anything was running: {} starts in {kills} kills",
        starts.len()
    );
    for (request, (workflow, id)) in &starts {
        let document = client.until(id, "completed").await;
        assert_eq!(document["workflow"], *workflow, "{request}");
        let expected = match *workflow {
            "double" => json!({"number": 84}),
            "work" => json!({"label": "L"}),
            "parcel" => json!(""),
            _ => json!({"by": "me"}),
        };
        assert_eq!(document["output"], expected, "{request}: {document:#}");
        let history = client.get(&format!("/api/v1/workflow/{id}/history")).await.json();
        let mut recorded: BTreeMap<String, u32> = BTreeMap::new();
        let mut ends = 0;
        for (n, row) in (1..).zip(history["rows"].as_array().unwrap()) {
            assert_eq!(row["seq"], n, "{request}: a gap in the journal");
            for entry in row["events"].as_array().unwrap() {
                if ["step_completed", "event_received"].contains(&entry["type"].as_str().unwrap()) {
                    *recorded.entry(entry["path"].as_str().unwrap().to_owned()).or_default() += 1;
                }
            }
            ends += row["out"].as_array().map_or(0, |out| {
                out.iter().filter(|entry| entry["type"] == "workflow_completed").count()
            });
        }
        assert!(
            recorded.values().all(|times| *times == 1),
            "{request}: recorded more than once: {recorded:?}"
        );
        assert_eq!(ends, 1, "{request}: it ended {ends} times");
        // The same request id still means the same instance.
        if *workflow == "double" {
            let headers =
                [("content-type", "application/json"), ("idempotency-key", request.as_str())];
            // A node may find its store busy for a moment, and says so.
            let again = eventually(&format!("an answer to {request}"), || async {
                let again = client
                    .post_with("/api/v1/workflow/double", &headers[1..], &json!({"number": 21}))
                    .await;
                (again.status != 503).then_some(again)
            })
            .await;
            assert_eq!(
                again.text("workflow_id"),
                *id,
                "{request}: {} {:?}",
                again.status,
                again.body
            );
        }
    }
    println!(
        "{kills} kills, {} acknowledged starts, {} acknowledged events",
        starts.len(),
        ledger.events.lock().unwrap().len()
    );
}
