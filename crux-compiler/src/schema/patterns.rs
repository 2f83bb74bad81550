//! The rules of single values as regular expressions. The parser has them in Rust; the agreement
//! tests hold both together.

use crate::names::Kind;
use crate::parse::types;

/// `1h30m`.
pub const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";
/// Of durations: nothing but zeros.
pub const DURATION_ZERO: &str = "^[0a-z]*$";
/// Not empty, not only blanks.
pub const FILLED: &str = "[^ \\t\\r\\n]";
/// A path of plain words, without parameters.
pub const HTTP: &str = "^POST (/[A-Za-z0-9._~-]+)+$";
/// A name that would have to be computed.
pub const COMPUTED: &str = "[$][{]";

/// A type in a text, or the words of an enum.
pub fn type_text() -> String {
    let bare = |kind: Kind| kind.pattern().trim_start_matches('^').trim_end_matches('$').to_owned();
    let bases: Vec<&str> = types::BASES.iter().map(|(base, _)| *base).collect();
    let base = format!("({}|{})", bases.join("|"), bare(Kind::Type));
    // A regular expression cannot nest without end, so it is unrolled as deep as the parser goes.
    let mut ty = format!("{base}[?]?");
    for _ in 1..types::NESTING_MAX {
        ty = format!("({base}|(list|map) *< *{ty} *>)[?]?");
    }
    let word = bare(Kind::Word);
    format!("^ *({ty}|{word}( *[|] *{word})+) *$")
}
