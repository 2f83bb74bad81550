//! A workflow written by hand in the shape that the compiler generates:
//!
//! reserve (undo: release) → look { seo ; score when input.big } catch any: apologise → ship each
//! line: label → close catch Refused

use std::sync::Arc;

use crux_runtime::machine::{
    self, Applied, Branch, Caught, Composite, Contract, Definition, Each, EffectKind, Env, Failure,
    Flow, Handler, Hooks, Inside, Join, Kind, Node, OnExhausted, Open, Part, Policy, Refused,
    RejectReason, Runs, StepEvent, StepType, Task, TaskStep, Then, Time, advanced, joined, json,
};
use serde_json::value::RawValue;

pub mod steps {
    use super::*;

    macro_rules! step {
        ($name:ident, $effect:ident, { $($in:ident: $in_type:ty),* }, { $($out:ident: $out_type:ty),* }) => {
            pub mod $name {
                use super::*;

                #[derive(Debug, Clone, machine::Record)]
                pub struct Input { $(pub $in: $in_type),* }
                #[derive(Debug, Clone, machine::Record)]
                pub struct Output { $(pub $out: $out_type),* }
                #[derive(Debug)]
                #[allow(dead_code, reason = "not every step has a struct here")]
                pub enum Error {}
                impl machine::Raised for Error {
                    fn into_failure(self) -> Failure {
                        match self {}
                    }
                }
                #[allow(dead_code, reason = "not every step has a struct here")]
                pub enum Type {}
                impl StepType for Type {
                    const CONTRACT: &'static Contract = &CONTRACT;
                    type Input = Input;
                    type Output = Output;
                    type Error = Error;
                }
                pub static CONTRACT: Contract = Contract {
                    step_type: stringify!($name),
                    runs: Runs::Service { routing_key: concat!("step.", stringify!($name)) },
                    effect: EffectKind::$effect,
                    reports_started: false,
                    payload: false,
                    raises: &[],
                    check_input: json::check::<Input>,
                    check_result: json::check::<Output>,
                    input_schema: "{}",
                    output_schema: "{}",
                };
            }
        };
    }

    step!(reserve, Once, { order: String }, { lines: Vec<String> });
    step!(release, Idempotent, { order: String, lines: i64 }, {});
    step!(seo, Idempotent, { order: String }, { title: String });
    step!(score, Idempotent, { order: String }, { value: f64 });
    step!(apologise, Idempotent, { why: String }, { ticket: i64 });
    step!(label, Idempotent, { line: String, order: String }, { code: String });
    step!(close, Idempotent, { codes: Vec<String>, score: Option<f64>, ticket: Option<i64> }, { at: String });
}

#[derive(Debug, Clone, machine::Record)]
pub struct Input {
    pub order: String,
    pub big: bool,
}

#[derive(Debug, Clone, PartialEq, machine::Record)]
pub struct Output {
    pub codes: Vec<String>,
    pub closed: Option<String>,
}

type Fx<'a> = machine::Fx<'a, Undo>;

pub enum Undo {
    Reserve { input: Arc<Input>, reserve: Option<Arc<steps::reserve::Output>> },
}

impl machine::Undo for Undo {
    fn completed(&mut self, result: &RawValue) {
        match self {
            Undo::Reserve { reserve, .. } => *reserve = json::decode(result).ok(),
        }
    }

    fn input(&self, _: &Env, _: Time) -> (u16, Result<Arc<RawValue>, Failure>) {
        match self {
            Undo::Reserve { input, reserve } => {
                (1, json::encode_shared(&undo_reserve(input, reserve.as_deref())))
            }
        }
    }
}

fn undo_reserve(input: &Input, reserve: Option<&steps::reserve::Output>) -> steps::release::Input {
    steps::release::Input {
        order: input.order.clone(),
        lines: reserve.map_or(0, |reserve| reserve.lines.len() as i64),
    }
}

pub struct Order;

impl machine::Machine for Order {
    const DEFINITION: &'static Definition = &DEFINITION;
    type Input = Input;
    type State = State;
    type Output = Output;
    type Undo = Undo;

    fn start(input: Input, fx: &mut Fx<'_>) -> Flow<State, Output> {
        enter_reserve(AtReserve { input: Arc::new(input) }, fx)
    }

    fn apply(state: State, event: &StepEvent, fx: &mut Fx<'_>) -> Applied<State, Output> {
        match state {
            State::Reserve(at, part) => {
                part.apply(event, fx).with(at).then(State::Reserve, fx, after_reserve)
            }
            State::Look(at, part) => part
                .apply(event, fx, |inside, fx| {
                    apply_look(InLook { at_look: &at }, inside, event, fx)
                })
                .with(at)
                .then_or(
                    State::Look,
                    fx,
                    |at, score, fx| after_look(at, (score, None), fx),
                    catch_look,
                ),
            State::LookCatchAny(at, part) => part
                .apply(fx, |error, inside, fx| {
                    apply_look_catch_any(InLookCatchAny { error }, inside, event, fx)
                })
                .with(at)
                .then(State::LookCatchAny, fx, |at, apologise, fx| {
                    after_look(at, (None, Some(apologise)), fx)
                }),
            State::Ship(at, part) => part
                .apply(event, fx, |each, fx| {
                    each.apply(
                        event,
                        fx,
                        |line, inside, fx| apply_ship(InShip { line }, inside, event, fx),
                        |line, fx| enter_label(InShip { line }, AtLabel, fx),
                    )
                })
                .with(at)
                .then(State::Ship, fx, after_ship),
            State::Close(at, part) => part.apply(event, fx).with(at).then_or(
                State::Close,
                fx,
                |at, close, fx| after_close(at, Some(close), fx),
                catch_close,
            ),
        }
    }
}

pub enum State {
    Reserve(AtReserve, TaskStep<steps::reserve::Type>),
    Look(AtLook, Composite<Look>),
    LookCatchAny(AtLook, Handler<LookCatchAny>),
    Ship(AtShip, Composite<Each<String, Ship, String>>),
    Close(AtClose, TaskStep<steps::close::Type>),
}

impl Part for State {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match self {
            State::Reserve(_, part) => part.open(visit),
            State::Look(_, part) => part.open(visit),
            State::LookCatchAny(_, part) => part.open(visit),
            State::Ship(_, part) => part.open(visit),
            State::Close(_, part) => part.open(visit),
        }
    }
}

// reserve
pub struct AtReserve {
    input: Arc<Input>,
}

fn enter_reserve(at: AtReserve, fx: &mut Fx<'_>) -> Flow<State, Output> {
    fx.push_undo(0, Undo::Reserve { input: at.input.clone(), reserve: None });
    TaskStep::start(0, Ok(with_reserve(&at)), fx).with(at).then(State::Reserve, fx, after_reserve)
}

fn with_reserve(at: &AtReserve) -> steps::reserve::Input {
    steps::reserve::Input { order: at.input.order.clone() }
}

fn after_reserve(
    at: AtReserve,
    reserve: Arc<steps::reserve::Output>,
    fx: &mut Fx<'_>,
) -> Flow<State, Output> {
    enter_look(AtLook { input: at.input, reserve }, fx)
}

// look
pub struct AtLook {
    input: Arc<Input>,
    reserve: Arc<steps::reserve::Output>,
}

fn enter_look(at: AtLook, fx: &mut Fx<'_>) -> Flow<State, Output> {
    Composite::start(2, Some(60_000), fx, |fx| start_look(InLook { at_look: &at }, fx))
        .with(at)
        .then_or(State::Look, fx, |at, score, fx| after_look(at, (score, None), fx), catch_look)
}

type LookOut = (Option<Arc<steps::score::Output>>, Option<Arc<steps::apologise::Output>>);

fn after_look(at: AtLook, (score, apologise): LookOut, fx: &mut Fx<'_>) -> Flow<State, Output> {
    enter_ship(AtShip { reserve: at.reserve, score, apologise }, fx)
}

fn catch_look(at: AtLook, failure: Failure, fx: &mut Fx<'_>) -> Flow<State, Output> {
    Handler::start(failure, fx, |error, fx| {
        enter_apologise(InLookCatchAny { error }, AtApologise, fx)
    })
    .with(at)
    .then(State::LookCatchAny, fx, |at, apologise, fx| after_look(at, (None, Some(apologise)), fx))
}

#[derive(Clone, Copy)]
struct InLook<'a> {
    at_look: &'a AtLook,
}

pub struct Look {
    seo: Branch<LookSeo, ()>,
    fraud: Branch<LookFraud, Option<Arc<steps::score::Output>>>,
}

impl Join for Look {
    type Out = Option<Arc<steps::score::Output>>;

    fn join(self) -> Result<Self::Out, Self> {
        match self {
            Look { seo: Branch::Done(()), fraud: Branch::Done(score) } => Ok(score),
            open => Err(open),
        }
    }
}

impl Part for Look {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        self.seo.open(visit);
        self.fraud.open(visit);
    }
}

fn start_look(up: InLook<'_>, fx: &mut Fx<'_>) -> Inside<Look, Option<Arc<steps::score::Output>>> {
    let mut failed = None;
    let branches = Look {
        seo: Branch::start(&mut failed, fx, |fx| enter_seo(up, AtSeo, fx)),
        fraud: Branch::start(&mut failed, fx, |fx| enter_score(up, AtScore, fx)),
    };
    joined(branches, failed)
}

fn apply_look(
    up: InLook<'_>,
    mut look: Look,
    event: &StepEvent,
    fx: &mut Fx<'_>,
) -> Result<Inside<Look, Option<Arc<steps::score::Output>>>, Refused<Look>> {
    let mut failed = None;
    let applied = match event.path.node {
        3 => look.seo.apply(&mut failed, |inside| apply_look_seo(up, inside, event, fx)),
        4 => look.fraud.apply(&mut failed, |inside| apply_look_fraud(up, inside, event, fx)),
        _ => Err(RejectReason::NotOpen),
    };
    advanced(look, applied, failed)
}

pub enum LookSeo {
    Seo(AtSeo, TaskStep<steps::seo::Type>),
}

fn apply_look_seo(
    up: InLook<'_>,
    state: LookSeo,
    event: &StepEvent,
    fx: &mut Fx<'_>,
) -> Applied<LookSeo, ()> {
    let _ = up;
    match state {
        LookSeo::Seo(at, part) => {
            part.apply(event, fx).with(at).then(LookSeo::Seo, fx, |_, _, _| Flow::Done(()))
        }
    }
}

impl Part for LookSeo {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match self {
            LookSeo::Seo(_, part) => part.open(visit),
        }
    }
}

pub struct AtSeo;

fn enter_seo(up: InLook<'_>, at: AtSeo, fx: &mut Fx<'_>) -> Flow<LookSeo, ()> {
    TaskStep::start(3, Ok(steps::seo::Input { order: up.at_look.input.order.clone() }), fx)
        .with(at)
        .then(LookSeo::Seo, fx, |_, _, _| Flow::Done(()))
}

pub enum LookFraud {
    Score(AtScore, TaskStep<steps::score::Type>),
}

impl Part for LookFraud {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match self {
            LookFraud::Score(_, part) => part.open(visit),
        }
    }
}

fn apply_look_fraud(
    up: InLook<'_>,
    state: LookFraud,
    event: &StepEvent,
    fx: &mut Fx<'_>,
) -> Applied<LookFraud, Option<Arc<steps::score::Output>>> {
    match state {
        LookFraud::Score(at, part) => {
            part.apply(event, fx)
                .with(at)
                .then(LookFraud::Score, fx, |at, score, fx| after_score(up, at, Some(score), fx))
        }
    }
}

pub struct AtScore;

fn enter_score(
    up: InLook<'_>,
    at: AtScore,
    fx: &mut Fx<'_>,
) -> Flow<LookFraud, Option<Arc<steps::score::Output>>> {
    if !fx.holds(4, when_score(up)) {
        return after_score(up, at, None, fx);
    }
    TaskStep::start(4, Ok(steps::score::Input { order: up.at_look.input.order.clone() }), fx)
        .with(at)
        .then(LookFraud::Score, fx, |at, score, fx| after_score(up, at, Some(score), fx))
}

fn when_score(up: InLook<'_>) -> bool {
    up.at_look.input.big
}

fn after_score(
    _: InLook<'_>,
    _: AtScore,
    score: Option<Arc<steps::score::Output>>,
    _: &mut Fx<'_>,
) -> Flow<LookFraud, Option<Arc<steps::score::Output>>> {
    Flow::Done(score)
}

pub enum LookCatchAny {
    Apologise(AtApologise, TaskStep<steps::apologise::Type>),
}

impl Part for LookCatchAny {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match self {
            LookCatchAny::Apologise(_, part) => part.open(visit),
        }
    }
}

#[derive(Clone, Copy)]
struct InLookCatchAny<'a> {
    error: &'a Failure,
}

pub struct AtApologise;

fn enter_apologise(
    up: InLookCatchAny<'_>,
    at: AtApologise,
    fx: &mut Fx<'_>,
) -> Flow<LookCatchAny, Arc<steps::apologise::Output>> {
    TaskStep::start(
        5,
        Ok(steps::apologise::Input { why: format!("{}: {}", up.error.name, up.error.message) }),
        fx,
    )
    .with(at)
    .then(LookCatchAny::Apologise, fx, |_, apologise, _| Flow::Done(apologise))
}

fn apply_look_catch_any(
    _: InLookCatchAny<'_>,
    state: LookCatchAny,
    event: &StepEvent,
    fx: &mut Fx<'_>,
) -> Applied<LookCatchAny, Arc<steps::apologise::Output>> {
    match state {
        LookCatchAny::Apologise(at, part) => {
            part.apply(event, fx)
                .with(at)
                .then(LookCatchAny::Apologise, fx, |_, apologise, _| Flow::Done(apologise))
        }
    }
}

// ship
pub struct AtShip {
    reserve: Arc<steps::reserve::Output>,
    score: Option<Arc<steps::score::Output>>,
    apologise: Option<Arc<steps::apologise::Output>>,
}

fn enter_ship(at: AtShip, fx: &mut Fx<'_>) -> Flow<State, Output> {
    Composite::each(6, None, Ok(at.reserve.lines.clone()), 2, fx, |line, fx| {
        enter_label(InShip { line }, AtLabel, fx)
    })
    .with(at)
    .then(State::Ship, fx, after_ship)
}

fn after_ship(at: AtShip, ship: Vec<String>, fx: &mut Fx<'_>) -> Flow<State, Output> {
    enter_close(AtClose { score: at.score, apologise: at.apologise, ship: Arc::new(ship) }, fx)
}

#[derive(Clone, Copy)]
struct InShip<'a> {
    line: &'a String,
}

pub enum Ship {
    Label(AtLabel, TaskStep<steps::label::Type>),
}

impl Part for Ship {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        match self {
            Ship::Label(_, part) => part.open(visit),
        }
    }
}

fn apply_ship(
    up: InShip<'_>,
    state: Ship,
    event: &StepEvent,
    fx: &mut Fx<'_>,
) -> Applied<Ship, String> {
    let _ = up;
    match state {
        Ship::Label(at, part) => part.apply(event, fx).with(at).then(Ship::Label, fx, after_label),
    }
}

pub struct AtLabel;

fn enter_label(up: InShip<'_>, at: AtLabel, fx: &mut Fx<'_>) -> Flow<Ship, String> {
    TaskStep::start(7, Ok(steps::label::Input { line: up.line.clone(), order: String::new() }), fx)
        .with(at)
        .then(Ship::Label, fx, after_label)
}

fn after_label(_: AtLabel, label: Arc<steps::label::Output>, _: &mut Fx<'_>) -> Flow<Ship, String> {
    Flow::Done(label.code.clone())
}

// close
pub struct AtClose {
    score: Option<Arc<steps::score::Output>>,
    apologise: Option<Arc<steps::apologise::Output>>,
    ship: Arc<Vec<String>>,
}

fn enter_close(at: AtClose, fx: &mut Fx<'_>) -> Flow<State, Output> {
    TaskStep::start(8, Ok(with_close(&at)), fx).with(at).then_or(
        State::Close,
        fx,
        |at, close, fx| after_close(at, Some(close), fx),
        catch_close,
    )
}

fn with_close(at: &AtClose) -> steps::close::Input {
    steps::close::Input {
        codes: at.ship.to_vec(),
        score: at.score.as_ref().map(|score| score.value),
        ticket: at.apologise.as_ref().map(|apologise| apologise.ticket),
    }
}

fn catch_close(at: AtClose, failure: Failure, fx: &mut Fx<'_>) -> Flow<State, Output> {
    if failure.name == "Refused" {
        return after_close(at, None, fx);
    }
    Flow::Failed(failure)
}

fn after_close(
    at: AtClose,
    close: Option<Arc<steps::close::Output>>,
    _: &mut Fx<'_>,
) -> Flow<State, Output> {
    Flow::Done(Output { codes: at.ship.to_vec(), closed: close.map(|close| close.at.clone()) })
}

pub static DEFINITION: Definition = Definition {
    workflow: "order",
    version: 1,
    retired: false,
    hash: "abc",
    policy_hash: "def",
    source: "pipelines/order.yaml",
    description: "",
    nodes: NODES,
    triggers: &[],
    hooks: Hooks {
        on_start: Some("workflow.start"),
        on_complete: Some("workflow.completed"),
        on_failure: Some("workflow.failed"),
    },
    deadline_ms: Some(3_600_000),
    on_exhausted: OnExhausted::Undo,
    retain_ms: 1000,
    config: &[],
    document: "{}",
    input_schema: "{}",
    output_schema: "{}",
};

/// The same workflow, parking where the other undoes.
pub static PARKING: Definition = Definition {
    workflow: "order",
    version: 1,
    retired: false,
    hash: "abc",
    policy_hash: "def",
    source: "pipelines/order.yaml",
    description: "",
    nodes: NODES,
    triggers: &[],
    hooks: Hooks { on_start: None, on_complete: None, on_failure: None },
    deadline_ms: None,
    on_exhausted: OnExhausted::Park,
    retain_ms: 1000,
    config: &[],
    document: "{}",
    input_schema: "{}",
    output_schema: "{}",
};

/// [`Order`] under [`PARKING`].
pub struct Parking;

impl machine::Machine for Parking {
    const DEFINITION: &'static Definition = &PARKING;
    type Input = Input;
    type State = State;
    type Output = Output;
    type Undo = Undo;

    fn start(input: Input, fx: &mut Fx<'_>) -> Flow<State, Output> {
        Order::start(input, fx)
    }

    fn apply(state: State, event: &StepEvent, fx: &mut Fx<'_>) -> Applied<State, Output> {
        Order::apply(state, event, fx)
    }
}

const fn task(contract: &'static Contract, policy: Policy, undo: Option<u16>) -> Kind {
    Kind::Task(Task { contract, policy, keyed: false, undo })
}

const TWICE: Policy = Policy { attempts: 2, backoff_ms: 100, run_ms: Some(5_000), ..Policy::ONCE };

const UNDO: Policy = Policy { run_ms: Some(5_000), ..Policy::ONCE };

const fn node(
    id: &'static str,
    path: &'static str,
    parent: Option<u16>,
    kind: Kind,
    caught: Caught,
) -> Node {
    Node { parent, caught, ..Node::new(id, path, 1, kind) }
}

static NODES: &[Node] = &[
    node(
        "reserve",
        "reserve",
        None,
        task(&steps::reserve::CONTRACT, TWICE, Some(1)),
        Caught::Names(&[]),
    ),
    node(
        "reserve",
        "reserve/undo",
        Some(0),
        Kind::Undo(Task {
            contract: &steps::release::CONTRACT,
            policy: UNDO,
            keyed: false,
            undo: None,
        }),
        Caught::Names(&[]),
    ),
    node("look", "look", None, Kind::Parallel, Caught::Any),
    node("seo", "look/seo", Some(2), task(&steps::seo::CONTRACT, TWICE, None), Caught::Any),
    node("score", "look/score", Some(2), task(&steps::score::CONTRACT, TWICE, None), Caught::Any),
    node(
        "apologise",
        "look/apologise",
        Some(2),
        task(&steps::apologise::CONTRACT, TWICE, None),
        Caught::Names(&[]),
    ),
    node("ship", "ship", None, Kind::Each, Caught::Names(&[])),
    node(
        "label",
        "ship/label",
        Some(6),
        task(&steps::label::CONTRACT, TWICE, None),
        Caught::Names(&[]),
    ),
    node(
        "close",
        "close",
        None,
        task(&steps::close::CONTRACT, TWICE, None),
        Caught::Names(&["Refused"]),
    ),
];
