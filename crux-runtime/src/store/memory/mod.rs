//! A store in memory, for tests, the simulator and trying things out. It keeps the contract and no
//! more: it can lose responses, refuse, delay and crash in the middle, as [`Faults`] decide.
//! Nothing survives the process.

mod data;
mod faults;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::faults::{Call, CallOutcome, Faults, NoFaults};

use self::data::Data;
use super::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, Pending, Record, Seq, Settled, Store,
    Stored, Subscription, UndeliveredEvent,
};
use crate::id::InstanceId;
use crate::machine::Time;

/// One opening of the store. Another one takes its place with [`Memory::crash`] or, after
/// [`Store::close`], with [`Memory::reopen`].
pub struct Memory {
    disk: Arc<Disk>,
    faults: Arc<dyn Faults>,
    /// Which opening this is; only the newest one does anything.
    opening: u64,
}

#[derive(Debug, Default)]
struct Disk {
    data: Mutex<Data>,
    opening: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Arc::new(NoFaults))
    }
}

impl Memory {
    pub fn new(faults: Arc<dyn Faults>) -> Self {
        Self { disk: Arc::new(Disk::default()), faults, opening: 0 }
    }

    /// What a new process finds after the old one was killed: what was done is there, answered or
    /// not; questions that were still delayed are not. Marks that were cleared lately are there
    /// again unless they survive. The old opening does nothing any more.
    pub fn crash(&self, survives: impl FnMut(InstanceId) -> bool) -> Self {
        self.disk.lock().lose_lazy(survives);
        self.reopen()
    }

    /// As after an orderly end.
    pub fn reopen(&self) -> Self {
        let opening = self.disk.opening.fetch_add(1, Ordering::SeqCst) + 1;
        Self { disk: self.disk.clone(), faults: self.faults.clone(), opening }
    }

    /// Without delays it is done before this returns.
    fn run<T: Send + 'static>(
        &self,
        call: Call,
        run: impl FnOnce(&mut Data) -> T + Send + 'static,
    ) -> Pending<Result<T, Error>> {
        let faults = self.faults.clone();
        self.delayed(call, move |data| match faults.outcome(call) {
            CallOutcome::Done => Ok(run(data)),
            CallOutcome::Unanswered => {
                run(data);
                Err(lost())
            }
            CallOutcome::Full if call != Call::Read => Err(full()),
            CallOutcome::Lost | CallOutcome::Full => Err(lost()),
        })
    }

    fn delayed<T: Send + 'static>(
        &self,
        call: Call,
        run: impl FnOnce(&mut Data) -> Result<T, Error> + Send + 'static,
    ) -> Pending<Result<T, Error>> {
        let (before, after) = self.faults.delay_ms(call);
        let (disk, opening) = (self.disk.clone(), self.opening);
        if (before, after) == (0, 0) {
            let result = disk.during(opening, run);
            return Box::pin(std::future::ready(result));
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(before)).await;
            let result = disk.during(opening, run);
            tokio::time::sleep(Duration::from_millis(after)).await;
            result
        })
    }
}

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn during<T>(
        &self,
        opening: u64,
        run: impl FnOnce(&mut Data) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut data = self.lock();
        if self.opening.load(Ordering::SeqCst) != opening {
            return Err(Error::Unavailable("it is closed".to_owned()));
        }
        run(&mut data)
    }
}

fn lost() -> Error {
    Error::Unavailable("the answer is lost".to_owned())
}

fn full() -> Error {
    Error::Full("no room".to_owned())
}

impl Store for Memory {
    fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>> {
        let count = batch.len();
        let faults = self.faults.clone();
        let appended = self.delayed(Call::Append, move |data| {
            let one = |append| match faults.outcome(Call::Append) {
                CallOutcome::Done => data.append(append),
                CallOutcome::Unanswered => data.append(append).and(Err(lost())),
                CallOutcome::Lost => Err(lost()),
                CallOutcome::Full => Err(full()),
            };
            Ok(batch.into_iter().map(one).collect())
        });
        Box::pin(async move { appended.await.unwrap_or_else(|error| vec![Err(error); count]) })
    }

    fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>> {
        self.run(Call::Settle, move |data| {
            batch.into_iter().for_each(|settled| data.settle(settled))
        })
    }

    fn record(&self, instance: InstanceId) -> Pending<Result<Option<Record>, Error>> {
        self.run(Call::Read, move |data| data.record(instance))
    }

    fn rows(
        &self,
        instance: InstanceId,
        after: Seq,
        limit: usize,
    ) -> Pending<Result<Vec<Stored>, Error>> {
        self.run(Call::Read, move |data| data.rows(instance, after, limit))
    }

    fn list(&self, filter: Filter) -> Pending<Result<Vec<Record>, Error>> {
        self.run(Call::Read, move |data| data.list(&filter))
    }

    fn unsettled(
        &self,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Pending<Result<Vec<InstanceId>, Error>> {
        self.run(Call::Read, move |data| data.unsettled(after, limit))
    }

    fn due(
        &self,
        after: Option<(Time, InstanceId)>,
        until: Time,
        limit: usize,
    ) -> Pending<Result<Vec<(Time, InstanceId)>, Error>> {
        self.run(Call::Read, move |data| data.due(after, until, limit))
    }

    fn subscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.run(Call::Write, move |data| data.subscribe(batch))
    }

    fn unsubscribe(&self, batch: Vec<Subscription>) -> Pending<Result<(), Error>> {
        self.run(Call::Write, move |data| data.unsubscribe(batch))
    }

    fn subscribers(
        &self,
        event: String,
        value: Option<String>,
        after: Option<Subscription>,
        limit: usize,
    ) -> Pending<Result<Vec<Subscription>, Error>> {
        self.run(Call::Read, move |data| data.subscribers(&event, value.as_deref(), after, limit))
    }

    fn keep(&self, batch: Vec<KeptEvent>) -> Pending<Result<Vec<bool>, Error>> {
        self.run(Call::Write, move |data| data.keep(batch))
    }

    fn kept(
        &self,
        event: String,
        value: Option<String>,
        now: Time,
    ) -> Pending<Result<Vec<KeptEvent>, Error>> {
        self.run(Call::Read, move |data| data.kept(&event, value.as_deref(), now))
    }

    fn delivered(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.run(Call::Write, move |data| data.delivered(batch))
    }

    fn started(&self, batch: Vec<(String, String)>) -> Pending<Result<(), Error>> {
        self.run(Call::Write, move |data| data.started(batch))
    }

    fn undelivered(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Pending<Result<Vec<UndeliveredEvent>, Error>> {
        self.run(Call::Read, move |data| data.undelivered(after.as_deref(), limit))
    }

    fn in_use(&self) -> Pending<Result<Vec<InUse>, Error>> {
        self.run(Call::Read, move |data| data.in_use())
    }

    fn count(&self, workflows: Vec<String>) -> Pending<Result<Vec<Count>, Error>> {
        self.run(Call::Read, move |data| data.count(&workflows))
    }

    fn define(&self, hash: String, document: String) -> Pending<Result<(), Error>> {
        self.run(Call::Write, move |data| data.define(hash, document))
    }

    fn definition(&self, hash: String) -> Pending<Result<Option<String>, Error>> {
        self.run(Call::Read, move |data| data.definition(&hash))
    }

    fn expire(&self, now: Time, limit: usize) -> Pending<Result<usize, Error>> {
        self.run(Call::Write, move |data| data.expire(now, limit))
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn close(&self) -> Pending<Result<(), Error>> {
        let disk = self.disk.clone();
        let closed = self.disk.during(self.opening, |data| {
            data.lose_lazy(|_| true);
            disk.opening.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        Box::pin(std::future::ready(closed))
    }
}
