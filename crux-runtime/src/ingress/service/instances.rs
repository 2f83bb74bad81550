//! Queries about instances and commands to them.

use super::{Error, Service, Snapshot};
use crate::engine::api;
use crate::engine::api::Command;
use crate::id::InstanceId;
use crate::ingress::caller::{Caller, Visible};
use crate::ingress::operations::Operation;
use crate::ingress::problem::{Kind, Problem};
use crate::journal::Row;
use crate::store::{Filter, Record, Seq, Status};
use crate::suggest::hint;

const LIST_PAGE: usize = 50;
const LIST_PAGE_MAX: usize = 500;
/// Reads of the store for one page: beyond it a page is shorter than it might be.
const LIST_READS_MAX: usize = 20;
const HISTORY_PAGE: usize = 100;
const HISTORY_PAGE_MAX: usize = 1000;

/// Which instances to list, newest first.
#[derive(Debug, Default)]
pub(crate) struct ListRequest {
    pub(crate) workflow: Option<String>,
    pub(crate) status: Option<Status>,
    /// The [`InstancePage::next`] of the page before.
    pub(crate) after: Option<InstanceId>,
    pub(crate) limit: Option<usize>,
}

pub(crate) struct InstancePage {
    pub(crate) records: Vec<Record>,
    /// The value of `after` for the next page; `None`: this was the last.
    pub(crate) next: Option<InstanceId>,
}

pub(crate) struct HistoryPage {
    pub(crate) rows: Vec<HistoryRow>,
    /// The value of `after` for the next page; 0: this was the last.
    pub(crate) next: Seq,
}

/// A journal row, with secrets masked.
pub(crate) struct HistoryRow {
    pub(crate) seq: Seq,
    pub(crate) row: Row,
}

impl Service {
    /// An instance as it is now.
    pub(crate) async fn status(
        &self,
        caller: &Caller,
        instance: InstanceId,
    ) -> Result<Snapshot, Problem> {
        let row = Self::authorize(caller, Operation::Status)?;
        self.read(caller, row, instance).await
    }

    /// Instances, newest first, in pages.
    pub(crate) async fn list(
        &self,
        caller: &Caller,
        request: ListRequest,
    ) -> Result<InstancePage, Problem> {
        let row = Self::authorize(caller, Operation::List)?;
        let limit = page("instances", request.limit, LIST_PAGE, LIST_PAGE_MAX)?;
        let nothing = InstancePage { records: Vec::new(), next: None };
        let owner = match caller.visible(row) {
            Visible::All => None,
            Visible::OwnedBy(client_id) => Some(client_id.to_owned()),
            Visible::None => return Ok(nothing),
        };
        let ListRequest { workflow, status, mut after, .. } = request;
        if workflow.as_deref().is_some_and(|workflow| !caller.has_workflow(workflow)) {
            return Ok(nothing);
        }
        // The store can look for one workflow; of a scope with more, the others are left out here.
        let wanted = workflow.as_deref().or(caller.only_workflow()).map(str::to_owned);
        let mut found: Vec<Record> = Vec::new();
        for _ in 0..LIST_READS_MAX {
            // One more, to know whether there is a next page.
            let filter = Filter {
                workflow: wanted.clone(),
                status,
                owner: owner.clone(),
                after,
                limit: limit + 1,
            };
            let records = self.engine.list(filter).await?;
            let is_last = records.len() <= limit;
            after = records.last().map(|record| record.instance);
            found
                .extend(records.into_iter().filter(|record| caller.has_workflow(&record.workflow)));
            if found.len() > limit {
                found.truncate(limit);
                let next = found.last().map(|record| record.instance);
                return Ok(InstancePage { records: found, next });
            }
            if is_last {
                if found.is_empty()
                    && let Some(workflow) = workflow
                {
                    self.check_known(workflow)?;
                }
                return Ok(InstancePage { records: found, next: None });
            }
        }
        Ok(InstancePage { records: found, next: after })
    }

    /// The store may hold instances of workflows that this binary does not have; a name without
    /// either is misspelt.
    fn check_known(&self, name: String) -> Result<(), Problem> {
        let names = self.app().workflows.iter().map(|workflow| workflow.definition.workflow);
        if names.clone().any(|known| known == name) {
            return Ok(());
        }
        let error = api::Error::UnknownWorkflow { hint: hint(&name, names), name };
        Err(Problem::from(error).at("workflow"))
    }

    /// The journal of an instance, in pages.
    pub(crate) async fn history(
        &self,
        caller: &Caller,
        instance: InstanceId,
        after: Seq,
        limit: Option<usize>,
    ) -> Result<HistoryPage, Problem> {
        let operation = Self::authorize(caller, Operation::History)?;
        let limit = page("rows", limit, HISTORY_PAGE, HISTORY_PAGE_MAX)?;
        let record = self.visible_record(caller, operation, instance).await?;
        let shape = self.shapes.of(&self.engine, &record.definition).await?;
        let mut stored = self.engine.rows(instance, after, limit + 1).await?;
        let has_more = stored.len() > limit;
        stored.truncate(limit);
        let next = stored.last().filter(|_| has_more).map_or(0, |row| row.seq);
        let rows = stored.into_iter().map(|stored| {
            let mut row = Row::parse(&stored.row)
                .map_err(|error| Problem::new(Kind::StoreFailed, error.to_string()))?;
            shape.secrets.hide(&mut row);
            Ok(HistoryRow { seq: stored.seq, row })
        });
        Ok(HistoryPage { rows: rows.collect::<Result<_, Problem>>()?, next })
    }

    /// Carries out a command; durable when answered.
    pub(crate) async fn command(
        &self,
        caller: &Caller,
        instance: InstanceId,
        command: Command,
    ) -> Result<(), Error> {
        let operation = match &command {
            Command::Cancel { .. } => Operation::Cancel,
            Command::Retry { .. } => Operation::Retry,
            Command::Undo => Operation::Undo,
            Command::Fail { .. } => Operation::Fail,
            Command::Pause => Operation::Pause,
            Command::Resume => Operation::Resume,
        };
        let row = Self::authorize(caller, operation)?;
        self.check_visible(caller, row, instance).await?;
        Ok(self.engine.command(instance, command).await?)
    }
}

/// The length of a page, within its bounds.
fn page(what: &str, given: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    let limit = given.unwrap_or(default);
    if (1..=max).contains(&limit) {
        return Ok(limit);
    }
    let text = format!("a page has 1 to {max} {what}, not {limit}");
    Err(Problem::new(Kind::InvalidRequest, text).at("limit"))
}
