//! The steps of the schema: one struct per verb, so that an editor offers what belongs to it and
//! nothing else. Read with `shape`.

#![allow(dead_code, reason = "the generator reads the types, nobody reads their values")]

use schemars::JsonSchema;

use super::leaf::{
    Branches, Cases, Count, Duration, ErrorOrAny, EventName, Expression, Id, NotEmpty, RoutingKey,
    TypeName, Values,
};
use super::shape::{Effect, ErrorNames, RecordOrName, Reports, Retry, Timeout};

/// Steps, one after the other; may be empty.
#[derive(JsonSchema)]
pub struct Steps(Vec<Step>);

/// Steps, one after the other.
#[derive(JsonSchema)]
pub struct SomeSteps(#[schemars(length(min = 1))] Vec<Step>);

/// One step: its verb says what it does.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Step {
    Work(Box<WorkStep>),
    Group(GroupStep),
    Parallel(ParallelStep),
    Switch(SwitchStep),
    Each(EachStep),
    Repeat(RepeatStep),
    Wait(WaitStep),
    Sleep(SleepStep),
    Child(Box<ChildStep>),
    Emit(EmitStep),
    Fail(FailStep),
}

/// A struct with the keys that every step has.
macro_rules! step {
    ($(#[$attribute:meta])* $name:ident, $id:ty, { $($(#[$field_attribute:meta])* $field:ident: $ty:ty,)* }) => {
        #[derive(JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$attribute])*
        pub struct $name {
            /// The step's name, unique in the workflow; its result is `steps.<id>`.
            id: $id,
            /// What the step is for.
            description: Option<String>,
            $($(#[$field_attribute])* $field: $ty,)*
            /// Run only if this holds; otherwise the step is skipped and its result is optional.
            when: Option<Expression>,
            /// What to do instead when the step fails; then the flow goes on.
            catch: Option<Catches>,
        }
    };
}

step! {
    /// Work: a Rust step struct or a service does it.
    #[schemars(extend("anyOf" = [{ "required": ["type"] }, { "required": ["id", "class"] }, { "required": ["id", "routing_key"] }]))]
    WorkStep, Option<Id>, {
        /// The step type. Without `class` and `routing_key`, a service does it under the routing
        /// key `step.NAME`.
        r#type: Option<Id>,
        /// The Rust step struct that does it.
        class: Option<TypeName>,
        /// The routing key of the service that does it.
        routing_key: Option<RoutingKey>,
        /// What it takes: a record or the name of one. Inferred from `with` if left out.
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
        /// The input: names and values or expressions.
        with: Option<Values>,
        /// How failed attempts are repeated; without it there is one attempt.
        retry: Option<Retry>,
        /// How long an attempt may take.
        timeout: Option<Timeout>,
        /// What takes its effect back when the instance fails later, or `none`.
        undo: Option<Undo>,
        /// Its idempotency key, a `${…}` text; default: instance and step path.
        key: Option<String>,
        /// Steps that follow it.
        steps: Option<SomeSteps>,
    }
}

step! {
    /// A group of steps, one after the other.
    GroupStep, Id, {
        /// The steps of the group.
        steps: SomeSteps,
        /// How long the whole group may take.
        timeout: Option<Duration>,
    }
}

step! {
    /// Concurrent branches; done when all are.
    ParallelStep, Id, {
        /// Branches by name.
        parallel: NotEmpty<Branches>,
        /// How long all branches together may take.
        timeout: Option<Duration>,
    }
}

step! {
    /// One of several branches.
    SwitchStep, Id, {
        /// A list of conditions, or `value` and `cases`.
        switch: Switch,
    }
}

step! {
    /// Steps once per element of a list.
    EachStep, Id, {
        /// Over what, and which steps.
        each: Each,
        /// How long all elements together may take.
        timeout: Option<Duration>,
    }
}

step! {
    /// Steps again and again, until a condition holds.
    RepeatStep, Id, {
        /// Until what, and which steps.
        repeat: Repeat,
        /// How long all rounds together may take.
        timeout: Option<Duration>,
    }
}

step! {
    /// Waits for an event.
    WaitStep, Id, {
        /// Which event.
        wait: Wait,
        /// How long to wait; then it fails with `Timeout`.
        timeout: Option<Duration>,
    }
}

step! {
    /// A durable timer.
    SleepStep, Option<Id>, {
        /// A duration, or `until` a time.
        sleep: Sleep,
    }
}

step! {
    /// An instance of another workflow.
    ChildStep, Id, {
        /// The workflow to start.
        child: Id,
        /// Its input: names and values or expressions.
        with: Option<Values>,
        /// How failed instances are repeated.
        retry: Option<Retry>,
        /// How long it may take.
        timeout: Option<Duration>,
        /// What takes its effect back when this instance fails later, or `none`.
        undo: Option<Undo>,
    }
}

step! {
    /// Publishes an event.
    EmitStep, Option<Id>, {
        /// Which event, and what it carries.
        emit: Emit,
    }
}

step! {
    /// Ends as failed.
    FailStep, Option<Id>, {
        /// With which error.
        fail: Fail,
    }
}

/// A list of branches with conditions, or branches by the value of an expression.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Switch {
    List(SwitchList),
    Match(Match),
}

/// Branches with conditions; the first that holds runs, `else` stands last.
#[derive(JsonSchema)]
pub struct SwitchList(#[schemars(length(min = 1))] Vec<CaseOrElse>);

#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum CaseOrElse {
    Case(Case),
    Else(Else),
}

/// A branch of `switch`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Case {
    /// Taken if this holds.
    when: Expression,
    /// What it does; may be empty.
    steps: Steps,
}

/// The branch of `switch` that is taken if no other is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Else {
    /// What it does; may be empty.
    r#else: Steps,
}

/// Branches by the value of an expression.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Match {
    /// The value: an enum, a text or an integer.
    value: Expression,
    /// What to do for which value; of an enum every word has a case, or there is an `else`.
    cases: NotEmpty<Cases>,
    /// What to do for every other value.
    r#else: Option<Steps>,
}

/// Steps once per element of a list.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Each {
    /// The name of the element in the steps.
    item: Id,
    /// The list to go through.
    r#in: Expression,
    /// How many elements at the same time (default 1).
    concurrency: Option<Count>,
    /// What is done for each element.
    steps: SomeSteps,
    /// What each element gives; the result is the list of them.
    r#yield: Option<Expression>,
}

/// Steps again and again.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Repeat {
    /// Done as soon as this holds.
    until: Expression,
    /// How many rounds there are at most.
    max: Count,
    /// The pause between two rounds (default `0s`).
    every: Option<Duration>,
    /// What a round does.
    steps: SomeSteps,
}

/// An event to wait for.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Wait {
    /// The name of the event.
    event: EventName,
    /// Which one: an equality of a field of `event` and a value known here, and more conditions if
    /// wanted.
    r#where: Option<Expression>,
}

/// A duration, or a point in time.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Sleep {
    For(Duration),
    Until(SleepUntil),
}

/// A point in time.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SleepUntil {
    /// A timestamp; one in the past passes immediately.
    until: Expression,
}

/// An event to publish.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Emit {
    /// The name of the event, which is its routing key.
    event: EventName,
    /// What it carries: names and values or expressions.
    data: Option<Values>,
}

/// A failure.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Fail {
    /// The name of the error.
    error: TypeName,
    /// What people read; a `${…}` text.
    message: Option<String>,
}

/// What to do for which error, at least one.
#[derive(JsonSchema)]
pub struct Catches(#[schemars(length(min = 1))] Vec<Catch>);

/// What to do for one error.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Catch {
    /// The name of the error, or `any`.
    error: ErrorOrAny,
    /// What to do; may be empty.
    steps: Steps,
}

/// `none`, or a step type with its input.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum Undo {
    NotNeeded(NotNeeded),
    By(Box<UndoWork>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum NotNeeded {
    /// Nothing needs to be taken back.
    None,
}

/// A step type that takes an effect back.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct UndoWork {
    /// The step type.
    r#type: Id,
    /// The Rust step struct that does it.
    class: Option<TypeName>,
    /// The routing key of the service that does it.
    routing_key: Option<RoutingKey>,
    /// What it takes: a record or the name of one.
    takes: Option<RecordOrName>,
    /// What it gives: a record or the name of one.
    returns: Option<RecordOrName>,
    /// The errors that it raises by name.
    raises: Option<ErrorNames>,
    /// What doing it twice would do: `none`, `idempotent` (default) or `once`.
    effect: Option<Effect>,
    /// `started`: the service says when it begins.
    reports: Option<Reports>,
    /// Whether tasks carry the instance's input as `payload`.
    payload: Option<bool>,
    /// The input: names and values or expressions; the result of the undone step is optional in it.
    with: Option<Values>,
    /// How failed attempts are repeated.
    retry: Option<Retry>,
    /// How long an attempt may take.
    timeout: Option<Timeout>,
}
