//! How the broker is at the moment, and what has been counted: read by `/health`, by figures and at
//! the door.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::bus::broker::parking::Parking;
use crate::bus::{Figure, FigureKind};

/// One of the two connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bus) enum Link {
    /// Why it is not there.
    Down(String),
    Up,
    /// It is there and the broker does not read from it: its memory or its disk is short.
    Blocked(String),
}

#[derive(Debug)]
pub(in crate::bus) struct State {
    /// Its name, for people.
    pub(in crate::bus) broker: &'static str,
    publishing: Mutex<Link>,
    consuming: Mutex<Link>,
    /// Published and not confirmed.
    pub(in crate::bus) unconfirmed: AtomicUsize,
    /// Messages that the broker has for somebody.
    pub(in crate::bus) published: AtomicU64,
    /// Messages that the broker did not take.
    pub(in crate::bus) refused: AtomicU64,
    /// Tasks for which nobody listens, by the routing key.
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
        let down = || Mutex::new(Link::Down(format!("not connected to {broker} yet")));
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

    pub(in crate::bus) fn publishing(&self) -> Link {
        lock(&self.publishing).clone()
    }

    pub(in crate::bus) fn set_publishing(&self, link: Link) {
        self.set(&self.publishing, "publishing", link);
    }

    pub(in crate::bus) fn set_consuming(&self, link: Link) {
        self.set(&self.consuming, "consuming", link);
    }

    fn set(&self, slot: &Mutex<Link>, what: &str, link: Link) {
        let before = std::mem::replace(&mut *lock(slot), link.clone());
        if before == link {
            return;
        }
        let broker = self.broker;
        match &link {
            Link::Up => {
                if matches!(before, Link::Down(_)) {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                }
                info!("{broker}: {what} works");
            }
            Link::Down(why) => warn!("{broker}: {what} does not work: {why}"),
            Link::Blocked(why) => warn!("{broker}: {what} is blocked by the broker: {why}"),
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
            Link::Up => None,
            Link::Down(why) => Some(why),
            Link::Blocked(why) => Some(format!("{} has blocked publishing: {why}", self.broker)),
        }
    }

    pub(in crate::bus) fn health(&self) -> Result<(), String> {
        let consuming = match &*lock(&self.consuming) {
            Link::Up => None,
            Link::Down(why) | Link::Blocked(why) => Some(why.clone()),
        };
        let mut problems: Vec<String> = self.delay().into_iter().chain(consuming).collect();
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    pub(in crate::bus) fn figures(&self, waiting: usize) -> Vec<Figure> {
        use FigureKind::{Counter, Gauge};
        let figure =
            |name, help, kind, value| Figure { name, help, kind, value, routing_key: None };
        let counter = |name, help, count: &AtomicU64| {
            figure(name, help, Counter, count.load(Ordering::Relaxed))
        };
        let gauge = |name, help, value: usize| {
            figure(name, help, Gauge, u64::try_from(value).unwrap_or(u64::MAX))
        };
        let mut figures = vec![
            counter("bus_published", "Messages that the broker has confirmed", &self.published),
            counter("bus_refused", "Messages that the broker did not take", &self.refused),
            counter("bus_consumed", "Messages that were taken from the broker", &self.consumed),
            counter(
                "bus_redelivered",
                "Of those consumed, the ones that the broker had delivered before",
                &self.redelivered,
            ),
            counter("bus_dead", "Messages that were refused and put aside", &self.dead),
            counter(
                "bus_parked",
                "Messages that could not be taken yet and were put aside for a while",
                &self.parking.count,
            ),
            counter("bus_connections", "Connections made to the broker", &self.connections),
            gauge(
                "bus_unconfirmed",
                "Messages published and not confirmed",
                self.unconfirmed.load(Ordering::Relaxed),
            ),
            gauge("bus_waiting", "Messages that wait to be published", waiting),
            gauge(
                "bus_working",
                "Whether the broker takes and gives messages",
                usize::from(self.health().is_ok()),
            ),
        ];
        figures.extend(self.no_queue.iter().map(|(key, count)| Figure {
            name: "bus_no_queue",
            help: "Tasks that came back because no service listens on their routing key",
            kind: Counter,
            value: count.load(Ordering::Relaxed),
            routing_key: Some(key),
        }));
        figures
    }
}

fn lock(slot: &Mutex<Link>) -> MutexGuard<'_, Link> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
