//! The dispatched, unfinished attempts of one instance, as this process knows them: since when each
//! runs, its last heartbeat, and how to cancel it. What the journal says about them is the
//! machine's state.

use smallvec::SmallVec;

use crate::machine::{Path, Time};
use crate::task::cancellation::Cancellation;

/// An attempt that is handed out.
#[derive(Debug)]
pub(super) struct RunningAttempt {
    pub(super) path: Path,
    pub(super) attempt: u32,
    pub(super) sent_at: Time,
    pub(super) cancellation: Cancellation,
    /// It dies with this process.
    pub(super) in_process: bool,
    pub(super) began_at: Option<Time>,
    pub(super) heartbeat_at: Option<Time>,
}

/// At most one for each step, unless an earlier attempt goes on after its timeout. Most instances
/// have one, which is kept in place.
#[derive(Debug, Default)]
pub(super) struct RunningAttempts(SmallVec<[RunningAttempt; 1]>);

impl RunningAttempts {
    /// An attempt goes out: those of its step before it count no more.
    pub(super) fn dispatch(
        &mut self,
        path: Path,
        attempt: u32,
        sent_at: Time,
        cancellation: Cancellation,
        in_process: bool,
    ) {
        self.forget_step(path);
        self.0.push(RunningAttempt {
            path,
            attempt,
            sent_at,
            cancellation,
            in_process,
            began_at: None,
            heartbeat_at: None,
        });
    }

    pub(super) fn get(&self, path: Path, attempt: u32) -> Option<&RunningAttempt> {
        self.0.iter().find(|running| (running.path, running.attempt) == (path, attempt))
    }

    fn get_mut(&mut self, path: Path, attempt: u32) -> Option<&mut RunningAttempt> {
        self.0.iter_mut().find(|running| (running.path, running.attempt) == (path, attempt))
    }

    /// Whether a worker or service is known to work on it.
    pub(super) fn has_begun(&self, path: Path, attempt: u32) -> bool {
        self.get(path, attempt).is_some_and(|running| running.began_at.is_some())
    }

    pub(super) fn is_cancelled(&self, path: Path, attempt: u32) -> bool {
        self.get(path, attempt).is_some_and(|running| running.cancellation.is_cancelled())
    }

    pub(super) fn any_in_process(&self) -> bool {
        self.0.iter().any(|running| running.in_process)
    }

    /// A worker reports the beginning.
    pub(super) fn began(&mut self, path: Path, attempt: u32, now: Time) {
        if let Some(running) = self.get_mut(path, attempt) {
            running.began_at = Some(now);
        }
    }

    /// A service has the task; it counts as begun, unless a beginning was reported.
    pub(super) fn delivered(&mut self, path: Path, attempt: u32, now: Time) {
        if let Some(running) = self.get_mut(path, attempt) {
            running.began_at = running.began_at.or(Some(now));
        }
    }

    /// A call that counted as begun did not arrive.
    pub(super) fn undelivered(&mut self, path: Path, attempt: u32) {
        if let Some(running) = self.get_mut(path, attempt) {
            running.began_at = None;
        }
    }

    pub(super) fn heartbeat(&mut self, path: Path, attempt: u32, now: Time) {
        if let Some(running) = self.get_mut(path, attempt) {
            running.heartbeat_at = Some(now);
        }
    }

    /// It is over, or was given back. When it had been sent, if it was known.
    pub(super) fn ended(&mut self, path: Path, attempt: u32) -> Option<Time> {
        let at =
            self.0.iter().position(|running| (running.path, running.attempt) == (path, attempt))?;
        Some(self.0.remove(at).sent_at)
    }

    /// Cancels the attempt. It continues if it ignores that, and its result still counts.
    pub(super) fn cancel(&self, path: Path, attempt: u32) {
        if let Some(running) = self.get(path, attempt) {
            running.cancellation.cancel();
        }
    }

    /// Cancels the attempts of a step; whether one of them runs in this process.
    pub(super) fn cancel_step(&self, path: Path) -> bool {
        let mut in_process = false;
        for running in self.0.iter().filter(|running| running.path == path) {
            running.cancellation.cancel();
            in_process |= running.in_process;
        }
        in_process
    }

    pub(super) fn cancel_all(&self) {
        self.0.iter().for_each(|running| running.cancellation.cancel());
    }

    /// The step has its result: no result of another attempt changes anything.
    pub(super) fn close_step(&mut self, path: Path) {
        self.cancel_step(path);
        self.forget_step(path);
    }

    /// Without cancelling them.
    pub(super) fn forget_step(&mut self, path: Path) {
        self.0.retain(|running| running.path != path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHARGE: u16 = 1;
    const SHIP: u16 = 2;

    fn running(of: &[(u16, u32)]) -> (RunningAttempts, Vec<Cancellation>) {
        let mut attempts = RunningAttempts::default();
        let tokens = of.iter().map(|(node, attempt)| {
            let token = Cancellation::default();
            attempts.dispatch(Path::new(*node), *attempt, Time(10), token.clone(), *node == CHARGE);
            token
        });
        let tokens = tokens.collect();
        (attempts, tokens)
    }

    #[test]
    fn a_new_attempt_takes_the_place_of_the_last_one_of_its_step() {
        let (attempts, tokens) = running(&[(CHARGE, 1), (SHIP, 1), (CHARGE, 2)]);
        assert!(attempts.get(Path::new(CHARGE), 1).is_none());
        assert!(attempts.get(Path::new(CHARGE), 2).is_some());
        assert!(attempts.get(Path::new(SHIP), 1).is_some());
        assert!(!tokens[0].is_cancelled(), "it may still succeed");
    }

    #[test]
    fn a_delivery_does_not_move_a_beginning_that_was_reported() {
        let (mut attempts, _) = running(&[(SHIP, 1)]);
        let path = Path::new(SHIP);
        assert!(!attempts.has_begun(path, 1));
        attempts.began(path, 1, Time(20));
        attempts.delivered(path, 1, Time(30));
        assert_eq!(attempts.get(path, 1).unwrap().began_at, Some(Time(20)));
        attempts.undelivered(path, 1);
        assert!(!attempts.has_begun(path, 1));
        attempts.delivered(path, 1, Time(40));
        assert_eq!(attempts.get(path, 1).unwrap().began_at, Some(Time(40)));
        attempts.heartbeat(path, 2, Time(50));
        assert_eq!(attempts.get(path, 1).unwrap().heartbeat_at, None, "of another attempt");
    }

    #[test]
    fn a_result_cancels_what_else_runs_of_its_step() {
        let (mut attempts, tokens) = running(&[(CHARGE, 1), (SHIP, 1)]);
        attempts.close_step(Path::new(CHARGE));
        assert!(tokens[0].is_cancelled() && !tokens[1].is_cancelled());
        assert!(!attempts.any_in_process());
        assert_eq!(attempts.ended(Path::new(CHARGE), 1), None);
        assert_eq!(attempts.ended(Path::new(SHIP), 1), Some(Time(10)));
        assert!(attempts.get(Path::new(SHIP), 1).is_none());
    }
}
