//! The server dies and comes back with its log, is not there at the start, or has no memory left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::kit::upload::suite::until_taken;
use crate::kit::upload::{assert_made, keep_starting};
use crate::kit::{Redis, Server, eventually};
use crate::service::Line;
use crate::{BINARY, bus_only, config, product, result};

async fn dies_in_the_middle(config: impl Fn(&str) -> String, keeps_taking: bool) {
    let mut redis = Redis::start();
    let server = Server::start(BINARY, &config(&redis.url()));
    let line = Line::open(&redis.url(), "crux").await;
    let services = line.services(result).await;
    let client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let starting = keep_starting(client.clone(), stop.clone(), true);
    eventually("uploads are made", async || (services.tasks().len() > 30).then_some(())).await;

    tokio::task::block_in_place(|| redis.kill());
    let health = eventually("health tells", || async {
        let health = client.get("/health").await.json();
        (health["bus"]["status"] == "failing").then_some(health)
    })
    .await;
    assert!(health["bus"]["problem"].as_str().unwrap().contains("Redis"), "{health:#}");
    if keeps_taking {
        // Starts are taken all the same, and say what they wait for.
        let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
        eventually("the reason is shown", || async {
            let why = client.status(&id).await["current_steps"][0]["waits_for"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            why.contains("Redis").then_some(())
        })
        .await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::task::block_in_place(|| redis.restart());
    let before = services.tasks().len();
    eventually("work goes on", async || (services.tasks().len() > before + 20).then_some(())).await;
    stop.store(true, Ordering::Relaxed);
    let ids = starting.await.unwrap();
    for id in &ids {
        assert_made(&client, id).await;
    }
    assert!(ids.len() >= 10 && services.tasks().len() >= 3 * ids.len());
    let line = Line::open(&redis.url(), "crux").await;
    until_taken(&line).await;
    assert_eq!(line.length("dead").await, 0);
    let health = client.get("/health").await.json();
    assert_eq!(health["status"], "ok", "{health:#}");
    println!("{} uploads over a Redis that died", ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_redis_that_dies_in_the_middle_costs_nothing_but_time() {
    dies_in_the_middle(|url| bus_only(url, "crux", ""), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_redis_that_dies_in_the_middle_with_the_store_costs_nothing_but_time() {
    dies_in_the_middle(|url| config(url, "crux", ""), false).await;
}

/// Longer than any timeout: who reads, who acknowledges and who publishes gives up, and does it
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_redis_that_hangs_is_given_up_and_found_again() {
    let redis = Redis::start();
    let server = Server::start(BINARY, &bus_only(&redis.url(), "crux", ""));
    let line = Line::open(&redis.url(), "crux").await;
    let services = line.services(result).await;
    let client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let starting = keep_starting(client.clone(), stop.clone(), true);
    eventually("uploads are made", async || (services.tasks().len() > 10).then_some(())).await;
    redis.hang(true);
    eventually("health tells", || async {
        (client.get("/health").await.json()["bus"]["status"] == "failing").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    redis.hang(false);
    stop.store(true, Ordering::Relaxed);
    let ids = starting.await.unwrap();
    for id in &ids {
        assert_made(&client, id).await;
    }
    line.is_empty("step.completed").await;
    assert_eq!(line.length("dead").await, 0);
    eventually("health tells", || async {
        (client.get("/health").await.json()["status"] == "ok").then_some(())
    })
    .await;
}

/// What was sent and not answered: it is not known whether it is there, and it is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn what_a_redis_had_not_confirmed_when_it_died_is_sent_again() {
    let mut redis = Redis::start();
    let server = Server::start(BINARY, &bus_only(&redis.url(), "crux", ""));
    let line = Line::open(&redis.url(), "crux").await;
    line.group("step.image_processing", "workers").await.unwrap();
    let client = server.client();
    redis.hang(true);
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(client.start("/api/v1/workflow/upload", &product("Lamp")).await);
    }
    eventually("tasks are on their way", || async {
        let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
        metrics
            .lines()
            .any(|line| line.starts_with("crux_bus_unconfirmed") && !line.ends_with(" 0"))
            .then_some(())
    })
    .await;
    tokio::task::block_in_place(|| {
        redis.kill();
        redis.restart();
    });
    let line = Line::open(&redis.url(), "crux").await;
    let services = line.services(result).await;
    for id in &ids {
        assert_made(&client, id).await;
    }
    let mut first: Vec<String> =
        services.tasks().iter().map(|task| task.message_id.clone()).collect();
    first.retain(|id| id.ends_with("/image_processing/1"));
    first.sort();
    first.dedup();
    assert_eq!(first.len(), ids.len(), "the same message ids");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_redis_that_is_not_there_at_the_start_is_waited_for() {
    let mut redis = Redis::start();
    tokio::task::block_in_place(|| redis.kill());
    let server = Server::start(BINARY, &bus_only(&redis.url(), "crux", ""));
    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Late")).await;
    assert_eq!(client.get("/health/ready").await.status, 200);
    assert_eq!(client.get("/health").await.json()["status"], "degraded");
    tokio::task::block_in_place(|| redis.restart());
    let line = Line::open(&redis.url(), "crux").await;
    let _services = line.services(result).await;
    assert_made(&client, &id).await;
}

/// All that is in a Redis which keeps nothing is gone with it: groups are made anew, tasks come
/// again when their time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_redis_that_has_forgotten_its_groups_gets_them_again() {
    let mut redis = Redis::start_with(&[("appendonly", "no")]);
    let server = Server::start(BINARY, &bus_only(&redis.url(), "crux", ""));
    eventually("the danger is said", || async {
        server.log().contains("`appendonly` is `no`").then_some(())
    })
    .await;
    tokio::task::block_in_place(|| redis.restart());
    let line = Line::open(&redis.url(), "crux").await;
    let _services = line.services(result).await;
    let client = server.client();
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    assert_made(&client, &id).await;
    redis.command(&["FLUSHALL"]);
    eventually("the group is there again", || async {
        (redis.command(&["EXISTS", &line.stream("step.completed")]) == "1").then_some(())
    })
    .await;
    let id = client.start("/api/v1/workflow/upload", &product("Lamp")).await;
    assert_made(&client, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server"]
async fn a_redis_without_memory_closes_the_door_and_opens_it_again() {
    let redis = Redis::start();
    let server = Server::start(
        BINARY,
        &bus_only(&redis.url(), "crux", ", max_unconfirmed: 10, max_queued: 40"),
    );
    let line = Line::open(&redis.url(), "crux").await;
    let services = line.services(result).await;
    let client = server.client();
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let mut taken = Vec::new();
    let refused = loop {
        let answer = client.post("/api/v1/workflow/upload", &product("Lamp")).await;
        match answer.status {
            202 => taken.push(answer.text("workflow_id")),
            _ => break answer,
        }
        assert!(taken.len() < 500, "starts are never refused");
    };
    assert_eq!((refused.status, refused.problem().as_str()), (429, "overloaded"));
    assert!(
        refused.text("detail").contains("Redis has blocked publishing: the memory of Redis"),
        "{:?}",
        refused.body
    );
    // Each start publishes a hook and a task.
    assert!(taken.len() <= 60, "{} starts were taken", taken.len());
    assert_eq!(client.get("/health").await.json()["bus"]["status"], "failing");
    server.logged(&["publishing is blocked by the broker: the memory of Redis"]).await;

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    for id in &taken {
        assert_made(&client, id).await;
    }
    assert_eq!(services.tasks().len(), 3 * taken.len());
    let answer = client.post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
}
