//! A store that fails: before its work, after it, and not at all once its process has crashed. What
//! is underneath survives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crux_runtime::id::InstanceId;
use crux_runtime::machine::Time;
use crux_runtime::store::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, Membership, Pending, Record, Seq,
    Settled, Store, Stored, Subscription, UndeliveredEvent, memory::Memory,
};

use tokio::sync::watch;

use super::random::Random;
use super::trace::Trace;

#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Percent of calls that fail before they do anything.
    pub before: u64,
    /// Percent of appends that are done and then reported as failed.
    pub after: u64,
    /// A planted bug: appends are acknowledged and sometimes not done.
    pub forgets: bool,
}

#[derive(Clone)]
pub struct Faulty {
    pub below: Arc<Memory>,
    pub faults: Faults,
    pub random: Arc<Random>,
    pub crashed: Arc<AtomicBool>,
    /// Questions are not answered while this is set.
    pub hangs: Arc<AtomicBool>,
    /// Unsettled flags are not cleared, without an error, while this is set.
    pub keeps_marks: Arc<AtomicBool>,
    /// Marks cannot be cleared while this is set.
    pub refuses_marks: Arc<AtomicBool>,
    /// Instances cannot be read while this is set.
    pub refuses_reads: Arc<AtomicBool>,
    pub membership: watch::Sender<Membership>,
    pub trace: Trace,
}

impl Faulty {
    pub fn new(below: Arc<Memory>, faults: Faults, random: Arc<Random>) -> Self {
        let (crashed, hangs, keeps_marks, refuses_marks, refuses_reads) = Default::default();
        let membership = watch::Sender::default();
        let trace = Trace::default();
        Self {
            below,
            faults,
            random,
            crashed,
            hangs,
            keeps_marks,
            refuses_marks,
            refuses_reads,
            membership,
            trace,
        }
    }

    /// Takes its time, and may fail.
    async fn pass(&self) -> Result<(), Error> {
        tokio::time::sleep(Duration::from_micros(self.random.below(3_000))).await;
        while self.hangs.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.alive()?;
        if self.random.chance(self.faults.before) {
            Err(Error::Unavailable("simulated: before".into()))
        } else {
            Ok(())
        }
    }

    fn alive(&self) -> Result<(), Error> {
        if self.crashed.load(Ordering::SeqCst) {
            Err(Error::Unavailable("simulated: crashed".into()))
        } else {
            Ok(())
        }
    }
}

macro_rules! pass_through {
    ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> Pending<Result<$answer, Error>> {
            let store = self.clone();
            let asked = format!("{} {:?}", stringify!($name), ($(&$arg,)*));
            Box::pin(async move {
                let answer = match store.pass().await {
                    Ok(()) => store.below.$name($($arg),*).await,
                    Err(error) => Err(error),
                };
                store.trace.note(format_args!("{asked}: {answer:?}"));
                answer
            })
        })*
    };
}

impl Store for Faulty {
    fn append(&self, batch: Vec<Append>) -> Pending<Vec<Result<Appended, Error>>> {
        let store = self.clone();
        Box::pin(async move {
            let mut answers = Vec::with_capacity(batch.len());
            tokio::time::sleep(Duration::from_micros(store.random.below(3_000))).await;
            for append in batch {
                store.trace.note(format_args!("{append:?}"));
                if let Err(error) = store.alive() {
                    answers.push(Err(error));
                } else if store.random.chance(store.faults.before) {
                    answers.push(Err(Error::Unavailable("simulated: before".into())));
                } else if store.faults.forgets && append.seq > 1 && store.random.chance(3) {
                    answers.push(Ok(Appended::Done));
                } else {
                    let done = store
                        .below
                        .append(vec![append])
                        .await
                        .pop()
                        .expect("one answer per append");
                    let lost = store.random.chance(store.faults.after);
                    answers.push(if lost {
                        Err(Error::Unavailable("simulated: after".into()))
                    } else {
                        done
                    });
                }
            }
            tokio::time::sleep(Duration::from_micros(store.random.below(1_000))).await;
            store.trace.note(format_args!("appended: {answers:?}"));
            answers
        })
    }

    fn settle(&self, batch: Vec<Settled>) -> Pending<Result<(), Error>> {
        let store = self.clone();
        Box::pin(async move {
            while store.keeps_marks.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            if store.refuses_marks.load(Ordering::SeqCst) {
                return Err(Error::Unavailable("simulated: no marks".into()));
            }
            let passed = store.pass().await;
            store.trace.note(format_args!("settle {batch:?}: {passed:?}"));
            passed?;
            store.below.settle(batch).await
        })
    }

    fn record(&self, instance: InstanceId) -> Pending<Result<Option<Record>, Error>> {
        let store = self.clone();
        Box::pin(async move {
            if store.refuses_reads.load(Ordering::SeqCst) {
                return Err(Error::Unavailable("simulated: no reads".into()));
            }
            let passed = store.pass().await;
            store.trace.note(format_args!("record {instance}: {passed:?}"));
            passed?;
            store.below.record(instance).await
        })
    }

    pass_through! {
        rows(instance: InstanceId, after: Seq, limit: usize) -> Vec<Stored>;
        list(filter: Filter) -> Vec<Record>;
        unsettled(after: Option<InstanceId>, limit: usize) -> Vec<InstanceId>;
        due(after: Option<(Time, InstanceId)>, until: Time, limit: usize) -> Vec<(Time, InstanceId)>;
        subscribe(batch: Vec<Subscription>) -> ();
        unsubscribe(batch: Vec<Subscription>) -> ();
        subscribers(event: String, value: Option<String>, after: Option<Subscription>, limit: usize) -> Vec<Subscription>;
        keep(batch: Vec<KeptEvent>) -> Vec<bool>;
        kept(event: String, value: Option<String>, now: Time) -> Vec<KeptEvent>;
        delivered(batch: Vec<(String, String)>) -> ();
        started(batch: Vec<(String, String)>) -> ();
        undelivered(after: Option<String>, limit: usize) -> Vec<UndeliveredEvent>;
        in_use() -> Vec<InUse>;
        count(workflows: Vec<String>) -> Vec<Count>;
        define(hash: String, document: String) -> ();
        definition(hash: String) -> Option<String>;
    }

    fn membership(&self) -> watch::Receiver<Membership> {
        self.membership.subscribe()
    }

    /// Journals are wanted for the audit, so nothing goes.
    fn expire(&self, _: Time, _: usize) -> Pending<Result<usize, Error>> {
        Box::pin(async { Ok(0) })
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn close(&self) -> Pending<Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}
