//! The service: everything that a client can ask, once, whichever transport it uses. Each function
//! takes the [`Caller`] first, checks its role and what it may see, and then asks the engine. A
//! transport only parses, calls one of these functions, and renders the answer.
//!
//! An instance that a caller may not see does not exist for it: it is answered like one that there
//! is not, so that no client learns which ids are in use.

mod error;
mod events;
mod follow;
mod instances;
mod monitoring;
mod shapes;
mod starts;
mod steps;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub(crate) use self::error::Error;
pub(crate) use self::events::NewEvent;
pub(crate) use self::follow::{Follow, Snapshot};
pub(crate) use self::instances::{HistoryRow, ListRequest};
pub(crate) use self::monitoring::{Health, Workers};
pub(crate) use self::starts::{Begun, IGNORED, StartInput, StartRequest};

use self::shapes::Shapes;
use self::starts::InputFields;
use super::auth::Authenticator;
use super::caller::{Caller, Standing};
use super::metrics::Metrics;
use super::operations::{Operation, OperationRow};
use super::problem::{Kind, Problem};
use crate::bus::http::Local;
use crate::engine::Engine;
use crate::engine::api;
use crate::id::InstanceId;
use crate::store::Record;
use crate::suggest::clip;
use crate::token::TokenSigner;

/// Options of the service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceOptions {
    pub(crate) environment: String,
    /// The longest that a start may wait for the end of its instance.
    pub(crate) max_wait: Duration,
    /// How often an attached worker says that it lives.
    pub(crate) heartbeat_interval: Duration,
    /// For those who start; `None`: following needs no token.
    pub(crate) tokens: Option<FollowTokens>,
}

/// What tokens to follow are made with.
#[derive(Debug, Clone)]
pub(crate) struct FollowTokens {
    pub(crate) signer: Arc<TokenSigner>,
    pub(crate) lifetime: Duration,
}

/// See the module's text. Only this folder asks the engine for a client.
pub(crate) struct Service {
    engine: Engine,
    /// Services that get their tasks from this process by HTTP.
    push: Arc<Local>,
    metrics: Arc<Metrics>,
    authenticator: Arc<Authenticator>,
    shapes: Shapes,
    fields: InputFields,
    options: ServiceOptions,
    began: Instant,
    /// Becomes true when the server begins to stop.
    stopping: watch::Receiver<bool>,
}

impl Service {
    pub(crate) fn new(
        engine: Engine,
        push: Arc<Local>,
        metrics: Arc<Metrics>,
        authenticator: Arc<Authenticator>,
        options: ServiceOptions,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let (shapes, fields) = (Shapes::new(engine.app()), InputFields::new(engine.app()));
        let began = Instant::now();
        Self { engine, push, metrics, authenticator, shapes, fields, options, began, stopping }
    }

    /// The pipelines, for the routes of their triggers.
    pub(crate) fn app(&self) -> &crate::app::App {
        self.engine.app()
    }

    /// Ends when the server begins to stop.
    pub(crate) async fn stopping(&self) {
        let mut stopping = self.stopping.clone();
        // The sender was dropped: the server is gone.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Nothing new is taken while the server stops.
    fn check_open(&self) -> Result<(), api::Error> {
        if self.is_stopping() { Err(api::Error::ShuttingDown) } else { Ok(()) }
    }

    /// The check that comes before everything else: whether the caller's roles permit the
    /// operation.
    fn authorize(caller: &Caller, operation: Operation) -> Result<&'static OperationRow, Problem> {
        // An operation without a row is permitted to no client.
        let Some(row) = operation.row() else { return Err(forbidden(caller, "this", None)) };
        if caller.may(row) {
            return Ok(row);
        }
        if caller.standing() == Standing::Anonymous {
            return Err(Problem::new(Kind::Unauthenticated, WHO));
        }
        let name = row.websocket.or(row.http.map(|(_, path)| path)).unwrap_or("this");
        Err(forbidden(caller, name, row.role))
    }

    /// Before a request's body is read: whether its sender may ask for the operation at all. What
    /// does the operation checks it again, with what it is about.
    pub(crate) fn admit(caller: &Caller, operation: Operation) -> Result<(), Problem> {
        Self::authorize(caller, operation).map(drop)
    }

    /// The check of everything that is about one instance: whether it exists for the caller. Costs
    /// nothing where the caller sees all.
    async fn check_visible(
        &self,
        caller: &Caller,
        row: &OperationRow,
        instance: InstanceId,
    ) -> Result<(), api::Error> {
        if caller.sees_all(row) {
            return Ok(());
        }
        self.visible_record(caller, row, instance).await.map(drop)
    }

    /// What the store says of an instance that exists for the caller.
    async fn visible_record(
        &self,
        caller: &Caller,
        row: &OperationRow,
        instance: InstanceId,
    ) -> Result<Record, api::Error> {
        let record = self.engine.record(instance).await?;
        record
            .filter(|record| caller.sees(row, instance, &record.owner, &record.workflow))
            .ok_or(api::Error::UnknownInstance(instance))
    }

    /// Opens a connection over which more will be asked.
    pub(crate) fn connect(&self, caller: &Caller) -> Result<(), Problem> {
        Self::authorize(caller, Operation::Connect)?;
        Ok(self.check_open()?)
    }

    /// Who the server takes the caller for.
    pub(crate) fn identify(&self, caller: &Caller) -> Result<super::caller::Identity, Problem> {
        Self::authorize(caller, Operation::Identify)?;
        Ok(caller.identity())
    }
}

/// To a client that has not said who it is.
const WHO: &str =
    "this server asks who calls: send a key as `Authorization: Bearer KEY` or `X-Api-Key: KEY`";

/// The client's scope leaves it out.
fn out_of_scope(what: &str, name: &str, list: &str) -> Problem {
    let text = format!(
        "the scope of this client does not have the {what} `{}`: use a client that has it, or add it to the client's `scope.{list}`",
        clip(name, 80)
    );
    Problem::new(Kind::Forbidden, text)
}

fn forbidden(caller: &Caller, asked: &str, role: Option<super::caller::Role>) -> Problem {
    let has: Vec<&str> = caller.roles().iter().map(super::caller::Role::word).collect();
    let has = if has.is_empty() { "no role".to_owned() } else { format!("`{}`", has.join("`, `")) };
    let text = match role {
        Some(role) => format!(
            "`{asked}` needs the role `{}`, and this client has {has}: use a client that has it",
            role.word()
        ),
        None => format!("`{asked}` is not permitted to any client"),
    };
    Problem::new(Kind::Forbidden, text)
}

#[cfg(test)]
pub(super) mod tests;
