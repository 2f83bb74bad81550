//! Event sources: they bring messages and carry no tasks, beside the one task bus. The incoming
//! side of a broker is one; the topics of a log are another.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};

use crate::bus::MessageHandler;

/// Consumes messages and gives them to the message handler. What keeps a connection for that uses
/// `session::keep_connected`.
pub trait EventSource: Send + Sync + 'static {
    /// Begins to consume.
    fn consume(&self, handler: Arc<dyn MessageHandler>);

    /// Consumes nothing more; ends when everything handled is acknowledged.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// All sources of a server; cheap to clone.
#[derive(Clone, Default)]
pub struct EventSources {
    sources: Arc<[Arc<dyn EventSource>]>,
}

impl EventSources {
    pub fn new(sources: Vec<Arc<dyn EventSource>>) -> Self {
        Self { sources: sources.into() }
    }

    pub fn consume(&self, handler: &Arc<dyn MessageHandler>) {
        self.sources.iter().for_each(|source| source.consume(handler.clone()));
    }

    /// Ends when all have closed.
    pub async fn close(&self) {
        join_all(self.sources.iter().map(|source| source.close())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::bus::{Disposition, Incoming};

    #[derive(Default)]
    struct Log {
        consuming: AtomicU32,
        closed: AtomicU32,
    }

    impl EventSource for Log {
        fn consume(&self, _handler: Arc<dyn MessageHandler>) {
            self.consuming.fetch_add(1, Ordering::Relaxed);
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            self.closed.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(()))
        }
    }

    struct Ignoring;

    impl MessageHandler for Ignoring {
        fn handle<'a>(&'a self, _incoming: &'a Incoming) -> BoxFuture<'a, Disposition> {
            Box::pin(std::future::ready(Disposition::Ack))
        }
    }

    #[tokio::test]
    async fn every_source_consumes_and_closes() {
        let (orders, stock) = (Arc::new(Log::default()), Arc::new(Log::default()));
        let sources = EventSources::new(vec![orders.clone(), stock.clone()]);
        let handler: Arc<dyn MessageHandler> = Arc::new(Ignoring);
        sources.consume(&handler);
        sources.close().await;
        for source in [orders, stock] {
            let counts = [&source.consuming, &source.closed].map(|n| n.load(Ordering::Relaxed));
            assert_eq!(counts, [1, 1]);
        }
    }
}
