//! A workflow's steps as documents and messages need them: made from the definition's document,
//! which the store keeps, so that instances can be shown by a binary that does not have their
//! workflow any more.

use std::collections::HashMap;

use serde::Deserialize;

use crate::definition::secrets::{self, Secrets};
use crate::machine::{Definition, Kind, Node};

/// The verb whose steps send events.
const EMIT: &str = "emit";

/// The steps of one version of one workflow.
#[derive(Debug, Default)]
pub struct Shape {
    pub hooks: Hooks,
    pub steps: Vec<Step>,
    /// Step types of paths without element and round numbers, also of what the document does not
    /// list (undo steps).
    types: HashMap<String, String>,
    /// By path without numbers; empty if this binary does not have the definition.
    nodes: HashMap<&'static str, &'static Node>,
    /// It has neither hooks nor emitted events: once it has ended nothing of it can be undelivered.
    pub is_quiet: bool,
    /// Which of its values no client is shown.
    pub(crate) secrets: Secrets,
}

/// Routing keys; `""` for none.
#[derive(Debug, Clone, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Hooks {
    pub on_start: String,
    pub on_complete: String,
    pub on_failure: String,
}

#[derive(Debug)]
pub struct Step {
    /// Without element and round numbers.
    pub path: String,
    pub id: String,
    /// Step type or verb.
    pub kind: String,
    /// The step struct's name, or `""`.
    pub class: String,
    /// Directly inside a switch: which of its cases it belongs to.
    pub case: Option<u32>,
    pub steps: Vec<Step>,
}

/// A definition's document that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored definition is not valid: {0}")]
pub struct Error(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    hooks: Hooks,
    #[serde(default)]
    steps: Vec<Written>,
    #[serde(default)]
    secrets: secrets::Written,
}

#[derive(Deserialize)]
struct Written {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    case: Option<u32>,
    #[serde(default)]
    steps: Vec<Written>,
}

impl Shape {
    /// From the document, with what the definition itself adds where this binary has it.
    pub fn new(document: &str, definition: Option<&'static Definition>) -> Result<Self, Error> {
        let Document { hooks, steps, secrets } = serde_json::from_str(document)?;
        let steps = place(steps, "");
        let mut types = HashMap::new();
        let mut nodes = HashMap::new();
        for node in definition.into_iter().flat_map(|definition| definition.nodes) {
            nodes.insert(node.path, node);
            if let Kind::Task(task) | Kind::Undo(task) = &node.kind {
                types.insert(node.path.to_owned(), task.contract.step_type.to_owned());
            }
        }
        note_types(&steps, &mut types);
        let has_hooks = [&hooks.on_start, &hooks.on_complete, &hooks.on_failure]
            .iter()
            .any(|key| !key.is_empty());
        let is_quiet = !has_hooks && types.values().all(|kind| kind != EMIT);
        Ok(Self { hooks, steps, types, nodes, is_quiet, secrets: Secrets::new(&secrets) })
    }

    /// What the definition says of the step at `path`, if this binary has it.
    pub(crate) fn node(&self, path: &str) -> Option<&'static Node> {
        if path.contains(['[', '#']) {
            self.nodes.get(static_path(path).as_str()).copied()
        } else {
            self.nodes.get(path).copied()
        }
    }

    /// The step type or verb of the step at `path`, which may have element and round numbers; `""`
    /// if it is not known.
    pub fn step_type(&self, path: &str) -> &str {
        let known = if path.contains(['[', '#']) {
            self.types.get(&static_path(path))
        } else {
            self.types.get(path)
        };
        known.map_or("", String::as_str)
    }
}

fn place(steps: Vec<Written>, parent: &str) -> Vec<Step> {
    let place_one = |Written { id, kind, class, case, steps }| {
        let path = if parent.is_empty() { id.clone() } else { format!("{parent}/{id}") };
        let steps = place(steps, &path);
        Step { path, id, kind, class, case, steps }
    };
    steps.into_iter().map(place_one).collect()
}

fn note_types(steps: &[Step], types: &mut HashMap<String, String>) {
    for step in steps {
        types.entry(step.path.clone()).or_insert_with(|| step.kind.clone());
        note_types(&step.steps, types);
    }
}

/// `ship[3]/label` → `ship/label`; `poll#2/ask` → `poll/ask`.
pub fn static_path(path: &str) -> String {
    let mut bare = String::with_capacity(path.len());
    let mut in_number = false;
    for c in path.chars() {
        match c {
            '[' | '#' => in_number = true,
            ']' => in_number = false,
            '/' => {
                in_number = false;
                bare.push(c);
            }
            _ if in_number => {}
            _ => bare.push(c),
        }
    }
    bare
}

/// The steps around `path`, innermost first: of `ship[3]/pack/label` these are `ship[3]/pack` and
/// `ship`.
pub fn around(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        let (outer, _) = rest.rsplit_once('/')?;
        rest = outer;
        Some(without_own_number(outer))
    })
}

/// `ship[3]` → `ship`, the loop itself.
fn without_own_number(path: &str) -> &str {
    let last = path.rfind('/').map_or(0, |at| at + 1);
    match path[last..].find(['[', '#']) {
        Some(at) => &path[..last + at],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_publishes_nothing_is_quiet() {
        let is_quiet = |document: &str| Shape::new(document, None).unwrap().is_quiet;
        assert!(is_quiet(r#"{"steps": [{"id": "a", "type": "work"}]}"#));
        assert!(!is_quiet(r#"{"hooks": {"on_failure": "workflow.failed"}}"#));
        assert!(!is_quiet(
            r#"{"steps": [{"id": "a", "type": "group", "steps": [{"id": "b", "type": "emit"}]}]}"#
        ));
        assert!(!Shape::default().is_quiet, "unknown");
    }

    #[test]
    fn paths_lose_their_numbers() {
        assert_eq!(static_path("ship[3]/pack/label"), "ship/pack/label");
        assert_eq!(static_path("poll#12/ask"), "poll/ask");
        assert_eq!(static_path("a/b[0]/c#4/d"), "a/b/c/d");
        assert_eq!(around("ship[3]/pack/label").collect::<Vec<_>>(), ["ship[3]/pack", "ship"]);
        assert_eq!(around("a/b[0]/c").collect::<Vec<_>>(), ["a/b", "a"]);
        assert_eq!(around("a").count(), 0);
    }
}
