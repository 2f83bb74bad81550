//! Events from outside.

use serde_json::value::RawValue;

use super::{Error, Service};
use crate::engine::api::{EventAccepted, IncomingEvent};
use crate::ingress::caller::Caller;
use crate::ingress::operations::Operation;
use crate::ingress::problem::{Kind, Problem};

/// An event as a client sends it. Owner and trace are the caller's.
#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) data: Box<RawValue>,
}

impl NewEvent {
    fn sent_by(self, caller: &Caller) -> IncomingEvent {
        let Self { name, id, data } = self;
        let owner = caller.client_id().to_owned();
        IncomingEvent { name, id, data, owner, traceparent: caller.traceparent.clone() }
    }
}

impl Service {
    /// Accepts events; each is durable when answered, and the results are in their order. A batch
    /// with an event that is not permitted is refused as a whole.
    pub(crate) async fn send_events(
        &self,
        caller: &Caller,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Result<EventAccepted, Error>>, Error> {
        Self::authorize(caller, Operation::SendEvents)?;
        if let Some(event) = events.iter().find(|event| !caller.has_event(&event.name)) {
            return Err(super::out_of_scope("event", &event.name, "events").into());
        }
        self.check_open()?;
        let events = events.into_iter().map(|event| event.sent_by(caller)).collect();
        let answers = self.engine.take_events(events).await;
        Ok(answers.into_iter().map(|answer| answer.map_err(Error::Engine)).collect())
    }

    /// Takes one event.
    pub(crate) async fn send_event(
        &self,
        caller: &Caller,
        event: NewEvent,
    ) -> Result<EventAccepted, Error> {
        let answer = self.send_events(caller, vec![event]).await?.pop();
        answer.ok_or_else(|| Problem::new(Kind::Internal, "the engine did not answer"))?
    }
}
