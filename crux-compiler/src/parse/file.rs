//! A whole file: a workflow, or a library of types, events and step types.

use super::mapping::{Mapping, Shape, nowhere};
use super::policy;
use super::scalar::{self, Zero};
use super::step;
use super::tree::{Kind, Node};
use super::trigger;
use super::types;
use super::value;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{File, Name, OnExhausted, Output, Workflow};
use crate::names;
use crate::source::{FileId, Span};

pub static WORKFLOW: Shape = Shape {
    what: "a pipeline",
    schema: "Workflow",
    keys: &[
        "workflow",
        "version",
        "description",
        "input",
        "output",
        "types",
        "events",
        "step_types",
        "triggers",
        "hooks",
        "external",
        "deadline",
        "on_exhausted",
        "retain",
        "steps",
    ],
};

pub static LIBRARY: Shape = Shape {
    what: "a library",
    schema: "Library",
    keys: &["types", "events", "step_types", "external"],
};

const ON_EXHAUSTED: &[(&str, OnExhausted)] =
    &[("undo", OnExhausted::Undo), ("park", OnExhausted::Park)];

/// The name that a file's path says, and the version of a `NAME@N.yaml`.
pub struct FileName {
    pub stem: String,
    pub retired_version: Option<u32>,
}

/// `pipelines/booking@2.yaml` is `booking` in version 2. A name that no pipeline can have is
/// reported.
pub fn file_name(id: FileId, path: &str, sink: &mut Sink) -> Option<FileName> {
    let start = Span { file: id, start: 0, end: 0 };
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let Some(stem) = name.strip_suffix(".yaml") else {
        let diagnostic =
            Diagnostic::error(codes::FILE_NAME, start, format!("`{name}` does not end in `.yaml`"));
        let fixed = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        sink.push(diagnostic.help(format!("rename it to `{fixed}.yaml`")));
        return None;
    };
    let (stem, version) = match stem.split_once('@') {
        Some((stem, version)) => (stem, Some(version)),
        None => (stem, None),
    };
    let retired_version = match version
        .map(|version| version.parse::<u32>().ok().filter(|version| *version > 0))
    {
        Some(None) => {
            sink.push(
                Diagnostic::error(codes::FILE_NAME, start, format!("`{name}` names no version"))
                    .note("`NAME@N.yaml` keeps version N for instances that are still running; N is a positive integer"),
            );
            return None;
        }
        Some(version) => version,
        None => None,
    };
    if !names::Kind::Id.accepts(stem) {
        let diagnostic = Diagnostic::error(
            codes::FILE_NAME,
            start,
            format!("`{name}` cannot be the name of a pipeline's file"),
        )
        .note(format!("before `.yaml` it consists of {}", names::Kind::Id.rule()));
        sink.push(match names::Kind::Id.fix(stem) {
            Some(fixed) => diagnostic.help(format!("rename it to `{fixed}.yaml`")),
            None => diagnostic,
        });
        return None;
    }
    Some(FileName { stem: stem.to_owned(), retired_version })
}

/// The model of a file.
pub fn file(id: FileId, name: FileName, root: Option<&Node>, sink: &mut Sink) -> Option<File> {
    let FileName { stem, retired_version } = name;
    let Some(root) = root.filter(|root| !matches!(root.kind, Kind::Null | Kind::Absent)) else {
        sink.push(
            Diagnostic::error(
                codes::WRONG_KIND,
                Span { file: id, start: 0, end: 0 },
                "the file is empty",
            )
            .label("nothing in it")
            .help(format!("a pipeline begins with `workflow: {stem}`, `version: 1` and `steps:`")),
        );
        return None;
    };
    let Kind::Mapping(pairs) = &root.kind else {
        super::mapping::wrong_kind("a pipeline", root, "a record", sink);
        return None;
    };
    let has = |keys: &[&str]| pairs.iter().any(|pair| keys.contains(&pair.key.value.as_str()));
    // A file with keys of neither is a workflow of another system.
    let is_library =
        !has(&["workflow", "version", "steps", "triggers", "input", "output", "hooks"])
            && has(LIBRARY.keys);
    let shape = if is_library { &LIBRARY } else { &WORKFLOW };
    let mapping =
        Mapping::open(root, shape, if is_library { workflow_only } else { nowhere }, sink)?;
    let types =
        mapping.get("types").map(|pair| types::declarations(pair, sink)).unwrap_or_default();
    let events = mapping.get("events").map(|pair| types::events(pair, sink)).unwrap_or_default();
    let step_types =
        mapping.get("step_types").map(|pair| policy::step_types(pair, sink)).unwrap_or_default();
    let external = mapping.get("external").map(|pair| {
        let nodes = scalar::elements(pair, sink).unwrap_or_default();
        nodes
            .iter()
            .filter_map(|node| scalar::filled_node("a pattern of `external`", node, sink))
            .collect()
    });
    let workflow = if is_library { None } else { Some(workflow(&mapping, &stem, sink)?) };
    Some(File {
        id,
        stem,
        retired_version,
        workflow,
        types,
        events,
        step_types,
        external: external.unwrap_or_default(),
    })
}

fn workflow_only(key: &str) -> Option<String> {
    WORKFLOW.keys.contains(&key).then(|| {
        format!("`{key}` belongs to a workflow; a file with one begins with `workflow: NAME`")
    })
}

fn workflow(mapping: &Mapping<'_>, stem: &str, sink: &mut Sink) -> Option<Workflow> {
    let name = mapping.need("workflow", &format!("workflow: {stem}"), sink);
    let name = name.and_then(|pair| {
        scalar::name(&pair.value, names::Kind::Id, "the name of a workflow", sink)
    });
    let name = name.filter(|name| is_named_like_file(name, stem, sink));
    let version = mapping
        .need("version", "version: 1", sink)
        .and_then(|pair| scalar::integer(pair, 1..=u32::MAX, sink));
    let description = mapping.get("description").and_then(|pair| scalar::text(pair, sink));
    let input = mapping.get("input").and_then(|pair| types::record(pair, sink));
    let output = mapping
        .get("output")
        .and_then(|pair| Some(Output { key: pair.key.span, entries: value::entries(pair, sink)? }));
    let triggers =
        mapping.get("triggers").map(|pair| trigger::triggers(pair, sink)).unwrap_or_default();
    let hooks =
        mapping.get("hooks").and_then(|pair| trigger::hooks(pair, sink)).unwrap_or_default();
    let deadline_ms =
        mapping.get("deadline").and_then(|pair| scalar::duration(pair, Zero::Refused, sink));
    let on_exhausted =
        mapping.get("on_exhausted").and_then(|pair| scalar::word(pair, ON_EXHAUSTED, sink));
    let retain_ms =
        mapping.get("retain").and_then(|pair| scalar::duration(pair, Zero::Refused, sink));
    let steps = mapping.need("steps", "steps:", sink).and_then(|pair| step::some_steps(pair, sink));
    Some(Workflow {
        name: name?,
        version: version?,
        description,
        input,
        output,
        triggers,
        hooks,
        deadline_ms,
        on_exhausted,
        retain_ms,
        steps: steps?,
    })
}

fn is_named_like_file(name: &Name, stem: &str, sink: &mut Sink) -> bool {
    if name.value != stem {
        sink.push(
            Diagnostic::error(
                codes::NAME_DIFFERS,
                name.span,
                format!("the workflow `{}` is in the file of `{stem}`", name.value),
            )
            .label("not the name of the file")
            .help(format!("write `workflow: {stem}` or rename the file to `{}.yaml`", name.value)),
        );
    }
    name.value == stem
}
