//! Walks over the steps of the model: every step at any depth, and every place that uses a step
//! type.

use crate::model::{Catch, Contract, File, Name, Step, Undo, Verb};
use crate::text::Text;

/// A step, or an `undo`, that names a step type.
#[derive(Clone, Copy)]
pub struct Use<'a> {
    pub name: &'a Name,
    pub contract: &'a Contract,
    pub description: Option<&'a Text>,
}

/// All uses of step types, in the order of the files.
pub fn uses(sources: &[File]) -> Vec<Use<'_>> {
    let mut all = Vec::new();
    for workflow in sources.iter().filter_map(|file| file.workflow.as_ref()) {
        each_step(&workflow.steps, &mut |step| {
            let undo = match &step.verb {
                Verb::Work(work) => {
                    all.push(Use {
                        name: &work.type_name,
                        contract: &work.contract,
                        description: step.description.as_ref(),
                    });
                    work.undo.as_ref()
                }
                Verb::Child(child) => child.undo.as_ref(),
                _ => None,
            };
            if let Some(Undo::By(undo)) = undo {
                all.push(Use {
                    name: &undo.type_name,
                    contract: &undo.contract,
                    description: None,
                });
            }
        });
    }
    all
}

/// Every step at any depth, in the order of the file; `catch` after what it guards.
pub fn each_step<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Step)) {
    for step in steps {
        visit(step);
        for inner in inside(step) {
            each_step(inner, visit);
        }
    }
}

/// The lists of steps that stand in a step: of its verb, then of its catches.
pub fn inside(step: &Step) -> Vec<&[Step]> {
    let mut lists = branches(&step.verb);
    lists.extend(step.catch.iter().flatten().map(|Catch { steps, .. }| steps.as_slice()));
    lists
}

/// The lists of steps of a verb.
pub fn branches(verb: &Verb) -> Vec<&[Step]> {
    match verb {
        Verb::Work(work) => work.steps.iter().map(Vec::as_slice).collect(),
        Verb::Group { steps, .. } => vec![steps],
        Verb::Parallel { branches, .. } => {
            branches.iter().map(|branch| branch.steps.as_slice()).collect()
        }
        Verb::Switch { cases, otherwise } => cases
            .iter()
            .map(|case| case.steps.as_slice())
            .chain(otherwise.iter().map(|otherwise| otherwise.steps.as_slice()))
            .collect(),
        Verb::Match { cases, otherwise, .. } => cases
            .iter()
            .map(|case| case.steps.as_slice())
            .chain(otherwise.iter().map(|otherwise| otherwise.steps.as_slice()))
            .collect(),
        Verb::Each(each) => vec![&each.steps],
        Verb::Repeat(repeat) => vec![&repeat.steps],
        Verb::Wait { .. }
        | Verb::Sleep(_)
        | Verb::Child(_)
        | Verb::Emit { .. }
        | Verb::Fail { .. } => Vec::new(),
    }
}
