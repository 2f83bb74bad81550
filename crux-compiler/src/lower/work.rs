//! Work: a task with its input, policy and undo. Where a contract does not say what it takes, `with` says it here.

use super::walk::{Here, Lowered, Walk};
use crate::ir::{Expr, Node, Policy, Task, Type, Undo, Verb};
use crate::model::{self, UndoWork, With, Work};
use crate::resolve::contracts::input_name;
use crate::resolve::{Returns, Takes, policy};
use crate::source::Span;
use crate::typing::{NewTypes, Standing, StepResult};

impl<'a> Walk<'_, 'a> {
    pub(super) fn work(&mut self, work: &'a Work, here: &Here<'_>) -> Lowered {
        let step_type = work.type_name.value.as_str();
        let result = match self.folder.contracts.get(step_type).map(|contract| contract.returns.clone()) {
            Some(Returns::Record(record)) => StepResult::Type(Type::Record(record)),
            Some(Returns::Nothing) => StepResult::None(format!("`{step_type}` declares no `returns`")),
            Some(Returns::Broken) | None => StepResult::Broken,
        };
        let then = work.steps.as_ref().filter(|steps| !steps.is_empty());
        let inner_no = then.map(|_| self.number());
        let with = self.with(step_type, work.with.as_ref(), work.type_name.span);
        let key = match &work.key {
            None => Some(None),
            Some(key) => self.checker().template(key, &Type::String).map(Some),
        };
        let undo = match &work.undo {
            None | Some(model::Undo::NotNeeded(_)) => Some(None),
            Some(model::Undo::By(undo)) => self.undo(undo, here, &result).map(Some),
        };
        let policy = self.policy(step_type, work.retry.as_ref(), work.timeout.as_ref());
        let task = || Some(Task { contract: step_type.to_owned(), with: with?, policy: policy?, key: key?, undo: undo? });
        let task = task().map(Verb::Task);
        let (Some(steps), Some(no)) = (then, inner_no) else { return Lowered { verb: task, result } };
        let end = self.nodes();
        self.know(here.id, result.clone());
        self.scope.set_standing(here.id, Standing::Certain);
        let steps = self.steps(steps, here.path);
        let own_result = match &result {
            StepResult::Type(ty) => Some(ty.clone()),
            StepResult::None(_) | StepResult::Broken => None,
        };
        let verb = || {
            let task = Node {
                id: here.id.to_owned(),
                no,
                end,
                path: here.path.to_owned(),
                place: self.folder.types.place(here.span),
                description: None,
                when: None,
                verb: task?,
                catch: Vec::new(),
                result: own_result,
            };
            Some(Verb::TaskThen { task: Box::new(task), steps: steps? })
        };
        Lowered { verb: verb(), result }
    }

    fn policy(&self, step_type: &str, retry: Option<&model::Retry>, timeout: Option<&model::Timeout>) -> Option<Policy> {
        let contract = self.folder.contracts.get(step_type)?;
        Some(policy::merge(contract, retry, timeout))
    }

    fn undo(&mut self, undo: &'a UndoWork, here: &Here<'_>, result: &StepResult) -> Option<Undo> {
        let no = self.number();
        let step_type = undo.type_name.value.as_str();
        let why = format!("`{}` is undone also if its outcome is unknown: it may have no result", here.id);
        self.know(here.id, result.clone());
        self.scope.set_standing(here.id, Standing::Maybe(why));
        let with = self.with(step_type, undo.with.as_ref(), undo.type_name.span);
        self.scope.set_standing(here.id, Standing::Itself);
        let policy = self.policy(step_type, undo.retry.as_ref(), undo.timeout.as_ref());
        Some(Undo { no, contract: step_type.to_owned(), with: with?, policy: policy? })
    }

    /// The input of a task, as its contract wants it.
    fn with(&mut self, step_type: &str, with: Option<&With>, name: Span) -> Option<Expr> {
        let takes = self.folder.contracts.get(step_type).map(|contract| contract.takes.clone());
        let (entries, span) = with.map_or((&[][..], name), |with| (with.entries.as_slice(), with.key));
        match takes {
            Some(Takes::Known(record)) => {
                let owner = format!("the input of `{step_type}`");
                self.checker().record(entries, span, &record, &owner)
            }
            Some(Takes::Inferred) => {
                let own = input_name(step_type);
                let mut new = NewTypes { module: own.module, made: Vec::new() };
                let built = self.checker().record_of_any_type(entries, span, &own.name, &mut new);
                self.define(new);
                let takes = match built.as_ref().map(|built| &built.ty) {
                    Some(Type::Record(record)) => Takes::Known(record.clone()),
                    _ => Takes::Broken,
                };
                if let Some(contract) = self.folder.contracts.get_mut(step_type) {
                    contract.takes = takes;
                }
                built
            }
            Some(Takes::Broken) | None => {
                // The values may still have errors of their own.
                self.checker().record_of_any_type(entries, span, "Broken", &mut NewTypes::default());
                None
            }
        }
    }
}
