//! Lists of instances, newest first, from the indexes by time, status, workflow and owner that each
//! tag has.

use std::collections::BTreeMap;

use super::Shared;
use super::error::unreadable;
use super::index::{Order, Range, merge_all};
use super::read::readable_records;
use crate::id::InstanceId;
use crate::store::{Count, Error, Filter, InUse, Record, Status};

pub(super) async fn list(shared: &Shared, filter: &Filter) -> Result<Vec<Record>, Error> {
    let keys = keys(shared, filter);
    let mut page: Vec<Record> = Vec::new();
    let mut after = filter.after;
    while page.len() < filter.limit {
        // Some that are read may not belong here: by the rest of the filter, or because they have
        // moved on meanwhile.
        let limit = (filter.limit - page.len()).clamp(32, 4096);
        let range = Range {
            order: Order::Falling,
            after: after.map(|id| id.to_string()),
            below: None,
            limit,
        };
        let entries = merge_all(shared, &keys, &range).await?;
        let ended = entries.len() < limit;
        let mut ids: Vec<InstanceId> = entries
            .iter()
            .map(|(_, entry)| entry.parse())
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("an index"))?;
        ids.dedup();
        after = ids.last().copied();
        page.extend(
            readable_records(shared, &ids)
                .await?
                .into_iter()
                .filter(|record| matches(filter, record)),
        );
        if ended {
            break;
        }
    }
    page.truncate(filter.limit);
    Ok(page)
}

/// Page by page, so that other commands need not wait.
pub(super) async fn in_use(shared: &Shared) -> Result<Vec<InUse>, Error> {
    const PAGE: usize = 1000;
    let mut counts: BTreeMap<(String, u32, String), u64> = BTreeMap::new();
    for status in Status::ALL.into_iter().filter(|status| !status.is_ended()) {
        let mut filter = Filter { status: Some(status), limit: PAGE, ..Filter::default() };
        loop {
            let page = list(shared, &filter).await?;
            let is_full = page.len() == PAGE;
            filter.after = page.last().map(|record| record.instance);
            for record in page {
                *counts.entry((record.workflow, record.version, record.definition)).or_default() +=
                    1;
            }
            if !is_full {
                break;
            }
        }
    }
    let of = |((workflow, version, definition), instances)| InUse {
        workflow,
        version,
        definition,
        instances,
    };
    Ok(counts.into_iter().map(of).collect())
}

/// From the sizes of indexes: nothing is read of instances.
pub(super) async fn count(shared: &Shared, workflows: &[String]) -> Result<Vec<Count>, Error> {
    let mut counts: BTreeMap<(&String, Status), u64> = BTreeMap::new();
    let places: Vec<(&String, Status)> = workflows
        .iter()
        .flat_map(|workflow| Status::open().map(move |status| (workflow, status)))
        .collect();
    let of = |base: &String| {
        let base = base.clone();
        places.iter().map(move |(workflow, status)| {
            let mut command = redis::cmd("ZCARD");
            command.arg(format!("{base}:workflow:{workflow}:{}", status.word()));
            command
        })
    };
    for base in shared.keys.all() {
        let sizes = shared.link.ask_all(of(base).collect()).await?;
        for (place, size) in places.iter().zip(sizes) {
            let size: u64 =
                redis::from_redis_value(size).map_err(|_| unreadable("the size of an index"))?;
            *counts.entry(*place).or_default() += size;
        }
    }
    let counts = counts.into_iter().filter(|(_, instances)| *instances > 0);
    let of = |((workflow, status), instances): ((&String, Status), u64)| Count {
        workflow: workflow.clone(),
        status,
        instances,
    };
    Ok(counts.map(of).collect())
}

/// Those that say most, in every tag.
fn keys(shared: &Shared, filter: &Filter) -> Vec<String> {
    let statuses = || {
        Status::ALL
            .into_iter()
            .filter(|status| filter.status.is_none_or(|wanted| wanted == *status))
    };
    let indexes: Vec<String> = match filter {
        // What has completed is most of all: there the owner says more.
        Filter { owner: Some(owner), status: None | Some(Status::Completed), .. }
            if !owner.is_empty() =>
        {
            vec![format!("owner:{owner}")]
        }
        Filter { workflow: Some(workflow), .. } => {
            statuses().map(|status| format!("workflow:{workflow}:{}", status.word())).collect()
        }
        Filter { status: Some(status), .. } => vec![format!("status:{}", status.word())],
        _ => vec!["all".to_owned()],
    };
    shared
        .keys
        .all()
        .iter()
        .flat_map(|base| indexes.iter().map(move |index| format!("{base}:{index}")))
        .collect()
}

fn matches(filter: &Filter, record: &Record) -> bool {
    let Filter { workflow, status, owner, after: _, limit: _ } = filter;
    workflow.as_ref().is_none_or(|workflow| *workflow == record.workflow)
        && status.is_none_or(|status| status == record.status)
        && owner.as_ref().is_none_or(|owner| *owner == record.owner)
}
