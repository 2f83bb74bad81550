//! A long outage of the broker or Redis, in two ways: connections are refused, or accepted and
//! never answered. `OUTAGE_SECONDS=60` makes it a minute.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::deployment::{Deployment, outage};
use crate::kit::{Server, eventually};
use crate::ledger::{Ledger, Traffic, health, insist};
use crate::proxy::Proxy;
use crate::{result, shared};

const PAUSE: Duration = Duration::from_millis(100);

async fn without_the_broker(gone: fn(&Proxy, bool)) {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let services = deployment.line.services(result).await;
    let traffic = Traffic::begin(&deployment.nodes, 2, PAUSE);
    eventually("something is done", async || (services.tasks().len() > 5).then_some(())).await;

    gone(&deployment.to_broker, true);
    let begun = Instant::now();
    deployment.until("degraded").await;
    // Starts are taken all the same, and whichever node is asked says what they wait for.
    let id = insist(&deployment.nodes[0].client(), "lamp-meanwhile").await;
    for node in &deployment.nodes {
        eventually("the reason is shown", async || {
            let document = node.client().status(&id).await;
            document["current_steps"][0]["waits_for"]
                .as_str()
                .is_some_and(|why| why.contains("RabbitMQ"))
                .then_some(())
        })
        .await;
    }
    tokio::time::sleep(outage().saturating_sub(begun.elapsed())).await;
    gone(&deployment.to_broker, false);
    deployment.until("ok").await;
    deployment.nodes[0].client().until(&id, "completed").await;
    let mut ledger = traffic.end().await;
    assert!(ledger.refused.is_empty(), "starts were refused: {:?}", ledger.refused);
    ledger.starts.insert("lamp-meanwhile".to_owned(), id);
    ledger.audit(&deployment.all(), &deployment.line).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_broker_that_is_gone_for_long_is_waited_for() {
    without_the_broker(Proxy::refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_broker_that_says_nothing_any_more_is_given_up_and_found_again() {
    without_the_broker(Proxy::black_hole).await;
}

/// What the node answers to clients while its store is gone.
async fn assert_says_so(node: &Server) {
    let refused = eventually("a start is refused", async || {
        let headers = [("content-type", "application/json")];
        let input = crate::product("nobody").to_string().into_bytes();
        let answer = node
            .client()
            .try_send(hyper::Method::POST, "/api/v1/workflow/upload", &headers, input)
            .await;
        answer.ok().filter(|answer| answer.status != 202)
    })
    .await;
    assert_eq!(refused.status, 503, "{:?}", refused.body);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(node.client().get("/health/live").await.status, 200);
}

async fn without_redis(gone: fn(&Proxy, bool)) {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let services = deployment.line.services(result).await;
    let traffic = Traffic::begin(&deployment.nodes, 2, PAUSE);
    eventually("something is done", async || (services.tasks().len() > 5).then_some(())).await;

    gone(&deployment.to_redis, true);
    let begun = Instant::now();
    for node in &deployment.nodes {
        assert_says_so(node).await;
    }
    tokio::time::sleep(outage().saturating_sub(begun.elapsed())).await;
    gone(&deployment.to_redis, false);
    let id = insist(&deployment.nodes[0].client(), "lamp-afterwards").await;
    deployment.until("ok").await;
    for node in &deployment.nodes {
        eventually("the nodes do not see each other again", async || {
            let health: Value = health(node).await;
            (health["nodes"].as_array()?.len() == 2).then_some(())
        })
        .await;
    }
    let mut ledger = traffic.end().await;
    ledger.starts.insert("lamp-afterwards".to_owned(), id);
    ledger.audit(&deployment.all(), &deployment.line).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_redis_that_is_gone_for_long_is_waited_for() {
    without_redis(Proxy::refuse).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_redis_that_says_nothing_any_more_is_given_up_and_found_again() {
    without_redis(Proxy::black_hole).await;
}

/// What an attempt says that was stopped for the sake of the lease is not about the same attempt
/// when it is made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_lease_that_is_lost_while_tasks_wait_for_the_broker_fails_no_workflow() {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 1, "").await;
    let [node] = deployment.nodes.as_slice() else { panic!("one node") };
    let _services = deployment.line.services(result).await;
    deployment.to_broker.refuse(true);
    deployment.until("degraded").await;
    let mut ledger = Ledger::default();
    for n in 0..10 {
        let request = format!("lamp-{n}");
        ledger.starts.insert(request.clone(), insist(&node.client(), &request).await);
    }
    deployment.to_redis.refuse(true);
    eventually("the lease is lost", async || {
        node.log().contains("this node stops working before").then_some(())
    })
    .await;
    deployment.to_redis.refuse(false);
    eventually("a lease again", async || {
        node.log().contains("the lease is being renewed again").then_some(())
    })
    .await;
    ledger.starts.insert("lamp-10".to_owned(), insist(&node.client(), "lamp-10").await);
    deployment.to_broker.refuse(false);
    ledger.audit(&deployment.all(), &deployment.line).await;
}
