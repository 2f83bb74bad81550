//! Which identifiers the language allows, and the one way in which a name of YAML becomes a name of
//! Rust: `product_upload` the module `product_upload` and the type `ProductUpload`, `orderId` the
//! field `order_id`, `step.finalize` the constant `STEP_FINALIZE`. A name that would be a Rust
//! keyword becomes a raw identifier (`r#type`), or gets an underscore where Rust has no raw form
//! (`self_`).

use proc_macro2::{Ident, Span};

/// What kind of identifier is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Steps, branches, workflows, step types, items: `[a-z][a-z0-9_]*`.
    Id,
    /// Types, errors, step structs: `[A-Z][A-Za-z0-9]*`.
    Type,
    /// Fields: `[A-Za-z_][A-Za-z0-9_]*`.
    Field,
    /// Words of an enum: `[A-Za-z][A-Za-z0-9_-]*`.
    Word,
}

/// Longest identifier, in bytes; also the limit of ids at run time.
pub const LENGTH_MAX: usize = 255;

impl Kind {
    /// Whether `name` is an identifier of this kind.
    pub fn accepts(self, name: &str) -> bool {
        let mut chars = name.chars();
        let Some(first) = chars.next() else { return false };
        let first_fits = match self {
            Kind::Id => first.is_ascii_lowercase(),
            Kind::Type => first.is_ascii_uppercase(),
            Kind::Field => first.is_ascii_alphabetic() || first == '_',
            Kind::Word => first.is_ascii_alphabetic(),
        };
        let rest_fits = |c: char| match self {
            Kind::Id => c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_',
            Kind::Type => c.is_ascii_alphanumeric(),
            Kind::Field => c.is_ascii_alphanumeric() || c == '_',
            Kind::Word => c.is_ascii_alphanumeric() || c == '_' || c == '-',
        };
        first_fits && chars.all(rest_fits) && name.len() <= LENGTH_MAX
    }

    /// The same as a regular expression, anchored.
    pub const fn pattern(self) -> &'static str {
        match self {
            Kind::Id => "^[a-z][a-z0-9_]*$",
            Kind::Type => "^[A-Z][A-Za-z0-9]*$",
            Kind::Field => "^[A-Za-z_][A-Za-z0-9_]*$",
            Kind::Word => "^[A-Za-z][A-Za-z0-9_-]*$",
        }
    }

    /// In words, for messages.
    pub const fn rule(self) -> &'static str {
        match self {
            Kind::Id => "lower-case letters, digits and `_`, beginning with a letter",
            Kind::Type => "letters and digits, beginning with a capital letter",
            Kind::Field => "letters, digits and `_`, not beginning with a digit",
            Kind::Word => "letters, digits, `_` and `-`, beginning with a letter",
        }
    }

    /// The nearest identifier of this kind to what was written, if anything is left of it.
    pub fn fix(self, name: &str) -> Option<String> {
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let fixed = match self {
            Kind::Id => words(name).join("_"),
            Kind::Type => camel(name),
            Kind::Field | Kind::Word => name
                .split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|w| !w.is_empty())
                .collect::<Vec<_>>()
                .join("_"),
        };
        let fixed = fixed.trim_start_matches('_').to_owned();
        (self.accepts(&fixed) && fixed != name).then_some(fixed)
    }
}

/// The Rust module of a workflow or step type, or the function or variable of a step:
/// `product_upload`, `r#match`.
pub fn module(name: &str) -> String {
    escape(words(name).join("_"))
}

/// The Rust field of a YAML field: `orderId` is `order_id`, `type` is `r#type`.
pub fn field(name: &str) -> String {
    module(name)
}

/// The Rust type or enum variant of a name or word: `product_upload` is `ProductUpload`,
/// `in-transit` is `InTransit`.
pub fn type_name(name: &str) -> String {
    escape(camel(name))
}

/// What the modules of declared types call by name: no type that stands in them is called so.
const OF_TYPES: &[&str] =
    &["Duration", "IndexMap", "Json", "Option", "Rules", "Self_", "String", "Timestamp", "Vec"];

/// The Rust name of a declared type: as it is called in YAML, but for the few names that its module
/// needs for itself.
pub fn declared_type(name: &str) -> String {
    let rust = type_name(name);
    if OF_TYPES.contains(&rust.as_str()) {
        format!("{}Type", rust.trim_end_matches('_'))
    } else {
        rust
    }
}

/// The Rust constant of a routing key or name: `step.image_processing` is `STEP_IMAGE_PROCESSING`.
pub fn constant(name: &str) -> String {
    let name = words(name).join("_").to_ascii_uppercase();
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        format!("_{name}")
    } else {
        name
    }
}

/// The token of a name that one of the functions above has made.
pub fn ident(rust_name: &str) -> Ident {
    match rust_name.strip_prefix("r#") {
        Some(raw) => Ident::new_raw(raw, Span::call_site()),
        None => Ident::new(rust_name, Span::call_site()),
    }
}

/// The words of a name in lower case, split at separators and at the humps of camel case:
/// `HTTPServer_id` is `http server id`.
fn words(name: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let chars: Vec<char> = name.chars().collect();
    for (at, c) in chars.iter().copied().enumerate() {
        let before = at.checked_sub(1).and_then(|at| chars.get(at)).copied().unwrap_or(' ');
        let after = chars.get(at + 1).copied().unwrap_or(' ');
        let hump = c.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase() && after.is_ascii_lowercase()));
        if (hump || !c.is_ascii_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Each word with a capital, and otherwise as written, so that `USD` stays `USD` and `orderId`
/// becomes `OrderId`.
fn camel(name: &str) -> String {
    let mut camel = String::new();
    for word in name.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut chars = word.chars();
        camel.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        camel.extend(chars);
    }
    camel
}

fn escape(name: String) -> String {
    match name.as_str() {
        // Rust has no raw form of these.
        "self" | "Self" | "super" | "crate" => format!("{name}_"),
        "" => "_empty".into(),
        _ if name.starts_with(|c: char| c.is_ascii_digit()) => format!("_{name}"),
        _ if KEYWORDS.contains(&name.as_str()) => format!("r#{name}"),
        _ => name,
    }
}

/// Strict and reserved keywords of edition 2024 that may be raw identifiers.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_names_become_rust_names() {
        assert_eq!(module("product_upload"), "product_upload");
        assert_eq!(type_name("product_upload"), "ProductUpload");
        assert_eq!(type_name("USD"), "USD");
        assert_eq!(type_name("in-transit"), "InTransit");
        assert_eq!(field("orderId"), "order_id");
        assert_eq!(field("HTTPServer"), "http_server");
        assert_eq!(field("customer_id"), "customer_id");
        assert_eq!(field("line2Text"), "line2_text");
        assert_eq!(constant("step.image_processing"), "STEP_IMAGE_PROCESSING");
        assert_eq!(constant("2d.key"), "_2D_KEY");
    }

    #[test]
    fn every_keyword_becomes_an_identifier_that_rust_accepts() {
        for keyword in KEYWORDS.iter().chain(&["self", "super", "crate"]) {
            let name = field(keyword);
            assert!(syn::parse_str::<Ident>(&name).is_ok(), "{name}");
            assert_eq!(ident(&name).to_string(), name);
        }
        assert_eq!(field("type"), "r#type");
        assert_eq!(field("self"), "self_");
        assert_eq!(type_name("self"), "Self_");
        assert_eq!(ident(&field("_")).to_string(), "_empty");
    }

    #[test]
    fn identifiers_are_checked_and_fixed() {
        assert!(
            Kind::Id.accepts("look_closer2")
                && !Kind::Id.accepts("lookCloser")
                && !Kind::Id.accepts("")
                && !Kind::Id.accepts("2nd")
        );
        assert!(
            Kind::Type.accepts("SeoStep")
                && !Kind::Type.accepts("Seo_Step")
                && !Kind::Type.accepts("seo")
        );
        assert!(Kind::Field.accepts("_orderId") && !Kind::Field.accepts("order-id"));
        assert!(Kind::Word.accepts("in-transit") && !Kind::Word.accepts("in transit"));
        assert!(!Kind::Id.accepts(&"a".repeat(LENGTH_MAX + 1)));
        assert_eq!(Kind::Id.fix("lookCloser").as_deref(), Some("look_closer"));
        assert_eq!(Kind::Id.fix("look-closer").as_deref(), Some("look_closer"));
        assert_eq!(Kind::Type.fix("seo_step").as_deref(), Some("SeoStep"));
        assert_eq!(Kind::Field.fix("order-id").as_deref(), Some("order_id"));
        assert_eq!(Kind::Id.fix("é"), None);
    }
}
