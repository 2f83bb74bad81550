//! An engine of a few lines: applies events to one instance, keeps its journal, and shows what
//! happened as texts.

use crux_runtime::machine::{
    AttemptFailed, Cause, Effect, Effects, Ended, Event, Failure, Instance, Machine, Note, Open,
    Outcome, Path, Phase, RejectReason, Run, Started, StepEvent, StepHappened, Time, Timer,
};
use serde_json::value::RawValue;

pub fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("a test's JSON is JSON")
}

pub struct Driver {
    pub instance: Box<dyn Instance>,
    pub journal: Vec<(Event, Time)>,
    pub now: Time,
    /// Of the last event.
    pub out: Effects,
}

impl Driver {
    pub fn start<M: Machine>(input: &str) -> Self {
        let now = Time(1_000);
        let mut out = Effects::default();
        let instance = Box::new(
            Run::<M>::start("0198c", &started(input), now, &mut out).expect("the input is right"),
        );
        Self { instance, journal: Vec::new(), now, out }
    }

    pub fn path(&self, text: &str) -> Path {
        self.instance.definition().parse_path(text).unwrap_or_else(|| panic!("no step {text}"))
    }

    pub fn apply(&mut self, event: Event) -> Result<(), RejectReason> {
        self.out.clear();
        self.instance.apply(&event, self.now, &mut self.out)?;
        self.journal.push((event, self.now));
        Ok(())
    }

    pub fn step(&mut self, path: &str, what: StepHappened) -> Result<(), RejectReason> {
        let path = self.path(path);
        self.apply(Event::Step(StepEvent { path, what }))
    }

    pub fn complete(&mut self, path: &str, result: &str) -> Result<(), RejectReason> {
        self.step(path, StepHappened::Completed { attempt: None, result: raw(result) })
    }

    /// An attempt fails: the consequence is decided, journalled and applied, as the engine does.
    pub fn fail(
        &mut self,
        path: &str,
        attempt: u32,
        name: &'static str,
    ) -> Result<(), RejectReason> {
        self.end_attempt(path, attempt, Outcome::Failed, name)
    }

    pub fn end_attempt(
        &mut self,
        path: &str,
        attempt: u32,
        outcome: Outcome,
        name: &'static str,
    ) -> Result<(), RejectReason> {
        let failed = AttemptFailed {
            outcome,
            failure: Failure::new(name, "it did not work"),
            retry: None,
            after_ms: None,
        };
        let event = self.instance.decide(&self.path(path), attempt, failed, self.now)?;
        self.apply(Event::Step(event))
    }

    pub fn fire(&mut self, path: &str, timer: Timer) -> Result<(), RejectReason> {
        self.step(path, StepHappened::TimerFired { timer })
    }

    pub fn cancel(&mut self) -> Result<(), RejectReason> {
        self.apply(Event::StopRequested { cause: Cause::Cancelled, reason: "enough".into() })
    }

    /// What is open, as `ship[0]/label #1`.
    pub fn open(&self) -> Vec<String> {
        let definition = self.instance.definition();
        let mut all = Vec::new();
        self.instance.open(&mut |open| {
            all.push(match open {
                Open::Task(task) => {
                    format!("{} #{}", definition.path_text(&task.path), task.number)
                }
                Open::Wait { path, event, value, .. } => {
                    format!(
                        "{} waits for {event} {}",
                        definition.path_text(&path),
                        value.unwrap_or_default()
                    )
                }
                Open::Timer { timer: Timer::Deadline, .. } => return,
                Open::Timer { path, timer, due } => {
                    format!("{} {timer:?} at {}", definition.path_text(&path), due.0)
                }
            });
        });
        all
    }

    /// The effects of the last event, as `dispatch reserve #1 {"order":"7"}`.
    pub fn effects(&self) -> Vec<String> {
        let definition = self.instance.definition();
        let text = |path: &Path| definition.path_text(path);
        let show = |effect: &Effect| match effect {
            Effect::Dispatch { path, attempt, input, .. } => {
                format!("dispatch {} #{attempt} {input}", text(path))
            }
            Effect::Cancel { path } => format!("cancel {}", text(path)),
            Effect::Emit { path, routing_key, data, .. } => {
                format!("emit {} {routing_key} {data}", text(path))
            }
            Effect::Hook { routing_key, .. } => format!("hook {routing_key}"),
            Effect::Subscribe { path, event, value } => {
                format!("subscribe {} {event} {}", text(path), value.as_deref().unwrap_or("any"))
            }
            Effect::Unsubscribe { path, event, .. } => {
                format!("unsubscribe {} {event}", text(path))
            }
        };
        self.out.all.iter().map(show).collect()
    }

    pub fn output(&self) -> Option<String> {
        self.out.notes.iter().find_map(|note| {
            if let Note::Ended(Ended::Completed { output }) = note {
                Some(output.to_string())
            } else {
                None
            }
        })
    }

    pub fn phase(&self) -> Phase {
        self.instance.phase()
    }

    pub fn failure(&self) -> String {
        self.instance.failure().map(ToString::to_string).unwrap_or_default()
    }
}

pub fn started(input: &str) -> Started {
    Started {
        workflow: "order".into(),
        version: 1,
        definition: "abc".into(),
        input: raw(input),
        request_id: "r1".into(),
        config: [("region".to_owned(), "eu".to_owned())].into(),
        owner: String::new(),
        trigger: String::new(),
        traceparent: String::new(),
    }
}
