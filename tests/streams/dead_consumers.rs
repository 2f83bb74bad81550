//! Consumers that die with unacknowledged messages: a service with a task, a node with
//! results.

use std::time::Duration;

use crate::kit::{Server, eventually};
use crate::service::Line;
use crate::{BINARY, LEASE_MS, config, fresh_name, product, result, server, shared};

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_task_of_a_dead_service_is_taken_over_by_another() {
    let (server, line) = server().await;
    let client = server.client();
    line.group("step.image_processing", "workers").await.unwrap();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    // It reads the task, and dies.
    let task = eventually("the task comes", || async {
        line.read("step.image_processing", "workers", "dead").await.unwrap().pop()
    })
    .await;
    let services = line.services(result).await;
    let document = client.until(&id, "completed").await;
    assert_eq!(document["definition"]["steps"][0]["attempts"], 1, "{document:#}");
    assert_eq!(services.tasks()[0].message_id, task.text("message_id"));
    line.is_empty("step.image_processing").await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn results_that_a_dead_node_held_are_taken_over_by_another() {
    let (name, url) = (fresh_name(), shared().url());
    let config = config(&url, &name, "");
    let mut first = Server::start(BINARY, &config);
    let line = Line::open(&url, &name).await;
    line.group("step.image_processing", "workers").await.unwrap();
    let mut ids = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..5 {
        ids.push(first.client().start("/api/v1/workflow/upload", &product("Lamp")).await);
        tasks.push(line.next("step.image_processing", "workers").await);
    }
    // It is given the results while it is suspended, and dies with them.
    let held = eventually("the node holds results", || async {
        first.pause(true);
        for task in &tasks {
            line.complete(&task.body(), &result(&task.body())).await;
        }
        let held = line.held("step.completed").await;
        let count: u64 = held.values().sum();
        if count == 0 {
            // It was between two reads.
            first.pause(false);
            return None;
        }
        Some(held)
    })
    .await;
    first.kill();
    let dead = held.keys().next().unwrap().clone();
    let second = Server::start(BINARY, &config);
    let _services = line.services(result).await;
    for id in &ids {
        second.client().until(id, "completed").await;
    }
    line.is_empty("step.completed").await;
    assert_eq!(line.length("dead").await, 0);
    second.logged(&["took over what another consumer held"]).await;
    // The dead one holds nothing any more, and is forgotten in time.
    eventually("the dead consumer is forgotten", || async {
        (!line.held("step.completed").await.contains_key(&dead)).then_some(())
    })
    .await;
    // A node that is idle for as long may be forgotten too, and is there again when something
    // comes.
    tokio::time::sleep(Duration::from_millis(LEASE_MS * 2)).await;
    let answer = second.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
}
