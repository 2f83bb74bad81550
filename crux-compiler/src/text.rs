//! A scalar of a YAML file: its value after unquoting and folding, and the way back from a part of the value to its place in the
//! file. Expressions and `${…}` texts are parsed from the value; only this module knows where their parts stand in the source.

use std::ops::Range;

use crate::source::Span;

/// The value of a scalar, with the place of every part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub value: String,
    /// The whole scalar as written, quotes included.
    pub span: Span,
    places: Places,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Places {
    /// The value stands in the file as it is, from this byte on.
    Exact(u32),
    /// Runs that stand in the file as they are: value offset and file offset of each, ascending. Between them something was folded or
    /// unescaped.
    Runs(Box<[(u32, u32)]>),
}

impl Text {
    /// A value that stands in the file exactly as it is, from the start of `span`.
    pub fn new(value: impl Into<String>, span: Span) -> Self {
        Self { value: value.into(), span, places: Places::Exact(span.start) }
    }

    /// A value whose source differs from it by quotes, escapes, indentation or folding. `source` is the text at `span`.
    pub(crate) fn aligned(value: impl Into<String>, span: Span, source: &str) -> Self {
        let value = value.into();
        let places = align(&value, source, span.start);
        Self { value, span, places }
    }

    /// The place in the file of a byte range of the value.
    pub fn at(&self, range: Range<usize>) -> Span {
        let start = self.offset(range.start).clamp(self.span.start, self.span.end.max(self.span.start));
        // The end is found from the last byte of the range, so that a range never swallows the line break behind it.
        let end = if range.end > range.start { self.offset(range.end - 1) + 1 } else { start };
        Span { file: self.span.file, start, end: end.clamp(start, self.span.end.max(start)) }
    }

    fn offset(&self, value_at: usize) -> u32 {
        let value_at = u32::try_from(value_at).unwrap_or(u32::MAX);
        match &self.places {
            Places::Exact(start) => start.saturating_add(value_at),
            Places::Runs(runs) => {
                let next = runs.partition_point(|(at, _)| *at <= value_at);
                match next.checked_sub(1).and_then(|last| runs.get(last)) {
                    Some((at, source_at)) => source_at.saturating_add(value_at - at),
                    None => self.span.start,
                }
            }
        }
    }
}

/// Finds the characters of `value` in `source`, in order. As long as both advance together they are one run; what stands between
/// (quotes, indentation, line breaks, escapes) begins a new one. It serves snippets, so a character that cannot be found is placed
/// where the search stands.
fn align(value: &str, source: &str, base: u32) -> Places {
    let at = |offset: usize| base.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
    let quote = source.chars().next().filter(|c| matches!(c, '"' | '\''));
    let mut next = if quote.is_some() { 1 } else { 0 };
    if quote.is_none() && source.starts_with(['|', '>']) {
        // The header of a block scalar is no part of its value.
        next = source.find('\n').map_or(source.len(), |end| end + 1);
    }
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut expected = usize::MAX;
    for (value_at, c) in value.char_indices() {
        let (start, end) = find(c, source, next, quote);
        if start != expected {
            runs.push((u32::try_from(value_at).unwrap_or(u32::MAX), at(start)));
        }
        // After an escape the source has advanced further than the value, so what follows is a run of its own.
        expected = if end - start == c.len_utf8() { end } else { usize::MAX };
        next = end;
    }
    match runs[..] {
        [] => Places::Exact(at(next)),
        [(0, start)] => Places::Exact(start),
        _ => Places::Runs(runs.into()),
    }
}

/// Where in `source`, from `next` on, the character `c` of the value stands: start and end.
fn find(c: char, source: &str, next: usize, quote: Option<char>) -> (usize, usize) {
    let rest = &source[next..];
    match (quote, rest.as_bytes()) {
        (Some('"'), [b'\\', b'\n' | b'\r', ..]) => {
            // An escaped line break, and the indentation after it, stand for nothing.
            let after = rest[1..].trim_start();
            return find(c, source, source.len() - after.len(), None.or(quote));
        }
        (Some('"'), [b'\\', kind, ..]) => {
            let len = match kind {
                b'x' => 4,
                b'u' => 6,
                b'U' => 10,
                _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            };
            return (next, ceil_boundary(source, next + len));
        }
        (Some('\''), [b'\'', b'\'', ..]) => return (next, next + 2),
        _ => {}
    }
    let blank = rest.len() - rest.trim_start().len();
    if c.is_whitespace() {
        // A single blank in the line is itself; a break with the blanks around it is whatever the fold has made of it.
        let folded = rest[..blank].contains('\n') && c == ' ' || !rest.starts_with(c);
        return (next, if folded { next + blank } else { next + c.len_utf8() });
    }
    let start = next + blank;
    (start, ceil_boundary(source, start + source[start..].chars().next().map_or(0, char::len_utf8)))
}

fn ceil_boundary(source: &str, at: usize) -> usize {
    (at..=source.len()).find(|at| source.is_char_boundary(*at)).unwrap_or(source.len())
}
