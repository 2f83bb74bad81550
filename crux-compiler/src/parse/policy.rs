//! `retry`, `timeout` and the keys of a contract, in every place.

use super::mapping::{Mapping, Shape, nowhere, with_contract};
use super::scalar::{self, Zero};
use super::tree::{Kind, Pair};
use super::types;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Contract, Effect, Name, Retry, StepType, Timeout};
use crate::names;
use crate::source::Spanned;

/// Beyond it the first back-off already is the last.
pub const FACTOR_MAX: f64 = 1000.0;

pub static RETRY: Shape = Shape {
    what: "`retry`",
    schema: "Retry",
    keys: &["attempts", "backoff", "factor", "max", "jitter", "only", "never"],
};

pub static TIMEOUT: Shape = Shape {
    what: "`timeout`",
    schema: "TimeoutParts",
    keys: &["queue", "run", "heartbeat", "total"],
};

pub static STEP_TYPE: Shape = Shape {
    what: "a step type",
    schema: "StepType",
    keys: with_contract!(["description"], ["retry", "timeout"]),
};

const EFFECTS: &[(&str, Effect)] =
    &[("none", Effect::None), ("idempotent", Effect::Idempotent), ("once", Effect::Once)];

pub fn retry(pair: &Pair, sink: &mut Sink) -> Option<Retry> {
    if let Kind::Integer(attempts, _) = pair.value.kind {
        sink.push(
            Diagnostic::error(
                codes::WRONG_KIND,
                pair.value.span,
                "`retry` must be a record, not an integer",
            )
            .label("this is an integer")
            .help(format!("write `retry: {{ attempts: {attempts} }}`")),
        );
        return None;
    }
    let mapping = Mapping::under(pair, &RETRY, nowhere, sink)?;
    let attempts = mapping
        .need("attempts", "attempts: 3", sink)
        .and_then(|pair| scalar::integer(pair, 1..=u32::MAX, sink));
    let backoff_ms =
        mapping.get("backoff").and_then(|pair| scalar::duration(pair, Zero::Allowed, sink));
    let factor = mapping.get("factor").and_then(|pair| factor(pair, sink));
    let max_ms = mapping.get("max").and_then(|pair| scalar::duration(pair, Zero::Refused, sink));
    let jitter = mapping.get("jitter").and_then(|pair| scalar::boolean(pair, sink));
    let only = mapping.get("only").and_then(|pair| errors(pair, sink));
    let never = mapping.get("never").and_then(|pair| errors(pair, sink));
    Some(Retry {
        span: mapping.span,
        attempts: attempts?,
        backoff_ms,
        factor,
        max_ms,
        jitter,
        only,
        never,
    })
}

fn factor(pair: &Pair, sink: &mut Sink) -> Option<Spanned<f64>> {
    let factor = scalar::bound(pair, sink)?;
    let factor = Spanned::new(factor.value.number(), factor.span);
    if !(1.0..=FACTOR_MAX).contains(&factor.value) {
        scalar::out_of_range(pair, &format!("from 1 to {}", FACTOR_MAX), sink);
        return None;
    }
    Some(factor)
}

fn errors(pair: &Pair, sink: &mut Sink) -> Option<Spanned<Vec<Name>>> {
    scalar::names(pair, names::Kind::Type, "the name of an error", sink)
}

/// One duration, or its parts.
pub fn timeout(pair: &Pair, sink: &mut Sink) -> Option<Timeout> {
    let span = pair.value.span;
    if !matches!(pair.value.kind, Kind::Mapping(_)) {
        let run_ms = Some(scalar::duration(pair, Zero::Refused, sink)?);
        return Some(Timeout { span, queue_ms: None, run_ms, heartbeat_ms: None, total_ms: None });
    }
    let mapping = Mapping::under(pair, &TIMEOUT, nowhere, sink)?;
    if mapping.is_empty() {
        scalar::empty(pair, sink);
        return None;
    }
    let mut part =
        |key: &str| mapping.get(key).and_then(|pair| scalar::duration(pair, Zero::Refused, sink));
    Some(Timeout {
        span,
        queue_ms: part("queue"),
        run_ms: part("run"),
        heartbeat_ms: part("heartbeat"),
        total_ms: part("total"),
    })
}

/// The contract's keys of a step, an undo or a step type.
pub fn contract(mapping: &Mapping<'_>, sink: &mut Sink) -> Contract {
    Contract {
        class: mapping.get("class").and_then(|pair| {
            scalar::name(&pair.value, names::Kind::Type, "the name of a step struct", sink)
        }),
        routing_key: mapping.get("routing_key").and_then(|pair| scalar::filled(pair, sink)),
        takes: mapping.get("takes").and_then(|pair| types::record(pair, sink)),
        returns: mapping.get("returns").and_then(|pair| types::record(pair, sink)),
        raises: mapping.get("raises").and_then(|pair| errors(pair, sink)),
        effect: mapping.get("effect").and_then(|pair| scalar::word(pair, EFFECTS, sink)),
        reports_started: mapping
            .get("reports")
            .and_then(|pair| scalar::word(pair, &[("started", ())], sink))
            .map(|word| word.span),
        payload: mapping.get("payload").and_then(|pair| scalar::boolean(pair, sink)),
    }
}

/// The entries of `step_types`.
pub fn step_types(pair: &Pair, sink: &mut Sink) -> Vec<StepType> {
    let Kind::Mapping(pairs) = &pair.value.kind else {
        super::mapping::wrong_kind(
            "`step_types`",
            &pair.value,
            "a record of names to step types",
            sink,
        );
        return Vec::new();
    };
    pairs
        .iter()
        .filter(|pair| pair.key.value != super::tree::BROKEN_KEY)
        .filter_map(|pair| step_type(pair, sink))
        .collect()
}

fn step_type(pair: &Pair, sink: &mut Sink) -> Option<StepType> {
    let name =
        scalar::check_name(pair.key.clone(), names::Kind::Id, "the name of a step type", sink);
    let mapping = Mapping::under(pair, &STEP_TYPE, step_only, sink)?;
    let contract = contract(&mapping, sink);
    let description = mapping.get("description").and_then(|pair| scalar::text(pair, sink));
    let retry = mapping.get("retry").and_then(|pair| retry(pair, sink));
    let timeout = mapping.get("timeout").and_then(|pair| timeout(pair, sink));
    Some(StepType { name: name?, description, contract, retry, timeout })
}

/// Keys that belong to the use of a step type.
fn step_only(key: &str) -> Option<String> {
    matches!(key, "id" | "type" | "with" | "when" | "catch" | "undo" | "key" | "steps")
        .then(|| format!("`{key}` belongs to the step that uses this type; its contract says what it takes, gives and where it runs"))
}
