//! The local bus against little HTTP servers of every temper.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::app::Route;
use crate::executor::Cancellation;
use crate::id::InstanceId;
use crate::machine::{AttemptFailed, Contract, EffectKind, Failure, Outcome, Path, Policy};
use crate::task::{Origin, Reported};

mod listening;

pub(crate) static CONTRACT: Contract = contract("resize", EffectKind::Idempotent);
pub(crate) static ONCE: Contract = contract("charge", EffectKind::Once);
pub(crate) static CLASS: Contract =
    Contract { runs: Runs::Class("NotifyStep"), ..contract("notify", EffectKind::Idempotent) };

const fn contract(step_type: &'static str, effect: EffectKind) -> Contract {
    Contract {
        step_type,
        runs: Runs::Service { routing_key: "step.resize" },
        effect,
        reports_started: false,
        payload: true,
        raises: &[],
        check_input: |_| Ok(()),
        check_result: |result| match serde_json::from_str::<Value>(result.get()) {
            Ok(value) if value["width"].is_null() || value["width"].is_number() => Ok(()),
            _ => Err("width: not a number".to_owned()),
        },
        input_schema: "{}",
        output_schema: "{}",
    }
}

static APP_CONTRACTS: [&Contract; 3] = [&ONCE, &CLASS, &CONTRACT];

static APP_ROUTES: [Route; 4] = [
    Route { key: "order.shipped", meaning: "emitted by order", is_published: true },
    Route { key: "step.resize", meaning: "task of resize", is_published: false },
    Route { key: "workflow.completed", meaning: "hook of order", is_published: true },
    Route { key: "workflow.failed", meaning: "hook of order", is_published: true },
];

pub(crate) fn app() -> App {
    App {
        workflows: &[],
        contracts: &APP_CONTRACTS,
        events: &[],
        routes: &APP_ROUTES,
        steps: Vec::new(),
        package: crux_runtime::this_package!(),
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

static POLICY: Policy = Policy::ONCE;

pub(crate) fn task(contract: &'static Contract) -> (Task, Cancellation) {
    let cancellation = Cancellation::default();
    let instance = InstanceId([1; 16]);
    let origin = Origin {
        workflow: "test".into(),
        workflow_id: instance.to_string(),
        request_id: "req-1".to_owned(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        tokens: None,
        payload: Arc::from(raw(r#"{"name":"chair"}"#)),
    };
    let task = Task {
        instance,
        path: Path::new(7),
        path_text: Cow::Borrowed("look/resize"),
        attempt: 2,
        contract,
        policy: &POLICY,
        input: Arc::from(raw(r#"{"image":"a.png"}"#)),
        own_key: None,
        heartbeat_ms: None,
        origin: Arc::new(origin),
        cancellation: cancellation.clone(),
    };
    (task, cancellation)
}

/// What a test server does with a request.
#[derive(Clone)]
enum Does {
    /// Writes this, and keeps the connection.
    Answers(String),
    /// Writes this, and closes.
    AnswersAndCloses(String),
    Sleeps(Duration, String),
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

fn ok(body: &str) -> Does {
    Does::Answers(http("200 OK", "", body))
}

struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Requests that are being answered: now, and at most.
    concurrency: Arc<(AtomicUsize, AtomicUsize)>,
    /// Heads and bodies, as they came.
    requests: mpsc::UnboundedReceiver<(String, String)>,
}

/// A server that does the same with every request.
async fn server(does: Does) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let concurrency = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let (sender, requests) = mpsc::unbounded_channel();
    let (counted, most) = (connections.clone(), concurrency.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, does.clone(), sender.clone(), most.clone()));
        }
    });
    Server { address, connections, concurrency, requests }
}

async fn serve(
    mut stream: TcpStream,
    does: Does,
    sender: mpsc::UnboundedSender<(String, String)>,
    concurrency: Arc<(AtomicUsize, AtomicUsize)>,
) {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8(bytes.drain(..end + 4).collect())
                    .unwrap()
                    .to_ascii_lowercase();
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let length: usize = head
            .split("content-length: ")
            .nth(1)
            .unwrap()
            .split("\r\n")
            .next()
            .unwrap()
            .parse()
            .unwrap();
        while bytes.len() < length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = String::from_utf8(bytes.drain(..length).collect()).unwrap();
        // A test that has seen enough does not listen any more.
        let _ = sender.send((head, body));
        concurrency.1.fetch_max(concurrency.0.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let (text, close) = match does.clone() {
            Does::Answers(text) => (text, false),
            Does::AnswersAndCloses(text) => (text, true),
            Does::Sleeps(pause, text) => {
                tokio::time::sleep(pause).await;
                (text, false)
            }
        };
        concurrency.0.fetch_sub(1, Ordering::SeqCst);
        if stream.write_all(text.as_bytes()).await.is_err() || close {
            return;
        }
    }
}

fn service(url: String, steps: &[&str], concurrency: usize) -> Service {
    let steps = steps.iter().map(|step| (*step).to_owned()).collect();
    Service {
        name: "image".to_owned(),
        url,
        steps,
        subscribe: Vec::new(),
        concurrency,
        statuses: BTreeMap::new(),
    }
}

fn bus(server: &Server) -> Local {
    let url = format!("http://{}/tasks", server.address);
    Local::new(&app(), vec![service(url, &["resize", "charge"], 4)], 1024).unwrap()
}

/// The next report but for the one that says that the call began.
async fn next(reports: &mut mpsc::Receiver<Report>) -> Reported {
    loop {
        let report = timeout(Duration::from_secs(100), reports.recv())
            .await
            .expect("a report in time")
            .unwrap();
        assert_eq!(
            (report.instance, report.path, report.attempt),
            (InstanceId([1; 16]), Path::new(7), 2)
        );
        if !matches!(report.what, Reported::Began) {
            return report.what;
        }
    }
}

/// Sends one task to a server of that temper.
async fn dispatched(contract: &'static Contract, does: Does) -> (Reported, Server, Local) {
    let server = server(does).await;
    let bus = bus(&server);
    let (sender, mut reports) = mpsc::channel(16);
    let (task, _cancel) = task(contract);
    bus.dispatch(task, &sender).unwrap();
    (next(&mut reports).await, server, bus)
}

fn failure(reported: Reported) -> AttemptFailed {
    match reported {
        Reported::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

fn undelivered(reported: Reported) -> String {
    match reported {
        Reported::Undelivered { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_service_gets_the_whole_task_and_its_answer_is_the_result() {
    let (reported, mut server, bus) =
        dispatched(&CONTRACT, ok(r#"{"success":true,"result":{"width":9}}"#)).await;
    let Reported::Completed { result } = reported else { panic!("{reported:?}") };
    assert_eq!(result.get(), r#"{"width":9}"#);

    let (head, body) = server.requests.recv().await.unwrap();
    assert!(head.starts_with("post /tasks http/1.1\r\n"), "{head}");
    let instance = InstanceId([1; 16]);
    let key = format!("{instance}/look/resize");
    for header in [
        "content-type: application/json",
        &format!("idempotency-key: {key}"),
        "x-correlation-id: req-1",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert!(head.contains(&format!("{header}\r\n")), "{header} in {head}");
    }
    let expected = json!({
        "workflow_id": instance.to_string(),
        "step_id": instance.step("look/resize").to_string(),
        "step_type": "resize",
        "attempt": 2,
        "key": key,
        "input": {"image": "a.png"},
        "payload": {"name": "chair"},
    });
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    assert_eq!(bus.health(), Ok(()));
    assert_eq!(bus.list().remove(0).completed, 1);
}

#[tokio::test]
async fn accepted_means_that_the_result_comes_later() {
    let (reported, ..) = dispatched(&CONTRACT, Does::Answers(http("202 Accepted", "", ""))).await;
    assert!(matches!(reported, Reported::Delivered), "{reported:?}");
}

#[tokio::test]
async fn a_result_may_be_left_out_where_none_is_needed() {
    for does in
        [ok(r#"{"success":true}"#), Does::Answers("HTTP/1.1 204 No Content\r\n\r\n".to_owned())]
    {
        let (reported, ..) = dispatched(&CONTRACT, does).await;
        let Reported::Completed { result } = reported else { panic!("{reported:?}") };
        assert_eq!(result.get(), "{}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_uses_up_no_attempt() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bus = Local::new(&app(), vec![service(format!("http://{address}/"), &["resize"], 4)], 1024)
        .unwrap();
    let (sender, mut reports) = mpsc::channel(16);
    bus.dispatch(task(&CONTRACT).0, &sender).unwrap();
    let reason = undelivered(next(&mut reports).await);
    assert_eq!(reason, "service `image` cannot be reached: Connection refused (os error 111)");
    assert_eq!(bus.health(), Err(reason));
}

#[tokio::test(start_paused = true)]
async fn a_busy_service_is_left_alone_for_as_long_as_it_says() {
    for (status, headers, left) in [
        ("503 Service Unavailable", "retry-after: 1\r\n", "1"),
        ("429 Too Many Requests", "retry-after: 7\r\n", "7"),
        ("503 Service Unavailable", "", "1"),
    ] {
        let (reported, server, bus) =
            dispatched(&CONTRACT, Does::Answers(http(status, headers, ""))).await;
        let problem = format!("service `image` takes no tasks now: it answered {status}");
        assert_eq!(undelivered(reported), problem);

        let (sender, mut reports) = mpsc::channel(16);
        bus.dispatch(task(&CONTRACT).0, &sender).unwrap();
        assert_eq!(
            bus.delay(Some("resize")),
            Some(format!("{problem}; it is left alone for {left} s"))
        );
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(reports.try_recv().is_err(), "it waits in line");
        assert_eq!(server.connections.load(Ordering::SeqCst), 1, "it was called again");
        assert_eq!((bus.list()[0].running, bus.list()[0].queued), (0, 1));
        if left == "1" {
            assert_eq!(undelivered(next(&mut reports).await), problem, "it was not called again");
        }
    }
}

/// As an overloaded service, or one that turns away what belongs to a certain customer.
#[tokio::test(start_paused = true)]
async fn what_waits_goes_on_when_the_pause_is_over_and_a_call_that_gets_through_lets_all_go() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let bus = Local::new(
        &app(),
        vec![service(format!("http://{address}/"), &["resize", "charge"], 4)],
        1024,
    )
    .unwrap();
    let mut back = bus.back().unwrap();
    let (sender, mut reports) = mpsc::channel(64);
    let numbered =
        |n: u8| Task { path_text: Cow::Owned(format!("look[{n}]")), ..task(&CONTRACT).0 };
    bus.dispatch(numbered(0), &sender).unwrap();
    undelivered(next(&mut reports).await);
    for n in 1..20 {
        bus.dispatch(numbered(n), &sender).unwrap();
    }
    // One of them tries, is turned away too, and the others wait longer.
    undelivered(next(&mut reports).await);
    assert!(
        timeout(Duration::from_millis(200), reports.recv()).await.is_err(),
        "the others wait in line"
    );
    let listener = TcpListener::bind(address).await.unwrap();
    let (requests, _seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(
                stream,
                ok(r#"{"success":true}"#),
                requests.clone(),
                Arc::default(),
            ));
        }
    });
    let begun = tokio::time::Instant::now();
    for _ in 0..18 {
        assert!(matches!(next(&mut reports).await, Reported::Completed { .. }));
    }
    // One after the other, each after its own delay, they would take 18 s.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // Those that were turned away are called for.
    timeout(Duration::from_secs(1), back.changed()).await.expect("a call").unwrap();
    assert_eq!((bus.delay(Some("resize")), bus.health()), (None, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_in_line_has_not_begun_and_one_that_must_not_go_out_twice_is_given_back() {
    let busy = http("503 Service Unavailable", "retry-after: 60\r\n", "");
    let (_, _server, bus) = dispatched(&CONTRACT, Does::Answers(busy)).await;
    let (sender, mut reports) = mpsc::channel(16);
    let (task_, cancel) = task(&CONTRACT);
    bus.dispatch(task_, &sender).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    cancel.cancel();
    assert_eq!(
        failure(next(&mut reports).await).failure.to_string(),
        "Cancelled: cancelled before it began"
    );
    bus.dispatch(task(&ONCE).0, &sender).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    bus.drain();
    assert!(matches!(next(&mut reports).await, Reported::Returned));
}

#[tokio::test]
async fn a_long_answer_that_says_failed_is_a_failed_attempt() {
    let page = "at line 1\n".repeat(40_000);
    let failed = failure(
        dispatched(&CONTRACT, Does::Answers(http("500 Internal Server Error", "", &page))).await.0,
    );
    assert_eq!(
        (failed.failure.name.as_ref(), failed.outcome, failed.retry),
        ("Error", Outcome::Failed, None)
    );
    assert!(
        failed
            .failure
            .message
            .starts_with("service `image` answered 500 Internal Server Error: at line 1"),
        "{}",
        failed.failure
    );
    let failed =
        failure(dispatched(&CONTRACT, Does::Answers(http("502 Bad Gateway", "", &page))).await.0);
    assert_eq!((failed.failure.name.as_ref(), failed.outcome), ("Unavailable", Outcome::Unknown));
}

#[tokio::test]
async fn garbage_is_an_invalid_result() {
    let failed = failure(dispatched(&CONTRACT, ok("<html>hello</html>")).await.0);
    assert_eq!(
        (failed.failure.name.as_ref(), failed.outcome),
        (Failure::INVALID_RESULT, Outcome::Failed)
    );
    let failed =
        failure(dispatched(&CONTRACT, ok(r#"{"success":true,"result":{"width":"wide"}}"#)).await.0);
    assert_eq!(
        failed.failure.to_string(),
        "InvalidResult: service `image` answered 200: result.width: not a number"
    );
    let long = format!(r#"{{"success":true,"result":{{"text":"{}"}}}}"#, "x".repeat(20_000));
    let failed = failure(dispatched(&CONTRACT, ok(&long)).await.0);
    assert_eq!(
        failed.failure.to_string(),
        "InvalidResult: service `image` answered 200 and more than 17408 bytes"
    );
}

#[tokio::test]
async fn what_is_no_http_at_all_leaves_the_outcome_open() {
    let failed = failure(
        dispatched(&CONTRACT, Does::AnswersAndCloses("ssh-2.0 what?\r\n".to_owned())).await.0,
    );
    assert_eq!(
        (failed.failure.name.as_ref(), failed.outcome),
        (Failure::WORKER_LOST, Outcome::Unknown)
    );
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_the_outcome_open() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"success\":tr";
    for text in ["", "HTTP/1.1 200", half] {
        let failed =
            failure(dispatched(&CONTRACT, Does::AnswersAndCloses(text.to_owned())).await.0);
        assert_eq!(
            (failed.failure.name.as_ref(), failed.outcome),
            (Failure::WORKER_LOST, Outcome::Unknown),
            "{text:?}"
        );
        assert!(
            failed
                .failure
                .message
                .starts_with("the connection to service `image` broke before its answer"),
            "{}",
            failed.failure
        );
    }
}

#[tokio::test]
async fn errors_by_status() {
    let status = async |status: &str, body: &str| {
        failure(
            dispatched(&CONTRACT, Does::Answers(http(status, "location: /there\r\n", body)))
                .await
                .0,
        )
    };
    let failed = status(
        "500 Internal Server Error",
        r#"{"error":{"name":"OutOfPaper","message":"tray 2","after":"30s"}}"#,
    )
    .await;
    assert_eq!((failed.failure.to_string().as_str(), failed.retry), ("OutOfPaper: tray 2", None));
    assert_eq!((failed.outcome, failed.after_ms), (Outcome::Failed, Some(30_000)));
    let failed = status("502 Bad Gateway", "upstream").await;
    assert_eq!(
        failed.failure.to_string(),
        "Unavailable: service `image` answered 502 Bad Gateway: upstream"
    );
    assert_eq!((failed.outcome, failed.retry), (Outcome::Unknown, None));
    let failed = status("400 Bad Request", "no image").await;
    assert_eq!(
        failed.failure.to_string(),
        "InvalidInput: service `image` answered 400 Bad Request: no image"
    );
    assert_eq!(failed.retry, Some(false));
    let failed = status("403 Forbidden", "").await;
    assert_eq!(
        (failed.failure.to_string().as_str(), failed.retry),
        ("service `image` answered 403 Forbidden", Some(false))
    );
    let failed = status("307 Temporary Redirect", "").await;
    let text = "service `image` answered 307 Temporary Redirect: redirects are not followed; configure the final address as services.image.url";
    assert_eq!((failed.failure.to_string().as_str(), failed.retry), (text, Some(false)));
}

#[tokio::test(start_paused = true)]
async fn calls_keep_their_connection_but_for_tasks_that_must_not_be_sent_twice() {
    for (contract, connections) in [(&CONTRACT, 1), (&ONCE, 3)] {
        let server = server(ok(r#"{"success":true}"#)).await;
        let bus = bus(&server);
        let (sender, mut reports) = mpsc::channel(16);
        for _ in 0..3 {
            bus.dispatch(task(contract).0, &sender).unwrap();
            assert!(matches!(next(&mut reports).await, Reported::Completed { .. }));
            // The connection goes back to the pool a moment after the answer.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(
            server.connections.load(Ordering::SeqCst),
            connections,
            "{}",
            contract.step_type
        );
    }
}

#[tokio::test]
async fn no_more_concurrent_calls_than_configured() {
    let server =
        server(Does::Sleeps(Duration::from_millis(50), http("200 OK", "", r#"{"success":true}"#)))
            .await;
    let bus = bus(&server);
    let (sender, mut reports) = mpsc::channel(64);
    for _ in 0..20 {
        bus.dispatch(task(&CONTRACT).0, &sender).unwrap();
    }
    for _ in 0..20 {
        assert!(matches!(next(&mut reports).await, Reported::Completed { .. }));
    }
    assert_eq!(server.concurrency.1.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_after_the_attempts_time() {
    static POLICY: Policy = Policy { run_ms: Some(2_000), ..Policy::ONCE };
    let server = server(Does::Sleeps(Duration::from_secs(3600), String::new())).await;
    let bus = bus(&server);
    let (sender, mut reports) = mpsc::channel(16);
    let (task, _cancel) = task(&CONTRACT);
    let before = tokio::time::Instant::now();
    bus.dispatch(Task { policy: &POLICY, ..task }, &sender).unwrap();
    let failed = failure(next(&mut reports).await);
    assert_eq!(
        failed.failure.to_string(),
        "Timeout: service `image` did not answer: its time of 2000 ms is over"
    );
    assert_eq!((failed.outcome, before.elapsed().as_secs()), (Outcome::Unknown, 7));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_may_still_end_and_is_given_up_later() {
    let answer = http("200 OK", "", r#"{"success":true}"#);
    for (takes, completes) in [(10, true), (3600, false)] {
        let server = server(Does::Sleeps(Duration::from_secs(takes), answer.clone())).await;
        let bus = bus(&server);
        let (sender, mut reports) = mpsc::channel(16);
        let (task, cancel) = task(&CONTRACT);
        bus.dispatch(task, &sender).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        cancel.cancel();
        let reported = next(&mut reports).await;
        assert_eq!(matches!(reported, Reported::Completed { .. }), completes, "{reported:?}");
        if !completes {
            assert_eq!(failure(reported).outcome, Outcome::Unknown);
        }
    }
}

#[tokio::test]
async fn a_step_type_without_service_is_said_to_have_none() {
    let bus = Local::new(&app(), Vec::new(), 1024).unwrap();
    let (sender, mut reports) = mpsc::channel(16);
    bus.dispatch(task(&CONTRACT).0, &sender).unwrap();
    let reason = "no service listens on step.resize: name `resize` under `steps` of one of the `services` in the configuration";
    assert_eq!(undelivered(next(&mut reports).await), reason);
}

#[tokio::test]
async fn services_that_cannot_be_are_refused_with_their_place() {
    let refused = |services: Vec<Service>| {
        Local::new(&app(), services, 1024).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let at = |url: &str| refused(vec![service(url.to_owned(), &[], 1)]);
    let place = "services.image.url: ";
    assert_eq!(
        at("https://image/"),
        format!(
            "{place}`https://image/` is not an address that anything can be posted to: https is not supported: put a proxy on this machine in between"
        )
    );
    assert_eq!(
        at("image:80"),
        format!(
            "{place}`image:80` is not an address that anything can be posted to: it has to begin with `http://`"
        )
    );
    assert_eq!(
        at("http://me:secret@image/"),
        format!(
            "{place}`http://…@image/` is not an address that anything can be posted to: it must not hold a user name or password"
        )
    );
    let url = || "http://image/".to_owned();
    assert_eq!(
        refused(vec![service(url(), &["resise"], 1)]),
        "services.image.steps: no service runs a step type `resise`; did you mean `resize`?"
    );
    assert_eq!(
        refused(vec![service(url(), &["notify"], 1)]),
        "services.image.steps: `notify` runs in the step struct `NotifyStep`, not in a service: leave it out here"
    );
    let other = Service { name: "other".to_owned(), ..service(url(), &["resize"], 1) };
    assert_eq!(
        refused(vec![service(url(), &["resize"], 1), other]),
        "services.other.steps: `resize` is already given to services.image: a step type has one service"
    );
    assert_eq!(
        refused(vec![service(url(), &[], 0)]),
        "services.image.concurrency: must be at least 1"
    );
}
