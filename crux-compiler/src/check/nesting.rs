//! How deep steps stand in steps.

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Catch, Step, Verb};
use crate::resolve::Folder;
use crate::resolve::uses::{branches, inside};

/// The states of a step hold those of the steps inside it, and rustc looks no deeper than 128 types
/// into a type. An `each` takes eleven of them, a `repeat` nine, a `parallel` seven, everything
/// else five or less.
const STEPS_DEEP_MAX: usize = 14;

/// A step's path has room for so many elements and rounds.
const LOOPS_DEEP_MAX: usize = 6;

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    for workflow in folder.sources.iter().filter_map(|file| file.workflow.as_ref()) {
        let found = [
            (
                too_deep(&workflow.steps, 1),
                format!("steps are nested more than {STEPS_DEEP_MAX} deep"),
            ),
            (
                too_many_loops(&workflow.steps, 0),
                format!("`each` and `repeat` are nested more than {LOOPS_DEEP_MAX} deep"),
            ),
        ];
        for (step, message) in found {
            let Some(step) = step else { continue };
            let place = step.id.as_ref().map_or(step.verb_key, |id| id.span);
            let diagnostic = Diagnostic::error(codes::LIMIT, place, message);
            sink.push(diagnostic.help(
                "let an event start what is inside as a separate workflow, or do it in one step",
            ));
        }
    }
}

/// The first step that stands too deep.
fn too_deep(steps: &[Step], depth: usize) -> Option<&Step> {
    if depth > STEPS_DEEP_MAX {
        return steps.first();
    }
    steps.iter().flat_map(inside).find_map(|list| too_deep(list, depth + 1))
}

/// The first loop that stands in too many others. The steps of a `catch` stand outside the loop
/// that failed.
fn too_many_loops(steps: &[Step], around: usize) -> Option<&Step> {
    steps.iter().find_map(|step| {
        let around_verb =
            around + usize::from(matches!(step.verb, Verb::Each(_) | Verb::Repeat(_)));
        if around_verb > LOOPS_DEEP_MAX {
            return Some(step);
        }
        let mut lists = branches(&step.verb).into_iter();
        let mut catches = step.catch.iter().flatten();
        let in_verb = lists.find_map(|list| too_many_loops(list, around_verb));
        in_verb.or_else(|| catches.find_map(|Catch { steps, .. }| too_many_loops(steps, around)))
    })
}
