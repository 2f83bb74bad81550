//! Messages from a broker: completions, starts and heartbeats of steps under their reserved keys,
//! and events under their own names. Parses, calls the service, and decides what happens to the
//! message.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tracing::{debug, info};

use super::auth::Authenticator;
use super::caller::Caller;
use super::problem::Problem;
use super::requests::{CompletionBody, ProgressBody};
use super::service::{self, NewEvent, Service};
use super::{json, middleware};
use crate::bus::routing_keys::{COMPLETED, HEARTBEAT, STARTED};
use crate::bus::{Disposition, Incoming, MessageHandler};
use crate::engine::api::{Completion, Error, ProgressKind};
use crate::machine::{AttemptFailed, Failure, Outcome};
use crate::store;

/// Takes the messages of a broker. Who may write to its queues is the broker's to decide.
pub(crate) struct BrokerIngress {
    service: Arc<Service>,
    authenticator: Arc<Authenticator>,
}

impl BrokerIngress {
    pub(crate) fn new(service: Arc<Service>, authenticator: Arc<Authenticator>) -> Self {
        Self { service, authenticator }
    }

    /// Who sent a message: the broker does not say, but a report may have its task's token.
    fn caller(incoming: &Incoming) -> Caller {
        let traceparent = middleware::well_formed(&incoming.traceparent);
        Caller::trusted(incoming.correlation_id.clone(), traceparent)
    }

    async fn completed(&self, caller: &Caller, incoming: &Incoming) -> Result<(), Rejection> {
        match json::parse::<CompletionBody>(&incoming.body) {
            Ok(mut body) => {
                let reporter = self.authenticator.of_report(caller, body.take_token()).await?;
                self.complete(&reporter, body.into_completion()?, incoming).await
            }
            Err(problem) => {
                // Which step it is about may be understood all the same.
                if let Ok(mut body) = serde_json::from_slice::<CompletionBody>(&incoming.body) {
                    let token = body.take_token();
                    let reporter = self.authenticator.of_report(caller, token).await?;
                    if let Ok(completion) = body.into_completion() {
                        self.fail(&reporter, completion, problem.detail.clone()).await?;
                    }
                }
                Err(problem.into())
            }
        }
    }

    async fn complete(
        &self,
        caller: &Caller,
        completion: Completion,
        incoming: &Incoming,
    ) -> Result<(), Rejection> {
        let Completion { instance, step, step_type, attempt, .. } = &completion;
        let (step, step_type) = (step.clone(), step_type.clone());
        let about = Completion {
            instance: *instance,
            step,
            step_type,
            attempt: *attempt,
            outcome: Ok(RawValue::NULL.to_owned()),
        };
        let (message_id, correlation_id) = (&incoming.message_id, &caller.correlation_id);
        info!(target: "crux::messages", message_id, correlation_id, instance = %about.instance, step = %about.step, "a completion has come");
        let error = match self.service.complete(caller, completion).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if let service::Error::Engine(error @ (Error::Invalid(text) | Error::Limit(text))) = &error
        {
            self.fail(caller, about, text.clone()).await?;
            return Err(Rejection::Refused(error.to_string()));
        }
        ignore_late(error)
    }

    /// A broker's message has no answer: a step whose result cannot be taken fails immediately
    /// instead of by its timeout.
    async fn fail(
        &self,
        caller: &Caller,
        completion: Completion,
        text: String,
    ) -> Result<(), Rejection> {
        let failure = Failure::new(Failure::INVALID_RESULT, text);
        let outcome =
            Err(AttemptFailed { outcome: Outcome::Failed, failure, retry: None, after_ms: None });
        match self.service.complete(caller, Completion { outcome, ..completion }).await {
            Ok(_) => Ok(()),
            Err(error) => ignore_late(error),
        }
    }

    async fn progress(
        &self,
        caller: &Caller,
        incoming: &Incoming,
        what: ProgressKind,
    ) -> Result<(), Rejection> {
        let is_heartbeat = matches!(what, ProgressKind::Heartbeat);
        let mut body = json::parse::<ProgressBody>(&incoming.body)?;
        let caller = self.authenticator.of_report(caller, body.take_token()).await?;
        let progress = body.into_progress(what)?;
        match self.service.progress(&caller, progress).await {
            // It may come late, or for an instance that is not known any more.
            Ok(()) | Err(service::Error::Engine(Error::NotOpen | Error::UnknownInstance(_))) => {
                Ok(())
            }
            Err(error) => match ignore_late(error) {
                // The next one comes before this could be of use.
                Err(Rejection::Held(reason)) if is_heartbeat => {
                    debug!(reason, "a heartbeat is dropped: its instance cannot take it");
                    Ok(())
                }
                taken => taken,
            },
        }
    }

    async fn event(&self, caller: &Caller, incoming: &Incoming) -> Result<(), Rejection> {
        let event = NewEvent {
            name: incoming.routing_key.clone(),
            id: incoming.message_id.clone().filter(|id| !id.is_empty()),
            data: json::raw(&incoming.body)?,
        };
        self.service.send_event(caller, event).await?;
        Ok(())
    }
}

impl MessageHandler for BrokerIngress {
    fn handle<'a>(&'a self, incoming: &'a Incoming) -> BoxFuture<'a, Disposition> {
        async move {
            let caller = Self::caller(incoming);
            let taken = match incoming.routing_key.as_str() {
                COMPLETED => self.completed(&caller, incoming).await,
                STARTED => self.progress(&caller, incoming, ProgressKind::Began).await,
                HEARTBEAT => self.progress(&caller, incoming, ProgressKind::Heartbeat).await,
                _ => self.event(&caller, incoming).await,
            };
            match taken {
                Ok(()) => Disposition::Ack,
                Err(Rejection::Refused(reason)) => Disposition::DeadLetter(reason),
                Err(Rejection::Later(reason)) => Disposition::RetryLater(reason),
                Err(Rejection::Held(reason)) => Disposition::WaitForInstance(reason),
                Err(Rejection::Closing) => Disposition::Requeue,
            }
        }
        .boxed()
    }
}

/// Why a message was not taken.
enum Rejection {
    Refused(String),
    Later(String),
    /// Only because of the instance that it is about.
    Held(String),
    Closing,
}

impl From<service::Error> for Rejection {
    fn from(error: service::Error) -> Self {
        match error {
            service::Error::Refused(problem) => problem.into(),
            service::Error::Engine(error) => error.into(),
        }
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self::Refused(match problem.field {
            Some(field) if !problem.detail.starts_with(&field) => {
                format!("{field}: {}", problem.detail)
            }
            _ => problem.detail,
        })
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        match error {
            Error::ShuttingDown => Self::Closing,
            // About one instance only: a node with that definition may come, another may take over
            // from one that has died, and a person may repair what is stored.
            Error::DefinitionMissing { .. }
            | Error::OwnerUnreachable { .. }
            | Error::ConcurrentModification
            | Error::Store(store::Error::Broken(_)) => Self::Held(error.to_string()),
            // The store may recover.
            error if error.is_passing() || matches!(error, Error::Store(_)) => {
                Self::Later(error.to_string())
            }
            error => Self::Refused(error.to_string()),
        }
    }
}

/// A result that comes too late changes nothing, and is not its sender's mistake.
fn ignore_late(error: service::Error) -> Result<(), Rejection> {
    match error {
        service::Error::Engine(Error::InvalidState(_)) => Ok(()),
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::InstanceId;

    #[test]
    fn what_may_work_in_a_moment_is_never_refused() {
        let full = Error::Store(store::Error::Full("no space".to_owned()));
        let overloaded =
            Error::Overloaded { reason: "the disk is nearly full".to_owned(), retry_after_s: 1 };
        for error in [Error::Store(store::Error::Unavailable("away".to_owned())), full, overloaded]
        {
            assert!(error.is_passing(), "{error}");
            let text = error.to_string();
            assert!(
                matches!(Rejection::from(error), Rejection::Later(reason) if reason == text),
                "{text}"
            );
        }
        // Others are taken meanwhile.
        for error in [Error::OwnerUnreachable { node: 2 }, Error::ConcurrentModification] {
            assert!(error.is_passing(), "{error}");
            let text = error.to_string();
            assert!(
                matches!(Rejection::from(error), Rejection::Held(reason) if reason == text),
                "{text}"
            );
        }
        let (workflow, definition) = ("order".to_owned(), "6f".to_owned());
        assert!(matches!(
            Rejection::from(Error::DefinitionMissing { workflow, version: 2, definition }),
            Rejection::Held(_)
        ));
        assert!(matches!(
            Rejection::from(Error::Store(store::Error::Broken("a row".to_owned()))),
            Rejection::Held(_)
        ));
        assert!(matches!(Rejection::from(Error::ShuttingDown), Rejection::Closing));
        assert!(matches!(
            Rejection::from(Error::UnknownInstance(InstanceId::new(
                crate::machine::Time(1),
                [0; 10],
                None
            ))),
            Rejection::Refused(_)
        ));
        assert!(matches!(
            Rejection::from(Error::Invalid("name: missing".to_owned())),
            Rejection::Refused(_)
        ));
    }
}
