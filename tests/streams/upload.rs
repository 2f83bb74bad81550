//! The product upload of the reference, with its three services behind streams.

use crate::kit::upload::suite::a_product_is_made;
use crate::kit::{Server, eventually};
use crate::service::Line;
use crate::{BINARY, bus_only, fresh_name, product, result, server, shared};

#[tokio::test]
#[ignore = "needs redis-server"]
async fn three_services_make_a_product_and_nothing_stays_in_a_stream() {
    let (server, line) = server().await;
    a_product_is_made(&server, &line).await;
    let client = server.client();
    eventually("the list of nodes shows the bus", || async {
        let shown = String::from_utf8(server.run(&["status", "--nodes"]).stdout).unwrap();
        shown.contains("bus        ok").then_some(())
    })
    .await;
    let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
    for line in
        ["crux_bus_published_total{} 3", "crux_bus_consumed_total{} 3", "crux_bus_working{} 1"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// As the reference promises: by one id through all systems, also where the client gave none.
#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_is_published_and_consumed_is_logged_with_its_correlation_id() {
    let (name, url) = (fresh_name(), shared().url());
    let log = "log: { level: 'info,crux::messages=info' }\n";
    let server = Server::start(BINARY, &format!("{}{log}", bus_only(&url, &name, "")));
    let line = Line::open(&url, &name).await;
    let services = line.services(result).await;
    let document =
        server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await.json();
    let id = document["workflow_id"].as_str().unwrap();
    assert!(services.tasks().iter().all(|task| task.correlation_id == id), "{document:#}");
    let log = server.log();
    let published = format!(
        "routing_key=\"step.image_processing\" message_id=\"{id}/image_processing/1\" correlation_id=\"{id}\""
    );
    let logged =
        |text: &str, with: &str| log.lines().any(|line| line.contains(text) && line.contains(with));
    assert!(logged("message published", &published), "{log}");
    assert!(logged("message consumed", "routing_key=\"step.completed\""), "{log}");
    assert!(logged("a completion has come", &format!("instance={id}")), "{log}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_ends_in_order_is_forgotten_by_the_group() {
    let (mut server, line) = server().await;
    let _services = line.services(result).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(line.held("step.completed").await.len(), 1);
    server.tell_to_end();
    assert!(server.ended().success());
    assert_eq!(line.held("step.completed").await.len(), 0);
    assert_eq!(line.length("step.completed").await, 0);
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_does_not_let_this_user_in_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let url = shared().url().replace("redis://", "redis://nobody:wrong@");
    std::fs::write(folder.path().join("crux.yaml"), bus_only(&url, "refused", "")).unwrap();
    let output = std::process::Command::new(BINARY)
        .args(["serve", "--port", "0"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("error: ") && !error.contains("wrong@"), "{error}");
    // The configuration by itself is well-formed.
    let shown = std::process::Command::new(BINARY)
        .arg("config")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(shown.status.success(), "{shown:?}");
}
