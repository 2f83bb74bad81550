//! A replica takes the place of Redis: by hand, as a Sentinel does it, and with the proxy as the
//! address that moves.

use std::time::Duration;

use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::kit::{Client, Redis, eventually};
use crate::ledger::{Ledger, Traffic, insist, metric, recorded};
use crate::proxy::Proxy;
use crate::service::{queue, task};
use crate::{result, shared};

/// A replica of the Redis at that port, which has what it has.
async fn replica_of(primary: u16) -> Redis {
    let replica = Redis::start();
    replica.command(&["REPLICAOF", "127.0.0.1", &primary.to_string()]);
    eventually("the replica follows", async || {
        let said = replica.command(&["INFO", "replication"]);
        (said.contains("master_link_status:up") && said.contains("master_sync_in_progress:0"))
            .then_some(())
    })
    .await;
    replica
}

/// How many bytes of changes it has made or taken.
fn offset(redis: &Redis, field: &str) -> u64 {
    let said = redis.command(&["INFO", "replication"]);
    let value = said.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {field}: {said}"))
}

/// Until the replica has all that the primary has now. (`WAIT` is about what its own connection has
/// written.)
async fn caught_up(replica: &Redis, primary: &Redis) {
    let written = offset(primary, "master_repl_offset");
    eventually("the replica has what was written", async || {
        (offset(replica, "slave_repl_offset") >= written).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_replica_that_takes_over_has_everything_that_was_acknowledged() {
    let broker = shared().await;
    let mut deployment = Deployment::start(&broker, 2, ", wait_replicas: 1").await;
    let replica = replica_of(deployment.redis.port()).await;
    let services = deployment.line.services(result).await;
    let traffic = Traffic::begin(&deployment.nodes, 4, Duration::from_millis(20));
    eventually("something is done", async || (services.tasks().len() > 100).then_some(())).await;

    // The worst way: the old primary is still there and written to when the replica has become one.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    let before = offset(&deployment.redis, "master_repl_offset");
    eventually("the old primary is written to", async || {
        (offset(&deployment.redis, "master_repl_offset") > before).then_some(())
    })
    .await;
    deployment.to_redis.lead_to(replica.port());
    deployment.to_redis.cut();
    tokio::task::block_in_place(|| deployment.redis.kill());
    // No replica has what is written now, so that nothing is acknowledged until there is one.
    let next = replica_of(replica.port()).await;
    deployment.until("ok").await;
    let before = services.tasks().len();
    eventually("work goes on", async || (services.tasks().len() > before + 20).then_some(())).await;
    let ledger = traffic.end().await;
    ledger.audit(&deployment.all(), &deployment.line).await;
    drop(next);
}

async fn complete(client: &Client, task: &Value) -> (u16, String) {
    let body = json!({"workflow_id": task["workflow_id"], "step_id": task["step_id"], "success": true, "result": result(task)});
    let answer = client.post("/api/v1/workflow/step-completed", &body).await;
    (answer.status, if answer.status == 200 { answer.text("status") } else { answer.problem() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn rows_that_a_replica_does_not_have_are_missed_counted_and_made_again() {
    let broker = shared().await;
    let mut deployment = Deployment::start(&broker, 1, "").await;
    let line = &deployment.line;
    let [pictures, texts] =
        ["image_processing", "ai_enhancement"].map(|step| queue(&line.exchange, step));
    line.bind(&pictures, &["step.image_processing"]).await.unwrap();
    line.bind(&texts, &["step.ai_enhancement"]).await.unwrap();
    let to_primary = Proxy::to(deployment.redis.port());
    let replica = replica_of(to_primary.port()).await;
    let client = deployment.nodes[0].client();
    let id = insist(&client, "lamp").await;
    let first = task(&line.next(&pictures).await).body;
    caught_up(&replica, &deployment.redis).await;

    // From here on the replica is behind.
    to_primary.hold(true);
    assert_eq!(complete(&client, &first).await, (200, "accepted".to_owned()));
    let second = task(&line.next(&texts).await).body;
    tokio::task::block_in_place(|| deployment.redis.kill());
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    deployment.to_redis.lead_to(replica.port());

    // The node finds out when it is about the instance; then what was is as if it had never been,
    // and the first result counts again.
    let too_early = eventually("an answer of the store", async || {
        Some(complete(&client, &second).await).filter(|(status, _)| *status != 503)
    })
    .await;
    assert_eq!(too_early, (409, "invalid-state".to_owned()));
    assert_eq!(metric(&client, "crux_store_lost_writes_total").await, 1);
    assert_eq!(complete(&client, &first).await, (200, "accepted".to_owned()));
    assert_eq!(complete(&client, &second).await, (200, "accepted".to_owned()));
    // They get the second task once more, and answer it once more.
    let _services = line.services(result).await;
    let ledger = Ledger { starts: [("lamp".to_owned(), id.clone())].into(), ..Default::default() };
    client.until(&id, "completed").await;
    assert_eq!(recorded(&client, &id).await.values().sum::<u32>(), 3);
    ledger.audit(&deployment.all(), &deployment.line).await;
}
