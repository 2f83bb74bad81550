//! Generated machines with journals that nobody planned: an engine that does anything with what is
//! open, and journals that lose, double or swap events. Nothing panics; what is refused changes
//! nothing; the same events give the same state and the same effects.

use std::collections::BTreeMap;

use crate::{pipelines, steps};
use crux_runtime::machine::{
    AttemptFailed, Cause, Effects, Event, Failure, Machine, Open, Outcome, Path, Run, StepEvent,
    StepHappened, Time, Timer,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::driver::{Driver, raw, started};
use crate::schema::{Tape, value};

/// What is open, as read from the journal alone.
enum Thing {
    Task(Path, u32),
    Wait(Path, &'static str),
    Timer(Path, Timer, Time),
}

fn things(driver: &Driver) -> Vec<Thing> {
    let mut all = Vec::new();
    driver.instance.open(&mut |open| match open {
        Open::Task(task) => all.push(Thing::Task(task.path, task.number)),
        Open::Wait { path, event, due, .. } => {
            all.push(Thing::Wait(path, event));
            all.extend(due.map(|due| Thing::Timer(path, Timer::Timeout, due)));
        }
        Open::Timer { path, timer, due } => all.push(Thing::Timer(path, timer, due)),
    });
    all
}

/// Schemas of the folder's events.
fn events() -> BTreeMap<&'static str, Value> {
    let app = pipelines::app(steps::all());
    app.events
        .iter()
        .map(|event| (event.name, serde_json::from_str(event.schema).expect("a schema is JSON")))
        .collect()
}

/// The next thing that happens to an instance, in order or not; `None`: nothing, this time.
fn happens(
    driver: &mut Driver,
    tape: &mut Tape,
    events: &BTreeMap<&'static str, Value>,
) -> Option<Event> {
    let things = things(driver);
    let step = |path, what| Some(Event::Step(StepEvent { path, what }));
    match tape.next(24) {
        // Out of order: something that has happened before, at another step, or from a person.
        0 => {
            return driver
                .journal
                .get(tape.next(driver.journal.len()))
                .map(|(event, _)| event.clone());
        }
        1 => {
            let node = u16::try_from(tape.next(driver.instance.definition().nodes.len()))
                .expect("nodes are few");
            return step(
                Path { node, ..Path::default() },
                StepHappened::TimerFired { timer: Timer::Sleep },
            );
        }
        2 => {
            return Some(match tape.next(8) {
                0 => Event::StopRequested { cause: Cause::Cancelled, reason: "enough".into() },
                1 | 2 => Event::PauseRequested,
                3 | 4 => Event::ResumeRequested,
                5 => Event::UndoRequested,
                6 => Event::FailRequested { reason: String::new() },
                _ => Event::RetryRequested { step: None, input: None },
            });
        }
        _ => {}
    }
    let thing = things.get(tape.next(things.len()))?;
    match thing {
        Thing::Task(path, number) => {
            let contract = driver.instance.definition().task(path.node)?.contract;
            match tape.next(16) {
                0..=3 => {
                    let name = contract
                        .raises
                        .get(tape.next(contract.raises.len()))
                        .copied()
                        .unwrap_or(Failure::UNAVAILABLE);
                    let outcome =
                        if tape.next(2) == 0 { Outcome::Failed } else { Outcome::Unknown };
                    let failed = AttemptFailed {
                        outcome,
                        failure: Failure::new(name, "it did not work"),
                        retry: None,
                        after_ms: None,
                    };
                    driver.instance.decide(path, *number, failed, driver.now).ok().map(Event::Step)
                }
                4 => step(*path, StepHappened::Completed { attempt: None, result: raw("[1]") }),
                5 | 6 => step(*path, StepHappened::TimerFired { timer: Timer::Retry }),
                7 => step(*path, StepHappened::Returned { attempt: *number, next: driver.now }),
                _ => {
                    let schema =
                        serde_json::from_str(contract.output_schema).expect("a schema is JSON");
                    step(
                        *path,
                        StepHappened::Completed {
                            attempt: None,
                            result: raw(&value(&schema, tape).to_string()),
                        },
                    )
                }
            }
        }
        Thing::Wait(path, event) => {
            let data = raw(&value(&events[event], tape).to_string());
            step(*path, StepHappened::Received { event_id: format!("e{}", tape.next(3)), data })
        }
        Thing::Timer(path, timer, due) => {
            driver.now = driver.now.max(*due);
            match timer {
                Timer::Deadline => {
                    Some(Event::StopRequested { cause: Cause::Deadline, reason: String::new() })
                }
                timer => step(*path, StepHappened::TimerFired { timer: *timer }),
            }
        }
    }
}

/// All that can be seen of an instance.
fn seen(driver: &Driver) -> String {
    format!(
        "{:?} {} {} {:?}",
        driver.phase(),
        driver.instance.is_paused(),
        driver.failure(),
        driver.open()
    )
}

fn done(effects: &Effects) -> String {
    format!("{effects:?}")
}

fn begin<M: Machine>(tape: &mut Tape) -> (Driver, String) {
    let schema: Value = serde_json::from_str(M::DEFINITION.input_schema).expect("a schema is JSON");
    let input = value(&schema, tape).to_string();
    (Driver::start::<M>(&input), input)
}

/// Applies an event and holds the machine to its word: what it refuses has changed nothing.
fn apply(driver: &mut Driver, event: Event) -> Result<bool, TestCaseError> {
    let before = seen(driver);
    let is_taken = driver.apply(event).is_ok();
    if !is_taken {
        prop_assert_eq!(seen(driver), before);
        prop_assert!(
            driver.out.all.is_empty() && driver.out.notes.is_empty(),
            "refused with {:?}",
            driver.out
        );
    }
    Ok(is_taken)
}

/// A life, and what was seen and done after each event that was taken.
fn live<M: Machine>(
    tape: &mut Tape,
    length: usize,
) -> Result<(Driver, String, Vec<String>), TestCaseError> {
    let events = events();
    let (mut driver, input) = begin::<M>(tape);
    let mut trace = vec![seen(&driver) + &done(&driver.out)];
    for _ in 0..length {
        let Some(event) = happens(&mut driver, tape, &events) else { continue };
        if apply(&mut driver, event)? {
            trace.push(seen(&driver) + &done(&driver.out));
        }
    }
    Ok((driver, input, trace))
}

fn same_again<M: Machine>(
    input: &str,
    journal: &[(Event, Time)],
    trace: &[String],
) -> Result<(), TestCaseError> {
    let mut replayed = Driver::start::<M>(input);
    prop_assert_eq!(&(seen(&replayed) + &done(&replayed.out)), &trace[0]);
    for ((event, now), expected) in journal.iter().zip(&trace[1..]) {
        replayed.now = *now;
        prop_assert!(apply(&mut replayed, event.clone())?, "{event:?} was taken once");
        prop_assert_eq!(&(seen(&replayed) + &done(&replayed.out)), expected);
    }
    Ok(())
}

/// Loses, doubles and swaps events of a journal.
fn spoilt(journal: &[(Event, Time)], tape: &mut Tape) -> Vec<(Event, Time)> {
    let mut spoilt = Vec::with_capacity(journal.len());
    for entry in journal {
        match tape.next(8) {
            0 => {}
            1 => spoilt.extend([entry.clone(), entry.clone()]),
            2 if !spoilt.is_empty() => {
                let at = tape.next(spoilt.len());
                spoilt.insert(at, entry.clone());
            }
            _ => spoilt.push(entry.clone()),
        }
    }
    spoilt
}

fn holds<M: Machine>(choices: Vec<u32>) -> Result<(), TestCaseError> {
    let mut tape = Tape::new(choices);
    let (driver, input, trace) = live::<M>(&mut tape, 60)?;
    same_again::<M>(&input, &driver.journal, &trace)?;

    // Whatever is taken of a spoilt journal is a journal too.
    let mut other = Driver::start::<M>(&input);
    let mut trace = vec![seen(&other) + &done(&other.out)];
    for (event, now) in spoilt(&driver.journal, &mut tape) {
        // Time does not run back: the engine sees to that.
        other.now = other.now.max(now);
        if apply(&mut other, event)? {
            trace.push(seen(&other) + &done(&other.out));
        }
    }
    same_again::<M>(&input, &other.journal, &trace)
}

macro_rules! machines {
    ($($name:ident)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn $name(choices in proptest::collection::vec(any::<u32>(), 0..400)) {
                holds::<pipelines::$name::Workflow>(choices)?;
            }
        }

        /// The lives above are worth something: some reach the end, and some fail on the way.
        mod $name {
            use super::*;

            #[test]
            fn gets_to_its_end() {
                let mut phases = std::collections::BTreeSet::new();
                for seed in 1..1000_u32 {
                    let choices = (1..1000).map(|n: u32| (n.wrapping_mul(seed).wrapping_add(seed)).wrapping_mul(2_654_435_761) >> 7);
                    let (driver, ..) = live::<pipelines::$name::Workflow>(&mut Tape::new(choices.collect()), 100).unwrap();
                    phases.insert(format!("{:?}", driver.phase()));
                }
                assert!(phases.contains("Completed") && phases.len() > 2, "{phases:?}");
            }
        }
    )*};
}

machines! { booking certain_and_optional everything expressions nested_scopes odd_names patient refund shipment }

/// A start that is not of the input's type gives no instance.
#[test]
fn an_array_is_no_record() {
    let start = |input: &str| {
        Run::<pipelines::shipment::Workflow>::start(
            "1",
            &started(input),
            Time(1),
            &mut Effects::default(),
        )
        .err()
    };
    assert_eq!(start(r#"["7", true]"#).as_deref(), Some("expected a record, found a list"));
    assert_eq!(start(r#"{"order": "7", "big": true}"#), None);
    let start = |input: &str| {
        Run::<pipelines::nested_scopes::Workflow>::start(
            "1",
            &started(input),
            Time(1),
            &mut Effects::default(),
        )
        .err()
    };
    let inside = start(r#"{"id": "1", "fast": true, "groups": [["a", []]]}"#);
    assert_eq!(inside.as_deref(), Some("groups[0]: expected a record, found a list"));
}
