//! Publishes hooks and emitted events. Each is offered to the bus until it is published; only then
//! its effect is confirmed. Until then the shard knows the reason, and `crux status` shows it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::Core;
use crate::backoff::{self, Backoff};
use crate::bus;
use crate::bus::PublishOutcome;
use crate::engine::message::{Message, service_returned};
use crate::engine::outbox::EffectId;
use crate::id::InstanceId;

/// An effect's message, and the shard that is notified of the result.
pub(super) struct Publish {
    pub(super) core: Arc<Core>,
    pub(super) shard: mpsc::Sender<Message>,
    pub(super) instance: InstanceId,
    pub(super) effect: EffectId,
    pub(super) message: bus::Message,
}

impl Publish {
    /// Ends when the message is out. Does nothing that the process would miss if it died in
    /// between: the effect is repeated.
    pub(super) async fn run(&self) {
        let Self { instance, effect, .. } = *self;
        let mut waiting = Waiting { core: &self.core, is_counted: false };
        let mut is_known = false;
        let mut backoff = Backoff::of(backoff::DELIVERY, instance.seed());
        let mut back = self.core.bus.back();
        while let Err(reason) = self.offer().await {
            waiting.count();
            // The bus logs its own outages, once.
            if !is_known && self.core.bus.delay(None).is_none() {
                is_known = true;
                warn!(%instance, routing_key = self.message.routing_key, reason, "cannot publish a message; retrying until it is published");
            }
            let failed = Message::PublishFailed { instance, effect, reason };
            if self.shard.send(failed).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(backoff.pause()) => {}
                () = service_returned(&mut back) => {}
            }
        }
        drop(waiting);
        self.core.stats.published.fetch_add(1, Ordering::Relaxed);
        self.done().await;
    }

    /// Confirms the effect to the shard.
    pub(super) async fn done(&self) {
        let Self { instance, effect, .. } = *self;
        // The shard is dropped only when the process ends.
        let _ = self.shard.send(Message::Done { instance, effect }).await;
    }

    /// Once. The error: why it is not out.
    async fn offer(&self) -> Result<(), String> {
        let (done, published) = oneshot::channel();
        // The receiver waits below.
        let done = Box::new(move |what| _ = done.send(what));
        if self.core.bus.publish(self.message.clone(), done).is_err() {
            return Err("the bus has no room".to_owned());
        }
        match published.await {
            Ok(PublishOutcome::Confirmed) => Ok(()),
            Ok(PublishOutcome::Failed(reason)) => Err(reason),
            Err(_) => Err("the bus has not reported the outcome".to_owned()),
        }
    }
}

/// Counts a message as unpublished, once, until it is published.
struct Waiting<'a> {
    core: &'a Core,
    is_counted: bool,
}

impl Waiting<'_> {
    fn count(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.core.stats.unpublished.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.core.stats.unpublished.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
