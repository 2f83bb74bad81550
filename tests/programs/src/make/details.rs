//! Fields with details: `$default`, `$min`, `$max`, `$pattern`.

use std::collections::BTreeMap;

use super::program::{Ty, Val};

pub struct Detail {
    /// As it is written.
    pub text: &'static str,
    /// What a reader sees.
    pub of: Ty,
    /// What is there when nothing is given.
    pub default: Option<Val>,
    /// Some that are allowed.
    pub values: Vec<Val>,
}

/// How many there are.
pub const COUNT: usize = 12;

pub fn detail(at: usize) -> Detail {
    let string = |text: &str| Val::Str(text.to_owned());
    let integers = |of: &[i64]| Val::List(of.iter().copied().map(Val::Int).collect());
    let (text, of, default, values) = match at {
        0 => (
            "{ $type: integer, $default: 5 }",
            Ty::Int,
            Some(Val::Int(5)),
            vec![Val::Int(-1), Val::Int(7)],
        ),
        1 => (
            "{ $type: string, $default: none }",
            Ty::Str,
            Some(string("none")),
            vec![string(""), string("abc")],
        ),
        2 => {
            let word = |word: &str| Val::Word(word.to_owned());
            (
                "{ $type: Colour, $default: in-transit }",
                Ty::Named("Colour"),
                Some(word("in-transit")),
                vec![word("red")],
            )
        }
        3 => (
            "{ $type: integer, $min: -3, $max: 12 }",
            Ty::Int,
            None,
            vec![Val::Int(-3), Val::Int(0), Val::Int(12)],
        ),
        4 => {
            let values = vec![string("a"), string("zo\u{eb}"), string("abcde")];
            (
                "{ $type: string, $min: 1, $max: 5, $pattern: '^[a-z\u{eb}]+$' }",
                Ty::Str,
                None,
                values,
            )
        }
        5 => (
            "{ $type: list<integer>, $max: 3 }",
            Ty::list(Ty::Int),
            None,
            vec![integers(&[]), integers(&[1, 2, 3])],
        ),
        6 => (
            "{ $type: duration, $default: 1h30m }",
            Ty::Dur,
            Some(Val::Dur(5_400_000)),
            vec![Val::Dur(1_500)],
        ),
        7 => {
            let at = Val::Time(1_767_323_045_000_000);
            (
                "{ $type: timestamp, $default: 2026-01-02T03:04:05Z }",
                Ty::Time,
                Some(at),
                vec![Val::Time(0)],
            )
        }
        8 => (
            "{ $type: number, $min: 0, $default: 1.5 }",
            Ty::Num,
            Some(Val::Num(1.5)),
            vec![Val::Num(0.0), Val::Num(100.0)],
        ),
        9 => (
            "{ $type: boolean, $default: true }",
            Ty::Bool,
            Some(Val::Bool(true)),
            vec![Val::Bool(false)],
        ),
        10 => {
            let default = Val::List(vec![string("a"), string("b")]);
            (
                "{ $type: list<string>, $default: [a, b] }",
                Ty::list(Ty::Str),
                Some(default),
                vec![Val::List(Vec::new())],
            )
        }
        _ => {
            let default = Val::Map(BTreeMap::from([("a".to_owned(), Val::Int(1))]));
            let of = Ty::Map(Box::new(Ty::Int));
            (
                "{ $type: map<integer>, $default: { a: 1 } }",
                of,
                Some(default),
                vec![Val::Map(BTreeMap::new())],
            )
        }
    };
    Detail { text, of, default, values }
}

/// A type without the details.
pub fn plain(ty: &Ty) -> Ty {
    if let Ty::With(at) = ty { detail(*at).of } else { ty.clone() }
}

/// What a field has when nothing is given for it.
pub fn default_of(ty: &Ty) -> Val {
    if let Ty::With(at) = ty { detail(*at).default.unwrap_or(Val::Null) } else { Val::Null }
}
