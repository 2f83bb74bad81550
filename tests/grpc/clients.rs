//! Clients: everything that can be asked, and what is refused.

use std::process::Command;

use crate::kit::Server;
use crate::{BINARY, fixture, kit, python};

/// Runs the client against a server.
fn client(server: &Server, arguments: &[&str]) {
    let (python, code) = python();
    let mut command = Command::new(python);
    command.arg(fixture("client.py")).args(arguments);
    command.env("PYTHONPATH", code).env("CRUX_SERVER", server.address());
    kit::languages::run(&mut command);
}

#[test]
#[ignore = "needs python3-venv"]
fn a_client_in_python_asks_for_everything() {
    client(&Server::start(BINARY, ""), &[]);
}

#[test]
#[ignore = "needs python3-venv"]
fn a_client_proves_who_it_is_and_gets_what_it_may() {
    let key = |id: &str| {
        let made = Command::new(BINARY).args(["key", "new", id, "--json"]).output().unwrap();
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("key"), text("key_sha256"))
    };
    let ((shop, of_shop), (bob, of_bob)) = (key("shop"), key("bob"));
    let client_of = |hash: &str| format!("{{ key_sha256: {hash}, roles: [start, read] }}");
    let config = format!(
        "auth: {{ clients: {{ shop: {}, bob: {} }} }}",
        client_of(&of_shop),
        client_of(&of_bob)
    );
    client(&Server::start(BINARY, &config), &[&shop, &bob]);
}
