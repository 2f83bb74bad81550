//! What the steps of each scope read of what is around them, and so which functions of a scope need
//! its view.

use super::plan::{Key, Outer, Plan, Scope, ScopeId, ScopeKind, Step, StepId, ValueLocation};
use super::reads;
use crate::ir::{Expr, Verb};

impl<'a> Plan<'a> {
    /// Fills in the views of all scopes, and what each step reads of them.
    pub(super) fn fill_views(&mut self) {
        let mut needed: Vec<(ScopeId, Outer<'a>)> = Vec::new();
        let mut note = |plan: &Self, expr: &'a Expr, scope: ScopeId, live: &[Key<'a>]| {
            let before = needed.len();
            reads::of_expr(expr, &mut |value| {
                needed.extend(match plan.find(value, scope, live) {
                    Some(ValueLocation::Around(step, _)) => Some((scope, Outer::At(step))),
                    Some(ValueLocation::Item(name)) => Some((scope, Outer::Item(name))),
                    Some(ValueLocation::Error) => Some((scope, Outer::Error)),
                    Some(ValueLocation::Here(_) | ValueLocation::Kept(_)) | None => None,
                });
            });
            needed.len() > before
        };
        for id in 0..self.steps.len() {
            let step = &self.steps[id];
            let held = if let Verb::Wait { condition, .. } = &step.node.verb {
                condition.as_ref()
            } else {
                None
            };
            let (mut reads_outside, mut holds_outside) = (false, false);
            for expr in reads::own(step.node) {
                let is_outside = note(self, expr, step.scope, &step.live);
                let is_held = held.is_some_and(|held| std::ptr::eq(held, expr));
                reads_outside |= is_outside && !is_held;
                holds_outside |= is_outside && is_held;
            }
            if let (Verb::Repeat { until, .. }, Some(inside)) =
                (&step.node.verb, step.inside.first())
            {
                note(self, until, *inside, &self.scopes[*inside].exports);
            }
            (self.steps[id].reads_outside, self.steps[id].holds_outside) =
                (reads_outside, holds_outside);
        }
        for (id, scope) in self.scopes.iter().enumerate() {
            if let Some((yields, last)) = self.yields(scope) {
                note(self, yields, id, &known_at_end(last));
            }
        }
        for (scope, outer) in needed {
            let mut next = Some(scope);
            while let Some(id) = next {
                self.scopes[id].view.insert(outer);
                if self.provides(id, outer) {
                    break;
                }
                next = self.around(id);
            }
        }
    }

    /// The scope around a scope.
    pub(super) fn around(&self, id: ScopeId) -> Option<ScopeId> {
        self.scopes[id].around.map(|step| self.steps[step].scope)
    }

    /// Whether a scope's view gets `outer` from the step around it, and not from the view of the
    /// scope around that.
    pub(super) fn provides(&self, scope: ScopeId, outer: Outer<'a>) -> bool {
        let scope = &self.scopes[scope];
        match outer {
            Outer::At(step) => scope.around == Some(step),
            Outer::Item(name) => matches!(scope.kind, ScopeKind::Each { item, .. } if item == name),
            Outer::Error => matches!(scope.kind, ScopeKind::Catch(_)),
        }
    }

    /// Whether a scope sees more than the step around it provides.
    fn looks_further(&self, id: ScopeId) -> bool {
        self.scopes[id].view.iter().any(|outer| !self.provides(id, *outer))
    }

    /// The `yield` of an `each` and the step before it; `None` also if that is a `fail`, after which
    /// nothing is read.
    fn yields(&self, scope: &Scope<'a>) -> Option<(&'a Expr, &Step<'a>)> {
        let ScopeKind::Each { yields: Some(yields), .. } = scope.kind else { return None };
        let last = self.last(scope).filter(|last| !super::plan::is_end(last.node))?;
        Some((yields, last))
    }

    /// Whether what is inside a step reads something that is around its scope.
    pub(super) fn inside_needs_view(&self, step: &Step<'a>) -> bool {
        step.inside.iter().any(|scope| self.looks_further(*scope))
    }

    /// Whether what comes after the step needs the view of its scope.
    pub(super) fn after_needs_view(&self, step: &Step<'a>) -> bool {
        match step.next {
            Some(next) => self.enter_needs_view(&self.steps[next]),
            None => self.end_needs_view(step.scope),
        }
    }

    pub(super) fn end_needs_view(&self, id: ScopeId) -> bool {
        let Some((yields, last)) = self.yields(&self.scopes[id]) else { return false };
        let known = known_at_end(last);
        let mut needs = false;
        reads::of_expr(yields, &mut |value| {
            needs |= !matches!(self.find(value, id, &known), Some(ValueLocation::Here(_)) | None)
        });
        needs
    }

    pub(super) fn catch_needs_view(&self, step: &Step<'a>) -> bool {
        !step.node.catch.is_empty()
            && (self.handlers_need_view(step) || self.after_needs_view(step))
    }

    fn handlers_need_view(&self, step: &Step<'a>) -> bool {
        step.catches.iter().flatten().any(|scope| self.looks_further(*scope))
    }

    pub(super) fn enter_needs_view(&self, step: &Step<'a>) -> bool {
        step.reads_outside || self.goes_on_with_view(step)
    }

    /// Whether offering an event to a scope needs its view.
    pub(super) fn apply_needs_view(&self, id: ScopeId) -> bool {
        let steps =
            self.scopes[id].sequences.iter().flatten().map(|step: &StepId| &self.steps[*step]);
        steps
            .filter(|step| !self.is_instant(step))
            .any(|step| step.holds_outside || self.goes_on_with_view(step))
    }

    fn goes_on_with_view(&self, step: &Step<'a>) -> bool {
        // What comes after it is asked once: it asks what comes after that.
        self.inside_needs_view(step) || self.handlers_need_view(step) || self.after_needs_view(step)
    }
}

/// What is at hand where the scope of the step `last` ends.
fn known_at_end<'a>(last: &Step<'a>) -> Vec<Key<'a>> {
    last.live.iter().chain(&last.gives).copied().collect()
}
