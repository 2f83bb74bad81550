//! Diagnostics as people see them: rustc's layout with the lines of YAML, and JSON for tools. The
//! same text everywhere, so that `cargo build`, `crux check` and the fixtures agree to the letter.

use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet,
};
use serde_json::json;

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{FileId, Files, Span};

/// More are counted, not shown: a file of another format would scroll everything else away.
const SHOWN_MAX: usize = 100;

/// Of longer lines only the place is shown: no screen holds them, and to lay one out takes its
/// time.
const LINE_BYTES_MAX: usize = 2000;

/// Whether to use terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Plain,
    Coloured,
}

/// All diagnostics, one after the other, with a line that counts them. Empty if there are none.
pub fn human(files: &Files, diagnostics: &[Diagnostic], style: Style) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        text.push_str(&one(files, diagnostic, style));
        text.push_str("\n\n");
    }
    if let Some(summary) = summary(diagnostics) {
        text.push_str(&summary);
        text.push('\n');
    }
    text
}

/// One diagnostic with its snippets, without a line break at its end.
pub fn one(files: &Files, diagnostic: &Diagnostic, style: Style) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let code = diagnostic.code.to_string();
    let mut group: Group<'_> =
        level.primary_title(&diagnostic.message).id(&code).elements(snippets(files, diagnostic));
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note));
    }
    for help in &diagnostic.helps {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Coloured => Renderer::styled(),
    };
    let text = renderer.render(&[group]);
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// `2 errors, 1 warning`; `None` if there is nothing to count.
pub fn summary(diagnostics: &[Diagnostic]) -> Option<String> {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let warnings = diagnostics.len() - errors;
    let count = |number: usize, word: &str| {
        (number > 0).then(|| format!("{number} {word}{}", if number == 1 { "" } else { "s" }))
    };
    let hidden = diagnostics
        .len()
        .checked_sub(SHOWN_MAX)
        .and_then(|hidden| count(hidden, "more diagnostic"))
        .map(|more| format!("{more} not shown"));
    let parts: Vec<String> = [count(errors, "error"), count(warnings, "warning"), hidden]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The snippet of the file that the diagnostic is about, then those of others.
fn snippets<'a>(files: &'a Files, diagnostic: &'a Diagnostic) -> Vec<Element<'a>> {
    let mut ids: Vec<FileId> = vec![diagnostic.span.file];
    for (span, _) in &diagnostic.others {
        if !ids.contains(&span.file) {
            ids.push(span.file);
        }
    }
    ids.into_iter().filter_map(|id| snippet(files, diagnostic, id)).collect()
}

fn snippet<'a>(files: &'a Files, diagnostic: &'a Diagnostic, id: FileId) -> Option<Element<'a>> {
    let file = files.get(id)?;
    let primary = (diagnostic.span.file == id).then_some((
        diagnostic.span,
        diagnostic.label.as_str(),
        AnnotationKind::Primary,
    ));
    let others = diagnostic
        .others
        .iter()
        .filter(|(span, _)| span.file == id)
        .map(|(span, label)| (*span, label.as_str(), AnnotationKind::Context));
    let places: Vec<(Span, &str, AnnotationKind)> = primary.into_iter().chain(others).collect();
    if file.text.is_empty() || places.iter().all(|(span, ..)| span.end == 0) {
        // About the file as a whole: there is no line to show.
        return Some(Origin::path(&file.path).into());
    }
    // Only the lines concerned are handed on, with their number, so that a large file costs no more
    // than a small one.
    let first = places.iter().map(|(span, ..)| span.start as usize).min().unwrap_or(0);
    let last = places.iter().map(|(span, ..)| span.end as usize).max().unwrap_or(0).max(first);
    let (first, last) = (floor(&file.text, first), floor(&file.text, last));
    let from = file.text[..first].rfind('\n').map_or(0, |at| at + 1);
    let to = file.text[last..].find('\n').map_or(file.text.len(), |at| last + at);
    if file.text[from..to].lines().any(|line| line.len() > LINE_BYTES_MAX) {
        let (line, column) =
            files.position(places.first().map_or(diagnostic.span, |(span, ..)| *span));
        return Some(Origin::path(&file.path).line(line).char_column(column).into());
    }
    let line_number = file.text[..from].matches('\n').count() + 1;
    let annotations =
        places.into_iter().map(|(span, label, kind)| annotate(&file.text, span, label, kind, from));
    let snippet: Snippet<'a, Annotation<'a>> =
        Snippet::source(&file.text[from..to]).path(&file.path).line_start(line_number).fold(true);
    Some(snippet.annotations(annotations).into())
}

fn annotate<'a>(
    text: &str,
    span: Span,
    label: &'a str,
    kind: AnnotationKind,
    from: usize,
) -> Annotation<'a> {
    let start = floor(text, span.start as usize);
    // A place of several lines is shown by its first.
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let end = floor(text, span.end as usize).clamp(start, line_end.max(start));
    let annotation = kind.span(start - from..end - from);
    if label.is_empty() { annotation } else { annotation.label(label) }
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// One JSON object per diagnostic, in an array: `code`, `severity`, `message`, `place` (`file`,
/// `line`, `column`, `end_line`, `end_column`), `label`, `related`, `notes`, `helps`, `rendered`.
/// Lines and columns from 1, columns in characters, the end behind the last one.
pub fn json(files: &Files, diagnostics: &[Diagnostic]) -> serde_json::Value {
    let object = |diagnostic: &Diagnostic| {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let related = diagnostic
            .others
            .iter()
            .map(|(span, label)| json!({ "place": place(files, *span), "label": label }));
        json!({
            "code": diagnostic.code.to_string(),
            "severity": severity,
            "message": diagnostic.message,
            "place": place(files, diagnostic.span),
            "label": diagnostic.label,
            "related": related.collect::<Vec<_>>(),
            "notes": diagnostic.notes,
            "helps": diagnostic.helps,
            "rendered": one(files, diagnostic, Style::Plain),
        })
    };
    diagnostics.iter().map(object).collect()
}

fn place(files: &Files, span: Span) -> serde_json::Value {
    let (line, column) = files.position(span);
    let (end_line, end_column) = files.position(Span { start: span.end.max(span.start), ..span });
    let file = files.get(span.file).map_or("", |file| file.path.as_str());
    json!({ "file": file, "line": line, "column": column, "end_line": end_line, "end_column": end_column })
}
