//! The bus without a broker: services get their tasks by HTTP push, each under its step types, and
//! hooks and emitted events under the routing keys that it subscribes to. Tasks of step types without
//! such a service go to attached workers ([`super::attached`]). Events for this app's own workflows
//! are the router's business.

pub(crate) mod circuit_breaker;
pub(crate) mod push;
pub mod response;
pub(crate) mod subscribers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};

use super::attached::{self, AttachRequest, AttachedWorkers, Attachment, Handed};
use super::{Bus, Message, PublishOutcome};
use crate::app::App;
use crate::bus::http::push::Push;
use crate::bus::http::response::Meaning;
use crate::bus::http::subscribers::{Listener, Listeners};
use crate::bus::pattern::Pattern;
use crate::executor::limits::Limits;
use crate::executor::queue::{Job, Load, TaskQueue};
use crate::machine::Runs;
use crate::suggest::hint;
use crate::task::{Report, Reported, Task};

/// How many tasks, and how many messages, a service gets at a time if it is not said.
pub const DEFAULT_CONCURRENCY: usize = 64;
/// Tasks that wait for their turn at a service; beyond it they are given back to the engine.
const QUEUE: usize = 8192;

/// A service that gets tasks or messages by HTTP push.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name in the configuration.
    pub name: String,
    /// Where they are posted to: `http://localhost:8000/`.
    pub url: String,
    /// The step types whose tasks it gets.
    pub steps: Vec<String>,
    /// Routing keys of the hooks and emitted events that it gets, or patterns: `workflow.*`.
    pub subscribe: Vec<String>,
    /// How many tasks it is sent at a time, and how many messages.
    pub concurrency: usize,
    /// The meaning of its statuses, where it differs from the usual one.
    pub statuses: BTreeMap<u16, Meaning>,
}

/// A service that cannot be as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "services.{service}.url: `{url}` is not an address that anything can be posted to: {reason}"
    )]
    Address { service: String, url: String, reason: String },
    #[error("services.{service}.steps: no service runs a step type `{step_type}`{hint}")]
    UnknownStepType { service: String, step_type: String, hint: String },
    #[error(
        "services.{service}.steps: `{step_type}` runs in the step struct `{class}`, not in a service: leave it out here"
    )]
    Class { service: String, step_type: String, class: &'static str },
    #[error(
        "services.{service}.steps: `{step_type}` is already given to services.{other}: a step type has one service"
    )]
    Twice { service: String, step_type: String, other: String },
    #[error(
        "services.{service}.subscribe: `{pattern}` is not a valid pattern of routing keys: {reason}"
    )]
    Pattern { service: String, pattern: String, reason: String },
    #[error(
        "services.{service}.subscribe: no workflow has a hook or an `emit` under `{pattern}`{help}"
    )]
    UnknownKey { service: String, pattern: String, help: String },
    #[error("services.{service}.concurrency: must be at least 1")]
    Nothing { service: String },
    #[error("services are called from a tokio runtime, and there is none here")]
    NoRuntime,
}

/// A service, as `GET /api/v1/workers` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    pub service: String,
    pub url: String,
    pub steps: Vec<String>,
    /// Patterns of routing keys.
    pub subscribe: Vec<String>,
    /// Maximum concurrent calls.
    pub concurrency: usize,
    /// Calls with tasks in flight.
    pub running: usize,
    /// Tasks that wait for their turn.
    pub queued: usize,
    /// Since the start of the process, of those that the service answered immediately.
    pub completed: u64,
    pub failed: u64,
    /// Whether anything was sent to it since the start of the process.
    #[serde(skip)]
    pub is_tried: bool,
    /// Why the last task or message did not reach it; `None`: it did.
    pub problem: Option<String>,
}

/// The bus without a broker.
pub struct Local {
    services: Vec<Attached>,
    /// From a step type to the number of its service.
    by_type: HashMap<String, usize>,
    listeners: Listeners,
    attached: Arc<AttachedWorkers>,
    /// See [`Bus::back`].
    back: watch::Sender<u64>,
}

struct Attached {
    steps: Vec<String>,
    subscribe: Vec<String>,
    queue: Arc<TaskQueue<Arc<Push>>>,
}

impl Local {
    /// For the step types of this app, on the tokio runtime of the caller. `max_result_bytes`:
    /// longer results are refused.
    pub fn new(app: &App, services: Vec<Service>, max_result_bytes: usize) -> Result<Self, Error> {
        let runtime = Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let listeners = Listeners::new(runtime.clone());
        let back = watch::Sender::new(0);
        let mut this = Self {
            services: Vec::with_capacity(services.len()),
            by_type: HashMap::new(),
            listeners,
            attached: Arc::new(AttachedWorkers::new(app, max_result_bytes, back.clone())),
            back,
        };
        for service in services {
            this.attach(app, service, max_result_bytes, &runtime)?;
        }
        Ok(this)
    }

    /// The step types without a service, whose tasks wait unless a worker takes them.
    pub fn warn_of_unserved(&self, app: &App) {
        let is_unserved = |contract: &&&crate::machine::Contract| {
            matches!(contract.runs, Runs::Service { .. }) && !self.serves(contract.step_type)
        };
        for contract in app.contracts.iter().filter(is_unserved) {
            tracing::warn!(
                step_type = contract.step_type,
                "no service is configured for the step type: its tasks wait for one"
            );
        }
    }

    /// Whether a service or an attached worker gets the tasks of that step type from here.
    pub fn serves(&self, step_type: &str) -> bool {
        self.by_type.contains_key(step_type) || self.attached.takes(step_type)
    }

    /// Attaches a worker; it gets tasks until the attachment is dropped.
    pub(crate) fn attach_worker(
        &self,
        request: AttachRequest,
    ) -> Result<(Attachment, mpsc::UnboundedReceiver<Handed>), attached::Error> {
        let pushed_to = |step_type: &str| {
            self.service(step_type).map(|service| service.queue.work.name.clone())
        };
        self.attached.attach(request, pushed_to)
    }

    /// The attached workers.
    pub(crate) fn attached(&self) -> Vec<attached::Listing> {
        self.attached.list()
    }

    fn attach(
        &mut self,
        app: &App,
        service: Service,
        max_result_bytes: usize,
        runtime: &Handle,
    ) -> Result<(), Error> {
        let Service { name, url, steps, subscribe, concurrency, statuses } = service;
        let uri = crate::address::http(&url).map_err(|reason| Error::Address {
            service: name.clone(),
            url: shown(&url),
            reason,
        })?;
        if concurrency == 0 {
            return Err(Error::Nothing { service: name });
        }
        let number = self.services.len();
        for step_type in &steps {
            match app.contract(step_type).map(|contract| contract.runs) {
                Some(Runs::Service { .. }) => {}
                Some(Runs::Class(class)) => {
                    return Err(Error::Class {
                        service: name,
                        step_type: step_type.clone(),
                        class,
                    });
                }
                None => {
                    let services = app
                        .contracts
                        .iter()
                        .filter(|contract| matches!(contract.runs, Runs::Service { .. }));
                    let hint = hint(step_type, services.map(|contract| contract.step_type));
                    return Err(Error::UnknownStepType {
                        service: name,
                        step_type: step_type.clone(),
                        hint,
                    });
                }
            }
            if let Some(other) = self.by_type.insert(step_type.clone(), number) {
                let other = self
                    .services
                    .get(other)
                    .map_or_else(|| name.clone(), |other| other.queue.work.name.clone());
                return Err(Error::Twice { service: name, step_type: step_type.clone(), other });
            }
        }
        let limits = Limits { minimum: 0, maximum: concurrency, max_queued: QUEUE };
        let push = Arc::new(Push::new(name, uri, statuses, max_result_bytes, self.back.clone()));
        if !subscribe.is_empty() {
            let keys = keys(app, &push.name, &subscribe)?;
            let listener = Listener::new(push.clone(), concurrency);
            keys.into_iter().for_each(|key| self.listeners.add(key, listener.clone()));
        }
        let queue = TaskQueue::new(push, limits, runtime.clone(), Arc::new(Notify::new()));
        self.services.push(Attached { steps, subscribe, queue });
        Ok(())
    }

    /// In the order of the configuration.
    pub fn list(&self) -> Vec<Listing> {
        let listing = |Attached { steps, subscribe, queue }: &Attached| {
            let Load { running, queued, completed, failed } = queue.load();
            let waiting = queue.work.breaker.waiting().min(running);
            Listing {
                service: queue.work.name.clone(),
                url: queue.work.url.to_string(),
                steps: steps.clone(),
                subscribe: subscribe.clone(),
                concurrency: queue.limits.maximum,
                running: running - waiting,
                queued: queued + waiting,
                completed,
                failed,
                is_tried: queue.work.breaker.is_tried(),
                problem: queue.work.breaker.problem(),
            }
        };
        self.services.iter().map(listing).collect()
    }

    fn service(&self, step_type: &str) -> Option<&Attached> {
        self.services.get(*self.by_type.get(step_type)?)
    }
}

impl Bus for Local {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        let job = Job::new(task, reports.clone());
        match self.service(job.task.contract.step_type) {
            Some(service) => service.queue.submit(job).map_err(|job| job.task),
            None => match self.attached.dispatch(job) {
                Ok(()) => Ok(()),
                Err(job) if self.attached.takes(job.task.contract.step_type) => Err(job.task),
                Err(job) => {
                    let reason = no_service(&job.task);
                    job.refuse(reason)
                }
            },
        }
    }

    fn wants(&self, routing_key: &str) -> bool {
        self.listeners.wants(routing_key)
    }

    fn publish(
        &self,
        message: Message,
        done: Box<dyn FnOnce(PublishOutcome) + Send>,
    ) -> Result<(), Message> {
        self.listeners.publish(message, done)
    }

    fn delay(&self, step_type: Option<&str>) -> Option<String> {
        let step_type = step_type?;
        match self.service(step_type) {
            Some(service) => service.queue.work.breaker.open_reason(),
            None => self.attached.delay(step_type),
        }
    }

    fn held(&self, routing_key: &str) -> Option<String> {
        self.listeners.held(routing_key)
    }

    fn back(&self) -> Option<watch::Receiver<u64>> {
        Some(self.back.subscribe())
    }

    fn drain(&self) {
        let queues = self.services.iter().map(|service| &service.queue);
        let queued = queues.flat_map(|queue| {
            queue.work.breaker.drain();
            queue.take_out(Task::is_once)
        });
        for job in queued.chain(self.attached.drain(Task::is_once)) {
            // Without room its outcome will not be known, which does no harm but that a person has
            // to look.
            job.report(Reported::Returned);
        }
    }

    fn health(&self) -> Result<(), String> {
        let problems: Vec<String> = self
            .services
            .iter()
            .filter_map(|service| service.queue.work.breaker.problem())
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

/// The routing keys that a service listens to, each once.
fn keys(app: &App, service: &str, patterns: &[String]) -> Result<Vec<&'static str>, Error> {
    let published = || app.routes.iter().filter(|route| route.is_published).map(|route| route.key);
    let mut keys = Vec::new();
    for pattern in patterns {
        let refuse = |reason| Error::Pattern {
            service: service.to_owned(),
            pattern: pattern.clone(),
            reason,
        };
        let parsed = Pattern::parse(pattern).map_err(refuse)?;
        let fitting = published().filter(|key| parsed.fits(key));
        let before = keys.len();
        keys.extend(fitting);
        if keys.len() == before {
            return Err(Error::UnknownKey {
                service: service.to_owned(),
                pattern: pattern.clone(),
                help: help(app, pattern),
            });
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// What to write instead of a pattern that matches nothing.
fn help(app: &App, pattern: &str) -> String {
    let is_task_of = |contract: &&&crate::machine::Contract| matches!(contract.runs, Runs::Service { routing_key } if routing_key == pattern);
    if let Some(contract) = app.contracts.iter().find(is_task_of) {
        return format!("; it is the key of tasks: name `{}` under `steps`", contract.step_type);
    }
    let published = || app.routes.iter().filter(|route| route.is_published).map(|route| route.key);
    hint(pattern, published())
}

fn no_service(task: &Task) -> String {
    match task.contract.runs {
        Runs::Service { routing_key } => {
            let step_type = task.contract.step_type;
            format!(
                "no service listens on {routing_key}: name `{step_type}` under `steps` of one of the `services` in the configuration"
            )
        }
        Runs::Class(class) => format!(
            "no worker has the step struct `{class}`: start one with `crux worker --connect` and this server's address"
        ),
    }
}

/// Without what may be a password.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!(
                "{}…{}",
                url.get(..scheme + 3).unwrap_or_default(),
                url.get(at..).unwrap_or_default()
            )
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
