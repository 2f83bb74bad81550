//! The slots of a worker process: which tasks it accepts, how many at a time, and what is running.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tracing::warn;

use super::{Error, attempt};
use crate::bus::broker::Broker;
use crate::bus::broker::task_delivery;
use crate::bus::broker::task_delivery::{Capacity, Delivery, Order, TaskDisposition, TaskHandler};
use crate::bus::broker::worker_registry::{AttemptIds, Heartbeat};
use crate::bus::{Bus, Message, PublishOutcome};
use crate::executor::{Cancellation, Executor};
use crate::machine::{Contract, EffectKind};
use crate::supervise;

/// Before a message is published again that the bus had no room for, or that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Heartbeats per heartbeat timeout: two may be late.
const HEARTBEATS_PER_TIMEOUT: u32 = 3;
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// A worker process: its step types, slots and running attempts. With `--concurrency 4` and `pay`
/// limited to 2 it has four slots, of which at most two run `pay`; a task takes a [`SlotGuard`]
/// before it is acknowledged or run, and the slot is free again when the result is published.
pub(super) struct Worker {
    /// Unique: of this process.
    pub(super) id: String,
    host: String,
    contracts: Vec<&'static Contract>,
    pub(super) manager: Executor,
    pub(super) bus: Arc<Broker>,
    pub(super) concurrency: usize,
    pub(super) max_result_bytes: usize,
    /// The heartbeat interval, if no attempt needs a shorter one.
    every: Duration,
    slots: Mutex<Slots>,
    /// Running attempts, and tasks that are being given back.
    busy: watch::Sender<usize>,
    working: Mutex<HashMap<AttemptIds, RunningAttempt>>,
    /// An attempt began that needs a shorter heartbeat interval.
    pub(super) heartbeat_now: Notify,
}

struct Slots {
    is_closed: bool,
    free: usize,
    /// As `Worker::contracts`.
    of_types: Vec<StepSlots>,
}

/// Of one step type.
struct StepSlots {
    free: usize,
    room: watch::Sender<Capacity>,
}

impl Slots {
    /// Publishes the capacity to the task consumers.
    fn tell(&self) {
        for step in &self.of_types {
            let now = Capacity { free: step.free.min(self.free), is_closed: self.is_closed };
            step.room.send_if_modified(|room| std::mem::replace(room, now) != now);
        }
    }
}

struct RunningAttempt {
    /// Its heartbeat interval.
    every: Duration,
    cancellation: Cancellation,
}

impl Worker {
    pub(super) fn new(
        contracts: Vec<&'static Contract>,
        manager: Executor,
        bus: Arc<Broker>,
        concurrency: usize,
        max_result_bytes: usize,
        heartbeat_timeout: Duration,
    ) -> Result<Arc<Self>, Error> {
        let listings = manager.list();
        let step = |contract: &&'static Contract| {
            let listing = listings.iter().find(|listing| listing.step_type == contract.step_type);
            let free =
                listing.map_or(concurrency, |listing| listing.limits.maximum.min(concurrency));
            StepSlots { free, room: watch::Sender::new(Capacity { free, is_closed: false }) }
        };
        let slots = Slots {
            is_closed: false,
            free: concurrency,
            of_types: contracts.iter().map(step).collect(),
        };
        let mut random = [0; 6];
        getrandom::fill(&mut random).map_err(|error| Error::Random(error.to_string()))?;
        Ok(Arc::new(Self {
            id: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            host: host(),
            contracts,
            manager,
            bus,
            concurrency,
            max_result_bytes,
            every: (heartbeat_timeout / HEARTBEATS_PER_TIMEOUT).min(HEARTBEAT_INTERVAL_MAX),
            slots: Mutex::new(slots),
            busy: watch::Sender::new(0),
            working: Mutex::default(),
            heartbeat_now: Notify::new(),
        }))
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.contracts.iter().map(|contract| contract.step_type).collect()
    }

    /// Accepts no more tasks.
    pub(super) fn close(&self) {
        let mut slots = self.slots();
        slots.is_closed = true;
        slots.tell();
    }

    /// Requeues what has not begun, and waits for running attempts.
    pub(super) async fn drain(&self, limit: Duration) {
        self.manager.drain(limit).await;
    }

    /// Ends when nothing is running and all results are published.
    pub(super) async fn quiet(&self) {
        let mut busy = self.busy.subscribe();
        // The sender is here.
        let _ = busy.wait_for(|busy| *busy == 0).await;
    }

    /// The number of running attempts.
    pub(super) fn working(&self) -> usize {
        self.lock().len()
    }

    /// Cancels all running attempts.
    pub(super) fn cancel_all(&self) {
        self.lock().values().for_each(|running| running.cancellation.cancel());
    }

    pub(super) fn heartbeat(&self, is_last: bool) -> Heartbeat {
        let running = self.lock();
        let every = running
            .values()
            .map(|running| running.every)
            .min()
            .unwrap_or(self.every)
            .min(self.every);
        Heartbeat {
            worker: self.id.clone(),
            host: self.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            steps: self.names().into_iter().map(str::to_owned).collect(),
            concurrency: self.concurrency,
            working: running.keys().copied().collect(),
            every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
            is_last,
        }
    }

    /// A slot for an attempt of that type, by its number, if there is one.
    fn slot(self: &Arc<Self>, number: usize) -> Option<SlotGuard> {
        let mut slots = self.slots();
        let has_room = !slots.is_closed && slots.free > 0;
        let step = slots.of_types.get_mut(number).filter(|step| has_room && step.free > 0)?;
        step.free -= 1;
        slots.free -= 1;
        slots.tell();
        drop(slots);
        self.busy.send_modify(|busy| *busy += 1);
        Some(SlotGuard { worker: self.clone(), number, working: None })
    }

    fn leave(&self, number: usize) {
        let mut slots = self.slots();
        if let Some(step) = slots.of_types.get_mut(number) {
            step.free += 1;
        }
        slots.free += 1;
        slots.tell();
        drop(slots);
        self.busy.send_modify(|busy| *busy -= 1);
    }

    /// Publishes until the broker has it, however long that takes.
    pub(super) async fn say(&self, message: Message) {
        let mut message = message;
        loop {
            let (report, published) = oneshot::channel();
            let done = Box::new(move |published| {
                // The receiver lives as long as the process.
                let _ = report.send(published);
            });
            let again = message.clone();
            match self.bus.publish(message, done) {
                Ok(()) => match published.await {
                    Ok(PublishOutcome::Confirmed) => return,
                    Ok(PublishOutcome::Failed(reason)) => {
                        warn!(
                            routing_key = again.routing_key,
                            reason, "publishing failed; retrying"
                        )
                    }
                    // The bus is closed: the process ends.
                    Err(_) => return std::future::pending().await,
                },
                Err(_) => {
                    tracing::debug!(routing_key = again.routing_key, "the bus has no room now")
                }
            }
            message = again;
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Publishes an at-most-once task again as new, instead of requeueing it: of a redelivered one
    /// it would be unknown whether it has begun.
    fn put_back(self: &Arc<Self>, contract: &'static Contract, order: &Order, delivery: Delivery) {
        let Some(message) = task_delivery::copy(contract, order, &delivery.body) else { return };
        let worker = self.clone();
        worker.busy.send_modify(|busy| *busy += 1);
        supervise::spawn("publishing a result", async move {
            let (report, published) = oneshot::channel();
            let done = Box::new(move |published| {
                let _ = report.send(published);
            });
            if worker.bus.publish_once(message, done).is_ok()
                && matches!(published.await, Ok(PublishOutcome::Confirmed))
            {
                delivery.receipt.done().await;
            }
            // Otherwise it is redelivered when this connection ends, and counts as begun.
            worker.busy.send_modify(|busy| *busy -= 1);
        });
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Nothing panics under the lock.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptIds, RunningAttempt>> {
        // Nothing panics under the lock.
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskHandler for Worker {
    fn step_types(&self) -> Vec<&'static str> {
        self.names()
    }

    fn is_once(&self, step_type: &str) -> bool {
        self.contracts
            .iter()
            .any(|contract| contract.step_type == step_type && contract.effect == EffectKind::Once)
    }

    fn capacity(&self, step_type: &'static str) -> watch::Receiver<Capacity> {
        let number = self.contracts.iter().position(|contract| contract.step_type == step_type);
        match number
            .and_then(|number| self.slots().of_types.get(number).map(|step| step.room.subscribe()))
        {
            Some(room) => room,
            None => watch::Sender::new(Capacity { free: 0, is_closed: true }).subscribe(),
        }
    }

    fn handle(self: Arc<Self>, delivery: Delivery) -> TaskDisposition {
        let order = match Order::parse(&delivery.body) {
            Ok(order) => order,
            Err(reason) => return TaskDisposition::DeadLetter(delivery, reason),
        };
        let known = (0..)
            .zip(self.contracts.iter().copied())
            .find(|(_, contract)| contract.step_type == order.step_type);
        let Some((number, contract)) = known else {
            let reason = format!("this worker has no step struct for `{}`", order.step_type);
            return TaskDisposition::DeadLetter(delivery, reason);
        };
        let Some(slot) = self.slot(number) else {
            if order.once && !delivery.is_again {
                self.put_back(contract, &order, delivery);
                return TaskDisposition::Accepted;
            }
            return TaskDisposition::NoCapacity(delivery);
        };
        supervise::spawn("an attempt", attempt::run(slot, contract, order, delivery));
        TaskDisposition::Accepted
    }

    fn cancel(&self, AttemptIds(instance, step, attempt): AttemptIds) {
        for (working, running) in self.lock().iter() {
            if (working.0, working.1) == (instance, step) && (attempt == 0 || working.2 == attempt)
            {
                running.cancellation.cancel();
            }
        }
    }
}

/// The slot of one running attempt; freed on drop.
pub(super) struct SlotGuard {
    pub(super) worker: Arc<Worker>,
    /// Of its step type.
    number: usize,
    working: Option<AttemptIds>,
}

impl SlotGuard {
    /// From now on heartbeats name the attempt. `false`: it is running here already.
    pub(super) fn begin(&mut self, order: &Order, cancellation: Cancellation) -> bool {
        let working = order.working();
        let timeout = order.heartbeat_ms.map(Duration::from_millis);
        let every = timeout
            .map_or(self.worker.every, |timeout| timeout / HEARTBEATS_PER_TIMEOUT)
            .max(Duration::from_millis(10));
        {
            let mut running = self.worker.lock();
            if running.contains_key(&working) {
                return false;
            }
            running.insert(working, RunningAttempt { every, cancellation });
        }
        self.working = Some(working);
        if every < self.worker.every {
            self.worker.heartbeat_now.notify_one();
        }
        true
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        if let Some(working) = self.working {
            self.worker.lock().remove(&working);
        }
        self.worker.leave(self.number);
    }
}

/// The machine's name, for people; empty if it has none.
pub(super) fn host() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    said.map(|name| name.trim().to_owned()).unwrap_or_default()
}
