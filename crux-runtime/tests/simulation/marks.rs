//! An instance that leaves memory and comes back before the store has cleared its mark: what is done of its effects is not done again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crux_runtime::app::App;
use crux_runtime::bus::{Bus, Message, Published};
use crux_runtime::engine::api::{Progress, ProgressKind, Start, StepRef};
use crux_runtime::engine::{Engine, Options};
use crux_runtime::id::InstanceId;
use crux_runtime::live::Hub;
use crux_runtime::store::{Status, Store, memory};
use crux_runtime::worker::WorkerManager;
use crux_runtime::worker::task::{Report, Reported, Task};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::random::Random;
use super::store::{Faults, Faulty};
use super::world::WORKFLOWS;

/// Takes whatever comes, and never answers.
#[derive(Clone, Default)]
struct Silent {
    tasks: Arc<Mutex<Vec<String>>>,
    messages: Arc<Mutex<Vec<String>>>,
}

impl Bus for Silent {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        self.tasks.lock().expect("no test panics with the lock held").push(task.task_id());
        let report = Report { instance: task.instance, path: task.path, attempt: task.attempt, what: Reported::Delivered };
        reports.try_send(report).expect("there is room");
        Ok(())
    }

    fn wants(&self, _: &str) -> bool {
        true
    }

    fn publish(&self, message: Message, done: Box<dyn FnOnce(Published) + Send>) -> Result<(), Message> {
        self.messages.lock().expect("no test panics with the lock held").push(message.id);
        done(Published::Done);
        Ok(())
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_not_done_again_while_the_mark_is_being_cleared() {
    let below = Arc::new(memory::Memory::new(Arc::new(memory::NoFaults)));
    let store = Faulty::new(below.clone(), Faults::default(), Arc::new(Random::new(1, "marks")));
    let bus = Silent::default();
    let app = Arc::new(App { workflows: WORKFLOWS, contracts: &[], events: &[], routes: &[], steps: Vec::new() });
    let workers = WorkerManager::new(&[], &Default::default()).expect("no steps");
    let options = Options { shards: 1, cached_instances: 1, ..Options::default() };
    let engine = Engine::open(app, Arc::new(store.clone()), Arc::new(bus.clone()), workers, Hub::default(), options);
    let engine = engine.await.expect("an empty store opens");
    store.keeps_marks.store(true, Ordering::SeqCst);
    let first = start(&engine).await;
    let second = start(&engine).await;
    while engine.stats().cached.load(Ordering::Relaxed) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // Its first step has effect `once`: sent again, its outcome would be unknown.
    let progress = Progress { instance: first, step: StepRef::Path("reserve".to_owned()), attempt: Some(1), what: ProgressKind::Heartbeat };
    let told = tokio::spawn({
        let engine = engine.clone();
        async move { engine.progress(progress).await }
    });
    // For longer than marks wait for company.
    tokio::time::sleep(Duration::from_millis(500)).await;
    store.keeps_marks.store(false, Ordering::SeqCst);
    told.await.expect("no panic").expect("it is open");
    tokio::time::sleep(Duration::from_secs(1)).await;

    let expected = [first, second].map(|instance| format!("{instance}/reserve/1"));
    assert_eq!(*bus.tasks.lock().expect("nobody panics"), expected, "a task was sent again");
    assert_eq!(bus.messages.lock().expect("nobody panics").len(), 2, "a hook was sent again");
    let record = below.record(first).await.expect("memory does not fail").expect("it is there");
    assert_eq!(record.status, Status::Processing);
    let rows = below.rows(first, 0, 10).await.expect("memory does not fail");
    assert_eq!(rows.len(), 1, "{rows:?}");
}

async fn start(engine: &Engine) -> InstanceId {
    let start = Start {
        workflow: "order".to_owned(),
        input: RawValue::from_string(r#"{"order":"1","big":false}"#.to_owned()).expect("JSON"),
        request_id: None,
        owner: String::new(),
        trigger: "test".to_owned(),
        traceparent: String::new(),
    };
    engine.start(start).await.expect("nothing fails").instance
}
