//! The intermediate representation: what `lower` hands to `emit`.
//!
//! Everything here is checked, named and resolved: no spans but the ones that generated comments
//! print, no names that could be missing, no defaults left to fill in. `emit` never fails and never
//! decides; if a choice is needed, it belongs to `lower`.
//!
//! Shapes are owned trees. A [`Node`]'s `no` is its number in its workflow in depth-first order, so
//! the nodes inside a node have numbers in `no..node.end`; generated code routes events by these
//! ranges.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bound::Bound;

/// Everything that one folder of pipelines compiles to.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Sorted by name, then version descending (the current one first).
    pub workflows: Vec<Workflow>,
    /// Every step contract of the folder, sorted by name.
    pub contracts: Vec<Contract>,
    /// Every record and enum that needs a Rust type, in a deterministic order;
    /// `Type::Record`/`Type::Enum` point here by [`TypeName`].
    pub types: Vec<TypeDef>,
    /// Declared events and those that only a trigger names, sorted by name.
    pub events: Vec<EventDecl>,
    /// Routing keys that are published or consumed, sorted; each becomes a constant in `routes`.
    pub routes: Vec<Route>,
}

/// Where in YAML something was written; printed in generated comments and in errors of the Rust
/// type checker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As the user would write it, e.g. `pipelines/booking.yaml`.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

/// The name of a generated Rust type: `module` is `types`, `events`, `steps::<step type>` or
/// `<workflow>`, `name` the type's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeName {
    pub module: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct TypeDef {
    pub name: TypeName,
    pub description: Option<String>,
    pub place: Place,
    pub shape: Shape,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Record(Arc<Record>),
    Enum(Arc<Enum>),
    /// A named type that is neither record nor enum (`Price: number`): a Rust `type` alias.
    Alias(Type),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub name: TypeName,
    /// In the order of the YAML.
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// As in YAML and JSON.
    pub name: String,
    pub ty: Type,
    /// `$default`: a field with one is never absent; `ty` is then not optional.
    pub default: Option<Expr>,
    pub min: Option<Bound>,
    pub max: Option<Bound>,
    pub pattern: Option<String>,
    pub secret: bool,
    pub description: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Enum {
    pub name: TypeName,
    /// As in YAML and JSON, in order.
    pub words: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Timestamp,
    Duration,
    Json,
    List(Box<Type>),
    /// From string, ordered.
    Map(Box<Type>),
    /// Never nested.
    Optional(Box<Type>),
    Record(Arc<Record>),
    Enum(Arc<Enum>),
    /// The built-in record `{ name: string, message: string }` of `catch`.
    Error,
}

/// One step type: what it takes, gives and raises, and where it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    pub name: String,
    pub place: Place,
    pub description: Option<String>,
    pub runs: Runs,
    /// A record, possibly without fields.
    pub takes: Arc<Record>,
    /// `None` where there is no result.
    pub returns: Option<Arc<Record>>,
    /// Named errors, in order.
    pub raises: Vec<String>,
    pub effect: EffectKind,
    /// Step structs always do.
    pub reports_started: bool,
    /// Whether tasks carry `payload` (the instance's input) beside `input`.
    pub payload: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runs {
    /// In the Rust step struct of this name in `crate::steps`.
    Class(String),
    /// In a service that consumes this routing key.
    Service { routing_key: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EffectKind {
    None,
    Idempotent,
    Once,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EventDecl {
    pub name: String,
    pub place: Place,
    pub ty: Arc<Record>,
    /// The field of the event by which waits correlate; the same for all waits of the event.
    pub correlate: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub key: String,
    /// What it is for, for the doc comment: `task of image_processing`, `hook of order`, `emitted
    /// by refund`.
    pub meaning: String,
    /// Whether messages go out under it: hooks and emitted events.
    pub is_published: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    pub name: String,
    /// Of its generated code, and of the types that are only its own.
    pub module: String,
    pub version: u32,
    /// Whether this is a `NAME@N.yaml`: kept for running instances only.
    pub retired: bool,
    pub place: Place,
    pub description: Option<String>,
    /// Hex SHA-256 of what replay depends on.
    pub replay_hash: String,
    /// Hex SHA-256 of what may change freely.
    pub policy_hash: String,
    pub input: Arc<Record>,
    pub triggers: Vec<Trigger>,
    pub hooks: Hooks,
    pub deadline_ms: Option<u64>,
    pub on_exhausted: OnExhausted,
    pub retain_ms: u64,
    /// Names of configuration values that expressions read; journalled at the start.
    pub config: Vec<String>,
    pub steps: Vec<Node>,
    /// The number one past the last node's (undo nodes included).
    pub nodes: u16,
    /// The record `<workflow>::Output` and the expression that builds it.
    pub output: Option<Expr>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hooks {
    pub on_start: Option<String>,
    pub on_complete: Option<String>,
    pub on_failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExhausted {
    Undo,
    Park,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    pub place: Place,
    pub source: TriggerSource,
    /// Builds the workflow's input from `Value::TriggerEvent`; `None`: what arrives is the input.
    pub with: Option<Expr>,
    /// Over `Value::Input`.
    pub when: Option<Expr>,
    /// Over `Value::Input`; of type string.
    pub key: Option<Expr>,
    /// Fields that the input does not have are refused.
    pub is_closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TriggerSource {
    /// `POST <path>`.
    Http {
        path: String,
    },
    Event {
        name: String,
    },
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique in the workflow, also where the YAML gave none (`sleep_1`).
    pub id: String,
    pub no: u16,
    /// One past the last number inside this node (its undo and catch nodes included).
    pub end: u16,
    /// The static path: `look_closer/seo`; elements and rounds are added at run time. A branch's
    /// name is not part of it.
    pub path: String,
    pub place: Place,
    pub description: Option<String>,
    pub when: Option<Expr>,
    pub verb: Verb,
    pub catch: Vec<Catch>,
    /// The type of `steps.<id>` where it is certainly there; `None`: it has no result.
    pub result: Option<Type>,
}

#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "most nodes are tasks, so that a box would save nothing"
)]
pub enum Verb {
    /// One task.
    Task(Task),
    /// A task with nested steps: first the task (which has this node's path and its own number),
    /// then they.
    TaskThen {
        task: Box<Node>,
        steps: Vec<Node>,
    },
    Group {
        steps: Vec<Node>,
        timeout_ms: Option<u64>,
    },
    /// Branches in the order of the YAML.
    Parallel {
        branches: Vec<Branch>,
        timeout_ms: Option<u64>,
    },
    /// The first branch whose condition holds; conditions of an enum switch have been lowered to
    /// comparisons, in order. A last branch without condition is `else`. If none holds, the step is
    /// done.
    Switch {
        branches: Vec<Case>,
    },
    Each {
        item: String,
        item_type: Type,
        list: Expr,
        concurrency: u32,
        steps: Vec<Node>,
        /// One element of the result; `None`: no result.
        yields: Option<Expr>,
        timeout_ms: Option<u64>,
    },
    Repeat {
        until: Expr,
        max: u32,
        every_ms: u64,
        steps: Vec<Node>,
        timeout_ms: Option<u64>,
    },
    Wait {
        event: String,
        event_type: Arc<Record>,
        /// The value known here that the event's correlating field must equal; of that field's
        /// type. `None`: any event of the name.
        correlate: Option<Expr>,
        /// What else must hold, over `Value::Event`.
        condition: Option<Expr>,
        timeout_ms: Option<u64>,
    },
    Sleep(SleepUntil),
    Emit {
        event: String,
        routing_key: String,
        data: Expr,
    },
    Fail {
        error: String,
        message: Expr,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub enum SleepUntil {
    For {
        ms: u64,
    },
    /// Of type timestamp.
    Until(Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    pub name: String,
    pub steps: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub when: Option<Expr>,
    pub steps: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Catch {
    /// `None`: `any`.
    pub error: Option<String>,
    pub steps: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub contract: String,
    /// Of the contract's `takes`.
    pub with: Expr,
    pub policy: Policy,
    /// Of type string.
    pub key: Option<Expr>,
    pub undo: Option<Undo>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Undo {
    /// Its own number, inside the node's range; its path is `<node path>/undo`.
    pub no: u16,
    pub contract: String,
    /// `Value::Step` of the step's own id is optional in here.
    pub with: Expr,
    pub policy: Policy,
}

/// Retry and timeouts of one task: contract defaults and the step's own, merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// At least 1.
    pub attempts: u32,
    pub backoff_ms: u64,
    /// Growth of the back-off in thousandths (2000 = doubling).
    pub factor_milli: u32,
    pub max_backoff_ms: Option<u64>,
    pub jitter: bool,
    /// If not empty: only these are retried.
    pub only: Vec<String>,
    pub never: Vec<String>,
    pub queue_ms: Option<u64>,
    pub run_ms: Option<u64>,
    pub heartbeat_ms: Option<u64>,
    pub total_ms: Option<u64>,
}

/// A type-checked expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub ty: Type,
    pub kind: ExprKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    /// Microseconds since 1970 (a literal that the build has converted).
    Timestamp(i64),
    Duration {
        ms: i64,
    },
    /// The absent value of an optional type.
    Null,
    /// A word of the enum that is `ty`.
    Word(String),
    List(Vec<Expr>),
    /// Of the record that is `ty` (fields in its order, none missing; an absent one is `Null`), or
    /// of a map type.
    Record(Vec<(String, Expr)>),
    Value(Value),
    /// `of.name`, or `of?.name` where `of` is optional (then `ty` is optional too).
    Field {
        of: Box<Expr>,
        name: String,
        optional: bool,
    },
    /// `ty` is optional. Of a list (by integer) or a map (by string).
    Index {
        of: Box<Expr>,
        index: Box<Expr>,
    },
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary {
        op: Op,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `left ?? right`.
    Coalesce {
        left: Box<Expr>,
        right: Box<Expr>,
    },
    If {
        condition: Box<Expr>,
        then: Box<Expr>,
        other: Box<Expr>,
    },
    Call {
        function: Function,
        args: Vec<Expr>,
    },
    /// `over.map(variable, body)` and its kind, over a list.
    Iterate {
        how: Iterate,
        over: Box<Expr>,
        variable: String,
        body: Box<Expr>,
    },
    /// `text ${value} text`, each part of a type that has a text.
    Interpolate(Vec<Expr>),
    /// `inner`, which fits `ty` without being it: `T` into `T?`, integer into number, anything
    /// present into json, an enum into one that has all its words, a record into one all of whose
    /// fields it has with types that fit (fields that are optional there or have a default may be
    /// missing; what the other does not know is left out); also inside lists, maps and optionals.
    Coerce(Box<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Input,
    /// A step's result; `Expr::ty` is optional where it may not have run.
    Step(String),
    /// The element variable of an `each`, or the variable of an `Iterate`.
    Item(String),
    /// The event of a `wait`'s condition.
    Event,
    /// The event, body or record that reached a trigger.
    TriggerEvent,
    /// The failure in a `catch`.
    Error,
    InstanceId,
    RequestId,
    StartedAt,
    Config(String),
    Now,
}

/// Both sides have the same type by now (see [`ExprKind::Coerce`]), except for timestamp and
/// duration arithmetic and `In`. `Equal` and `NotEqual` are there for every type, optionals
/// included (absent equals absent); the order only for integer, number, string, timestamp and
/// duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// On integers these four fail with `ExpressionError` on overflow or division by zero; `Add`
    /// also joins texts and lists, adds duration to timestamp or duration; `Subtract` also gives
    /// timestamp − timestamp = duration, timestamp − duration, duration − duration.
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    /// `left in right`: element of a list, or key of a map.
    In,
}

impl Op {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::And => "&&",
            Self::Or => "||",
            Self::In => "in",
        }
    }
}

/// Methods have their receiver as first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Text (characters), list or map.
    Size,
    /// `has(json, "key")` over json, or whether an optional is present.
    Has,
    /// Text in text, element in list.
    Contains,
    StartsWith,
    EndsWith,
    Lower,
    Upper,
    /// `list<string>.join(separator)`.
    Join,
    /// Of integers or numbers; integer sums fail on overflow.
    Sum,
    /// Of integers, numbers, timestamps or durations. Optional: absent for an empty list.
    Min,
    Max,
    /// Conversions; from text the result is optional.
    ToString,
    ToInteger,
    ToNumber,
    ToTimestamp,
    ToDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iterate {
    Map,
    Filter,
    All,
    Exists,
}

impl Type {
    /// This type, or what it wraps if it is optional.
    pub fn present(&self) -> &Type {
        if let Type::Optional(inner) = self { inner } else { self }
    }

    pub fn is_optional(&self) -> bool {
        matches!(self, Type::Optional(_))
    }

    pub fn optional(self) -> Type {
        if self.is_optional() { self } else { Type::Optional(Box::new(self)) }
    }
}

/// Steps by id, at any depth; the emitter's view of a workflow.
pub fn by_id(steps: &[Node]) -> BTreeMap<&str, &Node> {
    let mut all = BTreeMap::new();
    let mut todo: Vec<&Node> = steps.iter().collect();
    while let Some(node) = todo.pop() {
        all.insert(node.id.as_str(), node);
        todo.extend(node.children());
    }
    all
}

/// The value and the word of each case of a `switch`, if all of them (but for the last, an `else`)
/// compare the same enum with a word.
pub fn by_word(cases: &[Case]) -> Option<(&Expr, Vec<&str>)> {
    let mut value = None;
    let mut words = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let Some(when) = &case.when else {
            return (index + 1 == cases.len()).then_some((value?, words));
        };
        let ExprKind::Binary { op: Op::Equal, left, right } = &when.kind else { return None };
        let ExprKind::Word(word) = &right.kind else { return None };
        let is_same = value.is_none_or(|value: &Expr| value == &**left);
        if !is_same || left.ty.is_optional() || words.contains(&word.as_str()) {
            return None;
        }
        value = Some(&**left);
        words.push(word);
    }
    Some((value?, words))
}

impl Node {
    /// The nodes directly inside this one: of its verb, then of its catches. (A `TaskThen`'s own
    /// task shares the id of the node.)
    pub fn children(&self) -> Vec<&Node> {
        let mut inside = self.verb_children();
        inside.extend(self.catch.iter().flat_map(|catch| &catch.steps));
        inside
    }

    /// The nodes directly inside its verb.
    pub fn verb_children(&self) -> Vec<&Node> {
        match &self.verb {
            Verb::TaskThen { steps, .. }
            | Verb::Group { steps, .. }
            | Verb::Each { steps, .. }
            | Verb::Repeat { steps, .. } => steps.iter().collect(),
            Verb::Parallel { branches, .. } => {
                branches.iter().flat_map(|branch| &branch.steps).collect()
            }
            Verb::Switch { branches } => branches.iter().flat_map(|case| &case.steps).collect(),
            Verb::Task(_)
            | Verb::Wait { .. }
            | Verb::Sleep(_)
            | Verb::Emit { .. }
            | Verb::Fail { .. } => Vec::new(),
        }
    }
}
