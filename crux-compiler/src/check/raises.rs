//! Which failures can come out of a step: what its verb raises, and what comes out of the steps inside without being caught there.

use std::collections::BTreeSet;

use crate::ir::{EffectKind, Runs};
use crate::model::{Caught, Sleep, Step, Verb, Work};
use crate::resolve::uses::branches;
use crate::resolve::{Folder, policy};

pub type Names<'a> = BTreeSet<&'a str>;

/// What comes out of a step, its own `catch` included.
pub fn out_of<'a>(step: &'a Step, folder: &'a Folder<'a>) -> Names<'a> {
    let mut names = within(step, folder);
    if step.when.is_some() {
        names.insert("ExpressionError");
    }
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
    let mut names: Names<'a> = branches(&step.verb).into_iter().flatten().flat_map(|inner| out_of(inner, folder)).collect();
    let timeout = match &step.verb {
        Verb::Work(work) => {
            of_work(work, folder, &mut names);
            None
        }
        Verb::Group { timeout_ms, .. } | Verb::Parallel { timeout_ms, .. } => *timeout_ms,
        Verb::Switch { .. } | Verb::Match { .. } | Verb::Sleep(Sleep::Until(_)) | Verb::Emit { .. } => {
            names.insert("ExpressionError");
            None
        }
        Verb::Each(each) => {
            names.insert("ExpressionError");
            each.timeout_ms
        }
        Verb::Repeat(repeat) => {
            names.extend(["ExpressionError", "RepeatExhausted"]);
            repeat.timeout_ms
        }
        Verb::Wait { condition, timeout_ms, .. } => {
            if condition.is_some() {
                names.insert("ExpressionError");
            }
            *timeout_ms
        }
        Verb::Child(child) => {
            names.extend(["ChildFailed", "InvalidInput", "ExpressionError"]);
            child.timeout_ms
        }
        Verb::Fail { error, message } => {
            names.insert(&error.value);
            if message.is_some() {
                names.insert("ExpressionError");
            }
            None
        }
        Verb::Sleep(Sleep::For { .. }) => None,
    };
    if timeout.is_some() {
        names.insert("Timeout");
    }
    names
}

fn of_work<'a>(work: &'a Work, folder: &'a Folder<'a>, names: &mut Names<'a>) {
    names.extend(["Error", "InvalidInput", "InvalidResult", "Unavailable", "WorkerLost", "NoWorker", "ExpressionError"]);
    let Some(contract) = folder.contracts.get(work.type_name.value.as_str()) else { return };
    names.extend(contract.raises.iter().map(String::as_str));
    if matches!(contract.runs, Runs::Class(_)) {
        names.insert("Panic");
    }
    if contract.effect == EffectKind::Once {
        names.insert("OutcomeUnknown");
    }
    let policy = policy::merge(contract, work.retry.as_ref(), work.timeout.as_ref());
    if [policy.queue_ms, policy.run_ms, policy.heartbeat_ms, policy.total_ms].iter().any(Option::is_some) {
        names.insert("Timeout");
    }
}
