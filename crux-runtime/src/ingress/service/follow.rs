//! Following an instance: all its rows from a number on, in order and without gaps, first from the
//! store and then live, until it has ended. WebSocket, server-sent events and `?wait=` use it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Service;
use crate::engine::api::{self, StartAccepted, Undelivered};
use crate::id::InstanceId;
use crate::ingress::caller::Caller;
use crate::ingress::operations::{Operation, OperationRow};
use crate::ingress::problem::{Kind, Problem};
use crate::journal::{EntryType, Row};
use crate::live::{Follower, Live, LiveRow};
use crate::store::Status;
use crate::store::{Seq, Stored};
use crate::view::document::{Document, Fold, Shape, document};
use crate::view::messages;
use crate::view::messages::Lifecycle;

/// Rows that are read from the store at a time.
const PAGE: usize = 256;

/// One follower's place in an instance's journal.
pub(crate) struct Follow {
    service: Arc<Service>,
    instance: InstanceId,
    shape: Arc<Shape>,
    live: Follower,
    /// The last row that was given out.
    seq: Seq,
    page: VecDeque<Arc<LiveRow>>,
    /// There may be rows in the store that were not announced to us.
    is_behind: bool,
    has_ended: bool,
}

impl Service {
    /// Follows an instance; what comes is what follows the row `after`, which must be there too.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        caller: &Caller,
        instance: InstanceId,
        after: Seq,
    ) -> Result<Follow, Problem> {
        let row = Self::authorize(caller, Operation::Follow)?;
        let live = self.engine.follow(instance);
        let record = self.visible_record(caller, row, instance).await?;
        // No client can have received a row that is not there yet: rows are announced when they are
        // in the store.
        if after > 0 && self.engine.rows(instance, after - 1, 1).await?.is_empty() {
            let text = format!(
                "the instance has no row {after}: follow after a row that has come, or leave `after` out to get everything"
            );
            return Err(Problem::new(Kind::InvalidRequest, text).at("after"));
        }
        let shape = self.shapes.of(&self.engine, &record.definition).await?;
        Ok(Follow {
            service: self.clone(),
            instance,
            shape,
            live,
            seq: after,
            page: VecDeque::new(),
            is_behind: true,
            has_ended: record.status.is_ended(),
        })
    }

    /// Stops following; how is the transport's business.
    pub(crate) fn unfollow(&self, caller: &Caller) -> Result<(), Problem> {
        Self::authorize(caller, Operation::Unfollow).map(drop)
    }
}

impl Follow {
    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// The last row that was given out.
    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// The next row; `None` when the instance has ended and every row was given out. May be dropped
    /// while it waits.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<LiveRow>>, Problem> {
        loop {
            if let Some(row) = self.page.pop_front() {
                return self.give(row).map(Some);
            }
            if self.is_behind {
                self.read_page().await?;
                continue;
            }
            if self.has_ended {
                return Ok(None);
            }
            match self.live.next().await {
                Live::Row(row) if row.stored.seq <= self.seq => {}
                Live::Row(row) if row.stored.seq == self.seq + 1 => {
                    return self.give(row).map(Some);
                }
                Live::Row(_) | Live::Gap => self.is_behind = true,
            }
        }
    }

    /// Whether the instance has ended and nothing is left to give out.
    pub(crate) async fn is_over(&mut self) -> Result<bool, Problem> {
        if self.page.is_empty() && self.is_behind {
            self.read_page().await?;
        }
        Ok(self.has_ended && self.page.is_empty() && !self.is_behind)
    }

    async fn read_page(&mut self) -> Result<(), Problem> {
        let rows = self.service.engine.rows(self.instance, self.seq, PAGE).await?;
        self.is_behind = rows.len() == PAGE;
        self.page.extend(rows.into_iter().map(|stored| Arc::new(LiveRow::new(Arc::new(stored)))));
        Ok(())
    }

    fn give(&mut self, row: Arc<LiveRow>) -> Result<Arc<LiveRow>, Problem> {
        let lifecycle = messages::of_row(self.instance, &self.shape, &row)
            .map_err(|text| Problem::new(Kind::StoreFailed, text))?
            .lifecycle;
        match lifecycle {
            Lifecycle::Unchanged => {}
            Lifecycle::Ended => self.has_ended = true,
            Lifecycle::Resumed => self.has_ended = false,
        }
        self.seq = row.stored.seq;
        Ok(row)
    }
}

/// The journal of an instance at one moment.
pub(crate) struct Snapshot {
    instance: InstanceId,
    shape: Arc<Shape>,
    fold: Fold,
    undelivered: Undelivered,
}

impl Snapshot {
    pub(crate) fn status(&self) -> Status {
        self.fold.status()
    }

    /// The status document.
    pub(crate) fn document(&self) -> Document<'_> {
        document(self.instance, &self.shape, &self.fold, &self.undelivered)
    }
}

impl Service {
    /// An instance according to its current journal.
    pub(super) async fn read(
        &self,
        caller: &Caller,
        row: &OperationRow,
        instance: InstanceId,
    ) -> Result<Snapshot, Problem> {
        let mut fold = Fold::default();
        self.read_on(instance, &mut fold).await?;
        let started = fold
            .started
            .as_ref()
            .filter(|started| caller.sees(row, instance, &started.owner, &started.workflow))
            .ok_or(api::Error::UnknownInstance(instance))?;
        let shape = self.shapes.of(&self.engine, &started.definition).await?;
        let undelivered = self.undelivered(instance, &shape, &fold).await;
        Ok(Snapshot { instance, shape, fold, undelivered })
    }

    /// Tasks and messages that have not been delivered. Only the engine knows; it is not asked
    /// about ended instances whose definition publishes nothing.
    async fn undelivered(&self, instance: InstanceId, shape: &Shape, fold: &Fold) -> Undelivered {
        if shape.is_quiet && fold.has_ended() {
            return Undelivered::default();
        }
        let blocked = fold
            .started
            .as_ref()
            .filter(|_| !fold.has_ended())
            .and_then(|started| self.engine.blocked_reason(started));
        Undelivered { blocked, ..self.engine.undelivered(instance).await }
    }

    /// Waits until the instance has ended or `limit` has passed; `None`: it has not ended. `live`
    /// is what [`crate::engine::Engine::start_and_follow`] has given with `started`.
    pub(super) async fn until_ended(
        &self,
        started: &StartAccepted,
        mut live: Follower,
        limit: Duration,
    ) -> Result<Option<Snapshot>, Problem> {
        let instance = started.instance;
        let deadline = tokio::time::Instant::now() + limit;
        let mut fold = Fold::default();
        let mut ended = std::pin::pin!(live.ended());
        if started.replayed {
            self.read_on(instance, &mut fold).await?;
        }
        self.take_received(instance, &mut live, &mut fold).await?;
        // Rows are taken when the end has come: to be woken by each of them would cost more than
        // what is done with it.
        while !fold.has_ended() {
            let in_time = tokio::select! {
                () = &mut ended => true,
                () = tokio::time::sleep_until(deadline) => false,
                () = self.stopping() => false,
            };
            // Before looking: a later end is not overlooked then.
            ended.set(live.ended());
            self.take_received(instance, &mut live, &mut fold).await?;
            if !in_time {
                break;
            }
        }
        if !fold.has_ended() {
            return Ok(None);
        }
        let hash = fold.started.as_ref().map_or("", |started| &started.definition);
        let shape = self.shapes.of(&self.engine, hash).await?;
        let undelivered = self.undelivered(instance, &shape, &fold).await;
        Ok(Some(Snapshot { instance, shape, fold, undelivered }))
    }

    /// Folds the rows that have come.
    async fn take_received(
        &self,
        instance: InstanceId,
        live: &mut Follower,
        fold: &mut Fold,
    ) -> Result<(), Problem> {
        while let Some(received) = live.try_next() {
            match received {
                Live::Row(row) if row.stored.seq <= fold.seq => {}
                Live::Row(row) if row.stored.seq == fold.seq + 1 => take(fold, &row.stored)?,
                Live::Row(_) | Live::Gap => self.read_on(instance, fold).await?,
            }
        }
        Ok(())
    }

    /// Folds the rows that the store has beyond those already folded.
    async fn read_on(&self, instance: InstanceId, fold: &mut Fold) -> Result<(), Problem> {
        loop {
            let rows = self.engine.rows(instance, fold.seq, PAGE).await?;
            for stored in &rows {
                take(fold, stored)?;
            }
            if rows.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// The trigger of an instance, from its first row.
    pub(super) async fn first_row(
        &self,
        instance: InstanceId,
    ) -> Result<crate::machine::Started, Problem> {
        let rows = self.engine.rows(instance, 0, 1).await?;
        let unreadable = |text: String| Problem::new(Kind::StoreFailed, text);
        let Some(stored) = rows.first() else {
            return Err(api::Error::UnknownInstance(instance).into());
        };
        let row = Row::parse(&stored.row).map_err(|error| unreadable(error.to_string()))?;
        let started = row
            .events
            .into_iter()
            .find(|entry| entry.kind == EntryType::Started)
            .and_then(|entry| entry.started);
        started.ok_or_else(|| unreadable("the journal does not begin with `started`".to_owned()))
    }
}

fn take(fold: &mut Fold, stored: &Stored) -> Result<(), Problem> {
    let row = Row::parse(&stored.row)
        .map_err(|error| Problem::new(Kind::StoreFailed, error.to_string()))?;
    fold.row(stored.seq, row);
    Ok(())
}
