//! Messages on their way out: hooks and emitted events. Each is offered to the bus until it is out;
//! only then is its effect done. Until then the shard knows why it is not, and so do people.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::Core;
use crate::bus;
use crate::bus::Published;
use crate::engine::shard::{Message, came_back};
use crate::id::InstanceId;
use crate::store::Seq;

/// An effect's message, and the shard that hears what becomes of it.
pub(super) struct Publish {
    pub(super) core: Arc<Core>,
    pub(super) shard: mpsc::Sender<Message>,
    pub(super) instance: InstanceId,
    pub(super) seq: Seq,
    pub(super) n: u32,
    pub(super) message: bus::Message,
}

impl Publish {
    /// Ends when the message is out. Does nothing that the process would miss if it died in
    /// between: the effect is repeated.
    pub(super) async fn run(&self) {
        let Self { instance, seq, n, .. } = *self;
        let mut waiting = Waiting { core: &self.core, is_counted: false };
        let mut tries = 0;
        let mut back = self.core.bus.back();
        while let Err(reason) = self.offer().await {
            waiting.count();
            // What is wrong with the bus as a whole it says itself, once.
            if tries == 0 && self.core.bus.delay(None).is_none() {
                warn!(%instance, routing_key = self.message.routing_key, reason, "a message is not out; trying again until it is");
            }
            let not_out = Message::NotOut { instance, seq, n, reason };
            if self.shard.send(not_out).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = tokio::time::sleep(backoff(tries)) => {}
                () = came_back(&mut back) => {}
            }
            tries = tries.saturating_add(1);
        }
        drop(waiting);
        self.core.stats.published.fetch_add(1, Ordering::Relaxed);
        self.done().await;
    }

    /// Tells the shard that the effect is done.
    pub(super) async fn done(&self) {
        let Self { instance, seq, n, .. } = *self;
        // The shard is gone only when the process ends.
        let _ = self.shard.send(Message::Done { instance, seq, n }).await;
    }

    /// Once. The error: why it is not out.
    async fn offer(&self) -> Result<(), String> {
        let (done, published) = oneshot::channel();
        // Whoever asked is still there: it waits below.
        let done = Box::new(move |what| _ = done.send(what));
        if self.core.bus.publish(self.message.clone(), done).is_err() {
            return Err("the bus has no room".to_owned());
        }
        match published.await {
            Ok(Published::Done) => Ok(()),
            Ok(Published::Failed(reason)) => Err(reason),
            Err(_) => Err("the bus has not said what became of it".to_owned()),
        }
    }
}

/// Counts a message as one that is not out, once, until it is.
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

/// 1 s doubling to 60 s.
pub(super) fn backoff(tries: u32) -> Duration {
    Duration::from_secs(1 << tries.min(6)).min(Duration::from_secs(60))
}
