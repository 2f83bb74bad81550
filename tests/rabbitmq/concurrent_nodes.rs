//! Two nodes that get the same, the wrong and the contradictory at the same moment.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::kit::{Answer, Client, eventually};
use crate::ledger::{Ledger, insist, recorded};
use crate::service::{STEPS, completion, header, queue, task};
use crate::{result, shared};

const INSTANCES: usize = 20;

/// The outcome: `accepted`, `duplicate`, or the problem type.
fn said(answer: &Answer) -> String {
    if answer.status == 200 { answer.text("status") } else { answer.problem() }
}

/// Completes the same step at both nodes concurrently, so many times each, every time with what
/// `result` makes of the number.
async fn tell_both(
    clients: &[Client],
    task: &Value,
    result: impl Fn(usize) -> Value,
) -> Vec<String> {
    let telling = (0..6).map(|n| {
        let body = completion(task, &result(n));
        async move { said(&clients[n % 2].post("/api/v1/workflow/step-completed", &body).await) }
    });
    join_all(telling).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn two_nodes_that_race_for_one_instance_agree() {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let line = &deployment.line;
    let clients: Vec<Client> = deployment.nodes.iter().map(|node| node.client()).collect();
    for step in STEPS {
        line.bind(&queue(&line.exchange, step), &[&format!("step.{step}")]).await.unwrap();
    }
    let mut ids = Vec::new();
    for n in 0..INSTANCES {
        ids.push(insist(&clients[n % 2], &format!("lamp-{n}")).await);
    }
    let tasks = async |step: &str| {
        // A task may come twice.
        let mut tasks = BTreeMap::new();
        while tasks.len() < INSTANCES {
            let task = task(&line.next(&queue(&line.exchange, step)).await).body;
            tasks.insert(task["workflow_id"].to_string(), task);
        }
        tasks.into_values()
    };
    // The same result six times: it counts once.
    for task in tasks("image_processing").await {
        let mut words = tell_both(&clients, &task, |_| result(&task)).await;
        words.sort();
        assert_eq!(
            words,
            ["accepted", "duplicate", "duplicate", "duplicate", "duplicate", "duplicate"],
            "{task:#}"
        );
    }
    // Two results: one of them counts, and the sender of the other learns it.
    for task in tasks("ai_enhancement").await {
        let words =
            tell_both(&clients, &task, |n| json!({"description": format!("Text {}", n % 2)})).await;
        let count = |word: &str| words.iter().filter(|said| *said == word).count();
        assert_eq!(
            (count("accepted"), count("duplicate"), count("conflict")),
            (1, 2, 3),
            "{words:?}"
        );
    }
    // The last result at one node, and a cancellation at the other: both nodes tell the same end.
    let mut ends = BTreeSet::new();
    for (n, task) in tasks("seo_generation").await.enumerate() {
        let id = task["workflow_id"].as_str().unwrap().to_owned();
        let (a, b) = (&clients[n % 2], &clients[(n + 1) % 2]);
        let body = completion(&task, &result(&task));
        let nothing = json!({});
        let (completed, cancelled) = tokio::join!(
            a.post("/api/v1/workflow/step-completed", &body),
            b.tell(&id, "cancel", &nothing)
        );
        let end = eventually("an end", async || {
            let [a, b] = [a.status(&id).await, b.status(&id).await]
                .map(|document| document["metadata"]["status"].clone());
            (a == b && (a == "completed" || a == "cancelled"))
                .then_some(a.as_str().unwrap().to_owned())
        })
        .await;
        if end == "completed" {
            assert_eq!(said(&completed), "accepted");
        } else {
            assert_eq!(cancelled.status, 200, "{:?}", cancelled.body);
        }
        assert!(recorded(a, &id).await.values().all(|times| *times == 1));
        ends.insert(end);
    }
    println!("they ended as {ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn results_twice_late_wrong_foreign_and_poisonous_change_nothing_at_any_node() {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let line = &deployment.line;
    let dead = format!("{}.dead", line.exchange);
    let services = line
        .services(
            |task| if task["step_type"] == "image_processing" { Value::Null } else { result(task) },
        )
        .await;
    let mut ledger = Ledger::default();
    for n in 0..INSTANCES {
        let request = format!("lamp-{n}");
        let id = insist(&deployment.nodes[n % 2].client(), &request).await;
        ledger.starts.insert(request, id);
    }
    let tasks = eventually("the tasks", async || {
        Some(services.tasks()).filter(|tasks| tasks.len() == INSTANCES)
    })
    .await;
    let poison: [&[u8]; 6] = [
        b"",
        b"\xff\xfe\x00",
        b"{",
        b"[]",
        br#"{"workflow_id":"01890a5d-ac96-774b-bcce-b302099a8057"}"#,
        b"\"\\ud800\"",
    ];
    let deep = "[".repeat(100_000);
    for task in &tasks {
        let mut other_step = completion(&task.body, &result(&task.body));
        other_step["step_type"] = json!("seo_generation");
        line.publish("step.completed", "", other_step.to_string().as_bytes()).await;
    }
    for _ in &tasks {
        let buried = line.next(&dead).await;
        assert!(
            header(&buried, "x-crux-reason").contains("image_processing"),
            "{}",
            header(&buried, "x-crux-reason")
        );
    }
    for (n, task) in tasks.iter().enumerate() {
        // Both nodes take from the same queue.
        for _ in 0..6 {
            line.complete(&task.body, &result(&task.body)).await;
        }
        line.publish("step.completed", "", poison[n % poison.len()]).await;
    }
    line.publish("step.completed", "", deep.as_bytes()).await;
    // Of one workflow, for another: its step is none of the other's.
    let mut foreign = completion(&tasks[0].body, &result(&tasks[0].body));
    foreign["workflow_id"] = tasks[1].body["workflow_id"].clone();
    line.publish("step.completed", "", foreign.to_string().as_bytes()).await;
    for id in ledger.starts.values() {
        deployment.nodes[0].client().until(id, "completed").await;
    }
    let mut reasons: Vec<String> = Vec::new();
    for _ in 0..INSTANCES + 2 {
        reasons.push(header(&line.next(&dead).await, "x-crux-reason"));
    }
    assert!(reasons.iter().all(|reason| !reason.is_empty()));
    assert!(reasons.iter().any(|reason| reason.contains("step")), "{reasons:#?}");
    // Late, and saying something else.
    for task in &tasks {
        line.complete(
            &task.body,
            &json!({"processed_images": ["other.jpg"], "processing_time": "1s"}),
        )
        .await;
        assert!(header(&line.next(&dead).await, "x-crux-reason").contains("with another result"));
    }
    ledger.audit(&deployment.all(), line).await;
}
