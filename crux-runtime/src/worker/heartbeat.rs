//! Heartbeats: each worker tells every node that it is alive and lists the attempts it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::bus::broker::to_all;
use crate::bus::broker::worker_registry::Heartbeat;
use crate::bus::routing_keys::WORKERS;
use crate::bus::{Bus, PublishOutcome};
use crate::worker::slots::Worker;

/// For publishing the last heartbeat.
const LAST_HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(500);

/// Runs until it is aborted. While the broker is down at most one heartbeat is queued.
pub(super) async fn send_all(worker: Arc<Worker>) {
    loop {
        let heartbeat = worker.heartbeat(false);
        let every = Duration::from_millis(heartbeat.every_ms);
        if let Some(out) = say(&worker, &heartbeat) {
            // If it failed, the next one says the same.
            let _ = out.await;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = worker.heartbeat_now.notified() => {}
        }
    }
}

/// Announces that this worker shuts down.
pub(super) async fn send_last(worker: &Arc<Worker>) {
    if let Some(out) = say(worker, &worker.heartbeat(true))
        && tokio::time::timeout(LAST_HEARTBEAT_TIMEOUT, out).await.is_err()
    {
        tracing::debug!("the last heartbeat was not confirmed in time");
    }
}

/// `None`: the bus has no room.
fn say(worker: &Worker, heartbeat: &Heartbeat) -> Option<oneshot::Receiver<PublishOutcome>> {
    let (report, published) = oneshot::channel();
    let done = Box::new(move |published| {
        // The receiver may have timed out.
        let _ = report.send(published);
    });
    worker.bus.publish(to_all(WORKERS, heartbeat), done).ok().map(|()| published)
}
