//! What callers may do, for every operation of the table, with callers that are made up: the local
//! one may do everything.

use serde_json::value::RawValue;
use tokio::sync::watch;

use super::*;
use crate::app::App;
use crate::engine::api::{Command, Completion, Progress, ProgressKind, StepRef};
use crate::executor::Executor;
use crate::ingress::caller::{Role, RoleSet, Scope};
use crate::ingress::operations::OPERATIONS;
use crate::live::Hub;
use crate::machine::Time;
use crate::store::memory::{Memory, NoFaults};
use crate::store::{Append, Appended, NewInstance, RecordChange, Status, Store};

/// A service without workflows, on a store with an instance that belongs to `ann` and one without
/// an owner, both of a definition that this binary does not have.
struct Harness {
    service: Arc<Service>,
    of_ann: InstanceId,
    unowned: InstanceId,
    _stop: watch::Sender<bool>,
}

impl Harness {
    async fn new() -> Self {
        let app = Arc::new(App {
            workflows: &[],
            contracts: &[],
            events: &[],
            routes: &[],
            steps: Vec::new(),
            package: crate::this_package!(),
        });
        let store = Arc::new(Memory::new(Arc::new(NoFaults)));
        let of_ann = ended(&*store, 1, "ann").await;
        let unowned = ended(&*store, 2, "").await;
        let push = Arc::new(Local::new(&app, Vec::new(), 1 << 20).unwrap());
        let workers = Executor::new(&[], &Default::default()).unwrap();
        let options = crate::engine::Options { shards: 1, ..Default::default() };
        let engine =
            Engine::open(app, store, push.clone(), workers, Hub::default(), options).await.unwrap();
        let metrics = Arc::new(Metrics::new(&engine));
        let options =
            ServiceOptions { environment: String::new(), max_wait: Duration::from_secs(1) };
        let (stop, stopping) = watch::channel(false);
        let service = Arc::new(Service::new(engine, push, metrics, options, stopping));
        Self { service, of_ann, unowned, _stop: stop }
    }

    /// Asks for the operation in the simplest way; how it is refused, if it is.
    async fn ask(
        &self,
        caller: &Caller,
        operation: Operation,
        instance: InstanceId,
    ) -> Result<(), Kind> {
        let service = &self.service;
        let step = StepRef::Path("a".to_owned());
        let progress =
            |what| Progress { instance, step: StepRef::Path("a".to_owned()), attempt: None, what };
        let command = |command| service.command(caller, instance, command);
        let reason = String::new;
        let asked: Result<(), Problem> = match operation {
            Operation::Start => {
                let request = StartRequest {
                    what: StartInput::Workflow { name: "none", trigger: "test" },
                    input: RawValue::NULL,
                    input_field: "",
                    wait: None,
                };
                service.start(caller, request, || Ok(None)).await.map(drop)
            }
            Operation::Restart => service.restart(caller, instance, None).await.map(drop),
            Operation::SendEvents => {
                let data = RawValue::NULL.to_owned();
                let event = NewEvent { name: "none".to_owned(), id: None, data };
                service.send_event(caller, event).await.map(drop).map_err(Problem::from)
            }
            Operation::CompleteStep => {
                let outcome = Ok(RawValue::NULL.to_owned());
                let completion =
                    Completion { instance, step, step_type: None, attempt: None, outcome };
                service.complete(caller, completion).await.map(drop).map_err(Problem::from)
            }
            Operation::StepStarted => {
                service.progress(caller, progress(ProgressKind::Began)).await.map_err(Problem::from)
            }
            Operation::StepHeartbeat => {
                let heartbeat = progress(ProgressKind::Heartbeat);
                service.progress(caller, heartbeat).await.map_err(Problem::from)
            }
            Operation::Status => service.status(caller, instance).await.map(drop),
            Operation::List => service.list(caller, ListRequest::default()).await.map(drop),
            Operation::History => service.history(caller, instance, 0, None).await.map(drop),
            Operation::Follow => service.follow(caller, instance, 0).await.map(drop),
            Operation::Unfollow => service.unfollow(caller),
            Operation::Cancel => {
                command(Command::Cancel { reason: reason() }).await.map_err(Problem::from)
            }
            Operation::Retry => {
                command(Command::Retry { step: None, input: None }).await.map_err(Problem::from)
            }
            Operation::Undo => command(Command::Undo).await.map_err(Problem::from),
            Operation::Fail => {
                command(Command::Fail { reason: reason() }).await.map_err(Problem::from)
            }
            Operation::Pause => command(Command::Pause).await.map_err(Problem::from),
            Operation::Resume => command(Command::Resume).await.map_err(Problem::from),
            Operation::Workers => service.workers(caller).map(drop),
            Operation::Metrics => service.metrics(caller).await.map(drop),
            Operation::Health => service.health(caller).await.map(drop),
            Operation::Live => service.live(caller).map(drop),
            Operation::Ready => service.ready(caller).await.map(drop),
            Operation::Connect => service.connect(caller),
            Operation::Identify => service.identify(caller).map(drop),
        };
        asked.map_err(|problem| problem.kind)
    }

    async fn listed(&self, caller: &Caller) -> Vec<InstanceId> {
        let page = self.service.list(caller, ListRequest::default()).await.unwrap();
        page.records.into_iter().map(|record| record.instance).collect()
    }
}

/// An instance that has ended, in the store.
async fn ended(store: &dyn Store, at: i64, owner: &str) -> InstanceId {
    let instance = InstanceId::new(Time(at), [0; 10], None);
    let started = serde_json::json!({
        "workflow": "gone", "version": 1, "definition": "6f", "input": {}, "owner": owner,
    });
    let row = serde_json::json!({
        "v": 1, "at": at,
        "events": [{"type": "started", "started": started}],
        "out": [{"type": "workflow_completed"}],
    });
    let start = NewInstance {
        workflow: "gone".to_owned(),
        version: 1,
        definition: "6f".to_owned(),
        owner: owner.to_owned(),
        started_at: Time(at),
        request: None,
    };
    let append = Append {
        instance,
        seq: 1,
        token: 1,
        row: row.to_string().into(),
        settled: 1,
        start: Some(Box::new(start)),
        record: Some(RecordChange {
            status: Status::Completed,
            ended: Some((Time(at), 1_000_000_000_000_000)),
        }),
    };
    let appended = store.append(vec![append]).await.pop().unwrap();
    assert!(matches!(appended, Ok(Appended::Done)), "{appended:?}");
    instance
}

fn caller(client_id: &'static str, roles: &[Role], scope: Scope) -> Caller {
    let local = Caller::local(String::new(), String::new());
    Caller { client_id: client_id.into(), roles: RoleSet::of(roles), scope, ..local }
}

#[tokio::test]
async fn each_operation_needs_the_role_that_the_table_names_and_no_other() {
    let harness = Harness::new().await;
    for row in &OPERATIONS {
        for role in Role::ALL {
            let caller = caller("ann", &[role], Scope::Unlimited);
            let refused = harness.ask(&caller, row.operation, harness.of_ann).await.err();
            let is_forbidden = refused == Some(Kind::Forbidden);
            let expected = row.role.is_some_and(|needed| needed != role);
            assert_eq!(is_forbidden, expected, "{:?} as {role:?}: {refused:?}", row.operation);
        }
        let without = caller("", &[], Scope::Unlimited);
        let is_forbidden =
            harness.ask(&without, row.operation, harness.of_ann).await == Err(Kind::Forbidden);
        assert_eq!(is_forbidden, row.role.is_some(), "{:?} without a role", row.operation);
    }
}

/// Not forbidden: that would say that the id is in use.
#[tokio::test]
async fn instances_of_others_do_not_exist_for_a_caller_with_a_scope() {
    use Operation as O;
    const OF_ONE: [Operation; 13] = [
        O::Restart,
        O::CompleteStep,
        O::StepStarted,
        O::StepHeartbeat,
        O::Status,
        O::History,
        O::Follow,
        O::Cancel,
        O::Retry,
        O::Undo,
        O::Fail,
        O::Pause,
        O::Resume,
    ];
    let harness = Harness::new().await;
    let (ann, bob) = (caller("ann", &Role::ALL, Scope::Own), caller("bob", &Role::ALL, Scope::Own));
    let operator = caller("carl", &Role::ALL, Scope::Unlimited);
    for operation in OF_ONE {
        let asked = |caller, instance| harness.ask(caller, operation, instance);
        let unknown = Err(Kind::UnknownInstance);
        assert_eq!(asked(&bob, harness.of_ann).await, unknown, "{operation:?} of another's");
        assert_eq!(
            asked(&ann, harness.unowned).await,
            unknown,
            "{operation:?} of one without owner"
        );
        assert_ne!(asked(&ann, harness.of_ann).await, unknown, "{operation:?} of its own");
        assert_ne!(asked(&operator, harness.of_ann).await, unknown, "{operation:?} of any");
    }
}

#[tokio::test]
async fn a_list_has_what_the_caller_may_see() {
    let harness = Harness::new().await;
    let list = |client_id, scope| caller(client_id, &[Role::Read], scope);
    assert_eq!(
        harness.listed(&list("carl", Scope::Unlimited)).await,
        [harness.unowned, harness.of_ann]
    );
    assert_eq!(harness.listed(&list("ann", Scope::Own)).await, [harness.of_ann]);
    assert_eq!(harness.listed(&list("bob", Scope::Own)).await, []);
    assert_eq!(harness.listed(&list("", Scope::Own)).await, []);
}

#[tokio::test]
async fn the_local_caller_may_do_everything() {
    let harness = Harness::new().await;
    let local = Caller::local(String::new(), String::new());
    for row in &OPERATIONS {
        let refused = harness.ask(&local, row.operation, harness.of_ann).await.err();
        let is_kept_out = matches!(refused, Some(Kind::Forbidden | Kind::UnknownInstance));
        assert!(!is_kept_out, "{:?}: {refused:?}", row.operation);
    }
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_missing() {
    let harness = Harness::new().await;
    let reader = caller("ann", &[Role::Read], Scope::Unlimited);
    let problem = harness.service.workers(&reader).err().unwrap();
    assert!(problem.detail.contains("needs the role `admin`"), "{}", problem.detail);
    assert!(problem.detail.contains("has `read`"), "{}", problem.detail);
}
