//! Pipelines as they are written, as Rust types for the schema generator: each mapping of the
//! language is a struct, its keys are the fields, the comments become the descriptions that editors
//! show. Nothing is ever made of these types; a test holds their keys equal to those that the
//! parser knows.

#![allow(dead_code, reason = "the generator reads the types, nobody reads their values")]

use schemars::JsonSchema;

use super::leaf::{
    AnyValue, Attempts, Duration, DurationOrZero, EventName, Events, Expression, Factor, Filled,
    Hook, HttpRoute, Id, RecordType, RoutingKey, StepTypes, TypeName, TypeText, Types, Values,
    Version,
};
use super::step::SomeSteps;

/// A Crux pipeline, or a library of types, events and step types.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Pipeline {
    Workflow(Box<Workflow>),
    Library(Library),
}

/// A workflow.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Workflow {
    /// The workflow's name, equal to the name of the file.
    workflow: Id,
    /// A positive integer. Running instances stay on the version that they started with.
    version: Version,
    /// What the workflow is for.
    description: Option<String>,
    /// The type of what starts an instance: a record or the name of one. Without it: an empty
    /// record.
    input: Option<RecordOrName>,
    /// The result of an instance: names and expressions.
    output: Option<Values>,
    /// Named types, capitalised, known in the whole folder.
    types: Option<Types>,
    /// Events and what they carry, known in the whole folder.
    events: Option<Events>,
    /// Contracts of step types that are used in more than one place.
    step_types: Option<StepTypes>,
    /// What starts an instance.
    triggers: Option<Vec<Trigger>>,
    /// What is published when an instance starts, completes and fails.
    hooks: Option<Hooks>,
    /// Patterns of routing keys that others consume.
    external: Option<Vec<Filled>>,
    /// Bounds the forward part of an instance.
    deadline: Option<Duration>,
    /// What happens when retries are used up and nothing catches: `undo` (default) or `park`.
    on_exhausted: Option<OnExhausted>,
    /// How long an ended instance is kept (default `7d`).
    retain: Option<Duration>,
    /// What the workflow does, one after the other.
    steps: SomeSteps,
}

/// A file without a workflow: what several pipelines share.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Library {
    /// Named types, capitalised, known in the whole folder.
    types: Option<Types>,
    /// Events and what they carry, known in the whole folder.
    events: Option<Events>,
    /// Contracts of step types that are used in more than one place.
    step_types: Option<StepTypes>,
    /// Patterns of routing keys that others consume.
    external: Option<Vec<Filled>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum OnExhausted {
    /// Run the undo steps, newest first, then fail.
    Undo,
    /// Stop and wait for a person, with nothing undone.
    Park,
}

// ---- types ----

/// A record in place, or the name of one.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum RecordOrName {
    Record(RecordType),
    Name(TypeName),
}

/// A type: a text, or a record in place.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Type {
    Text(TypeText),
    Record(RecordType),
}

/// A field: its type, or its type with details.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum FieldType {
    Type(Type),
    Details(Box<Field>),
}

/// A named type, with a description or without.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum NamedType {
    Type(Type),
    Described(DescribedType),
}

/// A named type with a description.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DescribedType {
    /// The type that gets the name.
    #[schemars(rename = "$type")]
    ty: Type,
    /// What it stands for.
    #[schemars(rename = "$description")]
    description: Option<String>,
}

/// A field with details.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Field {
    /// The type of the field.
    #[schemars(rename = "$type")]
    ty: Type,
    /// The value of an absent field; such a field is never absent.
    #[schemars(rename = "$default")]
    default: Option<AnyValue>,
    /// Least length of a text, value of a number, size of a list.
    #[schemars(rename = "$min")]
    min: Option<f64>,
    /// Greatest length of a text, value of a number, size of a list.
    #[schemars(rename = "$max")]
    max: Option<f64>,
    /// A regular expression that texts must match.
    #[schemars(rename = "$pattern")]
    pattern: Option<String>,
    /// Not shown in logs and documents.
    #[schemars(rename = "$secret")]
    secret: Option<bool>,
    /// What the field is for.
    #[schemars(rename = "$description")]
    description: Option<String>,
}

// ---- contracts and policies ----

/// The contract of a step type.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StepType {
    /// What the step type does.
    description: Option<String>,
    /// The Rust step struct that does it.
    class: Option<TypeName>,
    /// The routing key of the service that does it (default `step.NAME`).
    routing_key: Option<RoutingKey>,
    /// What it takes: a record or the name of one.
    takes: Option<RecordOrName>,
    /// What it gives: a record or the name of one. Without it: no result.
    returns: Option<RecordOrName>,
    /// The errors that it raises by name.
    raises: Option<ErrorNames>,
    /// What doing it twice would do: `none`, `idempotent` (default) or `once`.
    effect: Option<Effect>,
    /// `started`: the service says when it begins.
    reports: Option<Reports>,
    /// Whether tasks carry the instance's input as `payload`.
    payload: Option<bool>,
    /// How failed attempts are repeated, unless the step says otherwise.
    retry: Option<Retry>,
    /// How long an attempt may take, unless the step says otherwise.
    timeout: Option<Timeout>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Effect {
    /// It has none: it may run any number of times.
    None,
    /// Twice is the same as once.
    Idempotent,
    /// It must not run twice.
    Once,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Reports {
    /// The service says when it begins.
    Started,
}

/// Names of errors, at least one.
#[derive(JsonSchema)]
pub struct ErrorNames(#[schemars(length(min = 1))] Vec<TypeName>);

/// How failed attempts are repeated.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Retry {
    /// How many attempts there are, the first included.
    attempts: Attempts,
    /// The pause before the second attempt.
    backoff: Option<DurationOrZero>,
    /// What each further pause is multiplied with (default 2).
    factor: Option<Factor>,
    /// The longest pause.
    max: Option<Duration>,
    /// Whether pauses vary by chance, so that instances do not come back together (default true).
    jitter: Option<bool>,
    /// Only these errors are retried.
    only: Option<ErrorNames>,
    /// These errors are not retried.
    never: Option<ErrorNames>,
}

/// How long one attempt may run, or each part of the time.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Timeout {
    Run(Duration),
    Parts(TimeoutParts),
}

/// The parts of a timeout, at least one.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("minProperties" = 1))]
pub struct TimeoutParts {
    /// From handing an attempt out until it begins.
    queue: Option<Duration>,
    /// From its beginning until its end.
    run: Option<Duration>,
    /// Maximum time between two heartbeats.
    heartbeat: Option<Duration>,
    /// All attempts and pauses together.
    total: Option<Duration>,
}

// ---- triggers and hooks ----

/// What starts an instance: one of `http`, `event`, `kafka` and `cron`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, extend("oneOf" = [
    { "required": ["http"] }, { "required": ["event"] }, { "required": ["kafka"] }, { "required": ["cron"] },
]))]
pub struct Trigger {
    /// A request, `POST /path`; its body is the input.
    http: Option<HttpRoute>,
    /// An event; what it carries is the input.
    event: Option<EventName>,
    /// The records of a topic.
    kafka: Option<Filled>,
    /// A schedule.
    cron: Option<Filled>,
    /// The workflow's input, from `event`, where it must be mapped.
    with: Option<Values>,
    /// Only what this holds for starts an instance; over `input`.
    when: Option<Expression>,
    /// What makes two starts the same; over `input`.
    key: Option<Expression>,
    /// Of `http`: `false` refuses a body with fields that the input does not have.
    additional: Option<bool>,
}

/// What is published when an instance starts, completes and fails.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hooks {
    /// When an instance has started.
    on_start: Option<Hook>,
    /// When an instance has completed.
    on_complete: Option<Hook>,
    /// When an instance has failed.
    on_failure: Option<Hook>,
}
