//! Groups of consumers: missing ones, ones that are behind, and `crux topology`.

use serde_json::{Value, json};

use crate::kit::{Server, eventually};
use crate::service::{Line, STEPS};
use crate::{BINARY, config, fresh_name, product, result, server, shared};

async fn waits_for(server: &Server, id: &str, what: &str) -> String {
    eventually(&format!("it waits for {what}"), || async {
        let document = server.client().status(id).await;
        let why = document["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
        why.contains(what).then_some(why)
    })
    .await
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_task_without_a_group_says_so_and_goes_out_when_there_is_one() {
    let (server, line) = server().await;
    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    let why = waits_for(&server, &id, "no_queue").await;
    assert!(
        why.starts_with("its delivery: no_queue: no service listens on step.image_processing"),
        "{why}"
    );
    assert!(
        why.contains(&format!(
            "XGROUP CREATE {} workers 0 MKSTREAM",
            line.stream("step.image_processing")
        )),
        "{why}"
    );
    let shown = String::from_utf8(server.run(&["status", &id]).stdout).unwrap();
    assert!(shown.contains("no service listens on step.image_processing"), "{shown}");
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
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
#[ignore = "needs redis-server"]
async fn topology_shows_what_there_is_and_declares_it() {
    let (server, line) = server().await;
    let shown = server.run(&["topology", "--json"]);
    let topology: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let own: Vec<&str> = topology["own"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| stream["routing_key"].as_str().unwrap())
        .collect();
    assert_eq!(own[..3], ["step.completed", "step.started", "step.heartbeat"]);
    assert!(own.contains(&"order.created"), "{own:?}");
    assert_eq!(topology["own"][0]["group"], "crux");
    assert_eq!(topology["dead"], json!(line.stream("dead")));
    assert!(topology["notices"].to_string().contains("workflow.completed"), "{topology:#}");
    let text = String::from_utf8(server.run(&["topology"]).stdout).unwrap();
    let of_task =
        text.lines().find(|text| text.contains(&line.stream("step.image_processing"))).unwrap();
    assert!(
        of_task.contains("group workers") && of_task.contains("tasks of image_processing"),
        "{text}"
    );

    let declared = server.run(&["topology", "--declare"]);
    assert!(declared.status.success(), "{declared:?}");
    let again = server.run(&["topology", "--declare"]);
    assert!(again.status.success(), "{again:?}");
    server.client().start("/api/v1/workflow/upload", &product("Lamp")).await;
    let task = line.next("step.image_processing", "workers").await;
    assert_eq!(task.body()["step_type"], "image_processing");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_stream_that_nobody_empties_keeps_tasks_with_crux_until_there_is_room() {
    let (name, url) = (fresh_name(), shared().url());
    let server = Server::start(BINARY, &config(&url, &name, ", stream_length: 2"));
    let line = Line::open(&url, &name).await;
    line.group("step.image_processing", "workers").await.unwrap();
    let client = server.client();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(client.start("/api/v1/workflow/upload", &product("Lamp")).await);
    }
    let stuck = eventually("two are stuck", || async {
        let mut stuck = Vec::new();
        for id in &ids {
            let document = client.status(id).await;
            let why =
                document["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
            stuck.extend(Some(why).filter(|why| why.contains("undeliverable")));
        }
        (stuck.len() == 2).then_some(stuck)
    })
    .await;
    assert!(
        stuck[0].contains(&format!("2 messages wait in {}", line.stream("step.image_processing"))),
        "{stuck:?}"
    );
    assert_eq!(line.length("step.image_processing").await, 2);
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
    assert!(!metrics.contains("crux_bus_refused_total 0"), "{metrics}");

    let services = line.services(result).await;
    for id in &ids {
        client.until(id, "completed").await;
    }
    assert_eq!(services.tasks().len(), ids.len() * STEPS.len(), "each came once");
}

/// Room is what was not acknowledged: a service that only acknowledges need not delete.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_every_group_has_acknowledged_makes_room() {
    let (name, url) = (fresh_name(), shared().url());
    let server = Server::start(BINARY, &config(&url, &name, ", stream_length: 1"));
    let line = Line::open(&url, &name).await;
    line.group("step.image_processing", "workers").await.unwrap();
    for _ in 0..3 {
        let id = server.client().start("/api/v1/workflow/upload", &product("Lamp")).await;
        let task = line.next("step.image_processing", "workers").await;
        assert_eq!(task.body()["workflow_id"], json!(id));
        let mut ack = redis::cmd("XACK");
        ack.arg(line.stream("step.image_processing")).arg("workers").arg(&task.id);
        line.ask(ack).await.unwrap();
    }
    line.is_empty("step.image_processing").await;
}
