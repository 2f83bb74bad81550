//! What people read when something is wrong with their request: the place, the reason, and what
//! would be right.

use hyper::Method;
use serde_json::json;

use crate::server;

#[tokio::test]
async fn a_wrong_request_gets_an_answer_in_plain_words() {
    let server = server("");
    let client = server.client();
    let json = [("content-type", "application/json")];
    for (method, path, body, expected) in [
        (
            Method::POST,
            "/api/v1/workflow/double",
            r#"{"number":"x"}"#,
            "number: expected an integer, found the string \"x\"",
        ),
        (
            Method::POST,
            "/api/v1/workflow/double",
            r#"{"number":1.5}"#,
            "number: expected an integer, found the number 1.5",
        ),
        (Method::POST, "/api/v1/workflow/double", "{}", "missing field `number`"),
        // Not a record whose fields come without their names.
        (Method::POST, "/api/v1/workflow/double", "[21, null]", "expected a record, found a list"),
        (
            Method::POST,
            "/api/v1/events",
            r#"{"type":"order.approved","data":[]}"#,
            "expected a record, found a list",
        ),
        (Method::POST, "/api/v1/events", "7", "expected a record, found the number 7"),
        (Method::GET, "/api/v1/workflow/list?limit=x", "", "limit: expected an integer"),
        (
            Method::GET,
            "/api/v1/workflow/list?stats=x",
            "",
            "stats: unknown field `stats`; did you mean `status`?",
        ),
        (
            Method::GET,
            "/api/v1/workflow/list?workflow=doubel",
            "",
            "there is no workflow `doubel`; did you mean `double`?",
        ),
    ] {
        let answer = client.send(method.clone(), path, &json, body.as_bytes().to_vec()).await;
        assert!((400..500).contains(&answer.status), "{method} {path} {body}: {:?}", answer.body);
        assert_eq!(answer.text("detail"), expected, "{method} {path} {body}");
    }
    let nowhere = client.get("/").await;
    assert!(nowhere.text("detail").starts_with(
        "there is no route `/`: workflows are started by POST, for example to `/api/v1/workflow/"
    ));
    assert_eq!(
        client.get("/api/v1/workflow/list?workflow=double").await.json()["workflows"],
        json!([])
    );
}

#[test]
fn a_wrong_setting_is_reported_with_its_line_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    for (config, expected) in [
        ("server: 5\n", "crux.yaml:1:9: server: expected a record, found the number 5"),
        (
            "services:\n  image: here\n",
            "crux.yaml:2:10: services.image: expected a record, found the string \"here\"",
        ),
        (
            "log: { format: jsn }\n",
            "crux.yaml:1:16: log.format: there is no `jsn`; did you mean `json`?",
        ),
        ("log: { level: inof }\n", "log.level: there is no level `inof`; did you mean `info`?"),
        (
            "services:\n  image:\n    url: https://x/\n    steps: [prepare]\n",
            "crux.yaml:3:5: services.image: has no address that anything can be posted to: https is not supported",
        ),
        ("server:\n\tport: 1\n", "crux.yaml:2:2"),
    ] {
        std::fs::write(folder.path().join("crux.yaml"), config).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_crux-test-app"));
        if !config.starts_with("server") {
            // Were it to start after all, it would not be in anybody's way.
            command.env("CRUX_SERVER__PORT", "0");
        }
        let output = command.current_dir(folder.path()).arg("serve").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(expected), "{config}: {said}");
    }
}
