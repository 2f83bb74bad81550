//! A scalar of a YAML file: its value after unquoting and folding, and the way back from a part of
//! the value to its place in the file. Expressions and `${…}` texts are parsed from the value; only
//! this module knows where their parts stand in the source.

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
    /// Runs that stand in the file as they are: value offset and file offset of each, ascending.
    /// Between them something was folded or unescaped.
    Runs(Box<[(u32, u32)]>),
}

impl Text {
    /// A value that stands in the file exactly as it is, from the start of `span`.
    pub fn new(value: impl Into<String>, span: Span) -> Self {
        Self { value: value.into(), span, places: Places::Exact(span.start) }
    }

    /// A value whose source differs from it by quotes, escapes, indentation or folding. `source` is
    /// the text at `span`.
    pub(crate) fn aligned(value: impl Into<String>, span: Span, source: &str) -> Self {
        let value = value.into();
        let places = align(&value, source, span.start);
        Self { value, span, places }
    }

    /// The place in the file of a byte range of the value.
    pub fn at(&self, range: Range<usize>) -> Span {
        let start =
            self.offset(range.start).clamp(self.span.start, self.span.end.max(self.span.start));
        // The end is found from the last byte of the range, so that a range never swallows the line
        // break behind it.
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

/// Finds the characters of `value` in `source`, in order. As long as both advance together they are
/// one run; what stands between (quotes, indentation, line breaks, escapes) begins a new one. It
/// serves snippets, so a character that cannot be found is placed where the search stands.
fn align(value: &str, source: &str, base: u32) -> Places {
    let at = |offset: usize| base.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
    let quote = source.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inside = usize::from(quote.is_some());
    if source.get(inside..source.len().saturating_sub(inside)) == Some(value) {
        return Places::Exact(at(inside));
    }
    let mut search = Search { source, next: inside, quote, blanks_end: 0, last_break: 0 };
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut expected = usize::MAX;
    for (value_at, c) in value.char_indices() {
        let start = search.find(c);
        if start != expected {
            runs.push((u32::try_from(value_at).unwrap_or(u32::MAX), at(start)));
        }
        // After an escape the source has advanced further than the value,         // separate.
        expected = if search.next - start == c.len_utf8() { search.next } else { usize::MAX };
    }
    Places::Runs(runs.into())
}

/// What YAML folds; other white space is text like any other.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Goes through the source of a scalar, always forward.
struct Search<'a> {
    source: &'a str,
    next: usize,
    quote: Option<char>,
    /// Of the run of blanks and line breaks that was looked at last: its end, and the end of its
    /// last line break.
    blanks_end: usize,
    last_break: usize,
}

impl Search<'_> {
    /// Where the character `c` of the value stands; the search goes on behind it.
    fn find(&mut self, c: char) -> usize {
        if self.quote == Some('"') && self.rest().starts_with('\\') {
            return self.escape();
        }
        let start = self.next;
        if self.quote == Some('\'') && self.rest().starts_with("''") {
            self.next += 2;
            return start;
        }
        let (blanks_end, breaks) = self.blanks();
        if !BLANKS.contains(&c) {
            self.next = blanks_end;
            return self.step();
        }
        // A single blank in the line is itself; a break with the blanks around it is whatever the
        // fold has made of it.
        if c == ' ' && breaks || !self.rest().starts_with(c) {
            self.next = blanks_end;
            return start;
        }
        self.step()
    }

    /// Takes one character.
    fn step(&mut self) -> usize {
        let start = self.next;
        self.next += self.rest().chars().next().map_or(0, char::len_utf8);
        start
    }

    /// Takes an escape, and before it any escaped line break, which stands for nothing.
    fn escape(&mut self) -> usize {
        while self.rest().starts_with("\\\n") || self.rest().starts_with("\\\r") {
            self.next += 1;
            self.next = self.blanks().0;
            if !self.rest().starts_with('\\') {
                return self.step();
            }
        }
        let start = self.next;
        self.next += 1;
        let hex = match self.rest().chars().next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        for _ in 0..=hex {
            self.step();
        }
        start
    }

    /// Where the blanks and breaks from here on end, and whether there is a break among them. Looks
    /// at each character once.
    fn blanks(&mut self) -> (usize, bool) {
        if self.next >= self.blanks_end {
            let rest = self.rest();
            let blanks = &rest[..rest.len() - rest.trim_start_matches(BLANKS).len()];
            let (len, last_break) = (blanks.len(), blanks.rfind('\n'));
            self.last_break = last_break.map_or(0, |at| self.next + at + 1);
            self.blanks_end = self.next + len;
        }
        (self.blanks_end, self.last_break > self.next)
    }

    fn rest(&self) -> &str {
        self.source.get(self.next..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;

    /// The source of each part of the value, by its first occurrence.
    fn sources<'a>(value: &str, source: &'a str, parts: &[&str]) -> Vec<&'a str> {
        let span = Span {
            file: FileId(0),
            start: 0,
            end: u32::try_from(source.len()).expect("a short source"),
        };
        let text = Text::aligned(value, span, source);
        let source_of = |part: &&str| {
            let at = value.find(part).expect("a part of the value");
            let span = text.at(at..at + part.len());
            &source[span.start as usize..span.end as usize]
        };
        parts.iter().map(source_of).collect()
    }

    #[test]
    fn parts_of_a_value_are_found_in_their_source() {
        assert_eq!(sources("a.b > c", "a.b > c", &["a.b", "c"]), ["a.b", "c"]);
        assert_eq!(sources("a == 'b'", "'a == ''b'''", &["a", "b"]), ["a", "b"]);
        assert_eq!(
            sources("say \"x\" é \u{e9} end", r#""say \"x\" é \u00e9 end""#, &["say", "x", "end"]),
            ["say", "x", "end"]
        );
        assert_eq!(
            sources(
                "one two\nthree  four",
                "one\n    two\n\n   three  four",
                &["one", "two", "three", "four"]
            ),
            ["one", "two", "three", "four"]
        );
        assert_eq!(
            sources("one\n  two\nthree\n", "one\n      two\n    three\n", &["one", "two", "three"]),
            ["one", "two", "three"]
        );
        assert_eq!(
            sources("onetwo x", "\"one\\\n   two x\"", &["one", "two", "x"]),
            ["one", "two", "x"]
        );
        assert_eq!(sources("", "\"\"", &[""]), [""]);
    }
}
