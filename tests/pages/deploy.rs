//! The files of `deploy/`, as far as they can be tried out without a cluster: the binary takes
//! their settings and commands, and what kills a process waits longer than it needs to stop.

use std::process::Command;

use serde_json::Value;

use crate::kit::{Server, fences};

fn file(name: &str) -> String {
    std::fs::read_to_string(fences::project().join(name)).expect(name)
}

fn crux() -> Command {
    let mut crux = Command::new(env!("CARGO_BIN_EXE_crux"));
    crux.current_dir(env!("CARGO_TARGET_TMPDIR")).env_remove("CRUX_CONFIG");
    crux
}

/// The configuration that is in force with these variables.
fn in_force(variables: &[(String, String)], place: &str) -> Value {
    let output = crux().args(["config", "--json"]).envs(variables.iter().cloned()).output();
    let output = output.expect("the binary runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{place}: {complaint}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// In seconds.
fn shutdown_s(config: &Value) -> u64 {
    let text = config["server"]["shutdown"].as_str().expect("a duration");
    text.strip_suffix('s').expect("seconds").parse().expect("a number")
}

/// That the binary has the command and its flags, without running it.
fn assert_is_command(words: &[&str], place: &str) {
    let output = crux().args(words).arg("--help").output().expect("the binary runs");
    assert!(output.status.success(), "{place}: {}", String::from_utf8_lossy(&output.stderr));
    let help = String::from_utf8_lossy(&output.stdout);
    for flag in words.iter().filter(|word| word.starts_with("--")) {
        assert!(help.contains(flag), "{place}: `crux {}` has no {flag}", words[0]);
    }
}

fn documents(name: &str) -> Vec<Value> {
    file(name)
        .split("\n---\n")
        .map(|text| {
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"))
        })
        .collect()
}

fn words(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|word| word.as_str().expect("a string")).collect()
}

#[test]
fn manifests_of_kubernetes_fit_the_binary() {
    let mut pods = 0;
    for name in ["deploy/kubernetes/sqlite.yaml", "deploy/kubernetes/redis.yaml"] {
        let documents = documents(name);
        let secrets: Vec<(String, String)> = documents
            .iter()
            .filter(|document| document["kind"] == "Secret")
            .flat_map(|secret| secret["stringData"].as_object().expect("strings"))
            .map(|(name, value)| (name.clone(), value.as_str().expect("a string").to_owned()))
            .collect();
        for document in &documents {
            let pod = &document["spec"]["template"]["spec"];
            let Some(container) = pod["containers"].get(0) else { continue };
            pods += 1;
            let place = format!("{name}: {}", document["metadata"]["name"]);
            let text = |value: &Value| value.as_str().expect("a string").to_owned();
            let mut variables: Vec<(String, String)> = container["env"]
                .as_array()
                .expect("variables")
                .iter()
                .map(|one| (text(&one["name"]), text(&one["value"])))
                .collect();
            if container["envFrom"].is_array() {
                variables.extend(secrets.clone());
            }
            let config = in_force(&variables, &place);
            let patience = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
            assert!(shutdown_s(&config) + 5 <= patience, "{place} is killed too early");
            assert_eq!(
                document["spec"]["selector"]["matchLabels"],
                document["spec"]["template"]["metadata"]["labels"],
                "{place}"
            );
            assert_is_command(&words(&container["args"]), &place);
            if container["args"][0] == "serve" {
                for (probe, flag) in [
                    ("startupProbe", "--live"),
                    ("livenessProbe", "--live"),
                    ("readinessProbe", "--ready"),
                ] {
                    let command = words(&container[probe]["exec"]["command"]);
                    assert_eq!(command, ["crux", "health", flag], "{place}: {probe}");
                }
            }
            let kind = config["store"]["kind"].as_str();
            if kind == Some("sqlite") && container["args"][0] == "serve" {
                assert_eq!(document["spec"]["replicas"], 1, "{place}: SQLite has one process");
                let folder = text(&container["volumeMounts"][0]["mountPath"]);
                assert!(text(&config["store"]["path"]).starts_with(&folder), "{place}");
            }
        }
    }
    assert_eq!(pods, 3);
}

#[test]
fn units_of_systemd_fit_the_binary() {
    for name in ["deploy/crux.service", "deploy/crux-worker@.service"] {
        let text = file(name);
        let all = |key: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(key));
            lines.filter_map(|line| line.strip_prefix('=')).map(str::to_owned).collect()
        };
        let variables: Vec<(String, String)> = all("Environment")
            .iter()
            .map(|line| line.split_once('=').expect("a variable"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let config = in_force(&variables, name);
        let patience: u64 = all("TimeoutStopSec")[0].parse().expect("seconds");
        assert!(shutdown_s(&config) + 5 <= patience, "{name} is killed too early");
        let start = &all("ExecStart")[0];
        let command = start.strip_prefix("/usr/local/bin/crux ").expect("the binary");
        assert_is_command(&command.split(' ').collect::<Vec<_>>(), name);
    }
}

#[tokio::test]
async fn probes_say_how_the_server_is() {
    let server = Server::start(env!("CARGO_BIN_EXE_crux"), "");
    let probe = |arguments: &[&str]| {
        let output = server.run(&[&["health"], arguments].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    server.logged(&["ready"]).await;
    assert_eq!(probe(&["--live"]), (Some(0), "ok\n".to_owned()));
    assert_eq!(probe(&["--ready"]), (Some(0), "ok\n".to_owned()));
    let (code, said) = probe(&[]);
    assert!(code == Some(0) && said.starts_with("ok\nstore "), "{said}");
    let nobody = crux().args(["health", "--live", "--server", "http://127.0.0.1:9"]).output();
    assert_eq!(nobody.expect("the binary runs").status.code(), Some(3));
}
