//! What must hold at the end, whatever failed on the way.

use std::collections::{BTreeMap, BTreeSet};

use crux_runtime::id::InstanceId;
use crux_runtime::journal::{EntryType, Row};
use crux_runtime::store::{Record, Status, Store, Stored, memory::Memory};

use super::services::Ledger;
use super::world::Acknowledged;

pub async fn audit(
    store: &Memory,
    ledger: &Ledger,
    acknowledged: &Acknowledged,
) -> Result<(), String> {
    for (request, instance) in &acknowledged.starts {
        let record = store
            .record(*instance)
            .await
            .map_err(|e| e.to_string())?
            .ok_or("an acknowledged start is gone")?;
        let rows = store.rows(*instance, 0, 10_000).await.map_err(|e| e.to_string())?;
        one(*instance, &record, &rows, ledger).map_err(|problem| {
            let journal: Vec<&str> = rows.iter().map(|row| &*row.row).collect();
            format!(
                "{request} ({instance}, {:?}): {problem}\n{}",
                record.status,
                journal.join("\n")
            )
        })?;
    }
    for instance in &acknowledged.cancels {
        let record = store
            .record(*instance)
            .await
            .map_err(|e| e.to_string())?
            .ok_or("a cancelled instance is gone")?;
        if !matches!(record.status, Status::Cancelled | Status::Parked) {
            return Err(format!(
                "the cancellation of {instance} was acknowledged, but it is {:?}",
                record.status
            ));
        }
    }
    Ok(())
}

fn one(
    instance: InstanceId,
    record: &Record,
    rows: &[Stored],
    ledger: &Ledger,
) -> Result<(), String> {
    let mut completed: BTreeMap<String, u32> = BTreeMap::new();
    let mut attempts: BTreeSet<(String, u32)> = BTreeSet::new();
    let mut surely_failed: BTreeSet<(String, u32)> = BTreeSet::new();
    let mut ended = 0;
    let mut undone = false;
    for (n, stored) in (1..).zip(rows) {
        if stored.seq != n {
            return Err(format!("row {} stands where row {n} should", stored.seq));
        }
        let row = Row::parse(&stored.row).map_err(|e| e.to_string())?;
        for entry in &row.events {
            let path = entry.path.clone().unwrap_or_default();
            match entry.kind {
                EntryType::StepCompleted => *completed.entry(path).or_default() += 1,
                EntryType::StepFailed if entry.outcome.is_none() => {
                    _ = surely_failed.insert((path, entry.attempt.unwrap_or(0)))
                }
                _ => {}
            }
        }
        for entry in &row.out {
            match entry.kind {
                EntryType::StepStarted => {
                    let path = entry.path.clone().unwrap_or_default();
                    undone |= path == "reserve/undo";
                    attempts.insert((path, entry.attempt.unwrap_or(0)));
                }
                EntryType::WorkflowCompleted
                | EntryType::WorkflowFailed
                | EntryType::WorkflowCancelled => ended += 1,
                _ => {}
            }
        }
    }
    if let Some((path, times)) = completed.iter().find(|(_, times)| **times > 1) {
        return Err(format!("{path} is recorded as completed {times} times"));
    }
    if record.status != Status::Parked && ended != 1 {
        return Err(format!("it ended {ended} times"));
    }
    let reservations: Vec<&(String, u32)> =
        attempts.iter().filter(|(path, _)| path == "reserve").collect();
    if reservations.iter().rev().skip(1).any(|attempt| !surely_failed.contains(attempt)) {
        return Err(
            "reserve has effect `once` and was sent again although it may have happened".to_owned()
        );
    }
    if let Some(task) = reservations
        .iter()
        .map(|(path, attempt)| format!("{instance}/{path}/{attempt}"))
        .find(|task| ledger.taken.get(task).is_some_and(|times| *times > 1))
    {
        return Err(format!(
            "{task} has effect `once` and was handed out again although it may have arrived"
        ));
    }
    // Nothing was done that the journal does not know of: every attempt that a service saw had been
    // written down before.
    let seen = ledger.done.keys().filter_map(|task| task.strip_prefix(&format!("{instance}/")));
    for task in seen {
        let (path, attempt) = task.rsplit_once('/').ok_or("a task id without attempt")?;
        let attempt: u32 = attempt.parse().map_err(|_| "a task id without attempt")?;
        if !attempts.contains(&(path.to_owned(), attempt)) {
            return Err(format!(
                "{task} was done, and the journal does not know of it: an effect before its append"
            ));
        }
    }
    let reserved = completed.contains_key("reserve");
    match record.status {
        Status::Completed if undone => return Err("it completed and was undone".to_owned()),
        Status::Failed | Status::Cancelled if reserved && !undone => {
            return Err("it failed and its reservation was not undone".to_owned());
        }
        _ => {}
    }
    hooks(instance, record, ledger)
}

fn hooks(instance: InstanceId, record: &Record, ledger: &Ledger) -> Result<(), String> {
    let hook =
        |key| ledger.published.get(&(instance.to_string(), key)).map_or(&[][..], Vec::as_slice);
    let expected = match record.status {
        Status::Completed => vec!["workflow.start", "workflow.completed"],
        Status::Failed | Status::Cancelled => vec!["workflow.start", "workflow.failed"],
        _ => vec!["workflow.start"],
    };
    for key in ["workflow.start", "workflow.completed", "workflow.failed"] {
        let ids: BTreeSet<&String> = hook(key).iter().collect();
        match (expected.contains(&key), ids.len()) {
            (true, 1) | (false, 0) => {}
            (true, 0) => return Err(format!("the hook {key} never arrived")),
            (_, n) => return Err(format!("the hook {key} arrived under {n} ids")),
        }
    }
    Ok(())
}
