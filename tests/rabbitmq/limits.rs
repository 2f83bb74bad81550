//! Too much: of memory in the broker, of work, of bytes in one message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::deployment::Deployment;
use crate::kit::{Server, eventually};
use crate::ledger::{Ledger, Traffic, insist, metric};
use crate::service::{Limits, Line, STEPS};
use crate::{BINARY, alone, config, fresh_name, product, result, shared};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_broker_short_of_memory_is_waited_for_by_all_nodes() {
    let broker = alone().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let services = deployment.line.services(result).await;
    let traffic = Traffic::begin(&deployment.nodes, 2, Duration::from_millis(50));
    eventually("something is done", async || (services.tasks().len() > 5).then_some(())).await;
    tokio::task::block_in_place(|| broker.short_of_memory(true));
    deployment.until("degraded").await;
    // Longer than a lease: nobody is taken for dead because its broker is slow.
    tokio::time::sleep(Duration::from_secs(4)).await;
    tokio::task::block_in_place(|| broker.short_of_memory(false));
    deployment.until("ok").await;
    let ledger = traffic.end().await;
    ledger.audit(&deployment.all(), &deployment.line).await;
    // No attempt was given up and made again; a task may come twice, under one id.
    let tasks = services.tasks();
    let ids: BTreeSet<&str> = tasks.iter().map(|task| task.message_id.as_str()).collect();
    assert_eq!(
        ids.len(),
        ledger.starts.keys().filter(|request| request.starts_with("lamp")).count() * STEPS.len()
    );
    assert!(tasks.len() - ids.len() < 10, "{} tasks came twice", tasks.len() - ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server"]
async fn a_message_too_big_for_the_broker_is_shown_and_stops_nobody_else() {
    let broker = alone().await;
    // Channels that are opened from now on take no more.
    let at_most = |bytes: u32| {
        tokio::task::block_in_place(|| {
            broker.eval(&format!("application:set_env(rabbit, max_message_size, {bytes})."))
        })
    };
    at_most(8000);
    let name = fresh_name();
    let server = Server::start(BINARY, &config(&broker, &name, ""));
    let line = Line::open(&broker.url(), &name).await;
    let services = line.services(result).await;
    let client = server.client();
    let mut small = Ledger::default();
    let mut big = product("Big");
    big["description"] = json!("much to say ".repeat(1000));
    let mut ids = Vec::new();
    for n in 0..10 {
        if n % 3 == 0 {
            ids.push(client.start("/api/v1/workflow/upload", &big).await);
        }
        let request = format!("lamp-{n}");
        small.starts.insert(request.clone(), insist(&client, &request).await);
    }
    for id in &ids {
        eventually("the reason is shown", async || {
            let document = client.status(id).await;
            let why =
                document["current_steps"][0]["waits_for"].as_str().unwrap_or_default().to_owned();
            (why.contains("undeliverable") && why.contains("8000")).then_some(())
        })
        .await;
    }
    // A person gives it up.
    for id in &ids {
        assert_eq!(client.tell(id, "cancel", &json!({})).await.status, 200);
        client.until(id, "cancelled").await;
    }
    at_most(128 << 20);
    assert!(services.tasks().iter().all(|task| task.body["payload"]["name"] != "Big"));
    small.audit(&[&server], &line).await;
}

/// How long the load lasts: some seconds, or as long as `OVERLOAD_SECONDS` says, such as 120.
fn overload() -> Duration {
    let seconds = std::env::var("OVERLOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Of the process, in bytes.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs rabbitmq-server"]
async fn five_times_as_much_as_services_can_do_is_refused_at_the_door() {
    /// What the service of pictures does in a second.
    const CAPACITY: u16 = 20;
    let broker = shared().await;
    let name = fresh_name();
    let server = Server::start(
        BINARY,
        &format!("{}limits: {{ max_unsettled_instances: 60 }}\n", config(&broker, &name, "")),
    );
    let mut line = Line::open(&broker.url(), &name).await;
    // Queues that take no more than the service does in a second.
    line.limits = Limits { max_length: Some(CAPACITY.into()), prefetch: 1 };
    let slow = Arc::new(std::sync::Mutex::new(Instant::now()));
    let _services = line
        .services(move |task| {
            if task["step_type"] == "image_processing" {
                let mut next = slow.lock().unwrap();
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                *next = Instant::now() + Duration::from_secs(1) / CAPACITY.into();
            }
            result(task)
        })
        .await;
    let begun = Instant::now();
    let nodes = [server];
    // So many clients that each would have to be refused four times of five.
    let traffic = Traffic::begin(&nodes, 20, Duration::from_secs(20) / (5 * CAPACITY).into());
    tokio::time::sleep(overload() / 2).await;
    let half_way = memory(&nodes[0]);
    tokio::time::sleep(overload().saturating_sub(begun.elapsed())).await;
    let at_the_end = memory(&nodes[0]);
    let ledger = traffic.end().await;
    assert!(
        ledger.refused.get(&429).is_some_and(|times| *times > 20),
        "refused: {:?}",
        ledger.refused
    );
    assert!(ledger.refused.keys().all(|status| *status == 429), "refused: {:?}", ledger.refused);
    assert!(at_the_end < half_way + (32 << 20), "{half_way} bytes became {at_the_end}");
    assert!(metric(&nodes[0].client(), "crux_starts_overloaded_total").await > 0);
    ledger.audit(&[&nodes[0]], &line).await;
    println!("{half_way} bytes half way, {at_the_end} at the end");
}
