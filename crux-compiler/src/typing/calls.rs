//! Functions: those that stand before their argument (`size(x)`) and those that follow their value
//! (`x.lower()`).

use super::{Checker, article, literals};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::expr::{Ast, Kind};
use crate::ir::{Expr, ExprKind, Function, Iterate, Type, Value};
use crate::names;
use crate::source::{Span, Spanned};
use crate::suggest::nearest;
use crate::types::{has_text, same, show};

pub(super) const FUNCTIONS: [&str; 8] =
    ["size", "has", "string", "integer", "number", "timestamp", "duration", "now"];
pub(super) const METHODS: [&str; 13] = [
    "contains",
    "startsWith",
    "endsWith",
    "lower",
    "upper",
    "join",
    "map",
    "filter",
    "all",
    "exists",
    "sum",
    "min",
    "max",
];

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
                if !matches!(of_expr.ty, Type::String | Type::List(_) | Type::Map(_)) {
                    self.wrong_argument(of.span, "size", "a string, a list or a map", &of_expr);
                    return None;
                }
                Some(call(Function::Size, vec![of_expr], Type::Integer))
            }
            "has" => self.has(name, args),
            "string" | "integer" | "number" | "timestamp" | "duration" => {
                self.conversion(name, args, span)
            }
            other => {
                let help = if METHODS.contains(&other) {
                    format!("it follows its value: `x.{other}(…)`")
                } else if let Some(ours) = ours(other) {
                    ours.to_owned()
                } else if let Some(near) = nearest(other, FUNCTIONS.into_iter().chain(METHODS)) {
                    format!("did you mean `{near}`?")
                } else {
                    format!("known are {}; anything else is a step", FUNCTIONS.join(", "))
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
        let result = match (function, &of_expr.ty) {
            (Function::ToString, from) if has_text(from) => ty,
            (Function::ToInteger, Type::Number) | (Function::ToNumber, Type::Integer) => ty,
            (
                Function::ToInteger
                | Function::ToNumber
                | Function::ToTimestamp
                | Function::ToDuration,
                Type::String,
            ) => ty.optional(),
            _ => {
                let takes = match function {
                    Function::ToString => {
                        "integer, number, boolean, timestamp, duration or an enum value"
                    }
                    Function::ToInteger => "number or string",
                    Function::ToNumber => "integer or string",
                    _ => "string",
                };
                self.wrong_argument(of.span, &name.value, takes, &of_expr);
                return None;
            }
        };
        Some(call(function, vec![of_expr], result))
    }

    pub(super) fn method(
        &mut self,
        receiver: &Ast,
        name: &Spanned<String>,
        args: &[Ast],
    ) -> Option<Expr> {
        let method = name.value.as_str();
        if !METHODS.contains(&method) {
            let help = if FUNCTIONS.contains(&method) {
                format!("it goes before its argument: `{method}(x)`")
            } else if let Some(ours) = ours(method) {
                ours.to_owned()
            } else if let Some(near) = nearest(method, METHODS.into_iter().chain(FUNCTIONS)) {
                format!("did you mean `{near}`?")
            } else {
                format!("known are {}; anything else is a step", METHODS.join(", "))
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
        match (method, &of.ty) {
            ("map" | "filter" | "all" | "exists", Type::List(element)) => {
                let element = (**element).clone();
                self.iterate(of, element, name, args)
            }
            ("contains", Type::List(element)) => {
                let element = (**element).clone();
                let [part] = self.exactly(name, args, "xs.contains(x)")?;
                let part = self.check(part, &element)?;
                Some(call(Function::Contains, vec![of, part], Type::Boolean))
            }
            ("contains" | "startsWith" | "endsWith", Type::String) => {
                let [part] = self.exactly(name, args, &format!("text.{method}(part)"))?;
                let part = self.check(part, &Type::String)?;
                let function = match method {
                    "contains" => Function::Contains,
                    "startsWith" => Function::StartsWith,
                    _ => Function::EndsWith,
                };
                Some(call(function, vec![of, part], Type::Boolean))
            }
            ("lower" | "upper", Type::String) => {
                self.count(name, args, 0, &format!("text.{method}()"))?;
                Some(call(
                    if method == "lower" { Function::Lower } else { Function::Upper },
                    vec![of],
                    Type::String,
                ))
            }
            ("join", Type::List(element)) if **element == Type::String => {
                let [separator] = self.exactly(name, args, "xs.join(\", \")")?;
                let separator = self.check(separator, &Type::String)?;
                Some(call(Function::Join, vec![of, separator], Type::String))
            }
            ("sum", Type::List(element)) if matches!(**element, Type::Integer | Type::Number) => {
                let ty = (**element).clone();
                self.count(name, args, 0, "xs.sum()")?;
                Some(call(Function::Sum, vec![of], ty))
            }
            ("min" | "max", Type::List(element))
                if matches!(
                    **element,
                    Type::Integer | Type::Number | Type::Timestamp | Type::Duration
                ) =>
            {
                let ty = (**element).clone().optional();
                self.count(name, args, 0, &format!("xs.{method}()"))?;
                Some(call(
                    if method == "min" { Function::Min } else { Function::Max },
                    vec![of],
                    ty,
                ))
            }
            _ => {
                let follows = match method {
                    "map" | "filter" | "all" | "exists" => "a list",
                    "contains" => "a string or a list",
                    "join" => "a list<string>",
                    "sum" => "a list of integers or numbers",
                    "min" | "max" => "a list of integers, numbers, timestamps or durations",
                    _ => "a string",
                };
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
