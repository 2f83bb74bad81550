//! Tokens of an expression, with what they are.

use proc_macro2::{Literal, Span, TokenStream};
use quote::quote;

use crate::ir::Type;

/// What tokens stand for, of a value of the type `T` (without its `Option`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `T`, in a place that others own.
    Place,
    /// `Arc<T>`, in a place that others own.
    Shared,
    /// `&T`.
    Reference,
    /// `&T`, of a text `&str`.
    Borrowed,
    /// `T`, new.
    Value,
}

/// How tightly tokens hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// `if`, `match`, closures, struct literals.
    Loose,
    Or,
    And,
    Comparison,
    /// `!x`, `-x`, `*x`, `&x`.
    Unary,
    /// Paths, calls, literals.
    Tight,
}

/// Whether tokens stand for a value that may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Certain,
    /// They are an `Option`: `Option<T>`, `Option<Arc<T>>`, `Option<&T>`; of the form `Reference`
    /// an `&Option<T>`.
    Optional,
    /// It is `Some` of them, and they are themselves in that form.
    Some,
    /// They are `None`.
    Absent,
}

/// Tokens, what they are, and how tightly they hold together. They are to be had only by saying
/// where they go: [`Code::alone`], [`Code::within`], [`Code::tight`]. So an operator never takes a
/// piece of its operand.
#[derive(Debug, Clone)]
pub(crate) struct Code {
    tokens: TokenStream,
    pub(crate) form: Form,
    presence: Presence,
    /// Of a field behind `?.`: what it is a field of (an `Option` of a reference), and its value of
    /// one's own by `value`.
    pub(crate) mapped: Option<Box<Mapped>>,
    /// Of tokens that end in `?`: without it.
    tried: Option<TokenStream>,
    pub(crate) level: Level,
}

/// `option.map(|value| body)`, not put together yet.
#[derive(Debug, Clone)]
pub(crate) struct Mapped {
    pub(crate) option: TokenStream,
    pub(crate) method: TokenStream,
    pub(crate) body: TokenStream,
}

impl Code {
    fn new(tokens: TokenStream, form: Form) -> Self {
        Self {
            tokens,
            form,
            presence: Presence::Certain,
            mapped: None,
            tried: None,
            level: Level::Tight,
        }
    }

    /// `Some` of what is certainly there.
    pub(crate) fn some(of: Code) -> Self {
        Self { presence: Presence::Some, ..of }
    }

    /// The absent value.
    pub(crate) fn none() -> Self {
        Self { presence: Presence::Absent, ..Self::value(quote!(None)) }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.presence == Presence::Absent
    }

    pub(crate) fn is_optional(&self) -> bool {
        self.presence != Presence::Certain
    }

    pub(crate) fn place(tokens: TokenStream) -> Self {
        Self::new(tokens, Form::Place)
    }

    pub(crate) fn shared(tokens: TokenStream) -> Self {
        Self::new(tokens, Form::Shared)
    }

    pub(crate) fn reference(tokens: TokenStream) -> Self {
        Self::new(tokens, Form::Reference)
    }

    pub(crate) fn borrowed_text(tokens: TokenStream) -> Self {
        Self::new(tokens, Form::Borrowed)
    }

    pub(crate) fn value(tokens: TokenStream) -> Self {
        Self::new(tokens, Form::Value)
    }

    /// A value that `result` gives, or the failure.
    pub(crate) fn tried(result: TokenStream) -> Self {
        Self { tried: Some(result.clone()), ..Self::value(quote!(#result?)) }
    }

    /// Whether they end in `?`.
    pub(crate) fn is_tried(&self) -> bool {
        self.tried.is_some()
    }

    /// The owned value as a `Result`.
    pub(crate) fn in_ok(self, ty: &Type) -> TokenStream {
        match self.into_owned(ty) {
            Code { tried: Some(result), .. } => result,
            code => {
                let tokens = code.alone();
                quote!(Ok(#tokens))
            }
        }
    }

    pub(crate) fn option_of_refs(tokens: TokenStream) -> Self {
        Self::new(tokens, Form::Borrowed).optional()
    }

    pub(crate) fn optional(self) -> Self {
        Self { presence: Presence::Optional, ..self }
    }

    pub(crate) fn loose(self) -> Self {
        self.at(Level::Loose)
    }

    pub(crate) fn unary(self) -> Self {
        self.at(Level::Unary)
    }

    pub(crate) fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    pub(crate) fn signed(self, negative: bool) -> Self {
        if negative { self.unary() } else { self }
    }

    /// Where nothing else stands beside it: an argument, the right side of a `let`, the end of a
    /// block.
    pub(crate) fn alone(&self) -> TokenStream {
        let tokens = &self.tokens;
        if self.presence == Presence::Some { quote!(Some(#tokens)) } else { tokens.clone() }
    }

    /// In parentheses unless it binds at least as tightly as `level`.
    pub(crate) fn within(&self, level: Level) -> TokenStream {
        let tokens = self.alone();
        if self.presence == Presence::Some || self.level >= level {
            tokens
        } else {
            quote!((#tokens))
        }
    }

    pub(crate) fn tight(&self) -> TokenStream {
        self.within(Level::Tight)
    }

    pub(crate) fn into_place(self) -> Self {
        Self { form: Form::Place, ..self }
    }

    pub(crate) fn mapped(
        self,
        option: TokenStream,
        method: TokenStream,
        body: TokenStream,
    ) -> Self {
        Self { mapped: Some(Box::new(Mapped { option, method, body })), ..self }
    }

    fn unwrapped(self) -> Code {
        Self { presence: Presence::Certain, ..self }
    }

    /// `T` or `Option<T>`, as one's own.
    pub(crate) fn into_owned(self, ty: &Type) -> Code {
        let inner = ty.present();
        if self.is_none() {
            return self;
        }
        if self.presence == Presence::Some {
            let value = self.unwrapped().owned(inner);
            return Code::value(quote!(Some(#value))).optional();
        }
        if let Some(mapped) = &self.mapped {
            let Mapped { option, method, body } = &**mapped;
            return Code::value(quote!(#option.#method(|value| #body))).optional();
        }
        let tokens = self.tight();
        if self.is_optional() {
            return match self.form {
                Form::Value => self,
                _ if is_copy(inner) => match self.form {
                    Form::Place => self,
                    Form::Reference => Code::value(quote!(*#tokens)).optional().unary(),
                    Form::Shared => Code::value(quote!(#tokens.as_deref().copied())).optional(),
                    Form::Borrowed | Form::Value => {
                        Code::value(quote!(#tokens.copied())).optional()
                    }
                },
                Form::Place | Form::Reference => Code::value(quote!(#tokens.clone())).optional(),
                Form::Shared => Code::value(quote!(#tokens.as_deref().cloned())).optional(),
                Form::Borrowed if *inner == Type::String => {
                    Code::value(quote!(#tokens.map(str::to_owned))).optional()
                }
                Form::Borrowed => Code::value(quote!(#tokens.cloned())).optional(),
            };
        }
        match self.form {
            Form::Value => self,
            Form::Place if is_copy(ty) => self,
            Form::Shared | Form::Reference | Form::Borrowed if is_copy(ty) => {
                Code::value(quote!(*#tokens)).unary()
            }
            Form::Place | Form::Reference => Code::value(quote!(#tokens.clone())),
            Form::Shared => Code::value(quote!((*#tokens).clone())),
            Form::Borrowed if *ty == Type::String => {
                let owned = if tokens.to_string() == "\"\"" {
                    quote!(String::new())
                } else {
                    quote!(#tokens.to_owned())
                };
                Code::value(owned)
            }
            Form::Borrowed => Code::value(quote!(#tokens.clone())),
        }
    }

    pub(crate) fn owned(self, ty: &Type) -> TokenStream {
        self.into_owned(ty).alone()
    }

    /// `&T`, of a text `&str`, for a function's argument.
    pub(crate) fn borrowed(self) -> TokenStream {
        let tokens = self.within(Level::Unary);
        match self.form {
            Form::Place | Form::Value => quote!(&#tokens),
            Form::Shared => quote!(&*#tokens),
            Form::Reference | Form::Borrowed => self.alone(),
        }
    }

    /// `Option<&T>`, of a text `Option<&str>`.
    pub(crate) fn option_ref(self, inner: &Type) -> TokenStream {
        if self.is_none() {
            return self.alone();
        }
        if self.presence == Presence::Some {
            let value = self.unwrapped().borrowed();
            return quote!(Some(#value));
        }
        let tokens = self.tight();
        match self.form {
            Form::Borrowed => tokens,
            Form::Shared => quote!(#tokens.as_deref()),
            _ if *inner == Type::String => quote!(#tokens.as_deref()),
            _ => quote!(#tokens.as_ref()),
        }
    }

    /// For comparisons and `format!`, which borrow by themselves.
    pub(crate) fn operand(self, ty: &Type) -> Code {
        if self.is_optional() {
            let inner = ty.present();
            if is_copy(inner) {
                return self.into_owned(ty);
            }
            return Code::value(self.option_ref(inner)).optional();
        }
        let tokens = self.tight();
        match self.form {
            Form::Place | Form::Value => self,
            Form::Borrowed if *ty == Type::String => self,
            Form::Shared | Form::Reference | Form::Borrowed => {
                Code::value(quote!(*#tokens)).unary()
            }
        }
    }

    /// A `&str`, tight.
    pub(crate) fn text_slice(self) -> TokenStream {
        let tokens = self.tight();
        match self.form {
            Form::Borrowed => tokens,
            _ => quote!(#tokens.as_str()),
        }
    }
}

/// Whether values of the type are copied, not cloned.
pub(crate) fn is_copy(ty: &Type) -> bool {
    match ty {
        Type::Integer
        | Type::Number
        | Type::Boolean
        | Type::Timestamp
        | Type::Duration
        | Type::Enum(_) => true,
        Type::Optional(inner) => is_copy(inner),
        Type::String
        | Type::Json
        | Type::List(_)
        | Type::Map(_)
        | Type::Record(_)
        | Type::Error => false,
    }
}

/// An integer of the language as people write it: `60_000`.
pub(crate) fn int(value: i64) -> TokenStream {
    // By name, because rustc calls a comparison with the number itself useless.
    match value {
        i64::MAX => return quote!(i64::MAX),
        i64::MIN => return quote!(i64::MIN),
        _ => {}
    }
    // Where nothing else says the type it would be an i32.
    let suffix = if i32::try_from(value).is_ok() { "" } else { "_i64" };
    let literal =
        syn::LitInt::new(&format!("{}{suffix}", grouped(value.unsigned_abs())), Span::call_site());
    if value < 0 { quote!(-#literal) } else { quote!(#literal) }
}

/// A number of milliseconds, rounds or such like.
pub(crate) fn count(value: u64) -> TokenStream {
    let literal = syn::LitInt::new(&grouped(value), Span::call_site());
    quote!(#literal)
}

/// A time in milliseconds; of a minute and more in the largest unit of which it is a whole number.
pub(crate) fn time(ms: u64) -> TokenStream {
    const UNITS: [(u64, &str); 3] =
        [(86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")];
    let unit = UNITS.iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => {
            let (name, number) =
                (proc_macro2::Ident::new(name, Span::call_site()), count(ms / unit));
            quote!(machine::#name(#number))
        }
        None => count(ms),
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digits.len() > 4 {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

pub(crate) fn number(value: f64) -> TokenStream {
    let literal = Literal::f64_unsuffixed(value.abs());
    if value.is_sign_negative() { quote!(-#literal) } else { quote!(#literal) }
}
