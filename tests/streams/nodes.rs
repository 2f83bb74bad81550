//! Several nodes on one Redis, which is their store and their bus: a task leaves by one, its result
//! comes back to another, and nodes die in between.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::kit::Server;
use crate::service::{Line, STEPS};
use crate::{BINARY, config, fresh_name, result, shared, start};

const PRODUCTS: usize = 60;

/// Each step once, in a journal without gaps.
pub async fn assert_recorded_once(node: &Server, id: &str) {
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
#[ignore = "needs redis-server"]
async fn products_are_made_whichever_node_dies() {
    let (name, url) = (fresh_name(), shared().url());
    let config = config(&url, &name, "");
    let mut nodes: Vec<Server> = (0..3).map(|_| Server::start(BINARY, &config)).collect();
    let line = Line::open(&url, &name).await;
    let services = line
        .services(|task| {
            std::thread::sleep(Duration::from_millis(2));
            result(task)
        })
        .await;
    let mut ledger: Vec<(String, String)> = Vec::new();
    for n in 0..PRODUCTS {
        let product_name = format!("Lamp{n}");
        let id = start(&nodes[n % 3], &product_name).await;
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
    for key in STEPS.iter().map(|step| format!("step.{step}")).chain(["step.completed".to_owned()])
    {
        line.is_empty(&key).await;
    }
    assert_eq!(line.length("dead").await, 0, "something was refused");
}
