//! One file of `pipelines/` as it was written: shapes are checked, names are not looked up and no
//! default is filled in. `parse` fills it, `resolve` and `check` read it. Every name, text and
//! value knows its place, so that a diagnostic can point at any of them.
//!
//! Expressions and `${…}` texts are still text here ([`Text`] leads a part of them back to the
//! file); types are already parsed.

use crate::bound::Bound;
use crate::source::{FileId, Span, Spanned};
use crate::text::Text;

/// A name that was written somewhere.
pub type Name = Spanned<String>;

/// The text of a bare expression: `when`, `until`, `where`, `value`, `in`, `yield`, a trigger's
/// `key`. Not yet parsed; a `${` in it is for the expression parser to refuse.
pub type Expression = Text;

/// One `*.yaml`.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    pub id: FileId,
    /// `booking` for `pipelines/booking.yaml` and for `pipelines/booking@2.yaml`.
    pub stem: String,
    /// `2` for `booking@2.yaml`.
    pub retired_version: Option<u32>,
    /// `None` for a library: only types, events, step types and external patterns.
    pub workflow: Option<Workflow>,
    pub types: Vec<TypeDecl>,
    pub events: Vec<EventDecl>,
    pub step_types: Vec<StepType>,
    /// AMQP patterns.
    pub external: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// Equal to the file's stem.
    pub name: Name,
    pub version: Spanned<u32>,
    pub description: Option<Text>,
    /// A record, or the name of one.
    pub input: Option<TypeExpr>,
    pub output: Option<Output>,
    pub triggers: Vec<Trigger>,
    pub hooks: Hooks,
    pub deadline_ms: Option<Spanned<u64>>,
    pub on_exhausted: Option<Spanned<OnExhausted>>,
    pub retain_ms: Option<Spanned<u64>>,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Of the key `output`.
    pub key: Span,
    pub entries: Vec<Entry>,
}

// ---- types ----

#[derive(Debug, Clone, PartialEq)]
pub struct TypeDecl {
    pub name: Name,
    pub description: Option<Text>,
    pub ty: TypeExpr,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EventDecl {
    pub name: Name,
    /// A record, or the name of one.
    pub ty: TypeExpr,
}

/// A type as written.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeExpr {
    pub shape: TypeShape,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TypeShape {
    String,
    Integer,
    Number,
    Boolean,
    Timestamp,
    Duration,
    Json,
    /// `T?`; what is inside is neither optional nor an enum in place.
    Optional(Box<TypeExpr>),
    List(Box<TypeExpr>),
    Map(Box<TypeExpr>),
    /// A capitalised name.
    Named(String),
    /// Two or more words, none twice.
    Enum(Vec<Name>),
    /// Field names are not repeated.
    Record(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: Name,
    pub ty: TypeExpr,
    /// A literal.
    pub default: Option<Spanned<Value>>,
    pub min: Option<Spanned<Bound>>,
    pub max: Option<Spanned<Bound>>,
    pub pattern: Option<Text>,
    pub secret: bool,
    pub description: Option<Text>,
}

// ---- contracts ----

/// An entry of `step_types`.
#[derive(Debug, Clone, PartialEq)]
pub struct StepType {
    pub name: Name,
    pub description: Option<Text>,
    pub contract: Contract,
    pub retry: Option<Retry>,
    pub timeout: Option<Timeout>,
}

/// The keys of a contract, in place or under `step_types`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contract {
    pub class: Option<Name>,
    pub routing_key: Option<Name>,
    /// A record, or the name of one.
    pub takes: Option<TypeExpr>,
    /// A record, or the name of one.
    pub returns: Option<TypeExpr>,
    pub raises: Option<Spanned<Vec<Name>>>,
    pub effect: Option<Spanned<Effect>>,
    /// Of `reports: started`.
    pub reports_started: Option<Span>,
    /// `payload: true`: tasks carry the instance's input beside their own.
    pub payload: Option<Spanned<bool>>,
}

impl Contract {
    /// The first key that is there; `None` if the step says nothing of its contract.
    pub fn first(&self) -> Option<Span> {
        [
            self.class.as_ref().map(|c| c.span),
            self.routing_key.as_ref().map(|k| k.span),
            self.takes.as_ref().map(|t| t.span),
            self.returns.as_ref().map(|t| t.span),
            self.raises.as_ref().map(|r| r.span),
            self.effect.as_ref().map(|e| e.span),
            self.reports_started,
            self.payload.map(|p| p.span),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    None,
    Idempotent,
    Once,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    Undo,
    Park,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// The whole mapping.
    pub span: Span,
    /// At least 1.
    pub attempts: Spanned<u32>,
    pub backoff_ms: Option<Spanned<u64>>,
    /// At least 1.
    pub factor: Option<Spanned<f64>>,
    pub max_ms: Option<Spanned<u64>>,
    pub jitter: Option<Spanned<bool>>,
    pub only: Option<Spanned<Vec<Name>>>,
    pub never: Option<Spanned<Vec<Name>>>,
}

/// `timeout: 60s` is `run_ms` alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeout {
    /// The whole value.
    pub span: Span,
    pub queue_ms: Option<Spanned<u64>>,
    pub run_ms: Option<Spanned<u64>>,
    pub heartbeat_ms: Option<Spanned<u64>>,
    pub total_ms: Option<Spanned<u64>>,
}

// ---- triggers and hooks ----

#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The whole mapping.
    pub span: Span,
    pub source: TriggerSource,
    pub with: Option<With>,
    pub when: Option<Expression>,
    pub key: Option<Expression>,
    /// `additional: false`: fields that the input does not have are refused.
    pub is_closed: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TriggerSource {
    /// The path of `POST /path`.
    Http(Name),
    Event(Name),
    /// The key `kafka` and its topic.
    Kafka(Name),
    /// The key `cron` and its schedule.
    Cron(Name),
}

/// Routing keys, or `webhook:NAME`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hooks {
    pub on_start: Option<Name>,
    pub on_complete: Option<Name>,
    pub on_failure: Option<Name>,
}

// ---- steps ----

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The whole mapping.
    pub span: Span,
    /// There except for `emit`, `fail`, `sleep` and for work that names its `type`.
    pub id: Option<Name>,
    pub description: Option<Text>,
    pub when: Option<Expression>,
    /// The key that says what the step does (`type`, `parallel`, …).
    pub verb_key: Span,
    pub verb: Verb,
    /// `None` where the key is absent.
    pub catch: Option<Vec<Catch>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Work(Box<Work>),
    Group {
        steps: Vec<Step>,
        timeout_ms: Option<Spanned<u64>>,
    },
    Parallel {
        branches: Vec<Branch>,
        timeout_ms: Option<Spanned<u64>>,
    },
    /// The first branch that holds.
    Switch {
        cases: Vec<SwitchCase>,
        otherwise: Option<Otherwise>,
    },
    /// By the value of an expression.
    Match {
        value: Expression,
        cases: Vec<MatchCase>,
        otherwise: Option<Otherwise>,
    },
    Each(Box<Each>),
    Repeat(Box<Repeat>),
    Wait {
        event: Name,
        condition: Option<Expression>,
        timeout_ms: Option<Spanned<u64>>,
    },
    Sleep(Sleep),
    Child(Box<Child>),
    Emit {
        event: Name,
        data: Option<Vec<Entry>>,
    },
    Fail {
        error: Name,
        message: Option<Text>,
    },
}

/// A step that a step struct or a service does.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The step type: `type`, or the id where only `class` or `routing_key` is given.
    pub type_name: Name,
    pub contract: Contract,
    pub with: Option<With>,
    pub retry: Option<Retry>,
    pub timeout: Option<Timeout>,
    /// A `${…}` text.
    pub key: Option<Text>,
    pub undo: Option<Undo>,
    /// Nested steps: after the work itself, they.
    pub steps: Option<Vec<Step>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    pub name: Name,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SwitchCase {
    pub when: Expression,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MatchCase {
    /// A word of the enum, a text, or an integer as written.
    pub value: Name,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Otherwise {
    /// Of `else`.
    pub key: Span,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Each {
    pub item: Name,
    pub list: Expression,
    /// At least 1.
    pub concurrency: Option<Spanned<u32>>,
    pub steps: Vec<Step>,
    pub yields: Option<Expression>,
    pub timeout_ms: Option<Spanned<u64>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Repeat {
    pub until: Expression,
    /// At least 1.
    pub max: Spanned<u32>,
    pub every_ms: Option<Spanned<u64>>,
    pub steps: Vec<Step>,
    pub timeout_ms: Option<Spanned<u64>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Sleep {
    For { ms: Spanned<u64> },
    Until(Expression),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    pub workflow: Name,
    pub with: Option<With>,
    pub retry: Option<Retry>,
    pub timeout_ms: Option<Spanned<u64>>,
    pub undo: Option<Undo>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Catch {
    pub error: Spanned<Caught>,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caught {
    Any,
    Named(String),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Undo {
    /// `undo: none`.
    NotNeeded(Span),
    By(Box<UndoWork>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct UndoWork {
    /// The whole mapping.
    pub span: Span,
    pub type_name: Name,
    pub contract: Contract,
    pub with: Option<With>,
    pub retry: Option<Retry>,
    pub timeout: Option<Timeout>,
}

// ---- values ----

/// The mapping under `with`.
#[derive(Debug, Clone, PartialEq)]
pub struct With {
    /// Of the key `with`.
    pub key: Span,
    pub entries: Vec<Entry>,
}

/// One name and its value, in `with`, `data`, `output` or a record inside them. Names are not
/// repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: Name,
    pub value: Spanned<Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Finite.
    Number(f64),
    /// May hold `${…}`.
    Text(Text),
    List(Vec<Spanned<Value>>),
    Record(Vec<Entry>),
}
