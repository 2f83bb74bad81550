//! Renders the server's JSON as text for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde_json::Value;

use crate::machine::Duration;

/// Elements and rounds of a step, and what an instance waits for: shown up to here.
const SHOWN: usize = 20;

/// A status document at a glance; with `all`, whatever it holds.
pub(super) fn status(document: &Value, all: bool) -> String {
    let shown = if all { usize::MAX } else { SHOWN };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name:<10} {value}");
        }
    };
    line("workflow", &format!("{} version {}", text(&document["workflow"]), document["version"]));
    line("id", &text(&document["workflow_id"]));
    line("status", &text(&document["metadata"]["status"]));
    let (started, ended) =
        (text(&document["metadata"]["start_time"]), text(&document["metadata"]["end_time"]));
    line("started", &started);
    line("ended", &format!("{ended}{}", took(&started, &ended)));
    line("error", &text(&document["error"]));
    if !document["output"].is_string() {
        line("output", &document["output"].to_string());
    }
    let _ = writeln!(out, "steps");
    steps(&mut out, &document["definition"]["steps"], 1, shown);
    let undo: Vec<&Value> = document["undo"].as_array().into_iter().flatten().collect();
    step_lines(&mut out, &undo, 1, shown);
    let waits = document["current_steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    for current in waits.iter().take(shown) {
        let _ =
            writeln!(out, "waits      {}: {}", text(&current["path"]), text(&current["waits_for"]));
    }
    if waits.len() > shown {
        let _ = writeln!(out, "waits      … and {} more; --all shows them", waits.len() - shown);
    }
    out
}

fn steps(out: &mut String, list: &Value, depth: usize, shown: usize) {
    for step in list.as_array().into_iter().flatten() {
        let name = step["id"].as_str().unwrap_or_default().to_owned();
        step_line(out, step, name, depth);
        let instances: Vec<&Value> = step["instances"].as_array().into_iter().flatten().collect();
        step_lines(out, &instances, depth + 1, shown);
        steps(out, &step["definition"]["steps"], depth + 1, shown);
    }
}

/// Of many those that are not simply done, then a count of the others by state.
fn step_lines(out: &mut String, steps: &[&Value], depth: usize, shown: usize) {
    let state = |step: &Value| step["state"].as_str().unwrap_or_default().to_owned();
    let name = |step: &Value| step["path"].as_str().unwrap_or_default().to_owned();
    if steps.len() <= shown {
        return steps.iter().for_each(|step| step_line(out, step, name(step), depth));
    }
    let is_plain =
        |step: &Value| ["completed", "pending", "skipped"].contains(&state(step).as_str());
    let mut left = shown;
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for step in steps {
        if left > 0 && !is_plain(step) {
            left -= 1;
            step_line(out, step, name(step), depth);
        } else {
            *others.entry(state(step)).or_default() += 1;
        }
    }
    let counts: Vec<String> =
        others.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let _ = writeln!(out, "{}… and {}; --all shows them", "  ".repeat(depth), counts.join(", "));
}

fn step_line(out: &mut String, step: &Value, name: String, depth: usize) {
    let name = format!("{}{name}", "  ".repeat(depth));
    let state = step["state"].as_str().unwrap_or_default();
    let attempts = match step["attempts"].as_u64() {
        Some(attempts) if attempts > 1 => format!("  {attempts} attempts"),
        _ => String::new(),
    };
    let error = match step["error"].as_str() {
        Some(error) if !error.is_empty() => format!("  {error}"),
        _ => String::new(),
    };
    let (started, ended) =
        (step["start_time"].as_str().unwrap_or_default(), step["end_time"].as_str().unwrap_or(""));
    let times = match started {
        "" => String::new(),
        started => format!("  {}{}", time_of_day(started), took(started, ended)),
    };
    let line = format!("{name:<34} {state:<11}{times}{attempts}{error}");
    let _ = writeln!(out, "{}", line.trim_end());
}

/// `2026-11-22T08:37:36.287Z` without its date, which is the same on most lines.
fn time_of_day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(_, time)| time.trim_end_matches('Z'))
}

/// How long something took that has ended.
fn took(started: &str, ended: &str) -> String {
    let (Ok(started), Ok(ended)) = (started.parse::<Timestamp>(), ended.parse::<Timestamp>())
    else {
        return String::new();
    };
    let ms = ended.as_millisecond().saturating_sub(started.as_millisecond());
    format!("  took {}", if ms == 0 { "0ms".to_owned() } else { Duration::from_ms(ms).to_string() })
}

/// What `/health` and its probes answer: the status, and a line for each part that has one.
pub(super) fn health(document: &Value) -> String {
    let word = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut out = format!("{}\n", word(document, "status"));
    let line = |out: &mut String, name: &str, part: &Value| {
        let line = format!("{name:<20} {:<9} {}", word(part, "status"), word(part, "problem"));
        let _ = writeln!(out, "{}", line.trim_end());
    };
    let problem = word(document, "problem");
    if !problem.is_empty() {
        let _ = writeln!(out, "{problem}");
    }
    for name in ["store", "engine", "bus", "definitions", "clock"] {
        if document[name].is_object() {
            line(&mut out, name, &document[name]);
        }
    }
    for (name, service) in document["services"].as_object().into_iter().flatten() {
        line(&mut out, &format!("service {name}"), service);
    }
    out
}

/// The nodes of `/health`.
pub(super) fn nodes(health: &Value) -> String {
    let Some(nodes) = health["nodes"].as_array() else {
        return "one process, which has its store to itself\n".to_owned();
    };
    let mut text = String::new();
    for node in nodes {
        let word = |name: &str| node[name].as_str().unwrap_or_default();
        let _ = writeln!(text, "node {}  {}  {}", node["number"], word("address"), word("process"));
        let _ = writeln!(text, "  version    {}, since {}", word("version"), word("started_at"));
        for (name, problem) in node["dependencies"].as_object().into_iter().flatten() {
            let problem = problem.as_str().filter(|problem| !problem.is_empty()).unwrap_or("ok");
            let _ = writeln!(text, "  {name:<9}  {problem}");
        }
        let definitions = node["definitions"].as_array().into_iter().flatten();
        let definition = |one: &Value| {
            let hash: String = one["hash"].as_str().unwrap_or_default().chars().take(8).collect();
            format!("{} {} ({hash})", one["workflow"].as_str().unwrap_or_default(), one["version"])
        };
        let _ = writeln!(
            text,
            "  runs       {}",
            definitions.map(definition).collect::<Vec<_>>().join(", ")
        );
    }
    text
}

/// A page of the list.
pub(super) fn list(page: &Value) -> String {
    let mut out = String::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for row in page["workflows"].as_array().into_iter().flatten() {
        let id = text(&row["workflow_id"]);
        let _ = writeln!(
            out,
            "{id}  {:<11} {:<24} {}",
            text(&row["status"]),
            text(&row["workflow"]),
            text(&row["start_time"])
        );
    }
    if let Some(next) = page["next"].as_str().filter(|next| !next.is_empty()) {
        let _ = writeln!(out, "more: --after {next}");
    }
    out
}

/// The configuration in the shape of its file; JSON's texts are YAML's.
pub(super) fn config(config: &Value) -> String {
    let mut out = String::new();
    mapping(&mut out, config, 0);
    out
}

fn mapping(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                let _ = writeln!(out, "{indent}{name}:");
                mapping(out, value, depth + 1);
            }
            Value::String(text) if is_plain(text) => {
                let _ = writeln!(out, "{indent}{name}: {text}");
            }
            _ => {
                let _ = writeln!(out, "{indent}{name}: {value}");
            }
        }
    }
}

/// Whether YAML reads the text as it is, without quotes.
fn is_plain(text: &str) -> bool {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./+".contains(&byte));
    is_word
        && !["true", "false", "null", "yes", "no", "on", "off"]
            .contains(&text.to_ascii_lowercase().as_str())
}

/// One live message as a line.
pub(super) fn message(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let data = &message["data"];
    let time = text(&message["time"]);
    let time = time_of_day(&time);
    let mut line = format!("{time:<16} {:<20} {}", text(&message["type"]), text(&data["path"]));
    if let Some(attempt) = data["attempt"].as_u64().filter(|attempt| *attempt > 1) {
        let _ = write!(line, "  attempt {attempt}");
    }
    for (label, name) in [
        ("", "error"),
        ("next attempt at ", "next_attempt_at"),
        ("event ", "event"),
        ("until ", "until"),
        ("", "reason"),
    ] {
        if let Some(value) = data[name].as_str().filter(|value| !value.is_empty()) {
            let _ = write!(line, "  {label}{value}");
        }
    }
    line.trim_end().to_owned()
}

/// A page of the journal: under each row's events the effects that they had.
pub(super) fn history(page: &Value) -> String {
    let mut out = String::new();
    for row in page["rows"].as_array().into_iter().flatten() {
        let seq = row["seq"].as_u64().unwrap_or_default();
        let time = time_of_day(row["time"].as_str().unwrap_or_default());
        for event in row["events"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "{}", entry(&format!("{seq:<4} {time:<14}"), event));
        }
        for effect in row["out"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "{}", entry(&format!("{:<18}→", ""), effect));
        }
    }
    out
}

fn entry(margin: &str, entry: &Value) -> String {
    let word = |name: &str| entry[name].as_str().filter(|word| !word.is_empty());
    let place = word("path").or(word("routing_key")).or(word("event")).unwrap_or_default();
    let mut line = format!("{margin} {:<20} {place}", entry["type"].as_str().unwrap_or_default());
    if let Some(attempt) = entry["attempt"].as_u64().filter(|attempt| *attempt > 1) {
        let _ = write!(line, "  attempt {attempt}");
    }
    let failure = &entry["failure"];
    if let Some(name) = failure["name"].as_str() {
        let _ = write!(line, "  {name}: {}", failure["message"].as_str().unwrap_or_default());
    }
    if let Some(reason) = word("reason") {
        let _ = write!(line, "  {reason}");
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_have_their_times() {
        let step = json!({"id": "print", "state": "completed", "start_time": "2026-11-22T08:37:36.287Z", "end_time": "2026-11-22T09:37:36.290Z"});
        let pending = json!({"id": "ship", "state": "pending", "start_time": "", "end_time": ""});
        let text = status(&json!({"definition": {"steps": [step, pending]}}), false);
        assert!(text.contains("completed    08:37:36.287  took 1h3ms\n"), "{text}");
        assert!(text.ends_with("pending\n"), "{text}");
    }

    #[test]
    fn of_many_elements_those_are_shown_that_are_not_simply_done() {
        let element = |n: usize| {
            let (state, error) =
                if n.is_multiple_of(1000) { ("failed", "no ink") } else { ("completed", "") };
            json!({"path": format!("print[{n}]"), "state": state, "error": error})
        };
        let elements: Vec<Value> = (0..14_000).map(element).collect();
        let waits = vec![json!({"path": "print[1]", "waits_for": "a worker"}); 100];
        let step = json!({"id": "print", "state": "running", "instances": elements});
        let document = json!({"workflow": "labels", "version": 1, "definition": {"steps": [step]}, "current_steps": waits});
        let text = status(&document, false);
        assert!(text.lines().count() < 60, "{text}");
        assert!(text.contains("print[13000]") && text.contains("no ink"), "{text}");
        assert!(text.contains("    … and 13986 completed; --all shows them"), "{text}");
        assert!(text.contains("waits      … and 80 more; --all shows them"), "{text}");
        assert!(status(&document, true).lines().count() > 14_000);
    }
}
