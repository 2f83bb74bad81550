//! Loads the configuration: a file, overlaid by the environment (`CRUX_SERVER__PORT`), overlaid by
//! flags. The first mistake stops the start, with its place, the reason and a fix.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Config, Problem, place};
use crate::suggest::{hint, plain};

/// Variables of that prefix belong to the configuration, except those below.
const PREFIX: &str = "CRUX_";
/// Read by the command line.
const NOT_SETTINGS: [&str; 3] = ["CRUX_API_KEY", "CRUX_CONFIG", "CRUX_URL"];
/// The settings that have others inside.
const SECTIONS: [&str; 10] = [
    "server", "auth", "store", "redis", "services", "workers", "limits", "log", "config",
    "rabbitmq",
];
/// The files tried in this order when none is named.
const FILES: [&str; 2] = ["crux.yaml", "config.yaml"];

/// Settings of earlier versions, and their new names. `*` stands for any name.
const RENAMED: &[(&str, &str)] = &[
    ("limits.bodies", "max_buffered_bodies"),
    ("limits.body", "max_body_size"),
    ("limits.cached_instances", "max_cached_instances"),
    ("limits.free_disk", "min_free_disk"),
    ("limits.journal_events", "max_journal_events"),
    ("limits.journal_size", "max_journal_size"),
    ("limits.keep_events", "event_retention"),
    ("limits.result", "max_result_size"),
    ("limits.unsettled", "max_unsettled_instances"),
    ("rabbitmq.parking", "parked_retry_delay"),
    ("rabbitmq.queue", "max_queued"),
    ("rabbitmq.window", "max_unconfirmed"),
    ("redis.parking", "parked_retry_delay"),
    ("redis.queue", "max_queued"),
    ("redis.window", "max_unconfirmed"),
    ("services.*.at_once", "concurrency"),
    ("services.*.listens_to", "subscribe"),
    ("workers.lost_after", "heartbeat_timeout"),
    ("workers.steps.*.queue", "max_queued"),
    ("workers.tasks.queue", "max_queued"),
    ("workers.threads.queue", "max_queued"),
];

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that must be there; `None`: `crux.yaml`, else `config.yaml`, else none, in
    /// `directory`.
    pub file: Option<PathBuf>,
    pub directory: PathBuf,
    /// All variables; those that do not begin with `CRUX_` are passed over.
    pub environment: Vec<(String, String)>,
    /// Flag, dotted key, value.
    pub flags: Vec<(&'static str, &'static str, String)>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: cannot be read: {error}", path = path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    /// The text shows line and column.
    #[error("{path}: {text}", path = path.display())]
    Syntax { path: PathBuf, text: String },
    /// A key or a value that means nothing; `place` is a file with line and column, a variable, or
    /// a flag.
    #[error("{place}: {key}: {text}")]
    Setting { place: String, key: String, text: String },
}

/// Reads, overlays and checks.
pub fn load(sources: &Sources) -> Result<Config, Error> {
    let file = File::read(sources)?;
    let mut overlays = overlays(sources);
    // A variable's text fits a text as it is, and everything else once it is read as YAML; which of
    // the two, its place in the types says.
    loop {
        let mut tree =
            file.as_ref().map_or_else(|| Value::Object(Map::new()), |file| file.tree.clone());
        for overlay in &overlays {
            overlay.apply(&mut tree)?;
        }
        match decode(tree) {
            Ok(mut config) => {
                config.passed_over = service_links(sources).map(|(name, _)| name.clone()).collect();
                return match config.check() {
                    Ok(()) => Ok(config),
                    Err(problem) => Err(refuse(problem, &overlays, file.as_ref())),
                };
            }
            Err(problem) => {
                let Some(overlay) =
                    overlays.iter_mut().rev().find(|overlay| overlay.is_about(&problem.key))
                else {
                    return Err(refuse(problem, &overlays, file.as_ref()));
                };
                if !overlay.read_as_yaml() {
                    return Err(refuse(problem, &overlays, file.as_ref()));
                }
            }
        }
    }
}

struct File {
    path: PathBuf,
    text: String,
    tree: Value,
}

impl File {
    fn read(sources: &Sources) -> Result<Option<Self>, Error> {
        let path = match &sources.file {
            Some(path) => path.clone(),
            None => match FILES
                .iter()
                .map(|name| sources.directory.join(name))
                .find(|path| path.exists())
            {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::Unreadable { path: path.clone(), error })?;
        let tree = match serde_saphyr::from_str::<Value>(&text) {
            Ok(tree) => without_nulls(tree),
            Err(error) => {
                return Err(Error::Syntax {
                    path: short(&path),
                    text: error.render().replace("<input>", &short(&path).display().to_string()),
                });
            }
        };
        match tree {
            Value::Null => Ok(None),
            Value::Object(_) => Ok(Some(Self { path: short(&path), text, tree })),
            _ => Err(Error::Syntax {
                path: short(&path),
                text: "expected keys and values, like `server:`".to_owned(),
            }),
        }
    }

    /// `crux.yaml:3:5`: the typed reader mostly fails at the same place as the overlaid tree did,
    /// and knows where that is.
    fn place(&self, key: &str) -> String {
        let location =
            serde_saphyr::from_str::<Config>(&self.text).err().and_then(|error| error.location());
        match location.or_else(|| place::find(&self.text, key)) {
            Some(location) => {
                format!("{}:{}:{}", self.path.display(), location.line(), location.column())
            }
            None => self.path.display().to_string(),
        }
    }
}

/// Files found beside us are named as the user would name them.
fn short(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

/// `services:` with nothing below it is as if it were not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        other => other,
    }
}

/// One setting from the environment or a flag.
struct Overlay {
    source: String,
    key: Vec<String>,
    value: Value,
    is_text: bool,
}

fn overlays(sources: &Sources) -> Vec<Overlay> {
    let is_setting = |(name, value): &&(String, String)| {
        !NOT_SETTINGS.contains(&name.as_str()) && !is_service_link(name, value)
    };
    let mut variables: Vec<&(String, String)> = sources
        .environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX))
        .filter(is_setting)
        .collect();
    variables.sort();
    let variables = variables.into_iter().map(|(name, value)| {
        let words = name.trim_start_matches(PREFIX).split("__").collect::<Vec<_>>();
        // Names of texts keep their case: `CRUX_CONFIG__CITY` is `config.CITY`.
        let of_config = words.first().is_some_and(|first| *first == "CONFIG");
        let key = words.iter().enumerate().map(|(n, word)| {
            if of_config && n > 0 { (*word).to_owned() } else { word.to_lowercase() }
        });
        Overlay {
            source: name.clone(),
            key: key.collect(),
            value: Value::from(value.as_str()),
            is_text: true,
        }
    });
    let flags = sources.flags.iter().map(|(flag, key, value)| Overlay {
        source: (*flag).to_owned(),
        key: key.split('.').map(str::to_owned).collect(),
        value: Value::from(value.as_str()),
        is_text: true,
    });
    variables.chain(flags).collect()
}

fn service_links(sources: &Sources) -> impl Iterator<Item = &(String, String)> {
    sources.environment.iter().filter(|(name, value)| is_service_link(name, value))
}

/// Kubernetes gives every container variables for each Service of its namespace. Those of one that
/// is called `crux`, or `crux-…`, begin as settings do: `CRUX_SERVICE_HOST`,
/// `CRUX_PORT_8080_TCP_ADDR`.
fn is_service_link(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !rest.contains("__")) else {
        return false;
    };
    let words: Vec<&str> = rest.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = |rest: &[&str]| match rest {
        ["PORT", number, "TCP" | "UDP" | "SCTP"]
        | ["PORT", number, "TCP" | "UDP" | "SCTP", "PROTO" | "PORT" | "ADDR"] => is_number(number),
        ["PORT"] => ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme)),
        _ => false,
    };
    let is_service = |rest: &[&str]| matches!(rest, ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..]);
    (0..words.len()).any(|n| words.get(n..).is_some_and(|rest| is_port(rest) || is_service(rest)))
}

impl Overlay {
    fn apply(&self, tree: &mut Value) -> Result<(), Error> {
        let refuse = |text: &str| Error::Setting {
            place: self.source.clone(),
            key: self.key.join("."),
            text: text.to_owned(),
        };
        let Some((last, before)) = self.key.split_last() else {
            return Err(refuse("names no setting"));
        };
        let mut at = tree;
        for word in before {
            let Value::Object(fields) = at else {
                return Err(refuse("is inside a setting that is a single value"));
            };
            at = fields.entry(word.as_str()).or_insert_with(|| Value::Object(Map::new()));
        }
        let Value::Object(fields) = at else {
            return Err(refuse("is inside a setting that is a single value"));
        };
        fields.insert(last.clone(), self.value.clone());
        Ok(())
    }

    fn is_about(&self, key: &str) -> bool {
        let mine = self.key.join(".");
        key == mine || key.strip_prefix(&mine).is_some_and(|rest| rest.starts_with(['.', '[']))
    }

    /// Whether it has made the record that is to blame.
    fn is_within(&self, key: &str) -> bool {
        self.key.join(".").strip_prefix(key).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Whether that made a difference.
    fn read_as_yaml(&mut self) -> bool {
        if !std::mem::replace(&mut self.is_text, false) {
            return false;
        }
        let Value::String(text) = &self.value else { return false };
        match serde_saphyr::from_str::<Value>(text) {
            Ok(value) if !value.is_string() && !value.is_null() => {
                self.value = value;
                true
            }
            _ => false,
        }
    }
}

fn decode(tree: Value) -> Result<Config, Problem> {
    serde_path_to_error::deserialize::<_, Config>(tree).map_err(|error| {
        let key = error.path().to_string();
        let text = error.into_inner().to_string();
        let in_quotes = |n: usize| text.split('`').nth(n).map(str::to_owned);
        match in_quotes(1).filter(|_| text.starts_with("unknown field ")) {
            Some(unknown) => {
                let known: Vec<&str> = text.split('`').skip(3).step_by(2).collect();
                let parent = key
                    .strip_suffix(&unknown)
                    .map_or(key.as_str(), |parent| parent.trim_end_matches('.'));
                let key = if parent.is_empty() || parent == "." {
                    unknown.clone()
                } else {
                    format!("{parent}.{unknown}")
                };
                let text = renamed(&key).unwrap_or_else(|| unknown_key(&unknown, &known));
                Problem { key, text }
            }
            None => Problem { key, text: plain(&text) },
        }
    })
}

/// For a key that had another name in an earlier version.
fn renamed(key: &str) -> Option<String> {
    let is_same = |old: &str| {
        let (old, key): (Vec<&str>, Vec<&str>) =
            (old.split('.').collect(), key.split('.').collect());
        old.len() == key.len() && old.iter().zip(&key).all(|(old, key)| *old == "*" || old == key)
    };
    let (_, new) = RENAMED.iter().find(|(old, _)| is_same(old))?;
    let parent = key.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
    Some(format!("is now `{parent}{new}`"))
}

fn unknown_key(unknown: &str, known: &[&str]) -> String {
    format!("there is no such setting{}", hint(unknown, known.iter().copied()))
}

/// With the place of what is to blame: the last overlay of that key, else the file.
fn refuse(problem: Problem, overlays: &[Overlay], file: Option<&File>) -> Error {
    let Problem { key, mut text } = problem;
    let is_in_file = file
        .is_some_and(|file| key.split('.').try_fold(&file.tree, |at, word| at.get(word)).is_some());
    let about = overlays.iter().rev().find(|overlay| overlay.is_about(&key));
    let overlay = about
        .or_else(|| overlays.iter().rev().find(|overlay| !is_in_file && overlay.is_within(&key)));
    if let Some(overlay) = overlay
        && let [only] = overlay.key.as_slice()
        && let Some((section, name)) = only.split_once('_')
        && SECTIONS.contains(&section)
    {
        let meant = format!("{PREFIX}{}__{}", section.to_uppercase(), name.to_uppercase());
        text = format!("there is no such setting; did you mean `{meant}`, with two underscores?");
    }
    let place = match (overlay, file) {
        (Some(overlay), _) => overlay.source.clone(),
        (None, Some(file)) => file.place(&key),
        (None, None) => "defaults".to_owned(),
    };
    Error::Setting { place, key, text }
}
