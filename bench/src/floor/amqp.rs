//! Remote steps over RabbitMQ without Crux: the same messages to and from the same service, with
//! the same confirms and acknowledgements; and, if it is to, the same rows in SQLite. A completion
//! is acknowledged when its row is durable; only then the next task goes out. One task that owns
//! everything.

use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::committer::Committer;
use super::remote::{Floored, Instance, Instances, Load};
use crate::Outcome;
use crate::amqp::{ACK_EVERY, Acks, COMPLETIONS, Line, TASKS, properties};

/// `rows` are the texts of an instance's rows and the folder of their database; without them
/// nothing is appended.
pub fn run(
    url: &str,
    exchange: &str,
    load: Load,
    rows: Option<(&[String], &Path)>,
) -> Outcome<Floored> {
    let (appending, committing) = match rows {
        None => (None, None),
        Some((rows, _)) if rows.len() != load.steps as usize + 1 => {
            return Err(format!(
                "an instance of {} steps has {} rows: the floor writes one for each",
                load.steps,
                rows.len()
            )
            .into());
        }
        Some((rows, folder)) => {
            let (committer, committing) = Committer::begin(&folder.join("floor-remote.db"))?;
            (Some((committer, rows.to_vec().into())), Some(committing))
        }
    };
    let floored = crate::crux::runtime()?.block_on(async {
        let line = Line::open(url, exchange).await?;
        let completions = line.consume(&format!("{exchange}.completions"), COMPLETIONS).await?;
        dispatch(line, completions, appending, load).await
    });
    committing.map_or(Ok(()), |committing| committing.end())?;
    floored
}

/// Where the rows go, and what they say.
type Appending = (Committer, Arc<[String]>);

async fn dispatch(
    line: Line,
    mut completions: lapin::Consumer,
    rows: Option<Appending>,
    load: Load,
) -> Outcome<Floored> {
    let mut instances = Instances::begin(load);
    let mut acks = Acks::default();
    let (mut appending, mut publishing) = (FuturesUnordered::new(), FuturesUnordered::new());
    for instance in instances.first() {
        appending.push(append(rows.clone(), instance, None));
    }
    let mut tick = tokio::time::interval(ACK_EVERY);
    while !(appending.is_empty() && instances.is_empty()) {
        tokio::select! {
            Some(appended) = appending.next(), if !appending.is_empty() => {
                let (instance, tag) = appended?;
                if let Some(tag) = tag {
                    acks.done(tag);
                }
                if let Some((id, body)) = instances.next(instance)? {
                    let properties = properties().with_app_id("floor".into()).with_message_id(id.as_str().into());
                    publishing.push(line.publish(TASKS, body, properties));
                } else if let Some(instance) = instances.start() {
                    appending.push(append(rows.clone(), instance, None));
                }
                if acks.is_group() {
                    line.acknowledge(&mut acks).await?;
                }
            }
            Some(published) = publishing.next(), if !publishing.is_empty() => published?,
            delivery = completions.next() => {
                let delivery = delivery.ok_or("the broker gives no more completions")??;
                appending.push(append(rows.clone(), instances.completed(&delivery.data)?, Some(delivery.delivery_tag)));
            }
            _ = tick.tick(), if !acks.is_empty() => line.acknowledge(&mut acks).await?,
        }
    }
    let floored = instances.floored();
    line.acknowledge(&mut acks).await?;
    Ok(floored)
}

/// Ends when the row that says it is durable, if rows are appended. `tag` is the delivery's that
/// said it.
async fn append(
    rows: Option<Appending>,
    mut instance: Instance,
    tag: Option<u64>,
) -> Outcome<(Instance, Option<u64>)> {
    if let Some((committer, rows)) = rows {
        let text = rows.get(instance.step as usize).cloned().unwrap_or_default();
        let row = committer.append(instance.id.0, instance.step + 1, instance.prev, text).await;
        instance.prev = row.ok_or("the floor's committer has ended")?;
    }
    Ok((instance, tag))
}
