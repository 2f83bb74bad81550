//! YAML events into a tree in which every key and node knows its place. What YAML allows and
//! pipelines do not is refused here: tags, anchors, aliases, merge keys, keys that are not text,
//! keys written twice, a second document, and plain texts whose end a comment has swallowed. Depth
//! and number of nodes are bounded; nothing is ever expanded, so an alias bomb is one error.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::syntax;
use crate::codes;
use crate::diagnostic::{Code, Diagnostic, Sink};
use crate::model::Name;
use crate::source::{FileId, Span};
use crate::text::Text;

/// Deepest nesting of lists and mappings.
pub const DEPTH_MAX: usize = 100;
/// Most keys and values in one file.
pub const NODES_MAX: usize = 100_000;

/// One value of a file.
#[derive(Debug)]
pub struct Node {
    pub kind: Kind,
    pub span: Span,
}

#[derive(Debug)]
pub enum Kind {
    /// Nothing was written.
    Absent,
    Null,
    /// A plain scalar that YAML reads as something else than text; the text is as written.
    Boolean(bool, Text),
    Integer(i64, Text),
    /// Finite.
    Number(f64, Text),
    Text(Text),
    List(Vec<Node>),
    Mapping(Vec<Pair>),
    /// What stood here has been refused already.
    Broken,
}

/// One key of a mapping and its value.
#[derive(Debug)]
pub struct Pair {
    pub key: Name,
    pub value: Node,
}

impl Node {
    /// What it is, with its article, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Absent => "nothing",
            Kind::Null => "null",
            Kind::Boolean(..) => "a boolean",
            Kind::Integer(..) => "an integer",
            Kind::Number(..) => "a number",
            Kind::Text(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Mapping(_) => "a record",
            Kind::Broken => "something refused",
        }
    }
}

/// The content of a file; `None` if there is none, or after a syntax error, which is then in the
/// sink.
pub fn read(file: FileId, source: &str, sink: &mut Sink) -> Option<Node> {
    let mut reader = Reader {
        file,
        source,
        bytes: ByteOffsets::new(source),
        sink,
        open: Vec::new(),
        nodes: 0,
        root: None,
        documents: 0,
        last_end: 0,
        refused_to: 0,
    };
    if let Some((at, c)) = source.char_indices().find(|(_, c)| is_forbidden(*c)) {
        let message = format!("YAML does not allow the character U+{:04X}", u32::from(c));
        let diagnostic =
            Diagnostic::error(codes::SYNTAX, syntax::span(file, at, at + c.len_utf8()), message);
        let what = if c == '\0' {
            "a NUL: the file may be damaged, or not UTF-8"
        } else {
            "a control character"
        };
        reader.sink.push(diagnostic.label(what).help("take it out"));
        return None;
    }
    let mut parser = Parser::new_from_str(source);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                let (start, end) =
                    (reader.bytes.at(span.start.index()), reader.bytes.at(span.end.index()));
                reader.event(event, start, end)?;
            }
            Err(error) => {
                let at = reader.bytes.at(error.marker().index());
                let flow = |open: &&Open| {
                    source.get(open.start..).is_some_and(|rest| rest.starts_with(['{', '[']))
                };
                let open_bracket = reader.open.iter().find(flow).map(|open| open.start);
                let stop = syntax::Stop {
                    at,
                    last_end: reader.last_end,
                    open_bracket,
                    info: error.info(),
                };
                let diagnostic = syntax::explain(file, source, &stop);
                // A tag or an anchor on the same line has led to it and has been explained.
                if at >= reader.refused_to {
                    reader.sink.push(diagnostic);
                }
                return None;
            }
        }
    }
    reader.root
}

/// Characters that YAML does not allow: control characters except tab and line breaks.
fn is_forbidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')
}

struct Reader<'s> {
    file: FileId,
    source: &'s str,
    bytes: ByteOffsets,
    sink: &'s mut Sink,
    open: Vec<Open>,
    nodes: usize,
    root: Option<Node>,
    documents: usize,
    /// Where the last event ended.
    last_end: usize,
    /// The end of the last line on which something was refused; a syntax error up to here is its
    /// consequence.
    refused_to: usize,
}

/// A list or mapping that has not ended yet.
struct Open {
    start: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Mapping { pairs: Vec<Pair>, key: Option<Name>, first: HashMap<String, Span> },
}

impl Reader<'_> {
    /// `None` stops the reading: a limit is exceeded, or a second document begins.
    fn event(&mut self, event: Event<'_>, start: usize, end: usize) -> Option<()> {
        if self.sink.is_full() {
            return None;
        }
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let refused = self.refuse_properties(anchor > 0, tag.is_some(), start);
                let node = self.scalar(&value, style, start, end, refused);
                self.add(node)?;
            }
            Event::Alias(_) => {
                self.refuse(start, end, codes::ANCHOR, "an alias");
                let node = Node { kind: Kind::Broken, span: self.span(start, end) };
                self.add(node)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(anchor > 0, tag.is_some(), start);
                self.begin(start, Items::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(anchor > 0, tag.is_some(), start);
                self.begin(
                    start,
                    Items::Mapping { pairs: Vec::new(), key: None, first: HashMap::new() },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(end)?,
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let diagnostic = Diagnostic::error(
                        codes::DOCUMENTS,
                        self.span(start, end),
                        "a second document begins in the same file",
                    )
                    .label("one file holds one pipeline")
                    .help("move what follows into a separate file");
                    self.sink.push(diagnostic);
                    return None;
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        self.last_end = self.last_end.max(end);
        Some(())
    }

    fn begin(&mut self, start: usize, items: Items) -> Option<()> {
        if self.open.len() >= DEPTH_MAX {
            return self.exceed(start, format!("nested more than {DEPTH_MAX} deep"));
        }
        self.open.push(Open { start, items });
        Some(())
    }

    fn end(&mut self, end: usize) -> Option<()> {
        let open = self.open.pop()?;
        let closed = self.source.get(open.start..).is_some_and(|rest| rest.starts_with(['{', '[']));
        let node = match open.items {
            Items::List(nodes) => {
                // A block list ends with its last element, not with the blank lines behind it.
                let end =
                    nodes.last().filter(|_| !closed).map_or(end, |node| node.span.end as usize);
                Node { kind: Kind::List(nodes), span: self.span(open.start, end) }
            }
            Items::Mapping { pairs, .. } => {
                let end = pairs
                    .last()
                    .filter(|_| !closed)
                    .map_or(end, |pair| pair.value.span.end as usize);
                Node { kind: Kind::Mapping(pairs), span: self.span(open.start, end) }
            }
        };
        self.add(node)
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node) -> Option<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.exceed(
                node.span.start as usize,
                format!("the file has more than {NODES_MAX} values"),
            );
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Some(());
        };
        match &mut open.items {
            Items::List(nodes) => nodes.push(node),
            Items::Mapping { pairs, key, first } => match key.take() {
                Some(key) => match first.get(&key.value) {
                    Some(earlier) => self.sink.push(
                        Diagnostic::error(
                            codes::KEY_TWICE,
                            key.span,
                            format!("the key `{}` is written twice", key.value),
                        )
                        .label("here again")
                        .other(*earlier, "first here")
                        .help("keep one of them"),
                    ),
                    None => {
                        first.insert(key.value.clone(), key.span);
                        pairs.push(Pair { key, value: node });
                    }
                },
                None => *key = Some(key_of(node, self.sink)),
            },
        }
        Some(())
    }

    fn scalar(
        &mut self,
        value: &str,
        style: ScalarStyle,
        start: usize,
        end: usize,
        refused: bool,
    ) -> Node {
        let span = self.span(start, end);
        // A scalar that is not there has the place of what precedes it.
        if style == ScalarStyle::Plain && value.is_empty() {
            let at = self.last_end.min(start);
            return Node {
                kind: if refused { Kind::Broken } else { Kind::Absent },
                span: self.span(at, at),
            };
        }
        if refused {
            return Node { kind: Kind::Broken, span };
        }
        let text = Text::aligned(value, span, self.source.get(start..end).unwrap_or_default());
        if style != ScalarStyle::Plain {
            return Node { kind: Kind::Text(text), span };
        }
        if let Some(diagnostic) = syntax::swallowed(self.file, self.source, value, start, end) {
            self.sink.push(diagnostic);
            return Node { kind: Kind::Broken, span };
        }
        if is_infinite(value) {
            let diagnostic = Diagnostic::error(
                codes::NOT_FINITE,
                span,
                format!("`{value}` is not a finite number"),
            );
            self.sink.push(
                diagnostic
                    .label("no number here is infinite or undefined")
                    .help("if it is a string, put it in quotes"),
            );
            return Node { kind: Kind::Broken, span };
        }
        Node { kind: plain(text), span }
    }

    /// Refuses the tag and anchor before a node. Whether there was one.
    fn refuse_properties(&mut self, anchor: bool, tag: bool, start: usize) -> bool {
        if !anchor && !tag {
            return false;
        }
        let between = self.source.get(self.last_end..start).unwrap_or_default();
        let at = between.find(if tag { '!' } else { '&' }).map_or(start, |at| self.last_end + at);
        let len = self.source[at..].find(char::is_whitespace).unwrap_or(self.source.len() - at);
        self.refuse(
            at,
            at + len,
            if tag { codes::TAG } else { codes::ANCHOR },
            if tag { "a tag" } else { "an anchor" },
        );
        true
    }

    fn refuse(&mut self, start: usize, end: usize, code: Code, what: &str) {
        self.refused_to = syntax::line_end(self.source, end) + 1;
        let diagnostic = syntax::refused(self.file, self.source, start, end, code, what);
        self.sink.push(diagnostic);
    }

    fn exceed(&mut self, at: usize, what: String) -> Option<()> {
        let diagnostic = Diagnostic::error(codes::LIMIT, self.span(at, at), what)
            .label("the compiler stops reading here")
            .help("split the pipeline into several files");
        self.sink.push(diagnostic);
        None
    }

    fn span(&self, start: usize, end: usize) -> Span {
        syntax::span(self.file, start, end)
    }
}

/// A node in the place of a key. A key that cannot be one is reported and gets a name that no shape
/// knows as broken.
fn key_of(node: Node, sink: &mut Sink) -> Name {
    let span = node.span;
    match node.kind {
        Kind::Text(text) if text.value == "<<" => {
            sink.push(
                Diagnostic::error(codes::MERGE_KEY, span, "merge keys are not part of the pipeline language")
                    .label("`<<` is not understood here")
                    .help("write the keys out; a contract used by several steps belongs under `step_types`"),
            );
            Name::new(BROKEN_KEY.into(), span)
        }
        Kind::Text(text)
        | Kind::Boolean(_, text)
        | Kind::Integer(_, text)
        | Kind::Number(_, text) => Name::new(text.value, span),
        Kind::Broken => Name::new(BROKEN_KEY.into(), span),
        Kind::Absent | Kind::Null | Kind::List(_) | Kind::Mapping(_) => {
            sink.push(
                Diagnostic::error(
                    codes::KEY_NOT_TEXT,
                    span,
                    format!("a key is a string, this one is {}", node_word(&node.kind)),
                )
                .label("written where a key belongs")
                .help("in quotes it is a string"),
            );
            Name::new(BROKEN_KEY.into(), span)
        }
    }
}

/// The name of a key that has been refused already; the shapes pass over it in silence.
pub const BROKEN_KEY: &str = "\u{0}";

fn node_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::List(_) => "a list",
        Kind::Mapping(_) => "a record",
        _ => "empty",
    }
}

/// The core schema of YAML 1.2.
fn plain(text: Text) -> Kind {
    let value = text.value.as_str();
    match value {
        "null" | "Null" | "NULL" | "~" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Boolean(true, text),
        "false" | "False" | "FALSE" => return Kind::Boolean(false, text),
        _ => {}
    }
    let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Kind::Text(text);
    }
    let integer = match (value.strip_prefix("0x"), value.strip_prefix("0o")) {
        (Some(hex), _) => i64::from_str_radix(hex, 16).ok(),
        (_, Some(octal)) => i64::from_str_radix(octal, 8).ok(),
        _ => value.parse().ok(),
    };
    if let Some(integer) = integer {
        return Kind::Integer(integer, text);
    }
    // Rust reads more as a number than YAML does (`1_0` not, `infinity` yes), so the characters are
    // looked at first.
    let numeric =
        unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    match value.parse::<f64>() {
        Ok(number)
            if numeric && number.is_finite() && unsigned.contains(|c: char| c.is_ascii_digit()) =>
        {
            Kind::Number(number, text)
        }
        _ => Kind::Text(text),
    }
}

/// Whether YAML reads a number that is infinite, undefined, or beyond a double.
fn is_infinite(value: &str) -> bool {
    let unsigned = value.strip_prefix(['-', '+']).unwrap_or(value);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(value, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    numeric && value.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// From the parser's places, which count characters, to bytes.
enum ByteOffsets {
    /// One byte per character.
    Ascii(usize),
    /// The offset of each character, and the length at the end.
    Table(Vec<u32>),
}

impl ByteOffsets {
    fn new(source: &str) -> Self {
        if source.is_ascii() {
            return Self::Ascii(source.len());
        }
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self::Table(
            source.char_indices().map(|(at, _)| offset(at)).chain([offset(source.len())]).collect(),
        )
    }

    fn at(&self, index: usize) -> usize {
        match self {
            Self::Ascii(len) => index.min(*len),
            Self::Table(table) => table.get(index).or(table.last()).map_or(0, |at| *at as usize),
        }
    }
}
