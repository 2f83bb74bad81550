//! The smallest workflow with a service, by hand in the shape that the compiler generates, and a
//! harness to run it in.

use std::sync::Arc;
use std::time::Duration;

use crux_runtime::app::{App, Workflow};
use crux_runtime::bus::http::{Local, Service};
use crux_runtime::engine::api::Start;
use crux_runtime::engine::{Engine, Options};
use crux_runtime::executor::Executor;
use crux_runtime::id::InstanceId;
use crux_runtime::live::Hub;
use crux_runtime::machine::{
    Applied, Contract, Definition, EffectKind, Failure, Flow, Fx, Hooks, Instance, Kind, Machine,
    NoUndo, Node, OnExhausted, Open, Part, Policy, Raised, Record, Run, Runs, StepEvent, StepType,
    Task, TaskStep, Then, json,
};
use crux_runtime::store::memory::{Memory, NoFaults};
use crux_runtime::store::{Status, Store};
use serde_json::value::RawValue;

/// The timeout of an attempt.
pub const RUN: Duration = Duration::from_secs(1);

/// How many calls the service gets at a time.
pub const CONCURRENCY: usize = 4;

#[derive(Debug, Clone, Record)]
pub struct Nothing {}

#[derive(Debug, Clone, Record)]
pub struct Text {
    text: String,
}

#[derive(Debug)]
pub enum Never {}

impl Raised for Never {
    fn into_failure(self) -> Failure {
        match self {}
    }
}

pub enum Work {}

impl StepType for Work {
    const CONTRACT: &'static Contract = &CONTRACT;
    type Input = Nothing;
    type Output = Text;
    type Error = Never;
}

static CONTRACT: Contract = Contract {
    step_type: "work",
    runs: Runs::Service { routing_key: "step.work" },
    effect: EffectKind::Idempotent,
    reports_started: false,
    payload: false,
    raises: &[],
    check_input: json::check::<Nothing>,
    check_result: json::check::<Text>,
    input_schema: "{}",
    output_schema: "{}",
};

static CONTRACTS: [&Contract; 1] = [&CONTRACT];

const fn node(run_ms: Option<u64>) -> Node {
    let kind = Kind::Task(Task {
        contract: &CONTRACT,
        policy: Policy { attempts: 3, backoff_ms: 10, run_ms, ..Policy::ONCE },
        keyed: false,
        undo: None,
    });
    Node::new("work", "work", 1, kind)
}

static NODES: &[Node] = &[node(Some(1_000))];
static PATIENT_NODES: &[Node] = &[node(None)];

const fn definition(
    workflow: &'static str,
    hash: &'static str,
    nodes: &'static [Node],
) -> Definition {
    Definition {
        workflow,
        version: 1,
        retired: false,
        hash,
        policy_hash: "def",
        source: "pipelines/far.yaml",
        description: "",
        nodes,
        triggers: &[],
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

static DEFINITION: Definition = definition("far", "abc", NODES);
/// Without timeout.
static PATIENT: Definition = definition("patient", "abd", PATIENT_NODES);

enum State {
    Work(TaskStep<Work>),
}

impl Part for State {
    fn open(&self, visit: &mut dyn FnMut(Open<'_>)) {
        let State::Work(part) = self;
        part.open(visit);
    }
}

macro_rules! machine {
    ($name:ident, $definition:ident) => {
        struct $name;

        impl Machine for $name {
            const DEFINITION: &'static Definition = &$definition;
            type Input = Nothing;
            type State = State;
            type Output = Text;
            type Undo = NoUndo;

            fn start(_: Nothing, fx: &mut Fx<'_, NoUndo>) -> Flow<State, Text> {
                TaskStep::start(0, Ok(Nothing {}), fx).then(State::Work, fx, after_work)
            }

            fn apply(
                state: State,
                event: &StepEvent,
                fx: &mut Fx<'_, NoUndo>,
            ) -> Applied<State, Text> {
                let State::Work(part) = state;
                part.apply(event, fx).then(State::Work, fx, after_work)
            }
        }
    };
}

machine!(Far, DEFINITION);
machine!(Patient, PATIENT);

fn after_work(work: Arc<Text>, _: &mut Fx<'_, NoUndo>) -> Flow<State, Text> {
    Flow::Done(Text { text: work.text.clone() })
}

static WORKFLOWS: &[Workflow] = &[
    Workflow {
        definition: &DEFINITION,
        start: |id, started, now, out| {
            Run::<Far>::start(id, started, now, out).map(|run| Box::new(run) as Box<dyn Instance>)
        },
    },
    Workflow {
        definition: &PATIENT,
        start: |id, started, now, out| {
            Run::<Patient>::start(id, started, now, out)
                .map(|run| Box::new(run) as Box<dyn Instance>)
        },
    },
];

/// An engine with one running instance.
pub struct Harness {
    pub engine: Engine,
    pub instance: InstanceId,
    store: Arc<Memory>,
    workflow: &'static str,
}

/// An instance that has ended.
pub struct End {
    pub status: Status,
    /// JSON.
    pub output: Option<String>,
    /// Its journal.
    pub rows: Vec<String>,
}

impl Harness {
    /// The service of the one step is at `url`.
    pub async fn start(url: &str) -> Self {
        Self::start_one("far", url).await
    }

    /// The attempts of this one have no timeout.
    pub async fn start_patient(url: &str) -> Self {
        Self::start_one("patient", url).await
    }

    async fn start_one(workflow: &'static str, url: &str) -> Self {
        let app = Arc::new(App {
            workflows: WORKFLOWS,
            contracts: &CONTRACTS,
            events: &[],
            routes: &[],
            steps: Vec::new(),
            package: crux_runtime::this_package!(),
        });
        let steps = vec!["work".to_owned()];
        let service = Service {
            name: "far".to_owned(),
            url: url.to_owned(),
            steps,
            subscribe: Vec::new(),
            concurrency: CONCURRENCY,
            statuses: Default::default(),
        };
        let bus = Arc::new(Local::new(&app, vec![service], 4096).unwrap());
        let workers = Executor::new(&[], &Default::default()).unwrap();
        let store = Arc::new(Memory::new(Arc::new(NoFaults)));
        let options = Options { shards: 1, cached_instances: 1, ..Options::default() };
        let engine =
            Engine::open(app, store.clone(), bus, workers, Hub::default(), options).await.unwrap();
        let instance = begin(&engine, workflow).await;
        Self { engine, instance, store, workflow }
    }

    /// Another instance on the same engine.
    pub async fn another(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            instance: begin(&self.engine, self.workflow).await,
            store: self.store.clone(),
            workflow: self.workflow,
        }
    }

    pub async fn end(&self) -> End {
        for _ in 0..12_000 {
            let record = self.store.record(self.instance).await.unwrap().unwrap();
            if record.status.is_ended() {
                let rows: Vec<String> = self
                    .store
                    .rows(self.instance, 0, 1000)
                    .await
                    .unwrap()
                    .iter()
                    .map(|row| row.row.to_string())
                    .collect();
                let ended = rows.iter().find_map(|row| note(row, "workflow_completed"));
                let output = ended.and_then(|ended| ended.get("output").map(ToString::to_string));
                return End { status: record.status, output, rows };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the instance has not ended within 120 s");
    }
}

async fn begin(engine: &Engine, workflow: &str) -> InstanceId {
    let start = Start {
        workflow: workflow.to_owned(),
        input: RawValue::from_string("{}".to_owned()).unwrap(),
        request_id: None,
        owner: String::new(),
        trigger: "test".to_owned(),
        traceparent: String::new(),
    };
    engine.start(start).await.unwrap().instance
}

impl End {
    /// The types of the journal's events.
    pub fn types(&self) -> Vec<String> {
        let rows =
            self.rows.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
        rows.flat_map(|row| {
            row["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["type"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
    }
}

fn note(row: &str, kind: &str) -> Option<serde_json::Value> {
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    row["out"].as_array()?.iter().find(|note| note["type"] == kind).cloned()
}
