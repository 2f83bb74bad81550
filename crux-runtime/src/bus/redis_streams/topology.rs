//! The streams on the server: those that Crux reads, those of tasks, which services read, and those
//! of hooks and events, which any program may read.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::app::App;
use crate::bus::routing_keys;
use crate::bus::routing_keys::{COMPLETED, HEARTBEAT, STARTED, consumed_events, work_key};
use crate::machine::Runs;

/// The group by which all nodes together read what Crux consumes.
pub const GROUP: &str = "crux";
/// A group for the services of a step type, for those who have no better name.
pub const WORKERS: &str = "workers";

/// A stream with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// `crux:stream:{step.completed}`.
    pub key: String,
    pub routing_key: String,
    /// The group that Crux creates, or that suits a service; `None`: every program brings its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'static str>,
    /// For people.
    pub purpose: String,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The streams that Crux reads; it creates their groups itself.
    pub own: Vec<Stream>,
    /// Tasks of step structs that run in workers; Crux creates their groups, too.
    pub work: Vec<Stream>,
    /// One per step type that a service does; services create a group.
    pub services: Vec<Stream>,
    /// Streams that Crux publishes to without needing a reader.
    pub notices: Vec<Stream>,
    /// Where messages go that were refused.
    pub dead: String,
    /// Where entries are for a while that cannot be taken yet.
    pub parked: String,
    /// Heartbeats of workers, for every node; without groups.
    pub workers: String,
    /// Cancelled attempts, for every worker.
    pub cancelled: String,
}

impl Topology {
    /// `work`: step types of step structs that run in workers.
    pub fn new(app: &App, prefix: &str, work: &[&'static str]) -> Self {
        let stream = |routing_key: &str, group, purpose: &str| Stream {
            key: key(prefix, routing_key),
            routing_key: routing_key.to_owned(),
            group,
            purpose: purpose.to_owned(),
        };
        let reports = [
            (COMPLETED, "results of steps"),
            (STARTED, "steps that have started"),
            (HEARTBEAT, "heartbeats"),
        ];
        let mut own: Vec<Stream> =
            reports.into_iter().map(|(key, purpose)| stream(key, Some(GROUP), purpose)).collect();
        own.extend(
            consumed_events(app)
                .into_iter()
                .map(|event| stream(event, Some(GROUP), "an event that starts or wakes instances")),
        );
        let mut taken: BTreeSet<String> =
            own.iter().map(|stream| stream.routing_key.clone()).collect();
        let of_work = |step_type: &&'static str| {
            stream(
                work_key(step_type),
                Some(WORKERS),
                &format!("tasks of {step_type}, for workers"),
            )
        };
        let work = work.iter().map(of_work).collect();
        let mut services = Vec::new();
        for contract in app.contracts {
            let Runs::Service { routing_key } = contract.runs else { continue };
            if taken.insert(routing_key.to_owned()) {
                services.push(stream(
                    routing_key,
                    Some(WORKERS),
                    &format!("tasks of {}", contract.step_type),
                ));
            }
        }
        let notices =
            app.routes.iter().filter(|route| route.is_published && !taken.contains(route.key));
        let notices = notices.map(|route| stream(route.key, None, route.meaning)).collect();
        Self {
            own,
            work,
            services,
            notices,
            dead: key(prefix, "dead"),
            parked: key(prefix, "crux.parked"),
            workers: key(prefix, routing_keys::WORKERS),
            cancelled: key(prefix, routing_keys::CANCELLED),
        }
    }

    /// The stream of a step type's tasks for workers.
    pub(super) fn work_of(&self, step_type: &'static str) -> Option<&Stream> {
        self.work.iter().find(|stream| stream.routing_key == work_key(step_type))
    }

    /// Of all streams from which what is acknowledged is to go.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.own
            .iter()
            .chain(&self.work)
            .chain(&self.services)
            .chain(&self.notices)
            .map(|stream| stream.key.as_str())
    }
}

/// The stream of a routing key. The braces keep it in one place of a cluster, and different streams
/// in different ones.
pub(super) fn key(prefix: &str, routing_key: &str) -> String {
    format!("{prefix}:stream:{{{routing_key}}}")
}
