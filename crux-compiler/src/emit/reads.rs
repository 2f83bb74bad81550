//! Which values expressions read.

use super::plan::is_end;
use crate::ir::{Expr, ExprKind, Node, SleepUntil, Value, Verb};

/// Calls `visit` for every value that `expr` reads, without the variables that it binds itself.
pub(super) fn of_expr<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Value)) {
    walk(expr, &mut Vec::new(), visit);
}

/// Of a step: everything that it and the steps inside it read, in whatever scope.
pub(super) fn of_node<'a>(node: &'a Node, visit: &mut dyn FnMut(&'a Value)) {
    for expr in own(node) {
        of_expr(expr, visit);
    }
    match &node.verb {
        // After a `fail` there is no end that could read anything.
        Verb::Each { yields: Some(last), steps, .. } if !steps.last().is_some_and(is_end) => {
            of_expr(last, visit)
        }
        Verb::Repeat { until, .. } => of_expr(until, visit),
        Verb::TaskThen { task, .. } => of_node(task, visit),
        _ => {}
    }
    for child in node.children() {
        of_node(child, visit);
    }
}

/// The expressions that are evaluated where the step stands: not those inside it, not what ends its
/// rounds and elements. A wait's condition and an undo's input are among them: what they read must
/// be there.
pub(super) fn own(node: &Node) -> Vec<&Expr> {
    let mut all: Vec<&Expr> = node.when.iter().collect();
    match &node.verb {
        Verb::Task(task) => {
            all.push(&task.with);
            all.extend(&task.key);
            all.extend(task.undo.as_ref().map(|undo| &undo.with));
        }
        Verb::Switch { branches } => {
            all.extend(branches.iter().filter_map(|case| case.when.as_ref()))
        }
        Verb::Each { list, .. } => all.push(list),
        Verb::Wait { correlate, condition, .. } => all.extend(correlate.iter().chain(condition)),
        Verb::Sleep(SleepUntil::Until(until)) => all.push(until),
        Verb::Emit { data, .. } => all.push(data),
        Verb::Fail { message, .. } => all.push(message),
        Verb::TaskThen { .. }
        | Verb::Group { .. }
        | Verb::Parallel { .. }
        | Verb::Repeat { .. }
        | Verb::Sleep(SleepUntil::For { .. }) => {}
    }
    all
}

fn walk<'a>(expr: &'a Expr, bound: &mut Vec<&'a str>, visit: &mut dyn FnMut(&'a Value)) {
    match &expr.kind {
        ExprKind::Value(Value::Item(name)) if bound.contains(&name.as_str()) => {}
        ExprKind::Value(value) => visit(value),
        ExprKind::Iterate { over, variable, body, .. } => {
            walk(over, bound, visit);
            bound.push(variable);
            walk(body, bound, visit);
            bound.pop();
        }
        _ => {
            for part in parts(expr) {
                walk(part, bound, visit);
            }
        }
    }
}

/// The expressions directly inside one.
pub(super) fn parts(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        ExprKind::List(items)
        | ExprKind::Interpolate(items)
        | ExprKind::Call { args: items, .. } => items.iter().collect(),
        ExprKind::Record(fields) => fields.iter().map(|(_, value)| value).collect(),
        ExprKind::Field { of, .. }
        | ExprKind::Not(of)
        | ExprKind::Negate(of)
        | ExprKind::Coerce(of) => vec![of],
        ExprKind::Index { of, index } => vec![of, index],
        ExprKind::Binary { left, right, .. } | ExprKind::Coalesce { left, right } => {
            vec![left, right]
        }
        ExprKind::If { condition, then, other } => vec![condition, then, other],
        ExprKind::Iterate { over, body, .. } => vec![over, body],
        ExprKind::Text(_)
        | ExprKind::Integer(_)
        | ExprKind::Number(_)
        | ExprKind::Boolean(_)
        | ExprKind::Timestamp(_)
        | ExprKind::Duration { .. }
        | ExprKind::Null
        | ExprKind::Word(_)
        | ExprKind::Value(_) => Vec::new(),
    }
}
