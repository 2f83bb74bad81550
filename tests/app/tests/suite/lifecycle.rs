//! The process: how it begins, what stops it from beginning, how it ends, and what the next one
//! finds.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::kit::{Gate, Reply, Server, Service, Socket, eventually};
use crate::server;

/// An end that waits for something which does not come takes 20 s.
/// A server that waited for all of it would not end within a test's patience.
const LONG_SHUTDOWN: &str = "server: { shutdown: 1h }\n";

/// Runs `serve` and expects it to end by itself; what it says, and with which code.
fn refused(
    server: &Server,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (String, Option<i32>) {
    let output = server
        .command()
        .arg("serve")
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_the_fix() {
    let server = server("");
    let port = server.port().to_string();
    let (text, code) = refused(&server, &["--store", "other.db"], &[("CRUX_SERVER__PORT", &port)]);
    assert_eq!(code, Some(1));
    assert!(
        text.contains(&format!("port {port} of 127.0.0.1 is in use")) && text.contains("--port"),
        "{text}"
    );
}

#[tokio::test]
async fn a_second_process_on_the_file_is_refused_by_name() {
    let server = server("");
    let (text, code) = refused(&server, &[], &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("crux.db is in use by another process"), "{text}");
    assert_eq!(server.client().get("/health").await.status, 200);
}

#[tokio::test]
async fn a_second_process_is_refused_by_whatever_name_it_calls_the_file() {
    let server = server("");
    let at = |name: &str| server.folder().join(name);
    std::os::unix::fs::symlink(at("crux.db"), at("link.db")).unwrap();
    let (text, code) = refused(&server, &["--store", "link.db"], &[]);
    assert!(
        text.contains("link.db is in use by another process (number") && code == Some(1),
        "{text}"
    );
    std::fs::hard_link(at("crux.db"), at("hard.db")).unwrap();
    let (text, code) = refused(&server, &["--store", "hard.db"], &[]);
    assert!(text.contains("hard.db has 2 names (hard links)") && code == Some(1), "{text}");
    std::fs::remove_file(at("hard.db")).unwrap();
    std::fs::remove_file(at("crux.db-lock")).unwrap();
    let (text, code) = refused(&server, &[], &[]);
    assert!(text.contains("crux.db is in use by another process:") && code == Some(1), "{text}");
    assert_eq!(
        server
            .client()
            .post("/api/v1/workflow/double?wait=30s", &json!({"number": 1}))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_log_that_was_removed_after_a_crash_stops_the_start_until_it_is_back() {
    let mut server = server("");
    let id = server.client().start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    server.kill();
    let (log, away) = (server.folder().join("crux.db-wal"), server.folder().join("away"));
    std::fs::rename(&log, &away).unwrap();
    let (text, code) = refused(&server, &[], &[]);
    assert!(
        text.contains("crux.db-wal is gone") && text.contains("Put") && code == Some(1),
        "{text}"
    );
    std::fs::rename(&away, &log).unwrap();
    server.restart();
    server.client().until(&id, "waiting").await;
}

#[tokio::test]
async fn a_port_that_cannot_be_stops_the_start() {
    let mut server = server("");
    server.kill();
    let config = "services: { a: { url: 'http://localhost:99999/', steps: [prepare] } }\nconfig: { HOME: Ghent }\n";
    std::fs::write(server.folder().join("crux.yaml"), config).unwrap();
    let (text, code) = refused(&server, &[], &[]);
    assert!(
        text.contains(
            "services.a: has no address that anything can be posted to: `99999` is not a port"
        ) && code == Some(2),
        "{text}"
    );
}

#[tokio::test]
async fn a_misspelt_key_stops_the_start() {
    let mut server = server("");
    server.kill();
    std::fs::write(server.folder().join("crux.yaml"), "server:\n  shutdwon: 5s\n").unwrap();
    let (text, code) = refused(&server, &[], &[]);
    assert_eq!(
        (text.as_str(), code),
        (
            "error: crux.yaml:2:3: server.shutdwon: there is no such setting; did you mean `shutdown`?\n",
            Some(2)
        )
    );
    let (text, code) = refused(&server, &[], &[("CRUX_SERVER__POTR", "1")]);
    assert!(text.contains("did you mean") && code == Some(2), "{text}");
}

#[tokio::test]
async fn an_address_that_others_can_reach_stops_the_start() {
    let mut server = server("");
    server.kill();
    let (text, code) = refused(&server, &[], &[("CRUX_SERVER__HOST", "0.0.0.0")]);
    assert!(
        text.contains("server.host: `0.0.0.0` is not on this machine's loopback interface")
            && code == Some(2),
        "{text}"
    );
}

#[tokio::test]
async fn a_value_that_a_workflow_reads_and_nobody_has_set_stops_the_start() {
    let mut server = server("");
    server.kill();
    std::fs::write(server.folder().join("crux.yaml"), "").unwrap();
    let (text, code) = refused(&server, &[], &[]);
    assert!(
        text.contains("`trip` reads `config.HOME`, which is not set") && code == Some(1),
        "{text}"
    );
}

#[tokio::test]
async fn a_service_of_an_unknown_step_type_stops_the_start() {
    let mut server = server("");
    server.kill();
    let config = "services: { a: { url: 'http://localhost:1/', steps: [prepaer] } }\nconfig: { HOME: Ghent }\n";
    std::fs::write(server.folder().join("crux.yaml"), config).unwrap();
    let (text, code) = refused(&server, &[], &[]);
    assert!(
        text.contains("services.a.steps") && text.contains("prepaer") && code == Some(1),
        "{text}"
    );
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let mut server = server("");
    server.kill();
    let file = rusqlite::Connection::open(server.folder().join("crux.db")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let (text, code) = refused(&server, &[], &[]);
    assert!(text.contains("newer version of Crux (format 99") && code == Some(1), "{text}");
}

#[tokio::test]
async fn an_instance_whose_definition_is_not_in_this_binary_is_shown_and_not_moved() {
    let mut server = server("");
    let id = server.client().start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    let hash =
        server.client().until(&id, "waiting").await["definition_hash"].as_str().unwrap().to_owned();
    server.tell_to_end();
    assert!(server.ended().success());
    // As if another build had started it.
    let file = rusqlite::Connection::open(server.folder().join("crux.db")).unwrap();
    for change in [
        "UPDATE kind SET definition = 'feed' WHERE definition = ?1",
        "UPDATE journal SET body = replace(body, ?1, 'feed')",
        "UPDATE OR REPLACE definition SET hash = 'feed' WHERE hash = ?1",
    ] {
        assert!(file.execute(change, [&hash]).unwrap() > 0, "{change}");
    }
    drop(file);
    server.restart();
    let client = server.client();
    let document = client.status(&id).await;
    assert_eq!(
        (&document["workflow"], &document["metadata"]["status"]),
        (&json!("nap"), &json!("waiting"))
    );
    let answer = client.tell(&id, "cancel", &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "definition-missing"));
    // Every place where people look shows it.
    let why =
        "definition feed of `nap` version 1 is not in this binary, whose version 1 is another one";
    let line = server.logged(&["instances cannot continue", why]).await;
    assert!(line.contains(" WARN ") && line.contains("instances=1"), "{line}");
    let waits_for = client.status(&id).await["current_steps"][0]["waits_for"].to_string();
    assert!(waits_for.contains(why), "{waits_for}");
    let health = client.get("/health").await.json();
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["definitions"]["missing"][0]["workflow"], "nap");
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
    let gauge =
        "crux_instances_without_definition{workflow=\"nap\",version=\"1\",definition=\"feed\"} 1";
    assert!(metrics.lines().any(|line| line == gauge), "{metrics}");
    // Others are not disturbed.
    let answer = client.post("/api/v1/workflow/double?wait=30s", &json!({"number": 1})).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_goes_on() {
    let service = Service::start(|_| Reply::Later).await;
    let mut server = server(&service.config(&["prepare", "finish"]));
    let id = server.client().start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    service.task("prepare", 1).await;
    assert_eq!(
        server.client().complete(&id, "prepare", &json!({"size": 5})).await.text("status"),
        "accepted"
    );
    server.kill();
    server.restart();
    let client = server.client();
    assert_eq!(service.task("finish", 1).await["input"], json!({"size": 5}));
    assert_eq!(
        client.complete(&id, "prepare", &json!({"size": 5})).await.text("status"),
        "duplicate"
    );
    client.complete(&id, "finish", &json!({"label": "L"})).await;
    client.until(&id, "completed").await;
}

#[tokio::test]
async fn a_timer_that_came_due_while_nothing_ran_fires_immediately() {
    let mut server = server("");
    let id = server.client().start("/api/v1/workflow/nap", &json!({"nap": "500ms"})).await;
    server.kill();
    tokio::time::sleep(Duration::from_millis(700)).await;
    server.restart();
    server.client().until(&id, "completed").await;
}

#[tokio::test]
async fn a_server_that_is_shut_down_finishes_what_runs_and_refuses_what_is_new() {
    let service = Service::start(|task| {
        let done = Reply::Done(if task["step_type"] == "prepare" {
            json!({"size": 1})
        } else {
            json!({"label": "L"})
        });
        Reply::After(Duration::from_millis(500), Box::new(done))
    })
    .await;
    let mut server = server(&format!("{}{LONG_SHUTDOWN}", service.config(&["prepare", "finish"])));
    let client = server.client();
    let id = client.start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    let mut socket = Socket::follow(&server, &id).await;
    let mut gateway = Socket::open(&server, "").await;
    service.task("prepare", 1).await;
    server.tell_to_end();
    assert_eq!(gateway.next().await, None);
    assert_eq!(gateway.closed, Some(1001));
    socket.rest().await;
    assert_eq!(socket.closed, Some(1001));
    assert!(server.ended().success());
    server.restart();
    // Whatever was not finished goes on.
    server.client().until(&id, "completed").await;
}

#[tokio::test]
async fn peers_that_neither_ask_nor_read_do_not_hold_up_an_end() {
    let mut server = server(LONG_SHUTDOWN);
    let mut peers = Vec::new();
    let post = "POST /api/v1/workflow/double HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n";
    let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    for said in ["", "GET /hea", post, &metrics] {
        let mut peer = TcpStream::connect(server.address()).await.unwrap();
        peer.write_all(said.as_bytes()).await.unwrap();
        peers.push(peer);
    }
    // The server waits for a body, and has begun to answer what is not read.
    let mut waits = [0; 25];
    peers[2].read_exact(&mut waits).await.unwrap();
    assert_eq!(&waits, b"HTTP/1.1 100 Continue\r\n\r\n");
    peers[2].write_all(b"{").await.unwrap();
    peers[3].peek(&mut [0]).await.unwrap();
    server.tell_to_end();
    assert!(server.ended().success());
    let mut answer = String::new();
    peers[2].read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("shutting-down"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_comes_while_a_server_ends_is_answered() {
    let mut server = server("");
    let ledger = server.folder().join("ledger");
    let id = server
        .client()
        .start("/api/v1/workflow/sequence_once", &json!({"ledger": ledger, "ms": 4_000}))
        .await;
    eventually("it has begun", async || {
        std::fs::read_to_string(&ledger).ok().filter(|lines| !lines.is_empty())
    })
    .await;
    server.tell_to_end();
    // New connections each.
    eventually("it has received the hook", async || {
        (server.client().get("/health/ready").await.status == 503).then_some(())
    })
    .await;
    let answer = server.client().post("/api/v1/workflow/double", &json!({"number": 1})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "shutting-down"));
    assert_eq!(
        (answer.header("retry-after"), answer.header("connection")),
        (Some("1"), Some("close"))
    );
    assert_eq!(server.client().get("/health").await.json()["status"], "stopping");
    assert_eq!(server.client().status(&id).await["metadata"]["status"], "processing");
    assert!(server.ended().success());
    assert!(
        server.client().try_send(hyper::Method::GET, "/health", &[], Vec::new()).await.is_err()
    );
}

#[tokio::test]
async fn what_has_not_begun_when_a_server_is_shut_down_begins_once_with_the_next() {
    // Some run, some wait at the worker, some have found no room there.
    let mut server = server("workers: { steps: { work_once: { maximum: 2, max_queued: 2 } } }");
    let ledger = server.folder().join("ledger");
    let lines = || {
        std::fs::read_to_string(&ledger)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let client = server.client();
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(
            client
                .start("/api/v1/workflow/sequence_once", &json!({"ledger": ledger, "ms": 300}))
                .await,
        );
    }
    eventually("two have begun", async || (lines().len() >= 2).then_some(())).await;
    server.tell_to_end();
    assert!(server.ended().success());
    let begun = lines().iter().filter(|line| line.starts_with("begin")).count();
    assert!(
        begun < 6 && lines().len() == 2 * begun,
        "what ran has ended, and the rest has not begun: {:?}",
        lines()
    );
    server.restart();
    let client = server.client();
    for id in &ids {
        client.until(id, "completed").await;
        let history =
            client.get(&format!("/api/v1/workflow/{id}/history")).await.json().to_string();
        assert!(!history.contains("task_lost") && history.contains("task_returned"), "{history}");
    }
    for key in ids.iter().flat_map(|id| [format!("{id}/first"), format!("{id}/second")]) {
        let of = |what: &str| {
            lines().iter().filter(|line| line.starts_with(what) && line.ends_with(&key)).count()
        };
        assert_eq!((of("begin"), of("end")), (1, 1), "{key}: {:?}", lines());
    }
}

/// For money, by a service that gets one task at a time.
fn transfers(service: &Service) -> String {
    format!(
        "services: {{ bank: {{ url: '{}', steps: [transfer], concurrency: 1 }} }}\n{LONG_SHUTDOWN}",
        service.url()
    )
}

#[tokio::test]
async fn a_once_task_that_a_service_had_in_its_hands_when_the_server_died_is_not_sent_again() {
    let service =
        Service::start(|_| Reply::After(Duration::from_secs(60), Box::new(Reply::Later))).await;
    let mut server = server(&transfers(&service));
    let id = server.client().start("/api/v1/workflow/pay", &json!({"cents": 100})).await;
    service.task("transfer", 1).await;
    server.kill();
    server.restart();
    let document = server.client().until(&id, "parked").await;
    assert_eq!(document["error_name"], "OutcomeUnknown");
    server.client().settled().await;
    assert_eq!(service.tasks().len(), 1, "it was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_tasks_of_a_service_are_not_in_doubt_when_a_server_is_shut_down() {
    let gate = Gate::closed();
    let bank = gate.clone();
    let service = Service::start(move |_| {
        Reply::When(bank.clone(), Box::new(Reply::Done(json!({"receipt": "R"}))))
    })
    .await;
    let mut server = server(&transfers(&service));
    let client = server.client();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.start("/api/v1/workflow/pay", &json!({"cents": 100})).await);
    }
    service.task("transfer", 1).await;
    server.tell_to_end();
    eventually("it has received the hook", async || {
        (server.client().get("/health/ready").await.status == 503).then_some(())
    })
    .await;
    gate.open();
    assert!(server.ended().success());
    assert_eq!(service.tasks().len(), 1, "what waited for its turn was sent all the same");
    server.restart();
    for id in &ids {
        assert_eq!(server.client().until(id, "completed").await["output"], json!({"receipt": "R"}));
    }
    assert_eq!(service.tasks().len(), 3, "one was sent twice");
}

#[tokio::test]
async fn once_tasks_of_a_service_that_is_down_wait_for_the_next_server() {
    let bank = Service::start(|_| Reply::Raw(503, String::new())).await;
    let mut server = server(&transfers(&bank));
    let client = server.client();
    let id = client.start("/api/v1/workflow/pay", &json!({"cents": 100})).await;
    eventually("it is shown why it waits", async || {
        let document = client.status(&id).await;
        document["current_steps"][0]["waits_for"]
            .as_str()
            .is_some_and(|why| why.contains("its delivery"))
            .then_some(())
    })
    .await;
    server.tell_to_end();
    assert!(server.ended().success());
    let service = Service::start(|_| Reply::Done(json!({"receipt": "R"}))).await;
    std::fs::write(
        server.folder().join("crux.yaml"),
        format!("config: {{ HOME: Ghent }}\n{}", transfers(&service)),
    )
    .unwrap();
    server.restart();
    server.client().until(&id, "completed").await;
}

#[tokio::test]
async fn a_server_whose_work_does_not_end_ends_all_the_same() {
    let service =
        Service::start(|_| Reply::After(Duration::from_secs(3600), Box::new(Reply::Later))).await;
    let mut server =
        server(&format!("{}server: {{ shutdown: 1s }}\n", service.config(&["prepare", "finish"])));
    server.client().start("/api/v1/workflow/work", &json!({"item": "cup"})).await;
    service.task("prepare", 1).await;
    server.tell_to_end();
    assert!(server.ended().success());
}

#[tokio::test]
async fn health_and_figures() {
    let server = server("server: { environment: test }");
    let client = server.client();
    let health = client.get("/health").await;
    assert_eq!(
        (health.status, health.json()["status"].as_str(), health.json()["environment"].as_str()),
        (200, Some("ok"), Some("test"))
    );
    assert_eq!(
        (client.get("/health/live").await.status, client.get("/health/ready").await.status),
        (200, 200)
    );
    client.post("/api/v1/workflow/double?wait=30s", &json!({"number": 1})).await;
    client.post("/api/v1/workflow/double", &json!({})).await;
    let metrics = eventually("the metrics", || async {
        let text = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
        text.contains("crux_instances_completed_total 1").then_some(text)
    })
    .await;
    for line in [
        "crux_instances_started_total 1",
        "crux_transitions_total 3",
        "crux_steps_completed_total 2",
        r#"crux_http_requests_total{method="POST",route="/api/v1/workflow/double",status="422"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "no `{line}` in:\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
}
