//! Whether an answer is what a page shows, though ids, times and what the page leaves out differ.

use serde_json::Value;

use crate::kit::console::is_alike;

/// What is different, with its path; nothing if they are alike. `…` in a text stands for any text,
/// and alone for anything that is there; `{}` for any record, and a list may go on after what is
/// shown.
pub fn difference(shown: &Value, said: &Value, path: &str) -> Option<String> {
    let differ = || Some(format!("{path}: {said} is not {shown}"));
    match (shown, said) {
        (Value::Object(shown), Value::Object(said)) => {
            if shown.is_empty() {
                return None;
            }
            let missing = shown
                .keys()
                .find(|name| !said.contains_key(*name))
                .map(|name| format!("{path}.{name} is missing"));
            let silent = || {
                said.keys()
                    .find(|name| !shown.contains_key(*name))
                    .map(|name| format!("{path}.{name} is not on the page"))
            };
            let inside = || {
                shown.iter().find_map(|(name, shown)| {
                    difference(shown, said.get(name)?, &format!("{path}.{name}"))
                })
            };
            missing.or_else(silent).or_else(inside)
        }
        (Value::Array(shown), Value::Array(said)) => {
            if said.len() < shown.len() || (shown.is_empty() && !said.is_empty()) {
                return Some(format!(
                    "{path}: {} elements, and {} are shown",
                    said.len(),
                    shown.len()
                ));
            }
            (0..)
                .zip(shown.iter().zip(said))
                .find_map(|(n, (shown, said))| difference(shown, said, &format!("{path}[{n}]")))
        }
        (Value::String(shown), Value::String(said)) if matches(shown, said) => None,
        (Value::String(shown), said) if shown == "…" && !said.is_null() => None,
        _ if shown == said => None,
        _ => differ(),
    }
}

fn matches(shown: &str, said: &str) -> bool {
    match shown.split_once('…') {
        Some((head, tail)) => {
            said.len() >= head.len() + tail.len() && said.ends_with(tail) && has_head(head, said)
        }
        None => is_alike(shown, said),
    }
}

/// What stands before `…` may be the beginning of an id, and then it is any.
fn has_head(head: &str, said: &str) -> bool {
    let word = head.rsplit(':').next().unwrap_or(head);
    let is_id =
        word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    said.starts_with(if is_id { &head[..head.len() - word.len()] } else { head })
}

#[test]
fn what_differs_is_found_and_what_may_differ_is_not() {
    use serde_json::json;
    let find = |shown: Value, said: Value| difference(&shown, &said, "$");
    let id = "019ab699-7800-7000-8000-000000000001";
    for (shown, said) in [
        (json!({"a": {}, "b": [1]}), json!({"a": {"x": 1}, "b": [1, 2]})),
        (
            json!({"id": "0199b0a4-…", "s": "step_instance:8d5f0c3e-…", "t": "…"}),
            json!({"id": id, "s": format!("step_instance:{id}"), "t": ""}),
        ),
        (json!("2025-08-21T14:25:36.101Z"), json!("2026-11-22T08:37:36.1Z")),
        (
            json!("/status?workflow_id=0199b0a4-5a3c-7d21-9f0e-3b1d5a7c2e44"),
            json!(format!("/status?workflow_id={id}")),
        ),
    ] {
        assert_eq!(find(shown, said), None);
    }
    for (shown, said) in [
        (json!({"a": 1}), json!({"a": 1, "b": 1})),
        (json!({"a": 1, "b": 1}), json!({"a": 1})),
        (json!({"a": ""}), json!({"a": null})),
        (json!([]), json!([1])),
        (json!([1, 2]), json!([1])),
        (json!("2025-08-21T14:25:36Z"), json!("")),
        (json!("step_instance:…"), json!(id)),
    ] {
        assert!(find(shown.clone(), said.clone()).is_some(), "{shown} {said}");
    }
}
