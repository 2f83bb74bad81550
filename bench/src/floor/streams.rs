//! Remote steps over Redis Streams without Crux: the same entries to and from the same service on
//! the server that also has the rows; and, if it is to, the same calls of the script that appends.
//! What is read together is appended together; then the next tasks are added, and the completions
//! acknowledged and deleted.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::calls::Calls;
use super::remote::{Floored, Instance, Instances, Load};
use crate::Outcome;
use crate::amqp::{COMPLETIONS, TASKS};
use crate::streams::Line;

/// `calls` are those that append an instance's rows; without them nothing is appended.
pub fn run(url: &str, prefix: &str, load: Load, calls: Option<Calls>) -> Outcome<Floored> {
    if let Some(calls) = &calls
        && calls.len() != load.steps as usize + 1
    {
        return Err(format!(
            "an instance of {} steps has {} rows: the floor writes one for each",
            load.steps,
            calls.len()
        )
        .into());
    }
    crate::crux::runtime()?.block_on(async {
        let line = Line::open(url, prefix, COMPLETIONS, "floor").await?;
        dispatch(line, calls.map(Arc::new), load).await
    })
}

async fn dispatch(line: Line, calls: Option<Arc<Calls>>, load: Load) -> Outcome<Floored> {
    let mut instances = Instances::begin(load);
    let (mut reading, mut appending, mut sending) =
        (FuturesUnordered::new(), FuturesUnordered::new(), FuturesUnordered::new());
    appending.push(append(&line, calls.clone(), instances.first(), Vec::new()));
    while !(appending.is_empty() && sending.is_empty() && instances.is_empty()) {
        if reading.is_empty() {
            reading.push(line.read());
        }
        tokio::select! {
            Some(appended) = appending.next(), if !appending.is_empty() => {
                let (appended, ids): (Vec<Instance>, Vec<String>) = appended?;
                let (mut commands, mut started) = (Vec::with_capacity(appended.len() + 2), Vec::new());
                for instance in appended {
                    match instances.next(instance)? {
                        Some((id, body)) => commands.push(line.add(TASKS, &id, &body)),
                        None => started.extend(instances.start()),
                    }
                }
                if !ids.is_empty() {
                    commands.extend(line.settle(&ids));
                }
                sending.push(line.send(commands));
                if !started.is_empty() {
                    appending.push(append(&line, calls.clone(), started, Vec::new()));
                }
            }
            Some(sent) = sending.next(), if !sending.is_empty() => { sent?; }
            Some(entries) = reading.next() => {
                let entries = entries?;
                let (mut completed, mut ids) = (Vec::with_capacity(entries.len()), Vec::with_capacity(entries.len()));
                for (id, body) in entries {
                    completed.push(instances.completed(&body)?);
                    ids.push(id);
                }
                if !completed.is_empty() {
                    appending.push(append(&line, calls.clone(), completed, ids));
                }
            }
        }
    }
    Ok(instances.floored())
}

/// Ends when the rows that say it are written, if rows are appended. `ids` are the entries' that
/// said it.
fn append(
    line: &Line,
    calls: Option<Arc<Calls>>,
    instances: Vec<Instance>,
    ids: Vec<String>,
) -> impl Future<Output = Outcome<(Vec<Instance>, Vec<String>)>> + use<> {
    let command = |calls: &Arc<Calls>, instance: &Instance| {
        calls.command(instance.step as usize, usize::from(instance.id.partition()), &instance.text)
    };
    let writing = calls.map(|calls| {
        line.send(instances.iter().map(|instance| command(&calls, instance)).collect())
    });
    async move {
        if let Some(writing) = writing {
            writing.await?.iter().try_for_each(Calls::check)?;
        }
        Ok((instances, ids))
    }
}
