//! What `docs/services.md` says of the messages between server and services, with a service that
//! does as the page says.

use serde_json::{Value, json};

use crate::json::difference;
use crate::kit::fences::{self, Block};
use crate::kit::{Reply, Server, Service, eventually};

fn shown(kind: &str) -> Vec<Value> {
    let blocks = fences::of_page("docs/services.md").into_iter().filter(|block| block.kind == kind);
    blocks
        .map(|Block { text, place, .. }| {
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{place}: {error}"))
        })
        .collect()
}

/// Uploads the product of the page to a service that gives this answer, and listens; the document,
/// and what the service got.
async fn uploaded(answer: &Value) -> (Value, Vec<Value>) {
    let body = answer.to_string();
    let service = Service::start(move |task| match task["step_type"].as_str() {
        Some("image_processing") => Reply::Raw(200, body.clone()),
        Some(_) => Reply::Later,
        None => Reply::Raw(204, String::new()),
    })
    .await;
    let steps = "[image_processing, ai_enhancement, seo_generation]";
    let config = format!(
        "services: {{ image: {{ url: '{}', steps: {steps}, subscribe: [workflow.failed] }} }}",
        service.url()
    );
    let server = Server::start(env!("CARGO_BIN_EXE_crux"), &config);
    let client = server.client();
    let payload = shown("task")[0]["payload"].clone();
    let headers = [("idempotency-key", "req-1")];
    let id =
        client.post_with("/api/v1/workflow/upload", &headers, &payload).await.text("workflow_id");
    let document = eventually("the first step is done", || async {
        let document = client.status(&id).await;
        let state = &document["definition"]["steps"][0]["state"];
        (state == "completed" || state == "failed").then_some(document)
    })
    .await;
    eventually("the message after it", || async { (service.tasks().len() >= 2).then_some(()) })
        .await;
    (document, service.tasks())
}

#[tokio::test]
async fn the_task_of_the_page_comes_and_its_first_answer_completes_the_step() {
    let (document, tasks) = uploaded(&shown("answer")[0]).await;
    assert_eq!(difference(&shown("task")[0], &tasks[0], "$"), None, "{:#}", tasks[0]);
    let output = &document["definition"]["steps"][0]["output"];
    assert_eq!(*output, shown("answer")[0]["result"], "{document:#}");
}

#[tokio::test]
async fn the_second_answer_of_the_page_fails_the_step_and_the_hook_says_so() {
    let (document, messages) = uploaded(&shown("answer")[1]).await;
    let step = &document["definition"]["steps"][0];
    assert_eq!(
        (&step["error_name"], &step["attempts"]),
        (&json!("PictureNotFound"), &json!(1)),
        "{document:#}"
    );
    assert_eq!(difference(&shown("hook")[0], &messages[1], "$"), None, "{:#}", messages[1]);
}
