//! `Work`: a service or a worker takes tasks and reports results over one stream. Two tasks carry
//! it: one reads what the worker sends, and the stream of answers is polled by the connection. When
//! either side is gone the attachment ends, and the tasks that were out are lost.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::calls::{caller, given, json_of, refuse};
use crate::bus::attached::{AttachRequest, Attachment, Handed, TaskOutcome};
use crate::bus::broker::worker_registry::AttemptIds;
use crate::engine::api::{Progress, ProgressKind, StepRef};
use crate::ingress::Shared;
use crate::ingress::caller::Caller;
use crate::ingress::connection::ConnectionPermit;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::requests::failure;
use crate::proto::v1::task_result::Outcome as OutcomeOf;
use crate::proto::v1::work_request::Message as Said;
use crate::proto::v1::work_response::{Cancel, Message as Answer};
use crate::proto::v1::{
    Attach, Attached, StepError, Stopping, Task as TaskMessage, TaskHeartbeat, TaskResult,
    TaskStarted, WorkRequest, WorkResponse,
};
use crate::supervise;
use crate::task::Task;

/// A stream has to say who attaches in this time.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
/// How often cancellations are passed on.
const TICK: Duration = Duration::from_millis(500);
/// How long results are taken after the server began to stop, as long as the connection lives.
const STOPPING_GRACE: Duration = Duration::from_secs(2);

pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<WorkResponse, Status>> + Send>>;

pub(super) async fn work(
    ingress: &Shared,
    mut request: Request<Streaming<WorkRequest>>,
) -> Result<Response<Answers>, Status> {
    let caller = caller(&mut request)?;
    let permit = request.extensions_mut().remove::<ConnectionPermit>();
    let mut incoming = request.into_inner();
    let worker = match tokio::time::timeout(ATTACH_TIMEOUT, incoming.message()).await {
        Ok(first) => attach_request(first?),
        Err(_) => Err(protocol("the stream did not begin with `attach` in time", "message")),
    };
    let attached = worker.and_then(|worker| ingress.service.attach(&caller, worker));
    let (attachment, handed) = attached.map_err(|problem| refuse(&caller, &problem))?;
    let (attachment, caller) = (Arc::new(attachment), Arc::new(caller));
    let (ended, ending) = watch::channel(Ok(()));
    // Ends with the connection, or when the stream of answers is dropped: nothing is read then.
    let reader = supervise::spawn(
        "reading a worker's stream",
        read(ingress.clone(), caller.clone(), attachment.clone(), incoming, permit, ended),
    );
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let answers = Outgoing {
        ingress: ingress.clone(),
        caller,
        attachment,
        handed,
        ending,
        reader: reader.abort_handle(),
        ticks,
        state: State::Attached,
    };
    Ok(Response::new(Box::pin(stream::unfold(Some(answers), |answers| async move {
        let mut answers = answers?;
        match answers.next().await? {
            Ok(answer) => Some((Ok(WorkResponse { message: Some(answer) }), Some(answers))),
            Err(status) => Some((Err(status), None)),
        }
    }))))
}

fn protocol(text: &str, field: &str) -> Problem {
    Problem::new(Kind::InvalidRequest, text).at(field)
}

fn attach_request(first: Option<WorkRequest>) -> Result<AttachRequest, Problem> {
    match first.and_then(|first| first.message) {
        Some(Said::Attach(Attach { name, step_types, concurrency, version })) => {
            Ok(AttachRequest {
                name,
                version,
                step_types,
                concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
            })
        }
        Some(_) | None => Err(protocol("a stream of work begins with `attach`", "message")),
    }
}

/// Takes what the worker sends, until its side of the stream ends or it breaks the protocol.
async fn read(
    ingress: Shared,
    caller: Arc<Caller>,
    attachment: Arc<Attachment>,
    mut incoming: Streaming<WorkRequest>,
    permit: Option<ConnectionPermit>,
    ended: watch::Sender<Result<(), Problem>>,
) {
    let result = loop {
        let said = match incoming.message().await {
            Ok(Some(WorkRequest { message: Some(said) })) => said,
            // From a newer client; there is nothing in it for us.
            Ok(Some(WorkRequest { message: None })) => continue,
            // No result can come any more.
            Ok(None) => break Ok(()),
            Err(status) => {
                debug!(%status, "a worker's stream broke off");
                break Err(protocol("the stream broke off", "message"));
            }
        };
        if let Some(permit) = &permit {
            permit.release();
        }
        if let Err(problem) = take(&ingress, &caller, &attachment, said).await {
            break Err(problem);
        }
    };
    // The answers end with it, and then the attachment.
    ended.send_modify(|how| *how = result);
}

async fn take(
    ingress: &Shared,
    caller: &Arc<Caller>,
    attachment: &Attachment,
    said: Said,
) -> Result<(), Problem> {
    match said {
        Said::Attach(_) => return Err(protocol("a stream attaches once", "attach")),
        Said::Result(TaskResult { task, outcome }) => {
            // Of a task that is unknown, or whose result is wrong, only that task is the worse.
            let outcome = outcome_of(outcome).unwrap_or_else(|text| {
                TaskOutcome::Failed(failure(Some("InvalidResult".to_owned()), text, None, None))
            });
            if !attachment.finish(task, outcome).await {
                return Err(unknown_task(task, "result.task"));
            }
        }
        Said::Started(TaskStarted { task }) => {
            let Some((ids, step_type)) = attachment.attempt_of(task) else {
                return Err(unknown_task(task, "started.task"));
            };
            let AttemptIds(instance, step, attempt) = ids;
            let (step, attempt) = (StepRef::Id(step), Some(attempt));
            let (step_type, what) = (Some(step_type.to_owned()), ProgressKind::Began);
            let began = Progress { instance, step, step_type, attempt, what };
            let (ingress, caller) = (ingress.clone(), caller.clone());
            // Results need not wait until it is in the journal.
            supervise::spawn("recording a start", async move {
                if let Err(error) = ingress.service.progress(&caller, began).await {
                    // Most often it has ended meanwhile.
                    debug!(%instance, ?error, "a start was not recorded");
                }
            });
        }
        Said::Heartbeat(TaskHeartbeat { tasks }) => attachment.heartbeat(&tasks),
        Said::Drain(_) => attachment.drain(),
    }
    Ok(())
}

fn unknown_task(task: u64, field: &str) -> Problem {
    let text = format!(
        "no task {task} is out on this stream: it was reported already, or never handed out"
    );
    Problem::new(Kind::UnknownStep, text).at(field)
}

fn outcome_of(outcome: Option<OutcomeOf>) -> Result<TaskOutcome, String> {
    Ok(match outcome {
        Some(OutcomeOf::ResultJson(result)) => {
            let result = json_of(&result, "result_json").map_err(|problem| problem.detail)?;
            TaskOutcome::Completed(result)
        }
        Some(OutcomeOf::Error(StepError { name, message, retry, after })) => {
            TaskOutcome::Failed(failure(given(name), message, retry, given(after)))
        }
        Some(OutcomeOf::Returned(_)) => TaskOutcome::Returned,
        None => return Err("the worker sent neither a result nor an error".to_owned()),
    })
}

/// What the worker gets. Dropped: the connection is gone, and the reader ends.
struct Outgoing {
    ingress: Shared,
    caller: Arc<Caller>,
    attachment: Arc<Attachment>,
    handed: mpsc::UnboundedReceiver<Handed>,
    /// Changes when the worker's side has ended.
    ending: watch::Receiver<Result<(), Problem>>,
    reader: tokio::task::AbortHandle,
    ticks: Interval,
    state: State,
}

enum State {
    Attached,
    Working,
    Stopping(tokio::time::Instant),
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Outgoing {
    /// The next message; `None`: the stream has ended in order.
    async fn next(&mut self) -> Option<Result<Answer, Status>> {
        if matches!(self.state, State::Attached) {
            self.state = State::Working;
            let interval = self.ingress.service.heartbeat_interval().as_millis();
            let heartbeat_interval_ms = u32::try_from(interval).unwrap_or(u32::MAX);
            return Some(Ok(Answer::Attached(Attached { heartbeat_interval_ms })));
        }
        loop {
            tokio::select! {
                biased;
                Some(handed) = self.handed.recv() => return Some(Ok(answer(handed))),
                Ok(()) = self.ending.changed() => {
                    let result = self.ending.borrow().clone();
                    return result.err().map(|problem| Err(refuse(&self.caller, &problem)));
                }
                () = self.ingress.authenticator.lapsed(&self.caller) => {
                    let text = "the credential of this stream does not count any more: attach again with another";
                    let problem = Problem::new(Kind::Unauthenticated, text);
                    return Some(Err(refuse(&self.caller, &problem)));
                }
                () = self.ingress.service.stopping(), if matches!(self.state, State::Working) => {
                    self.state = State::Stopping(tokio::time::Instant::now() + STOPPING_GRACE);
                    self.attachment.drain();
                    return Some(Ok(Answer::Stopping(Stopping {})));
                }
                _ = self.ticks.tick() => self.attachment.tick(),
            }
            if self.attachment.is_done() {
                return None;
            }
            if let State::Stopping(until) = self.state
                && tokio::time::Instant::now() >= until
            {
                return None;
            }
        }
    }
}

fn answer(handed: Handed) -> Answer {
    match handed {
        Handed::Task { number, task } => Answer::Task(message(number, &task)),
        Handed::Cancelled(task) => Answer::Cancelled(Cancel { task }),
    }
}

fn message(number: u64, task: &Task) -> TaskMessage {
    TaskMessage {
        task: number,
        workflow_id: task.origin.workflow_id.clone(),
        step_id: task.step_id().to_string(),
        step_type: task.contract.step_type.to_owned(),
        attempt: task.attempt,
        key: task.key(),
        input_json: task.input.get().to_owned(),
        payload_json: match task.contract.payload {
            true => task.origin.payload.get().to_owned(),
            false => String::new(),
        },
        workflow: task.origin.workflow.clone().into_owned(),
        path: task.path_text.clone().into_owned(),
        correlation_id: task.origin.correlation_id().to_owned(),
        traceparent: task.origin.traceparent.clone(),
        once: task.is_once(),
        request_id: task.origin.request_id.clone(),
        completion_token: task.completion_token().unwrap_or_default(),
    }
}
