//! Connections that break at the worst moment: in the middle of a publish, an append or an
//! acknowledgement, and when all is done and the client gets no answer.

use std::time::Duration;

use serde_json::json;

use crate::deployment::Deployment;
use crate::kit::{Server, eventually};
use crate::ledger::{Ledger, Traffic, completed, insist, metric};
use crate::proxy::{Cut, Proxy, Toward};
use crate::service::Line;
use crate::{BINARY, fresh_name, result, shared};

/// The frame of an acknowledgement: its length, its class and its method.
const ACK: &[u8] = &[0, 0, 0, 13, 0, 60, 0, 80];
const TASK: &[u8] = br#""step_type":"image_processing""#;

/// A separate node behind a proxy to the broker, and a line to the broker itself.
async fn behind_a_proxy() -> (Proxy, Server, Line) {
    let broker = shared().await;
    let (proxy, name) = (Proxy::to(broker.port()), fresh_name());
    let url = format!("amqp://guest:guest@127.0.0.1:{}/", proxy.port());
    let server = Server::start(
        BINARY,
        &format!("bus: rabbitmq\nrabbitmq: {{ url: '{url}', exchange: {name}, prefix: {name} }}\n"),
    );
    (proxy, server, Line::open(&broker.url(), &name).await)
}

/// One upload while connections are cut at this place; the ids of the messages by which its first
/// task came.
async fn upload_with_a_cut(pattern: &[u8], cut: Cut) -> Vec<String> {
    let (proxy, server, line) = behind_a_proxy().await;
    let services = line.services(result).await;
    proxy.cut_at(Toward::Server, pattern, cut, 1);
    let id = insist(&server.client(), "lamp").await;
    completed(&server.client(), &id).await;
    eventually("the cut", async || (proxy.cuts() == 1).then_some(())).await;
    let ledger = Ledger { starts: [("lamp".to_owned(), id)].into(), ..Default::default() };
    eventually("it works again", async || {
        (server.client().get("/health").await.json()["status"] == "ok").then_some(())
    })
    .await;
    ledger.audit(&[&server], &line).await;
    let first =
        services.tasks().into_iter().filter(|task| task.body["step_type"] == "image_processing");
    first.map(|task| task.message_id).collect()
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_task_that_breaks_off_is_published_again() {
    assert_eq!(upload_with_a_cut(TASK, Cut::Within).await.len(), 1);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_task_whose_confirm_is_lost_is_published_again_under_the_same_id() {
    let ids = upload_with_a_cut(TASK, Cut::Unanswered).await;
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_result_whose_acknowledgement_is_lost_comes_again_and_changes_nothing() {
    let (proxy, server, line) = behind_a_proxy().await;
    let _services = line.services(result).await;
    for (n, cut) in [Cut::Before, Cut::Within, Cut::Unanswered].into_iter().enumerate() {
        proxy.cut_at(Toward::Server, ACK, cut, 1);
        let (request, client) = (format!("lamp-{n}"), server.client());
        let id = insist(&client, &request).await;
        completed(&client, &id).await;
        eventually("the cut", async || {
            (proxy.cuts() == 1 + u32::try_from(n).unwrap()).then_some(())
        })
        .await;
        eventually("it works again", async || {
            (client.get("/health").await.json()["status"] == "ok").then_some(())
        })
        .await;
        Ledger { starts: [(request, id)].into(), ..Default::default() }
            .audit(&[&server], &line)
            .await;
    }
    assert!(
        metric(&server.client(), "crux_bus_redelivered_total").await >= 2,
        "nothing came again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn an_append_that_breaks_off_or_is_not_answered_is_made_once() {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let _services = deployment.line.services(result).await;
    let mut ledger = Ledger::default();
    let mut n = 0;
    for row in [r#""type":"started""#, r#""type":"step_completed""#] {
        for cut in [Cut::Before, Cut::Within, Cut::Unanswered] {
            n += 1;
            deployment.to_redis.cut_at(Toward::Server, row.as_bytes(), cut, 1);
            let request = format!("{}-{n}", if n % 2 == 0 { "order" } else { "lamp" });
            let node = &deployment.nodes[n % 2];
            let id = insist(&node.client(), &request).await;
            completed(&node.client(), &id).await;
            assert_eq!(deployment.to_redis.cuts(), u32::try_from(n).unwrap(), "{row} {cut:?}");
            ledger.starts.insert(request, id);
        }
    }
    ledger.audit(&deployment.all(), &deployment.line).await;
}

#[tokio::test]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn a_result_that_breaks_off_on_its_way_comes_again() {
    let (proxy, server, line) = behind_a_proxy().await;
    let _services = line.services(result).await;
    proxy.cut_at(Toward::Client, b"processed1.jpg", Cut::Within, 1);
    let id = insist(&server.client(), "lamp").await;
    let document = completed(&server.client(), &id).await;
    assert_eq!((proxy.cuts(), &document["output"]["images"]), (1, &json!(["processed1.jpg"])));
    Ledger { starts: [("lamp".to_owned(), id)].into(), ..Default::default() }
        .audit(&[&server], &line)
        .await;
}

/// Anywhere, of either server, again and again under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs rabbitmq-server and redis-server"]
async fn connections_that_break_anywhere_cost_nothing_but_time() {
    let broker = shared().await;
    let deployment = Deployment::start(&broker, 2, "").await;
    let _services = deployment.line.services(result).await;
    let traffic = Traffic::begin(&deployment.nodes, 4, Duration::from_millis(20));
    let cuts = [Cut::Before, Cut::Within, Cut::Unanswered];
    deployment.to_redis.delay(Duration::from_millis(1));
    let cut = || deployment.to_redis.cuts() + deployment.to_broker.cuts();
    // A cut is made where bytes pass; a busy machine has fewer of them.
    for n in (0..1_000_usize).take_while(|n| *n < 40 || cut() < 25) {
        // Spread without two places that are always the same.
        let (toward, bytes) =
            (if n % 2 == 0 { Toward::Server } else { Toward::Client }, 1 + n * 7919 % 5000);
        let proxy = if n % 4 < 2 { &deployment.to_redis } else { &deployment.to_broker };
        if n % 10 == 9 {
            proxy.half_close(toward);
        } else {
            proxy.cut_after(toward, bytes, cuts[n % 3]);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let ledger = traffic.end().await;
    assert!(cut() >= 25, "{} connections were cut", cut());
    deployment.until("ok").await;
    ledger.audit(&deployment.all(), &deployment.line).await;
}
