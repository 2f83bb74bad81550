//! Whether a service may be called now. One that turns a call away, or cannot be reached, is left
//! alone for a pause that belongs to the service: what waits meanwhile waits in its line, and its
//! own pauses do not grow. When the pause is over one call tries; if it gets through, all go on,
//! and if not, the pause is longer. A call that gets through in between — it was under way, or the
//! service turns away some tasks only — ends the pause, for then the service works.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The first pause; it doubles as long as nothing gets through.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Unless the service asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// At least so long between two calls to those that wait elsewhere: a service that turns away some
/// tasks for ever must not have them all back at every call that gets through.
const CALLS_APART: Duration = Duration::from_secs(10);

pub(crate) struct Gate {
    state: Mutex<State>,
    /// Those who wait look again.
    changed: Notify,
    waiting: AtomicUsize,
    /// Counts how often the service came back after more than one task had been turned away.
    back: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    closed_until: Option<Instant>,
    /// One call is under way to see whether the service is back.
    is_trying: bool,
    /// Counts closings: calls that were under way together close the gate once.
    closings: u64,
    /// Closings since the last call that got through, but for those by the same task again.
    in_a_row: u32,
    /// The task or message that was turned away last.
    last: u64,
    /// Why the last call did not get through.
    problem: Option<String>,
    /// Whether anything was ever sent to it.
    is_tried: bool,
    is_draining: bool,
    called_at: Option<Instant>,
}

/// Leave to call the service once. Its holder says how it went; if it says nothing, it is as if
/// there had been no call.
pub(crate) struct Pass<'g> {
    gate: &'g Gate,
    closings: u64,
    tries: bool,
    /// Whose call.
    of: u64,
}

/// What a gate says now.
enum Answer<'g> {
    Pass(Pass<'g>),
    /// Not before then, or before something changes.
    Wait(Option<Instant>),
    /// The process ends: nobody waits any more.
    Draining,
}

impl Gate {
    /// `back` hears when what waits elsewhere should come again.
    pub(crate) fn new(back: watch::Sender<u64>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), waiting: AtomicUsize::new(0), back }
    }

    /// Waits until the service may be called. `of` tells tasks and messages apart. `None`: the
    /// process ends.
    pub(crate) async fn enter(&self, of: u64) -> Option<Pass<'_>> {
        let mut count = None;
        loop {
            // Before the look, so that no change is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let until = match self.ask(of) {
                Answer::Pass(pass) => return Some(pass),
                Answer::Draining => return None,
                Answer::Wait(until) => until,
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

    fn ask(&self, of: u64) -> Answer<'_> {
        let mut state = self.lock();
        let tries = match state.closed_until {
            None => false,
            Some(_) if state.is_draining => return Answer::Draining,
            Some(until) if until > Instant::now() => return Answer::Wait(Some(until)),
            Some(_) if state.is_trying => return Answer::Wait(None),
            Some(_) => true,
        };
        state.is_trying |= tries;
        Answer::Pass(Pass { gate: self, closings: state.closings, tries, of })
    }

    /// Why nothing is sent to it now.
    pub(crate) fn closed(&self) -> Option<String> {
        let state = self.lock();
        let left = state.closed_until?.saturating_duration_since(Instant::now());
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

    /// Whoever waits is let go.
    pub(crate) fn drain(&self) {
        self.lock().is_draining = true;
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The service took the call. Whether that is new.
    pub(crate) fn got_through(self) -> bool {
        let mut state = self.gate.lock();
        let was_away = state.in_a_row > 1;
        let is_new = state.problem.take().is_some();
        state.closed_until = None;
        state.in_a_row = 0;
        state.is_tried = true;
        let now = Instant::now();
        let calls =
            was_away && state.called_at.is_none_or(|at| now.duration_since(at) >= CALLS_APART);
        if calls {
            state.called_at = Some(now);
        }
        drop(state);
        if is_new {
            self.gate.changed.notify_waiters();
        }
        if calls {
            self.gate.back.send_modify(|count| *count += 1);
        }
        is_new
    }

    /// The service did not take the call: it is left alone for as long as it said, or for a while.
    /// Whether the problem is another than before.
    pub(crate) fn turned_away(self, problem: &str, said: Option<Duration>) -> bool {
        let mut state = self.gate.lock();
        let now = Instant::now();
        if self.closings == state.closings {
            state.closings += 1;
            if state.in_a_row == 0 || state.last != self.of {
                state.in_a_row = state.in_a_row.saturating_add(1);
            }
            let doublings = state.in_a_row.saturating_sub(1).min(8);
            let pause = said.unwrap_or_else(|| (FIRST_PAUSE * (1 << doublings)).min(MAX_PAUSE));
            state.closed_until = Some(now + pause);
        } else if let (Some(until), Some(said)) = (state.closed_until, said) {
            state.closed_until = Some(until.max(now + said));
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
        let mut state = self.gate.lock();
        state.is_tried = true;
        state.in_a_row = 0;
        if state.closed_until.take().is_some() {
            self.gate.changed.notify_waiters();
        }
        let is_new = state.problem.as_deref() != Some(problem);
        if is_new {
            state.problem = Some(problem.to_owned());
        }
        is_new
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.tries {
            self.gate.lock().is_trying = false;
            self.gate.changed.notify_waiters();
        }
    }
}

/// Counts while somebody waits.
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
