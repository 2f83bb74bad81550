//! `GET /api/v1/workflow/list`: instances, newest first, by workflow and status, in pages.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Query;
use crate::engine::api::Error;
use crate::ingress::problem::{Kind, Problem};
use crate::ingress::{Shared, requests};
use crate::store::{Filter, Record, Status};
use crate::suggest::hint;

const PAGE: usize = 50;
const LARGEST_PAGE: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    workflow: Option<String>,
    status: Option<String>,
    /// The `next` of the page before.
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct Page {
    workflows: Vec<Row>,
    /// What to ask for `after` to get the next page; `""`: this was the last.
    next: String,
}

#[derive(Serialize)]
struct Row {
    workflow_id: String,
    workflow: String,
    version: u32,
    status: &'static str,
    start_time: String,
    end_time: String,
    owner: String,
}

pub(super) async fn list(
    State(ingress): State<Shared>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        let text = format!("a page has 1 to {LARGEST_PAGE} instances, not {limit}");
        return Err(Problem::new(Kind::InvalidRequest, text).at("limit"));
    }
    let after = query.after.filter(|after| !after.is_empty());
    let workflow = query.workflow.filter(|workflow| !workflow.is_empty());
    let filter = Filter {
        workflow: workflow.clone(),
        status: query
            .status
            .filter(|status| !status.is_empty())
            .as_deref()
            .map(status)
            .transpose()?,
        owner: None,
        after: after
            .as_deref()
            .map(requests::instance_id)
            .transpose()
            .map_err(|problem| problem.at("after"))?,
        // One more, to know whether there is a next page.
        limit: limit + 1,
    };
    let mut records = ingress.engine.store().list(filter).await?;
    if records.is_empty()
        && let Some(workflow) = workflow
    {
        check_known(&ingress, workflow)?;
    }
    let has_more = records.len() > limit;
    records.truncate(limit);
    let next = records
        .last()
        .filter(|_| has_more)
        .map_or(String::new(), |record| record.instance.to_string());
    Ok(Json(Page { workflows: records.into_iter().map(row).collect(), next }))
}

/// The store may hold instances of workflows that this binary does not have; a name without either
/// is misspelt.
fn check_known(ingress: &Shared, name: String) -> Result<(), Problem> {
    let names = ingress.engine.app().workflows.iter().map(|workflow| workflow.definition.workflow);
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    Err(Problem::from(Error::UnknownWorkflow { hint: hint(&name, names), name }).at("workflow"))
}

fn row(record: Record) -> Row {
    Row {
        workflow_id: record.instance.to_string(),
        workflow: record.workflow,
        version: record.version,
        status: record.status.word(),
        start_time: record.started_at.to_string(),
        end_time: record.ended_at.map_or(String::new(), |at| at.to_string()),
        owner: record.owner,
    }
}

fn status(word: &str) -> Result<Status, Problem> {
    if let Some(status) = Status::ALL.into_iter().find(|status| status.word() == word) {
        return Ok(status);
    }
    let shown: String = word.chars().take(80).collect();
    let text = format!(
        "there is no status `{shown}`{}",
        hint(word, Status::ALL.map(Status::word).into_iter())
    );
    Err(Problem::new(Kind::InvalidRequest, text).at("status"))
}
