//! Mappings with a known set of keys. Opening one reports every key that does not belong there,
//! with the nearest that does, and every key without a value; what is asked for afterwards is there
//! or has been reported.

use super::synonyms;
use super::tree::{BROKEN_KEY, Kind, Node, Pair};
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::source::Span;
use crate::suggest;

/// What a mapping is and which keys it may have.
#[derive(Debug)]
pub struct Shape {
    /// With its article: "a `wait` step".
    pub what: &'static str,
    /// The name of its definition in the JSON Schema; a test compares the keys.
    #[cfg_attr(not(test), allow(dead_code, reason = "only the test reads it"))]
    pub schema: &'static str,
    pub keys: &'static [&'static str],
}

impl Shape {
    /// Without its article, as in "unknown key `if` in `wait` step".
    fn bare(&self) -> &'static str {
        let what = self.what;
        what.strip_prefix("a ").or_else(|| what.strip_prefix("an ")).unwrap_or(what)
    }
}

/// The keys of a contract between those before and after them: of a step type, of a step of work, of
/// an undo.
macro_rules! with_contract {
    ([$($before:literal),*], [$($after:literal),*]) => {
        &[
            $($before,)*
            "class",
            "routing_key",
            "takes",
            "returns",
            "raises",
            "effect",
            "reports",
            "payload",
            $($after),*
        ]
    };
}
pub(super) use with_contract;

/// Says why a key that is known elsewhere has no place in this shape, and where it has one.
pub type MisplacedKeyHint = fn(key: &str) -> Option<String>;

/// A mapping whose keys have been checked.
pub struct Mapping<'a> {
    pub span: Span,
    shape: &'static Shape,
    pairs: &'a [Pair],
}

impl<'a> Mapping<'a> {
    /// The mapping that `pair` leads to; something else is reported.
    pub fn under(
        pair: &'a Pair,
        shape: &'static Shape,
        elsewhere: MisplacedKeyHint,
        sink: &mut Sink,
    ) -> Option<Self> {
        if !matches!(pair.value.kind, Kind::Mapping(_)) {
            if !matches!(pair.value.kind, Kind::Broken) {
                let keys = list(shape.keys.iter().copied());
                sink.push(
                    wrong(&format!("`{}`", pair.key.value), &pair.value, "a record")
                        .help(format!("its keys are {keys}")),
                );
            }
            return None;
        }
        Self::open(&pair.value, shape, elsewhere, sink)
    }

    /// The mapping that `node` is; something else is reported.
    pub fn open(
        node: &'a Node,
        shape: &'static Shape,
        elsewhere: MisplacedKeyHint,
        sink: &mut Sink,
    ) -> Option<Self> {
        let Kind::Mapping(pairs) = &node.kind else {
            wrong_kind(shape.what, node, "a record", sink);
            return None;
        };
        let mapping = Self { span: node.span, shape, pairs };
        for pair in pairs.iter().filter(|pair| pair.key.value != BROKEN_KEY) {
            if !shape.keys.contains(&pair.key.value.as_str()) {
                mapping.report_unknown(pair, elsewhere, sink);
            } else if matches!(pair.value.kind, Kind::Null | Kind::Absent) {
                no_value(pair, sink);
            }
        }
        Some(mapping)
    }

    /// The key and value, unless it is absent or has been reported as empty.
    pub fn get(&self, key: &str) -> Option<&'a Pair> {
        debug_assert!(self.shape.keys.contains(&key), "{key} is not a key of {}", self.shape.what);
        self.pairs.iter().find(|pair| {
            pair.key.value == key
                && !matches!(pair.value.kind, Kind::Null | Kind::Absent | Kind::Broken)
        })
    }

    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|pair| pair.key.value == key)
    }

    /// Like [`Self::get`], and an absent key is reported. `example` is what to write.
    pub fn need(&self, key: &str, example: &str, sink: &mut Sink) -> Option<&'a Pair> {
        if !self.has(key) {
            let misspelt = self.unknown().any(|written| suggest::nearest(written, [key]).is_some())
                || self.means(key);
            // A misspelt key has been reported with the right one beside it.
            if !misspelt {
                let span = self.pairs.first().map_or(self.span, |pair| pair.key.span);
                sink.push(
                    Diagnostic::error(
                        codes::MISSING_KEY,
                        span,
                        format!("{} needs `{key}`", self.shape.what),
                    )
                    .label(format!("without `{key}`"))
                    .help(format!("write `{example}`")),
                );
            }
        }
        self.get(key)
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Keys that the shape does not have.
    fn unknown(&self) -> impl Iterator<Item = &'a str> {
        let keys = self.shape.keys;
        self.pairs
            .iter()
            .map(|pair| pair.key.value.as_str())
            .filter(move |written| *written != BROKEN_KEY && !keys.contains(written))
    }

    /// Whether there is a key of another system that stands for this one.
    pub fn means(&self, key: &str) -> bool {
        let named = format!("`{key}`");
        self.unknown().any(|written| {
            let ours = synonyms::ours(written, |ours| self.shape.keys.contains(&ours));
            ours == Some(key)
                || (ours.is_none()
                    && synonyms::otherwise(written).is_some_and(|instead| instead.contains(&named)))
        })
    }

    fn report_unknown(&self, pair: &Pair, elsewhere: MisplacedKeyHint, sink: &mut Sink) {
        if sink.is_full() {
            return;
        }
        let key = pair.key.value.as_str();
        let free = |known: &str| self.shape.keys.contains(&known) && !self.has(known);
        let ours = synonyms::ours(key, free);
        if let Some(place) = elsewhere(key).filter(|_| ours.is_none()) {
            sink.push(
                Diagnostic::error(
                    codes::MISPLACED_KEY,
                    pair.key.span,
                    format!("`{key}` does not belong in {}", self.shape.what),
                )
                .label("not here")
                .help(place),
            );
            return;
        }
        // A second verb in one step.
        let verb = || {
            synonyms::ours(key, super::step::is_verb).filter(|_| self.shape.keys.contains(&"catch"))
        };
        let diagnostic = Diagnostic::error(
            codes::UNKNOWN_KEY,
            pair.key.span,
            format!("unknown key `{key}` in {}", self.shape.bare()),
        )
        .label("unknown key");
        sink.push(if let Some(ours) = ours {
            diagnostic.help(format!("it is called `{ours}` here"))
        } else if let Some(verb) = verb() {
            diagnostic.help(format!("it is called `{verb}` here, and is a separate step"))
        } else if let Some(instead) = synonyms::otherwise(key) {
            diagnostic.help(instead)
        } else if let Some(near) =
            suggest::nearest(key, self.shape.keys.iter().copied().filter(|known| free(known)))
        {
            diagnostic.help(format!("did you mean `{near}`?"))
        } else {
            diagnostic.note(format!("the keys here are {}", list(self.shape.keys.iter().copied())))
        });
    }
}

/// For shapes none of whose keys is at home elsewhere.
pub fn nowhere(_: &str) -> Option<String> {
    None
}

/// `a`, `b` and `c`.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// Reports a value of the wrong kind. `what` is what it should have been part of, `wanted` what
/// belongs there.
pub fn wrong_kind(what: &str, node: &Node, wanted: &str, sink: &mut Sink) {
    if matches!(node.kind, Kind::Broken) {
        return;
    }
    sink.push(wrong(what, node, wanted));
}

fn wrong(what: &str, node: &Node, wanted: &str) -> Diagnostic {
    Diagnostic::error(
        codes::WRONG_KIND,
        node.span,
        format!("{what} must be {wanted}, not {}", node.describe()),
    )
    .label(format!("this is {}", node.describe()))
}

/// Reports a key behind whose colon nothing stands.
pub fn no_value(pair: &Pair, sink: &mut Sink) {
    let key = &pair.key.value;
    sink.push(
        Diagnostic::error(codes::WRONG_KIND, pair.key.span, format!("`{key}` has no value"))
            .label("nothing follows it")
            .help(
                "give it a value or leave the key out; an empty list is `[]`, an empty record `{}`",
            ),
    );
}
