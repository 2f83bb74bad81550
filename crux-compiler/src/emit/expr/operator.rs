//! Operators. Arithmetic is a call that may fail; comparisons are Rust's own.

use proc_macro2::TokenStream;
use quote::quote;

use super::Writer;
use super::code::{Code, Form, Level, Mapped, is_copy};
use crate::ir::{Expr, ExprKind, Op, Type};

impl Writer<'_> {
    pub(super) fn binary(&mut self, op: Op, left: &Expr, right: &Expr, ty: &Type) -> Code {
        match op {
            Op::And => self.logic(left, right, Level::And),
            Op::Or => self.logic(left, right, Level::Or),
            Op::Equal | Op::NotEqual => self.equality(op == Op::Equal, left, right),
            Op::Less => self.order(left, right, quote!(<)),
            Op::LessEqual => self.order(left, right, quote!(<=)),
            Op::Greater => self.order(left, right, quote!(>)),
            Op::GreaterEqual => self.order(left, right, quote!(>=)),
            Op::In => self.contains(right, left),
            Op::Add if *ty == Type::String => {
                let mut parts = Vec::new();
                sum(left, &mut parts);
                sum(right, &mut parts);
                self.interpolate(parts.into_iter())
            }
            Op::Add if matches!(ty, Type::List(_)) => {
                let (left, right) = (self.slice(left), self.slice(right));
                Code::value(quote!([#left, #right].concat()))
            }
            Op::Add => self.arithmetic(&quote!(add), left, right),
            Op::Subtract => self.arithmetic(&quote!(subtract), left, right),
            Op::Multiply => self.arithmetic(&quote!(multiply), left, right),
            Op::Divide => self.arithmetic(&quote!(divide), left, right),
            Op::Remainder => self.arithmetic(&quote!(remainder), left, right),
        }
    }

    /// A list as a slice.
    fn slice(&mut self, list: &Expr) -> TokenStream {
        if let ExprKind::List(items) = &list.kind {
            let items: Vec<_> = items.iter().map(|item| self.suffixed(item)).collect();
            return quote!([#(#items),*].as_slice());
        }
        let list = self.code(list).tight();
        quote!(#list.as_slice())
    }

    fn arithmetic(&mut self, function: &TokenStream, left: &Expr, right: &Expr) -> Code {
        let (left, right) = (self.suffixed(left), self.suffixed(right));
        self.tried(quote!(machine::expr::#function(#left, #right)))
    }

    fn logic(&mut self, left: &Expr, right: &Expr, level: Level) -> Code {
        let operator = if level == Level::And { quote!(&&) } else { quote!(||) };
        let (left, right) = (
            self.code(left).into_owned(&Type::Boolean),
            self.code(right).into_owned(&Type::Boolean),
        );
        let (left, right) = (left.within(level), right.within(level));
        Code::value(quote!(#left #operator #right)).at(level)
    }

    fn equality(&mut self, equal: bool, left: &Expr, right: &Expr) -> Code {
        if let Some(of) = [(left, right), (right, left)]
            .into_iter()
            .find_map(|(null, of)| (null.kind == ExprKind::Null).then_some(of))
        {
            let of = self.code(of).tight();
            return Code::value(if equal { quote!(#of.is_none()) } else { quote!(#of.is_some()) });
        }
        match (&left.kind, &right.kind) {
            (ExprKind::Not(of), _) => return self.equality(!equal, of, right),
            (_, ExprKind::Not(of)) => return self.equality(!equal, left, of),
            _ => {}
        }
        let left_code = self.code(left).operand(&left.ty);
        let right_code = self.code(right).operand(&right.ty);
        let (left, right) = (left_code.within(Level::Unary), right_code.within(Level::Unary));
        let operator = if equal { quote!(==) } else { quote!(!=) };
        Code::value(quote!(#left #operator #right)).at(Level::Comparison)
    }

    fn order(&mut self, left: &Expr, right: &Expr, operator: TokenStream) -> Code {
        let mut operand = |expr: &Expr| {
            let code = self.code(expr);
            if expr.ty == Type::String {
                code.text_slice()
            } else {
                code.into_owned(&expr.ty).within(Level::Unary)
            }
        };
        let (left, right) = (operand(left), operand(right));
        Code::value(quote!(#left #operator #right)).at(Level::Comparison)
    }

    /// `part` among the elements of a list, or the keys of a map.
    pub(super) fn contains(&mut self, among: &Expr, part: &Expr) -> Code {
        if let (ExprKind::List(items), Some(patterns)) = (&among.kind, self.patterns(among)) {
            if items.is_empty() {
                return Code::value(quote!(false));
            }
            let code = self.code(part);
            let of = if part.ty == Type::String { code.text_slice() } else { code.owned(&part.ty) };
            return Code::value(quote!(matches!(#of, #(#patterns)|*)));
        }
        match &among.ty {
            Type::Map(_) => {
                let among = self.code(among).tight();
                let key = self.borrowed(part);
                Code::value(quote!(#among.contains_key(#key)))
            }
            Type::List(element) if **element == Type::String => {
                let among = self.borrowed_list(among);
                let part = self.borrowed(part);
                Code::value(quote!(machine::expr::contains(#among, #part)))
            }
            _ => {
                let among = match &among.kind {
                    ExprKind::List(items) => {
                        let items: Vec<_> = items.iter().map(|item| self.suffixed(item)).collect();
                        quote!([#(#items),*])
                    }
                    _ => self.code(among).tight(),
                };
                let code = self.code(part);
                let part = if part.ty.is_optional() || is_copy(&part.ty) {
                    let owned = code.into_owned(&part.ty).within(Level::Unary);
                    quote!(&#owned)
                } else {
                    code.borrowed()
                };
                Code::value(quote!(#among.contains(#part)))
            }
        }
    }

    /// The elements of a literal list, where they can be patterns.
    fn patterns(&mut self, list: &Expr) -> Option<Vec<TokenStream>> {
        let ExprKind::List(items) = &list.kind else { return None };
        let is_pattern = |item: &Expr| {
            matches!(item.kind, ExprKind::Text(_) | ExprKind::Word(_)) && !item.ty.is_optional()
        };
        if !items.iter().all(is_pattern) {
            return None;
        }
        // The same twice would be a pattern that is never reached.
        let mut patterns: Vec<TokenStream> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if !items.iter().take(at).any(|before| before == item) {
                patterns.push(self.code(item).alone());
            }
        }
        Some(patterns)
    }

    pub(super) fn not(&mut self, of: &Expr) -> Code {
        match &of.kind {
            // Read better than a negated comparison, and clippy says so too.
            ExprKind::Binary { op: Op::Equal, left, right } => {
                return self.equality(false, left, right);
            }
            ExprKind::Binary { op: Op::NotEqual, left, right } => {
                return self.equality(true, left, right);
            }
            ExprKind::Not(of) => return self.code(of).into_owned(&Type::Boolean),
            ExprKind::Coalesce { left, right } if is_simple(left) => {
                if let ExprKind::Boolean(default) = right.kind
                    && let Some(code) = self.not_mapped(left, default)
                {
                    return code;
                }
            }
            // There is no NaN in the language, so that the opposite of every comparison is one.
            ExprKind::Binary { op, left, right } => {
                let opposite = match op {
                    Op::Less => Some(quote!(>=)),
                    Op::LessEqual => Some(quote!(>)),
                    Op::Greater => Some(quote!(<=)),
                    Op::GreaterEqual => Some(quote!(<)),
                    _ => None,
                };
                if let Some(opposite) = opposite {
                    return self.order(left, right, opposite);
                }
            }
            _ => {}
        }
        let of = self.code(of).into_owned(&Type::Boolean).within(Level::Unary);
        Code::value(quote!(!#of)).unary()
    }

    /// `!(of?.field ?? default)` without its `!`, which would be read as a second one.
    fn not_mapped(&mut self, of: &Expr, default: bool) -> Option<Code> {
        let code = self.code(of);
        let mapped = code.mapped.as_ref().filter(|mapped| mapped.method.to_string() == "map")?;
        let Mapped { option, body, .. } = &**mapped;
        Some(Code::value(if default {
            quote!(#option.is_some_and(|value| !#body))
        } else {
            quote!(#option.is_none_or(|value| !#body))
        }))
    }

    pub(super) fn negate(&mut self, of: &Expr) -> Code {
        if of.ty == Type::Integer {
            let of = self.suffixed(of);
            return self.tried(quote!(machine::expr::negate(#of)));
        }
        let of = self.owned_tight(of);
        Code::value(quote!(-#of)).unary()
    }

    pub(super) fn coalesce(&mut self, left: &Expr, right: &Expr, ty: &Type) -> Code {
        let inner = ty.present();
        let left_code = self.code(left);
        if left_code.is_none() {
            return self.code(right);
        }
        let (right_code, fails) = self.attempt(|writer| writer.code(right));
        if right_code.is_none() {
            return left_code;
        }
        let copy = is_copy(inner);
        let simple = is_simple(right);
        if simple && ty.is_optional() {
            return if copy {
                let (left, right) =
                    (left_code.into_owned(&left.ty).tight(), right_code.owned(&right.ty));
                Code::value(quote!(#left.or(#right))).optional()
            } else {
                let (left, right) = (left_code.option_ref(inner), right_code.option_ref(inner));
                Code::option_of_refs(quote!(#left.or(#right)))
            };
        }
        if let (true, true, Some(mapped)) = (simple, copy, &left_code.mapped)
            && mapped.method.to_string() == "map"
        {
            let (option, body, right_owned) =
                (&mapped.option, &mapped.body, right_code.clone().owned(&right.ty));
            return Code::value(match &right.kind {
                ExprKind::Boolean(false) => quote!(#option.is_some_and(|value| #body)),
                ExprKind::Boolean(true) => quote!(#option.is_none_or(|value| #body)),
                _ => quote!(#option.map_or(#right_owned, |value| #body)),
            });
        }
        if simple && copy {
            let (left, right) =
                (left_code.into_owned(&left.ty).tight(), right_code.owned(&right.ty));
            return Code::value(quote!(#left.unwrap_or(#right)));
        }
        if simple && right_code.form != Form::Value {
            let (left, right) = (left_code.option_ref(inner), right_code.borrowed());
            return Code::borrowed_text(quote!(#left.unwrap_or(#right)));
        }
        let is_empty = matches!(&right.kind, ExprKind::List(items) if items.is_empty());
        let left_code = left_code.into_owned(&left.ty);
        let left = left_code.tight();
        if is_empty {
            return Code::value(quote!(#left.unwrap_or_default()));
        }
        let right = right_code.owned(&right.ty);
        // What a `match` looks at needs no parentheses, and rustc warns of those that are not
        // needed.
        let matched = left_code.alone();
        let code = match (fails, ty.is_optional()) {
            (false, false) => return Code::value(quote!(#left.unwrap_or_else(|| #right))),
            (false, true) => return Code::value(quote!(#left.or_else(|| #right))).optional(),
            (true, false) => {
                Code::value(quote!(match #matched { Some(value) => value, None => #right }))
            }
            (true, true) => {
                Code::value(quote!(match #matched { Some(value) => Some(value), None => #right }))
                    .optional()
            }
        };
        code.loose()
    }

    /// Writes a part, and says whether it can fail.
    pub(super) fn attempt<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = self.tries;
        let written = write(self);
        (written, self.tries > before)
    }
}

/// Whether it costs nothing to have it ready although it may not be needed.
fn is_simple(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Text(_)
        | ExprKind::Integer(_)
        | ExprKind::Number(_)
        | ExprKind::Boolean(_)
        | ExprKind::Duration { .. }
        | ExprKind::Null
        | ExprKind::Word(_)
        | ExprKind::Value(_) => true,
        ExprKind::Field { of, .. } => is_simple(of),
        _ => false,
    }
}

/// The parts of `a + b + c`.
fn sum<'e>(expr: &'e Expr, parts: &mut Vec<&'e Expr>) {
    match &expr.kind {
        ExprKind::Binary { op: Op::Add, left, right } if expr.ty == Type::String => {
            sum(left, parts);
            sum(right, parts);
        }
        ExprKind::Interpolate(inner) => parts.extend(inner),
        _ => parts.push(expr),
    }
}
