//! Every `crux COMMAND --help` has examples, and they work: each is run as it stands there.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::kit::console::Session;
use crate::kit::{Client, Reply, Server, Service, fences};

/// What needs a RabbitMQ, which `tests/rabbitmq` has, or runs until it is ended, as in
/// `tests/app/tests/workers`.
const NEEDS_OTHER_PROCESSES: &[&str] = &[
    "crux topology --declare",
    "crux serve --steps none",
    "crux worker --connect http://localhost:8080",
    "crux worker --steps send_notification,restock --concurrency 8",
];

/// A shipped pipeline never parks; `tests/app/tests/suite/command_line.rs` has one that does.
const NEEDS_A_PARKED_INSTANCE: &[&str] =
    &["crux undo $ID", "crux fail $ID --reason 'settled by hand'"];

/// The lines under "Examples:".
fn examples(help: &str) -> Vec<String> {
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
    examples.lines().map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// Of the whole help, below "Commands:".
fn subcommands(help: &str) -> Vec<String> {
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let names = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("     "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// An instance for the example: one that the command can do something with.
async fn instance(client: &Client, command: &str) -> String {
    // One refund per order; each command has its own.
    let refund = json!({"orderId": format!("ORD-{command}"), "customerId": "C", "amountCents": 900, "reason": "damaged", "coolingOff": "1h"});
    let upload = json!({"name": "Chair", "description": "A chair.", "images": ["chiar.png"], "category": "Furniture", "price": 1});
    let order =
        json!({"orderId": "ORD-1", "customerId": "C", "bookingTime": "2025-08-21T14:25:36Z"});
    let (trigger, input, status) = match command {
        "cancel" | "pause" | "resume" | "list" => ("refund", refund, "waiting"),
        "retry" => ("upload", upload, "failed"),
        _ => ("order", order, "completed"),
    };
    let id = client.start(&format!("/api/v1/workflow/{trigger}"), &input).await;
    client.until(&id, status).await;
    if command == "resume" {
        assert_eq!(client.tell(&id, "pause", &json!({})).await.status, 200);
        client.until(&id, "paused").await;
    }
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_every_help_page_works() {
    let service = Service::start(|_| {
        Reply::Failed(json!({"name": "PictureNotFound", "message": "chiar.png is not there"}))
    })
    .await;
    let server = Server::start(env!("CARGO_BIN_EXE_crux"), &service.config(&["image_processing"]));
    let client = server.client();
    // What they read and write is in the folder of the project; what they write goes into a copy.
    for file in ["pipelines", "examples/order.json", "schema"] {
        let mut copy = Command::new("cp");
        copy.args(["-r", "--parents", file]).arg(server.folder()).current_dir(fences::project());
        assert!(copy.status().expect("cp runs").success(), "{file}");
    }
    let session = Session::of(&server);
    // As in a terminal that is wide enough for every line.
    let help = |command: &str| session.say(&format!("COLUMNS=1000 crux {command} --help"), "help");
    let whole = help("");
    let mut commands = subcommands(&whole);
    assert!(
        commands.contains(&"serve".to_owned()) && commands.contains(&"schema".to_owned()),
        "{commands:?}"
    );
    commands.retain(|command| command != "help");
    let pages = commands.iter().map(|command| (command.as_str(), help(command)));
    for (command, help) in pages.chain([("", whole.clone())]) {
        let examples = examples(&help);
        assert!(!examples.is_empty(), "`crux {command} --help` has no example:\n{help}");
        for example in examples {
            assert!(
                example.contains(&format!("crux {command}")),
                "`{example}` is no example of {command}"
            );
            if [NEEDS_OTHER_PROCESSES, NEEDS_A_PARKED_INSTANCE].concat().contains(&example.as_str())
            {
                continue;
            }
            if command == "serve" {
                serves(&session, &example);
                continue;
            }
            let id = instance(&client, command).await;
            let said =
                session.say(&format!("ID={id}\n{example}"), &format!("crux {command} --help"));
            let written = example
                .split_once("> ")
                .map(|(_, file)| fs::read_to_string(server.folder().join(file)).expect("a file"));
            let said = written.unwrap_or(said);
            assert!(!said.trim().is_empty(), "`{example}` says nothing");
            if example.contains("--json") && !example.contains("watch") {
                let parsed: Result<Value, _> = serde_json::from_str(&said);
                assert!(parsed.is_ok(), "`{example}` says what is not JSON: {said}");
            }
        }
    }
}

/// It does not end by itself: it is stopped once it listens.
fn serves(session: &Session, example: &str) {
    let elsewhere = example.replace("8080", "0").replace("./crux.db", "./other.db");
    let script = format!(
        "{elsewhere} > said & until grep -q listening said; do kill -0 $!; sleep 0.02; done; kill $!; wait $!; cat said"
    );
    assert!(
        session.say(&script, example).starts_with("listening on http://127.0.0.1:"),
        "{example}"
    );
}

#[test]
fn a_flag_that_means_nothing_to_a_tool_is_refused() {
    for (arguments, said) in [
        (
            &["graph", "refund", "--json"] as &[&str],
            "--json: `crux graph` does not print JSON: leave it out",
        ),
        (
            &["expand", "--config", "crux.yaml"],
            "--config: `crux expand` reads no configuration: leave it out",
        ),
        (
            &["check", "--server", "http://localhost:1"],
            "--server: `crux check` talks to no server: leave it out",
        ),
    ] {
        let refused = Command::new(env!("CARGO_BIN_EXE_crux"))
            .args(arguments)
            .output()
            .expect("the binary runs");
        assert_eq!(String::from_utf8_lossy(&refused.stderr), format!("error: {said}\n"));
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
    }
}
