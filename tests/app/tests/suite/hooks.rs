//! Hooks and emitted events, at services that listen.

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::kit::{Client, Reply, Service, eventually};
use crate::server;

fn listening(url: &str) -> String {
    format!("services:\n  mail: {{ url: '{url}', subscribe: [workflow.*, parcel.shipped] }}\n")
}

/// A listener that is down, at an address that nobody else can take.
struct Down(TcpSocket);

impl Down {
    fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    fn config(&self) -> String {
        listening(&format!("http://{}/", self.0.local_addr().unwrap()))
    }

    /// From now on it answers 200 to whatever comes.
    fn come_up(self) -> Service {
        Service::on(self.0.listen(64).unwrap(), |_| Reply::Raw(200, String::new()))
    }
}

async fn undelivered(client: &Client, id: &str, key: &str) -> String {
    eventually("the message is shown as undelivered", || async {
        let document = client.status(id).await;
        let all = document["undelivered"].as_array().unwrap().clone();
        let problem = all.iter().find(|message| message["routing_key"] == key)?["problem"]
            .as_str()?
            .to_owned();
        Some(problem)
    })
    .await
}

fn of<'a>(messages: &'a [Value], field: &str, value: &str) -> Option<&'a Value> {
    messages.iter().find(|message| message[field] == value)
}

#[tokio::test]
async fn services_receive_the_start_the_end_and_what_is_emitted() {
    let service = Service::start(|_| Reply::Raw(204, String::new())).await;
    let server = server(&listening(service.url()));
    let client = server.client();
    let headers = [("idempotency-key", "req-1")];
    let id = client
        .post_with("/api/v1/workflow/parcel", &headers, &json!({"parcel": "P-1"}))
        .await
        .text("workflow_id");
    client.until(&id, "completed").await;
    let messages = eventually("three messages", || async {
        Some(service.tasks()).filter(|messages| messages.len() == 3)
    })
    .await;
    let body = |status: &str| json!({"workflow_id": id, "workflow": "parcel", "request_id": "req-1", "status": status, "payload": {"parcel": "P-1"}});
    assert_eq!(of(&messages, "status", "processing"), Some(&body("processing")));
    assert_eq!(of(&messages, "status", "completed"), Some(&body("completed")));
    assert_eq!(of(&messages, "parcel", "P-1"), Some(&json!({"parcel": "P-1"})));
    let document = client.status(&id).await;
    assert_eq!(document["undelivered"], json!([]));
}

#[tokio::test]
async fn a_failure_hook_has_the_error() {
    let service = Service::start(|_| Reply::Raw(200, String::new())).await;
    let server = server(&listening(service.url()));
    let client = server.client();
    let id = client.start("/api/v1/workflow/parcel", &json!({"parcel": "P-1", "lost": true})).await;
    client.until(&id, "failed").await;
    let failed =
        eventually("the hook", || async { of(&service.tasks(), "status", "failed").cloned() })
            .await;
    assert_eq!(failed["error"], "ParcelLost: nobody knows where P-1 is");
}

#[tokio::test]
async fn a_listener_that_is_down_gets_the_message_when_it_is_back_and_people_see_why_it_waits() {
    let mail = Down::reserve();
    let server = server(&mail.config());
    let client = server.client();
    let id = client.start("/api/v1/workflow/parcel", &json!({"parcel": "P-1"})).await;
    client.until(&id, "completed").await;
    let why = undelivered(&client, &id, "workflow.completed").await;
    assert!(why.starts_with("service `mail` cannot be reached"), "{why}");
    let health = client.get("/health").await.json();
    assert_eq!(
        (&health["status"], &health["services"]["mail"]["status"]),
        (&json!("degraded"), &json!("failing")),
        "{health}"
    );
    eventually("three messages in the metrics", || async {
        let metrics = String::from_utf8(client.get("/metrics").await.body.to_vec()).unwrap();
        metrics.contains("crux_messages_undelivered 3\n").then_some(())
    })
    .await;
    let service = mail.come_up();
    eventually("all messages", || async { (service.tasks().len() >= 3).then_some(()) }).await;
    eventually("nothing is undelivered", || async {
        (client.status(&id).await["undelivered"] == json!([])).then_some(())
    })
    .await;
}

/// The instance has ended, and the process dies before the hook is out.
#[tokio::test]
async fn a_crash_between_the_last_commit_and_the_hook_loses_no_hook() {
    let mail = Down::reserve();
    let mut server = server(&mail.config());
    let id = server.client().start("/api/v1/workflow/parcel", &json!({"parcel": "P-1"})).await;
    server.client().until(&id, "completed").await;
    undelivered(&server.client(), &id, "workflow.completed").await;
    server.kill();
    let service = mail.come_up();
    server.restart();
    let completed =
        eventually("the hook", || async { of(&service.tasks(), "status", "completed").cloned() })
            .await;
    assert_eq!(completed["workflow_id"], id.as_str());
    assert!(of(&service.tasks(), "status", "processing").is_some());
}

#[test]
fn a_misspelt_routing_key_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = "services:\n  mail: { url: 'http://localhost:9/', subscribe: [workflow.complete] }\nconfig: { HOME: Ghent }\n";
    std::fs::write(folder.path().join("crux.yaml"), config).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_crux-test-app"));
    let output = command
        .current_dir(folder.path())
        .env("CRUX_SERVER__PORT", "0")
        .arg("serve")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let expected = "services.mail.subscribe: no workflow has a hook or an `emit` under `workflow.complete`; did you mean `workflow.completed`?";
    assert!(said.contains(expected), "{said}");
}
