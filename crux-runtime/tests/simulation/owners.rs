//! Owner and trace of what an event starts: those of the client that sent it, through emitted
//! events, and also where the process that took the event did not deliver it.

use std::sync::Arc;
use std::time::Duration;

use crux_runtime::app::{App, Workflow};
use crux_runtime::engine::api::IncomingEvent;
use crux_runtime::engine::{Engine, Options};
use crux_runtime::executor::Executor;
use crux_runtime::journal::Row;
use crux_runtime::live::Hub;
use crux_runtime::machine::{
    Applied, Arrived, Definition, EventType, Failure, Flow, Fx, Hooks, Kind, Machine, Never,
    NoUndo, Node, OnExhausted, Record, Started, StepEvent, Time, Trigger, never,
};
use crux_runtime::store::memory::{Memory, NoFaults};
use crux_runtime::store::{Filter, KeptEvent, Store};
use serde_json::value::RawValue;

use super::harness::Silent;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[derive(Debug, Clone, Record)]
pub struct Empty {}

static NODES: &[Node] = &[Node::new("tell", "emit", 1, Kind::Emit)];

fn as_it_is(data: &RawValue) -> Result<Arrived, crux_runtime::machine::Refusal> {
    Ok(Arrived { input: data.to_owned(), key: None })
}

static BY_ASKED: &[Trigger] = &[Trigger::event("asked", as_it_is)];
static BY_REPORTED: &[Trigger] = &[Trigger::event("reported", as_it_is)];

const fn definition(
    workflow: &'static str,
    hash: &'static str,
    triggers: &'static [Trigger],
) -> Definition {
    Definition {
        workflow,
        version: 1,
        retired: false,
        hash,
        policy_hash: "def",
        source: "pipelines/owners.yaml",
        description: "",
        nodes: NODES,
        triggers,
        hooks: Hooks { on_start: None, on_complete: None, on_failure: None },
        deadline_ms: None,
        on_exhausted: OnExhausted::Undo,
        retain_ms: 3_600_000,
        config: &[],
        document: "{}",
        input_schema: "{}",
        output_schema: "{}",
    }
}

/// Emits an event, which starts the other.
static FIRST: Definition = definition("first", "a1", BY_ASKED);
static SECOND: Definition = definition("second", "a2", BY_REPORTED);

macro_rules! machine {
    ($name:ident, $definition:ident, $event:literal) => {
        struct $name;

        impl Machine for $name {
            const DEFINITION: &'static Definition = &$definition;
            type Input = Empty;
            type State = Never;
            type Output = Empty;
            type Undo = NoUndo;

            fn start(_: Empty, fx: &mut Fx<'_, NoUndo>) -> Flow<Never, Empty> {
                match fx.emit(0, $event, $event, Ok::<_, Failure>(Empty {})) {
                    Flow::Failed(failed) => Flow::Failed(failed),
                    _ => Flow::Done(Empty {}),
                }
            }

            fn apply(state: Never, _: &StepEvent, _: &mut Fx<'_, NoUndo>) -> Applied<Never, Empty> {
                never(state)
            }
        }
    };
}

machine!(First, FIRST, "reported");
machine!(Second, SECOND, "over");

static WORKFLOWS: &[Workflow] = &[Workflow::of::<First>(), Workflow::of::<Second>()];

fn any(_: &RawValue) -> Result<(), String> {
    Ok(())
}

static EVENTS: &[EventType] = &[
    EventType { name: "asked", correlate: None, check: any, schema: "{}" },
    EventType { name: "reported", correlate: None, check: any, schema: "{}" },
];

async fn engine(store: Arc<Memory>) -> Engine {
    let app = Arc::new(App {
        workflows: WORKFLOWS,
        contracts: &[],
        events: EVENTS,
        routes: &[],
        steps: Vec::new(),
        package: crux_runtime::this_package!(),
    });
    let workers = Executor::new(&[], &Default::default()).expect("no steps");
    let options = Options { shards: 1, ..Options::default() };
    let bus = Arc::new(Silent::default());
    Engine::open(app, store, bus, workers, Hub::default(), options).await.expect("it opens")
}

/// Both instances have ended: what started them, by their workflows.
async fn both(store: &Memory) -> Vec<Started> {
    for _ in 0..500 {
        let records = store.list(Filter { limit: 10, ..Filter::default() }).await.expect("a list");
        if records.len() == 2 && records.iter().all(|record| record.status.is_ended()) {
            let mut started = Vec::new();
            for record in records {
                let rows = store.rows(record.instance, 0, 1).await.expect("rows");
                let row = Row::parse(&rows[0].row).expect("a row");
                let first = row.events.into_iter().next().and_then(|entry| entry.started);
                let first = first.expect("it begins with `started`");
                assert_eq!(first.owner, record.owner);
                started.push(first);
            }
            started.sort_by(|one, other| one.workflow.cmp(&other.workflow));
            return started;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the event did not start both instances");
}

fn check(started: &[Started]) {
    let names: Vec<&str> = started.iter().map(|started| &*started.workflow).collect();
    assert_eq!(names, ["first", "second"]);
    for Started { workflow, owner, traceparent, .. } in started {
        assert_eq!((&**owner, &**traceparent), ("ann", TRACE), "{workflow}");
    }
}

#[tokio::test]
async fn what_an_event_starts_belongs_to_its_sender_and_goes_on_with_its_trace() {
    let store = Arc::new(Memory::new(Arc::new(NoFaults)));
    let engine = engine(store.clone()).await;
    let event = IncomingEvent {
        name: "asked".to_owned(),
        id: None,
        data: RawValue::from_string("{}".to_owned()).expect("JSON"),
        owner: "ann".to_owned(),
        traceparent: TRACE.to_owned(),
    };
    for taken in engine.take_events(vec![event]).await {
        taken.expect("it is taken");
    }
    check(&both(&store).await);
}

#[tokio::test]
async fn the_next_process_knows_the_sender_of_an_event_that_was_not_delivered() {
    let store = Arc::new(Memory::new(Arc::new(NoFaults)));
    let event = KeptEvent {
        name: "asked".to_owned(),
        value: None,
        id: "1".to_owned(),
        data: "{}".to_owned(),
        owner: "ann".to_owned(),
        traceparent: TRACE.to_owned(),
        at: Time(1),
        keep_until: Time(i64::MAX),
    };
    assert_eq!(store.keep(vec![event]).await.expect("kept"), [true]);
    let _engine = engine(store.clone()).await;
    check(&both(&store).await);
}
