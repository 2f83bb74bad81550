//! What makes no sense stops the start, and says what would.

use std::process::Command;

use serde_json::json;

use crate::harness::{Harness, config};
use crate::{BINARY, broker};

/// What the binary says on standard error when it does not start, with its exit code.
fn refused(config: &str, arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("crux.yaml"), config).unwrap();
    let mut command = Command::new(BINARY);
    let output = command
        .args(arguments)
        .current_dir(folder.path())
        .env("CRUX_SERVER__PORT", "0")
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn step_types_that_there_are_not() {
    let with_broker = config(broker(), "refused");
    for arguments in [["serve", "--steps", "duoble"], ["worker", "--steps", "duoble"]] {
        let (code, error) = refused(&with_broker, &arguments);
        assert_eq!(code, 1, "{error}");
        assert!(
            error.contains(
                "no step struct of this binary has the step type `duoble`; did you mean `double`?"
            ),
            "{error}"
        );
    }
    let (code, error) = refused(&with_broker, &["serve", "--steps", "all,double"]);
    assert_eq!(
        (code, error.contains("--steps: server.steps: `all` stands for itself")),
        (2, true),
        "{error}"
    );
    let (code, error) = refused(&with_broker, &["worker", "--steps", "none"]);
    assert_eq!((code, error.contains("`none` leaves nothing to do")), (1, true), "{error}");
}

#[test]
fn a_worker_without_broker_and_server() {
    let (code, error) = refused("", &["worker"]);
    assert_eq!(
        (code, error.contains("name the servers with --connect, or set `bus: rabbitmq`")),
        (1, true),
        "{error}"
    );
    let (code, error) = refused("", &["worker", "--connect", "crux-1:8080"]);
    assert_eq!(
        (code, error.contains("--connect: `crux-1:8080` is not the address of a server")),
        (1, true),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_step_that_fails_or_panics_there_fails_here() {
    let harness = Harness::new();
    let _worker = harness.worker(&[]);
    let answer = harness
        .server
        .client()
        .post("/api/v1/workflow/double?wait=20s", &json!({"number": 13}))
        .await;
    assert!(answer.json().to_string().contains("13 brings bad luck"), "{:?}", answer.body);
    let answer = harness
        .server
        .client()
        .post("/api/v1/workflow/double?wait=20s", &json!({"number": -1}))
        .await;
    assert!(answer.json().to_string().contains("a negative number"), "{:?}", answer.body);
}
