//! Connection status and counters of a broker, for `/health`, `/metrics` and admission control.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::bus::broker::parking::Parking;
use crate::bus::{Metric, MetricKind};

/// Status of one of the two connections: for publishing, for consuming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) enum LinkStatus {
    /// Not connected, for this reason.
    Down(String),
    Up,
    /// Connected, but the broker has stopped reading: it is short of memory or disk.
    Blocked(String),
}

#[derive(Debug)]
pub(in crate::bus) struct State {
    /// Its name, for people.
    pub(in crate::bus) broker: &'static str,
    publishing: Mutex<LinkStatus>,
    consuming: Mutex<LinkStatus>,
    /// Published and not confirmed.
    pub(in crate::bus) unconfirmed: AtomicUsize,
    /// Messages that the broker confirmed.
    pub(in crate::bus) published: AtomicU64,
    /// Messages that the broker rejected.
    pub(in crate::bus) refused: AtomicU64,
    /// Tasks that no queue accepts, by routing key.
    pub(in crate::bus) no_queue: Vec<(&'static str, AtomicU64)>,
    pub(in crate::bus) connections: AtomicU64,
    pub(in crate::bus) consumed: AtomicU64,
    /// Deliveries that the broker made before.
    pub(in crate::bus) redelivered: AtomicU64,
    pub(in crate::bus) dead: AtomicU64,
    pub(in crate::bus) parking: Parking,
}

impl State {
    /// `keys`: the routing keys of tasks for services.
    pub(in crate::bus) fn new(
        broker: &'static str,
        keys: Vec<&'static str>,
        parking: Parking,
    ) -> Self {
        let down = || Mutex::new(LinkStatus::Down(format!("not connected to {broker} yet")));
        Self {
            broker,
            publishing: down(),
            consuming: down(),
            unconfirmed: AtomicUsize::new(0),
            published: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            no_queue: keys.into_iter().map(|key| (key, AtomicU64::new(0))).collect(),
            connections: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            redelivered: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            parking,
        }
    }

    /// A delivery; `is_again`: the broker has made it before.
    pub(in crate::bus) fn count_consumed(&self, is_again: bool) {
        self.consumed.fetch_add(1, Ordering::Relaxed);
        self.redelivered.fetch_add(u64::from(is_again), Ordering::Relaxed);
    }

    pub(in crate::bus) fn publishing(&self) -> LinkStatus {
        lock(&self.publishing).clone()
    }

    pub(in crate::bus) fn set_publishing(&self, link: LinkStatus) {
        self.set(&self.publishing, "publishing", link);
    }

    pub(in crate::bus) fn set_consuming(&self, link: LinkStatus) {
        self.set(&self.consuming, "consuming", link);
    }

    fn set(&self, slot: &Mutex<LinkStatus>, what: &str, link: LinkStatus) {
        let before = std::mem::replace(&mut *lock(slot), link.clone());
        if before == link {
            return;
        }
        let broker = self.broker;
        match &link {
            LinkStatus::Up => {
                if matches!(before, LinkStatus::Down(_)) {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                }
                info!("{broker}: {what} works");
            }
            LinkStatus::Down(why) => warn!("{broker}: {what} is down, reconnecting: {why}"),
            LinkStatus::Blocked(why) => warn!("{broker}: {what} is blocked by the broker: {why}"),
        }
    }

    pub(in crate::bus) fn count_no_queue(&self, routing_key: &str) {
        if let Some((_, count)) = self.no_queue.iter().find(|(key, _)| *key == routing_key) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Why nothing goes out at the moment.
    pub(in crate::bus) fn delay(&self) -> Option<String> {
        match self.publishing() {
            LinkStatus::Up => None,
            LinkStatus::Down(why) => Some(why),
            LinkStatus::Blocked(why) => {
                Some(format!("{} has blocked publishing: {why}", self.broker))
            }
        }
    }

    pub(in crate::bus) fn health(&self) -> Result<(), String> {
        let consuming = match &*lock(&self.consuming) {
            LinkStatus::Up => None,
            LinkStatus::Down(why) | LinkStatus::Blocked(why) => Some(why.clone()),
        };
        let mut problems: Vec<String> = self.delay().into_iter().chain(consuming).collect();
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    pub(in crate::bus) fn metrics(&self, waiting: usize) -> Vec<Metric> {
        use MetricKind::{Counter, Gauge};
        let metric =
            |name, help, kind, value| Metric { name, help, kind, value, routing_key: None };
        let counter = |name, help, count: &AtomicU64| {
            metric(name, help, Counter, count.load(Ordering::Relaxed))
        };
        let gauge = |name, help, value: usize| {
            metric(name, help, Gauge, u64::try_from(value).unwrap_or(u64::MAX))
        };
        let mut metrics = vec![
            counter("bus_published", "Messages that the broker has confirmed", &self.published),
            counter("bus_refused", "Messages that the broker rejected", &self.refused),
            counter("bus_consumed", "Messages consumed from the broker", &self.consumed),
            counter(
                "bus_redelivered",
                "Consumed messages that the broker had delivered before",
                &self.redelivered,
            ),
            counter("bus_dead", "Messages rejected and dead-lettered", &self.dead),
            counter(
                "bus_parked",
                "Messages that could not be handled yet and were parked for redelivery",
                &self.parking.count,
            ),
            counter("bus_connections", "Connections made to the broker", &self.connections),
            gauge(
                "bus_unconfirmed",
                "Messages published and not confirmed",
                self.unconfirmed.load(Ordering::Relaxed),
            ),
            gauge("bus_waiting", "Messages queued for publishing", waiting),
            gauge(
                "bus_working",
                "Whether publishing and consuming work",
                usize::from(self.health().is_ok()),
            ),
        ];
        metrics.extend(self.no_queue.iter().map(|(key, count)| Metric {
            name: "bus_no_queue",
            help: "Tasks returned because no queue is bound to their routing key",
            kind: Counter,
            value: count.load(Ordering::Relaxed),
            routing_key: Some(key),
        }));
        metrics
    }
}

fn lock(slot: &Mutex<LinkStatus>) -> MutexGuard<'_, LinkStatus> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
