//! What holds for the product upload over every broker, as its services, publishers and operators
//! notice it. `broker_suite!` makes a test of each.

use serde_json::{Value, json};

use super::{Line, STEPS, Task, assert_made, completion, product, recorded, result, start};
use crate::{Reply, Server, Service, eventually, order};

const UPLOAD: &str = "/api/v1/workflow/upload";
pub const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The tests of a broker. `$server` gives a server and a line to its broker, for a configuration in
/// addition; `$nodes` gives three nodes that share a store, and a line. Both are asynchronous; what
/// they return besides is kept until the test ends.
#[macro_export]
macro_rules! broker_suite {
    (ignore $why:literal, $server:expr, $nodes:expr) => {
        $crate::broker_suite! { @each $why, $server =>
            a_malformed_message_is_a_dead_letter_with_its_reason_and_stops_no_other
            a_result_of_the_wrong_type_fails_the_step_and_is_a_dead_letter
            a_completion_twice_late_or_with_another_result_changes_nothing
            an_event_starts_an_instance_once_per_message_id
            an_event_of_the_wrong_shape_is_a_dead_letter
            a_service_with_an_address_gets_its_tasks_by_http_beside_the_broker
        }
        $crate::broker_suite! { @each $why, $nodes =>
            products_are_made_whichever_node_dies
        }
    };
    (@each $why:literal, $open:expr => $($test:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = $why]
        async fn $test() {
            $crate::upload::suite::$test(async |config: &str| ($open)(config.to_owned()).await).await;
        })*
    };
}

pub async fn a_malformed_message_is_a_dead_letter_with_its_reason_and_stops_no_other<L: Line, K>(
    open: impl AsyncFn(&str) -> (Server, L, K),
) {
    let (server, line, _kept) = open("").await;
    line.publish("step.completed", "poison-1", "{not json").await;
    let dead = line.dead_letter().await;
    assert_eq!(
        (dead.body.as_str(), dead.message_id.as_str(), dead.routing_key.as_str()),
        ("{not json", "poison-1", "step.completed")
    );
    assert!(dead.reason.contains("line 1 column 2"), "{dead:?}");

    let body = r#"{"workflow_id":"x","step_id":"y","success":true}"#;
    line.publish("step.completed", "", body).await;
    let dead = line.dead_letter().await;
    assert!(dead.reason.starts_with("workflow_id: "), "{dead:?}");

    let _services = line.services(result).await;
    let answer = server.client().post(&format!("{UPLOAD}?wait=30s"), &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
    line.until_empty("step.completed").await;
    assert_eq!(line.dead_letters().await, 0);
}

pub async fn a_result_of_the_wrong_type_fails_the_step_and_is_a_dead_letter<L: Line, K>(
    open: impl AsyncFn(&str) -> (Server, L, K),
) {
    let (server, line, _kept) = open("").await;
    let _services =
        line.services(|_| json!({"processed_images": "one.jpg", "processing_time": "1s"})).await;
    let answer = server.client().post(&format!("{UPLOAD}?wait=30s"), &product("Lamp")).await;
    let document = answer.json();
    assert_eq!(document["metadata"]["status"], "failed", "{document:#}");
    assert_eq!(document["definition"]["steps"][0]["error_name"], "InvalidResult");
    let dead = line.dead_letter().await;
    assert!(dead.reason.contains("processed_images"), "{dead:?}");
}

pub async fn a_completion_twice_late_or_with_another_result_changes_nothing<L: Line, K>(
    open: impl AsyncFn(&str) -> (Server, L, K),
) {
    let (server, line, _kept) = open("").await;
    let services = line
        .services(
            |task| if task["step_type"] == "image_processing" { Value::Null } else { result(task) },
        )
        .await;
    let client = server.client();
    let id = client.start(UPLOAD, &product("Lamp")).await;
    let task =
        eventually("the task comes", || async { services.tasks().first().cloned() }).await.body;
    for _ in 0..5 {
        line.complete(&task, &result(&task)).await;
    }
    client.until(&id, "completed").await;
    line.complete(&task, &result(&task)).await;
    line.complete(&task, &json!({"processed_images": ["other.jpg"], "processing_time": "1s"}))
        .await;
    // The only one that contradicts what is recorded.
    let dead = line.dead_letter().await;
    assert!(dead.reason.contains("with another result"), "{dead:?}");
    assert!(dead.body.contains("other.jpg"), "{dead:?}");
    assert_eq!(recorded(&client, &id).await["image_processing"], 1);
    line.until_empty("step.completed").await;
    assert_eq!(line.dead_letters().await, 0);
    assert_eq!(client.status(&id).await["output"]["images"], json!(["processed1.jpg"]));

    // For an instance that nobody knows.
    let mut foreign = completion(&task, &result(&task));
    foreign["workflow_id"] = json!("01890a5d-ac96-774b-bcce-b302099a8057");
    line.publish("step.completed", "", &foreign.to_string()).await;
    let dead = line.dead_letter().await;
    assert!(dead.reason.contains("not found"), "{dead:?}");
}

pub async fn an_event_starts_an_instance_once_per_message_id<L: Line, K>(
    open: impl AsyncFn(&str) -> (Server, L, K),
) {
    let (server, line, _kept) = open("").await;
    let client = server.client();
    for _ in 0..3 {
        line.publish("order.created", "event-1", &order("ORD-1").to_string()).await;
    }
    line.publish("order.created", "event-2", &order("ORD-2").to_string()).await;
    let count = async |filter: &str| {
        let list = client.get(&format!("/api/v1/workflow/list?{filter}")).await.json();
        list["workflows"].as_array().expect("a list").len()
    };
    eventually("both have completed", async || {
        (count("workflow=order&status=completed").await >= 2).then_some(())
    })
    .await;
    line.until_empty("order.created").await;
    assert_eq!(count("").await, 2);
}

pub async fn an_event_of_the_wrong_shape_is_a_dead_letter<L: Line, K>(
    open: impl AsyncFn(&str) -> (Server, L, K),
) {
    let (server, line, _kept) = open("").await;
    line.publish("order.created", "event-1", "\"what is this\"").await;
    let dead = line.dead_letter().await;
    assert_eq!((dead.routing_key.as_str(), dead.message_id.as_str()), ("order.created", "event-1"));
    assert!(!dead.reason.is_empty());
    let all = server.client().get("/api/v1/workflow/list").await.json();
    assert_eq!(all["workflows"], json!([]));
}

pub async fn a_service_with_an_address_gets_its_tasks_by_http_beside_the_broker<L: Line, K>(
    open: impl AsyncFn(&str) -> (Server, L, K),
) {
    let pushed = Service::start(|task| Reply::Done(result(task))).await;
    let (server, line, _kept) = open(&pushed.config(&["ai_enhancement"])).await;
    let services = line.services(result).await;
    let answer = server.client().post(&format!("{UPLOAD}?wait=30s"), &product("Lamp")).await;
    assert_eq!(answer.json()["metadata"]["status"], "completed", "{:?}", answer.body);
    assert_eq!((pushed.tasks().len(), services.tasks().len()), (1, 2));
}

pub async fn products_are_made_whichever_node_dies<L: Line, K>(
    open: impl AsyncFn(&str) -> (Vec<Server>, L, K),
) {
    const PRODUCTS: usize = 60;
    let (mut nodes, line, _kept) = open("").await;
    let services = line
        .services(|task| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            result(task)
        })
        .await;
    let mut ledger: Vec<(String, String)> = Vec::new();
    for n in 0..PRODUCTS {
        let name = format!("Lamp{n}");
        ledger.push((start(&nodes[n % 3], &name).await, name));
        // While tasks are on their way to services, and results on their way back.
        if n % 20 == 10 {
            let victim = n / 20;
            nodes[victim].kill();
            nodes[victim].restart();
        }
    }
    for (n, (id, name)) in ledger.iter().enumerate() {
        let document = assert_made(&nodes[n % 3].client(), id).await;
        assert_eq!(document["output"]["slug"], format!("slug-{name}"));
    }
    assert!(services.tasks().len() >= PRODUCTS * STEPS.len());
    until_taken(&line).await;
    assert_eq!(line.dead_letters().await, 0, "something was refused");
}

/// Waits until no task and no result is left.
pub async fn until_taken(line: &impl Line) {
    for key in STEPS.iter().map(|step| format!("step.{step}")).chain(["step.completed".to_owned()])
    {
        line.until_empty(&key).await;
    }
}

/// A product is made under one trace and one correlation id; its document and its tasks.
pub async fn a_product_is_made(server: &Server, line: &impl Line) -> (Value, Vec<Task>) {
    let services = line.services(result).await;
    let headers = [("traceparent", TRACE), ("idempotency-key", "req-1")];
    let trigger = format!("{UPLOAD}?wait=30s");
    let client = server.client();
    let answer = client.post_with(&trigger, &headers, &product("Lamp")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let document = answer.json();
    assert_eq!(document["metadata"]["status"], "completed", "{document:#}");
    assert_eq!(document["output"]["images"], json!(["processed1.jpg"]));
    assert_eq!(document["output"]["slug"], "slug-Lamp");

    let id = document["workflow_id"].as_str().expect("an id");
    let tasks = services.tasks();
    let steps: Vec<&str> =
        tasks.iter().filter_map(|task| task.body["step_type"].as_str()).collect();
    assert_eq!(steps, STEPS);
    for (task, step) in tasks.iter().zip(STEPS) {
        assert_eq!(task.message_id, format!("{id}/{step}/1"));
        assert_eq!(task.routing_key, format!("step.{step}"));
        assert_eq!((task.correlation_id.as_str(), task.traceparent.as_str()), ("req-1", TRACE));
        assert_eq!((&task.body["workflow_id"], &task.body["attempt"]), (&json!(id), &json!(1)));
        assert_eq!(task.body["key"], format!("{id}/{step}"));
        assert_eq!(task.body["payload"], product("Lamp"));
    }
    assert_eq!(tasks[0].body["input"], json!({"images": ["image1.jpg", "image2.jpg"]}));

    let health = client.get("/health").await.json();
    assert_eq!(
        (&health["status"], &health["bus"]["status"]),
        (&json!("ok"), &json!("ok")),
        "{health:#}"
    );
    until_taken(line).await;
    assert_eq!(line.dead_letters().await, 0);
    (document, tasks)
}
