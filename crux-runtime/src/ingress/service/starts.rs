//! Starts: by a pipeline's HTTP trigger, by a workflow's name, and as the restart of an instance
//! that has ended; answered when it has begun, or with its end.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::value::RawValue;

use super::{Error, Service, Snapshot};
use crate::app::App;
use crate::engine::api::{Start, StartAccepted};
use crate::id::InstanceId;
use crate::ingress::caller::Caller;
use crate::ingress::operations::Operation;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::{self, KnownFields};
use crate::live::Follower;
use crate::machine::{Arrived, Definition, Refusal, Trigger};

/// The response to a start whose trigger's `when` is false.
pub(crate) const IGNORED: &str = "The trigger's condition does not hold: nothing was started";

/// How a start names what it starts, and so what its input is.
pub(crate) enum StartInput<'a> {
    /// By an HTTP trigger of a workflow.
    Trigger { definition: &'static Definition, trigger: &'static Trigger, path: &'static str },
    /// By the name of a workflow. All its triggers are asked: a start is the same one however it
    /// comes.
    Workflow {
        name: &'a str,
        /// The trigger, for the journal.
        trigger: &'static str,
    },
}

impl StartInput<'_> {
    fn workflow(&self) -> &str {
        match self {
            Self::Trigger { definition, .. } => definition.workflow,
            Self::Workflow { name, .. } => name,
        }
    }
}

/// A request to start an instance.
pub(crate) struct StartRequest<'a> {
    pub(crate) what: StartInput<'a>,
    pub(crate) input: &'a RawValue,
    /// Where in the request the input stands; `""`: it is the request.
    pub(crate) input_field: &'static str,
    /// `30s`: the answer is wanted when the instance has ended.
    pub(crate) wait: Option<&'a str>,
}

/// An instance that has begun.
pub(crate) struct Begun {
    pub(crate) started: StartAccepted,
    /// Warnings about the input.
    pub(crate) warnings: Vec<String>,
    /// With it the instance may be followed without a credential.
    pub(crate) follow_token: Option<String>,
    waiting: Option<Waiting>,
}

struct Waiting {
    live: Follower,
    limit: Duration,
}

impl Service {
    /// Starts an instance; durable when answered. `None`: the triggers do not want that input.
    /// `request_id` is called only where the trigger has no `key`.
    pub(crate) async fn start(
        &self,
        caller: &Caller,
        request: StartRequest<'_>,
        request_id: impl FnOnce() -> Result<Option<String>, Problem>,
    ) -> Result<Option<Begun>, Problem> {
        Self::authorize(caller, Operation::Start)?;
        let StartRequest { what, input, input_field, wait } = request;
        let workflow = what.workflow();
        if !caller.has_workflow(workflow) {
            return Err(super::out_of_scope("workflow", workflow, "workflows"));
        }
        let limit = wait.map(|text| requests::wait(text, self.options.max_wait)).transpose()?;
        self.check_open()?;
        let Some(wanted) = self.wanted(what, input, input_field)? else { return Ok(None) };
        let Wanted { workflow, trigger, arrived: Arrived { input, key }, warnings } = wanted;
        // The trigger's key is the request id, whatever the client says.
        let request_id = match &key {
            Some(key) => Some(requests::request_id(key, "key")?),
            None => request_id()?,
        };
        let start = self.start_of(caller, workflow, input, request_id, trigger);
        let (started, waiting) = match limit {
            None => (self.engine.start(start).await, None),
            Some(limit) => match self.engine.start_and_follow(start).await {
                Ok((started, live)) => (Ok(started), Some(Waiting { live, limit })),
                Err(error) => (Err(error), None),
            },
        };
        let started = started.map_err(|error| Error::Engine(error).within(input_field))?;
        let follow_token = self.follow_token(started.instance);
        Ok(Some(Begun { started, warnings, follow_token, waiting }))
    }

    /// Starts a new instance of the same workflow with the same input. Only of an instance that has
    /// ended: two that do the same work at the same time are never what was meant. The new one
    /// belongs to the owner of the former, who otherwise could not see it.
    pub(crate) async fn restart(
        &self,
        caller: &Caller,
        instance: InstanceId,
        request_id: Option<String>,
    ) -> Result<Begun, Problem> {
        let row = Self::authorize(caller, Operation::Restart)?;
        self.check_open()?;
        let record = self.visible_record(caller, row, instance).await?;
        if !record.status.is_ended() {
            let text =
                format!("the instance is {}: cancel it first, or let it end", record.status.word());
            return Err(Problem::new(Kind::InvalidState, text));
        }
        let former = self.first_row(instance).await?;
        let trigger = format!("restart of {instance}");
        let start = Start {
            owner: record.owner,
            ..self.start_of(caller, former.workflow, former.input, request_id, trigger)
        };
        let started = self.engine.start(start).await?;
        let follow_token = self.follow_token(started.instance);
        Ok(Begun { started, warnings: Vec::new(), follow_token, waiting: None })
    }

    /// Waits for the end of an instance that was started with `wait`. `None`: it has not ended in
    /// time, or was started without `wait`.
    pub(crate) async fn wait(&self, begun: &mut Begun) -> Result<Option<Snapshot>, Problem> {
        let Some(Waiting { live, limit }) = begun.waiting.take() else { return Ok(None) };
        self.until_ended(&begun.started, live, limit).await
    }

    fn follow_token(&self, instance: InstanceId) -> Option<String> {
        let super::FollowTokens { signer, lifetime } = self.options.tokens.as_ref()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(signer.follow(instance, now.saturating_add(*lifetime).as_secs()))
    }

    fn start_of(
        &self,
        caller: &Caller,
        workflow: String,
        input: Box<RawValue>,
        request_id: Option<String>,
        trigger: String,
    ) -> Start {
        Start {
            workflow,
            input,
            request_id,
            owner: caller.client_id().to_owned(),
            trigger,
            traceparent: caller.traceparent.clone(),
        }
    }

    fn wanted(
        &self,
        what: StartInput<'_>,
        input: &RawValue,
        field: &'static str,
    ) -> Result<Option<Wanted>, Problem> {
        let (workflow, trigger, arrived) = match &what {
            StartInput::Trigger { definition, trigger, path } => (
                definition.workflow.to_owned(),
                format!("http POST {path}"),
                (trigger.input)(input),
            ),
            StartInput::Workflow { name, trigger } => {
                let arrived = match self.engine.app().current(name) {
                    Some(workflow) => workflow.definition.arrived(input),
                    // The engine says that there is no such workflow.
                    None => Ok(Arrived { input: input.to_owned(), key: None }),
                };
                ((*name).to_owned(), (*trigger).to_owned(), arrived)
            }
        };
        let arrived = match arrived {
            Ok(arrived) => arrived,
            Err(Refusal::Invalid(text)) => return Err(Problem::invalid(&text, field)),
            Err(Refusal::NotWanted) => return Ok(None),
        };
        let warnings = match (&what, self.fields.of(&workflow)) {
            // What is mapped is not the input, and has no type.
            (StartInput::Trigger { trigger, .. }, _) if trigger.maps => Vec::new(),
            (_, None) => Vec::new(),
            (StartInput::Trigger { .. }, Some(fields)) => fields.check(input, &["request_id"])?,
            (StartInput::Workflow { .. }, Some(fields)) => {
                fields.check(&arrived.input, &[]).map_err(|problem| problem.within(field))?
            }
        };
        Ok(Some(Wanted { workflow, trigger, arrived, warnings }))
    }

    /// Whether the workflow's input has a field of that name.
    pub(crate) fn input_has(&self, workflow: &str, field: &str) -> bool {
        self.fields.of(workflow).is_some_and(|fields| fields.has(field))
    }
}

/// A start that the workflow's triggers take.
struct Wanted {
    workflow: String,
    trigger: String,
    arrived: Arrived,
    warnings: Vec<String>,
}

/// The fields of the inputs of current workflows.
pub(super) struct InputFields(HashMap<&'static str, KnownFields>);

impl InputFields {
    pub(super) fn new(app: &App) -> Self {
        let current = app
            .workflows
            .iter()
            .map(|workflow| workflow.definition)
            .filter(|definition| !definition.retired);
        Self(current.map(|definition| (definition.workflow, KnownFields::of(definition))).collect())
    }

    fn of(&self, workflow: &str) -> Option<&KnownFields> {
        self.0.get(workflow)
    }
}
