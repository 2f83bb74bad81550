//! Services as they are: they answer late, twice, for a task that they got twice, not at all, or
//! that they cannot. The ledger writes down what they did; it is outside of every process that
//! crashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crux_runtime::bus::{Bus, Message, PublishOutcome};
use crux_runtime::id::InstanceId;
use crux_runtime::machine::{AttemptFailed, Failure, Outcome};
use crux_runtime::task::{Report, Reported, Task};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::random::Random;
use super::trace::Trace;

/// What the world saw.
#[derive(Debug, Default)]
pub struct Ledger {
    /// How often each attempt (`<instance>/<path>/<attempt>`) was done.
    pub done: BTreeMap<String, u32>,
    /// How often each attempt was taken, but for those that reached nobody.
    pub taken: BTreeMap<String, u32>,
    /// Ids of published messages, by instance and routing key.
    pub published: BTreeMap<(String, &'static str), Vec<String>>,
    /// Steps that ran to success at least once, in the order of their first success: instance,
    /// path.
    pub successes: Vec<(InstanceId, String)>,
}

#[derive(Clone)]
pub struct Services {
    pub ledger: Arc<Mutex<Ledger>>,
    pub random: Arc<Random>,
    /// Percent of tasks that something goes wrong with.
    pub trouble: u64,
    pub trace: Trace,
}

impl Services {
    fn work(&self, task: &Task) -> Result<Box<RawValue>, AttemptFailed> {
        let mut ledger = self.ledger.lock().expect("no test panics with the lock held");
        *ledger.done.entry(task.task_id()).or_default() += 1;
        // What a step answers depends on the step alone, so that every attempt of it answers the
        // same.
        let fate = Random::new(u64::from(task.instance.partition()), &task.path_text);
        let terminal = match task.contract.step_type {
            "seo" | "score" => fate.chance(8),
            "label" => fate.chance(4),
            "close" => fate.chance(10),
            _ => false,
        };
        if terminal {
            let failure = Failure::new("Refused", "simulated: refused");
            return Err(AttemptFailed {
                outcome: Outcome::Failed,
                failure,
                retry: Some(false),
                after_ms: None,
            });
        }
        if self.random.chance(self.trouble / 3) {
            return Err(AttemptFailed {
                outcome: Outcome::Failed,
                failure: Failure::new("Hiccup", "simulated"),
                retry: None,
                after_ms: None,
            });
        }
        ledger.successes.push((task.instance, task.path_text.to_string()));
        let result = match task.contract.step_type {
            "reserve" => r#"{"lines":["l1","l2","l3"]}"#.to_owned(),
            "seo" => r#"{"title":"t"}"#.to_owned(),
            "score" => r#"{"value":0.5}"#.to_owned(),
            "apologise" => r#"{"ticket":7}"#.to_owned(),
            "label" => format!(r#"{{"code":"code of {}"}}"#, task.path_text),
            "close" => r#"{"at":"noon"}"#.to_owned(),
            _ => "{}".to_owned(),
        };
        Ok(RawValue::from_string(result).expect("a test's JSON is JSON"))
    }
}

impl Bus for Services {
    fn dispatch(&self, task: Task, reports: &mpsc::Sender<Report>) -> Result<(), Task> {
        let refused = self.random.chance(self.trouble / 5);
        self.trace.note(format_args!(
            "dispatch {} {}, refused: {refused}",
            task.task_id(),
            task.input
        ));
        if refused {
            return Err(task);
        }
        *self
            .ledger
            .lock()
            .expect("no test panics with the lock held")
            .taken
            .entry(task.task_id())
            .or_default() += 1;
        let (services, reports) = (self.clone(), reports.clone());
        tokio::spawn(async move {
            let report = |what| {
                services.trace.note(format_args!("report {}: {what:?}", task.task_id()));
                Report { instance: task.instance, path: task.path, attempt: task.attempt, what }
            };
            let pause =
                |most| tokio::time::sleep(Duration::from_micros(services.random.below(most)));
            pause(5_000).await;
            if services.random.chance(services.trouble / 3) {
                if let Some(times) = services
                    .ledger
                    .lock()
                    .expect("no test panics with the lock held")
                    .taken
                    .get_mut(&task.task_id())
                {
                    *times -= 1;
                }
                let _ = reports
                    .send(report(Reported::Undelivered {
                        reason: "simulated: nobody there".into(),
                        after_ms: None,
                    }))
                    .await;
                return;
            }
            let _ = reports.send(report(Reported::Delivered)).await;
            if services.random.chance(services.trouble / 4) {
                // The service died with it: only the timeout will tell.
                return;
            }
            let slow =
                if services.random.chance(services.trouble / 4) { 8_000_000 } else { 20_000 };
            pause(slow).await;
            let times = if services.random.chance(services.trouble / 3) { 2 } else { 1 };
            for _ in 0..times {
                let what = match services.work(&task) {
                    Ok(result) => Reported::Completed { result },
                    Err(failed) => Reported::Failed(failed),
                };
                let _ = reports.send(report(what)).await;
                pause(50_000).await;
            }
        });
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
        let refused = self.random.chance(self.trouble / 5);
        self.trace.note(format_args!("publish {message:?}, refused: {refused}"));
        if refused {
            return Err(message);
        }
        let services = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(services.random.below(5_000))).await;
            let failed = services.random.chance(services.trouble / 3);
            services.trace.note(format_args!("published {}, failed: {failed}", message.id));
            if failed {
                return done(PublishOutcome::Failed("simulated".into()));
            }
            let instance = message.id.split('/').next().unwrap_or_default().to_owned();
            let mut ledger = services.ledger.lock().expect("no test panics with the lock held");
            ledger.published.entry((instance, message.routing_key)).or_default().push(message.id);
            drop(ledger);
            done(PublishOutcome::Confirmed);
        });
        Ok(())
    }

    fn health(&self) -> Result<(), String> {
        Ok(())
    }
}
