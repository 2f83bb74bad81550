//! One play: several lives of a process over one store. In each but the last instances are started
//! and everything fails, until the process dies at a random moment; in the last one nothing fails
//! any more, and whatever was acknowledged must come to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crux_runtime::app::{App, Workflow};
use crux_runtime::engine::api::{Command, Start};
use crux_runtime::engine::{Engine, Options, Source};
use crux_runtime::executor::Executor;
use crux_runtime::id::InstanceId;
use crux_runtime::live::Hub;
use crux_runtime::machine::{Instance, Run};
use crux_runtime::store::{Status, Store, memory::Memory};
use serde_json::value::RawValue;

use super::audit::audit;
use super::order::{self, Order};
use super::random::Random;
use super::services::{Ledger, Services};
use super::source::Seeded;
use super::store::{Faults, Faulty};
use super::trace::{self, Trace};

pub static WORKFLOWS: &[Workflow] = &[Workflow {
    definition: &order::DEFINITION,
    start: |id, started, now, out| {
        Run::<Order>::start(id, started, now, out).map(|run| Box::new(run) as Box<dyn Instance>)
    },
}];

/// What clients were answered.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// By request id.
    pub starts: BTreeMap<String, InstanceId>,
    pub cancels: Vec<InstanceId>,
}

/// Plays a seed, and once more: both have to do the same.
pub fn play_twice(seed: u64) -> Result<(), String> {
    let random = Random::new(seed, "faults");
    let faults = Faults { before: random.below(6), after: random.below(6), forgets: false };
    let (once, twice) = (World::new(seed), World::new(seed));
    once.play(faults)?;
    twice.play(faults)?;
    trace::compare(&once.trace.take(), &twice.trace.take())
}

/// What all lives of a play have in common.
pub struct World {
    seed: u64,
    clock: Arc<Seeded>,
    /// What engines are given: the clock above, unless a test wants another.
    pub source: Arc<dyn Source>,
    pub trace: Trace,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let clock = Arc::new(Seeded::new(seed));
        Self { seed, source: clock.clone(), clock, trace: Trace::default() }
    }

    pub fn play(&self, faults: Faults) -> Result<(), String> {
        let seed = self.seed;
        let random = Arc::new(Random::new(seed, "world"));
        let below = Arc::new(Memory::new(Arc::new(crux_runtime::store::memory::NoFaults)));
        let ledger = Arc::new(std::sync::Mutex::new(Ledger::default()));
        let mut acknowledged = Acknowledged::default();
        let lives = 1 + random.below(4);
        for life in 0..=lives {
            let last = life == lives;
            let now =
                if last { Faults { forgets: faults.forgets, ..Faults::default() } } else { faults };
            let mut store = Faulty::new(
                below.clone(),
                now,
                Arc::new(Random::new(seed, &format!("store {life}"))),
            );
            store.trace = self.trace.clone();
            let crashed = store.crashed.clone();
            let services = Services {
                ledger: ledger.clone(),
                random: Arc::new(Random::new(seed, &format!("services {life}"))),
                trouble: if last { 0 } else { random.below(40) },
                trace: self.trace.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .map_err(|e| e.to_string())?;
            let result = runtime.block_on(async {
                self.trace.begin(life);
                let begun = tokio::time::Instant::now();
                let result = self.live(store, services, &random, &mut acknowledged, last).await;
                self.clock.pass(i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX));
                result
            });
            crashed.store(true, Ordering::SeqCst);
            // Whatever was between two awaits is gone.
            drop(runtime);
            result?;
            // Until the next process begins; and now and then the clock is set back.
            let pause = i64::try_from(random.below(10_000)).unwrap_or(0);
            self.clock.pass(if random.chance(10) { -pause } else { pause });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|e| e.to_string())?;
        let ledger = ledger.lock().map_err(|e| e.to_string())?;
        runtime.block_on(audit(&below, &ledger, &acknowledged))
    }

    async fn live(
        &self,
        store: Faulty,
        services: Services,
        random: &Arc<Random>,
        acknowledged: &mut Acknowledged,
        last: bool,
    ) -> Result<(), String> {
        let app = Arc::new(App {
            workflows: WORKFLOWS,
            contracts: &[],
            events: &[],
            routes: &[],
            steps: Vec::new(),
            package: crux_runtime::this_package!(),
        });
        let workers = Executor::new(&[], &Default::default()).map_err(|e| e.to_string())?;
        let options = Options {
            shards: 2,
            cached_instances: 4,
            source: self.source.clone(),
            ..Options::default()
        };
        let below = store.below.clone();
        let engine = loop {
            match Engine::open(
                app.clone(),
                Arc::new(store.clone()),
                Arc::new(services.clone()),
                workers.clone(),
                Hub::default(),
                options.clone(),
            )
            .await
            {
                Ok(engine) => break engine,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        if last {
            return finish(&engine, &below, acknowledged).await;
        }
        let death = Duration::from_micros(random.below(20_000_000));
        let asked = self.ask(&engine, random, acknowledged);
        // The process dies in the middle of whatever it does.
        let _ = tokio::time::timeout(death, asked).await;
        Ok(())
    }

    /// Clients: starts, some of them twice, and a cancel now and then.
    async fn ask(&self, engine: &Engine, random: &Arc<Random>, acknowledged: &mut Acknowledged) {
        loop {
            let request = format!("req-{}", random.below(60));
            let input = format!(r#"{{"order":"{request}","big":{}}}"#, request.len() % 2 == 0);
            let start = Start {
                workflow: "order".to_owned(),
                input: RawValue::from_string(input).expect("a test's JSON is JSON"),
                request_id: Some(request.clone()),
                owner: String::new(),
                trigger: "test".to_owned(),
                traceparent: String::new(),
            };
            let started = engine.start(start).await;
            self.trace.note(format_args!("start {request}: {started:?}"));
            if let Ok(started) = started {
                let before = acknowledged.starts.insert(request.clone(), started.instance);
                assert!(
                    before.is_none_or(|before| before == started.instance),
                    "one request id started two instances: {request}"
                );
            }
            if random.chance(10)
                && let Some(instance) = acknowledged
                    .starts
                    .values()
                    .nth(usize::try_from(random.below(60)).unwrap_or(0))
                    .copied()
            {
                let cancelled =
                    engine.command(instance, Command::Cancel { reason: "test".to_owned() }).await;
                self.trace.note(format_args!("cancel {instance}: {cancelled:?}"));
                if cancelled.is_ok() {
                    acknowledged.cancels.push(instance);
                }
            }
            tokio::time::sleep(Duration::from_micros(random.below(400_000))).await;
        }
    }
}

/// In a world without faults everything that was acknowledged ends, in less than two hours of its
/// time.
async fn finish(
    engine: &Engine,
    below: &Memory,
    acknowledged: &Acknowledged,
) -> Result<(), String> {
    for _ in 0..7_200 {
        let mut open = Vec::new();
        for instance in acknowledged.starts.values() {
            match below.record(*instance).await {
                Ok(Some(record)) if record.status.is_ended() || record.status == Status::Parked => {
                }
                Ok(Some(record)) => open.push((*instance, record.status)),
                other => {
                    return Err(format!("an acknowledged start is gone: {instance}: {other:?}"));
                }
            }
        }
        if open.is_empty() && engine.has_recovered() {
            // Hooks follow the end.
            tokio::time::sleep(Duration::from_secs(120)).await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut stuck = Vec::new();
    for instance in acknowledged.starts.values() {
        if let Ok(Some(record)) = below.record(*instance).await
            && !record.status.is_ended()
        {
            let rows = below.rows(*instance, 0, 1000).await.unwrap_or_default();
            stuck.push(format!(
                "{instance} {:?}:\n{}",
                record.status,
                rows.iter().map(|row| &*row.row).collect::<Vec<_>>().join("\n")
            ));
        }
    }
    Err(format!("still open after two hours:\n{}", stuck.join("\n\n")))
}
