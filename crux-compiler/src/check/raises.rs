//! Which failures can come out of a step: what its verb raises, and what comes out of the steps
//! inside without being caught there.

use std::collections::BTreeSet;

use crate::expr;
use crate::expr::template::{Part, Template, split};
use crate::ir::{EffectKind, Runs};
use crate::model::{Caught, Entry, Sleep, Step, Value, Verb, Work};
use crate::resolve::uses::branches;
use crate::resolve::{Folder, policy};
use crate::text::Text;

pub type Names<'a> = BTreeSet<&'a str>;

/// What comes out of a step, its own `catch` included.
pub fn out_of<'a>(step: &'a Step, folder: &'a Folder<'a>) -> Names<'a> {
    let mut names = within(step, folder);
    for catch in step.catch.iter().flatten() {
        match &catch.error.value {
            Caught::Any => names.clear(),
            Caught::Named(name) => {
                names.remove(name.as_str());
            }
        }
    }
    for catch in step.catch.iter().flatten() {
        names.extend(catch.steps.iter().flat_map(|inner| out_of(inner, folder)));
    }
    names
}

/// What its `catch` can see.
pub fn within<'a>(step: &'a Step, folder: &'a Folder<'a>) -> Names<'a> {
    let mut names: Names<'a> = branches(&step.verb)
        .into_iter()
        .flatten()
        .flat_map(|inner| out_of(inner, folder))
        .collect();
    let mut computes = step.when.as_ref().is_some_and(bare);
    let timeout = match &step.verb {
        Verb::Work(work) => {
            of_work(work, folder, &mut names);
            computes |= work.with.iter().any(|with| entries(&with.entries))
                || work.key.as_ref().is_some_and(template);
            None
        }
        Verb::Group { timeout_ms, .. } | Verb::Parallel { timeout_ms, .. } => *timeout_ms,
        Verb::Switch { cases, .. } => {
            computes |= cases.iter().any(|case| bare(&case.when));
            None
        }
        Verb::Match { value, .. } => {
            computes |= bare(value);
            None
        }
        Verb::Sleep(Sleep::Until(until)) => {
            computes |= bare(until);
            None
        }
        Verb::Sleep(Sleep::For { .. }) => None,
        Verb::Emit { data, .. } => {
            computes |= data.as_deref().is_some_and(entries);
            None
        }
        Verb::Each(each) => {
            computes |= bare(&each.list) || each.yields.as_ref().is_some_and(bare);
            each.timeout_ms
        }
        Verb::Repeat(repeat) => {
            names.insert("RepeatExhausted");
            computes |= bare(&repeat.until);
            repeat.timeout_ms
        }
        Verb::Wait { condition, timeout_ms, .. } => {
            computes |= condition.as_ref().is_some_and(bare);
            *timeout_ms
        }
        Verb::Child(child) => {
            names.extend(["ChildFailed", "InvalidInput"]);
            computes |= child.with.iter().any(|with| entries(&with.entries));
            child.timeout_ms
        }
        Verb::Fail { error, message } => {
            names.insert(&error.value);
            computes |= message.as_ref().is_some_and(template);
            None
        }
    };
    if timeout.is_some() {
        names.insert("Timeout");
    }
    if computes {
        names.insert("ExpressionError");
    }
    names
}

// Whether an expression may fail; one that does not parse is reported elsewhere.

fn bare(text: &Text) -> bool {
    expr::parse(text).is_ok_and(|ast| ast.may_fail())
}

fn template(text: &Text) -> bool {
    match split(text) {
        Ok(Template::Whole(ast)) => ast.may_fail(),
        Ok(Template::Mixed(parts)) => {
            parts.iter().any(|part| matches!(part, Part::Value(ast) if ast.may_fail()))
        }
        Ok(Template::Text(_)) | Err(_) => false,
    }
}

fn entries(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| value(&entry.value.value))
}

fn value(written: &Value) -> bool {
    match written {
        Value::Text(text) => template(text),
        Value::List(items) => items.iter().any(|item| value(&item.value)),
        Value::Record(inner) => entries(inner),
        Value::Null | Value::Boolean(_) | Value::Integer(_) | Value::Number(_) => false,
    }
}

fn of_work<'a>(work: &'a Work, folder: &'a Folder<'a>, names: &mut Names<'a>) {
    names.extend([
        "Error",
        "InvalidInput",
        "InvalidResult",
        "Unavailable",
        "WorkerLost",
        "NoWorker",
    ]);
    let Some(contract) = folder.contracts.get(work.type_name.value.as_str()) else { return };
    names.extend(contract.raises.iter().map(String::as_str));
    if matches!(contract.runs, Runs::Class(_)) {
        names.insert("Panic");
    }
    if contract.effect == EffectKind::Once {
        names.insert("OutcomeUnknown");
    }
    let policy = policy::merge(contract, work.retry.as_ref(), work.timeout.as_ref());
    if [policy.queue_ms, policy.run_ms, policy.heartbeat_ms, policy.total_ms]
        .iter()
        .any(Option::is_some)
    {
        names.insert("Timeout");
    }
}
