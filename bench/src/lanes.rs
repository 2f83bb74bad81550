//! Concurrent work: a number of lanes, each a task.

use std::future::Future;

use crate::Outcome;

/// Runs `lane(0)` to `lane(count - 1)` concurrently; their results in that order, or the first
/// error.
pub async fn concurrently<T, F>(count: usize, lane: impl FnMut(usize) -> F) -> Outcome<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let lanes: Vec<_> = (0..count).map(lane).map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(count);
    for lane in lanes {
        results.push(lane.await??);
    }
    Ok(results)
}
