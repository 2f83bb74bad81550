//! Functions: those that stand before their argument (`size(x)`) and those that follow their value
//! (`x.lower()`).

use super::{Checker, article, literals};
use crate::builtins::{self, Builtin, Form, Part};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::{Ast, Kind};
use crate::ir::{Expr, ExprKind, Function, Iterate, Type, Value};
use crate::names;
use crate::source::{Span, Spanned};
use crate::suggest::nearest;
use crate::types::{has_text, same, show};

/// What stands before its argument, `now()` among them.
fn functions() -> impl Iterator<Item = &'static str> {
    names_in(Form::Function).chain(["now"])
}

/// What follows its value, with those that take a body.
fn methods() -> impl Iterator<Item = &'static str> {
    names_in(Form::Method).chain(["map", "filter", "all", "exists"])
}

pub(super) fn is_method(name: &str) -> bool {
    methods().any(|method| method == name)
}

fn names_in(form: Form) -> impl Iterator<Item = &'static str> {
    let all = builtins::BUILTINS;
    let is_first = move |at: usize| at == 0 || all[at - 1].name != all[at].name;
    all.iter()
        .enumerate()
        .filter(move |(at, row)| row.form == form && is_first(*at))
        .map(|(_, row)| row.name)
}

impl Checker<'_> {
    pub(super) fn function(
        &mut self,
        name: &Spanned<String>,
        args: &[Ast],
        span: Span,
    ) -> Option<Expr> {
        match name.value.as_str() {
            "now" => {
                self.count(name, args, 0, "now()")?;
                if !self.scope.now {
                    let help = "a request that is sent again must start the same instance: inside the workflow \
                                `instance.started_at` says when it began";
                    self.error(
                        codes::UNKNOWN_NAME,
                        name.span,
                        "a trigger cannot read `now()`",
                        Some(help.into()),
                    );
                    return None;
                }
                Some(Expr { ty: Type::Timestamp, kind: ExprKind::Value(Value::Now) })
            }
            "size" => {
                let [of] = self.exactly(name, args, "size(x)")?;
                let of_expr = self.present(of, "size(x ?? [])")?;
                let Some(row) = builtins::row(Function::Size, &of_expr.ty) else {
                    let takes = builtins::named(Form::Function, "size")
                        .next()
                        .map_or("", |row| row.takes_words);
                    self.wrong_argument(of.span, "size", takes, &of_expr);
                    return None;
                };
                let result = row.gives(&of_expr.ty);
                Some(call(row.function, vec![of_expr], result))
            }
            "has" => self.has(name, args),
            "string" | "integer" | "number" | "timestamp" | "duration" => {
                self.conversion(name, args, span)
            }
            other => {
                let help = if is_method(other) {
                    format!("it follows its value: `x.{other}(…)`")
                } else if let Some(ours) = ours(other) {
                    ours.to_owned()
                } else if let Some(near) = nearest(other, functions().chain(methods())) {
                    format!("did you mean `{near}`?")
                } else {
                    format!(
                        "known are {}; anything else is a step",
                        functions().collect::<Vec<_>>().join(", ")
                    )
                };
                self.error(
                    codes::UNKNOWN_FUNCTION,
                    name.span,
                    format!("there is no function `{other}(…)`"),
                    Some(help),
                );
                None
            }
        }
    }

    fn has(&mut self, name: &Spanned<String>, args: &[Ast]) -> Option<Expr> {
        match args {
            [of] => {
                let of_expr = self.infer(of, None)?;
                if !of_expr.ty.is_optional() {
                    let message = format!("this is never absent: it is {}", show(&of_expr.ty));
                    let help = match of_expr.ty {
                        Type::Json => "ask for a key: `has(x, \"key\")`",
                        _ => "leave `has` out: it is always true",
                    };
                    self.error(codes::NEVER_ABSENT, of.span, message, Some(help.into()));
                    return None;
                }
                Some(call(Function::Has, vec![of_expr], Type::Boolean))
            }
            [of, key] => {
                let of_expr = self.present(of, "has(x, \"key\") needs x to be there")?;
                if of_expr.ty != Type::Json {
                    let help = match of_expr.ty {
                        Type::Map(_) => Some("write `key in map`".to_owned()),
                        Type::Record(_) => Some("write `has(x.field)`".to_owned()),
                        _ => None,
                    };
                    self.error(
                        codes::FUNCTION_ARGUMENTS,
                        of.span,
                        format!(
                            "`has` with a key looks into json, not into {}",
                            article(&show(&of_expr.ty))
                        ),
                        help,
                    );
                    return None;
                }
                let key = self.check(key, &Type::String)?;
                Some(call(Function::Has, vec![of_expr, key], Type::Boolean))
            }
            _ => {
                self.wrong_count(name, args.len(), "has(x)` or `has(json, \"key\")");
                None
            }
        }
    }

    fn conversion(&mut self, name: &Spanned<String>, args: &[Ast], span: Span) -> Option<Expr> {
        let [of] = self.exactly(name, args, &format!("{}(x)", name.value))?;
        let (function, ty) = match name.value.as_str() {
            "string" => (Function::ToString, Type::String),
            "integer" => (Function::ToInteger, Type::Integer),
            "number" => (Function::ToNumber, Type::Number),
            "timestamp" => (Function::ToTimestamp, Type::Timestamp),
            _ => (Function::ToDuration, Type::Duration),
        };
        if let Kind::Text(value) = &of.kind
            && function != Function::ToString
        {
            return match literals::convert(value, &ty) {
                Ok(kind) => Some(Expr { ty, kind }),
                Err(why) => {
                    self.not_convertible(of.span, value, &ty, &why);
                    None
                }
            };
        }
        let of_expr = self.present(of, &format!("give it a default: `{}(x ?? …)`", name.value))?;
        if same(&of_expr.ty, &ty) {
            let help = Some("leave the conversion out".into());
            self.error(
                codes::FUNCTION_ARGUMENTS,
                span,
                format!("this is {} already", article(&show(&ty))),
                help,
            );
            return None;
        }
        let mut rows = builtins::named(Form::Function, &name.value);
        let Some(row) = rows.find(|row| row.takes.accepts(&of_expr.ty)) else {
            let takes = builtins::named(Form::Function, &name.value)
                .next()
                .map_or("", |row| row.takes_words);
            self.wrong_argument(of.span, &name.value, takes, &of_expr);
            return None;
        };
        let result = row.gives(&of_expr.ty);
        Some(call(function, vec![of_expr], result))
    }

    pub(super) fn method(
        &mut self,
        receiver: &Ast,
        name: &Spanned<String>,
        args: &[Ast],
    ) -> Option<Expr> {
        let method = name.value.as_str();
        if !is_method(method) {
            let help = if functions().any(|name| name == method) {
                format!("it goes before its argument: `{method}(x)`")
            } else if let Some(ours) = ours(method) {
                ours.to_owned()
            } else if let Some(near) = nearest(method, methods().chain(functions())) {
                format!("did you mean `{near}`?")
            } else {
                format!(
                    "known are {}; anything else is a step",
                    methods().collect::<Vec<_>>().join(", ")
                )
            };
            self.error(
                codes::UNKNOWN_FUNCTION,
                name.span,
                format!("there is no function `.{method}(…)`"),
                Some(help),
            );
            return None;
        }
        let of = self.present(receiver, &format!("give it a default: `(x ?? …).{method}(…)`"))?;
        if let Some(row) =
            builtins::named(Form::Method, method).find(|row| row.takes.accepts(&of.ty))
        {
            return self.builtin(row, of, name, args);
        }
        match (method, &of.ty) {
            ("map" | "filter" | "all" | "exists", Type::List(element)) => {
                let element = (**element).clone();
                self.iterate(of, element, name, args)
            }
            _ => {
                let follows = builtins::named(Form::Method, method)
                    .next()
                    .map_or("a list", |row| row.takes_words);
                let message =
                    format!("`.{method}(…)` follows {follows}, not {}", article(&show(&of.ty)));
                let diagnostic = Diagnostic::error(codes::FUNCTION_ARGUMENTS, name.span, message)
                    .other(receiver.span, show(&of.ty));
                let help = match (method, &of.ty) {
                    ("join", Type::List(element)) if has_text(element) => {
                        Some("write `xs.map(x, string(x)).join(…)`")
                    }
                    (_, Type::List(element)) if element.is_optional() => {
                        Some("some elements may be absent: `xs.map(x, x ?? …)` first")
                    }
                    _ => None,
                };
                self.sink.push(help.into_iter().fold(diagnostic, Diagnostic::help));
                None
            }
        }
    }

    /// A method of the table, `of` being what it follows.
    fn builtin(
        &mut self,
        row: &Builtin,
        of: Expr,
        name: &Spanned<String>,
        args: &[Ast],
    ) -> Option<Expr> {
        self.count(name, args, row.parts.len(), row.usage)?;
        let (result, mut all) = (row.gives(&of.ty), vec![of]);
        for (part, arg) in row.parts.iter().zip(args) {
            let wanted = match (part, &all[0].ty) {
                (Part::Element, Type::List(element)) => (**element).clone(),
                (Part::String | Part::Element, _) => Type::String,
            };
            all.push(self.check(arg, &wanted)?);
        }
        Some(call(row.function, all, result))
    }

    fn iterate(
        &mut self,
        over: Expr,
        element: Type,
        name: &Spanned<String>,
        args: &[Ast],
    ) -> Option<Expr> {
        let method = name.value.as_str();
        let [variable, body] = self.exactly(name, args, &format!("xs.{method}(x, …)"))?;
        let Kind::Name(variable_name) = &variable.kind else {
            let help =
                Some(format!("write `xs.{method}(x, …)`, where `x` stands for each element"));
            self.error(
                codes::FUNCTION_ARGUMENTS,
                variable.span,
                "the first argument is the name of the element",
                help,
            );
            return None;
        };
        self.fresh_name(variable_name, variable.span)?;
        self.scope.items.push((variable_name.clone(), element));
        let body = if method == "map" { self.infer(body, None) } else { self.condition_of(body) };
        self.scope.items.pop();
        let body = body?;
        let (how, ty) = match method {
            "map" => (Iterate::Map, Type::List(Box::new(body.ty.clone()))),
            "filter" => (Iterate::Filter, over.ty.clone()),
            "all" => (Iterate::All, Type::Boolean),
            _ => (Iterate::Exists, Type::Boolean),
        };
        let kind = ExprKind::Iterate {
            how,
            over: Box::new(over),
            variable: variable_name.clone(),
            body: Box::new(body),
        };
        Some(Expr { ty, kind })
    }

    /// A name for an element must not hide another: what an expression reads is always the nearest
    /// and the only one.
    pub(crate) fn fresh_name(&mut self, name: &str, span: Span) -> Option<()> {
        let taken = if super::scope::ROOTS.contains(&name) {
            format!("`{name}` means something in every expression")
        } else if let Some((item, _)) =
            self.scope.items.iter().find(|(item, _)| names::field(item) == names::field(name))
        {
            // Also if only their Rust names are one: the inner would hide the outer in silence.
            format!("`{item}` is an element already")
        } else {
            return Some(());
        };
        self.error(
            codes::NAME_TAKEN,
            span,
            taken,
            Some("choose another name for the element".into()),
        );
        None
    }

    fn present(&mut self, ast: &Ast, help: &str) -> Option<Expr> {
        let found = self.infer(ast, None)?;
        if found.ty.is_optional() {
            self.absent(&found, ast.span, "a function needs a value that cannot be absent", help);
            return None;
        }
        Some(found)
    }

    fn exactly<'a, const N: usize>(
        &mut self,
        name: &Spanned<String>,
        args: &'a [Ast],
        form: &str,
    ) -> Option<&'a [Ast; N]> {
        self.count(name, args, N, form)?;
        args.try_into().ok()
    }

    fn count(
        &mut self,
        name: &Spanned<String>,
        args: &[Ast],
        wanted: usize,
        form: &str,
    ) -> Option<()> {
        if args.len() == wanted {
            return Some(());
        }
        self.wrong_count(name, args.len(), form);
        None
    }

    fn wrong_count(&mut self, name: &Spanned<String>, found: usize, form: &str) {
        let arguments = if found == 1 { "argument" } else { "arguments" };
        self.error(
            codes::FUNCTION_ARGUMENTS,
            name.span,
            format!("`{}` does not take {found} {arguments}", name.value),
            Some(format!("write `{form}`")),
        );
    }

    fn wrong_argument(&mut self, span: Span, function: &str, takes: &str, found: &Expr) {
        let message = format!("`{function}` takes {takes}, not {}", article(&show(&found.ty)));
        self.sink.push(
            Diagnostic::error(codes::FUNCTION_ARGUMENTS, span, message)
                .label(format!("this is {}", show(&found.ty))),
        );
    }
}

/// What to write for a function of other languages.
fn ours(function: &str) -> Option<&'static str> {
    Some(match function {
        "len" | "length" | "count" => "write `size(x)`",
        "int" | "parseInt" | "toInt" | "Integer" => "write `integer(x)`",
        "float" | "double" | "decimal" | "parseFloat" | "Number" => "write `number(x)`",
        "str" | "toString" | "String" => "write `string(x)`",
        "date" | "datetime" | "Date" | "parseDate" => "write `timestamp(x)`",
        "format" | "concat" | "sprintf" => {
            "write a string with `${…}` in it, or join strings with `+`"
        }
        "toUpper" | "toUpperCase" | "upcase" => "write `x.upper()`",
        "toLower" | "toLowerCase" | "downcase" => "write `x.lower()`",
        "includes" | "indexOf" => "write `x.contains(y)`",
        "some" | "any" => "write `xs.exists(x, …)`",
        "every" => "write `xs.all(x, …)`",
        "select" | "collect" => "write `xs.map(x, …)`",
        "coalesce" | "default" | "ifNull" | "nvl" | "orElse" => "write `x ?? default`",
        "isNull" | "isEmpty" | "defined" | "isset" => {
            "write `has(x)` for what may be absent, `size(x) == 0` for what may be empty"
        }
        "success" | "always" => "leave it out: a step runs when those before it are done",
        "failure" | "cancelled" => {
            "what is done after a failure belongs in the `catch` of the step"
        }
        "toJSON" | "toJson" | "fromJSON" | "fromJson" | "json" => {
            "values are passed on as they are; a step reads what is in json"
        }
        "uuid" | "random" | "rand" => {
            "nothing here is random: `instance.id` is another one for each instance"
        }
        _ => return None,
    })
}

fn call(function: Function, args: Vec<Expr>, ty: Type) -> Expr {
    Expr { ty, kind: ExprKind::Call { function, args } }
}
