//! Metrics for Prometheus: of requests and of sockets, which are counted here, and of the engine,
//! whose snapshot is given when they are rendered. One registry per server, no globals, so that tests
//! can run several.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

mod workflows;

use self::workflows::WorkflowMetrics;
use crate::bus::MetricKind;
use crate::engine::{Counters, Snapshot};
use crate::store::InUse;

const PREFIX: &str = "crux";

/// Seconds: from a start on a quiet machine to a `?wait=`.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    latency: Family<Route, Histogram, fn() -> Histogram>,
    refused: Counter,
    failures: Counter,
    sockets: Gauge,
    sent: Counter,
    resyncs: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: String,
    route: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Family::default();
        let latency = Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(BUCKETS)
        });
        let (refused, sent, resyncs) = (Counter::default(), Counter::default(), Counter::default());
        let failures = Counter::default();
        let sockets = Gauge::default();
        registry.register(
            "http_requests",
            "Requests answered, by route and status",
            requests.clone(),
        );
        registry.register(
            "http_request_duration_seconds",
            "How long requests took",
            latency.clone(),
        );
        registry.register(
            "http_requests_refused",
            "Requests refused for their Host, Origin or forwarding headers",
            refused.clone(),
        );
        registry.register(
            "authentication_failures",
            "Credentials that were refused",
            failures.clone(),
        );
        registry.register("websocket_connections", "Sockets that are open", sockets.clone());
        registry.register("websocket_messages_sent", "Messages sent to sockets", sent.clone());
        registry.register(
            "websocket_resyncs",
            "Clients that did not read and were cut off",
            resyncs.clone(),
        );
        Self { registry, requests, latency, refused, failures, sockets, sent, resyncs }
    }
}

impl Metrics {
    pub(crate) fn refused_by_middleware(&self) {
        self.refused.inc();
    }

    /// Of credentials that are refused; the authenticator counts them.
    pub(crate) fn authentication_failures(&self) -> Counter {
        self.failures.clone()
    }

    /// `route` is a pattern, never a path: paths hold ids.
    pub(crate) fn answered(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
    ) {
        let method = method_word(method);
        let request =
            Request { method: method.to_owned(), route: route.to_owned(), status: status.as_u16() };
        self.requests.get_or_create(&request).inc();
        self.latency
            .get_or_create(&Route { method: request.method, route: request.route })
            .observe(took.as_secs_f64());
    }

    /// Counted as open until it is dropped.
    pub(crate) fn socket(self: &Arc<Self>) -> OpenSocket {
        self.sockets.inc();
        OpenSocket(self.clone())
    }

    pub(crate) fn sent(&self, messages: usize) {
        self.sent.inc_by(u64::try_from(messages).unwrap_or(0));
    }

    pub(crate) fn cut_off(&self) {
        self.resyncs.inc();
    }

    /// OpenMetrics text.
    pub(crate) fn render(&self, snapshot: Snapshot) -> Result<String, std::fmt::Error> {
        let snapshot = Arc::new(snapshot);
        let mut of_engine = Registry::with_prefix(PREFIX);
        of_engine.register_collector(Box::new(EngineMetrics(snapshot.clone())));
        of_engine.register_collector(Box::new(BusMetrics(snapshot.clone())));
        of_engine.register_collector(Box::new(MissingDefinitionMetrics(snapshot.clone())));
        of_engine.register_collector(Box::new(WorkflowMetrics(snapshot)));
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &of_engine)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Clients can invent methods; metrics must not grow with that.
fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[derive(Debug)]
pub(crate) struct OpenSocket(Arc<Metrics>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.sockets.dec();
    }
}

#[derive(Debug)]
struct EngineMetrics(Arc<Snapshot>);

#[derive(Debug)]
struct BusMetrics(Arc<Snapshot>);

/// What keeps instances from continuing, and the clock.
#[derive(Debug)]
struct MissingDefinitionMetrics(Arc<Snapshot>);

impl Collector for MissingDefinitionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Instances blocked because this binary does not have their definition";
        let mut family = encoder.encode_descriptor(
            "instances_without_definition",
            help,
            None,
            MetricType::Gauge,
        )?;
        for InUse { workflow, version, definition, instances } in &self.0.missing_definitions {
            let version = version.to_string();
            let labels = [
                ("workflow", workflow.as_str()),
                ("version", version.as_str()),
                ("definition", definition.as_str()),
            ];
            ConstGauge::new(i64::try_from(*instances).unwrap_or(i64::MAX))
                .encode(family.encode_family(&labels)?)?;
        }
        let clock = &self.0.clock;
        let behind = ConstGauge::new(i64::try_from(clock.behind_ms / 1000).unwrap_or(i64::MAX));
        let help = "How far the system's clock is ahead of the engine's after a jump that it has not caught up with, in seconds";
        behind.encode(encoder.encode_descriptor(
            "clock_behind_seconds",
            help,
            None,
            behind.metric_type(),
        )?)?;
        let jumps = ConstCounter::new(clock.jumps);
        let help = "Great jumps ahead of the system's clock";
        jumps.encode(encoder.encode_descriptor("clock_jumps", help, None, jumps.metric_type())?)
    }
}

impl Collector for BusMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for group in self.0.bus.chunk_by(|one, next| one.name == next.name) {
            let Some(first) = group.first() else { continue };
            let kind = match first.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(first.name, first.help, None, kind)?;
            for sample in group {
                let labels: Vec<(&str, &str)> =
                    sample.routing_key.map(|key| ("routing_key", key)).into_iter().collect();
                let metric = family.encode_family(&labels)?;
                match sample.kind {
                    MetricKind::Counter => ConstCounter::new(sample.value).encode(metric)?,
                    MetricKind::Gauge => {
                        ConstGauge::new(i64::try_from(sample.value).unwrap_or(i64::MAX))
                            .encode(metric)?
                    }
                }
            }
        }
        Ok(())
    }
}

type Read = fn(&Counters) -> u64;

const COUNTERS: [(&str, &str, Read); 13] = [
    ("instances_started", "Instances started", |counters| counters.started),
    ("instances_completed", "Instances that completed", |counters| counters.completed),
    ("instances_failed", "Instances that failed", |counters| counters.failed),
    ("instances_cancelled", "Instances that were cancelled", |counters| counters.cancelled),
    ("instances_parked", "Instances that were parked for a person", |counters| counters.parked),
    ("transitions", "Journal rows made durable", |counters| counters.transitions),
    ("attempts_dispatched", "Attempts dispatched", |counters| counters.dispatched),
    ("steps_completed", "Steps that completed", |counters| counters.steps_completed),
    ("attempts_failed", "Attempts that failed", |counters| counters.attempts_failed),
    ("messages_published", "Hooks and emitted events that were published", |counters| {
        counters.published
    }),
    ("starts_overloaded", "Starts refused under overload", |counters| counters.overloaded),
    (
        "store_lost_writes",
        "Times that the store turned out to have lost what it had answered",
        |counters| counters.lost,
    ),
    ("messages_refused", "Results, events and commands that were refused", |counters| {
        counters.refused
    }),
];

const GAUGES: [(&str, &str, Read); 3] = [
    (
        "messages_undelivered",
        "Hooks and emitted events that a listener has not taken yet",
        |counters| counters.unpublished,
    ),
    ("instances_unsettled", "Instances with effects that are not confirmed yet", |counters| {
        counters.unsettled
    }),
    ("instances_cached", "Instances in memory", |counters| counters.cached),
];

impl Collector for EngineMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = &self.0.counters;
        for (name, help, read) in COUNTERS {
            let counter = ConstCounter::new(read(counters));
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        let followers = u64::try_from(self.0.followers).unwrap_or(u64::MAX);
        let lost = ConstCounter::new(crate::telemetry::lost_lines());
        lost.encode(encoder.encode_descriptor(
            "log_lines_lost",
            "Lines of the log that could not be written",
            None,
            MetricType::Counter,
        )?)?;
        let own = GAUGES.map(|(name, help, read)| (name, help, read(counters)));
        let problem = u64::from(self.0.store_problem.is_some());
        let others = [
            ("followers", "Followers of instances", followers),
            (
                "store_problem",
                "Whether nothing can be written to the store, or what was there is gone; /health says why",
                problem,
            ),
        ];
        for (name, help, value) in own.into_iter().chain(others) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
