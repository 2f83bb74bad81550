//! Reading: names, fields, elements and results of steps. Here is decided what a reader may see and
//! what may be absent for it.

use super::scope::Root;
use super::{Checker, Standing, StepResult, article};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::{Ast, Kind};
use crate::ir::{Expr, ExprKind, Record, Type, Value};
use crate::source::{Span, Spanned};
use crate::suggest::nearest;
use crate::types::{self, show};

impl Checker<'_> {
    pub(super) fn name(&mut self, name: &str, span: Span) -> Option<Expr> {
        if let Some(ty) = self.scope.item(name) {
            return Some(Expr {
                ty: ty.clone(),
                kind: ExprKind::Value(Value::Item(name.to_owned())),
            });
        }
        match name {
            "input" | "event" => {
                let input = name == "input";
                let value = if input { Value::Input } else { self.scope.event_value.clone() };
                match if input { &self.scope.input } else { &self.scope.event } {
                    Root::Known(ty) => {
                        return Some(Expr { ty: ty.clone(), kind: ExprKind::Value(value) });
                    }
                    Root::Broken => return None,
                    Root::Missing => {}
                }
            }
            "error" if self.scope.error => {
                return Some(Expr { ty: Type::Error, kind: ExprKind::Value(Value::Error) });
            }
            "steps" | "instance" | "config" if self.scope.names().contains(&name) => {
                let help = match name {
                    "steps" => "write `steps.ID`, with the id of a step",
                    "instance" => {
                        "write `instance.id`, `instance.request_id` or `instance.started_at`"
                    }
                    _ => "write `config.NAME`",
                };
                self.error(
                    codes::UNKNOWN_NAME,
                    span,
                    format!("`{name}` is not a value on its own"),
                    Some(help.into()),
                );
                return None;
            }
            _ => {}
        }
        self.unknown_name(name, span);
        None
    }

    fn unknown_name(&mut self, name: &str, span: Span) {
        let known = self.scope.names();
        let out_of_place = match name {
            "event" => Some("`event` is there in a wait's `where` and in a trigger's `with`"),
            "error" => Some("`error` is there inside a `catch`"),
            "input" => Some("in a trigger's `with` the input is not there yet: read `event`"),
            "steps" | "instance" | "config" => Some(
                "a trigger starts an instance: there are no steps, no instance and no configuration yet",
            ),
            _ => None,
        };
        let field = as_record(&self.scope.input).and_then(|input| types::field(input, name));
        let step = self.scope.steps.as_ref().is_some_and(|steps| steps.contains_key(name));
        let help = if let Some(reason) = out_of_place {
            reason.to_owned()
        } else if field.is_some() {
            format!("write `input.{name}`")
        } else if step {
            format!("write `steps.{name}`")
        } else if let Some(ours) = ours(name) {
            ours.to_owned()
        } else if let Some(near) = nearest(name, known.iter().copied()) {
            format!("did you mean `{near}`?")
        } else {
            format!("known here: {}; strings are quoted", known.join(", "))
        };
        self.error(codes::UNKNOWN_NAME, span, format!("there is no `{name}` here"), Some(help));
    }

    pub(super) fn field(
        &mut self,
        of: &Ast,
        name: &Spanned<String>,
        optional: bool,
        dot: Span,
    ) -> Option<Expr> {
        if let Kind::Name(root) = &of.kind
            && matches!(root.as_str(), "steps" | "instance" | "config")
            && self.scope.names().contains(&root.as_str())
        {
            if optional {
                self.error(
                    codes::NEVER_ABSENT,
                    dot,
                    format!("`{root}` is never absent"),
                    Some("write `.`".into()),
                );
                return None;
            }
            return match root.as_str() {
                "steps" => self.step(name),
                "config" => {
                    self.scope.config.insert(name.value.clone());
                    Some(Expr {
                        ty: Type::String,
                        kind: ExprKind::Value(Value::Config(name.value.clone())),
                    })
                }
                _ => self.instance(name),
            };
        }
        let of_expr = self.infer(of, None)?;
        if of_expr.ty.is_optional() != optional {
            if optional {
                let message =
                    format!("`?.` after what is never absent: this is {}", show(&of_expr.ty));
                let diagnostic = Diagnostic::error(codes::NEVER_ABSENT, dot, message)
                    .other(of.span, "always there");
                self.sink.push(diagnostic.help("write `.`"));
            } else {
                self.absent(
                    &of_expr,
                    of.span,
                    &format!("`.{}` needs it to be there", name.value),
                    &format!("write `?.{}`", name.value),
                );
            }
            return None;
        }
        let ty = self.field_type(&of_expr, of.span, name)?;
        let ty = if optional { ty.optional() } else { ty };
        Some(Expr {
            ty,
            kind: ExprKind::Field { of: Box::new(of_expr), name: name.value.clone(), optional },
        })
    }

    fn field_type(&mut self, of: &Expr, span: Span, name: &Spanned<String>) -> Option<Type> {
        let record = match of.ty.present() {
            Type::Record(record) => record,
            Type::Error => {
                if matches!(name.value.as_str(), "name" | "message") {
                    return Some(Type::String);
                }
                let help = "known are `error.name` and `error.message`".to_owned();
                self.error(
                    codes::UNKNOWN_FIELD,
                    name.span,
                    format!("an error has no field `{}`", name.value),
                    Some(help),
                );
                return None;
            }
            other => {
                let is_length = matches!(name.value.as_str(), "length" | "size" | "len" | "count");
                let help = match other {
                    Type::List(_) | Type::Map(_) if is_length => "write `size(…)`".to_owned(),
                    Type::Json => super::JSON_IS_OPAQUE.to_owned(),
                    Type::Map(_) => format!("write `[\"{}\"]`", name.value),
                    Type::List(_) => format!(
                        "write `[0]?.{0}` for one element, `.map(x, x.{0})` for all",
                        name.value
                    ),
                    _ if super::calls::is_method(&name.value) => {
                        format!("write `.{}()`", name.value)
                    }
                    _ if is_length => "write `size(…)`".to_owned(),
                    _ => "only records have fields".to_owned(),
                };
                let message = format!("{} has no field `{}`", article(&show(other)), name.value);
                let diagnostic = Diagnostic::error(codes::UNKNOWN_FIELD, name.span, message);
                self.sink.push(diagnostic.other(span, show(other)).help(help));
                return None;
            }
        };
        if let Some(field) = types::field(record, &name.value) {
            return Some(field.ty.clone());
        }
        self.unknown_field(record, name, &owner(of));
        None
    }

    /// Reports a field that a record does not have.
    pub(crate) fn unknown_field(&mut self, record: &Record, name: &Spanned<String>, owner: &str) {
        let names = || record.fields.iter().map(|field| field.name.as_str());
        let is_result = owner.starts_with("the result of")
            && matches!(name.value.as_str(), "output" | "outputs" | "result" | "results" | "data");
        let help = match nearest(&name.value, names()) {
            _ if is_result => {
                format!("leave `.{}` out: the fields of a result follow the step's id", name.value)
            }
            Some(near) => format!("did you mean `{near}`?"),
            None if record.fields.is_empty() => "it has no fields".into(),
            None => format!("its fields are {}", names().collect::<Vec<_>>().join(", ")),
        };
        let message = format!("there is no field `{}` in {owner}", name.value);
        self.error(codes::UNKNOWN_FIELD, name.span, message, Some(help));
    }

    fn instance(&mut self, name: &Spanned<String>) -> Option<Expr> {
        let (value, ty) = match name.value.as_str() {
            "id" => (Value::InstanceId, Type::String),
            "request_id" => (Value::RequestId, Type::String),
            "started_at" => (Value::StartedAt, Type::Timestamp),
            other => {
                let help = match nearest(other, ["id", "request_id", "started_at"]) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "known are `instance.id`, `instance.request_id` and `instance.started_at`"
                            .into()
                    }
                };
                self.error(
                    codes::UNKNOWN_FIELD,
                    name.span,
                    format!("there is no `instance.{other}`"),
                    Some(help),
                );
                return None;
            }
        };
        Some(Expr { ty, kind: ExprKind::Value(value) })
    }

    fn step(&mut self, id: &Spanned<String>) -> Option<Expr> {
        let steps = self.scope.steps.as_ref()?;
        let Some(known) = steps.get(&id.value) else {
            let help = match nearest(&id.value, steps.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "a result is read by the id of its step".into(),
            };
            self.error(
                codes::UNKNOWN_STEP,
                id.span,
                format!("there is no step `{}` in this workflow", id.value),
                Some(help),
            );
            return None;
        };
        let (step, place) = (&id.value, known.place);
        let refused = match &known.standing {
            Standing::Certain | Standing::Maybe(_) => None,
            Standing::Later => Some((
                codes::STEP_LATER,
                format!("`{step}` runs later"),
                "read results of steps that come before".to_owned(),
            )),
            Standing::Itself => Some((
                codes::STEP_LATER,
                format!("`{step}` has no result yet where it is read"),
                "the expression belongs to the step itself or to a step inside it".to_owned(),
            )),
            Standing::Failed => Some((
                codes::STEP_LATER,
                format!("`{step}` has failed here: it has no result"),
                "read `error.name` and `error.message`".to_owned(),
            )),
            Standing::OtherBranch(owner) => Some((
                codes::STEP_ELSEWHERE,
                format!("`{step}` is in another branch of `{owner}`"),
                format!("read it after `{owner}`, or move what needs it after `{step}`"),
            )),
            Standing::InEach(owner) => Some((
                codes::STEP_ELSEWHERE,
                format!(
                    "`{step}` runs once per element of `{owner}`: it has no single result outside"
                ),
                format!("give `{owner}` a `yield: steps.{step}` and read the list `steps.{owner}`"),
            )),
        };
        if let Some((code, message, help)) = refused {
            let diagnostic = Diagnostic::error(code, id.span, message)
                .other(place, format!("`{step}` is here"))
                .help(help);
            self.sink.push(diagnostic);
            return None;
        }
        let ty = match &known.result {
            StepResult::Broken => return None,
            StepResult::None(why) => {
                let diagnostic = Diagnostic::error(
                    codes::STEP_WITHOUT_RESULT,
                    id.span,
                    format!("`{step}` has no result"),
                );
                let diagnostic =
                    diagnostic.other(place, format!("`{step}` is here")).note(why.clone());
                self.sink.push(diagnostic);
                return None;
            }
            StepResult::Type(ty) => ty.clone(),
        };
        let ty = if known.standing == Standing::Certain { ty } else { ty.optional() };
        Some(Expr { ty, kind: ExprKind::Value(Value::Step(id.value.clone())) })
    }

    pub(super) fn index(&mut self, of: &Ast, index: &Ast) -> Option<Expr> {
        let of_expr = self.infer(of, None)?;
        let (wanted, element) = match &of_expr.ty {
            Type::List(element) => (Type::Integer, (**element).clone()),
            Type::Map(element) => (Type::String, (**element).clone()),
            Type::Optional(_) => {
                self.absent(
                    &of_expr,
                    of.span,
                    "`[…]` needs it to be there",
                    "give it a default: `(xs ?? [])[0]`",
                );
                return None;
            }
            other => {
                let help = match other {
                    Type::Record(_) => Some("write `.name`".to_owned()),
                    Type::Json => Some(super::JSON_IS_OPAQUE.to_owned()),
                    _ => None,
                };
                self.error(
                    codes::OPERAND_TYPE,
                    of.span,
                    format!("{} has no elements", article(&show(other))),
                    help,
                );
                return None;
            }
        };
        let index = self.check(index, &wanted)?;
        Some(Expr {
            ty: element.optional(),
            kind: ExprKind::Index { of: Box::new(of_expr), index: Box::new(index) },
        })
    }
}

/// What to write for a name of other systems and languages.
fn ours(name: &str) -> Option<&'static str> {
    Some(match name {
        "nil" | "None" | "undefined" | "NULL" | "Null" => "write `null`",
        "True" | "TRUE" => "write `true`",
        "False" | "FALSE" => "write `false`",
        "env" | "secrets" | "vars" => "write `config.NAME`: what comes from the configuration",
        "inputs" | "params" | "parameters" | "payload" | "body" | "request" => "write `input`",
        "workflow" | "context" | "ctx" | "github" => {
            "known of the instance are `instance.id`, `instance.request_id` and `instance.started_at`"
        }
        "outputs" | "results" | "needs" | "tasks" => {
            "results of steps are read by their ids: `steps.ID`"
        }
        _ => return None,
    })
}

fn as_record(root: &Root) -> Option<&Record> {
    if let Root::Known(Type::Record(record)) = root { Some(record) } else { None }
}

/// What a record is to the reader: what the step `pay` returns, rather than a list of fields.
fn owner(of: &Expr) -> String {
    match &of.kind {
        ExprKind::Value(Value::Input) => "the input".into(),
        ExprKind::Value(Value::Event | Value::TriggerEvent) => "the event".into(),
        ExprKind::Value(Value::Step(id)) => format!("the result of `{id}`"),
        _ => show(of.ty.present()),
    }
}
