//! The broker dies, is not there at the start, or is short of memory. These tests have it for
//! themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use serde_json::json;

use crate::kit::upload::{assert_made, keep_starting};
use crate::kit::{Server, eventually};
use crate::service::{Line, STEPS};
use crate::{BINARY, alone, config, fresh_name, product, result};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_broker_that_dies_in_the_middle_costs_nothing_but_time() {
    let mut broker = alone().await;
    let name = fresh_name();
    let server = Server::start(BINARY, &config(&broker, &name, ""));
    let line = Line::open(&broker.url(), &name).await;
    let services = line.services(result).await;
    let other = fresh_name();
    let other_line = Line::open(&broker.url(), &other).await;
    let exchange = ExchangeDeclareOptions { durable: true, ..Default::default() };
    other_line
        .channel
        .exchange_declare(
            other.as_str().into(),
            ExchangeKind::Topic,
            exchange,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let starting = keep_starting(client.clone(), stop.clone(), false);
    // A quorum queue that is not a second old when its broker is killed may hang forever
    // afterwards (seen with RabbitMQ 3.10).
    tokio::time::sleep(Duration::from_secs(5)).await;

    tokio::task::block_in_place(|| broker.kill());
    let health = eventually("health tells", || async {
        let health = client.get("/health").await.json();
        (health["status"] == "degraded").then_some(health)
    })
    .await;
    assert_eq!(health["bus"]["status"], "failing", "{health:#}");
    // Starts are taken all the same, and say what they wait for.
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    eventually("the reason is shown", || async {
        let why = client.status(&id).await["current_steps"][0]["waits_for"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        why.contains("RabbitMQ").then_some(())
    })
    .await;
    // One that begins without the broker.
    let late = Server::start(BINARY, &config(&broker, &other, ""));
    let late_id = late.client().start("/api/v1/workflow/upload", &product("Late")).await;
    assert_eq!(late.client().get("/health/ready").await.status, 200);
    assert_eq!(late.client().get("/health").await.json()["status"], "degraded");

    tokio::task::block_in_place(|| broker.begin());
    // Their queues are new: one that was declared a moment before the death and never used may hang
    // when the broker is back.
    let other_line = Line::open(&broker.url(), &other).await;
    let _other_services = other_line.services(result).await;
    client.until(&id, "completed").await;
    stop.store(true, Ordering::Relaxed);
    let mut ids = starting.await.unwrap();
    ids.push(id);
    for id in &ids {
        assert_made(&client, id).await;
    }
    assert!(services.tasks().len() >= 3 * ids.len());
    let line = Line::open(&broker.url(), &name).await;
    for step in STEPS {
        assert_eq!(line.waiting(&crate::service::queue(&name, step)).await, 0);
    }
    assert_made(&late.client(), &late_id).await;
    assert_eq!(late.client().get("/health").await.json()["status"], "ok");
    println!("{} uploads over a broker that died", ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_broker_short_of_memory_closes_the_door_and_opens_it_again() {
    let broker = alone().await;
    let name = fresh_name();
    let server =
        Server::start(BINARY, &config(&broker, &name, ", max_unconfirmed: 10, max_queued: 40"));
    let line = Line::open(&broker.url(), &name).await;
    let services = line.services(result).await;
    let client = server.client();
    tokio::task::block_in_place(|| broker.short_of_memory(true));
    let ids = Mutex::new(Vec::new());
    let refused = eventually("starts are refused", || async {
        let answer = client.post("/api/v1/workflow/upload", &product("Lamp")).await;
        match answer.status {
            202 => ids.lock().unwrap().push(answer.text("workflow_id")),
            _ => return Some(answer),
        }
        None
    })
    .await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "overloaded"));
    assert!(
        refused.text("detail").contains("RabbitMQ has blocked publishing"),
        "{:?}",
        refused.body
    );
    assert!(refused.header("retry-after").is_some());
    let taken = ids.into_inner().unwrap();
    // Each start publishes a hook and a task.
    assert!(taken.len() <= 40, "{} starts were taken", taken.len());
    let why =
        client.status(taken.last().unwrap()).await["current_steps"][0]["waits_for"].to_string();
    assert!(why.contains("blocked"), "{why}");
    assert_eq!(client.get("/health").await.json()["bus"]["status"], "failing");
    // What needs no broker goes on.
    let refund = client
        .post(
            "/api/v1/workflow/step-heartbeat",
            &json!({"workflow_id": taken[0], "step_id": "image_processing"}),
        )
        .await;
    assert_eq!(refund.status, 200, "{:?}", refund.body);

    tokio::task::block_in_place(|| broker.short_of_memory(false));
    for id in &taken {
        assert_made(&client, id).await;
    }
    assert_eq!(services.tasks().len(), 3 * taken.len());
    let answer = client.post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
}
