//! Which results are read after a failure: those of steps inside a step that fails and is caught,
//! where the `catch` or what comes after it reads them. The state that held them is gone by then,
//! so that the machine keeps them apart.

use std::collections::{BTreeMap, BTreeSet};

use super::reads;
use crate::ir::{Expr, Node, Value, Verb, Workflow};

/// How often each result is read, by the id of its step.
type Count<'a> = BTreeMap<&'a str, usize>;

/// The numbers of the nodes whose results are to be kept.
pub(super) fn nodes(workflow: &Workflow) -> BTreeSet<u16> {
    let mut all = Count::new();
    for node in &workflow.steps {
        reads::of_node(node, &mut |value| count(&mut all, value));
    }
    if let Some(output) = &workflow.output {
        reads::of_expr(output, &mut |value| count(&mut all, value));
    }
    let mut kept = BTreeSet::new();
    let mut todo: Vec<&Node> = workflow.steps.iter().collect();
    while let Some(node) = todo.pop() {
        todo.extend(node.children());
        if !node.catch.is_empty() {
            behind(node, &all, &mut kept);
        }
    }
    kept
}

/// The results inside the verb of `node` that are read outside it.
fn behind<'a>(node: &'a Node, all: &Count<'a>, kept: &mut BTreeSet<u16>) {
    let mut inside: Vec<&Node> = node.verb_children();
    let mut read = Count::new();
    if let Some(expr) = ends(node) {
        reads::of_expr(expr, &mut |value| count(&mut read, value));
    }
    for child in &inside {
        reads::of_node(child, &mut |value| count(&mut read, value));
    }
    if let Verb::TaskThen { task, .. } = &node.verb {
        reads::of_node(task, &mut |value| count(&mut read, value));
    }
    let is_read_outside = |id: &str| all.get(id) > read.get(id);
    if let Verb::TaskThen { task, .. } = &node.verb {
        kept.extend(is_read_outside(&task.id).then_some(task.no));
    }
    while let Some(child) = inside.pop() {
        kept.extend(is_read_outside(&child.id).then(|| result_number(child)));
        inside.extend(child.catch.iter().flat_map(|catch| &catch.steps));
        // What is inside an `each` is not to be seen outside, but for its `catch`.
        if !matches!(child.verb, Verb::Each { .. }) {
            inside.extend(child.verb_children());
        }
    }
}

/// What ends the rounds and elements of a node belongs to what is inside.
fn ends(node: &Node) -> Option<&Expr> {
    match &node.verb {
        Verb::Repeat { until, .. } => Some(until),
        Verb::Each { yields, .. } => yields.as_ref(),
        _ => None,
    }
}

/// The number under which a step's result is reported: of a task with steps that of the task.
pub(super) fn result_number(node: &Node) -> u16 {
    if let Verb::TaskThen { task, .. } = &node.verb { task.no } else { node.no }
}

fn count<'a>(counts: &mut Count<'a>, value: &'a Value) {
    if let Value::Step(id) = value {
        *counts.entry(id).or_default() += 1;
    }
}
