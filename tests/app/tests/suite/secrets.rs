//! Fields with `$secret`: given to the steps that `with` passes them to, and shown to nobody else.

use serde_json::json;

use crate::kit::{Reply, Service, eventually};
use crate::server;

const VAULT: &str = "/api/v1/workflow/vault";

#[tokio::test]
async fn a_secret_reaches_the_step_that_is_given_it_and_is_shown_nowhere() {
    let service = Service::start(|task| match task["step_type"].as_str() {
        Some("log_in") => {
            Reply::Done(json!({"user": "ada", "tokens": [{"name": "shop", "value": "TOKEN-1"}]}))
        }
        Some(_) => Reply::Done(json!({"seen": 1})),
        None => Reply::Raw(204, String::new()),
    })
    .await;
    let url = service.url();
    let config = format!(
        "services:\n  test: {{ url: '{url}', steps: [log_in, look] }}\n  mail: {{ url: '{url}', subscribe: [workflow.*] }}\n"
    );
    let server = server(&config);
    let client = server.client();
    let id = client.start(VAULT, &json!({"user": "ada", "password": "PASSWORD-1"})).await;
    let status = client.until(&id, "completed").await;

    let log_in = service.task("log_in", 1).await;
    assert_eq!(log_in["input"], json!({"user": "ada", "password": "PASSWORD-1"}));
    assert_eq!(log_in["payload"], json!({"user": "ada", "password": "***"}));
    let look = service.task("look", 1).await;
    assert_eq!(look["input"], json!({"tokens": [{"name": "shop", "value": "TOKEN-1"}]}));
    let received = eventually("both hooks", || async {
        let all = service.tasks();
        let hooks: Vec<_> = all.into_iter().filter(|body| body["step_type"].is_null()).collect();
        (hooks.len() == 2).then_some(hooks)
    })
    .await;
    assert!(
        received.iter().all(|hook| hook["payload"] == json!({"user": "ada", "password": "***"})),
        "{received:?}"
    );

    assert_eq!(status["data"]["payload"], json!({"user": "ada", "password": "***"}));
    let output = &status["definition"]["steps"][0]["output"];
    assert_eq!(*output, json!({"user": "ada", "tokens": [{"name": "shop", "value": "***"}]}));
    for what in ["history", "events"] {
        let answer = client.get(&format!("/api/v1/workflow/{id}/{what}")).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(answer.status == 200 && text.contains("shop"), "{what}: {text}");
        assert!(!text.contains("PASSWORD-1") && !text.contains("TOKEN-1"), "{what}: {text}");
    }
    assert!(!server.log().contains("PASSWORD-1") && !server.log().contains("TOKEN-1"));
}

#[tokio::test]
async fn a_secret_that_does_not_fit_is_not_quoted() {
    let server = server("");
    for wrong in [json!(4711), json!("4711".repeat(20))] {
        let answer = server.client().post(VAULT, &json!({"user": "ada", "password": wrong})).await;
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert_eq!(answer.status, 422, "{text}");
        assert!(text.contains("password") && !text.contains("4711"), "{text}");
    }
}
