//! For operators, supervisors and load balancers: health, workers, metrics.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::Service;
use crate::bus::attached;
use crate::bus::broker::worker_registry;
use crate::bus::http;
use crate::bus::routing_keys::class_types;
use crate::executor;
use crate::ingress::caller::Caller;
use crate::ingress::operations::Operation;
use crate::ingress::problem::{Kind, Problem};
use crate::store::{Filter, InUse};

/// How long store and engine may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A part of the engine that has been silent for longer does not come back.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Everything about the server's health.
pub(crate) struct Health {
    /// Whether it can take requests.
    pub(crate) is_able: bool,
    pub(crate) report: Value,
}

/// Who runs steps.
#[derive(Serialize)]
pub(crate) struct Workers {
    /// Step structs in this process.
    workers: Vec<executor::Listing>,
    /// Services that get their tasks from this process.
    services: Vec<http::Listing>,
    /// Services and workers that are attached to this process.
    attached: Vec<attached::Listing>,
    /// Worker processes whose heartbeats reach this node.
    remote: Vec<worker_registry::Listing>,
    /// Step types whose tasks neither this process nor a live worker takes.
    unserved: Vec<&'static str>,
}

impl Service {
    /// Everything at a glance.
    pub(crate) async fn health(&self, caller: &Caller) -> Result<Health, Problem> {
        Self::authorize(caller, Operation::Health)?;
        let is_detailed = Self::authorize(caller, Operation::HealthDetail).is_ok();
        let (store, engine) = tokio::join!(self.store_answers(), self.engine_answers());
        let bus = self.engine.bus_health();
        let parked = self.engine.parked_messages();
        let missing = self.engine.missing_definitions();
        let word = match (store.as_ref().and(engine.as_ref()), &bus, self.is_stopping()) {
            (.., true) => "stopping",
            (Err(_), ..) => "failing",
            (Ok(_), Err(_), _) => "degraded",
            (Ok(_), Ok(()), false) if !missing.is_empty() || parked.is_some() => "degraded",
            (Ok(_), Ok(()), false) => "ok",
        };
        let is_able = store.is_ok() && engine.is_ok();
        if !is_detailed {
            return Ok(Health { is_able, report: json!({"status": word}) });
        }
        let part = |result: &Result<(), String>| match result {
            Ok(()) => json!({"status": "ok", "problem": ""}),
            Err(problem) => json!({"status": "failing", "problem": problem}),
        };
        let services: serde_json::Map<String, Value> =
            self.push.list().into_iter().map(service).collect();
        let mut report = json!({
            "status": word,
            "version": self.app().package.version,
            "runtime": env!("CARGO_PKG_VERSION"),
            "environment": self.options.environment,
            "uptime_s": self.began.elapsed().as_secs(),
            "has_recovered": self.engine.has_recovered(),
            "store": part(&store),
            "engine": part(&engine),
            "bus": part(&bus),
            "services": services,
        });
        if let (Ok(()), Some(problem)) = (&bus, parked) {
            report["bus"] = json!({"status": "degraded", "problem": problem});
        }
        report["definitions"] = definitions(&missing);
        let clock = self.engine.clock();
        report["clock"] = json!({
            "status": if clock.behind_ms == 0 { "ok" } else { "jumped" },
            "behind_ms": clock.behind_ms,
            "jumps": clock.jumps,
        });
        if let Some(clients) = self.authenticator.last_used() {
            report["clients"] = clients.into_iter().map(client).collect();
        }
        if let Some(nodes) = self.engine.nodes() {
            report["nodes"] = nodes.iter().map(|node| json!(node)).collect();
        }
        Ok(Health { is_able, report })
    }

    /// Whether the process is worth keeping: it answers, and so does every part of its engine, or
    /// did not long ago. Nothing else is asked, for a restart fixes nothing else. The inner error
    /// says why not.
    pub(crate) fn live(&self, caller: &Caller) -> Result<Result<(), String>, Problem> {
        Self::authorize(caller, Operation::Live)?;
        Ok(match self.engine.silent_for() {
            Some(silence) if silence < SILENCE_MAX => Ok(()),
            Some(silence) => {
                Err(format!("the engine has not answered for {} s", silence.as_secs()))
            }
            None => Err("a part of the engine is gone".to_owned()),
        })
    }

    /// Whether to send requests here. The inner error says why not.
    pub(crate) async fn ready(&self, caller: &Caller) -> Result<Result<(), String>, Problem> {
        Self::authorize(caller, Operation::Ready)?;
        if self.is_stopping() {
            return Ok(Err("the server is shutting down".to_owned()));
        }
        let (store, engine) = tokio::join!(self.store_answers(), self.engine_answers());
        Ok(store.and(engine))
    }

    pub(crate) fn workers(&self, caller: &Caller) -> Result<Workers, Problem> {
        Self::authorize(caller, Operation::Workers)?;
        let is_unserved = |step_type: &&'static str| {
            !self.engine.is_served(step_type) && !self.push.serves(step_type)
        };
        Ok(Workers {
            workers: self.engine.executors(),
            services: self.push.list(),
            attached: self.push.attached(),
            remote: self.engine.remote_workers(Timestamp::now().into()),
            unserved: class_types(self.app()).into_iter().filter(is_unserved).collect(),
        })
    }

    /// OpenMetrics text.
    pub(crate) async fn metrics(&self, caller: &Caller) -> Result<String, Problem> {
        Self::authorize(caller, Operation::Metrics)?;
        self.metrics.render(self.engine.snapshot().await).map_err(|error| {
            Problem::new(Kind::Internal, format!("the metrics cannot be written: {error}"))
        })
    }

    async fn engine_answers(&self) -> Result<(), String> {
        self.engine.answers(ANSWER_TIMEOUT).await
    }

    /// The cheapest question that reaches it.
    async fn store_answers(&self) -> Result<(), String> {
        if let Some(problem) = self.engine.store_problem() {
            return Err(problem);
        }
        let asked = self.engine.list(Filter { limit: 1, ..Filter::default() });
        match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the store has not answered for {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }
}

/// Instances that are blocked because no node has their definition.
fn definitions(missing: &[InUse]) -> Value {
    let one = |in_use: &InUse| {
        let InUse { workflow, version, definition, instances } = in_use;
        json!({"workflow": workflow, "version": version, "definition": definition, "instances": instances})
    };
    let count: u64 = missing.iter().map(|in_use| in_use.instances).sum();
    let problem = match missing {
        [] => String::new(),
        _ => format!("{count} instances are blocked: this binary does not have their definitions"),
    };
    let word = if missing.is_empty() { "ok" } else { "failing" };
    json!({"status": word, "problem": problem, "missing": missing.iter().map(one).collect::<Vec<_>>()})
}

/// A client with a key, and when it was here last; `""`: not since the server started.
fn client((id, last_used_s): (String, u64)) -> (String, Value) {
    let at = i64::try_from(last_used_s).ok().filter(|at| *at > 0);
    let at = at.and_then(|at| Timestamp::from_second(at).ok());
    (id, json!({"last_used": at.map_or(String::new(), |at| at.to_string())}))
}

/// A service as its last call showed it; none is called only to see whether it is there.
fn service(listing: http::Listing) -> (String, Value) {
    let word = match (&listing.problem, listing.is_tried) {
        (Some(_), _) => "failing",
        (None, true) => "ok",
        (None, false) => "unused",
    };
    let state = json!({"status": word, "problem": listing.problem.unwrap_or_default()});
    (listing.service, state)
}
