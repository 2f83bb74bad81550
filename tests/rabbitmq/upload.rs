//! The product upload of the reference, with its three services behind RabbitMQ.

use serde_json::json;

use crate::kit::{Server, eventually};
use crate::service::{Line, STEPS, queue, task};
use crate::{config, fresh_name, product, result, server, shared};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn three_services_make_a_product_and_everybody_else_is_notified() {
    let broker = shared().await;
    let (server, line) = server(&broker).await;
    line.bind("notices", &["workflow.*"]).await.unwrap();
    let services = line.services(result).await;
    let client = server.client();
    let headers = [("traceparent", TRACE), ("idempotency-key", "req-1")];
    let answer =
        client.post_with("/api/v1/workflow/upload?wait=30s", &headers, &product("Lamp")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let document = answer.json();
    assert_eq!(document["metadata"]["status"], "completed", "{document:#}");
    assert_eq!(document["output"]["images"], json!(["processed1.jpg"]));
    assert_eq!(document["output"]["slug"], "slug-Lamp");

    let id = document["workflow_id"].as_str().unwrap();
    let tasks = services.tasks();
    assert_eq!(
        tasks.iter().map(|task| task.body["step_type"].as_str().unwrap()).collect::<Vec<_>>(),
        STEPS
    );
    for task in &tasks {
        let step = task.body["step_type"].as_str().unwrap();
        assert_eq!(task.message_id, format!("{id}/{step}/1"));
        assert_eq!(
            (task.correlation_id.as_str(), task.traceparent.as_str(), task.is_persistent),
            ("req-1", TRACE, true)
        );
        assert_eq!((&task.body["workflow_id"], &task.body["attempt"]), (&json!(id), &json!(1)));
        assert_eq!(task.body["key"], format!("{id}/{step}"));
        assert_eq!(task.body["payload"], product("Lamp"));
    }
    assert_eq!(tasks[0].body["input"], json!({"images": ["image1.jpg", "image2.jpg"]}));

    let started = line.next("notices").await;
    let completed = line.next("notices").await;
    assert_eq!(
        (started.routing_key.as_str(), completed.routing_key.as_str()),
        ("workflow.start", "workflow.completed")
    );
    assert_eq!(
        (&task(&started).body["workflow_id"], &task(&completed).body["status"]),
        (&json!(id), &json!("completed"))
    );

    let health = client.get("/health").await.json();
    assert_eq!(
        (&health["status"], &health["bus"]["status"]),
        (&json!("ok"), &json!("ok")),
        "{health:#}"
    );
    for step in STEPS {
        assert_eq!(line.waiting(&queue(&line.exchange, step)).await, 0);
    }
    assert_eq!(line.waiting(&format!("{}.completions", line.exchange)).await, 0);
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_service_with_an_address_gets_its_tasks_by_http_beside_the_broker() {
    use crate::kit::{Reply, Service};
    let broker = shared().await;
    let name = fresh_name();
    let pushed = Service::start(|task| Reply::Done(result(task))).await;
    let server = Server::start(
        crate::BINARY,
        &format!("{}{}", config(&broker, &name, ""), pushed.config(&["ai_enhancement"])),
    );
    let line = Line::open(&broker.url(), &name).await;
    let services = line.services(result).await;
    let answer = server.client().post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
    assert_eq!((pushed.tasks().len(), services.tasks().len()), (1, 2));
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_server_that_ends_leaves_nothing_unacknowledged() {
    let broker = shared().await;
    let (mut server, line) = server(&broker).await;
    let _services = line.services(result).await;
    let client = server.client();
    let answer = client.post("/api/v1/workflow/upload?wait=30s", &product("Lamp")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    server.tell_to_end();
    assert!(server.ended().success());
    let queue = format!("{}.completions", line.exchange);
    eventually("the queue is empty", || async { (line.waiting(&queue).await == 0).then_some(()) })
        .await;
}
