//! What callers may do, for every operation of the table, with callers that are made up: the local
//! one may do everything.

use serde_json::value::RawValue;
use tokio::sync::watch;

use super::*;
use crate::app::App;
use crate::bus::attached::AttachRequest;
use crate::config::Scope;
use crate::engine::api::{Command, Completion, Progress, ProgressKind, StepRef};
use crate::executor::Executor;
use crate::ingress::auth::Credentials;
use crate::ingress::caller::{Permissions, Role, RoleSet};
use crate::ingress::operations::OPERATIONS;
use crate::live::Hub;
use crate::machine::Time;
use crate::store::memory::{Memory, NoFaults};
use crate::store::{Append, Appended, NewInstance, RecordChange, Status, Store};

/// A service without workflows, on a store with an instance that belongs to `ann` and one without
/// an owner, both of a definition that this binary does not have.
pub(in crate::ingress) struct Harness {
    pub(in crate::ingress) service: Arc<Service>,
    pub(in crate::ingress) metrics: Arc<Metrics>,
    pub(in crate::ingress) authenticator: Arc<Authenticator>,
    pub(in crate::ingress) signer: Arc<TokenSigner>,
    pub(in crate::ingress) of_ann: InstanceId,
    pub(in crate::ingress) unowned: InstanceId,
    pub(in crate::ingress) stop: watch::Sender<bool>,
}

impl Harness {
    async fn new() -> Self {
        Self::with("clients: {}").await
    }

    /// With a section `auth`.
    pub(in crate::ingress) async fn with(auth: &str) -> Self {
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
        let metrics = Arc::new(Metrics::default());
        let options = ServiceOptions {
            environment: String::new(),
            max_wait: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(1),
            tokens: None,
        };
        let failures = metrics.authentication_failures();
        let auth = serde_saphyr::from_str(auth).unwrap();
        let credentials = Credentials::open(&auth).await.unwrap();
        let signer = credentials.tokens().clone();
        let authenticator = Arc::new(Authenticator::new(Some(credentials), failures));
        let (stop, stopping) = watch::channel(false);
        let (for_service, shared) = (authenticator.clone(), metrics.clone());
        let service = Service::new(engine, push, shared, for_service, options, stopping);
        let service = Arc::new(service);
        Self { service, metrics, authenticator, signer, of_ann, unowned, stop }
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
        let step_type = || Some("print".to_owned());
        let progress = |what| Progress {
            instance,
            step: step.clone(),
            step_type: step_type(),
            attempt: None,
            what,
        };
        let command = |command| service.command(caller, instance, command);
        let reason = String::new;
        let asked: Result<(), Problem> = match operation {
            Operation::Start => {
                let request = StartRequest {
                    what: StartInput::Workflow { name: "gone", trigger: "test" },
                    input: RawValue::NULL,
                    input_field: "",
                    wait: None,
                };
                service.start(caller, request, || Ok(None)).await.map(drop)
            }
            Operation::Restart => service.restart(caller, instance, None).await.map(drop),
            Operation::SendEvents => {
                let data = RawValue::NULL.to_owned();
                let event = NewEvent { name: "paid".to_owned(), id: None, data };
                service.send_event(caller, event).await.map(drop).map_err(Problem::from)
            }
            Operation::CompleteStep => {
                let outcome = Ok(RawValue::NULL.to_owned());
                let completion =
                    Completion { instance, step, step_type: step_type(), attempt: None, outcome };
                service.complete(caller, completion).await.map(drop).map_err(Problem::from)
            }
            Operation::StepStarted => {
                service.progress(caller, progress(ProgressKind::Began)).await.map_err(Problem::from)
            }
            Operation::StepHeartbeat => {
                let heartbeat = progress(ProgressKind::Heartbeat);
                service.progress(caller, heartbeat).await.map_err(Problem::from)
            }
            Operation::Work => {
                let (name, version) = Default::default();
                let step_types = vec!["print".to_owned()];
                let worker = AttachRequest { name, version, step_types, concurrency: 1 };
                service.attach(caller, worker).map(drop)
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
            Operation::HealthDetail => service.health(caller).await.and_then(|health| {
                let is_detailed = health.report["version"].is_string();
                is_detailed.then_some(()).ok_or_else(|| Problem::new(Kind::Forbidden, "one word"))
            }),
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
    let standing = if client_id.is_empty() { Standing::Anonymous } else { Standing::Authenticated };
    let roles = RoleSet::of(roles);
    let permissions = Permissions {
        client_id: client_id.into(),
        standing,
        roles,
        scope,
        ..Permissions::default()
    };
    Caller::new(Arc::new(permissions), String::new(), String::new())
}

fn scope(workflows: &[&str], step_types: &[&str], events: &[&str]) -> Scope {
    let names = |names: &[&str]| {
        (!names.is_empty()).then(|| names.iter().map(|name| (*name).to_owned()).collect())
    };
    Scope { workflows: names(workflows), step_types: names(step_types), events: names(events) }
}

/// What an operation is about, besides the role: written out, so that a new operation has to say
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// One instance, which has to be visible.
    Instance,
    /// A report about a step of any instance.
    Step,
    /// Steps of every workflow.
    StepsOfAll,
    /// The workflow that it starts.
    Workflow,
    /// An event.
    Event,
    /// Neither instance nor workflow.
    Nothing,
}

fn about(operation: Operation) -> Subject {
    use Operation as O;
    match operation {
        O::Restart | O::Status | O::History | O::Follow => Subject::Instance,
        O::Cancel | O::Retry | O::Undo | O::Fail | O::Pause | O::Resume => Subject::Instance,
        O::CompleteStep | O::StepStarted | O::StepHeartbeat => Subject::Step,
        O::Work => Subject::StepsOfAll,
        O::Start => Subject::Workflow,
        O::SendEvents => Subject::Event,
        O::List | O::Unfollow | O::Workers | O::Metrics | O::Health | O::HealthDetail => {
            Subject::Nothing
        }
        O::Live | O::Ready | O::Connect | O::Identify => Subject::Nothing,
    }
}

#[tokio::test]
async fn each_operation_needs_the_role_that_the_table_names_and_no_other() {
    let harness = Harness::new().await;
    for row in &OPERATIONS {
        for role in Role::ALL {
            let caller = caller("ann", &[role], Scope::default());
            let refused = harness.ask(&caller, row.operation, harness.of_ann).await.err();
            let is_forbidden = refused == Some(Kind::Forbidden);
            let expected = row.role.is_some_and(|needed| needed != role);
            assert_eq!(is_forbidden, expected, "{:?} as {role:?}: {refused:?}", row.operation);
        }
        let without = caller("ann", &[], Scope::default());
        let asked = harness.ask(&without, row.operation, harness.of_ann).await;
        let is_forbidden = asked == Err(Kind::Forbidden);
        assert_eq!(is_forbidden, row.role.is_some(), "{:?} without a role", row.operation);
    }
}

/// 401, and only where a role is needed.
#[tokio::test]
async fn who_has_not_said_who_it_is_may_do_what_needs_no_role() {
    let harness = Harness::new().await;
    let anonymous = caller("", &[], Scope::default());
    for row in OPERATIONS.iter().filter(|row| row.operation != Operation::HealthDetail) {
        let asked = harness.ask(&anonymous, row.operation, harness.of_ann).await;
        let is_refused = asked == Err(Kind::Unauthenticated);
        assert_eq!(is_refused, row.role.is_some(), "{:?}: {asked:?}", row.operation);
    }
    let health = harness.service.health(&anonymous).await.unwrap().report;
    assert_eq!(health.as_object().unwrap().keys().collect::<Vec<_>>(), ["status"]);
}

/// Not forbidden: that would say that the id is in use.
#[tokio::test]
async fn instances_of_others_do_not_exist_for_a_caller_that_sees_its_own() {
    let harness = Harness::new().await;
    let unknown = Err(Kind::UnknownInstance);
    for row in &OPERATIONS {
        let (operation, Some(role)) = (row.operation, row.role) else { continue };
        let asked = async |client_id, roles: &[Role], instance| {
            let caller = caller(client_id, &[&[role], roles].concat(), Scope::default());
            harness.ask(&caller, operation, instance).await
        };
        let is_narrow = about(operation) == Subject::Instance && role == Role::Read;
        let of_another = asked("bob", &[], harness.of_ann).await == unknown;
        assert_eq!(of_another, is_narrow, "{operation:?} of another's");
        let of_nobody = asked("ann", &[], harness.unowned).await == unknown;
        assert_eq!(of_nobody, is_narrow, "{operation:?} of one without owner");
        assert_ne!(asked("ann", &[], harness.of_ann).await, unknown, "{operation:?} of its owner");
        for role in [Role::Operate, Role::Admin] {
            assert_ne!(
                asked("carl", &[role], harness.of_ann).await,
                unknown,
                "{operation:?} of any"
            );
        }
    }
}

/// The instances, and whatever is asked here, are of the workflow `gone`, the step type `print` and
/// the event `paid`.
#[tokio::test]
async fn a_scope_narrows_every_operation_to_what_it_names() {
    let harness = Harness::new().await;
    for row in &OPERATIONS {
        let operation = row.operation;
        let refused = async |scope| {
            let caller = caller("ann", &Role::ALL, scope);
            let refused = harness.ask(&caller, operation, harness.of_ann).await.err();
            refused.filter(|kind| matches!(kind, Kind::Forbidden | Kind::UnknownInstance))
        };
        let (hidden, forbidden) = (Some(Kind::UnknownInstance), Some(Kind::Forbidden));
        let (workflow, step_type, event) = match about(operation) {
            Subject::Instance => (hidden, None, None),
            Subject::Step => (hidden, forbidden, None),
            Subject::StepsOfAll => (forbidden, forbidden, None),
            Subject::Workflow => (forbidden, None, None),
            // Unless they are named, too: they start workflows.
            Subject::Event => (forbidden, None, forbidden),
            Subject::Nothing => (None, None, None),
        };
        let others = ["other"];
        assert_eq!(refused(scope(&others, &[], &[])).await, workflow, "{operation:?}: workflows");
        assert_eq!(refused(scope(&[], &others, &[])).await, step_type, "{operation:?}: step types");
        assert_eq!(refused(scope(&[], &[], &others)).await, event, "{operation:?}: events");
        let all = scope(&["gone", "other"], &["print"], &["paid"]);
        // It has no way to keep those of other workflows away.
        let none = forbidden.filter(|_| about(operation) == Subject::StepsOfAll);
        assert_eq!(refused(all).await, none, "{operation:?}: what it names");
    }
}

#[tokio::test]
async fn a_report_of_a_client_with_step_types_says_of_which_the_step_is() {
    let harness = Harness::new().await;
    let service = caller("image", &[Role::Complete], scope(&[], &["print"], &[]));
    let progress = Progress {
        instance: harness.of_ann,
        step: StepRef::Path("a".to_owned()),
        step_type: None,
        attempt: None,
        what: ProgressKind::Heartbeat,
    };
    let problem = Problem::from(harness.service.progress(&service, progress).await.unwrap_err());
    assert_eq!((problem.kind, problem.field.as_deref()), (Kind::InvalidRequest, Some("step_type")));
}

#[tokio::test]
async fn a_list_has_what_the_caller_may_see() {
    let harness = Harness::new().await;
    let list = |client_id, roles: &[Role], workflows: &[&str]| {
        caller(client_id, roles, scope(workflows, &[], &[]))
    };
    let all = [Role::Read, Role::Operate];
    assert_eq!(harness.listed(&list("carl", &all, &[])).await, [harness.unowned, harness.of_ann]);
    assert_eq!(
        harness.listed(&list("carl", &all, &["gone"])).await,
        [harness.unowned, harness.of_ann]
    );
    assert_eq!(harness.listed(&list("carl", &all, &["gone", "other"])).await.len(), 2);
    assert_eq!(harness.listed(&list("carl", &all, &["other"])).await, []);
    assert_eq!(harness.listed(&list("carl", &all, &["other", "third"])).await, []);
    assert_eq!(harness.listed(&list("ann", &[Role::Read], &[])).await, [harness.of_ann]);
    assert_eq!(harness.listed(&list("ann", &[Role::Read], &["other"])).await, []);
    assert_eq!(harness.listed(&list("bob", &[Role::Read], &[])).await, []);
}

#[tokio::test]
async fn pages_of_a_scope_hang_together() {
    let harness = Harness::new().await;
    let carl = caller("carl", &[Role::Read, Role::Operate], scope(&["gone", "other"], &[], &[]));
    let page = async |after| {
        let request = ListRequest { limit: Some(1), after, ..ListRequest::default() };
        let page = harness.service.list(&carl, request).await.unwrap();
        (page.records.iter().map(|record| record.instance).collect::<Vec<_>>(), page.next)
    };
    let (first, next) = page(None).await;
    assert_eq!((first, next), (vec![harness.unowned], Some(harness.unowned)));
    assert_eq!(page(next).await, (vec![harness.of_ann], None));
}

#[tokio::test]
async fn a_trusted_caller_may_do_everything() {
    let harness = Harness::new().await;
    let trusted = Caller::trusted(String::new(), String::new());
    for row in &OPERATIONS {
        let refused = harness.ask(&trusted, row.operation, harness.of_ann).await.err();
        let is_kept_out = matches!(refused, Some(Kind::Forbidden | Kind::UnknownInstance));
        assert!(!is_kept_out, "{:?}: {refused:?}", row.operation);
    }
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_missing() {
    let harness = Harness::new().await;
    let reader = caller("ann", &[Role::Read], Scope::default());
    let problem = harness.service.workers(&reader).err().unwrap();
    assert!(problem.detail.contains("needs the role `admin`"), "{}", problem.detail);
    assert!(problem.detail.contains("has `read`"), "{}", problem.detail);
}
