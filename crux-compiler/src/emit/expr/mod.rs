//! From checked expressions to Rust. An expression becomes [`Code`]: tokens, and what they are — a
//! place, something borrowed, a value — so that nothing is cloned before it is needed as an owned
//! value. What can fail ends in `?`; [`Writer::is_fallible`] says so afterwards.

mod call;
mod code;
mod coerce;
mod iterate;
mod operator;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::body::Reads;
use super::names::{variable, variant};
use super::paths::Module;
use crate::ir::{Expr, ExprKind, Type, Value};

pub(super) use code::{Code, Form, count, int, is_copy, number, time};

/// Where the values of the state are found.
pub(super) type Find<'f> = dyn Fn(&Value) -> Option<Code> + 'f;

/// Writes the expressions of one function.
pub(super) struct Writer<'w> {
    module: Module<'w>,
    find: &'w Find<'w>,
    is_taken: &'w dyn Fn(&Ident) -> bool,
    /// Variables of `map`, `filter` and so on: YAML name, Rust name, whether it is read.
    bound: Vec<(String, Ident, bool)>,
    /// What the expressions read besides the values of the state.
    pub(super) reads: Reads,
    /// How many `?` stand in what is written, those inside closures not counted.
    tries: usize,
}

impl<'w> Writer<'w> {
    pub(super) fn new(module: Module<'w>, find: &'w Find<'w>) -> Self {
        Self {
            module,
            find,
            is_taken: &|_| false,
            bound: Vec::new(),
            reads: Reads::NOTHING,
            tries: 0,
        }
    }

    /// Where values of the state are variables: `is_taken` knows their names.
    pub(super) fn among(self, is_taken: &'w dyn Fn(&Ident) -> bool) -> Self {
        Self { is_taken, ..self }
    }

    pub(super) fn is_fallible(&self) -> bool {
        self.tries > 0
    }

    /// Whether the `Result` of what has been written holds a `?`, which leaves what is around it.
    pub(super) fn leaves_early(&self, written: &Code) -> bool {
        self.tries > usize::from(written.is_tried())
    }

    /// A value that `result` gives, or the failure.
    fn tried(&mut self, result: TokenStream) -> Code {
        self.tries += 1;
        Code::tried(result)
    }

    /// Writes the body of a closure, and says whether it can fail: then it gives a `Result`, and no
    /// `?` in it leaves what is around the closure.
    fn in_closure<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = std::mem::take(&mut self.tries);
        let written = write(self);
        (written, std::mem::replace(&mut self.tries, before) > 0)
    }

    /// The value as one's own.
    pub(super) fn owned(&mut self, expr: &Expr) -> TokenStream {
        self.code(expr).owned(&expr.ty)
    }

    /// The same, as [`Code`].
    pub(super) fn owned_code(&mut self, expr: &Expr) -> Code {
        self.code(expr).into_owned(&expr.ty)
    }

    /// Its text, of a type that has one.
    pub(super) fn text(&mut self, expr: &Expr) -> Code {
        if expr.ty == Type::String {
            self.owned_code(expr)
        } else {
            self.interpolate(std::iter::once(expr)).into_owned(&Type::String)
        }
    }

    /// `!condition`.
    pub(super) fn negated(&mut self, condition: &Expr) -> TokenStream {
        self.not(condition).alone()
    }

    /// The same where it must bind as tightly as a call.
    fn owned_tight(&mut self, expr: &Expr) -> TokenStream {
        let code = self.code(expr);
        code.into_owned(&expr.ty).tight()
    }

    /// A list where a slice is wanted: `&list`, also behind an `Arc`.
    fn borrowed_list(&mut self, list: &Expr) -> TokenStream {
        let code = self.code(list);
        if code.form == Form::Shared { code.into_place().borrowed() } else { code.borrowed() }
    }

    /// `&T`, of a text `&str`.
    fn borrowed(&mut self, expr: &Expr) -> TokenStream {
        self.code(expr).borrowed()
    }

    pub(super) fn condition(&mut self, expr: &Expr) -> TokenStream {
        self.owned(expr)
    }

    fn code(&mut self, expr: &Expr) -> Code {
        match &expr.kind {
            ExprKind::Text(text) => Code::borrowed_text(quote!(#text)),
            ExprKind::Integer(value) => Code::value(int(*value)).signed(*value < 0),
            ExprKind::Number(value) => Code::value(number(*value)).signed(*value < 0.0),
            ExprKind::Boolean(value) => Code::value(quote!(#value)),
            ExprKind::Timestamp(microseconds) => {
                let microseconds = int(*microseconds);
                Code::value(quote!(machine::expr::timestamp(#microseconds)))
            }
            ExprKind::Duration { ms } => {
                let ms = int(*ms);
                Code::value(quote!(Duration::from_ms(#ms)))
            }
            ExprKind::Null => Code::none(),
            ExprKind::Word(word) => {
                let ty = self.module.ty(expr.ty.present());
                let word = variant(word);
                Code::value(quote!(#ty::#word))
            }
            ExprKind::List(items) => self.list(items),
            ExprKind::Record(fields) => self.record(fields, &expr.ty),
            ExprKind::Value(value) => self.value(value, &expr.ty),
            ExprKind::Field { of, name, optional } => self.field(of, name, *optional, &expr.ty),
            ExprKind::Index { of, index } => self.index(of, index, expr.ty.present()),
            ExprKind::Not(of) => self.not(of),
            ExprKind::Negate(of) => self.negate(of),
            ExprKind::Binary { op, left, right } => self.binary(*op, left, right, &expr.ty),
            ExprKind::Coalesce { left, right } => self.coalesce(left, right, &expr.ty),
            ExprKind::If { condition, then, other } => {
                let (condition, then, other) =
                    (self.condition(condition), self.owned(then), self.owned(other));
                let code = Code::value(quote!(if #condition { #then } else { #other })).loose();
                if expr.ty.is_optional() { code.optional() } else { code }
            }
            ExprKind::Call { function, args } => self.call(*function, args),
            ExprKind::Iterate { how, over, variable, body } => {
                self.iterate(*how, over, variable, body)
            }
            ExprKind::Interpolate(parts) => self.interpolate(parts.iter()),
            ExprKind::Coerce(inner) => {
                match super::schema::literal(&inner.kind).filter(|_| expr.ty == Type::Json) {
                    // Nothing about a constant can fail, and a `$default` must not.
                    Some(json) => {
                        let json = super::schema::raw(&json);
                        Code::value(quote!(Json::constant(#json)))
                    }
                    None => self.coerce(inner, &expr.ty),
                }
            }
        }
    }

    fn list(&mut self, items: &[Expr]) -> Code {
        if items.is_empty() {
            return Code::value(quote!(Vec::new()));
        }
        let items: Vec<_> = items.iter().map(|item| self.suffixed(item)).collect();
        Code::value(quote!(vec![#(#items),*]))
    }

    /// As one's own; an integer that is written out says its type, because nothing around it may.
    fn suffixed(&mut self, expr: &Expr) -> TokenStream {
        if let ExprKind::Integer(value) = &expr.kind
            && !matches!(*value, i64::MIN | i64::MAX)
        {
            let literal = syn::LitInt::new(
                &format!("{}_i64", value.unsigned_abs()),
                proc_macro2::Span::call_site(),
            );
            return if *value < 0 { quote!(-#literal) } else { quote!(#literal) };
        }
        self.owned(expr)
    }

    fn record(&mut self, fields: &[(String, Expr)], ty: &Type) -> Code {
        if let Type::Record(record) = ty.present() {
            let path = self.module.path(&record.name);
            let fields = fields.iter().map(|(name, value)| {
                let value = self.owned(value);
                field_value(&variable(name), value)
            });
            let fields: Vec<_> = fields.collect();
            return Code::value(quote!(#path { #(#fields),* })).loose();
        }
        if fields.is_empty() {
            return Code::value(quote!(IndexMap::new()));
        }
        let entries: Vec<_> = fields
            .iter()
            .map(|(name, value)| {
                let value = self.suffixed(value);
                quote!((#name.to_owned(), #value))
            })
            .collect();
        Code::value(quote!(IndexMap::from([#(#entries),*])))
    }

    fn value(&mut self, value: &Value, ty: &Type) -> Code {
        match value {
            Value::Item(name) => {
                if let Some((_, variable, read)) =
                    self.bound.iter_mut().rev().find(|(bound, ..)| bound == name)
                {
                    *read = true;
                    let tokens = quote!(#variable);
                    let code =
                        if is_copy(ty) { Code::value(tokens) } else { Code::reference(tokens) };
                    return if ty.is_optional() { code.optional() } else { code };
                }
            }
            Value::Event | Value::TriggerEvent => {
                self.reads = self.reads | Reads::EVENT;
                return Code::reference(quote!(event));
            }
            Value::InstanceId => return self.env(quote!(env.id)),
            Value::RequestId => return self.env(quote!(env.request_id)),
            Value::StartedAt => return self.env(quote!(env.started_at.timestamp())),
            Value::Config(name) => {
                self.reads = self.reads | Reads::ENV;
                return Code::borrowed_text(quote!(env.config(#name)));
            }
            Value::Now => {
                self.reads = self.reads | Reads::NOW;
                return Code::value(quote!(now.timestamp()));
            }
            Value::Input | Value::Step(_) | Value::Error => {}
        }
        match (self.find)(value) {
            // An element is of exactly its type.
            Some(code) if ty.is_optional() && matches!(value, Value::Item(_)) => code.optional(),
            // The reader may see something as absent that is always there: an undo's own result,
            // for one.
            Some(code) if ty.is_optional() && !code.is_optional() => Code::some(code),
            Some(code) => code,
            // Cannot be for a checked expression; rustc points here if it is.
            None => Code::value(quote!(compile_error!("a value that is not known here"))),
        }
    }

    fn env(&mut self, tokens: TokenStream) -> Code {
        self.reads = self.reads | Reads::ENV;
        Code::place(tokens)
    }

    fn field(&mut self, of: &Expr, name: &str, optional: bool, ty: &Type) -> Code {
        let source = self.code(of);
        let field = variable(name);
        if *of.ty.present() == Type::Error && !optional {
            let of = source.tight();
            return if name == "name" {
                Code::borrowed_text(quote!(#of.name()))
            } else {
                Code::place(quote!(#of.message))
            };
        }
        if !optional {
            let of = source.tight();
            let code = Code::place(quote!(#of.#field));
            return if ty.is_optional() { code.optional() } else { code };
        }
        let inner = ty.present();
        let is_field_optional = field_of(&of.ty, name).is_some_and(Type::is_optional);
        let of = source.option_ref(of.ty.present());
        let copy = is_copy(inner);
        let text = *inner == Type::String;
        let (method, body) = match (is_field_optional, copy) {
            (false, true) => (quote!(map), quote!(value.#field)),
            (false, false) if text => (quote!(map), quote!(value.#field.as_str())),
            (false, false) => (quote!(map), quote!(&value.#field)),
            (true, true) => (quote!(and_then), quote!(value.#field)),
            (true, false) if text => (quote!(and_then), quote!(value.#field.as_deref())),
            (true, false) => (quote!(and_then), quote!(value.#field.as_ref())),
        };
        let tokens = quote!(#of.#method(|value| #body));
        let code = if copy { Code::value(tokens).optional() } else { Code::option_of_refs(tokens) };
        let own = if copy { body } else { quote!(value.#field.clone()) };
        code.mapped(of, method, own)
    }

    fn index(&mut self, of: &Expr, index: &Expr, element: &Type) -> Code {
        let tokens = if let Type::Map(_) = of.ty {
            let (map, key) = (self.code(of).tight(), self.borrowed(index));
            quote!(#map.get(#key))
        } else {
            let (list, index) = (self.borrowed_list(of), self.owned(index));
            quote!(machine::expr::at(#list, #index))
        };
        // Elements that may be absent themselves: absent either way.
        let holds_options = matches!(&of.ty, Type::List(of) | Type::Map(of) if of.is_optional());
        match (is_copy(element), holds_options) {
            (true, false) => Code::value(quote!(#tokens.copied())).optional(),
            (true, true) => Code::value(quote!(#tokens.copied().flatten())).optional(),
            (false, true) if *element == Type::String => {
                Code::option_of_refs(quote!(#tokens.and_then(Option::as_deref)))
            }
            (false, true) => Code::option_of_refs(quote!(#tokens.and_then(Option::as_ref))),
            (false, false) if *element == Type::String => {
                Code::option_of_refs(quote!(#tokens.map(String::as_str)))
            }
            (false, false) => Code::option_of_refs(tokens),
        }
    }
}

/// `name: value`, or just `name`.
pub(super) fn field_value(name: &Ident, value: TokenStream) -> TokenStream {
    if *name == value.to_string() { quote!(#name) } else { quote!(#name: #value) }
}

/// The type of a record's field.
fn field_of<'t>(of: &'t Type, name: &str) -> Option<&'t Type> {
    match of.present() {
        Type::Record(record) => {
            record.fields.iter().find(|field| field.name == name).map(|field| &field.ty)
        }
        _ => None,
    }
}
