//! Signs of life: who this worker is and what it is at, for every node, again and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::bus::broker::to_all;
use crate::bus::broker::worker_registry::Beat;
use crate::bus::routing_keys::WORKERS;
use crate::bus::{Bus, Published};
use crate::worker::slots::Crew;

/// How long the last one may take to get out.
const LAST: Duration = Duration::from_millis(500);

/// For ever. While the broker is away there is one that waits to get out, not many.
pub(super) async fn beat(crew: Arc<Crew>) {
    loop {
        let beat = crew.beat(false);
        let every = Duration::from_millis(beat.every_ms);
        if let Some(out) = say(&crew, &beat) {
            // If it failed, the next one says the same.
            let _ = out.await;
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = crew.hurry.notified() => {}
        }
    }
}

/// This worker ends.
pub(super) async fn last(crew: &Arc<Crew>) {
    if let Some(out) = say(crew, &crew.beat(true))
        && tokio::time::timeout(LAST, out).await.is_err()
    {
        tracing::debug!("the broker does not hear the last word");
    }
}

/// `None`: the bus has no room.
fn say(crew: &Crew, beat: &Beat) -> Option<oneshot::Receiver<Published>> {
    let (told, published) = oneshot::channel();
    let done = Box::new(move |published| {
        // Whoever waited may have waited long enough.
        let _ = told.send(published);
    });
    crew.bus.publish(to_all(WORKERS, beat), done).ok().map(|()| published)
}
