//! Contracts: each step type has one in the whole folder, in place where exactly one step uses it,
//! else under `step_types`. What a step takes may be missing in place; the walk over the workflows
//! infers it from `with` and fills it in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types::Types;
use super::uses::{Use, uses};
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{self, EffectKind, Record, Runs, TypeName};
use crate::model::{self, Effect, Retry, Timeout};
use crate::source::{Files, Span};

/// The contract of a step type, with the defaults of its policy.
pub struct Contract<'a> {
    /// Where it is defined: the name under `step_types`, or in the only step that uses it.
    pub span: Span,
    pub description: Option<String>,
    pub runs: Runs,
    /// Where the routing key is written, or what makes it.
    pub runs_span: Span,
    pub takes: Takes,
    pub returns: Returns,
    pub raises: Vec<String>,
    pub effect: EffectKind,
    pub reports_started: bool,
    pub payload: bool,
    /// Defaults, from `step_types` only: in place they are the step's own.
    pub retry: Option<&'a Retry>,
    pub timeout: Option<&'a Timeout>,
    /// Whether it stands under `step_types`.
    pub shared: bool,
    pub used: bool,
}

#[derive(Debug, Clone)]
pub enum Takes {
    Known(Arc<Record>),
    /// From the `with` of the only step.
    Inferred,
    /// Its error has been reported.
    Broken,
}

#[derive(Debug, Clone)]
pub enum Returns {
    Nothing,
    Record(Arc<Record>),
    /// Its error has been reported.
    Broken,
}

pub type Contracts<'a> = BTreeMap<&'a str, Contract<'a>>;

/// The module of the types of a step type.
pub fn module(step_type: &str) -> String {
    format!("steps::{step_type}")
}

/// Collects the contracts of the folder.
pub fn collect<'a>(
    files: &'a Files,
    sources: &'a [model::File],
    types: &mut Types<'a>,
    sink: &mut Sink,
) -> Contracts<'a> {
    let mut contracts = Contracts::new();
    for step_type in sources.iter().flat_map(|file| &file.step_types) {
        if let Some(first) = contracts.get(step_type.name.value.as_str()) {
            let message = format!("the step type `{}` is defined twice", step_type.name.value);
            let diagnostic =
                Diagnostic::error(codes::STEP_TYPE_TWICE, step_type.name.span, message)
                    .other(first.span, "first here");
            sink.push(
                diagnostic.help("a step type has one contract in the whole folder: keep one"),
            );
            continue;
        }
        let mut contract = contract(&step_type.name, &step_type.contract, types, sink);
        contract.description = step_type.description.as_ref().map(|text| text.value.clone());
        contract.retry = step_type.retry.as_ref();
        contract.timeout = step_type.timeout.as_ref();
        contract.shared = true;
        if matches!(contract.takes, Takes::Inferred) {
            contract.takes = Takes::Known(
                types.empty_record(input_name(&step_type.name.value), step_type.name.span),
            );
        }
        contracts.insert(&step_type.name.value, contract);
    }
    let mut first_uses: BTreeMap<&str, Use<'a>> = BTreeMap::new();
    for found in uses(sources) {
        let name = found.name.value.as_str();
        if let Some(shared) = contracts.get_mut(name).filter(|contract| contract.shared) {
            shared.used = true;
            if let Some(key) = found.contract.first() {
                let message = format!(
                    "the contract of `{name}` is under `step_types`; a step cannot change it"
                );
                let diagnostic = Diagnostic::error(codes::CONTRACT_ELSEWHERE, key, message)
                    .other(shared.span, "the contract is here");
                sink.push(diagnostic.help("leave the key out, or move it to `step_types`; only `retry` and `timeout` may differ"));
            }
            continue;
        }
        if let Some(first) = first_uses.get(name) {
            sink.push(used_twice(files, first, &found));
            // Neither place is right about the other one.
            if let Some(contract) = contracts.get_mut(name) {
                (contract.takes, contract.returns) = (Takes::Broken, Returns::Broken);
            }
            continue;
        }
        let mut contract = contract(found.name, found.contract, types, sink);
        contract.description = found.description.map(|text| text.value.clone());
        contract.used = true;
        contracts.insert(name, contract);
        first_uses.insert(name, found);
    }
    contracts
}

/// The name of what a step type takes.
pub fn input_name(step_type: &str) -> TypeName {
    TypeName { module: module(step_type), name: "Input".into() }
}

fn contract<'a>(
    name: &'a model::Name,
    written: &'a model::Contract,
    types: &mut Types<'a>,
    sink: &mut Sink,
) -> Contract<'a> {
    let step_type = name.value.as_str();
    let takes = match &written.takes {
        None => Takes::Inferred,
        Some(takes) => types
            .record(takes, input_name(step_type), "what a step takes", sink)
            .map_or(Takes::Broken, Takes::Known),
    };
    let output = TypeName { module: module(step_type), name: "Output".into() };
    let returns = match &written.returns {
        None => Returns::Nothing,
        Some(returns) => types
            .record(returns, output, "what a step returns", sink)
            .map_or(Returns::Broken, Returns::Record),
    };
    let (runs, runs_span) = match (&written.class, &written.routing_key) {
        (Some(class), None) => (Runs::Class(class.value.clone()), class.span),
        (Some(class), Some(key)) => {
            let message = format!("`{step_type}` runs in a step struct and in a service");
            let diagnostic = Diagnostic::error(codes::CONTRACT_TWICE, key.span, message)
                .other(class.span, "a step struct");
            sink.push(diagnostic.help("keep `class` or `routing_key`"));
            (Runs::Class(class.value.clone()), class.span)
        }
        (None, Some(key)) => (Runs::Service { routing_key: key.value.clone() }, key.span),
        (None, None) => (Runs::Service { routing_key: format!("step.{step_type}") }, name.span),
    };
    let raises = written.raises.as_ref().map(|raises| raises.value.as_slice()).unwrap_or_default();
    for (at, error) in raises.iter().enumerate() {
        if super::errors::is_built_in(&error.value) {
            let message = format!("`{}` is an error of Crux itself", error.value);
            sink.push(
                Diagnostic::error(codes::ERROR_RESERVED, error.span, message)
                    .help("give the step's error another name"),
            );
        } else if raises.iter().take(at).any(|before| before.value == error.value) {
            let message = format!("`{}` is named twice", error.value);
            sink.push(
                Diagnostic::error(codes::ERROR_RESERVED, error.span, message).help("name it once"),
            );
        }
    }
    let class = matches!(runs, Runs::Class(_));
    Contract {
        span: name.span,
        description: None,
        runs,
        runs_span,
        takes,
        returns,
        raises: raises.iter().map(|error| error.value.clone()).collect(),
        effect: match written.effect.map(|effect| effect.value) {
            Some(Effect::None) => EffectKind::None,
            Some(Effect::Once) => EffectKind::Once,
            Some(Effect::Idempotent) | None => EffectKind::Idempotent,
        },
        reports_started: class || written.reports_started.is_some(),
        payload: written.payload.is_some_and(|payload| payload.value),
        retry: None,
        timeout: None,
        shared: false,
        used: false,
    }
}

fn used_twice(files: &Files, first: &Use<'_>, second: &Use<'_>) -> Diagnostic {
    let name = &second.name.value;
    let message = format!(
        "the step type `{name}` is used in more than one place, so its contract cannot be in a step"
    );
    let written = if first.contract.first().is_some() { first.contract } else { second.contract };
    Diagnostic::error(codes::CONTRACT_TWICE, second.name.span, message)
        .other(first.name.span, "used here first")
        .note("each step type has one contract in the whole folder")
        .help(format!(
            "move it: `step_types: {{ {name}: {{ {} }} }}`, and leave `type: {name}` in the steps",
            shown(files, written)
        ))
}

/// A contract in flow style, of the source's own words; parts that fill several lines are left for
/// the user to copy.
fn shown(files: &Files, contract: &model::Contract) -> String {
    let text = |span: Span| {
        let file = files.get(span.file)?;
        file.text
            .get(span.start as usize..span.end as usize)
            .map(str::trim)
            .filter(|text| !text.contains('\n'))
            .map(str::to_owned)
    };
    let of_type = |written: &model::TypeExpr| text(written.span).unwrap_or_else(|| "…".into());
    let parts = [
        contract.class.as_ref().map(|class| format!("class: {}", class.value)),
        contract.routing_key.as_ref().map(|key| format!("routing_key: {}", key.value)),
        Some(format!("takes: {}", contract.takes.as_ref().map_or("{ … }".into(), of_type))),
        contract.returns.as_ref().map(|returns| format!("returns: {}", of_type(returns))),
        contract.raises.as_ref().map(|raises| {
            format!(
                "raises: [{}]",
                raises
                    .value
                    .iter()
                    .map(|error| error.value.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }),
        contract.effect.as_ref().map(|effect| {
            let word = match effect.value {
                Effect::None => "none",
                Effect::Idempotent => "idempotent",
                Effect::Once => "once",
            };
            format!("effect: {word}")
        }),
        contract.reports_started.map(|_| "reports: started".into()),
        contract.payload.filter(|payload| payload.value).map(|_| "payload: true".into()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl Contract<'_> {
    /// As the emitter takes it. `None` while something about it is broken.
    pub fn finished(&self, name: &str, types: &Types<'_>) -> Option<ir::Contract> {
        let Takes::Known(takes) = &self.takes else { return None };
        let returns = match &self.returns {
            Returns::Nothing => None,
            Returns::Record(record) => Some(record.clone()),
            Returns::Broken => return None,
        };
        Some(ir::Contract {
            name: name.to_owned(),
            place: types.place(self.span),
            description: self.description.clone(),
            runs: self.runs.clone(),
            takes: takes.clone(),
            returns,
            raises: self.raises.clone(),
            effect: self.effect,
            reports_started: self.reports_started,
            payload: self.payload,
        })
    }
}
