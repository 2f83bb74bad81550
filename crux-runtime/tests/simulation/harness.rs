//! One engine over a store that fails on demand, and a bus that takes everything and
//! answers nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crux_runtime::app::App;
use crux_runtime::bus::{Bus, Message, PublishOutcome};
use crux_runtime::engine::api::{Error, Progress, ProgressKind, Start, StartAccepted, StepRef};
use crux_runtime::engine::{Engine, Options};
use crux_runtime::executor::Executor;
use crux_runtime::id::InstanceId;
use crux_runtime::live::Hub;
use crux_runtime::store::{Status, Store, memory};
use crux_runtime::task::{Report, Reported, Task};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::random::Random;
use super::store::{Faults, Faulty};
use super::world::WORKFLOWS;

/// Takes whatever comes, and never answers.
#[derive(Clone, Default)]
pub struct Silent {
    /// By their ids.
    pub tasks: Arc<Mutex<Vec<String>>>,
    messages: Arc<Mutex<Vec<String>>>,
}

impl Bus for Silent {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        self.tasks.lock().expect("no test panics with the lock held").push(task.task_id());
        let report = Report {
            instance: task.instance,
            path: task.path,
            attempt: task.attempt,
            what: Reported::Delivered,
        };
        reports.try_send(report).expect("there is room");
        Ok(())
    }

    fn wants(&self, _: &str) -> bool {
        true
    }

    fn publish(
        &self,
        message: Message,
        done: Box<dyn FnOnce(PublishOutcome) + Send>,
    ) -> Result<(), Message> {
        self.messages.lock().expect("no test panics with the lock held").push(message.id);
        done(PublishOutcome::Confirmed);
        Ok(())
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}

/// An engine that keeps one waiting instance in memory.
pub struct Harness {
    pub engine: Engine,
    pub store: Faulty,
    pub bus: Silent,
}

impl Harness {
    pub async fn new() -> Self {
        let below = Arc::new(memory::Memory::new(Arc::new(memory::NoFaults)));
        Self::on(Faulty::new(below, Faults::default(), Arc::new(Random::new(1, "harness")))).await
    }

    pub async fn on(store: Faulty) -> Self {
        let bus = Silent::default();
        let app = Arc::new(App {
            workflows: WORKFLOWS,
            contracts: &[],
            events: &[],
            routes: &[],
            steps: Vec::new(),
            package: crux_runtime::this_package!(),
        });
        let workers = Executor::new(&[], &Default::default()).expect("no steps");
        let options = Options { shards: 1, cached_instances: 1, ..Options::default() };
        let engine = Engine::open(
            app,
            Arc::new(store.clone()),
            Arc::new(bus.clone()),
            workers,
            Hub::default(),
            options,
        );
        Self { engine: engine.await.expect("an empty store opens"), store, bus }
    }

    /// Two instances, of which the first has left memory.
    pub async fn two(&self) -> [InstanceId; 2] {
        let two = [self.start().await, self.start().await];
        while self.engine.counters().cached > 1 {
            pass(1).await;
        }
        two
    }

    pub async fn start(&self) -> InstanceId {
        self.try_start().await.expect("nothing fails").instance
    }

    pub async fn try_start(&self) -> Result<StartAccepted, Error> {
        let start = Start {
            workflow: "order".to_owned(),
            input: RawValue::from_string(r#"{"order":"1","big":false}"#.to_owned()).expect("JSON"),
            request_id: None,
            owner: String::new(),
            trigger: "test".to_owned(),
            traceparent: String::new(),
        };
        self.engine.start(start).await
    }

    /// A heartbeat of its first step, which brings the instance back to memory.
    pub async fn send_heartbeat(&self, instance: InstanceId) {
        let step = StepRef::Path("reserve".to_owned());
        let progress = Progress {
            instance,
            step,
            step_type: None,
            attempt: Some(1),
            what: ProgressKind::Heartbeat,
        };
        self.engine.progress(progress).await.expect("it is open");
    }

    /// That each instance is as its start has left it: one task and one hook, and nothing that came
    /// of a second time.
    pub async fn assert_told_once(&self, instances: &[InstanceId]) {
        let expected: Vec<String> =
            instances.iter().map(|instance| format!("{instance}/reserve/1")).collect();
        assert_eq!(
            *self.bus.tasks.lock().expect("nobody panics"),
            expected,
            "a task was sent again"
        );
        assert_eq!(
            self.bus.messages.lock().expect("nobody panics").len(),
            instances.len(),
            "a hook was sent again"
        );
        for instance in instances {
            let record = self
                .store
                .below
                .record(*instance)
                .await
                .expect("memory does not fail")
                .expect("it is there");
            assert_eq!(record.status, Status::Processing);
            let rows = self.store.below.rows(*instance, 0, 10).await.expect("memory does not fail");
            assert_eq!(rows.len(), 1, "{rows:?}");
        }
    }
}

pub async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
