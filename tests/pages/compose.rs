//! `compose.yaml`, as far as it can be tried out without Docker: the settings of its nodes are
//! taken by the binary, and those of its servers are the ones that the page on production names.

use std::process::Command;

use crate::kit::fences;

fn file(name: &str) -> String {
    std::fs::read_to_string(fences::project().join(name)).expect(name)
}

#[test]
fn the_settings_of_its_nodes_are_in_force() {
    let text = file("compose.yaml");
    let settings = text.lines().filter_map(|line| {
        line.trim().split_once(": ").filter(|(name, _)| name.starts_with("CRUX_"))
    });
    let mut crux = Command::new(env!("CARGO_BIN_EXE_crux"));
    crux.arg("config").current_dir(env!("CARGO_TARGET_TMPDIR")).env_remove("CRUX_CONFIG");
    for (name, value) in settings {
        crux.env(name, value.split(" #").next().unwrap_or(value).trim().trim_matches('"'));
    }
    let output = crux.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "kind: redis",
        "require_durable: true",
        "bus: rabbitmq",
        r#"url: "amqp://crux:***@localhost:5672/""#,
    ] {
        assert!(said.contains(line), "`{line}` is not in force:\n{said}");
    }
}

#[test]
fn its_servers_have_the_settings_that_production_needs() {
    let (compose, page) = (file("compose.yaml"), file("docs/production.md"));
    for (of_page, of_file) in [
        ("`appendonly yes`", "--appendonly yes"),
        ("`appendfsync always`", "--appendfsync always"),
        ("`maxmemory-policy noeviction`", "--maxmemory-policy noeviction"),
        ("`maxmemory`", "--maxmemory 512mb"),
        ("`disk_free_limit.absolute`", "disk_free_limit.absolute = "),
        ("vm_memory_high_watermark.relative = 0.4", "vm_memory_high_watermark.relative = 0.4"),
        ("`consumer_timeout`", "consumer_timeout = "),
        ("`raft.wal_max_size_bytes`", "raft.wal_max_size_bytes = "),
    ] {
        assert!(page.contains(of_page), "docs/production.md has no {of_page}");
        assert!(compose.contains(of_file), "compose.yaml has no {of_file}");
    }
}
