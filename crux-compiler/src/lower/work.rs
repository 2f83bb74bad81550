//! Work: a task with its input, policy and undo. Where a contract does not say what it takes,
//! `with` says it here.

use super::secrecy;
use super::walk::{Here, Lowered, Walk};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::Ast;
use crate::expr::template::{Part, Template, split};
use crate::ir::{EffectKind, Expr, Node, Policy, Task, Type, Undo, Verb};
use crate::model::{self, UndoWork, With, Work};
use crate::resolve::contracts::input_name;
use crate::resolve::{Returns, Takes, policy};
use crate::source::Span;
use crate::text::Text;
use crate::typing::{NewTypes, Standing, StepResult};

impl<'a> Walk<'_, 'a> {
    pub(super) fn work(&mut self, work: &'a Work, here: &Here<'_>) -> Lowered {
        let step_type = work.type_name.value.as_str();
        let result =
            match self.folder.contracts.get(step_type).map(|contract| contract.returns.clone()) {
                Some(Returns::Record(record)) => StepResult::Type(Type::Record(record)),
                Some(Returns::Nothing) => {
                    StepResult::None(format!("`{step_type}` declares no `returns`"))
                }
                Some(Returns::Broken) | None => StepResult::Broken,
            };
        let then = work.steps.as_ref().filter(|steps| !steps.is_empty());
        let inner_no = then.map(|_| self.number());
        let with = self.with(step_type, work.with.as_ref(), work.type_name.span);
        let key = match &work.key {
            None => Some(None),
            Some(key) => self.key(key, step_type).map(Some),
        };
        let undo = match &work.undo {
            None | Some(model::Undo::NotNeeded(_)) => Some(None),
            Some(model::Undo::By(undo)) => self.undo(undo, here, &result).map(Some),
        };
        let policy = self.policy(step_type, work.retry.as_ref(), work.timeout.as_ref());
        let task = || {
            Some(Task {
                contract: step_type.to_owned(),
                with: with?,
                policy: policy?,
                key: key?,
                undo: undo?,
            })
        };
        let task = task().map(Verb::Task);
        let (Some(steps), Some(no)) = (then, inner_no) else {
            return Lowered { verb: task, result };
        };
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

    /// A key by which a receiver knows a repetition: one that is the same for different tasks makes
    /// all of them but the first undone.
    fn key(&mut self, key: &Text, step_type: &str) -> Option<Expr> {
        let asts = match split(key) {
            Ok(Template::Text(_)) => Vec::new(),
            Ok(Template::Whole(ast)) => vec![ast],
            Ok(Template::Mixed(parts)) => {
                let value = |part| if let Part::Value(ast) = part { Some(ast) } else { None };
                parts.into_iter().filter_map(value).collect()
            }
            // Reported below.
            Err(_) => return self.checker().template(key, &Type::String),
        };
        if !asts.iter().any(Ast::reads_something) {
            self.constant_key(key);
            return None;
        }
        let lowered = self.checker().template(key, &Type::String)?;
        self.refuse_secret(&lowered, key.span, "a `key`, which receivers keep")?;
        self.key_in_loop(key, &asts, step_type)?;
        Some(lowered)
    }

    fn constant_key(&mut self, key: &Text) {
        let diagnostic = if key.value.trim().is_empty() {
            Diagnostic::error(codes::KEY_CONSTANT, key.span, "this `key` is empty")
        } else {
            let message = "this `key` is a constant string: all tasks of this step have it, and a receiver does the first one only";
            Diagnostic::error(codes::KEY_CONSTANT, key.span, message).label("nothing in it varies")
        };
        let help = match self.checker().meant(key) {
            Some(meant) => format!("for the value of the expression write `key: {meant}`"),
            None => "name what the task is about, as in `key: charge/${input.orderId}`; without a `key` it is instance and step".to_owned(),
        };
        self.sink.push(diagnostic.help(help));
    }

    /// In a loop a key names the element or something of the round.
    fn key_in_loop(&mut self, key: &Text, asts: &[Ast], step_type: &str) -> Option<()> {
        // The elements of an `each` differ, so that naming one of them is enough also where rounds
        // are around or inside.
        let innermost =
            self.loops.iter().rev().find(|around| around.item.is_some()).or(self.loops.last());
        let Some(innermost) = innermost else { return Some(()) };
        let item = innermost.item.as_deref();
        if asts.iter().any(|ast| ast.reads_of_loop(item, &|id| innermost.steps.contains(id))) {
            return Some(());
        }
        let (each, name) = match item {
            Some(item) => {
                ("element", format!("name the element, as in `${{{item}}}` or one of its fields"))
            }
            None => (
                "round",
                "name something of the round: the result of a step inside the loop".to_owned(),
            ),
        };
        let message =
            format!("this `key` is the same for every {each}: a receiver does the first one only");
        let is_once = self
            .folder
            .contracts
            .get(step_type)
            .is_some_and(|contract| contract.effect == EffectKind::Once);
        let diagnostic = if is_once { Diagnostic::error } else { Diagnostic::warning }(
            codes::KEY_OF_LOOP,
            key.span,
            message,
        );
        self.sink.push(
            diagnostic.help(format!("{name}; without a `key` it is instance, step and {each}")),
        );
        (!is_once).then_some(())
    }

    fn policy(
        &self,
        step_type: &str,
        retry: Option<&model::Retry>,
        timeout: Option<&model::Timeout>,
    ) -> Option<Policy> {
        let contract = self.folder.contracts.get(step_type)?;
        Some(policy::merge(contract, retry, timeout))
    }

    fn undo(&mut self, undo: &'a UndoWork, here: &Here<'_>, result: &StepResult) -> Option<Undo> {
        let no = self.number();
        let step_type = undo.type_name.value.as_str();
        let why = format!(
            "`{}` is undone also if its outcome is unknown: it may have no result",
            here.id
        );
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
        let (entries, span) =
            with.map_or((&[][..], name), |with| (with.entries.as_slice(), with.key));
        match takes {
            Some(Takes::Known(record)) => {
                let owner = format!("the input of `{step_type}`");
                let built = self.checker().record(entries, span, &record, &owner)?;
                secrecy::unmarked(&self.scope.secrets, self.sink, &built, &record, entries, &owner);
                Some(built)
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
                // The values may still have other errors.
                self.checker().record_of_any_type(
                    entries,
                    span,
                    "Broken",
                    &mut NewTypes::default(),
                );
                None
            }
        }
    }
}
