//! Code that never runs: what follows a step that never goes on, and a `catch` of what nothing
//! inside raises; and names of errors that nobody raises.

use super::raises::{out_of, within};
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Caught, Name, Retry, Step, Undo, Verb};
use crate::resolve::uses::{branches, each_step, inside};
use crate::resolve::{Contract, Folder, errors};
use crate::suggest::nearest;

/// Failures of a task that Crux itself raises, so that `retry` can name them.
const OF_TASKS: [&str; 10] = [
    "Timeout",
    "NoWorker",
    "WorkerLost",
    "OutcomeUnknown",
    "Unavailable",
    "Panic",
    "InvalidInput",
    "InvalidResult",
    "ExpressionError",
    "Error",
];

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    for workflow in folder.sources.iter().filter_map(|file| file.workflow.as_ref()) {
        dead(&workflow.steps, sink);
        each_step(&workflow.steps, &mut |step| {
            for list in inside(step) {
                dead(list, sink);
            }
            catches(step, folder, sink);
            let (work, undo) = match &step.verb {
                Verb::Work(work) => (Some((&work.type_name, &work.retry)), &work.undo),
                Verb::Child(child) => (None, &child.undo),
                _ => return,
            };
            let undo = match undo {
                Some(Undo::By(undo)) => Some((&undo.type_name, &undo.retry)),
                _ => None,
            };
            for (name, retry) in [work, undo].into_iter().flatten() {
                if let (Some(contract), Some(retry)) =
                    (folder.contracts.get(name.value.as_str()), retry)
                {
                    retries(&name.value, contract, retry, sink);
                }
            }
        });
    }
    for (name, contract) in &folder.contracts {
        if let Some(retry) = contract.retry {
            retries(name, contract, retry, sink);
        }
    }
}

/// Reports the first step behind one that never goes on.
fn dead(steps: &[Step], sink: &mut Sink) {
    for (step, next) in steps.iter().zip(steps.iter().skip(1)) {
        if ends(step) {
            let place = next.id.as_ref().map_or(next.verb_key, |id| id.span);
            let last = step.id.as_ref().map_or(step.verb_key, |id| id.span);
            let diagnostic = Diagnostic::error(codes::NEVER_RUNS, place, "this step never runs")
                .other(last, "this one always fails");
            sink.push(diagnostic.help("leave it out, or give the failing step a `when`"));
            return;
        }
    }
}

/// Whether no instance comes past this step.
fn ends(step: &Step) -> bool {
    if step.when.is_some() || step.catch.as_ref().is_some_and(|catch| !catch.is_empty()) {
        return false;
    }
    let all_end = |steps: &[Step]| steps.iter().any(ends);
    match &step.verb {
        Verb::Fail { .. } => true,
        Verb::Group { .. } | Verb::Work(_) | Verb::Parallel { .. } => {
            branches(&step.verb).into_iter().any(all_end)
        }
        Verb::Switch { otherwise, .. } => {
            otherwise.is_some() && branches(&step.verb).into_iter().all(all_end)
        }
        // Without an `else` every word has a case.
        Verb::Match { .. } => branches(&step.verb).into_iter().all(all_end),
        Verb::Repeat(repeat) => all_end(&repeat.steps),
        Verb::Each(_) | Verb::Wait { .. } | Verb::Sleep(_) | Verb::Child(_) | Verb::Emit { .. } => {
            false
        }
    }
}

fn catches(step: &Step, folder: &Folder<'_>, sink: &mut Sink) {
    let Some(catches) = step.catch.as_ref().filter(|catches| !catches.is_empty()) else { return };
    let raised = within(step, folder);
    for (at, catch) in catches.iter().enumerate() {
        let before = catches.iter().take(at);
        let span = catch.error.span;
        if let Some(first) = before.clone().find(|before| {
            before.error.value == Caught::Any || before.error.value == catch.error.value
        }) {
            let message = "this `catch` never runs: one before it takes the same";
            let diagnostic = Diagnostic::error(codes::CATCH_NEVER, span, message)
                .other(first.error.span, "takes it");
            sink.push(diagnostic.help("the first that fits is taken: put `any` last"));
            continue;
        }
        let taken = |name: &&str| {
            !catches
                .iter()
                .take(at)
                .any(|before| before.error.value == Caught::Named((*name).to_owned()))
        };
        match &catch.error.value {
            Caught::Any if !raised.iter().any(taken) => {
                let diagnostic = Diagnostic::error(
                    codes::CATCH_NEVER,
                    span,
                    "this `catch` never runs: nothing is left for it to take",
                );
                sink.push(diagnostic.help("leave it out"));
            }
            Caught::Named(name) if !raised.contains(name.as_str()) => {
                let message = format!("nothing inside raises `{name}`");
                sink.push(
                    Diagnostic::error(codes::CATCH_NEVER, span, message)
                        .help(never_raised(name, &raised)),
                );
            }
            Caught::Any | Caught::Named(_) => {}
        }
    }
}

fn never_raised(name: &str, raised: &super::raises::Names<'_>) -> String {
    match (nearest(name, raised.iter().copied()), name) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, "Timeout") => {
            "nothing inside has a `timeout`: give it one, or leave the `catch` out".into()
        }
        (None, "Cancelled") => "a cancelled instance is undone; nothing catches that".into(),
        (None, _) if errors::is_built_in(name) => "leave the `catch` out".into(),
        (None, _) => {
            format!("name it in the step's contract: `raises: [{name}]`, or leave the `catch` out")
        }
    }
}

fn retries(step_type: &str, contract: &Contract<'_>, retry: &Retry, sink: &mut Sink) {
    let mut unknown = |error: &Name, key: &str| {
        let name = error.value.as_str();
        let known = || OF_TASKS.into_iter().chain(contract.raises.iter().map(String::as_str));
        if known().any(|known| known == name) {
            return;
        }
        let help = match nearest(name, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("name it in the contract: `raises: [{name}]`"),
        };
        let message = format!("`{step_type}` never raises `{name}`, so `{key}` cannot name it");
        sink.push(Diagnostic::error(codes::UNKNOWN_ERROR, error.span, message).help(help));
    };
    for (names, key) in [(&retry.only, "only"), (&retry.never, "never")] {
        for error in names.iter().flat_map(|names| &names.value) {
            unknown(error, key);
        }
    }
    for error in retry.only.iter().flat_map(|names| &names.value) {
        if let Some(never) = retry
            .never
            .iter()
            .flat_map(|names| &names.value)
            .find(|never| never.value == error.value)
        {
            let message = format!("`{}` is listed under both `only` and `never`", error.value);
            let diagnostic = Diagnostic::error(codes::UNKNOWN_ERROR, never.span, message)
                .other(error.span, "`only` here");
            sink.push(diagnostic.help("name it in one of them"));
        }
    }
}

/// Whether anything that comes out of these steps is a failure.
pub fn can_fail(steps: &[Step], folder: &Folder<'_>) -> bool {
    steps.iter().any(|step| !out_of(step, folder).is_empty())
}
