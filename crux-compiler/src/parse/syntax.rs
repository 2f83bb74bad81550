//! What YAML trips over, in the words of a pipeline's author: which rule of YAML was hit on this
//! line, and the line as it should be. Looks at the source around the place that the parser names;
//! never at more than the lines concerned.

use crate::codes;
use crate::diagnostic::{Code, Diagnostic};
use crate::source::{FileId, Span};

/// A byte range as a span.
pub fn span(file: FileId, start: usize, end: usize) -> Span {
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { file, start: offset(start), end: offset(end.max(start)) }
}

/// The end of the line that `at` is on, its break excluded.
pub fn line_end(source: &str, at: usize) -> usize {
    let rest = source.get(at..).unwrap_or_default();
    let line = rest.find('\n').map_or(rest, |len| &rest[..len]);
    at + line.strip_suffix('\r').unwrap_or(line).len()
}

/// The end of the character that `at` is in, so that a place never cuts one in two.
fn boundary(source: &str, at: usize) -> usize {
    (at..source.len()).find(|at| source.is_char_boundary(*at)).unwrap_or(source.len())
}

fn line_start(source: &str, at: usize) -> usize {
    source.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1)
}

/// Longer lines are not quoted in a fix.
const LINE_BYTES_MAX: usize = 500;

/// A line `key: value` or `- value` of block style.
struct Line<'a> {
    /// Indentation, dashes, key and colon, up to the value.
    head: &'a str,
    /// Without a comment and blanks at its end; may be empty.
    value: &'a str,
    value_start: usize,
}

impl<'a> Line<'a> {
    fn at(source: &'a str, at: usize) -> Self {
        let start = line_start(source, at);
        let line = source
            .get(start..line_end(source, start))
            .filter(|line| line.len() <= LINE_BYTES_MAX)
            .unwrap_or_default();
        let mut value_at = line.len() - line.trim_start().len();
        while let Some(rest) = line.get(value_at..).filter(|rest| rest.starts_with("- ")) {
            value_at += rest.len() - rest[1..].trim_start().len();
        }
        let key = line.get(value_at..).unwrap_or_default();
        if let Some(colon) = key.find(": ").filter(|colon| {
            key[..*colon].chars().all(|c| c.is_alphanumeric() || "_.$-".contains(c))
        }) {
            value_at += key.len() - key[colon + 1..].trim_start().len();
        }
        let value = line.get(value_at..).unwrap_or_default();
        Self { head: &line[..value_at], value: value.trim_end(), value_start: start + value_at }
    }

    /// Whether its key takes a bare expression.
    fn is_expression(&self) -> bool {
        let key = self.head.trim_end().trim_end_matches(':');
        let key = key.rsplit([' ', '-']).next().unwrap_or_default();
        matches!(key, "when" | "until" | "where" | "value" | "in" | "yield")
    }

    /// The line with its value in quotes.
    fn fixed(&self) -> String {
        if self.value.is_empty() {
            return "\"…\"".into();
        }
        let value = without_comment(self.value);
        format!("{}{}", self.head.trim_start(), requoted(value).unwrap_or_else(|| quoted(value)))
    }
}

/// A value in quotes that has the same quotes inside, with others around it: of `"${x ?? "y"}"`
/// this is `'${x ?? "y"}'`.
fn requoted(value: &str) -> Option<String> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inner = value
        .get(1..)?
        .strip_suffix(quote)
        .filter(|inner| inner.contains(quote) && inner.contains("${"))?;
    Some(if quote == '"' {
        format!("'{}'", inner.replace('\'', "''"))
    } else {
        format!("\"{}\"", inner.replace('\\', "\\\\").replace('"', "\\\""))
    })
}

/// A text in the quotes that need the fewest escapes.
fn quoted(text: &str) -> String {
    if !text.contains('"') && !text.contains('\\') {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// Cuts off a comment that is meant as one: blank, `#`, blank.
fn without_comment(value: &str) -> &str {
    value.find(" # ").map_or(value, |at| value[..at].trim_end())
}

/// A tag, anchor or alias at `start..end`.
pub fn refused(
    file: FileId,
    source: &str,
    start: usize,
    end: usize,
    code: Code,
    what: &str,
) -> Diagnostic {
    let token = source.get(start..end).unwrap_or_default();
    let line = Line::at(source, start);
    let shown = if token.is_empty() { "it" } else { token };
    let diagnostic = Diagnostic::error(
        code,
        span(file, start, end),
        format!("`{shown}` is {what} to YAML, and pipelines have none"),
    )
    .label(format!("{what} begins with `{}`", token.chars().next().unwrap_or(' ')));
    let after = line.value.get(token.len()..).unwrap_or_default().trim_start();
    let text_follows =
        line.value_start == start && !after.is_empty() && !after.starts_with(['{', '[', '#']);
    let is_negation = token
        .strip_prefix('!')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '('));
    if code == codes::TAG && line.value_start == start && (is_negation || line.is_expression()) {
        diagnostic.help(format!("put the expression in quotes: `{}`", line.fixed()))
    } else if text_follows {
        diagnostic.help(format!(
            "if it is a string or an expression, put it in quotes: `{}`",
            line.fixed()
        ))
    } else if code == codes::TAG {
        diagnostic.help("leave the tag out; types are declared, not tagged")
    } else {
        diagnostic.help("write the value out where it is needed, or in quotes if it is a string; a contract used by several steps belongs under `step_types`")
    }
}

/// Whether the comment behind the plain scalar at `start..end` was meant as a part of it.
pub fn swallowed(
    file: FileId,
    source: &str,
    value: &str,
    start: usize,
    end: usize,
) -> Option<Diagnostic> {
    let rest = source.get(end..)?;
    let comment = rest.trim_start_matches([' ', '\t']);
    if comment.len() == rest.len() || !comment.starts_with('#') {
        return None;
    }
    let comment = source.get(source.len() - comment.len()..line_end(source, end))?;
    let glued = comment[1..].starts_with(|c: char| c.is_alphanumeric() || c == '$');
    let open = value.matches('"').count() % 2 == 1
        || value.matches("${").count() > value.matches('}').count();
    if !glued && !open {
        return None;
    }
    let at = line_end(source, end) - comment.len();
    let line = Line::at(source, start);
    let head = if line.value_start == start { line.head.trim_start() } else { "" };
    let whole = source
        .get(start..line_end(source, end))
        .filter(|whole| whole.len() <= LINE_BYTES_MAX)
        .unwrap_or("…")
        .trim_end();
    let diagnostic = Diagnostic::error(
        codes::SWALLOWED,
        span(file, at, line_end(source, end)),
        "a comment swallows the end of this string",
    )
    .label("to YAML, a comment begins at ` #`")
    .other(span(file, start, end), "so the string is only this")
    .help(format!("put the string in quotes: `{head}{}`", quoted(whole)));
    Some(if open {
        diagnostic
    } else {
        diagnostic.help("if it is a comment, write a blank after the `#`")
    })
}

/// Where a syntax error is and what was open there.
pub struct Stop<'a> {
    pub at: usize,
    /// Where the last understood part ended.
    pub last_end: usize,
    /// The outermost `[` or `{` of YAML that is still open.
    pub open_bracket: Option<usize>,
    /// The parser's own words.
    pub info: &'a str,
}

/// A syntax error in the words of the language.
pub fn explain(file: FileId, source: &str, stop: &Stop<'_>) -> Diagnostic {
    let Stop { at, info, .. } = *stop;
    let error = |start: usize, end: usize, message: &str| {
        Diagnostic::error(codes::SYNTAX, span(file, start, boundary(source, end)), message)
    };
    let tab_behind_colon =
        info.contains("YAML whitespace").then(|| tab_behind_colon(source, at)).flatten();
    if info.contains("tab") || tab_behind_colon.is_some() {
        let tab = tab_behind_colon.unwrap_or_else(|| indenting_tab(source, at));
        return error(tab, tab + 1, "YAML does not allow a tab here")
            .label("a tab")
            .help("write blanks");
    }
    if info.contains("escape") || info.contains("hexadecimal") {
        let diagnostic = error(at, line_end(source, at), "an unknown escape in double quotes")
            .label("in this string");
        return diagnostic
            .help("a backslash itself is written `\\\\`; in single quotes nothing is escaped");
    }
    if info.contains("quoted scalar") && !info.contains("trailing") {
        return error(at, at + 1, "a quote is opened and not closed")
            .label("opened here")
            .help("close it on the same line; a quote inside double quotes is `\\\"`, inside single quotes `''`");
    }
    if info.contains("comment intercepting") {
        let diagnostic = error(
            at,
            line_end(source, at),
            "a comment ends a string without quotes, but the string goes on in the next line",
        );
        return diagnostic
            .label("the comment")
            .help("put the string in quotes, or the comment on its own line");
    }
    if let Some(open) = stop.open_bracket {
        return in_brackets(file, source, at, open);
    }
    in_block(file, source, stop)
}

/// The tab that stands where a blank belongs, between a key's colon and its value.
fn tab_behind_colon(source: &str, at: usize) -> Option<usize> {
    let start = line_start(source, at);
    source.get(start..line_end(source, start))?.find(":\t").map(|colon| start + colon + 1)
}

/// The first tab that indents a line, from the line of `at` on.
fn indenting_tab(source: &str, at: usize) -> usize {
    let mut start = line_start(source, at);
    for line in source.get(start..).unwrap_or_default().split_inclusive('\n') {
        let indentation = &line[..line.len() - line.trim_start().len()];
        if let Some(tab) = indentation.find('\t') {
            return start + tab;
        }
        start += line.len();
    }
    at
}

/// An error outside of brackets: something in the value of this line, or the line itself in the
/// wrong place.
fn in_block(file: FileId, source: &str, stop: &Stop<'_>) -> Diagnostic {
    let Stop { at, info, .. } = *stop;
    let error = |start: usize, end: usize, message: &str| {
        Diagnostic::error(codes::SYNTAX, span(file, start, boundary(source, end)), message)
    };
    let line = Line::at(source, at);
    let value_end = line.value_start + line.value.len();
    let in_value = at >= line.value_start && !line.value.is_empty();
    let quote = |diagnostic: Diagnostic| {
        diagnostic.help(format!("put the whole string in quotes: `{}`", line.fixed()))
    };
    match line.value.chars().next().filter(|_| in_value) {
        Some(c @ ('"' | '\'')) => {
            let diagnostic = error(
                line.value_start,
                value_end,
                "a string that begins with a quote ends at its closing quote",
            );
            let diagnostic = diagnostic.label(format!("more follows the closing {c}"));
            return match requoted(without_comment(line.value)) {
                Some(_) => {
                    diagnostic.help(format!("use the other quotes around it: `{}`", line.fixed()))
                }
                None => quote(diagnostic),
            };
        }
        Some('[' | '{') => {
            let message = "a value that begins with a bracket is a list or record and ends at its closing bracket";
            return quote(
                error(line.value_start, value_end, message)
                    .label("something follows the closing bracket"),
            );
        }
        Some(c @ ('!' | '&' | '*' | '@' | '`' | '%' | '|' | '>')) => {
            let diagnostic = error(
                line.value_start,
                value_end,
                &format!("a string without quotes cannot begin with `{c}`"),
            );
            return quote(diagnostic.label(format!("`{c}` has a special meaning in YAML")));
        }
        Some('-') if info.contains("block sequence") => {
            return error(at, at + 1, "a list begins on its own line")
                .label("this `-`")
                .help("break the line before `-`, or write `[a, b]`");
        }
        _ => {}
    }
    if info.contains("mapping values are not allowed") || info.contains("illegal placement of ':'")
    {
        // The colon of a second pair in the value of this line, or of a line that continues the
        // value of the one above.
        if in_value
            && at > line.value_start
            && stop.last_end >= line.value_start
            && line.head.trim_end().ends_with([':', '-'])
        {
            return quote(
                error(at, at + 1, "`: ` in a string without quotes begins a record")
                    .label("this colon"),
            );
        }
        let diagnostic = error(at, at + 1, "a key is written where the value above continues")
            .label("this colon");
        return diagnostic
            .help("line it up with the keys it belongs to, or leave the value above empty");
    }
    if ["expected key", "'-' indicator", "indentation", "<document start>", "simple key"]
        .iter()
        .any(|words| info.contains(words))
    {
        let diagnostic =
            error(at, line_end(source, at).max(at), "this line does not fit the lines above");
        return diagnostic
            .label("neither a key nor an element at this depth")
            .help("check the indentation, the `-` and the `:` of this line and of the one above");
    }
    error(at, at + 1, &format!("YAML does not allow this: {info}"))
        .label("here")
        .help("if it is a string, put it in quotes")
}

/// On the line of `at`, the text around it from a quote before `${` to the same quote behind the
/// last `}`.
fn quoted_around(source: &str, at: usize) -> Option<(usize, usize)> {
    let start = line_start(source, at);
    let line =
        source.get(start..line_end(source, start)).filter(|line| line.len() <= LINE_BYTES_MAX)?;
    let before = line.get(..at - start)?;
    ['"', '\''].into_iter().find_map(|quote| {
        let from = before.rfind(&format!("{quote}${{"))?;
        let to = from + line.get(from..)?.rfind(&format!("}}{quote}"))? + 2;
        (start + to > at).then_some((start + from, start + to))
    })
}

/// An error inside `[…]` or `{…}` that was opened at `open`.
fn in_brackets(file: FileId, source: &str, at: usize, open: usize) -> Diagnostic {
    let end = line_end(source, at);
    let inside = source.get(open + 1..end).unwrap_or_default();
    let error = |message: &str| {
        Diagnostic::error(codes::SYNTAX, span(file, at, boundary(source, at + 1)), message)
    };
    if let Some((start, end)) = quoted_around(source, at)
        && let Some(fixed) = source.get(start..end).and_then(requoted)
    {
        return Diagnostic::error(
            codes::SYNTAX,
            span(file, start, end),
            "a string that begins with a quote ends at the next one",
        )
        .label("the quotes inside end the string")
        .help(format!("use the other quotes around it: `{fixed}`"));
    }
    if source.get(open + 1..at).is_some_and(|before| before.trim_end().ends_with('$')) {
        return error("inside `{ }` and `[ ]`, the brace of `${…}` is a brace of YAML")
            .label("YAML reads this as a separate bracket")
            .help("put `${…}` in quotes, or write one key per line");
    }
    if 1 + inside.matches(['[', '{']).count() > inside.matches([']', '}']).count() {
        return Diagnostic::error(
            codes::SYNTAX,
            span(file, open, open + 1),
            "a bracket is opened and not closed",
        )
        .label("opened here")
        .other(span(file, at, at), "YAML gives up here")
        .help("close it, or write one entry per line");
    }
    error("inside `{ }` and `[ ]`, brackets, commas and `: ` belong to YAML")
        .label("YAML expects `,` or the closing bracket here")
        .help("put the string in quotes, or write one entry per line")
}
