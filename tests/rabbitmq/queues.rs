//! Queues: missing ones, ones that are there already and differ, and `crux topology`.

use serde_json::{Value, json};

use crate::kit::{Server, eventually};
use crate::service::{Line, queue};
use crate::{BINARY, config, fresh_name, product, result, server, shared};

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_task_without_a_queue_says_so_and_goes_out_when_one_is_bound() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    let why = eventually("the reason is shown", || async {
        let document = client.status(&id).await;
        let why = document["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
        why.contains("no_queue").then_some(why)
    })
    .await;
    assert!(
        why.starts_with("its delivery: no_queue: no service listens on step.image_processing"),
        "{why}"
    );
    let shown = server.run(&["status", &id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("no service listens on step.image_processing"), "{shown}");
    let metrics = client.get("/metrics").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    let count = metrics.lines().find(|line| {
        line.starts_with("crux_bus_no_queue_total{routing_key=\"step.image_processing\"}")
    });
    assert!(count.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");

    let _services = line.services(result).await;
    let document = client.until(&id, "completed").await;
    assert_eq!(
        document["definition"]["steps"][0]["attempts"], 1,
        "a task that reached nobody uses up no attempt"
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_queue_that_is_there_and_differs_stops_the_start_and_is_named() {
    use lapin::options::QueueDeclareOptions;
    use lapin::types::FieldTable;
    let broker = shared().await;
    let name = fresh_name();
    let line = Line::open(&broker.url(), &name).await;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    line.channel
        .queue_declare(format!("{name}.completions").into(), options, FieldTable::default())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("crux.yaml"), config(&broker, &name, "")).unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["serve", "--port", "0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains(&format!("the queue `{name}.completions` is on the broker already")),
        "{error}"
    );
    assert!(error.contains("'x-queue-type'") && error.contains("'quorum'"), "{error}");
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn topology_shows_what_there_is_and_declares_it() {
    let broker = shared().await;
    let name = fresh_name();
    let server = Server::start(BINARY, &config(&broker, &name, ""));
    let shown = server.run(&["topology", "--json"]);
    let topology: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(topology["exchange"], json!(name));
    let own: Vec<&str> = topology["own"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| queue["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        own,
        [
            format!("{name}.completions"),
            format!("{name}.events"),
            format!("{name}.dead"),
            format!("{name}.parked")
        ]
    );
    assert_eq!(
        topology["own"][0]["keys"],
        json!(["step.completed", "step.started", "step.heartbeat"])
    );
    let services: Vec<&Value> = topology["services"].as_array().unwrap().iter().collect();
    let image =
        services.iter().find(|queue| queue["keys"] == json!(["step.image_processing"])).unwrap();
    assert_eq!(image["arguments"]["x-queue-type"], "quorum");
    let notices = topology["notices"].to_string();
    assert!(notices.contains("workflow.completed"), "{notices}");

    let declared = server.run(&["topology", "--declare"]);
    assert!(declared.status.success(), "{declared:?}");
    let line = Line::open(&broker.url(), &name).await;
    server.client().start("/api/v1/workflow/upload", &product("Lamp")).await;
    let task = line.next(image["name"].as_str().unwrap()).await;
    assert_eq!(crate::service::task(&task).body["step_type"], "image_processing");
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_full_queue_is_tried_again_and_then_shown() {
    use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
    use lapin::types::{AMQPValue, FieldTable};
    let broker = shared().await;
    let name = fresh_name();
    let server = Server::start(BINARY, &config(&broker, &name, ", max_retries: 1"));
    let line = Line::open(&broker.url(), &name).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let full = queue(&name, "full");
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    line.channel.queue_declare(full.as_str().into(), options, arguments).await.unwrap();
    let (bound, key) = (full.as_str().into(), "step.image_processing".into());
    line.channel
        .queue_bind(
            bound,
            name.as_str().into(),
            key,
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    line.publish("step.image_processing", "", b"fills it").await;

    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    eventually("the reason is shown", || async {
        let document = client.status(&id).await;
        document["current_steps"][0]["waits_for"]
            .as_str()
            .unwrap_or_default()
            .contains("undeliverable")
            .then_some(())
    })
    .await;
    line.channel.queue_purge(full.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    let task = line.next(&full).await;
    assert_eq!(crate::service::task(&task).body["workflow_id"], json!(id));
}
