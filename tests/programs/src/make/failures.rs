//! Which failures can come out of a step, and which steps never go on: what a `catch` may name, and
//! what may follow.

use std::collections::BTreeSet;

use super::program::{Ex, Kind, Sink, Step, Verb};
use super::steps::inside;

/// What the `catch` of a step may name. Less is here than can happen: not every failure of a
/// service, say.
pub fn within(step: &Step) -> BTreeSet<&'static str> {
    let mut names: BTreeSet<&'static str> =
        inside(&step.verb).into_iter().flatten().flat_map(out_of).collect();
    let mut computes = step.when.as_ref().is_some_and(may_fail);
    match &step.verb {
        Verb::Task(task) | Verb::TaskThen(task, _) => {
            names.insert("Error");
            names.extend(task.raises.then_some("Oops"));
            computes |= task.with.iter().any(|(_, sink)| sink_may_fail(sink));
        }
        Verb::Fail { error, message } => {
            names.insert(error);
            computes |= message.iter().any(may_fail);
        }
        Verb::Repeat { until, .. } => {
            names.insert("RepeatExhausted");
            computes |= may_fail(until);
        }
        Verb::Each { list, yields, .. } => {
            computes |= may_fail(list) || yields.as_ref().is_some_and(may_fail)
        }
        Verb::Switch(cases) => {
            computes |= cases.iter().filter_map(|(when, _)| when.as_ref()).any(may_fail)
        }
        Verb::Match { value, .. } => computes |= may_fail(value),
        Verb::Wait { value, rest, is_timed, .. } => {
            names.extend(is_timed.then_some("Timeout"));
            computes |= may_fail(value) || rest.as_ref().is_some_and(may_fail);
        }
        Verb::SleepUntil(until) => computes |= may_fail(until),
        Verb::Emit { data, .. } => computes |= data.iter().any(|(_, sink)| sink_may_fail(sink)),
        Verb::Group(_) | Verb::Parallel(_) | Verb::Sleep => {}
    }
    names.extend(step.is_timed.then_some("Timeout"));
    names.extend(computes.then_some("ExpressionError"));
    names
}

fn out_of(step: &Step) -> BTreeSet<&'static str> {
    let mut names = within(step);
    for (error, _) in &step.catch {
        names.retain(|name| error.is_some_and(|error| error != *name));
    }
    names.extend(step.catch.iter().flat_map(|(_, steps)| steps).flat_map(out_of));
    names
}

fn may_fail(ex: &Ex) -> bool {
    match &ex.kind {
        Kind::Lit(_) | Kind::Null | Kind::Root(_) => false,
        Kind::Bin("+" | "-" | "*" | "/" | "%", ..) => true,
        Kind::List(items) | Kind::Call(_, items) => items.iter().any(may_fail),
        Kind::Field(of, _) | Kind::Not(of) | Kind::Neg(of) => may_fail(of),
        Kind::Index(left, right)
        | Kind::Bin(_, left, right)
        | Kind::Coalesce(left, right)
        | Kind::Iter(_, left, _, right) => may_fail(left) || may_fail(right),
        Kind::If(condition, then, other) => {
            may_fail(condition) || may_fail(then) || may_fail(other)
        }
        Kind::Method(name, of, args) => *name == "sum" || may_fail(of) || args.iter().any(may_fail),
    }
}

fn sink_may_fail(sink: &Sink) -> bool {
    match sink {
        Sink::Ex(ex) => may_fail(ex),
        Sink::Text(parts) => parts.iter().any(may_fail),
        Sink::List(items) => items.iter().any(sink_may_fail),
        Sink::Rec(fields) | Sink::Map(fields) => fields.iter().any(|(_, sink)| sink_may_fail(sink)),
    }
}

/// Whether no instance comes past this step, so that nothing may follow it.
pub fn ends(step: &Step) -> bool {
    if step.when.is_some() || !step.catch.is_empty() {
        return false;
    }
    let lists = inside(&step.verb);
    let has_end = |steps: &&[Step]| steps.iter().any(ends);
    match &step.verb {
        Verb::Fail { .. } => true,
        Verb::Group(_) | Verb::TaskThen(..) | Verb::Parallel(_) | Verb::Repeat { .. } => {
            lists.iter().any(has_end)
        }
        Verb::Switch(cases) => {
            cases.iter().any(|(when, _)| when.is_none()) && lists.iter().all(has_end)
        }
        Verb::Match { .. } => lists.iter().all(has_end),
        Verb::Each { .. }
        | Verb::Task(_)
        | Verb::Wait { .. }
        | Verb::Sleep
        | Verb::SleepUntil(_)
        | Verb::Emit { .. } => false,
    }
}
