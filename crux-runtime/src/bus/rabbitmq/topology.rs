//! The topology on the broker: the exchange, the queues that Crux consumes and therefore declares,
//! and the queues recommended for services.

use std::collections::BTreeSet;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use serde::Serialize;

use super::Options;
use super::connection::{Problem, problem};
use crate::app::App;
use crate::bus::routing_keys::{COMPLETED, HEARTBEAT, STARTED, consumed_events, work_key};
use crate::machine::Runs;

/// Messages that could not be understood; the oldest go when there are more.
const MAX_DEAD: i64 = 100_000;
/// Tasks in the queue of a step type; beyond it they stay with Crux.
const MAX_TASKS: i64 = 100_000;
/// Messages that cannot be taken yet.
const MAX_PARKED: i64 = 100_000;
/// How often a task may be given back: without this, brokers from 4.0 on drop it after 20 times,
/// and older ones put it at the end.
const MAX_DELIVERIES: i64 = 1_000_000;

/// A queue with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    pub name: String,
    /// The routing keys by which it is bound to the exchange.
    pub keys: Vec<String>,
    /// In the order in which they are shown.
    #[serde(serialize_with = "as_map")]
    pub arguments: Vec<(&'static str, Argument)>,
    /// For people.
    pub purpose: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    Text(String),
    Number(i64),
}

fn as_map<S: serde::Serializer>(
    arguments: &[(&'static str, Argument)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(arguments.iter().map(|(name, value)| (name, value)))
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    pub exchange: String,
    /// The queues that Crux consumes and declares itself.
    pub own: Vec<Queue>,
    /// Tasks of step structs that run in workers, one queue per step type; Crux
    /// declares them, too.
    pub work: Vec<Queue>,
    /// One per step type that a service does; services declare them.
    pub services: Vec<Queue>,
    /// Keys that Crux publishes without needing a consumer, with their meaning.
    pub notices: Vec<(String, String)>,
    #[serde(skip)]
    prefix: String,
}

impl Topology {
    /// `work`: step types of step structs that run in workers.
    pub fn new(app: &App, options: &Options, work: &[&'static str]) -> Self {
        let quorum = || ("x-queue-type", Argument::Text("quorum".to_owned()));
        let queue = |name: &str, keys: Vec<String>, arguments, purpose: &str| Queue {
            name: format!("{}.{name}", options.prefix),
            keys,
            arguments,
            purpose: purpose.to_owned(),
        };
        let reports = [COMPLETED, STARTED, HEARTBEAT].map(str::to_owned).to_vec();
        let mut own = vec![queue(
            "completions",
            reports,
            vec![quorum()],
            "results, starts and heartbeats of steps",
        )];
        let events = consumed_events(app);
        if !events.is_empty() {
            own.push(queue(
                "events",
                events.iter().map(|name| (*name).to_owned()).collect(),
                vec![quorum()],
                "events that start or wake instances",
            ));
        }
        let text = |name, text: &str| (name, Argument::Text(text.to_owned()));
        let dead = vec![
            quorum(),
            ("x-max-length", Argument::Number(MAX_DEAD)),
            text("x-overflow", "drop-head"),
        ];
        own.push(queue(
            "dead",
            Vec::new(),
            dead,
            "dead letters, with the reason in the header x-crux-reason",
        ));
        // Each of its messages expires, and the broker takes it back to where it is tried again;
        // none is lost on the way.
        let back = vec![
            quorum(),
            text("x-dead-letter-exchange", ""),
            text("x-dead-letter-routing-key", &format!("{}.completions", options.prefix)),
            text("x-dead-letter-strategy", "at-least-once"),
            text("x-overflow", "reject-publish"),
            // One for which there is no room stays where it is.
            ("x-max-length", Argument::Number(MAX_PARKED)),
        ];
        own.push(queue(
            "parked",
            Vec::new(),
            back,
            "messages whose instance cannot take them yet; retried",
        ));
        let limit =
            [("x-max-length", Argument::Number(MAX_TASKS)), text("x-overflow", "reject-publish")];
        let tasks = |step_type: &&'static str| {
            // A worker that has no room after all gives a task back; that must never be the end of
            // it.
            let arguments = [quorum()]
                .into_iter()
                .chain(limit.clone())
                .chain([("x-delivery-limit", Argument::Number(MAX_DELIVERIES))]);
            let keys = vec![work_key(step_type).to_owned()];
            queue(
                &format!("work.{step_type}"),
                keys,
                arguments.collect(),
                &format!("tasks of {step_type}, for workers"),
            )
        };
        let work = work.iter().map(tasks).collect();
        let mut services = Vec::new();
        let mut keys = BTreeSet::from([COMPLETED, STARTED, HEARTBEAT]);
        keys.extend(&events);
        for contract in app.contracts {
            let Runs::Service { routing_key } = contract.runs else { continue };
            keys.insert(routing_key);
            services.push(Queue {
                name: routing_key.to_owned(),
                keys: vec![routing_key.to_owned()],
                arguments: [quorum()].into_iter().chain(limit.clone()).collect(),
                purpose: format!("tasks of {}", contract.step_type),
            });
        }
        let notices =
            app.routes.iter().filter(|route| route.is_published && !keys.contains(route.key));
        let notices =
            notices.map(|route| (route.key.to_owned(), route.meaning.to_owned())).collect();
        Self {
            exchange: options.exchange.clone(),
            own,
            work,
            services,
            notices,
            prefix: options.prefix.clone(),
        }
    }

    pub(super) fn completions(&self) -> &str {
        self.named("completions")
    }

    /// `None`: the app waits for no event.
    pub(super) fn events(&self) -> Option<&str> {
        Some(self.named("events")).filter(|name| !name.is_empty())
    }

    pub(super) fn dead(&self) -> &str {
        self.named("dead")
    }

    pub(super) fn parked(&self) -> &str {
        self.named("parked")
    }

    fn named(&self, name: &str) -> &str {
        let is_it = |queue: &&Queue| {
            queue.name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.'))
                == Some(name)
        };
        self.own.iter().find(is_it).map_or("", |queue| queue.name.as_str())
    }

    /// The queue of a step type's tasks for workers.
    pub(super) fn work_of(&self, step_type: &'static str) -> &str {
        let key = work_key(step_type);
        let is_it = |queue: &&Queue| queue.keys.iter().any(|bound| bound == key);
        self.work.iter().find(is_it).map_or("", |queue| queue.name.as_str())
    }

    /// The queue for one process's broadcasts; deleted with its connection.
    pub(super) fn broadcast_queue(&self, what: &str, number: u64) -> String {
        format!("{}.{what}.{number:016x}", self.prefix)
    }

    /// The exchange and what Crux consumes. Harmless if it is all there already; an error if it is
    /// there and differs.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), Problem> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = channel
            .exchange_declare(
                self.exchange.as_str().into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await;
        declared.map_err(|error| conflict(&error, &format!("exchange `{}`", self.exchange)))?;
        for queue in self.own.iter().chain(&self.work) {
            self.declare_queue(channel, queue).await?;
        }
        Ok(())
    }

    /// The queues of services, as a help for those who begin.
    pub(super) async fn declare_services(&self, channel: &Channel) -> Result<(), Problem> {
        for queue in &self.services {
            self.declare_queue(channel, queue).await?;
        }
        Ok(())
    }

    async fn declare_queue(&self, channel: &Channel, queue: &Queue) -> Result<(), Problem> {
        let mut arguments = FieldTable::default();
        for (name, value) in &queue.arguments {
            let value = match value {
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Argument::Number(number) => AMQPValue::LongLongInt(*number),
            };
            arguments.insert((*name).into(), value);
        }
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let declared = channel.queue_declare(queue.name.as_str().into(), options, arguments).await;
        declared.map_err(|error| conflict(&error, &format!("queue `{}`", queue.name)))?;
        self.bind_queue(channel, queue).await
    }

    /// Binds the consumed queues again: a removed binding would go unnoticed, and messages for it
    /// would be lost.
    pub(super) async fn bind(&self, channel: &Channel) -> Result<(), Problem> {
        for queue in self.own.iter().chain(&self.work) {
            self.bind_queue(channel, queue).await?;
        }
        Ok(())
    }

    async fn bind_queue(&self, channel: &Channel, queue: &Queue) -> Result<(), Problem> {
        for key in &queue.keys {
            let (name, exchange) = (queue.name.as_str(), self.exchange.as_str());
            let bound = channel.queue_bind(
                name.into(),
                exchange.into(),
                key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            bound.await.map_err(|error| problem(&error))?;
        }
        Ok(())
    }
}

/// The broker's words hold the argument and both its values.
fn conflict(error: &lapin::Error, what: &str) -> Problem {
    match problem(error) {
        Problem::Refused(said) => Problem::Conflict(format!(
            "the {what} is on the broker already and is another one: {said}. Delete it there, or set another `rabbitmq.exchange` or `rabbitmq.prefix`"
        )),
        other => other,
    }
}
