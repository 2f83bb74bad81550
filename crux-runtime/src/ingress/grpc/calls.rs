//! The methods of `crux.v1.Crux`: each parses its request, calls the service and renders the answer.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use serde_json::value::RawValue;
use tonic::{Request, Response, Status, Streaming};

use super::work;
use crate::engine::api::{Command, Completion, CompletionOutcome, Progress, ProgressKind};
use crate::id::InstanceId;
use crate::ingress::auth::Credential;
use crate::ingress::caller::Caller;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::{self, EVENTS_MAX, completion, failure};
use crate::ingress::service::{self, Follow, NewEvent, Snapshot, StartInput};
use crate::ingress::{Shared, json, middleware};
use crate::proto::v1::command_request::Command as CommandOf;
use crate::proto::v1::complete_step_request::Outcome as OutcomeOf;
use crate::proto::v1::crux_server::Crux;
use crate::proto::v1::{
    CommandRequest, CommandResponse, CompleteStepRequest, CompleteStepResponse, EventResult,
    GetStatusRequest, GetStatusResponse, HeartbeatRequest, HeartbeatResponse, Instance,
    ListRequest, ListResponse, Problem as ProblemMessage, SendEventsRequest, SendEventsResponse,
    StartRequest, StartResponse, StepError, StepStartedRequest, StepStartedResponse, Taken,
    WatchRequest, WatchResponse, WorkRequest,
};
use crate::store::Record;
use crate::view::messages;

pub(super) struct Calls {
    ingress: Shared,
}

impl Calls {
    pub(super) fn new(ingress: Shared) -> Self {
        Self { ingress }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Crux for Calls {
    async fn start(&self, mut request: Request<StartRequest>) -> Answer<StartResponse> {
        let caller = caller(&mut request)?;
        answer(&caller, start(&self.ingress, &caller, request.into_inner()).await)
    }

    async fn get_status(
        &self,
        mut request: Request<GetStatusRequest>,
    ) -> Answer<GetStatusResponse> {
        let caller = caller(&mut request)?;
        answer(&caller, status(&self.ingress, &caller, &request.into_inner()).await)
    }

    async fn list(&self, mut request: Request<ListRequest>) -> Answer<ListResponse> {
        let caller = caller(&mut request)?;
        answer(&caller, list(&self.ingress, &caller, request.into_inner()).await)
    }

    async fn complete_step(
        &self,
        mut request: Request<CompleteStepRequest>,
    ) -> Answer<CompleteStepResponse> {
        let caller = caller(&mut request)?;
        answer(&caller, complete_step(&self.ingress, &caller, request.into_inner()).await)
    }

    async fn step_started(
        &self,
        mut request: Request<StepStartedRequest>,
    ) -> Answer<StepStartedResponse> {
        let caller = caller(&mut request)?;
        let request = request.into_inner();
        let StepStartedRequest { workflow_id, step_id, attempt, step_type, completion_token } =
            request;
        let progress = progress_of(&workflow_id, &step_id, step_type, attempt, ProgressKind::Began);
        let done = report(&self.ingress, &caller, completion_token, progress).await;
        answer(&caller, done.map(|()| StepStartedResponse {}))
    }

    async fn heartbeat(&self, mut request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        let caller = caller(&mut request)?;
        let request = request.into_inner();
        let HeartbeatRequest { workflow_id, step_id, attempt, step_type, completion_token } =
            request;
        let kind = ProgressKind::Heartbeat;
        let progress = progress_of(&workflow_id, &step_id, step_type, attempt, kind);
        let done = report(&self.ingress, &caller, completion_token, progress).await;
        answer(&caller, done.map(|()| HeartbeatResponse {}))
    }

    async fn send_events(
        &self,
        mut request: Request<SendEventsRequest>,
    ) -> Answer<SendEventsResponse> {
        let caller = caller(&mut request)?;
        answer(&caller, send_events(&self.ingress, &caller, request.into_inner()).await)
    }

    async fn command(&self, mut request: Request<CommandRequest>) -> Answer<CommandResponse> {
        let caller = caller(&mut request)?;
        answer(&caller, command(&self.ingress, &caller, request.into_inner()).await)
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, mut request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let caller = caller(&mut request)?;
        let WatchRequest { workflow_id, after } = request.into_inner();
        let follow = async {
            let instance = requests::instance_id(&workflow_id)?;
            let follow = self.ingress.service.follow(&caller, instance, after).await?;
            Ok((instance, follow))
        };
        match follow.await {
            Ok((instance, follow)) => {
                let rows = rows(self.ingress.clone(), caller, instance, follow);
                Ok(Response::new(Box::pin(rows)))
            }
            Err(problem) => Err(refuse(&caller, &problem)),
        }
    }

    type WorkStream = work::Answers;

    async fn work(&self, request: Request<Streaming<WorkRequest>>) -> Answer<Self::WorkStream> {
        work::work(&self.ingress, request).await
    }
}

/// The caller that the middleware has found.
pub(super) fn caller<T>(request: &mut Request<T>) -> Result<Caller, Status> {
    request
        .extensions_mut()
        .remove::<Caller>()
        .ok_or_else(|| Status::internal("the request has no caller: it passed by the middleware"))
}

fn answer<T>(caller: &Caller, answer: Result<T, Problem>) -> Answer<T> {
    answer.map(Response::new).map_err(|problem| refuse(caller, &problem))
}

pub(super) fn refuse(caller: &Caller, problem: &Problem) -> Status {
    middleware::log(problem);
    problem.grpc_status(&caller.correlation_id)
}

/// A field that holds JSON; empty is a record without fields.
pub(super) fn json_of(text: &str, field: &'static str) -> Result<Box<RawValue>, Problem> {
    let text = if text.is_empty() { "{}" } else { text };
    json::raw(text.as_bytes()).map_err(|problem| problem.within(field))
}

/// What is empty was not given.
pub(super) fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

async fn start(
    ingress: &Shared,
    caller: &Caller,
    request: StartRequest,
) -> Result<StartResponse, Problem> {
    let StartRequest { workflow, input_json, request_id, wait } = request;
    let input = json_of(&input_json, "input_json")?;
    let request = service::StartRequest {
        what: StartInput::Workflow { name: &workflow, trigger: "grpc" },
        input: &input,
        input_field: "input_json",
        wait: Some(wait.as_str()).filter(|wait| !wait.is_empty()),
    };
    let request_id =
        || given(request_id).map(|id| requests::request_id(&id, "request_id")).transpose();
    let Some(mut begun) = ingress.service.start(caller, request, request_id).await? else {
        return Ok(StartResponse::default());
    };
    let ended = ingress.service.wait(&mut begun).await?;
    Ok(StartResponse {
        workflow_id: begun.started.instance.to_string(),
        replayed: begun.started.replayed,
        document_json: ended.as_ref().map(document).transpose()?.unwrap_or_default(),
        warnings: begun.warnings,
        follow_token: begun.follow_token.unwrap_or_default(),
    })
}

fn document(snapshot: &Snapshot) -> Result<String, Problem> {
    serde_json::to_string(&snapshot.document()).map_err(|error| {
        Problem::new(Kind::StoreFailed, format!("the document cannot be written: {error}"))
    })
}

async fn status(
    ingress: &Shared,
    caller: &Caller,
    request: &GetStatusRequest,
) -> Result<GetStatusResponse, Problem> {
    let instance = requests::instance_id(&request.workflow_id)?;
    let snapshot = ingress.service.status(caller, instance).await?;
    Ok(GetStatusResponse { document_json: document(&snapshot)? })
}

async fn list(
    ingress: &Shared,
    caller: &Caller,
    request: ListRequest,
) -> Result<ListResponse, Problem> {
    let ListRequest { workflow, status, after, limit } = request;
    let after = given(after).as_deref().map(requests::instance_id).transpose();
    let request = service::ListRequest {
        workflow: given(workflow),
        status: given(status).as_deref().map(requests::status).transpose()?,
        after: after.map_err(|problem| problem.at("after"))?,
        limit: Some(limit).filter(|limit| *limit > 0).and_then(|limit| limit.try_into().ok()),
    };
    let page = ingress.service.list(caller, request).await?;
    Ok(ListResponse {
        instances: page.records.into_iter().map(listed).collect(),
        next: page.next.map_or_else(String::new, |next| next.to_string()),
    })
}

fn listed(record: Record) -> Instance {
    Instance {
        workflow_id: record.instance.to_string(),
        workflow: record.workflow,
        version: record.version,
        status: record.status.word().to_owned(),
        start_time: record.started_at.to_string(),
        end_time: record.ended_at.map_or(String::new(), |at| at.to_string()),
        owner: record.owner,
    }
}

/// 0: whichever attempt is running.
fn attempt_of(attempt: u32) -> Option<u32> {
    Some(attempt).filter(|attempt| *attempt > 0)
}

async fn complete_step(
    ingress: &Shared,
    caller: &Caller,
    mut request: CompleteStepRequest,
) -> Result<CompleteStepResponse, Problem> {
    let token = Credential::of_field(std::mem::take(&mut request.completion_token));
    let caller = ingress.authenticator.of_report(caller, token).await?;
    let completed = ingress.service.complete(&caller, completion_of(request)?).await?;
    let taken = match completed {
        CompletionOutcome::Accepted => Taken::Accepted,
        CompletionOutcome::Duplicate => Taken::Duplicate,
        CompletionOutcome::Superseded => Taken::Superseded,
    };
    Ok(CompleteStepResponse { taken: taken.into() })
}

fn completion_of(request: CompleteStepRequest) -> Result<Completion, Problem> {
    let CompleteStepRequest { workflow_id, step_id, step_type, attempt, outcome, .. } = request;
    let outcome = match outcome {
        Some(OutcomeOf::ResultJson(result)) => Ok(json_of(&result, "result_json")?),
        Some(OutcomeOf::Error(StepError { name, message, retry, after })) => {
            Err(failure(given(name), message, retry, given(after)))
        }
        None => {
            let text = "neither a result nor an error is given: send `result_json` or `error`";
            return Err(Problem::new(Kind::InvalidRequest, text).at("outcome"));
        }
    };
    completion(&workflow_id, &step_id, given(step_type), attempt_of(attempt), outcome)
}

fn progress_of(
    workflow_id: &str,
    step_id: &str,
    step_type: String,
    attempt: u32,
    what: ProgressKind,
) -> Result<Progress, Problem> {
    let instance = requests::instance_id(workflow_id)?;
    let step = requests::step_ref(step_id)?;
    Ok(Progress { instance, step, step_type: given(step_type), attempt: attempt_of(attempt), what })
}

async fn report(
    ingress: &Shared,
    caller: &Caller,
    completion_token: String,
    progress: Result<Progress, Problem>,
) -> Result<(), Problem> {
    let token = Credential::of_field(completion_token);
    let caller = ingress.authenticator.of_report(caller, token).await?;
    Ok(ingress.service.progress(&caller, progress?).await?)
}

async fn send_events(
    ingress: &Shared,
    caller: &Caller,
    request: SendEventsRequest,
) -> Result<SendEventsResponse, Problem> {
    let count = request.events.len();
    if count > EVENTS_MAX {
        let text = format!("a request has at most {EVENTS_MAX} events, this one {count}");
        return Err(Problem::new(Kind::InvalidRequest, text).at("events"));
    }
    let event = |(n, event): (usize, crate::proto::v1::Event)| {
        let data = json_of(&event.data_json, "data_json")
            .map_err(|problem| problem.within(&format!("events[{n}]")))?;
        Ok(NewEvent { name: event.r#type, id: given(event.id), data })
    };
    let events = request.events.into_iter().enumerate().map(event);
    let events = events.collect::<Result<Vec<_>, Problem>>()?;
    let answers = ingress.service.send_events(caller, events).await?;
    let result = |answer: Result<crate::engine::api::EventAccepted, service::Error>| match answer {
        Ok(taken) => EventResult { event_id: taken.id, replayed: taken.duplicate, problem: None },
        Err(error) => {
            let Problem { kind, detail, field, .. } = error.within("data_json");
            let word = kind.about().0.to_owned();
            let problem = ProblemMessage { word, detail, field: field.unwrap_or_default() };
            EventResult { problem: Some(problem), ..EventResult::default() }
        }
    };
    Ok(SendEventsResponse { results: answers.into_iter().map(result).collect() })
}

async fn command(
    ingress: &Shared,
    caller: &Caller,
    request: CommandRequest,
) -> Result<CommandResponse, Problem> {
    let CommandRequest { workflow_id, command } = request;
    let instance = requests::instance_id(&workflow_id)?;
    let command = match command {
        Some(CommandOf::Restart(restart)) => {
            let request_id = given(restart.request_id)
                .map(|id| requests::request_id(&id, "restart.request_id"))
                .transpose()?;
            let begun = ingress.service.restart(caller, instance, request_id).await?;
            return Ok(CommandResponse {
                workflow_id: begun.started.instance.to_string(),
                follow_token: begun.follow_token.unwrap_or_default(),
            });
        }
        Some(CommandOf::Cancel(cancel)) => Command::Cancel {
            reason: given(cancel.reason).unwrap_or_else(|| requests::CANCELLED.to_owned()),
        },
        Some(CommandOf::Retry(retry)) => Command::Retry {
            step: given(retry.step_id).as_deref().map(requests::step_ref).transpose()?,
            input: given(retry.input_json)
                .map(|input| json_of(&input, "retry.input_json"))
                .transpose()?,
        },
        Some(CommandOf::Undo(_)) => Command::Undo,
        Some(CommandOf::Fail(fail)) => Command::Fail { reason: fail.reason },
        Some(CommandOf::Pause(_)) => Command::Pause,
        Some(CommandOf::Resume(_)) => Command::Resume,
        None => {
            let text = "no command is given: send one of `cancel`, `retry`, `undo`, `fail`, `pause`, `resume`, `restart`";
            return Err(Problem::new(Kind::InvalidRequest, text).at("command"));
        }
    };
    ingress.service.command(caller, instance, command).await?;
    Ok(CommandResponse { workflow_id: instance.to_string(), ..CommandResponse::default() })
}

/// All rows of an instance, until it has ended or the server stops. A client that does not read is
/// not waited for by anybody: what is not read is not made.
fn rows(
    ingress: Shared,
    caller: Caller,
    instance: InstanceId,
    follow: Follow,
) -> impl Stream<Item = Result<WatchResponse, Status>> {
    let caller = Arc::new(caller);
    stream::unfold(Some((ingress, caller, follow)), move |state| async move {
        let (ingress, caller, mut follow) = state?;
        let next = tokio::select! {
            next = follow.next() => next,
            () = ingress.authenticator.lapsed(&caller) => {
                let text = format!("the credential of this stream does not count any more: come back after row {} with another", follow.seq());
                Err(Problem::new(Kind::Unauthenticated, text))
            }
            () = ingress.service.stopping() => {
                let text = format!("the server is shutting down: come back after row {}", follow.seq());
                Err(Problem::new(Kind::ShuttingDown, text))
            }
        };
        let row = match next {
            Ok(Some(row)) => row,
            Ok(None) => return None,
            Err(problem) => return Some((Err(refuse(&caller, &problem)), None)),
        };
        match messages::of_row(instance, follow.shape(), &row) {
            Ok(encoded) => {
                let messages = encoded.messages.iter().map(|text| text.as_str().to_owned());
                let response =
                    WatchResponse { row: row.stored.seq, messages_json: messages.collect() };
                Some((Ok(response), Some((ingress, caller, follow))))
            }
            Err(text) => {
                let problem = Problem::new(Kind::StoreFailed, text);
                Some((Err(refuse(&caller, &problem)), None))
            }
        }
    })
}
