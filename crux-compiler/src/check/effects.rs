//! Steps whose effect happens once: they are not retried blindly, and what follows them should know
//! how to take them back.

use super::flow::can_fail;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::EffectKind;
use crate::model::{Step, Undo, Verb, Work};
use crate::resolve::uses::{branches, each_step};
use crate::resolve::{Folder, policy};

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    for workflow in folder.sources.iter().filter_map(|file| file.workflow.as_ref()) {
        each_step(&workflow.steps, &mut |step| {
            let Verb::Work(work) = &step.verb else { return };
            if let Some(Undo::By(undo)) = &work.undo {
                let name = undo.type_name.value.as_str();
                let help = "an undo takes no `key`: leave `retry` out, so that a person decides when the outcome is unknown; or, if the \
                            receiver knows a second attempt by the task's `key`, say `effect: idempotent` in the contract";
                retry_of_once(
                    folder,
                    name,
                    undo.retry.as_ref(),
                    undo.timeout.as_ref(),
                    undo.type_name.span,
                    help,
                    sink,
                );
            }
            if work.key.is_none() {
                let name = work.type_name.value.as_str();
                let help = "give the step a `key` by which the receiver knows the second attempt, or leave `retry` out";
                retry_of_once(
                    folder,
                    name,
                    work.retry.as_ref(),
                    work.timeout.as_ref(),
                    work.type_name.span,
                    help,
                    sink,
                );
            }
        });
        without_undo(&workflow.steps, false, folder, sink);
    }
}

fn retry_of_once(
    folder: &Folder<'_>,
    step_type: &str,
    retry: Option<&crate::model::Retry>,
    timeout: Option<&crate::model::Timeout>,
    name: crate::source::Span,
    help: &str,
    sink: &mut Sink,
) {
    let Some(contract) = folder.contracts.get(step_type) else { return };
    if contract.effect != EffectKind::Once || policy::merge(contract, retry, timeout).attempts < 2 {
        return;
    }
    let span = retry.map_or(name, |retry| retry.span);
    let message = format!(
        "`{step_type}` has `effect: once` and is retried without a `key`: a second attempt may do it twice"
    );
    let diagnostic =
        Diagnostic::error(codes::RETRY_OF_ONCE, span, message).other(contract.span, "its contract");
    sink.push(diagnostic.help(help));
}

/// `after` says whether something behind these steps can fail.
fn without_undo(steps: &[Step], after: bool, folder: &Folder<'_>, sink: &mut Sink) {
    // From the end, so that each step knows what follows it.
    let mut after = after;
    for step in steps.iter().rev() {
        let lists = branches(&step.verb);
        let nested_fails =
            matches!(&step.verb, Verb::Work(_)) && lists.iter().any(|list| can_fail(list, folder));
        if let Verb::Work(work) = &step.verb
            && (after || nested_fails)
        {
            warn(work, folder, sink);
        }
        for (at, list) in lists.iter().enumerate() {
            let beside = match &step.verb {
                Verb::Parallel { .. } => lists
                    .iter()
                    .enumerate()
                    .any(|(other, list)| other != at && can_fail(list, folder)),
                // The next element or round.
                Verb::Each(_) | Verb::Repeat(_) => can_fail(list, folder),
                _ => false,
            };
            without_undo(list, after || beside, folder, sink);
        }
        for catch in step.catch.iter().flatten() {
            without_undo(&catch.steps, after, folder, sink);
        }
        after = after || can_fail(std::slice::from_ref(step), folder);
    }
}

fn warn(work: &Work, folder: &Folder<'_>, sink: &mut Sink) {
    let step_type = work.type_name.value.as_str();
    let Some(contract) = folder.contracts.get(step_type) else { return };
    if contract.effect == EffectKind::Once && work.undo.is_none() {
        let message = format!(
            "`{step_type}` has `effect: once`, a later step can fail, and nothing takes it back"
        );
        let diagnostic =
            Diagnostic::warning(codes::ONCE_WITHOUT_UNDO, work.type_name.span, message);
        sink.push(
            diagnostic.help("add `undo: { type: …, with: … }`, or `undo: none` if none is needed"),
        );
    }
}
