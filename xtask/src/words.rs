//! Old words of this project and the words to use instead; docs/glossary.md has the meanings.
//! `cargo xtask words` shows every place that still has an old one, and a test fails on it.
//!
//! To retire a word, add a line to [`RULES`]. Where an old word must stay, for example because
//! users may still type it, add the place to [`EXCEPTIONS`] with the reason.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What to look for.
#[derive(Debug, Clone, Copy)]
enum Old {
    /// Words in a row, in any case, also as parts of a name: `under way` is found in "Under way",
    /// `under_way` and `UnderWay`, and across a line break of a comment. A hyphen is a hyphen.
    Phrase(&'static str),
    /// A whole name, exactly: `lost_after` is not found in `lost_after_ms`.
    Name(&'static str),
    /// A Rust item of that name: `struct Letter`, `mod letter`.
    Item(&'static str),
}

use Old::{Item, Name, Phrase};

/// The old word, and what to write instead.
const RULES: &[(Old, &str)] = &[
    // English that reads like a translation.
    (Phrase("whoever"), "who it is: the caller, the receiver, a service that …"),
    (Phrase("somebody"), "who it is: a client, an operator, another process; or someone"),
    (Phrase("nobody in particular"), "what is missing"),
    (Phrase("what became of"), "the outcome, the result"),
    (Phrase("what becomes of"), "the outcome, the result"),
    (Phrase("is told"), "is notified, receives, is answered"),
    (Phrase("are told"), "are notified, receive, are answered"),
    (Phrase("was told"), "was notified, received, was answered"),
    (Phrase("were told"), "were notified, received, were answered"),
    (Phrase("be told"), "be notified, be answered"),
    (Phrase("been told"), "been notified, been answered"),
    (Phrase("hear"), "receive"),
    (Phrase("hears"), "receives"),
    (Phrase("heard"), "received"),
    (Phrase("for ever"), "forever"),
    (Phrase("of its own"), "its own, a separate"),
    (Phrase("of their own"), "their own, separate"),
    (Phrase("under way"), "running, in progress, in flight"),
    (Phrase("at once"), "immediately, or concurrently; as a key: concurrency"),
    (Phrase("side by side"), "concurrently"),
    (Phrase("mend"), "fix"),
    (Phrase("mends"), "fixes"),
    (Phrase("mended"), "fixed"),
    (Phrase("mending"), "fixing"),
    (Phrase("take up"), "take over, resume"),
    (Phrase("takes up"), "takes over, resumes"),
    (Phrase("taken up"), "taken over, resumed"),
    (Phrase("took up"), "took over, resumed"),
    (Phrase("at most so long"), "up to this time"),
    (Phrase("last words"), "shutdown grace"),
    (Phrase("keep house"), "housekeeping"),
    (Phrase("stand still"), "is blocked, waits"),
    (Phrase("stands still"), "is blocked, waits"),
    (Phrase("standing still"), "blocked, waiting"),
    // The field has a word for it: docs/glossary.md.
    (Phrase("time-out"), "timeout"),
    (Phrase("time-outs"), "timeouts"),
    (Phrase("sign of life"), "heartbeat"),
    (Phrase("signs of life"), "heartbeats"),
    (Phrase("put aside"), "dead-letter; or park"),
    (Phrase("puts aside"), "dead-letters; or parks"),
    (Phrase("queue of the dead"), "dead-letter queue"),
    (Phrase("neighbours"), "peers; or adjacent"),
    (Phrase("roster"), "worker registry"),
    (Phrase("silent since"), "last heartbeat"),
    (Phrase("toil"), "work"),
    (Phrase("doorman"), "middleware"),
    (Item("Station"), "Worker"),
    (Item("Crew"), "Slots"),
    (Item("Seat"), "Slot"),
    (Item("Lane"), "Queue"),
    (Item("Letter"), "Envelope"),
    (Item("Door"), "MessageHandler; the module: middleware"),
    (Item("Fate"), "Disposition, Outcome"),
    (Item("Ear"), "Subscriber"),
    (Item("Elsewhere"), "Forwarding, PeerRouter"),
    (Item("Marks"), "Settlement, UnsettledFlags"),
    (Item("Witness"), "CommitRecord"),
    (Item("Bed"), "Harness"),
    (Item("Misfit"), "TypeMismatch, TypeError"),
    // Type names are nouns.
    (Item("Told"), "the noun of the thing: CommandAccepted"),
    (Item("Said"), "the noun of the thing: PresenceMessage"),
    (Item("Given"), "the noun of the thing"),
    (Item("Found"), "the noun of the thing"),
    (Item("Made"), "the noun of the thing"),
    (Item("Known"), "the noun of the thing: KnownServer"),
    (Item("Heard"), "the noun of the thing: PeerEvent"),
    (Item("Why"), "RejectReason, or the reason's own name"),
    (Item("About"), "the noun of the thing: AttemptIds"),
    // Names that users type or read. The error for the old name says the new one.
    (Name("listens_to"), "subscribe"),
    (Name("lost_after"), "heartbeat_timeout"),
    (Name("limits.keep_events"), "event_retention"),
    (Name("limits.free_disk"), "min_free_disk"),
    (Name("limits.cached_instances"), "max_cached_instances"),
    (Name("rabbitmq.parking"), "parked_retry_delay"),
    (Name("redis.parking"), "parked_retry_delay"),
    (Name("not-now"), "invalid-state"),
    (Name("no-definition"), "definition-missing"),
    (Name("not-json-content"), "unsupported-media-type"),
    (Name("host-refused"), "host-not-allowed"),
    (Name("origin-refused"), "origin-not-allowed"),
    (Name("broken-instance"), "instance-corrupted"),
    (Name("step_began"), "step_started"),
    (Name("crux_http_refused_at_the_door"), "crux_http_requests_refused"),
    (Name("CRUX_BLESS"), "BLESS"),
];

/// A file or folder, the old word that may stand there, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (SETTINGS, "at once", A_RENAMED_SETTING),
    (SETTINGS, "listens_to", A_RENAMED_SETTING),
    (SETTINGS, "lost_after", A_RENAMED_SETTING),
    (SETTINGS, "limits.cached_instances", A_RENAMED_SETTING),
    (SETTINGS, "limits.free_disk", A_RENAMED_SETTING),
    (SETTINGS, "limits.keep_events", A_RENAMED_SETTING),
    (SETTINGS, "rabbitmq.parking", A_RENAMED_SETTING),
    (SETTINGS, "redis.parking", A_RENAMED_SETTING),
    ("crux-runtime/src/config/tests.rs", "at once", A_RENAMED_SETTING),
    ("crux-compiler/tests/diagnostics/foreign_keys.yaml", "at once", A_RENAMED_SETTING),
    ("crux-compiler/tests/diagnostics/foreign_keys.stderr", "at once", A_RENAMED_SETTING),
    ("crux-runtime/src/journal/write.rs", "step_began", "journals that are stored have it"),
];

const SETTINGS: &str = "crux-runtime/src/config/load.rs";
const A_RENAMED_SETTING: &str = "the error for the old name says the new one";

/// Files that are not looked at, and why that is right.
const SKIPPED: &[(&str, &str)] = &[
    ("xtask/src/words.rs", "the list itself"),
    ("LICENSE-APACHE", "not ours to write"),
    ("Cargo.lock", "names of others' crates"),
    ("examples/services/node/package-lock.json", "names of others' packages"),
    ("tests/fixtures", "messages and scripts of clients that others wrote"),
    ("tests/machines/golden", "generated: the generator and the pipelines are looked at"),
];

/// Only this part of a file names old words as what they are: old.
const RENAMED: (&str, &str) = ("CHANGELOG.md", "### Renamed");

/// An old word, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    file: String,
    line: usize,
    old: &'static str,
    new: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, old, new } = self;
        write!(f, "{file}:{line}: `{old}` is an old word; write {new}")
    }
}

/// All old words in the project, but for those that have a reason to be there.
pub fn check(project: &Path) -> Result<Vec<Finding>, String> {
    let mut findings = Vec::new();
    for path in files(project)? {
        let file = path.strip_prefix(project).unwrap_or(&path).to_string_lossy().into_owned();
        let bytes = fs::read(&path).map_err(|error| format!("{file}: {error}"))?;
        // An image.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        findings.extend(find(&file, &text));
    }
    Ok(findings)
}

/// Old words in a file of that name.
fn find(file: &str, text: &str) -> Vec<Finding> {
    let text = match text.split_once(RENAMED.1) {
        Some((before, _)) if file == RENAMED.0 => before,
        _ => text,
    };
    let starts = Starts::of_rules();
    let mut findings = Vec::new();
    let mut end = 0;
    while let Some(word) = next_word(text, end) {
        end = word.end();
        if !starts.has(word.text) {
            continue;
        }
        for (old, new) in RULES {
            let (Phrase(name) | Name(name) | Item(name)) = *old;
            let found = match old {
                Phrase(phrase) => is_phrase(text, word, phrase),
                Name(name) => is_name(text, word.start, name),
                Item(name) => is_item(text, word.start, name),
            };
            if found && !is_excepted(file, name) {
                let line = text[..word.start].matches('\n').count() + 1;
                findings.push(Finding { file: file.to_owned(), line, old: name, new });
            }
        }
    }
    findings
}

fn is_excepted(file: &str, old: &str) -> bool {
    EXCEPTIONS.iter().any(|(place, word, _)| is_within(file, place) && *word == old)
}

fn is_within(file: &str, place: &str) -> bool {
    file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A run of letters; names are cut into theirs: `settled_at` and `SettledAt` are two words each.
#[derive(Debug, Clone, Copy)]
struct Word<'t> {
    text: &'t str,
    start: usize,
}

impl Word<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Which two letters begin an old word: most words are done with by a look at theirs.
struct Starts(Vec<bool>);

impl Starts {
    fn of_rules() -> Self {
        let mut starts = Self(vec![false; 1 << 16]);
        for (Phrase(old) | Name(old) | Item(old), _) in RULES {
            let n = Self::index(old);
            starts.0[n] = true;
        }
        starts
    }

    fn has(&self, word: &str) -> bool {
        word.len() > 1 && self.0[Self::index(word)]
    }

    fn index(word: &str) -> usize {
        let [a, b] = [0, 1].map(|n| usize::from(word.as_bytes()[n].to_ascii_lowercase()));
        a << 8 | b
    }
}

/// The first word from there on. A letter that is not ASCII is none.
fn next_word(text: &str, from: usize) -> Option<Word<'_>> {
    let bytes = text.as_bytes();
    let start = from + bytes[from..].iter().position(u8::is_ascii_alphabetic)?;
    let mut end = start + 1;
    while end < bytes.len() && bytes[end].is_ascii_alphabetic() {
        if bytes[end].is_ascii_uppercase() && bytes[end - 1].is_ascii_lowercase() {
            break;
        }
        end += 1;
    }
    Some(Word { text: &text[start..end], start })
}

fn is_phrase(text: &str, first: Word<'_>, phrase: &str) -> bool {
    let mut word = first;
    let mut parts = phrase.split([' ', '-']);
    if !parts.next().is_some_and(|part| word.text.eq_ignore_ascii_case(part)) {
        return false;
    }
    for part in parts {
        let Some(next) = next_word(text, word.end()) else { return false };
        let between = &text[word.end()..next.start];
        let is_joined = match phrase.contains('-') {
            true => between == "-",
            // Nothing: a hump of a name. A line break: with the marks of a comment.
            false => between
                .chars()
                .all(|c| c.is_whitespace() || "_/!#*-|".contains(c) && between != "-"),
        };
        if !is_joined || !next.text.eq_ignore_ascii_case(part) {
            return false;
        }
        word = next;
    }
    true
}

fn is_name(text: &str, start: usize, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text[start..].starts_with(name)
        && !text[..start].ends_with(is_part)
        && !text[start + name.len()..].starts_with(is_part)
}

fn is_item(text: &str, start: usize, name: &str) -> bool {
    let line = text[..start].rsplit('\n').next().unwrap_or_default();
    let keyword = line.trim().rsplit(' ').next().unwrap_or_default();
    let is_item = match keyword {
        "struct" | "enum" | "type" | "trait" | "union" => text[start..].starts_with(name),
        "mod" => text[start..].starts_with(&name.to_lowercase()),
        _ => false,
    };
    let after = text[start..].get(name.len()..).unwrap_or_default();
    is_item && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Files that people write: not what is built or hidden, but for the folders of the CI.
fn files(project: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let mut folders = vec![project.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let file = path.strip_prefix(project).unwrap_or(&path).to_string_lossy().into_owned();
            if SKIPPED.iter().any(|(place, _)| is_within(&file, place)) {
                continue;
            }
            let is_hidden = name.starts_with('.') && name != ".ci" && name != ".github";
            if path.is_dir() {
                if !is_hidden && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if !is_hidden && is_written(&name) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// By its name, a file that people write; others are data, images and what programs leave behind.
fn is_written(name: &str) -> bool {
    const EXTENSIONS: &[&str] = &[
        "go", "js", "json", "lua", "md", "py", "rs", "service", "stderr", "toml", "txt", "yaml",
        "yml",
    ];
    match name.rsplit_once('.') {
        Some((_, extension)) => EXTENSIONS.contains(&extension),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
    }

    fn old(file: &str, text: &str) -> Vec<(usize, &'static str)> {
        find(file, text).into_iter().map(|finding| (finding.line, finding.old)).collect()
    }

    #[test]
    fn no_old_word_is_left() {
        let findings = check(project()).expect("the project is readable");
        let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
        assert!(lines.is_empty(), "{} old words:\n{}", lines.len(), lines.join("\n"));
    }

    #[test]
    fn an_old_word_is_found_in_each_kind_of_file() {
        assert_eq!(old("a.rs", "// It is under\n    // way.\n"), [(1, "under way")]);
        assert_eq!(old("a.rs", "fn it_ends_at_once() {}"), [(1, "at once")]);
        assert_eq!(old("a.rs", "\nstruct Told;\nlet told = 1;"), [(2, "Told")]);
        assert_eq!(old("a.rs", "mod letter;\nlet letter = 1;"), [(1, "Letter")]);
        assert_eq!(
            old("docs/a.md", "Whoever it is, in his time-out."),
            [(1, "whoever"), (1, "time-out")]
        );
        assert_eq!(old("a.yaml", "each: { at_once: 4 }"), [(1, "at once")]);
        assert_eq!(old("a.lua", "-- Nothing\n-- is told."), [(2, "is told")]);
        assert_eq!(old("a.stderr", "  = help: mend it"), [(1, "mend")]);
        assert_eq!(
            old("a.json", r#"{"description": "Two signs of life."}"#),
            [(1, "signs of life")]
        );
    }

    #[test]
    fn usual_english_is_not_an_old_word() {
        for text in [
            "recommended",
            "it times out; the time out there",
            "the man is. Told as it was",
            "a dead-letter queue, a letter, a door",
            "look at. Once it",
            "settled_at(once)",
            "struct Foundation; struct TaskSaid;",
            "max_cached_instances, cached_instances",
        ] {
            assert_eq!(old("a.rs", text), [], "{text}");
        }
    }

    #[test]
    fn the_changelog_may_name_what_was_renamed() {
        let text = "- It is under way.\n### Renamed\n- `at_once` is `concurrency`.\n";
        assert_eq!(old("CHANGELOG.md", text), [(1, "under way")]);
    }

    #[test]
    fn every_exception_is_needed() {
        for (place, word, reason) in EXCEPTIONS {
            let path = project().join(place);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{place}: {error}"));
            // Under another name no exception holds.
            let found = find("", &text).iter().any(|finding| finding.old == *word);
            assert!(found, "{place} does not have `{word}`: {reason}");
        }
        for (place, reason) in SKIPPED {
            assert!(project().join(place).exists(), "there is no {place}: {reason}");
        }
    }
}
