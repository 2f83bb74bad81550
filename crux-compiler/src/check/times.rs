//! Times that contradict each other, and how long a workflow can take at most. Where something has
//! no bound, the reason is a value too: `crux graph` prints it.

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{Catch, Node, Policy, Program, SleepUntil, Verb};
use crate::model::{Retry, Timeout, Undo, Verb as Written};
use crate::resolve::uses::each_step;
use crate::resolve::{Contract, Folder, policy};
use crate::source::{Span, Spanned};
use crate::units::format_duration;

/// How long something takes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    Ms(u64),
    /// The path of the step without a bound, and why it has none.
    Unbounded {
        path: String,
        why: &'static str,
    },
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ms(ms) => write!(f, "at most {}", format_duration(*ms)),
            Self::Unbounded { path, why } => write!(f, "unbounded because `{path}` {why}"),
        }
    }
}

/// The times of each task.
pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    for workflow in folder.sources.iter().filter_map(|file| file.workflow.as_ref()) {
        each_step(&workflow.steps, &mut |step| {
            let Written::Work(work) = &step.verb else { return };
            task(folder, &work.type_name, work.retry.as_ref(), work.timeout.as_ref(), sink);
            if let Some(Undo::By(undo)) = &work.undo {
                task(folder, &undo.type_name, undo.retry.as_ref(), undo.timeout.as_ref(), sink);
            }
        });
    }
    for contract in folder.contracts.values().filter(|contract| contract.shared) {
        of_policy(contract, contract.retry, contract.timeout, contract.span, sink);
    }
}

fn task(
    folder: &Folder<'_>,
    name: &Spanned<String>,
    retry: Option<&Retry>,
    timeout: Option<&Timeout>,
    sink: &mut Sink,
) {
    // Without its own times a step has those of its contract, which are looked at there.
    let Some(contract) = folder.contracts.get(name.value.as_str()) else { return };
    if retry.is_some() || timeout.is_some() {
        of_policy(contract, retry, timeout, name.span, sink);
    }
}

fn of_policy(
    contract: &Contract<'_>,
    retry: Option<&Retry>,
    timeout: Option<&Timeout>,
    name: Span,
    sink: &mut Sink,
) {
    let policy = policy::merge(contract, retry, timeout);
    if let Some(max) = policy.max_backoff_ms.filter(|max| *max < policy.backoff_ms) {
        let span = retry
            .and_then(|retry| retry.max_ms.or(retry.backoff_ms))
            .map_or(name, |time| time.span);
        let (max, backoff) = (format_duration(max), format_duration(policy.backoff_ms));
        let diagnostic = Diagnostic::error(
            codes::TIMEOUT_ORDER,
            span,
            format!("`max: {max}` is below `backoff: {backoff}`"),
        );
        sink.push(diagnostic.help("back-offs grow from `backoff` to `max`"));
    }
    if let Some(timeout) = timeout
        && !contract.reports_started
    {
        for (part, key) in [(timeout.queue_ms, "queue"), (timeout.heartbeat_ms, "heartbeat")] {
            let Some(part) = part else { continue };
            let message = format!(
                "`{key}` needs a worker that says when it starts, and this service does not"
            );
            let diagnostic = Diagnostic::error(codes::TIMEOUT_NEEDS_START, part.span, message)
                .other(contract.span, "its contract");
            sink.push(diagnostic.help("add `reports: started` to the contract if the service does, or use `run` and `total`"));
        }
    }
    let place =
        timeout.map(|timeout| timeout.span).or(retry.map(|retry| retry.span)).unwrap_or(name);
    let mut below = |inner: Option<u64>, outer: Option<u64>, inner_key: &str, outer_key: &str| {
        if let (Some(inner), Some(outer)) = (inner, outer)
            && inner > outer
        {
            let message = format!(
                "`{inner_key}: {}` is longer than `{outer_key}: {}`",
                format_duration(inner),
                format_duration(outer)
            );
            sink.push(
                Diagnostic::error(codes::TIMEOUT_ORDER, place, message)
                    .help(format!("`{inner_key}` is a part of `{outer_key}`")),
            );
        }
    };
    below(policy.run_ms, policy.total_ms, "run", "total");
    below(policy.queue_ms, policy.total_ms, "queue", "total");
    below(policy.heartbeat_ms, policy.run_ms, "heartbeat", "run");
    if let (Some(total), Some(needed)) = (policy.total_ms, attempts(&policy))
        && needed > total
        && policy.attempts > 1
        && policy.run_ms <= Some(total)
    {
        let (attempts, needed, total) =
            (policy.attempts, format_duration(needed), format_duration(total));
        let message = format!(
            "{attempts} attempts can take {needed}, and `total` is {total}: the last ones may never be made"
        );
        sink.push(
            Diagnostic::warning(codes::TIMES_EXCEED_TOTAL, place, message)
                .help("raise `total`, or make fewer or shorter attempts"),
        );
    }
}

/// All attempts with their longest back-offs, if each attempt has a bound.
fn attempts(policy: &Policy) -> Option<u64> {
    let attempt = policy.run_ms?.saturating_add(policy.queue_ms.unwrap_or(0));
    let mut all = attempt.saturating_mul(u64::from(policy.attempts));
    let mut backoff = policy.backoff_ms;
    for made in 1..policy.attempts {
        let limited = policy.max_backoff_ms.map_or(backoff, |max| backoff.min(max));
        let next = backoff.saturating_mul(u64::from(policy.factor_milli)) / 1000;
        if next == backoff || policy.max_backoff_ms.is_some_and(|max| backoff >= max) {
            // From here on all are equal; `attempts` may be billions.
            let left = u64::from(policy.attempts - made);
            return Some(all.saturating_add(limited.saturating_mul(left)));
        }
        all = all.saturating_add(limited);
        if all == u64::MAX {
            break;
        }
        backoff = next;
    }
    Some(all)
}

/// Warns where the steps may take longer than the workflow's `deadline`.
pub fn against_deadline(folder: &Folder<'_>, program: &Program, sink: &mut Sink) {
    for workflow in &program.workflows {
        let written = folder
            .sources
            .iter()
            .filter_map(|file| file.workflow.as_ref())
            .find(|written| written.name.value == workflow.name);
        let (Some(written), Bound::Ms(needed)) = (written, bound(&workflow.steps)) else {
            continue;
        };
        let Some(deadline) = written.deadline_ms.filter(|deadline| deadline.value < needed) else {
            continue;
        };
        let message = format!(
            "the steps can take {}, and `deadline` is {}",
            format_duration(needed),
            format_duration(deadline.value)
        );
        let diagnostic = Diagnostic::warning(codes::TIMES_EXCEED_DEADLINE, deadline.span, message);
        sink.push(diagnostic.help("raise `deadline`, or shorten timeouts and retries"));
    }
}

/// How long steps take one after the other.
pub fn bound(steps: &[Node]) -> Bound {
    sum(steps.iter().map(of_node))
}

fn of_node(node: &Node) -> Bound {
    let unbounded = |why| Bound::Unbounded { path: node.path.clone(), why };
    let cut = |inner: Bound, timeout_ms: &Option<u64>| match (inner, timeout_ms) {
        (Bound::Ms(inner), Some(timeout)) => Bound::Ms(inner.min(*timeout)),
        (Bound::Unbounded { .. }, Some(timeout)) => Bound::Ms(*timeout),
        (inner, None) => inner,
    };
    let verb = match &node.verb {
        Verb::Task(task) => match (task.policy.total_ms, attempts(&task.policy)) {
            (Some(total), Some(needed)) => Bound::Ms(total.min(needed)),
            (Some(total), None) => Bound::Ms(total),
            (None, Some(needed)) => Bound::Ms(needed),
            (None, None) => unbounded("has no `timeout`"),
        },
        Verb::TaskThen { task, steps } => sum([of_node(task), bound(steps)]),
        Verb::Group { steps, timeout_ms } => cut(bound(steps), timeout_ms),
        Verb::Parallel { branches, timeout_ms } => {
            cut(longest(branches.iter().map(|branch| bound(&branch.steps))), timeout_ms)
        }
        Verb::Switch { branches } => longest(branches.iter().map(|case| bound(&case.steps))),
        Verb::Each { timeout_ms, .. } => {
            cut(unbounded("goes over a list of any length"), timeout_ms)
        }
        Verb::Repeat { max, every_ms, steps, timeout_ms, .. } => {
            let rounds = match bound(steps) {
                Bound::Ms(round) => {
                    let pauses = every_ms.saturating_mul(u64::from(max.saturating_sub(1)));
                    Bound::Ms(round.saturating_mul(u64::from(*max)).saturating_add(pauses))
                }
                unbounded => unbounded,
            };
            cut(rounds, timeout_ms)
        }
        Verb::Wait { timeout_ms, .. } => cut(unbounded("waits without a `timeout`"), timeout_ms),
        Verb::Sleep(SleepUntil::For { ms }) => Bound::Ms(*ms),
        Verb::Sleep(SleepUntil::Until(_)) => unbounded("sleeps until a time that is computed"),
        Verb::Emit { .. } | Verb::Fail { .. } => Bound::Ms(0),
    };
    // In the worst case the step takes all its time, then fails, then a handler runs.
    let handler = longest(node.catch.iter().map(|Catch { steps, .. }| bound(steps)));
    sum([verb, handler])
}

fn sum(parts: impl IntoIterator<Item = Bound>) -> Bound {
    let mut all = 0u64;
    for part in parts {
        match part {
            Bound::Ms(ms) => all = all.saturating_add(ms),
            unbounded => return unbounded,
        }
    }
    Bound::Ms(all)
}

fn longest(parts: impl IntoIterator<Item = Bound>) -> Bound {
    let mut most = 0u64;
    for part in parts {
        match part {
            Bound::Ms(ms) => most = most.max(ms),
            unbounded => return unbounded,
        }
    }
    Bound::Ms(most)
}
