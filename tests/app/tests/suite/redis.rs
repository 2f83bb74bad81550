//! The store in Redis, as far as a client notices: work goes on after either of the two has
//! died.

use serde_json::json;

use crate::kit::{Redis, Reply, Server, Service, eventually};
use crate::{kill, server};

pub(crate) fn store(redis: &Redis) -> String {
    format!("store: {{ kind: redis }}\nredis: {{ host: 127.0.0.1, port: {} }}\n", redis.port())
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn instances_end_and_are_there_when_the_process_or_the_server_has_died() {
    let mut redis = Redis::start();
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("prepare") => Reply::Done(json!({"size": 3})),
        _ => Reply::Later,
    })
    .await;
    let mut server =
        server(&format!("{}{}", service.config(&["prepare", "finish"]), store(&redis)));
    let ended = server.client().start("/api/v1/workflow/double", &json!({"number": 21})).await;
    assert_eq!(server.client().until(&ended, "completed").await["output"], json!({"number": 84}));
    let open = server.client().start("/api/v1/workflow/work", &json!({"item": "i"})).await;
    service.task("finish", 1).await;

    server.kill();
    server.restart();
    assert_eq!(server.client().until(&ended, "completed").await["output"], json!({"number": 84}));
    redis.restart();
    crate::kit::eventually("the store does not come back", async || {
        let answer = server.client().complete(&open, "finish", &json!({"label": "L"})).await;
        (answer.status < 300).then_some(())
    })
    .await;
    assert_eq!(server.client().until(&open, "completed").await["output"], json!({"label": "L"}));

    // An orderly end leaves nothing behind that the next process would have to wait for.
    server.tell_to_end();
    assert!(server.ended().success());
    server.restart();
    let list = server.client().get("/api/v1/workflow/list?status=completed").await.json();
    assert_eq!(list["workflows"].as_array().map(Vec::len), Some(2), "{list:#}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_event_whose_keeping_was_not_answered_reaches_those_who_wait() {
    let redis = Redis::start();
    let server = server(&store(&redis).replace("port:", "timeout: 1s, port:"));
    let client = server.client();
    let id = client.start("/api/v1/workflow/approval", &json!({"orderId": "o-1"})).await;
    client.until(&id, "waiting").await;
    let event =
        json!({"type": "order.approved", "id": "e-1", "data": {"orderId": "o-1", "by": "me"}});
    // The server knows the script: what it is sent it does, also when nobody listens any more.
    let other =
        json!({"type": "order.approved", "id": "e-0", "data": {"orderId": "o-0", "by": "me"}});
    assert_eq!(client.post("/api/v1/events", &other).await.status, 202);
    redis.hang(true);
    let answer = client.post("/api/v1/events", &event).await;
    redis.hang(false);
    assert_eq!(answer.status, 503, "{:?}", answer.body);
    // It is there, as a client that asks again learns, and it is not lost on those who wait.
    crate::kit::eventually("the store does not come back", async || {
        (client.post("/api/v1/events", &event).await.status < 300).then_some(())
    })
    .await;
    assert_eq!(client.until(&id, "completed").await["output"], json!({"by": "me"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed_beside_redis() {
    let redis = Redis::start();
    kill::kill_again_and_again(&store(&redis), 1, 8).await;
}

/// By `bus: redis`, where no client gets an answer: what arrives for a blocked instance must
/// not keep others from being taken.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn results_wait_for_a_definition_that_is_not_here_without_holding_up_others() {
    let redis = Redis::start();
    redis.command(&["XGROUP", "CREATE", "crux:stream:{step.count}", "workers", "0", "MKSTREAM"]);
    let mut server = server(&format!(
        "bus: redis\nredis: {{ host: 127.0.0.1, port: {}, prefetch: 4, parked_retry_delay: 1s }}\n",
        redis.port()
    ));
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(
            server
                .client()
                .start("/api/v1/workflow/tally", &json!({"number": n.to_string(), "goods": {}}))
                .await,
        );
    }
    let length = |key: &str| redis.command(&["XLEN", key]);
    eventually("the tasks are sent", async || {
        length("crux:stream:{step.count}").contains('3').then_some(())
    })
    .await;
    let hash =
        server.client().status(&ids[0]).await["definition_hash"].as_str().unwrap().to_owned();
    let other = "f".repeat(hash.len());
    let exchange = |server: &mut Server, from: &str, to: &str| {
        server.tell_to_end();
        assert!(server.ended().success());
        crate::events::swap_definition(server, from, to);
        server.restart();
    };
    exchange(&mut server, &hash, &other);
    for id in &ids {
        let body = json!({"workflow_id": id, "step_id": "count", "success": true, "result": {"goods": {}, "total": 0}});
        let body = body.to_string();
        redis.command(&["XADD", "crux:stream:{step.completed}", "*", "body", &body]);
    }
    let bus = eventually("health tells of it", async || {
        let health = server.client().get("/health").await.json();
        (health["bus"]["status"] == "degraded").then(|| health["bus"].clone())
    })
    .await;
    let problem = bus["problem"].as_str().unwrap();
    assert!(
        problem.contains("crux:stream:{crux.parked}") && problem.contains("deploy one that does"),
        "{problem}"
    );
    assert_eq!(server.client().get("/health/ready").await.status, 200);
    let log = server.log();
    assert!(
        log.lines().any(|line| line.contains("WARN") && line.contains("crux:stream:{crux.parked}")),
        "{log}"
    );

    exchange(&mut server, &other, &hash);
    for id in &ids {
        server.client().until(id, "completed").await;
    }
    assert_eq!(length("crux:stream:{dead}").trim(), "0");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_node_that_cannot_write_or_whose_store_was_emptied_is_not_ready() {
    let redis = Redis::start();
    let mut server = server(&store(&redis).replace("port:", "lease: 600ms, port:"));
    let ready = async |server: &Server, status: u16| {
        eventually("it is as it was", async || {
            let answers =
                (server.client().get("/health").await, server.client().get("/health/ready").await);
            (answers.0.status == status && answers.1.status == status).then(|| answers.0.json())
        })
        .await
    };
    let start = async |server: &Server| {
        server.client().post("/api/v1/workflow/double", &json!({"number": 1})).await.status
    };
    ready(&server, 200).await;
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let health = ready(&server, 503).await;
    let problem = health["store"]["problem"].as_str().unwrap();
    assert!(health["status"] == "failing" && problem.contains("NOREPLICAS"), "{health}");
    redis.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    ready(&server, 200).await;

    redis.command(&["FLUSHALL"]);
    let health = ready(&server, 503).await;
    assert!(health["store"]["problem"].as_str().unwrap().contains("emptied"), "{health}");
    assert_eq!(start(&server).await, 503);
    let log = server.log();
    assert!(
        log.lines().any(|line| line.contains("ERROR") && line.contains("was emptied")),
        "{log}"
    );
    let metrics = String::from_utf8(server.client().get("/metrics").await.body.to_vec()).unwrap();
    assert!(metrics.lines().any(|line| line == "crux_store_problem 1"), "{metrics}");
    server.kill();
    server.restart();
    ready(&server, 200).await;
    assert_eq!(start(&server).await, 202);
}
