//! Following an instance: all its rows from a number on, in order and without gaps, first from the
//! store and then live, until it has ended. WebSocket, server-sent events and `?wait=` are made of
//! this.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::problem::{Kind, Problem};
use crate::engine::api::{self, Started, Undelivered};
use crate::id::InstanceId;
use crate::journal::{EntryType, Row};
use crate::live::{Follower, Live, LiveRow};
use crate::store::{Seq, Stored};
use crate::view::document::{Fold, Shape};
use crate::view::messages;
use crate::view::messages::Turn;

/// Rows that are read from the store at a time.
const PAGE: usize = 256;

/// One follower's place in an instance's journal.
pub(crate) struct Follow {
    ingress: Shared,
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

impl Follow {
    /// Of an instance that there is; what comes is what follows the row `after`, which must be
    /// there too.
    pub(crate) async fn open(
        ingress: &Shared,
        instance: InstanceId,
        after: Seq,
    ) -> Result<Self, Problem> {
        let live = ingress.engine.hub().follow(instance);
        let Some(record) = ingress.engine.store().record(instance).await? else {
            return Err(api::Error::UnknownInstance(instance).into());
        };
        // Of a row that is not there yet nobody can have heard: rows are told when they are in the
        // store.
        if after > 0 && ingress.engine.store().rows(instance, after - 1, 1).await?.is_empty() {
            let text = format!(
                "the instance has no row {after}: follow after a row that has come, or leave `after` out to hear everything"
            );
            return Err(Problem::new(Kind::InvalidRequest, text).at("after"));
        }
        let shape = ingress.shapes.of(&ingress.engine, &record.definition).await?;
        let has_ended = record.status.is_ended();
        Ok(Self {
            ingress: ingress.clone(),
            instance,
            shape,
            live,
            seq: after,
            page: VecDeque::new(),
            is_behind: true,
            has_ended,
        })
    }

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
        let rows = self.ingress.engine.store().rows(self.instance, self.seq, PAGE).await?;
        self.is_behind = rows.len() == PAGE;
        self.page.extend(rows.into_iter().map(|stored| Arc::new(LiveRow::new(Arc::new(stored)))));
        Ok(())
    }

    fn give(&mut self, row: Arc<LiveRow>) -> Result<Arc<LiveRow>, Problem> {
        let turn = messages::of_row(self.instance, &self.shape, &row)
            .map_err(|text| Problem::new(Kind::StoreFailed, text))?
            .turn;
        match turn {
            Turn::None => {}
            Turn::Ended => self.has_ended = true,
            Turn::GoesOn => self.has_ended = false,
        }
        self.seq = row.stored.seq;
        Ok(row)
    }
}

/// An instance as its journal says now.
pub(crate) async fn read(
    ingress: &Shared,
    instance: InstanceId,
) -> Result<(Arc<Shape>, Fold), Problem> {
    let mut fold = Fold::default();
    read_on(ingress, instance, &mut fold).await?;
    let Some(started) = &fold.started else {
        return Err(api::Error::UnknownInstance(instance).into());
    };
    let shape = ingress.shapes.of(&ingress.engine, &started.definition).await?;
    Ok((shape, fold))
}

/// What of the instance does not reach whom it is for. Only the engine knows, but for those of
/// which nothing can be on its way.
pub(crate) async fn undelivered(
    ingress: &Shared,
    instance: InstanceId,
    shape: &Shape,
    fold: &Fold,
) -> Undelivered {
    if shape.is_quiet && fold.has_ended() {
        return Undelivered::default();
    }
    let still = fold
        .started
        .as_ref()
        .filter(|_| !fold.has_ended())
        .and_then(|started| ingress.engine.why_still(started));
    Undelivered { still, ..ingress.engine.undelivered(instance).await }
}

/// Waits until the instance has ended or `limit` has passed; in both cases what its journal says
/// then. `live` is what [`crate::engine::Engine::start_and_follow`] has given with `started`.
pub(crate) async fn until_ended(
    ingress: &Shared,
    started: &Started,
    mut live: Follower,
    limit: Duration,
) -> Result<(Arc<Shape>, Fold), Problem> {
    let instance = started.instance;
    let deadline = tokio::time::Instant::now() + limit;
    let mut fold = Fold::default();
    let mut ended = std::pin::pin!(live.ended());
    if started.replayed {
        read_on(ingress, instance, &mut fold).await?;
    }
    take_heard(ingress, instance, &mut live, &mut fold).await?;
    // Rows are taken when the end has come: to be woken by each of them would cost more than what
    // is done with it.
    while !fold.has_ended() {
        let in_time = tokio::select! {
            () = &mut ended => true,
            () = tokio::time::sleep_until(deadline) => false,
            () = ingress.stopping() => false,
        };
        // Before looking: a later end is not overlooked then.
        ended.set(live.ended());
        take_heard(ingress, instance, &mut live, &mut fold).await?;
        if !in_time {
            break;
        }
    }
    let hash = fold.started.as_ref().map_or("", |started| &started.definition);
    let shape = ingress.shapes.of(&ingress.engine, hash).await?;
    Ok((shape, fold))
}

/// Folds the rows that have come.
async fn take_heard(
    ingress: &Shared,
    instance: InstanceId,
    live: &mut Follower,
    fold: &mut Fold,
) -> Result<(), Problem> {
    while let Some(heard) = live.heard() {
        match heard {
            Live::Row(row) if row.stored.seq <= fold.seq => {}
            Live::Row(row) if row.stored.seq == fold.seq + 1 => take(fold, &row.stored)?,
            Live::Row(_) | Live::Gap => read_on(ingress, instance, fold).await?,
        }
    }
    Ok(())
}

/// Folds the rows that the store has beyond those already folded.
async fn read_on(ingress: &Shared, instance: InstanceId, fold: &mut Fold) -> Result<(), Problem> {
    loop {
        let rows = ingress.engine.store().rows(instance, fold.seq, PAGE).await?;
        for stored in &rows {
            take(fold, stored)?;
        }
        if rows.len() < PAGE {
            return Ok(());
        }
    }
}

fn take(fold: &mut Fold, stored: &Stored) -> Result<(), Problem> {
    let row = Row::parse(&stored.row)
        .map_err(|error| Problem::new(Kind::StoreFailed, error.to_string()))?;
    fold.row(stored.seq, row);
    Ok(())
}

/// What started an instance: its first row.
pub(crate) async fn first_row(
    ingress: &Shared,
    instance: InstanceId,
) -> Result<crate::machine::Started, Problem> {
    let rows = ingress.engine.store().rows(instance, 0, 1).await?;
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
