//! What a broker brings: completions, starts and heartbeats of steps under the keys of the
//! reference, and events under their own names. Translates, asks the engine, and says what is to
//! become of the message.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use tracing::{debug, info};

use super::json;
use super::problem::Problem;
use super::requests::{CompletionBody, ProgressBody};
use crate::bus::routing_keys::{COMPLETED, HEARTBEAT, STARTED};
use crate::bus::{Door, Incoming, Taken};
use crate::engine::Engine;
use crate::engine::api::{Completion, Error, IncomingEvent, ProgressKind};
use crate::ingress::http::middleware;
use crate::machine::{AttemptFailed, Failure, Outcome};
use crate::store;

/// The door for messages of a broker. Whoever may write to its queues may come in.
pub(crate) struct BrokerDoor {
    engine: Engine,
}

impl BrokerDoor {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn completed(&self, incoming: &Incoming) -> Result<(), Why> {
        let completion = match json::parse::<CompletionBody>(&incoming.body) {
            Ok(body) => body.into_completion()?,
            Err(problem) => {
                // What it is about may be understood all the same.
                if let Ok(body) = serde_json::from_slice::<CompletionBody>(&incoming.body)
                    && let Ok(completion) = body.into_completion()
                {
                    self.fail(completion, problem.detail.clone()).await?;
                }
                return Err(problem.into());
            }
        };
        let Completion { instance, step, step_type, attempt, .. } = &completion;
        let (step, step_type) = (step.clone(), step_type.clone());
        let about = Completion {
            instance: *instance,
            step,
            step_type,
            attempt: *attempt,
            outcome: Ok(RawValue::NULL.to_owned()),
        };
        let (message_id, correlation_id) = (&incoming.message_id, &incoming.correlation_id);
        info!(target: "crux::messages", message_id, correlation_id, instance = %about.instance, step = %about.step, "a completion has come");
        let error = match self.engine.complete(completion).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if let Error::Invalid(text) | Error::Limit(text) = &error {
            self.fail(about, text.clone()).await?;
            return Err(Why::Refused(error.to_string()));
        }
        ignore_late(error)
    }

    /// Nobody hears an answer here: a step whose result cannot be taken fails at once rather than
    /// by its time-out.
    async fn fail(&self, completion: Completion, text: String) -> Result<(), Why> {
        let failure = Failure::new(Failure::INVALID_RESULT, text);
        let outcome =
            Err(AttemptFailed { outcome: Outcome::Failed, failure, retry: None, after_ms: None });
        match self.engine.complete(Completion { outcome, ..completion }).await {
            Ok(_) => Ok(()),
            Err(error) => ignore_late(error),
        }
    }

    async fn progress(&self, incoming: &Incoming, what: ProgressKind) -> Result<(), Why> {
        let is_heartbeat = matches!(what, ProgressKind::Heartbeat);
        let progress = json::parse::<ProgressBody>(&incoming.body)?.into_progress(what)?;
        match self.engine.progress(progress).await {
            // Signs of life may come late, or for what is not known any more.
            Ok(()) | Err(Error::NotOpen | Error::UnknownInstance(_)) => Ok(()),
            Err(error) => match ignore_late(error) {
                // The next one comes before this could be of use.
                Err(Why::Held(reason)) if is_heartbeat => {
                    debug!(reason, "a sign of life is dropped: its instance cannot take it");
                    Ok(())
                }
                taken => taken,
            },
        }
    }

    async fn event(&self, incoming: &Incoming) -> Result<(), Why> {
        let event = IncomingEvent {
            name: incoming.routing_key.clone(),
            id: incoming.message_id.clone().filter(|id| !id.is_empty()),
            data: json::raw(&incoming.body)?,
            owner: String::new(),
            traceparent: middleware::well_formed(&incoming.traceparent),
        };
        match self.engine.take_events(vec![event]).await.pop() {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

impl Door for BrokerDoor {
    fn take<'a>(&'a self, incoming: &'a Incoming) -> BoxFuture<'a, Taken> {
        async move {
            let taken = match incoming.routing_key.as_str() {
                COMPLETED => self.completed(incoming).await,
                STARTED => self.progress(incoming, ProgressKind::Began).await,
                HEARTBEAT => self.progress(incoming, ProgressKind::Heartbeat).await,
                _ => self.event(incoming).await,
            };
            match taken {
                Ok(()) => Taken::Done,
                Err(Why::Refused(reason)) => Taken::Refused(reason),
                Err(Why::Later(reason)) => Taken::Later(reason),
                Err(Why::Held(reason)) => Taken::Held(reason),
                Err(Why::Closing) => Taken::Closing,
            }
        }
        .boxed()
    }
}

/// Why a message was not taken.
enum Why {
    Refused(String),
    Later(String),
    /// Only because of the instance that it is about.
    Held(String),
    Closing,
}

impl From<Problem> for Why {
    fn from(problem: Problem) -> Self {
        Self::Refused(match problem.field {
            Some(field) if !problem.detail.starts_with(&field) => {
                format!("{field}: {}", problem.detail)
            }
            _ => problem.detail,
        })
    }
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        match error {
            Error::ShuttingDown => Self::Closing,
            // About one instance only: a node with that definition may come, another may take over
            // from one that has died, and a person may repair what is stored.
            Error::NoDefinition { .. }
            | Error::Elsewhere { .. }
            | Error::Moved
            | Error::Store(store::Error::Broken(_)) => Self::Held(error.to_string()),
            // The store may recover.
            error if error.is_passing() || matches!(error, Error::Store(_)) => {
                Self::Later(error.to_string())
            }
            error => Self::Refused(error.to_string()),
        }
    }
}

/// A result that comes too late changes nothing, and is no mistake of its sender.
fn ignore_late(error: Error) -> Result<(), Why> {
    match error {
        Error::NotNow(_) => Ok(()),
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
            assert!(matches!(Why::from(error), Why::Later(reason) if reason == text), "{text}");
        }
        // Others are taken meanwhile.
        for error in [Error::Elsewhere { node: 2 }, Error::Moved] {
            assert!(error.is_passing(), "{error}");
            let text = error.to_string();
            assert!(matches!(Why::from(error), Why::Held(reason) if reason == text), "{text}");
        }
        let (workflow, definition) = ("order".to_owned(), "6f".to_owned());
        assert!(matches!(
            Why::from(Error::NoDefinition { workflow, version: 2, definition }),
            Why::Held(_)
        ));
        assert!(matches!(
            Why::from(Error::Store(store::Error::Broken("a row".to_owned()))),
            Why::Held(_)
        ));
        assert!(matches!(Why::from(Error::ShuttingDown), Why::Closing));
        assert!(matches!(
            Why::from(Error::UnknownInstance(InstanceId::new(
                crate::machine::Time(1),
                [0; 10],
                None
            ))),
            Why::Refused(_)
        ));
        assert!(matches!(Why::from(Error::Invalid("name: missing".to_owned())), Why::Refused(_)));
    }
}
