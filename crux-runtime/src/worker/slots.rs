//! Who takes tasks in this process, how many at a time, and what is under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tracing::warn;

use super::{Error, attempt};
use crate::bus::broker::Broker;
use crate::bus::broker::task_delivery;
use crate::bus::broker::task_delivery::{Delivery, Hands, Order, Room, Taken};
use crate::bus::broker::worker_registry::{Beat, Working};
use crate::bus::{Bus, Message, Published};
use crate::executor::{Cancellation, WorkerManager};
use crate::machine::{Contract, EffectKind};
use crate::supervise;

/// Before a message is offered again for which the bus had no room, or that did not get out.
const PAUSE: Duration = Duration::from_secs(1);
/// Signs of life come so many times in the time after which silence means death: two may be late.
const BEATS_PER_TIMEOUT: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the module's text.
pub(super) struct Crew {
    /// Unique: of this process.
    pub(super) id: String,
    host: String,
    contracts: Vec<&'static Contract>,
    pub(super) manager: WorkerManager,
    pub(super) bus: Arc<Broker>,
    pub(super) concurrency: usize,
    pub(super) max_result_bytes: usize,
    /// How often it gives a sign of life if no task needs more.
    every: Duration,
    seats: Mutex<Seats>,
    /// Attempts under way, and tasks that are being put back.
    busy: watch::Sender<usize>,
    working: Mutex<HashMap<Working, UnderWay>>,
    /// A task came that needs signs of life sooner.
    pub(super) hurry: Notify,
}

struct Seats {
    is_closed: bool,
    free: usize,
    /// As `Crew::contracts`.
    of_types: Vec<Seat>,
}

/// Of one step type.
struct Seat {
    free: usize,
    room: watch::Sender<Room>,
}

impl Seats {
    /// Tells whoever fetches tasks.
    fn tell(&self) {
        for seat in &self.of_types {
            let now = Room { free: seat.free.min(self.free), is_closed: self.is_closed };
            seat.room.send_if_modified(|room| std::mem::replace(room, now) != now);
        }
    }
}

struct UnderWay {
    /// How often it needs a sign of life.
    every: Duration,
    cancellation: Cancellation,
}

impl Crew {
    pub(super) fn new(
        contracts: Vec<&'static Contract>,
        manager: WorkerManager,
        bus: Arc<Broker>,
        concurrency: usize,
        max_result_bytes: usize,
        heartbeat_timeout: Duration,
    ) -> Result<Arc<Self>, Error> {
        let listings = manager.list();
        let seat = |contract: &&'static Contract| {
            let listing = listings.iter().find(|listing| listing.step_type == contract.step_type);
            let free =
                listing.map_or(concurrency, |listing| listing.limits.maximum.min(concurrency));
            Seat { free, room: watch::Sender::new(Room { free, is_closed: false }) }
        };
        let seats = Seats {
            is_closed: false,
            free: concurrency,
            of_types: contracts.iter().map(seat).collect(),
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
            every: (heartbeat_timeout / BEATS_PER_TIMEOUT).min(LONGEST_PAUSE),
            seats: Mutex::new(seats),
            busy: watch::Sender::new(0),
            working: Mutex::default(),
            hurry: Notify::new(),
        }))
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.contracts.iter().map(|contract| contract.step_type).collect()
    }

    /// Takes nothing any more.
    pub(super) fn close(&self) {
        let mut seats = self.seats();
        seats.is_closed = true;
        seats.tell();
    }

    /// Gives back what has not begun, and waits for what runs.
    pub(super) async fn drain(&self, limit: Duration) {
        self.manager.drain(limit).await;
    }

    /// Ends when nothing is under way and all results are out.
    pub(super) async fn quiet(&self) {
        let mut busy = self.busy.subscribe();
        // The sender is here.
        let _ = busy.wait_for(|busy| *busy == 0).await;
    }

    /// How many attempts are under way.
    pub(super) fn working(&self) -> usize {
        self.lock().len()
    }

    /// Nobody will wait for what is under way.
    pub(super) fn cancel_all(&self) {
        self.lock().values().for_each(|under_way| under_way.cancellation.cancel());
    }

    pub(super) fn beat(&self, is_last: bool) -> Beat {
        let under_way = self.lock();
        let every = under_way
            .values()
            .map(|under_way| under_way.every)
            .min()
            .unwrap_or(self.every)
            .min(self.every);
        Beat {
            worker: self.id.clone(),
            host: self.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            steps: self.names().into_iter().map(str::to_owned).collect(),
            concurrency: self.concurrency,
            working: under_way.keys().copied().collect(),
            every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
            is_last,
        }
    }

    /// A place for an attempt of that type, by its number, if there is one.
    fn place(self: &Arc<Self>, number: usize) -> Option<Place> {
        let mut seats = self.seats();
        let has_room = !seats.is_closed && seats.free > 0;
        let seat = seats.of_types.get_mut(number).filter(|seat| has_room && seat.free > 0)?;
        seat.free -= 1;
        seats.free -= 1;
        seats.tell();
        drop(seats);
        self.busy.send_modify(|busy| *busy += 1);
        Some(Place { crew: self.clone(), number, working: None })
    }

    fn leave(&self, number: usize) {
        let mut seats = self.seats();
        if let Some(seat) = seats.of_types.get_mut(number) {
            seat.free += 1;
        }
        seats.free += 1;
        seats.tell();
        drop(seats);
        self.busy.send_modify(|busy| *busy -= 1);
    }

    /// Publishes until the broker has it, however long that takes.
    pub(super) async fn say(&self, message: Message) {
        let mut message = message;
        loop {
            let (told, published) = oneshot::channel();
            let done = Box::new(move |published| {
                // Whoever waits for it lives as long as the process.
                let _ = told.send(published);
            });
            let again = message.clone();
            match self.bus.publish(message, done) {
                Ok(()) => match published.await {
                    Ok(Published::Done) => return,
                    Ok(Published::Failed(reason)) => {
                        warn!(routing_key = again.routing_key, reason, "not out; trying again")
                    }
                    // The bus is closed: the process ends.
                    Err(_) => return std::future::pending().await,
                },
                Err(_) => {
                    tracing::debug!(routing_key = again.routing_key, "the bus has no room now")
                }
            }
            message = again;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts a task that must not begin twice back into its queue as if nobody had had it: of one
    /// that the broker delivers again nobody could say whether it has begun.
    fn put_back(self: &Arc<Self>, contract: &'static Contract, order: &Order, delivery: Delivery) {
        let Some(message) = task_delivery::copy(contract, order, &delivery.body) else { return };
        let crew = self.clone();
        crew.busy.send_modify(|busy| *busy += 1);
        supervise::spawn("publishing a result", async move {
            let (told, published) = oneshot::channel();
            let done = Box::new(move |published| {
                let _ = told.send(published);
            });
            if crew.bus.publish_once(message, done).is_ok()
                && matches!(published.await, Ok(Published::Done))
            {
                delivery.receipt.done().await;
            }
            // Else it comes again when this connection is gone, and counts as begun.
            crew.busy.send_modify(|busy| *busy -= 1);
        });
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        // Nothing panics under the lock.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Working, UnderWay>> {
        // Nothing panics under the lock.
        self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hands for Crew {
    fn step_types(&self) -> Vec<&'static str> {
        self.names()
    }

    fn is_once(&self, step_type: &str) -> bool {
        self.contracts
            .iter()
            .any(|contract| contract.step_type == step_type && contract.effect == EffectKind::Once)
    }

    fn room(&self, step_type: &'static str) -> watch::Receiver<Room> {
        let number = self.contracts.iter().position(|contract| contract.step_type == step_type);
        match number
            .and_then(|number| self.seats().of_types.get(number).map(|seat| seat.room.subscribe()))
        {
            Some(room) => room,
            None => watch::Sender::new(Room { free: 0, is_closed: true }).subscribe(),
        }
    }

    fn take(self: Arc<Self>, delivery: Delivery) -> Taken {
        let order = match Order::parse(&delivery.body) {
            Ok(order) => order,
            Err(reason) => return Taken::Refused(delivery, reason),
        };
        let known = (0..)
            .zip(self.contracts.iter().copied())
            .find(|(_, contract)| contract.step_type == order.step_type);
        let Some((number, contract)) = known else {
            let reason = format!("this worker has no step struct for `{}`", order.step_type);
            return Taken::Refused(delivery, reason);
        };
        let Some(place) = self.place(number) else {
            if order.once && !delivery.is_again {
                self.put_back(contract, &order, delivery);
                return Taken::Done;
            }
            return Taken::Full(delivery);
        };
        supervise::spawn("an attempt", attempt::run(place, contract, order, delivery));
        Taken::Done
    }

    fn cancel(&self, Working(instance, step, attempt): Working) {
        for (working, under_way) in self.lock().iter() {
            if (working.0, working.1) == (instance, step) && (attempt == 0 || working.2 == attempt)
            {
                under_way.cancellation.cancel();
            }
        }
    }
}

/// The place of one attempt among those that may run side by side; dropped, it is free.
pub(super) struct Place {
    pub(super) crew: Arc<Crew>,
    /// Of its step type.
    number: usize,
    working: Option<Working>,
}

impl Place {
    /// From now on signs of life name the attempt. `false`: it is under way here already.
    pub(super) fn begin(&mut self, order: &Order, cancellation: Cancellation) -> bool {
        let working = order.working();
        let timeout = order.heartbeat_ms.map(Duration::from_millis);
        let every = timeout
            .map_or(self.crew.every, |timeout| timeout / BEATS_PER_TIMEOUT)
            .max(Duration::from_millis(10));
        {
            let mut under_way = self.crew.lock();
            if under_way.contains_key(&working) {
                return false;
            }
            under_way.insert(working, UnderWay { every, cancellation });
        }
        self.working = Some(working);
        if every < self.crew.every {
            self.crew.hurry.notify_one();
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(working) = self.working {
            self.crew.lock().remove(&working);
        }
        self.crew.leave(self.number);
    }
}

/// The machine's name, for people; empty if it has none.
fn host() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok());
    said.map(|name| name.trim().to_owned()).unwrap_or_default()
}
