//! The static tables that generated code brings along: what the machine and everything around it
//! know about a workflow without knowing its types. All of it is `const` data.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::path::{Indices, Path};
use super::{Failure, Value};

/// One version of one workflow.
#[derive(Debug)]
pub struct Definition {
    pub workflow: &'static str,
    pub version: u32,
    /// An older version, kept for instances that still run: it starts nothing.
    pub retired: bool,
    /// Hex SHA-256 of what replay depends on; an instance runs only under the hash that it started
    /// with.
    pub hash: &'static str,
    /// Hex SHA-256 of what may change while instances run.
    pub policy_hash: &'static str,
    /// The file, as the user would write it.
    pub source: &'static str,
    pub description: &'static str,
    /// By number; the children of a node follow it.
    pub nodes: &'static [Node],
    pub triggers: &'static [Trigger],
    pub hooks: Hooks,
    pub deadline_ms: Option<u64>,
    pub on_exhausted: OnExhausted,
    pub retain_ms: u64,
    /// Configuration values that its expressions read; journalled at the start.
    pub config: &'static [&'static str],
    /// JSON: `{"hooks": {…}, "steps": [{"id", "type", "class", "steps": […]}, …]}` in the order of
    /// the YAML; the status document's `definition`.
    pub document: &'static str,
    /// JSON Schemas.
    pub input_schema: &'static str,
    pub output_schema: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub id: &'static str,
    /// Without elements and rounds: `look_closer/seo`.
    pub path: &'static str,
    /// Of [`Definition::source`], from 1.
    pub line: u32,
    /// The node around this one; `None` at the top.
    pub parent: Option<u16>,
    /// Whether it stands in a `catch` of that node, and so in none of its rounds or elements.
    pub in_catch: bool,
    pub kind: Kind,
    /// Which failures some `catch` around this node takes.
    pub caught: Caught,
    /// Whether its result is read after the failure of a step around it.
    pub is_kept: bool,
}

/// How generated tables write a node.
impl Node {
    pub const fn new(id: &'static str, path: &'static str, line: u32, kind: Kind) -> Self {
        Self {
            id,
            path,
            line,
            parent: None,
            in_catch: false,
            kind,
            caught: Caught::Names(&[]),
            is_kept: false,
        }
    }

    /// One attempt without timeouts, unless [`Self::policy`] says more.
    pub const fn task(
        id: &'static str,
        path: &'static str,
        line: u32,
        contract: &'static Contract,
    ) -> Self {
        Self::new(id, path, line, Kind::Task(Task::new(contract)))
    }

    /// What undoes the task in its parent node.
    pub const fn undo(
        id: &'static str,
        path: &'static str,
        line: u32,
        contract: &'static Contract,
    ) -> Self {
        Self::new(id, path, line, Kind::Undo(Task::new(contract)))
    }

    pub const fn wait(
        id: &'static str,
        path: &'static str,
        line: u32,
        event: &'static str,
    ) -> Self {
        Self::new(id, path, line, Kind::Wait { event })
    }

    pub const fn inside(self, parent: u16) -> Self {
        Self { parent: Some(parent), ..self }
    }

    pub const fn in_catch_of(self, parent: u16) -> Self {
        Self { parent: Some(parent), in_catch: true, ..self }
    }

    /// Some `catch` takes failures of these names.
    pub const fn caught(self, names: &'static [&'static str]) -> Self {
        Self { caught: Caught::Names(names), ..self }
    }

    /// Its result is read after the failure of a step around it.
    pub const fn kept(self) -> Self {
        Self { is_kept: true, ..self }
    }

    /// Some `catch` takes every failure.
    pub const fn caught_any(self) -> Self {
        Self { caught: Caught::Any, ..self }
    }

    pub const fn policy(self, policy: Policy) -> Self {
        match self.kind {
            Kind::Task(task) => Self { kind: Kind::Task(Task { policy, ..task }), ..self },
            Kind::Undo(task) => Self { kind: Kind::Undo(Task { policy, ..task }), ..self },
            _ => self,
        }
    }

    /// It has its own idempotency key.
    pub const fn keyed(self) -> Self {
        match self.kind {
            Kind::Task(task) => Self { kind: Kind::Task(Task { keyed: true, ..task }), ..self },
            _ => self,
        }
    }

    /// The node of its undo.
    pub const fn undone_by(self, undo: u16) -> Self {
        match self.kind {
            Kind::Task(task) => {
                Self { kind: Kind::Task(Task { undo: Some(undo), ..task }), ..self }
            }
            _ => self,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Task(Task),
    /// The undo of the task in its parent node.
    Undo(Task),
    Group,
    Parallel,
    Switch,
    Each,
    Repeat,
    Wait {
        event: &'static str,
    },
    Sleep,
    Emit,
    Fail,
}

#[derive(Debug, Clone, Copy)]
pub struct Task {
    pub contract: &'static Contract,
    pub policy: Policy,
    /// Whether the step has its own idempotency key (`key`).
    pub keyed: bool,
    /// The node of its undo.
    pub undo: Option<u16>,
}

impl Task {
    const fn new(contract: &'static Contract) -> Self {
        Self { contract, policy: Policy::ONCE, keyed: false, undo: None }
    }

    /// Whether an attempt of unknown outcome forbids another one.
    pub fn is_once(&self) -> bool {
        self.contract.effect == EffectKind::Once && !self.keyed
    }
}

/// Failures that do not reach the top.
#[derive(Debug, Clone, Copy)]
pub enum Caught {
    Names(&'static [&'static str]),
    Any,
}

impl Caught {
    pub fn takes(&self, name: &str) -> bool {
        match self {
            Caught::Any => true,
            Caught::Names(names) => names.contains(&name),
        }
    }
}

/// One step type.
#[derive(Debug)]
pub struct Contract {
    pub step_type: &'static str,
    pub runs: Runs,
    pub effect: EffectKind,
    /// Whether its worker says when it starts an attempt.
    pub reports_started: bool,
    /// Whether its tasks carry the instance's input as `payload`.
    pub payload: bool,
    pub raises: &'static [&'static str],
    /// Whether a JSON value is of the contract's input or result type; the error names the path of
    /// the field.
    pub check_input: fn(&RawValue) -> Result<(), String>,
    pub check_result: fn(&RawValue) -> Result<(), String>,
    /// JSON Schemas.
    pub input_schema: &'static str,
    pub output_schema: &'static str,
}

impl Contract {
    /// Whether its tasks go out under that routing key: a service's own, or `step.<type>` for a
    /// step struct.
    pub const fn has_routing_key(&self, key: &str) -> bool {
        match self.runs {
            Runs::Service { routing_key } => is_same(key.as_bytes(), 0, routing_key.as_bytes()),
            Runs::Class(_) => {
                const PREFIX: &[u8] = b"step.";
                is_prefix(key.as_bytes(), PREFIX)
                    && is_same(key.as_bytes(), PREFIX.len(), self.step_type.as_bytes())
            }
        }
    }
}

/// Whether `whole` from `start` on is `part`. (`==` on texts is not for constants yet.)
const fn is_same(whole: &[u8], start: usize, part: &[u8]) -> bool {
    if whole.len() != start + part.len() {
        return false;
    }
    let mut at = 0;
    while at < part.len() {
        if whole[start + at] != part[at] {
            return false;
        }
        at += 1;
    }
    true
}

const fn is_prefix(whole: &[u8], prefix: &[u8]) -> bool {
    whole.len() >= prefix.len() && is_same(whole.split_at(prefix.len()).0, 0, prefix)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The step struct's name.
    Class(&'static str),
    Service {
        routing_key: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    None,
    Idempotent,
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    Undo,
    Park,
}

/// Retry and timeouts. Only ever read for decisions that are then journalled, so it may differ
/// between builds.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    pub attempts: u32,
    pub backoff_ms: u64,
    /// Growth in thousandths.
    pub factor_milli: u32,
    pub max_backoff_ms: Option<u64>,
    pub jitter: bool,
    /// If not empty: only these are retried.
    pub only: &'static [&'static str],
    pub never: &'static [&'static str],
    pub queue_ms: Option<u64>,
    pub run_ms: Option<u64>,
    pub heartbeat_ms: Option<u64>,
    pub total_ms: Option<u64>,
}

impl Policy {
    /// One attempt, no timeouts; the base of generated tables. What is sent again without using up
    /// an attempt waits for a second.
    pub const ONCE: Policy = Policy {
        attempts: 1,
        backoff_ms: 1000,
        factor_milli: 2000,
        max_backoff_ms: None,
        jitter: true,
        only: &[],
        never: &[],
        queue_ms: None,
        run_ms: None,
        heartbeat_ms: None,
        total_ms: None,
    };

    /// The maximum number of attempts, and the delay between the first two.
    pub const fn retry(attempts: u32, backoff_ms: u64) -> Self {
        Self { attempts, backoff_ms, ..Self::ONCE }
    }

    pub const fn max_backoff_ms(self, max: u64) -> Self {
        Self { max_backoff_ms: Some(max), ..self }
    }

    pub const fn factor_milli(self, factor_milli: u32) -> Self {
        Self { factor_milli, ..self }
    }

    pub const fn without_jitter(self) -> Self {
        Self { jitter: false, ..self }
    }

    pub const fn only(self, only: &'static [&'static str]) -> Self {
        Self { only, ..self }
    }

    pub const fn never(self, never: &'static [&'static str]) -> Self {
        Self { never, ..self }
    }

    pub const fn queue_ms(self, ms: u64) -> Self {
        Self { queue_ms: Some(ms), ..self }
    }

    pub const fn run_ms(self, ms: u64) -> Self {
        Self { run_ms: Some(ms), ..self }
    }

    pub const fn heartbeat_ms(self, ms: u64) -> Self {
        Self { heartbeat_ms: Some(ms), ..self }
    }

    pub const fn total_ms(self, ms: u64) -> Self {
        Self { total_ms: Some(ms), ..self }
    }
}

/// Routing keys of hooks about an instance's life; `None`: no hook.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    pub on_start: Option<&'static str>,
    pub on_complete: Option<&'static str>,
    pub on_failure: Option<&'static str>,
}

impl Hooks {
    pub const NONE: Self = Self { on_start: None, on_complete: None, on_failure: None };
}

/// A trigger of a workflow.
#[derive(Debug)]
pub struct Trigger {
    pub source: TriggerSource,
    /// From what arrived to the workflow's input; checks it on the way. The error names the path of
    /// the field.
    pub input: fn(&RawValue) -> Result<Arrived, Refusal>,
    /// The same for a start that brings the workflow's input itself: another function where the
    /// trigger has a `with`.
    pub direct: fn(&RawValue) -> Result<Arrived, Refusal>,
    /// What arrives is not the input: it has a `with`.
    pub maps: bool,
}

/// How generated tables write a trigger.
impl Trigger {
    /// `POST path`.
    pub const fn http(
        path: &'static str,
        input: fn(&RawValue) -> Result<Arrived, Refusal>,
    ) -> Self {
        Self { source: TriggerSource::Http { path }, input, direct: input, maps: false }
    }

    pub const fn event(
        name: &'static str,
        input: fn(&RawValue) -> Result<Arrived, Refusal>,
    ) -> Self {
        Self { source: TriggerSource::Event { name }, input, direct: input, maps: false }
    }

    /// What arrives is mapped; this takes the workflow's input as it is.
    pub const fn direct(self, direct: fn(&RawValue) -> Result<Arrived, Refusal>) -> Self {
        Self { direct, maps: true, ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerSource {
    /// `POST` this path.
    Http {
        path: &'static str,
    },
    Event {
        name: &'static str,
    },
}

/// The result of applying a trigger to a request or event.
#[derive(Debug)]
pub struct Arrived {
    /// The workflow's input, as it is recorded: fields that the type does not know are kept.
    pub input: Box<RawValue>,
    /// The trigger's `key`.
    pub key: Option<String>,
}

impl Arrived {
    /// What arrives is the input, of the type `I`.
    pub fn input<I: Value>(raw: &RawValue) -> Result<Self, Refusal> {
        super::json::arrived::<I>(raw)?;
        Ok(Self { input: raw.to_owned(), key: None })
    }
}

/// Why a trigger starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `when` does not hold.
    NotWanted,
    /// The value is not of the type; the text names the field's path.
    Invalid(String),
}

/// An expression of the trigger failed.
impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Invalid(failure.to_string())
    }
}

/// One event name of the folder.
#[derive(Debug)]
pub struct EventType {
    pub name: &'static str,
    /// The field by which waits correlate.
    pub correlate: Option<&'static str>,
    pub check: fn(&RawValue) -> Result<(), String>,
    pub schema: &'static str,
}

impl Definition {
    /// What a start means that names the workflow and brings its input, without a trigger that says
    /// more: the first trigger that has a `key` and wants the input gives the key; if no trigger
    /// wants it, nothing is started.
    pub fn arrived(&self, input: &RawValue) -> Result<Arrived, Refusal> {
        let mut wanted = None;
        for trigger in self.triggers {
            match (trigger.direct)(input) {
                Ok(arrived) if arrived.key.is_some() => return Ok(arrived),
                Ok(arrived) => wanted = wanted.or(Some(arrived)),
                Err(Refusal::NotWanted) => {}
                Err(invalid) => return Err(invalid),
            }
        }
        match wanted {
            Some(arrived) => Ok(arrived),
            None if self.triggers.is_empty() => Ok(Arrived { input: input.to_owned(), key: None }),
            None => Err(Refusal::NotWanted),
        }
    }

    /// Whether anything of it leaves by the bus; `runs_here` says which step types have a step
    /// struct in this process.
    pub fn needs_bus(&self, runs_here: impl Fn(&str) -> bool) -> bool {
        let Hooks { on_start, on_complete, on_failure } = &self.hooks;
        let leaves = |node: &Node| match &node.kind {
            Kind::Task(Task { contract, .. }) | Kind::Undo(Task { contract, .. }) => {
                match contract.runs {
                    Runs::Service { .. } => true,
                    Runs::Class(_) => !runs_here(contract.step_type),
                }
            }
            Kind::Emit => true,
            _ => false,
        };
        on_start.is_some()
            || on_complete.is_some()
            || on_failure.is_some()
            || self.nodes.iter().any(leaves)
    }

    pub fn node(&self, number: u16) -> Option<&'static Node> {
        self.nodes.get(usize::from(number))
    }

    /// The task of a task or undo node.
    pub fn task(&self, number: u16) -> Option<&'static Task> {
        match &self.node(number)?.kind {
            Kind::Task(task) | Kind::Undo(task) => Some(task),
            _ => None,
        }
    }

    /// The loop whose elements or rounds the last of `path`'s first `depth` numbers counts.
    pub(crate) fn loop_at(&self, path: &Path, depth: usize) -> Option<u16> {
        self.loops(path.node).get(depth.checked_sub(1)?).copied()
    }

    /// The loops around a node, outermost first.
    fn loops(&self, number: u16) -> Vec<u16> {
        let mut around = Vec::new();
        let mut next = self.node(number);
        while let Some((node, number)) = next.and_then(|node| Some((node, node.parent?))) {
            next = self.node(number);
            let is_loop =
                next.is_some_and(|parent| matches!(parent.kind, Kind::Each | Kind::Repeat));
            if is_loop && !node.in_catch {
                around.push(number);
            }
        }
        around.reverse();
        around
    }

    /// The same step whatever the rounds of the `repeat`s around it.
    pub(super) fn across_rounds(&self, path: &Path) -> Path {
        let mut at = Indices::default();
        for (number, index) in self.loops(path.node).into_iter().zip(path.at.as_slice()) {
            let in_repeat = self.node(number).is_some_and(|node| matches!(node.kind, Kind::Repeat));
            at = at.pushed(if in_repeat { 0 } else { *index }).unwrap_or(at);
        }
        Path { node: path.node, at }
    }

    /// The same step without the rounds of the `repeat`s inside its innermost `each`: one per
    /// element.
    pub(super) fn in_element(&self, path: &Path) -> Path {
        let is_each =
            |number: &u16| self.node(*number).is_some_and(|node| matches!(node.kind, Kind::Each));
        let len = self.loops(path.node).iter().rposition(is_each).map_or(0, |last| last + 1);
        Path { node: path.node, at: path.at.truncated(len) }
    }

    /// Whether `node` is the node `around` or stands in it.
    pub(super) fn is_inside(&self, node: u16, around: u16) -> bool {
        std::iter::successors(Some(node), |number| self.node(*number)?.parent)
            .any(|number| number == around)
    }

    /// `ship[3]/label`, `poll#2/ask`. Static where no loop is around the step, which is most often
    /// the case.
    pub fn path_text(&self, path: &Path) -> Cow<'static, str> {
        let Some(node) = self.node(path.node) else { return Cow::Borrowed("") };
        if path.at.is_empty() {
            return Cow::Borrowed(node.path);
        }
        let mut text = String::with_capacity(node.path.len() + 8);
        let mut written = 0;
        for (number, index) in self.loops(path.node).into_iter().zip(path.at.as_slice()) {
            let Some(around) = self.node(number) else { continue };
            text.push_str(&around.path[written..]);
            written = around.path.len();
            match around.kind {
                Kind::Repeat => text.push_str(&format!("#{index}")),
                _ => text.push_str(&format!("[{index}]")),
            }
        }
        text.push_str(&node.path[written..]);
        Cow::Owned(text)
    }

    /// The reverse of [`Self::path_text`]; `None` if no step of this definition has that path.
    pub fn parse_path(&self, text: &str) -> Option<Path> {
        let mut bare = String::with_capacity(text.len());
        let mut at = Indices::default();
        let mut rest = text;
        while let Some(open) = rest.find(['[', '#']) {
            bare.push_str(&rest[..open]);
            let digits = &rest[open + 1..];
            let len = digits.bytes().take_while(u8::is_ascii_digit).count();
            at = at.pushed(digits[..len].parse().ok()?)?;
            rest = &digits[len..];
            if text.as_bytes().get(text.len() - digits.len() - 1) == Some(&b'[') {
                rest = rest.strip_prefix(']')?;
            }
        }
        bare.push_str(rest);
        // A task with nested steps has the path of the group around it; the task comes second and
        // is the one that events address.
        let node = self.nodes.iter().rposition(|node| node.path == bare)?;
        let path = Path { node: u16::try_from(node).ok()?, at };
        (self.loops(path.node).len() == at.len()).then_some(path)
    }
}
