//! The command line against a server, and what it says of mistakes.

use std::process::Output;

use serde_json::json;

use crate::commands::choosy;
use crate::server;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[tokio::test]
async fn a_wait_that_runs_out_says_of_which_instance() {
    let server = server("");
    let waited = server.run(&["start", "nap", "--input", r#"{"nap": "1h"}"#, "--wait", "100ms"]);
    let id = out(&waited);
    assert_eq!(waited.status.code(), Some(1));
    assert_eq!(
        err(&waited),
        format!("error: {id} has not ended within 100ms: it goes on, see `crux status {id}`")
    );
    server.client().until(&id, "waiting").await;
}

#[tokio::test]
async fn an_instance_is_paused_resumed_and_restarted() {
    let server = server("");
    let client = server.client();
    let nap = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    for (command, status) in [("pause", "paused"), ("resume", "waiting"), ("cancel", "cancelled")] {
        let done = server.run(&[command, &nap]);
        assert!(done.status.success(), "{command}: {}", err(&done));
        client.until(&nap, status).await;
    }
    let restarted = server.run(&["restart", &nap]);
    assert!(restarted.status.success(), "{}", err(&restarted));
    let again = out(&restarted);
    assert_ne!(again, nap);
    client.until(&again, "waiting").await;
    let refused = server.run(&["undo", &again]);
    assert_eq!(refused.status.code(), Some(1));
}

#[tokio::test]
async fn open_instances_are_listed_in_pages_whatever_their_status() {
    let server = server("");
    let client = server.client();
    let waiting = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    let paused = client.start("/api/v1/workflow/nap", &json!({"nap": "1h"})).await;
    client.until(&paused, "waiting").await;
    assert!(server.run(&["pause", &paused]).status.success());
    client.until(&paused, "paused").await;
    let ended = client.start("/api/v1/workflow/double", &json!({"number": 1})).await;
    client.until(&ended, "completed").await;
    client.until(&waiting, "waiting").await;

    let listed = out(&server.run(&["list", "--open"]));
    let ids: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ids, [&paused, &waiting], "{listed}");
    let page = |after: &str| -> serde_json::Value {
        let page = server.run(&["list", "--open", "--limit", "1", "--json", "--after", after]);
        serde_json::from_slice(&page.stdout).unwrap_or_else(|_| panic!("{}", err(&page)))
    };
    let second = page(&paused);
    assert_eq!(second["workflows"][0]["workflow_id"], waiting.as_str());
    assert_eq!(second["next"], "");
    let first = out(&server.run(&["list", "--open", "--limit", "1"]));
    assert!(first.ends_with(&format!("more: --after {paused}")), "{first}");
}

#[tokio::test]
async fn an_event_is_sent_once_under_its_id() {
    let server = server("");
    let event = ["event", "order.approved", "--id", "e-7"];
    let data = ["--data", r#"{"orderId": "7", "by": "Ann"}"#];
    let sent = server.run(&[event.as_slice(), &data].concat());
    assert_eq!((out(&sent).as_str(), err(&sent).as_str()), ("e-7", ""));
    let again = server.run(&[event.as_slice(), &data].concat());
    assert_eq!(err(&again), "this event was sent before; it counts once");
    let misspelt = server.run(&["event", "order.aproved"]);
    assert_eq!(misspelt.status.code(), Some(1));
    assert!(err(&misspelt).contains("order.approved"), "{}", err(&misspelt));
}

#[tokio::test]
async fn a_parked_instance_is_undone_or_failed() {
    let (server, client, _service) = choosy().await;
    let bad = json!({"left": "bad", "right": "good"});
    for arguments in [&["undo"] as &[&str], &["fail", "--reason", "settled by hand"]] {
        let id = client.start("/api/v1/workflow/careful", &bad).await;
        client.until(&id, "parked").await;
        let done = server.run(&[arguments, &[id.as_str()]].concat());
        assert!(done.status.success(), "{arguments:?}: {}", err(&done));
        client.until(&id, "failed").await;
    }
}

#[tokio::test]
async fn fields_that_the_input_does_not_have_are_named_or_refused() {
    let server = server("");
    let warned = server.run(&["start", "double", "--input", r#"{"number": 1, "nubmer": 2}"#]);
    assert!(warned.status.success() && !out(&warned).is_empty(), "{}", err(&warned));
    assert!(
        err(&warned).starts_with("warning: ") && err(&warned).contains("nubmer"),
        "{}",
        err(&warned)
    );
    // Its trigger says `additional: false`.
    let refused = server.run(&["start", "nap", "--input", r#"{"nap": "1h", "npa": "2h"}"#]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("npa"), "{}", err(&refused));
}

#[tokio::test]
async fn a_flag_that_would_change_nothing_is_refused() {
    let server = server("");
    for (arguments, said) in [
        (
            &["serve", "--json"] as &[&str],
            "--json: `crux serve` prints no answers; for a log in JSON set `log.format: json`",
        ),
        (
            &["--server", "http://localhost:1", "config"],
            "--server: `crux config` talks to no server: leave it out",
        ),
        (
            &["completions", "bash", "--json"],
            "--json: `crux completions` does not print JSON: leave it out",
        ),
        (
            &["completions", "bash", "--config", "crux.yaml"],
            "--config: `crux completions` reads no configuration: leave it out",
        ),
        (
            &["list", "--config", "crux.yaml", "--server", "http://localhost:1"],
            "--config: --server says already which server is meant: leave it out",
        ),
    ] {
        let refused = server.command().args(arguments).output().unwrap();
        assert_eq!(
            (refused.status.code(), err(&refused)),
            (Some(2), format!("error: {said}")),
            "{arguments:?}"
        );
        assert!(refused.stdout.is_empty(), "{arguments:?}");
    }
    // A variable is for all commands.
    let shown = server.run(&["config", "--json"]);
    assert!(
        serde_json::from_slice::<serde_json::Value>(&shown.stdout).unwrap()["server"]["port"]
            .is_number(),
        "{}",
        err(&shown)
    );
}

#[tokio::test]
async fn a_misspelt_variable_is_to_blame_and_those_of_a_kubernetes_service_are_not() {
    let server = server("");
    let config =
        |name: &str, value: &str| server.command().env(name, value).arg("config").output().unwrap();
    let misspelt = config("CRUX_SEVER__PORT", "9090");
    assert_eq!(
        err(&misspelt),
        "error: CRUX_SEVER__PORT: sever: there is no such setting; did you mean `server`?"
    );
    assert_eq!(misspelt.status.code(), Some(2));
    let link = config("CRUX_PORT", "tcp://10.96.0.10:8080");
    assert!(link.status.success(), "{}", err(&link));
}

#[tokio::test]
async fn the_version_is_the_packages() {
    let server = server("");
    let said = out(&server.run(&["--version"]));
    assert_eq!(
        said,
        format!("crux {0} (crux-test-app; crux-runtime {0})", env!("CARGO_PKG_VERSION"))
    );
    let ready = server.logged(&["ready"]).await;
    assert!(ready.contains("package=\"crux-test-app\""), "{ready}");
    server.logged(&["no store here yet", "crux.db"]).await;
}

#[tokio::test]
async fn a_store_in_a_folder_that_is_not_there_is_refused_and_nothing_is_made() {
    let server = server("");
    let refused = server.run(&["serve", "--store", "dta/crux.db"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        err(&refused).contains("the folder dta does not exist: create it (`mkdir -p dta`)"),
        "{}",
        err(&refused)
    );
    assert!(!server.folder().join("dta").exists());
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_one() {
    let server = server("");
    let mut list = server.command();
    list.args(["list", "--server", server.url()]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(list.stdout(writer).status().unwrap().success());
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut config = server.command();
    let failed = config.arg("config").stdout(full).output().unwrap();
    assert_eq!(
        (failed.status.code(), err(&failed).contains("standard output cannot be written")),
        (Some(1), true)
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_bounds_connections() {
    let server = server("");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|n| line.split_whitespace().nth(n).unwrap());
    assert_eq!(soft, hard, "{line}");
    let mut bounded = std::process::Command::new("sh");
    let script = "ulimit -n 300; exec \"$0\" serve >out 2>log2";
    bounded
        .args(["-c", script])
        .arg(server.binary())
        .current_dir(server.folder())
        .env("CRUX_STORE__PATH", "other.db");
    // As many as the user asked for; the default asks for nothing, and is no warning.
    bounded.env("CRUX_SERVER__MAX_CONNECTIONS", "500").env("CRUX_SERVER__PORT", "0");
    let mut bounded = bounded.spawn().unwrap();
    let log = || std::fs::read_to_string(server.folder().join("log2")).unwrap_or_default();
    let said =
        || async { log().lines().find(|line| line.contains("admitted=44")).map(str::to_owned) };
    let line = crate::kit::eventually("the limit is said", said).await;
    bounded.kill().unwrap();
    bounded.wait().unwrap();
    assert!(
        line.contains(" WARN ") && line.contains("limit=300") && line.contains("wanted=500"),
        "{line}"
    );
}
