//! The cancellation token of one attempt. Every attempt has one and hardly any is ever cancelled,
//! so it is small and costs one allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Clones are the same token.
#[derive(Debug, Clone, Default)]
pub struct Cancellation {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    fired: AtomicBool,
    waiting: Notify,
}

impl Cancellation {
    /// Permanent; repeating it changes nothing.
    pub fn cancel(&self) {
        self.inner.fired.store(true, Ordering::Release);
        self.inner.waiting.notify_waiters();
    }

    pub fn is_cancelled(&self) -> bool {
        self.inner.fired.load(Ordering::Acquire)
    }

    /// Ends when [`Self::is_cancelled`] becomes true; if it never does, never.
    pub async fn cancelled(&self) {
        // Registered before the check, so that no later cancellation is missed.
        let notified = self.inner.waiting.notified();
        if !self.is_cancelled() {
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_and_those_who_come_later_are_notified() {
        let token = Cancellation::default();
        let waiting = tokio::spawn({
            let token = token.clone();
            async move { token.cancelled().await }
        });
        tokio::task::yield_now().await;
        assert!(!token.is_cancelled() && !waiting.is_finished());
        token.cancel();
        let cancelled = async {
            waiting.await.unwrap();
            token.cancelled().await;
        };
        tokio::time::timeout(Duration::from_secs(10), cancelled).await.unwrap();
        assert!(token.is_cancelled());
    }
}
