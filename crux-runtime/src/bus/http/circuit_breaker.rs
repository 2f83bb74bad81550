//! A circuit breaker for each service. A service that refuses a call or cannot be reached opens it:
//! nothing is sent for a delay, tasks wait in the service's queue, and their own retry delays do
//! not grow. After the delay one call probes the service; if it succeeds the breaker closes,
//! otherwise the next delay is longer. A call that succeeds in between — it was in flight, or the
//! service refuses only some tasks — closes the breaker too: the service works.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The first delay; it doubles as long as nothing gets through.
const OPEN_DELAY_MIN: Duration = Duration::from_secs(1);
/// Unless the service asks for more.
const OPEN_DELAY_MAX: Duration = Duration::from_secs(10);
/// Minimum time between two calls for tasks that wait elsewhere: a service that turns away some
/// tasks indefinitely must not have them all back at every call that gets through.
const RECOVERY_NOTICE_INTERVAL: Duration = Duration::from_secs(10);

/// Admits calls to one service. Example: `bank` answers 503; the breaker opens for a second, the
/// tasks in the queue of `bank` wait, then one of them probes it. A second 503 opens it for two
/// seconds, a 200 closes it and the waiting tasks follow.
pub(crate) struct CircuitBreaker {
    state: Mutex<State>,
    /// Those who wait look again.
    changed: Notify,
    waiting: AtomicUsize,
    /// Counts how often the service came back after more than one task had been turned away.
    back: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    open_until: Option<Instant>,
    /// One call is in flight to probe the service.
    is_half_open: bool,
    /// Counts openings: calls that were in flight together open the breaker once.
    openings: u64,
    /// Openings since the last call that got through, but for those by the same task again.
    failures: u32,
    /// The task or message that was turned away last.
    last: u64,
    /// Why the last call did not get through.
    problem: Option<String>,
    /// Whether anything was ever sent to it.
    is_tried: bool,
    is_draining: bool,
    called_at: Option<Instant>,
}

/// Permission for one call. Its holder reports the result; a dropped permit counts as no call.
pub(crate) struct CallPermit<'g> {
    breaker: &'g CircuitBreaker,
    openings: u64,
    is_probe: bool,
    /// Whose call.
    of: u64,
}

/// Whether a call may be made now.
enum Admission<'g> {
    Permit(CallPermit<'g>),
    /// Not before then, or before something changes.
    Wait(Option<Instant>),
    /// The receiver is dropped only when the process ends.
    Draining,
}

impl CircuitBreaker {
    /// `back` receives the time at which tasks that wait elsewhere should be sent again.
    pub(crate) fn new(back: watch::Sender<u64>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), waiting: AtomicUsize::new(0), back }
    }

    /// Waits until the service may be called. `of` tells tasks and messages apart. `None`: the
    /// process ends.
    pub(crate) async fn enter(&self, of: u64) -> Option<CallPermit<'_>> {
        let mut count = None;
        loop {
            // Before the look, so that no change is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = match self.ask(of) {
                Admission::Permit(pass) => return Some(pass),
                Admission::Draining => return None,
                Admission::Wait(until) => until,
            };
            count.get_or_insert_with(|| Waiting::new(&self.waiting));
            match until {
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    fn ask(&self, of: u64) -> Admission<'_> {
        let mut state = self.lock();
        let is_probe = match state.open_until {
            None => false,
            Some(_) if state.is_draining => return Admission::Draining,
            Some(until) if until > Instant::now() => return Admission::Wait(Some(until)),
            Some(_) if state.is_half_open => return Admission::Wait(None),
            Some(_) => true,
        };
        state.is_half_open |= is_probe;
        Admission::Permit(CallPermit { breaker: self, openings: state.openings, is_probe, of })
    }

    /// Why nothing is sent to it now.
    pub(crate) fn open_reason(&self) -> Option<String> {
        let state = self.lock();
        let left = state.open_until?.saturating_duration_since(Instant::now());
        let problem = state.problem.as_deref().unwrap_or_default();
        Some(match left.as_millis().div_ceil(1000) {
            0 => format!("{problem}; it is being tried again"),
            seconds => format!("{problem}; it is left alone for {seconds} s"),
        })
    }

    /// Why the last call did not get through.
    pub(crate) fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    pub(crate) fn is_tried(&self) -> bool {
        self.lock().is_tried
    }

    /// How many wait to be let through.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Lets everything that waits go on.
    pub(crate) fn drain(&self) {
        self.lock().is_draining = true;
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallPermit<'_> {
    /// The service took the call. Whether that is new.
    pub(crate) fn got_through(self) -> bool {
        let mut state = self.breaker.lock();
        let was_away = state.failures > 1;
        let is_new = state.problem.take().is_some();
        state.open_until = None;
        state.failures = 0;
        state.is_tried = true;
        let now = Instant::now();
        let calls = was_away
            && state.called_at.is_none_or(|at| now.duration_since(at) >= RECOVERY_NOTICE_INTERVAL);
        if calls {
            state.called_at = Some(now);
        }
        drop(state);
        if is_new {
            self.breaker.changed.notify_waiters();
        }
        if calls {
            self.breaker.back.send_modify(|count| *count += 1);
        }
        is_new
    }

    /// The service did not take the call: it is left alone for as long as it said, or for a while.
    /// Whether the problem is another than before.
    pub(crate) fn turned_away(self, problem: &str, said: Option<Duration>) -> bool {
        let mut state = self.breaker.lock();
        let now = Instant::now();
        if self.openings == state.openings {
            state.openings += 1;
            if state.failures == 0 || state.last != self.of {
                state.failures = state.failures.saturating_add(1);
            }
            let doublings = state.failures.saturating_sub(1).min(8);
            let pause =
                said.unwrap_or_else(|| (OPEN_DELAY_MIN * (1 << doublings)).min(OPEN_DELAY_MAX));
            state.open_until = Some(now + pause);
        } else if let (Some(until), Some(said)) = (state.open_until, said) {
            state.open_until = Some(until.max(now + said));
        }
        state.last = self.of;
        state.is_tried = true;
        let is_new = state.problem.as_deref() != Some(problem);
        if is_new {
            state.problem = Some(problem.to_owned());
        }
        is_new
    }

    /// The service works, but did not do what it was asked.
    pub(crate) fn failed_alone(self, problem: &str) -> bool {
        let mut state = self.breaker.lock();
        state.is_tried = true;
        state.failures = 0;
        if state.open_until.take().is_some() {
            self.breaker.changed.notify_waiters();
        }
        let is_new = state.problem.as_deref() != Some(problem);
        if is_new {
            state.problem = Some(problem.to_owned());
        }
        is_new
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.lock().is_half_open = false;
            self.breaker.changed.notify_waiters();
        }
    }
}

/// Counts the calls that wait.
struct Waiting<'g>(&'g AtomicUsize);

impl<'g> Waiting<'g> {
    fn new(count: &'g AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
