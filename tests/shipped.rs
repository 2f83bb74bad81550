//! The shipped pipelines in the built binary, as a shop would use them: over HTTP, with a `kill -9` in between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Much longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// On a free port, with its database in `folder`.
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_crux"))
            .args(["serve"])
            .current_dir(folder)
            .env("CRUX_SERVER__PORT", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address =
            lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix("listening on http://127.0.0.1:").map(str::to_owned));
        // Whoever writes to a closed pipe ends.
        std::thread::spawn(move || lines.for_each(drop));
        let port = address.expect("it says where it listens").parse().expect("a port");
        let server = Self { child, port };
        server.until("ready", || server.get("/health/ready").0 == 200);
        server
    }

    fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "")
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, &body.to_string());
        assert!(status < 300, "POST {path}: {status} {answer}");
        answer
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < until, "not within {} s: {what}", PATIENCE.as_secs());
            sleep(Duration::from_millis(20));
        }
    }

    fn start_refund(&self, input: Value) -> String {
        let answer = self.post("/api/v1/workflow/refund", &input);
        answer["workflow_id"].as_str().expect("an id").to_owned()
    }

    fn document(&self, workflow_id: &str) -> Value {
        self.get(&format!("/api/v1/workflow/status?workflow_id={workflow_id}")).1
    }

    /// The document once it has that status.
    fn document_when(&self, workflow_id: &str, status: &str) -> Value {
        self.until(&format!("{workflow_id} {status}: {}", self.document(workflow_id)), || {
            self.document(workflow_id)["metadata"]["status"] == status
        });
        self.document(workflow_id)
    }
}

fn refund(order: &str, reason: &str, cents: u32, cooling_off: &str) -> Value {
    json!({"orderId": order, "customerId": "CUST-1", "amountCents": cents, "reason": reason, "coolingOff": cooling_off})
}

/// The paths of what was undone, in the order in which it was.
fn undone(document: &Value) -> Vec<&str> {
    document["undo"].as_array().expect("a list").iter().filter_map(|undo| undo["path"].as_str()).collect()
}

#[test]
fn an_orders_document_has_every_field_that_clients_know() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let payload = json!({"orderId": "ORD-1234567", "customerId": "CUST-89101", "bookingTime": "2025-08-21T14:25:36Z"});
    let document = server.post("/api/v1/workflow/order?wait=30s", &payload);
    assert_eq!(document["definition"]["hooks"], json!({"on_start": "", "on_complete": "", "on_failure": ""}));
    let definitions: Vec<&Value> =
        document["definition"]["steps"].as_array().expect("steps").iter().map(|step| &step["definition"]).collect();
    assert_eq!(
        definitions,
        [
            &json!({"class": "NotificationStep", "type": "send_notification", "steps": []}),
            &json!({"class": "FinalizeOrderStep", "type": "finalize_order", "steps": []}),
        ]
    );
    assert!(document["definition"]["steps"][0]["step_instance_id"].as_str().expect("an id").starts_with("step_instance:"));
    assert_eq!(document["data"]["payload"], payload);
    assert!(document["data"]["workflow_instance_id"].as_str().expect("an id").starts_with("workflow_instance:"));
    assert_eq!(document["metadata"]["status"], "completed");
    assert_eq!(document["metadata"]["current_step"], "", "absent is an empty text");
    assert_eq!(document["output"]["confirmation"], "C-ORD-1234567-29");
}

#[test]
fn an_event_starts_an_order_as_a_request_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.post(
        "/api/v1/events",
        &json!({"type": "order.created", "data": {"orderId": "O-1", "customerId": "C", "bookingTime": "2025-08-21T14:25:36Z"}}),
    );
    server.until("one order completed", || {
        let (_, list) = server.get("/api/v1/workflow/list?workflow=order&status=completed");
        list.to_string().contains("\"completed\"")
    });
}

#[test]
fn a_refund_waits_for_parcel_and_reviewer_and_puts_the_goods_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    // Both come before anybody waits for the second one.
    let id = server.start_refund(refund("O-1", "changed_mind", 20_000, "10ms"));
    server.post("/api/v1/events", &json!({"type": "refund.reviewed", "data": {"orderId": "O-1", "approved": true, "reviewer": "Ann"}}));
    assert_eq!(server.document(&id)["metadata"]["status"], "waiting");
    server.post("/api/v1/events", &json!({"type": "parcel.received", "data": {"orderId": "O-1", "resaleable": true}}));
    let document = server.document_when(&id, "completed");
    assert_eq!(document["output"]["payment_id"], "refund-O-1");
    assert!(document["output"]["shelf"].is_string(), "{document}");
}

#[test]
fn a_refund_that_is_not_approved_fails_and_pays_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let id = server.start_refund(refund("O-2", "damaged", 20_000, "10ms"));
    server.post("/api/v1/events", &json!({"type": "refund.reviewed", "data": {"orderId": "O-2", "approved": false, "reviewer": "Ann"}}));
    let document = server.document_when(&id, "failed");
    assert_eq!(document["error"], "Rejected: order O-2: the refund was not approved");
    assert!(undone(&document).is_empty(), "{document}");
}

#[test]
fn a_refund_without_an_account_to_pay_to_is_undone_newest_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let mut input = refund("O-3", "changed_mind", 900, "10ms");
    input["customerId"] = "closed-1".into();
    let id = server.start_refund(input);
    server.post("/api/v1/events", &json!({"type": "parcel.received", "data": {"orderId": "O-3", "resaleable": true}}));
    let document = server.document_when(&id, "failed");
    assert_eq!(document["error_name"], "AccountClosed");
    let mut undone = undone(&document);
    undone.sort_unstable();
    assert_eq!(undone, ["record/issue_credit_note/undo", "record/restock/undo"]);
}

#[test]
fn a_refund_that_sleeps_goes_on_after_kill_9_and_can_be_cancelled_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let short = server.start_refund(refund("O-4", "damaged", 900, "1500ms"));
    let long = server.start_refund(refund("O-5", "damaged", 900, "1h"));
    server.document_when(&long, "waiting");
    server.kill();
    let server = Server::start(folder.path());
    server.document_when(&short, "completed");
    server.post(&format!("/api/v1/workflow/{long}/cancel"), &json!({"reason": "changed her mind again"}));
    let document = server.document_when(&long, "cancelled");
    assert_eq!(undone(&document), ["record/issue_credit_note/undo"]);
}

#[test]
fn one_order_is_refunded_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let input = refund("O-6", "damaged", 900, "1h");
    assert_eq!(server.start_refund(input.clone()), server.start_refund(input));
    let (status, problem) = server.ask("POST", "/api/v1/workflow/refund", &refund("O-6", "damaged", 901, "1h").to_string());
    assert_eq!(status, 409, "{problem}");
}

#[test]
fn an_upload_is_done_when_three_services_have_said_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    let upload = json!({
        "name": "Sample Product", "description": "A test product", "images": ["image1.jpg", "image2.jpg"],
        "category": "Electronics", "price": 99.99
    });
    let accepted = server.post("/api/v1/workflow/upload", &upload);
    assert_eq!((&accepted["status"], &accepted["message"]), (&json!("processing"), &json!("Workflow started successfully")));
    let id = accepted["workflow_id"].as_str().expect("an id").to_owned();
    let results = [
        ("image_processing", json!({"processed_images": ["processed1.jpg", "processed2.jpg"], "processing_time": "2.5s"})),
        ("ai_enhancement", json!({"description": "A tested product."})),
        ("seo_generation", json!({"title": "Sample Product", "meta_description": "Tested.", "slug": "sample-product"})),
    ];
    for (n, (step_type, result)) in results.into_iter().enumerate() {
        let step = |document: &Value| document["definition"]["steps"][n]["step_instance_id"].as_str().map(str::to_owned);
        server.until(step_type, || {
            server.document(&id)["metadata"]["current_step"].as_str().map(str::to_owned) == step(&server.document(&id))
        });
        let step_id = step(&server.document(&id)).expect("a step id");
        let body = json!({"workflow_id": id, "step_id": step_id, "step_type": step_type, "success": true, "result": result});
        server.post("/api/v1/workflow/step-completed", &body);
    }
    let document = server.document_when(&id, "completed");
    assert_eq!(document["output"]["images"], json!(["processed1.jpg", "processed2.jpg"]));
    assert_eq!((&document["output"]["slug"], &document["output"]["keywords"]), (&json!("sample-product"), &json!([])));
}
