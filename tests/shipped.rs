//! The shipped pipelines in the built binary, as a shop would use them: over HTTP, with a `kill -9`
//! in between.

use crux_test_kit::{Client, Server, eventually, order};
use serde_json::{Value, json};

const EVENTS: &str = "/api/v1/events";
const ORDER: &str = "/api/v1/workflow/order";
const REFUND: &str = "/api/v1/workflow/refund";

fn server() -> (Server, Client) {
    let server = Server::start(env!("CARGO_BIN_EXE_crux"), "");
    let client = server.client();
    (server, client)
}

fn refund(order: &str, reason: &str, cents: u32, cooling_off: &str) -> Value {
    json!({"orderId": order, "customerId": "CUST-1", "amountCents": cents, "reason": reason, "coolingOff": cooling_off})
}

fn reviewed(order: &str, approved: bool) -> Value {
    json!({"type": "refund.reviewed", "data": {"orderId": order, "approved": approved, "reviewer": "Ann"}})
}

fn received(order: &str) -> Value {
    json!({"type": "parcel.received", "data": {"orderId": order, "resaleable": true}})
}

/// The paths of what was undone, in the order in which it was.
fn undone(document: &Value) -> Vec<&str> {
    document["undo"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|undo| undo["path"].as_str())
        .collect()
}

/// What clients of the reference know of an instance: all that its documentation prints, found in a
/// document of ours.
fn assert_has_all_of(printed: &Value, ours: &Value, path: &str) {
    match (printed, ours) {
        (Value::Object(printed), Value::Object(ours)) => {
            for (name, printed) in printed {
                let path = format!("{path}.{name}");
                assert_has_all_of(
                    printed,
                    ours.get(name).unwrap_or_else(|| panic!("{path} is missing")),
                    &path,
                );
            }
        }
        (Value::Array(printed), Value::Array(ours)) => {
            assert_eq!(ours.len(), printed.len(), "{path}");
            for (n, (printed, ours)) in printed.iter().zip(ours).enumerate() {
                assert_has_all_of(printed, ours, &format!("{path}[{n}]"));
            }
        }
        (Value::String(printed), Value::String(ours)) => {
            // An id keeps its prefix, and a time is a time.
            let is_alike = match printed.split_once("_instance:") {
                Some((kind, _)) => {
                    ours.starts_with(&format!("{kind}_instance:"))
                        && ours.len() == kind.len() + "_instance:".len() + 36
                }
                None => printed == ours || crux_test_kit::console::is_alike(printed, ours),
            };
            assert!(is_alike, "{path}: {ours:?} is not {printed:?}");
        }
        _ => assert_eq!(printed, ours, "{path}"),
    }
}

/// An order that is in its first step, as the reference prints one. It is there for some hundred
/// microseconds: one of many is met in it.
async fn order_in_its_first_step(client: &Client) -> Value {
    for round in 0..50 {
        let one = async |n: usize| {
            let request = format!("req-xyz-789-{round}-{n}");
            let answer = client
                .post_with(ORDER, &[("idempotency-key", &request)], &order("ORD-1234567"))
                .await;
            client.status(&answer.text("workflow_id")).await
        };
        let documents = futures_util::future::join_all((0..64).map(one)).await;
        let in_first = |document: &Value| {
            document["metadata"]["current_step"]
                == document["definition"]["steps"][0]["step_instance_id"]
        };
        if let Some(document) = documents.into_iter().find(in_first) {
            return document;
        }
    }
    panic!("no order was met in its first step");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orders_document_is_the_one_that_the_reference_prints_field_for_field() {
    let (_server, client) = server();
    let mut printed: Value =
        serde_json::from_str(include_str!("fixtures/crux-web-socket.json")).expect("a document");
    let document = order_in_its_first_step(&client).await;
    // The id of the request is the client's own, and `pending` says that it has not begun, which
    // this one has.
    assert!(
        document["data"]["request_id"].as_str().is_some_and(|id| id.starts_with("req-xyz-789-")),
        "{document:#}"
    );
    assert!(
        ["pending", "processing"]
            .contains(&document["metadata"]["status"].as_str().unwrap_or_default()),
        "{document:#}"
    );
    for (part, field) in [("data", "request_id"), ("metadata", "status")] {
        printed[part][field] = document[part][field].clone();
    }
    assert_has_all_of(&printed, &document, "$");
    let names =
        |value: &Value| value.as_object().expect("a record").keys().cloned().collect::<Vec<_>>();
    for pointer in
        ["/definition", "/definition/hooks", "/definition/steps/0/definition", "/data", "/metadata"]
    {
        let (printed, ours) = (
            printed.pointer(pointer).expect("printed"),
            document.pointer(pointer).expect("checked"),
        );
        assert_eq!(names(ours), names(printed), "{pointer}: other fields, or in another order");
    }
    let id = document["workflow_id"].as_str().expect("an id");
    assert_eq!(document["data"]["workflow_instance_id"], format!("workflow_instance:{id}"));
    // When it has ended only the moment differs.
    let ended = client.until(id, "completed").await;
    assert_eq!(
        (&ended["definition"]["hooks"], &ended["data"]["payload"]),
        (&printed["definition"]["hooks"], &printed["data"]["payload"])
    );
    assert_eq!(ended["metadata"]["current_step"], "", "absent is an empty text");
    assert!(ended["metadata"]["end_time"].as_str() >= ended["metadata"]["start_time"].as_str());
    assert_eq!(ended["output"]["confirmation"], "C-ORD-1234567-29");
}

#[tokio::test]
async fn an_event_starts_an_order_as_a_request_does() {
    let (_server, client) = server();
    assert_eq!(
        client.post(EVENTS, &json!({"type": "order.created", "data": order("O-1")})).await.status,
        202
    );
    eventually("one order completed", || async {
        let list = client.get("/api/v1/workflow/list?workflow=order&status=completed").await.json();
        (list["workflows"].as_array()?.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refund_waits_for_parcel_and_reviewer_and_puts_the_goods_back() {
    let (_server, client) = server();
    // Both come before anybody waits for the second one.
    let id = client.start(REFUND, &refund("O-1", "changed_mind", 20_000, "10ms")).await;
    client.post(EVENTS, &reviewed("O-1", true)).await;
    client.until(&id, "waiting").await;
    client.post(EVENTS, &received("O-1")).await;
    let document = client.until(&id, "completed").await;
    assert_eq!(document["output"]["payment_id"], "refund-O-1");
    assert!(document["output"]["shelf"].is_string(), "{document}");
}

#[tokio::test]
async fn a_refund_that_is_not_approved_fails_and_pays_nothing() {
    let (_server, client) = server();
    let id = client.start(REFUND, &refund("O-2", "damaged", 20_000, "10ms")).await;
    client.post(EVENTS, &reviewed("O-2", false)).await;
    let document = client.until(&id, "failed").await;
    assert_eq!(document["error"], "Rejected: order O-2: the refund was not approved");
    assert!(undone(&document).is_empty(), "{document}");
}

#[tokio::test]
async fn a_refund_without_an_account_to_pay_to_is_undone_newest_first() {
    let (_server, client) = server();
    let mut input = refund("O-3", "changed_mind", 900, "10ms");
    input["customerId"] = "closed-1".into();
    let id = client.start(REFUND, &input).await;
    client.post(EVENTS, &received("O-3")).await;
    let document = client.until(&id, "failed").await;
    assert_eq!(document["error_name"], "AccountClosed");
    let mut undone = undone(&document);
    undone.sort_unstable();
    assert_eq!(undone, ["record/issue_credit_note/undo", "record/restock/undo"]);
}

#[tokio::test]
async fn a_refund_that_sleeps_goes_on_after_kill_9_and_can_be_cancelled_as_if_nothing_had_been() {
    let (mut server, client) = server();
    let short = client.start(REFUND, &refund("O-4", "damaged", 900, "1500ms")).await;
    let long = client.start(REFUND, &refund("O-5", "damaged", 900, "1h")).await;
    client.until(&long, "waiting").await;
    server.kill();
    server.restart();
    let client = server.client();
    client.until(&short, "completed").await;
    assert_eq!(
        client.tell(&long, "cancel", &json!({"reason": "changed her mind again"})).await.status,
        200
    );
    let document = client.until(&long, "cancelled").await;
    assert_eq!(undone(&document), ["record/issue_credit_note/undo"]);
}

#[tokio::test]
async fn one_order_is_refunded_once() {
    let (_server, client) = server();
    let input = refund("O-6", "damaged", 900, "1h");
    assert_eq!(client.start(REFUND, &input).await, client.start(REFUND, &input).await);
    let answer = client.post(REFUND, &refund("O-6", "damaged", 901, "1h")).await;
    assert_eq!((answer.status, answer.problem().as_str()), (409, "conflict"));
}

#[tokio::test]
async fn an_upload_is_done_when_three_services_have_said_so() {
    let (_server, client) = server();
    let upload = json!({
        "name": "Sample Product", "description": "A test product", "images": ["image1.jpg", "image2.jpg"],
        "category": "Electronics", "price": 99.99
    });
    let accepted = client.post("/api/v1/workflow/upload", &upload).await.json();
    assert_eq!(
        (&accepted["status"], &accepted["message"]),
        (&json!("processing"), &json!("Workflow started successfully"))
    );
    let id = accepted["workflow_id"].as_str().expect("an id");
    let results = [
        (
            "image_processing",
            json!({"processed_images": ["processed1.jpg", "processed2.jpg"], "processing_time": "2.5s"}),
        ),
        ("ai_enhancement", json!({"description": "A tested product."})),
        (
            "seo_generation",
            json!({"title": "Sample Product", "meta_description": "Tested.", "slug": "sample-product"}),
        ),
    ];
    for (n, (step_type, result)) in results.into_iter().enumerate() {
        let step_id = eventually(step_type, || async {
            let document = client.status(id).await;
            let step_id = document["definition"]["steps"][n]["step_instance_id"].clone();
            (document["metadata"]["current_step"] == step_id).then_some(step_id)
        })
        .await;
        let body = json!({"workflow_id": id, "step_id": step_id, "step_type": step_type, "success": true, "result": result});
        assert_eq!(client.post("/api/v1/workflow/step-completed", &body).await.status, 200);
    }
    let document = client.until(id, "completed").await;
    assert_eq!(document["output"]["images"], json!(["processed1.jpg", "processed2.jpg"]));
    assert_eq!(
        (&document["output"]["slug"], &document["output"]["keywords"]),
        (&json!("sample-product"), &json!([]))
    );
}
