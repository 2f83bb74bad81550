//! `each` and `repeat`: bodies that run more than once.

use std::collections::BTreeSet;

use super::walk::{Here, Loop, Lowered, Walk};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::ir::{Expr, Type, Verb};
use crate::model::{Each, Expression, Repeat};
use crate::secrets::{self, Secrecy};
use crate::types::show;
use crate::typing::{Standing, StepResult};

impl<'a> Walk<'_, 'a> {
    /// What is the same after every round ends a loop after the first or never.
    fn until(&mut self, written: &Expression, inside: &BTreeSet<String>) -> Option<Expr> {
        let mut checker = self.checker();
        let ast = checker.parse(written)?;
        let until = checker.condition_of(&ast)?;
        if !ast.reads_of_loop(None, &|id| inside.contains(id)) {
            let message =
                "this `until` is the same after every round: it reads nothing of its loop";
            let diagnostic = Diagnostic::warning(codes::UNTIL_CONSTANT, ast.span, message);
            checker.sink.push(diagnostic.help("read the result of a step inside, or `now()`"));
        }
        Some(until)
    }

    pub(super) fn each(&mut self, each: &'a Each, here: &Here<'_>) -> Lowered {
        let mut checker = self.checker();
        let fresh = checker.fresh_name(&each.item.value, each.item.span);
        let list =
            checker.expression_of_any_type(&each.list).and_then(|(list, ast)| match &list.ty {
                Type::List(element) => Some(((**element).clone(), list)),
                Type::Optional(_) => {
                    checker.absent(
                        &list,
                        ast.span,
                        "`each` needs a list that cannot be absent",
                        "give it a default: `in: xs ?? []`",
                    );
                    None
                }
                other => {
                    let help = matches!(other, Type::Map(_))
                        .then(|| "a map has no order of work: return a list".to_owned());
                    checker.error(
                        codes::TYPE_MISMATCH,
                        ast.span,
                        format!("`each` goes over a list, not over {}", show(other)),
                        help,
                    );
                    None
                }
            });
        let ids = self.ids_in(&each.steps);
        let (item_type, list) = match list {
            Some((item_type, list)) if fresh.is_some() => (item_type, list),
            // Without the element's type every reader of it would be an error: the body waits until
            // this one is fixed.
            _ => {
                self.set_all(&ids, &Standing::InEach(here.id.to_owned()));
                return Lowered { verb: None, result: StepResult::Broken };
            }
        };
        let of_list = secrets::of(&list, &self.scope.secrets);
        self.scope.secrets.items.push((each.item.value.clone(), of_list.element()));
        self.scope.items.push((each.item.value.clone(), item_type.clone()));
        self.loops.push(Loop {
            item: Some(each.item.value.clone()),
            steps: ids.iter().cloned().collect(),
        });
        let steps = self.steps(&each.steps, here.path);
        self.loops.pop();
        let yields =
            each.yields.as_ref().map(|yields| self.checker().expression_of_any_type(yields));
        self.scope.items.pop();
        if let Some(Some((element, _))) = &yields {
            let yielded = Secrecy::elements(secrets::of(element, &self.scope.secrets));
            self.scope.secrets.steps.insert(here.id.to_owned(), yielded);
        }
        self.scope.secrets.items.pop();
        self.set_all(&ids, &Standing::InEach(here.id.to_owned()));
        let (yields, result) = match yields {
            None => (Some(None), StepResult::None("an `each` without `yield` has none".into())),
            Some(Some((element, _))) => {
                let result = StepResult::Type(Type::List(Box::new(element.ty.clone())));
                (Some(Some(element)), result)
            }
            Some(None) => (None, StepResult::Broken),
        };
        let verb = || {
            Some(Verb::Each {
                item: each.item.value.clone(),
                item_type,
                list,
                concurrency: each.concurrency.map_or(1, |concurrency| concurrency.value),
                steps: steps?,
                yields: yields?,
                timeout_ms: each.timeout_ms.map(|timeout| timeout.value),
            })
        };
        Lowered { verb: verb(), result }
    }

    pub(super) fn repeat(&mut self, repeat: &'a Repeat, here: &Here<'_>) -> Lowered {
        let ids: BTreeSet<String> = self.ids_in(&repeat.steps).into_iter().collect();
        self.loops.push(Loop { item: None, steps: ids.clone() });
        let steps = self.steps(&repeat.steps, here.path);
        self.loops.pop();
        let until = self.until(&repeat.until, &ids);
        let verb = || {
            Some(Verb::Repeat {
                until: until?,
                max: repeat.max.value,
                every_ms: repeat.every_ms.map_or(0, |every| every.value),
                steps: steps?,
                timeout_ms: repeat.timeout_ms.map(|timeout| timeout.value),
            })
        };
        Lowered {
            verb: verb(),
            result: StepResult::None("a `repeat` has none; read the steps inside".into()),
        }
    }
}
