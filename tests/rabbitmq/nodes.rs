//! Several nodes that share a Redis and the broker, as a deployment has them: a task leaves by one,
//! its result comes back to another, and nodes die in between.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::kit::{Redis, Server, eventually};
use crate::service::{Line, STEPS, queue};
use crate::{BINARY, config, fresh_name, product, result, shared};

const PRODUCTS: usize = 60;

/// Each step once, in a journal without gaps.
async fn assert_recorded_once(node: &Server, id: &str) {
    let history = node.client().get(&format!("/api/v1/workflow/{id}/history")).await.json();
    let mut recorded: BTreeMap<String, u32> = BTreeMap::new();
    for (n, row) in (1..).zip(history["rows"].as_array().unwrap()) {
        assert_eq!(row["seq"], n, "{history:#}");
        for event in row["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["type"] == "step_completed")
        {
            *recorded.entry(event["path"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    let expected: BTreeMap<String, u32> =
        STEPS.iter().map(|step| ((*step).to_owned(), 1)).collect();
    assert_eq!(recorded, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn products_are_made_whichever_node_dies() {
    let broker = shared().await;
    let redis = Redis::start();
    let name = fresh_name();
    let store = format!(
        "store: {{ kind: redis }}\nredis: {{ host: 127.0.0.1, lease: 1500ms, port: {} }}\n",
        redis.port()
    );
    let config = format!("{}{store}", config(&broker, &name, ""));
    let mut nodes: Vec<Server> = (0..3).map(|_| Server::start(BINARY, &config)).collect();
    let line = Line::open(&broker.url(), &name).await;
    let services = line
        .services(|task| {
            std::thread::sleep(Duration::from_millis(2));
            result(task)
        })
        .await;
    let mut ledger: Vec<(String, String)> = Vec::new();
    for n in 0..PRODUCTS {
        let product_name = format!("Lamp{n}");
        let id =
            nodes[n % 3].client().start("/api/v1/workflow/upload", &product(&product_name)).await;
        ledger.push((id, product_name));
        // While tasks are on their way to services, and results on their way back.
        if n % 20 == 10 {
            let victim = n / 20;
            nodes[victim].kill();
            nodes[victim].restart();
        }
    }
    for (n, (id, product_name)) in ledger.iter().enumerate() {
        let node: &Server = &nodes[n % 3];
        let document: Value = node.client().until(id, "completed").await;
        assert_eq!(document["output"]["slug"], format!("slug-{product_name}"));
        assert_recorded_once(node, id).await;
    }
    assert!(services.tasks().len() >= PRODUCTS * STEPS.len());
    let own = format!("{}.completions", line.exchange);
    for queue in STEPS.iter().map(|step| queue(&line.exchange, step)).chain([own]) {
        eventually(&format!("{queue} is not empty"), async || {
            (line.waiting(&queue).await == 0).then_some(())
        })
        .await;
    }
    assert_eq!(line.waiting(&format!("{}.dead", line.exchange)).await, 0, "something was refused");
}
