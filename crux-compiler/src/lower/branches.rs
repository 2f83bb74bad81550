//! Groups, parallel branches and switches. Branches do not see each other; what is certain behind
//! them differs by verb.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::{Here, Lowered, Walk};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::ir::{Branch, Case, Expr, ExprKind, Node, Op, Type, Verb};
use crate::model::{self, Expression, MatchCase, Otherwise, Step, SwitchCase};
use crate::source::Span;
use crate::suggest::nearest;
use crate::types::show;
use crate::typing::{Standing, StepResult};

fn no_result(verb: &str) -> StepResult {
    StepResult::None(format!("a {verb} has none; read the steps inside"))
}

impl<'a> Walk<'_, 'a> {
    pub(super) fn group(
        &mut self,
        steps: &'a [Step],
        timeout_ms: Option<u64>,
        here: &Here<'_>,
    ) -> Lowered {
        let steps = self.steps(steps, here.path);
        Lowered {
            verb: steps.map(|steps| Verb::Group { steps, timeout_ms }),
            result: no_result("group"),
        }
    }

    /// Lists of steps of which none can read another.
    pub(super) fn each_branch(
        &mut self,
        lists: &[&'a [Step]],
        here: &Here<'_>,
    ) -> Vec<Option<Vec<Node>>> {
        let elsewhere = Standing::OtherBranch(here.id.to_owned());
        // All are out of reach but for the one at hand, so that the work grows with the steps and
        // not with their square.
        let mut aside = Vec::new();
        for list in lists {
            let ids = self.ids_in(list);
            aside.push(self.set_all(&ids, &elsewhere));
        }
        let mut lowered = Vec::new();
        for (list, own) in lists.iter().zip(&mut aside) {
            let ids: Vec<String> = own.iter().map(|(id, _)| id.clone()).collect();
            self.restore(std::mem::take(own));
            lowered.push(self.steps(list, here.path));
            *own = self.set_all(&ids, &elsewhere);
        }
        for own in aside {
            self.restore(own);
        }
        lowered
    }

    pub(super) fn parallel(
        &mut self,
        branches: &'a [model::Branch],
        timeout_ms: Option<u64>,
        here: &Here<'_>,
    ) -> Lowered {
        let lists: Vec<&'a [Step]> =
            branches.iter().map(|branch| branch.steps.as_slice()).collect();
        let lowered = self.each_branch(&lists, here);
        let branches = branches
            .iter()
            .zip(lowered)
            .map(|(branch, steps)| Some(Branch { name: branch.name.value.clone(), steps: steps? }));
        let branches: Option<Vec<Branch>> = branches.collect();
        Lowered {
            verb: branches.map(|branches| Verb::Parallel { branches, timeout_ms }),
            result: no_result("`parallel`"),
        }
    }

    pub(super) fn switch(
        &mut self,
        cases: &'a [SwitchCase],
        otherwise: Option<&'a Otherwise>,
        here: &Here<'_>,
    ) -> Lowered {
        // Before any branch: no condition sees into one.
        let conditions: Vec<Option<Expr>> =
            cases.iter().map(|case| self.checker().condition(&case.when)).collect();
        for (at, (condition, case)) in conditions.iter().zip(cases).enumerate() {
            let earlier = conditions
                .iter()
                .zip(cases)
                .take(at)
                .find(|(earlier, _)| condition.is_some() && *earlier == condition);
            if let Some((_, earlier)) = earlier {
                let message = "this branch is never taken: an earlier one has the same condition";
                let diagnostic =
                    Diagnostic::warning(codes::CONDITION_TWICE, case.when.span, message);
                self.sink.push(
                    diagnostic
                        .other(earlier.when.span, "taken first")
                        .help("put the steps together, or change one condition"),
                );
            }
        }
        let lists = cases.iter().map(|case| case.steps.as_slice()).collect();
        self.cases(conditions, lists, otherwise, here)
    }

    fn cases(
        &mut self,
        conditions: Vec<Option<Expr>>,
        mut lists: Vec<&'a [Step]>,
        otherwise: Option<&'a Otherwise>,
        here: &Here<'_>,
    ) -> Lowered {
        lists.extend(otherwise.map(|otherwise| otherwise.steps.as_slice()));
        let lowered = self.each_branch(&lists, here);
        for list in &lists {
            let ids = self.ids_in(list);
            self.perhaps(&ids, |inner| {
                format!("`{inner}` is in a branch of `{}`, which may not be taken", here.id)
            });
        }
        let conditions = conditions
            .into_iter()
            .map(|condition| condition.map(Some))
            .chain(otherwise.map(|_| Some(None)));
        let branches: Option<Vec<Case>> = conditions
            .zip(lowered)
            .map(|(when, steps)| Some(Case { when: when?, steps: steps? }))
            .collect();
        Lowered {
            verb: branches.map(|branches| Verb::Switch { branches }),
            result: no_result("`switch`"),
        }
    }

    pub(super) fn switch_by_value(
        &mut self,
        value: &'a Expression,
        cases: &'a [MatchCase],
        otherwise: Option<&'a Otherwise>,
        key: Span,
        here: &Here<'_>,
    ) -> Lowered {
        let compared = self.compared(value);
        self.refuse_twice(cases, compared.as_ref().map(|compared| &compared.ty));
        let conditions: Vec<Option<Expr>> = match &compared {
            Some(compared) => {
                let conditions = cases.iter().map(|case| self.equals(compared, case)).collect();
                self.cover(&compared.ty, cases, otherwise, key);
                conditions
            }
            None => cases.iter().map(|_| None).collect(),
        };
        let lists = cases.iter().map(|case| case.steps.as_slice()).collect();
        self.cases(conditions, lists, otherwise, here)
    }

    /// The value that a switch looks at.
    fn compared(&mut self, value: &Expression) -> Option<Expr> {
        let mut checker = self.checker();
        let (found, ast) = checker.expression_of_any_type(value)?;
        if ast.is_literal() {
            let help = Some("look at `input` or at the result of a step".into());
            checker.error(
                codes::CONDITION_LITERAL,
                ast.span,
                "this value is a literal: it never changes",
                help,
            );
            return None;
        }
        if found.ty.is_optional() {
            checker.absent(
                &found,
                ast.span,
                "`switch` needs a value that cannot be absent",
                "give it a default: `value: … ?? default`",
            );
            return None;
        }
        if !matches!(found.ty, Type::Enum(_) | Type::String | Type::Integer) {
            let message = format!(
                "`switch` by value takes an enum, a string or an integer, not {}",
                show(&found.ty)
            );
            checker.error(
                codes::OPERAND_TYPE,
                ast.span,
                message,
                Some("write `switch` as a list of `when` and `steps`".into()),
            );
            return None;
        }
        Some(found)
    }

    fn equals(&mut self, value: &Expr, case: &MatchCase) -> Option<Expr> {
        let written = &case.value.value;
        let kind = match &value.ty {
            Type::Enum(words) => {
                if !words.words.contains(written) {
                    let help = match nearest(written, words.words.iter().map(String::as_str)) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("its values are {}", words.words.join(", ")),
                    };
                    let message = words.refusal(written);
                    self.sink.push(
                        Diagnostic::error(codes::ENUM_WORD, case.value.span, message).help(help),
                    );
                    return None;
                }
                ExprKind::Word(written.clone())
            }
            Type::Integer => match written.parse() {
                Ok(integer) => ExprKind::Integer(integer),
                Err(_) => {
                    let message = format!("`{written}` is not an integer, and the value is one");
                    self.sink.push(
                        Diagnostic::error(codes::TYPE_MISMATCH, case.value.span, message)
                            .label("not an integer"),
                    );
                    return None;
                }
            },
            _ => ExprKind::Text(written.clone()),
        };
        let literal = Expr { ty: value.ty.clone(), kind };
        let kind = ExprKind::Binary {
            op: Op::Equal,
            left: Box::new(value.clone()),
            right: Box::new(literal),
        };
        Some(Expr { ty: Type::Boolean, kind })
    }

    fn refuse_twice(&mut self, cases: &[MatchCase], ty: Option<&Type>) {
        let mut first: BTreeMap<String, Span> = BTreeMap::new();
        for case in cases {
            // Of integers `1` and `01` are one value.
            let integer = (ty == Some(&Type::Integer))
                .then(|| case.value.value.parse::<i64>().ok())
                .flatten();
            let value =
                integer.map_or_else(|| case.value.value.clone(), |integer| integer.to_string());
            if let Some(first) = first.get(&value) {
                let message = format!("`{}` has two cases", case.value.value);
                let diagnostic = Diagnostic::error(codes::CASE_TWICE, case.value.span, message)
                    .other(*first, "first here");
                self.sink.push(diagnostic.help("the first one is taken: put the steps together"));
            }
            first.entry(value).or_insert(case.value.span);
        }
    }

    fn cover(&mut self, ty: &Type, cases: &[MatchCase], otherwise: Option<&Otherwise>, key: Span) {
        let Type::Enum(words) = ty else {
            if otherwise.is_none() {
                let message = format!(
                    "a `switch` over {} needs an `else`: its values cannot all be named",
                    show(ty)
                );
                self.sink.push(
                    Diagnostic::error(codes::ELSE_MISSING, key, message)
                        .help("add `else: [...]`, which may be empty"),
                );
            }
            return;
        };
        let named: BTreeSet<&str> = cases.iter().map(|case| case.value.value.as_str()).collect();
        let left: Vec<&str> =
            words.words.iter().map(String::as_str).filter(|word| !named.contains(word)).collect();
        match otherwise {
            None if !left.is_empty() => {
                let named =
                    left.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
                let message = format!("no case for {named}");
                let help = format!(
                    "add `{}: [...]`, which may be empty, or an `else`",
                    left.first().copied().unwrap_or_default()
                );
                self.sink.push(
                    Diagnostic::error(codes::CASE_MISSING, key, message)
                        .label(format!("looks at {}", show(ty)))
                        .help(help),
                );
            }
            Some(otherwise) if left.is_empty() => {
                let diagnostic = Diagnostic::error(
                    codes::ELSE_NEVER,
                    otherwise.key,
                    "unreachable `else`: all values have a case",
                );
                self.sink.push(
                    diagnostic
                        .help("leave it out; a value that is added later is then an error here"),
                );
            }
            _ => {}
        }
    }
}
