//! Delivery of events to waits, and the query for an instance's undelivered tasks and messages.

use serde_json::value::RawValue;

use crate::engine::active_instance::{Delivery, Reply};
use crate::engine::api::{Error, Undelivered};
use crate::engine::inputs::InputHandler;
use crate::engine::message::answer;
use crate::engine::outbox::Pending;
use crate::machine::{Attempt, Open, RejectReason, StepHappened};

impl InputHandler<'_> {
    pub(super) fn deliver(&mut self, delivery: Delivery, reply: Reply<bool>) {
        let Some(path) = self.active.instance.definition().parse_path(&delivery.path) else {
            return answer(reply, Ok(false));
        };
        // An event may have been kept longer than that, for others who could not take it.
        if delivery
            .keep_until
            .is_some_and(|keep_until| self.active.instance.env().started_at > keep_until)
        {
            return answer(reply, Ok(false));
        }
        if !delivery.is_kept && self.active.outbox.is_subscribing(&path) {
            return self.active.deferred_events.push((delivery, reply));
        }
        let data: Box<RawValue> = match RawValue::from_string(delivery.data.to_string()) {
            Ok(data) => data,
            Err(error) => return answer(reply, Err(Error::Invalid(error.to_string()))),
        };
        match self.step(path, StepHappened::Received { event_id: delivery.event_id, data }) {
            Ok(()) => self.answer_when_durable(reply, true),
            Err(RejectReason::Invalid(text)) => answer(reply, Err(Error::Invalid(text))),
            Err(
                RejectReason::NotOpen
                | RejectReason::NoMatch
                | RejectReason::InvalidState(_)
                | RejectReason::Superseded,
            ) => answer(reply, Ok(false)),
        }
    }

    pub(super) fn undelivered(&self) -> Undelivered {
        let definition = self.active.instance.definition();
        let mut undelivered = Undelivered::default();
        for pending in self.active.outbox.iter() {
            match pending {
                Pending::Task { path, backoff: Some(backoff), .. } => {
                    undelivered
                        .tasks
                        .push((definition.path_text(path).into_owned(), backoff.reason.clone()));
                }
                // It has not been offered, or waits in its service's queue.
                Pending::Task { path, attempt, backoff: None }
                    if !self.active.running.has_begun(*path, *attempt) =>
                {
                    let contract = definition
                        .task(path.node)
                        .map(|task| task.contract)
                        .filter(|contract| !self.core.runs_here(contract));
                    let reason =
                        contract.and_then(|contract| self.core.bus.delay(Some(contract.step_type)));
                    undelivered.tasks.extend(
                        reason.map(|reason| (definition.path_text(path).into_owned(), reason)),
                    );
                }
                Pending::Message { routing_key, reason: Some(reason) } => {
                    undelivered.messages.push(((*routing_key).to_owned(), reason.clone()))
                }
                Pending::Message { routing_key, reason: None } => {
                    let reason = self.core.bus.held(routing_key);
                    undelivered
                        .messages
                        .extend(reason.map(|reason| ((*routing_key).to_owned(), reason)));
                }
                _ => {}
            }
        }
        undelivered.tasks.extend(self.without_worker());
        undelivered
    }

    /// Tasks that wait in a queue without a live worker.
    fn without_worker(&self) -> Vec<(String, String)> {
        let Some(workers) = self.core.bus.worker_registry() else { return Vec::new() };
        let mut waiting = Vec::new();
        self.active.instance.open(&mut |open| {
            if let Open::Task(task) = open
                && task.attempt == Attempt::Sent
                && task.started_at.is_none()
                && let Some(meta) = self.active.meta(&task.path)
                && let running = self.active.running.get(task.path, task.number)
                && self.active.is_remote(task, meta.contract, running)
                && !workers.runs(meta.contract.step_type)
            {
                let step_type = meta.contract.step_type;
                let reason = format!("no live worker accepts tasks of `{step_type}`: start one with `crux worker --steps {step_type}`");
                waiting.push((self.active.instance.definition().path_text(&task.path).into_owned(), reason));
            }
        });
        waiting
    }
}
