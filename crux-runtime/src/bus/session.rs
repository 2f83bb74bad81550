//! The connection loop shared by everything that talks to a broker: connect, work, and after a lost
//! connection wait and reconnect. Publishers, consumers and task consumers of every broker are
//! [`Session`]s; so is an event source outside this module.

use std::fmt::Display;

use tokio::sync::watch;

use crate::backoff::Backoff;

/// Work that is done over one connection at a time.
pub(crate) trait Session: Send {
    type Error: Display + Send;

    /// Connects, and works until the connection is lost (the error) or the process stops. Resets
    /// `backoff` as soon as the connection is known to work.
    fn run(
        &mut self,
        backoff: &mut Backoff,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// There is no connection now: shown in `/health`.
    fn set_down(&mut self, reason: String);
}

/// Runs sessions one after the other, with a pause between them, until the process stops.
pub(crate) async fn keep_connected<S: Session>(
    mut session: S,
    mut backoff: Backoff,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let Err(lost) = session.run(&mut backoff).await else { return };
        session.set_down(lost.to_string());
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

/// Whether the process stops.
pub(crate) fn is_stopping(stopping: &watch::Receiver<bool>) -> bool {
    // A dropped sender means the same.
    *stopping.borrow() || stopping.has_changed().is_err()
}

/// Ends when the process stops.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A dropped sender means the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    /// Fails as often as it says; the last session ends because the process stops.
    struct Failing {
        failures: usize,
        /// The session after that failure works for a while before it fails.
        works_after: Option<usize>,
        runs: Vec<Instant>,
        reasons: Vec<String>,
    }

    impl Failing {
        fn new(failures: usize) -> Self {
            Self { failures, works_after: None, runs: Vec::new(), reasons: Vec::new() }
        }
    }

    impl Session for &mut Failing {
        type Error = String;

        async fn run(&mut self, backoff: &mut Backoff) -> Result<(), String> {
            self.runs.push(Instant::now());
            if self.works_after == Some(self.reasons.len()) {
                backoff.reset();
            }
            match self.reasons.len() {
                failed if failed < self.failures => Err(format!("lost {failed}")),
                _ => Ok(()),
            }
        }

        fn set_down(&mut self, reason: String) {
            self.reasons.push(reason);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_is_made_again_after_a_pause_that_grows() {
        let (_stop, stopping) = watch::channel(false);
        let mut session = Failing::new(4);
        keep_connected(&mut session, Backoff::new(), stopping).await;
        assert_eq!(session.reasons, ["lost 0", "lost 1", "lost 2", "lost 3"]);
        let pauses: Vec<Duration> =
            session.runs.windows(2).map(|two| two[1].duration_since(two[0])).collect();
        assert!(pauses.iter().all(|pause| !pause.is_zero()), "{pauses:?}");
        assert!(pauses[3] > pauses[0], "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_worked_makes_the_next_pause_short() {
        let (_stop, stopping) = watch::channel(false);
        let mut session = Failing { works_after: Some(5), ..Failing::new(6) };
        keep_connected(&mut session, Backoff::new(), stopping).await;
        let pauses: Vec<Duration> =
            session.runs.windows(2).map(|two| two[1].duration_since(two[0])).collect();
        assert!(pauses[5] < pauses[4], "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_process_stops() {
        let (stop, stopping) = watch::channel(false);
        stop.send(true).unwrap();
        let mut session = Failing::new(usize::MAX);
        keep_connected(&mut session, Backoff::new(), stopping).await;
        assert_eq!(session.runs.len(), 1);
    }
}
