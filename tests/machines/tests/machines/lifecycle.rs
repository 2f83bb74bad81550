//! The life of an instance: forward, retry, catch, stop, undo, park and pause.

use crux_runtime::machine::{
    Event, Failure, Note, Outcome, Phase, RejectReason, StepHappened, Timer,
};

use crate::driver::Driver;
use crate::pipelines::patient::Workflow as Parking;
use crate::pipelines::shipment::Workflow as Order;

const BIG: &str = r#"{"order":"7","big":true}"#;
const SMALL: &str = r#"{"order":"7","big":false}"#;
const LINES: &str = r#"{"lines":["a","b","c"]}"#;

fn reserved(input: &str) -> Driver {
    let mut run = Driver::start::<Order>(input);
    run.complete("reserve", LINES).unwrap();
    run
}

#[test]
fn a_whole_instance_runs_in_the_order_of_its_definition() {
    let mut run = Driver::start::<Order>(BIG);
    assert_eq!(run.effects(), ["hook workflow.start", r#"dispatch reserve #1 {"order":"7"}"#]);

    run.complete("reserve", LINES).unwrap();
    assert_eq!(
        run.effects(),
        [r#"dispatch look/seo #1 {"order":"7"}"#, r#"dispatch look/score #1 {"order":"7"}"#]
    );
    assert_eq!(run.open(), ["look Timeout at 61000", "look/seo #1", "look/score #1"]);

    run.complete("look/score", r#"{"value":0.5}"#).unwrap();
    assert_eq!(run.effects().len(), 0);
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    assert_eq!(run.effects().len(), 2, "two elements concurrently: {:?}", run.effects());
    assert_eq!(run.open(), ["ship[0]/label #1", "ship[1]/label #1"]);

    run.complete("ship[1]/label", r#"{"code":"B"}"#).unwrap();
    assert_eq!(run.effects(), [r#"dispatch ship[2]/label #1 {"line":"c","order":"7"}"#]);
    run.complete("ship[2]/label", r#"{"code":"C"}"#).unwrap();
    run.complete("ship[0]/label", r#"{"code":"A"}"#).unwrap();
    assert_eq!(run.effects(), [r#"dispatch close #1 {"codes":["A","B","C"],"risk":0.5}"#]);

    run.complete("close", r#"{"at":"noon"}"#).unwrap();
    assert_eq!(run.effects(), ["hook workflow.completed"]);
    assert_eq!(run.output().as_deref(), Some(r#"{"codes":["A","B","C"],"closed":"noon"}"#));
    assert_eq!(run.phase(), Phase::Completed);
    assert!(run.open().is_empty());
}

#[test]
fn a_skipped_step_has_no_task_and_no_result() {
    let mut run = reserved(SMALL);
    assert_eq!(run.open(), ["look Timeout at 61000", "look/seo #1"]);
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    for line in ["ship[0]/label", "ship[1]/label", "ship[2]/label"] {
        run.complete(line, r#"{"code":"X"}"#).unwrap();
    }
    assert_eq!(run.effects(), [r#"dispatch close #1 {"codes":["X","X","X"]}"#]);
}

#[test]
fn what_is_not_open_or_not_of_the_type_is_refused_and_changes_nothing() {
    let mut run = reserved(BIG);
    let before = run.open();
    assert_eq!(run.complete("reserve", LINES), Err(RejectReason::NotOpen));
    assert_eq!(run.complete("close", r#"{"at":"noon"}"#), Err(RejectReason::NotOpen));
    assert_eq!(run.complete("ship[0]/label", r#"{"code":"A"}"#), Err(RejectReason::NotOpen));
    assert_eq!(
        run.complete("look/score", r#"{"value":"high"}"#),
        Err(RejectReason::Invalid("value: expected a number, found the string \"high\"".into()))
    );
    assert_eq!(run.fire("look", Timer::Sleep), Err(RejectReason::NotOpen));
    assert_eq!(run.open(), before);
    assert!(run.effects().is_empty());
}

#[test]
fn a_failed_attempt_is_made_again_after_its_back_off() {
    let mut run = reserved(BIG);
    run.fail("look/seo", 1, "Unavailable").unwrap();
    assert!(run.effects().is_empty());
    assert_eq!(run.fail("look/seo", 1, "Unavailable"), Err(RejectReason::Superseded));
    run.now.0 += 100;
    run.fire("look/seo", Timer::Retry).unwrap();
    assert_eq!(run.effects(), [r#"dispatch look/seo #2 {"order":"7"}"#]);
    // A success counts from any attempt.
    run.step(
        "look/seo",
        StepHappened::Completed {
            attempt: Some(1),
            result: crate::driver::raw(r#"{"title":"t"}"#),
        },
    )
    .unwrap();
}

#[test]
fn an_attempt_that_was_given_back_goes_out_again_under_its_number() {
    let mut run = reserved(BIG);
    let back = StepHappened::Returned { attempt: 1, next: run.now };
    run.step("look/seo", back.clone()).unwrap();
    assert!(
        run.effects().is_empty(),
        "the worker that gave it back is ending: {:?}",
        run.effects()
    );
    assert_eq!(run.step("look/seo", back), Err(RejectReason::NotOpen));
    run.fire("look/seo", Timer::Retry).unwrap();
    assert_eq!(run.effects(), [r#"dispatch look/seo #1 {"order":"7"}"#]);
    // Nobody waits for it any more when the instance is to end.
    run.step("look/seo", StepHappened::Returned { attempt: 1, next: run.now }).unwrap();
    run.cancel().unwrap();
    assert_eq!(run.open(), ["look/score #1"]);
}

#[test]
fn a_caught_failure_in_a_branch_stops_the_others_and_then_runs_the_catch() {
    let mut run = reserved(BIG);
    run.fail("look/seo", 1, "InvalidInput").unwrap();
    assert_eq!(run.effects(), ["cancel look/score"]);
    assert_eq!(run.open(), ["look/score #1"], "its attempt runs to its end");
    run.complete("look/score", r#"{"value":0.5}"#).unwrap();
    assert_eq!(
        run.effects(),
        [r#"dispatch look/apologise #1 {"why":"InvalidInput: it did not work"}"#]
    );
    run.complete("look/apologise", r#"{"ticket":9}"#).unwrap();
    for line in ["ship[0]/label", "ship[1]/label", "ship[2]/label"] {
        run.complete(line, r#"{"code":"X"}"#).unwrap();
    }
    // What the other branch completed while it was stopped is there as well.
    assert_eq!(
        run.effects(),
        [r#"dispatch close #1 {"codes":["X","X","X"],"risk":0.5,"ticket":9}"#]
    );
    // An empty catch, by name.
    run.fail("close", 1, "Refused").unwrap();
    run.now.0 += 100;
    run.fire("close", Timer::Retry).unwrap();
    run.fail("close", 2, "Refused").unwrap();
    assert_eq!(run.output().as_deref(), Some(r#"{"codes":["X","X","X"]}"#));
}

#[test]
fn a_group_that_times_out_fails_as_a_whole() {
    let mut run = reserved(BIG);
    run.now.0 += 60_000;
    run.fire("look", Timer::Timeout).unwrap();
    assert_eq!(run.effects(), ["cancel look/seo", "cancel look/score"]);
    run.fail("look/seo", 1, "Unavailable").unwrap();
    assert!(run.effects().is_empty(), "no retry while stopping: {:?}", run.effects());
    run.end_attempt("look/score", 1, Outcome::Unknown, "Timeout").unwrap();
    assert_eq!(
        run.effects(),
        [r#"dispatch look/apologise #1 {"why":"Timeout: the step's timeout passed"}"#]
    );
}

#[test]
fn an_uncaught_failure_undoes_what_was_done_newest_first() {
    let mut run = reserved(SMALL);
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    run.fail("ship[0]/label", 1, "InvalidInput").unwrap();
    assert_eq!(run.effects(), ["cancel ship[1]/label"]);
    assert_eq!(run.phase(), Phase::Stopping);
    run.complete("ship[1]/label", r#"{"code":"B"}"#).unwrap();
    assert_eq!(run.effects(), [r#"dispatch reserve/undo #1 {"order":"7","lines":3}"#]);
    assert_eq!(run.phase(), Phase::Undoing);
    assert_eq!(run.cancel(), Err(RejectReason::InvalidState("the instance is already stopping")));
    run.complete("reserve/undo", "{}").unwrap();
    assert_eq!(run.effects(), ["hook workflow.failed"]);
    assert_eq!(run.phase(), Phase::Failed);
    assert_eq!(run.failure(), "InvalidInput: it did not work");
}

#[test]
fn a_step_whose_outcome_is_unknown_is_undone_and_one_that_surely_failed_is_not() {
    let mut run = Driver::start::<Order>(BIG);
    run.end_attempt("reserve", 1, Outcome::Unknown, "Timeout").unwrap();
    assert_eq!(run.effects(), [r#"dispatch reserve/undo #1 {"order":"7","lines":0}"#]);
    assert!(run.failure().starts_with("OutcomeUnknown"), "{}", run.failure());

    let mut run = Driver::start::<Order>(BIG);
    run.fail("reserve", 1, "InvalidInput").unwrap();
    assert_eq!(run.effects(), ["hook workflow.failed"]);
}

#[test]
fn cancel_lets_attempts_end_and_then_undoes() {
    let mut run = reserved(BIG);
    run.cancel().unwrap();
    assert_eq!(run.effects(), ["cancel look/seo", "cancel look/score"]);
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    run.fail("look/score", 1, "Unavailable").unwrap();
    assert_eq!(run.effects(), [r#"dispatch reserve/undo #1 {"order":"7","lines":3}"#]);
    run.fail("reserve/undo", 1, "Unavailable").unwrap();
    assert_eq!(run.phase(), Phase::Parked);
    run.apply(Event::RetryRequested { step: None, input: None }).unwrap();
    assert_eq!(run.effects(), [r#"dispatch reserve/undo #2 {"order":"7","lines":3}"#]);
    run.complete("reserve/undo", "{}").unwrap();
    assert_eq!(run.phase(), Phase::Cancelled);
}

#[test]
fn a_parked_instance_goes_on_by_retry_with_another_input() {
    let mut run = Driver::start::<Parking>(BIG);
    run.complete("reserve", LINES).unwrap();
    run.complete("look/score", r#"{"value":0.5}"#).unwrap();
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    run.fail("ship[0]/label", 1, "InvalidInput").unwrap();
    assert_eq!(run.phase(), Phase::Parked);
    assert!(run.effects().is_empty());
    // What arrives meanwhile is kept and counts later.
    run.complete("ship[1]/label", r#"{"code":"B"}"#).unwrap();
    assert_eq!(run.effects(), [r#"dispatch ship[2]/label #1 {"line":"c","order":"7"}"#]);
    let step = Some(run.path("ship[0]/label"));
    let wrong = run.apply(Event::RetryRequested {
        step,
        input: Some(crate::driver::raw(r#"{"line":1,"order":""}"#)),
    });
    assert_eq!(
        wrong,
        Err(RejectReason::Invalid("line: expected a string, found the number 1".into()))
    );
    run.apply(Event::RetryRequested {
        step,
        input: Some(crate::driver::raw(r#"{"line":"z","order":"7"}"#)),
    })
    .unwrap();
    assert_eq!(run.effects(), [r#"dispatch ship[0]/label #2 {"line":"z","order":"7"}"#]);
    assert_eq!(run.phase(), Phase::Running);
    run.complete("ship[0]/label", r#"{"code":"A"}"#).unwrap();
    run.complete("ship[2]/label", r#"{"code":"C"}"#).unwrap();
    assert_eq!(run.effects(), [r#"dispatch close #1 {"codes":["A","B","C"],"risk":0.5}"#]);
}

fn shipping() -> Driver {
    let mut run = Driver::start::<Parking>(SMALL);
    run.complete("reserve", LINES).unwrap();
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    run
}

/// The words of the last event's notes about the instance.
fn notes(run: &Driver) -> Vec<&'static str> {
    let word = |note: &Note| match note {
        Note::Parked { .. } => Some("parked"),
        Note::Resumed => Some("resumed"),
        Note::Stopping { .. } => Some("stopping"),
        Note::Ended(_) => Some("ended"),
        _ => None,
    };
    run.out.notes.iter().filter_map(word).collect()
}

#[test]
fn an_element_that_waits_for_a_person_holds_up_no_other() {
    let mut run = shipping();
    run.fail("ship[0]/label", 1, "InvalidInput").unwrap();
    assert_eq!((run.phase(), notes(&run)), (Phase::Parked, vec!["parked"]));
    // Retries of the others are made, and elements that have not begun begin.
    run.step("ship[1]/label", StepHappened::Returned { attempt: 1, next: run.now }).unwrap();
    assert_eq!((run.phase(), notes(&run)), (Phase::Parked, vec![]));
    run.fire("ship[1]/label", Timer::Retry).unwrap();
    assert_eq!(run.effects(), [r#"dispatch ship[1]/label #1 {"line":"b","order":"7"}"#]);
    run.complete("ship[1]/label", r#"{"code":"B"}"#).unwrap();
    assert_eq!(run.effects(), [r#"dispatch ship[2]/label #1 {"line":"c","order":"7"}"#]);
    // A second one waits too: that is nothing new of the instance.
    run.fail("ship[2]/label", 1, "InvalidInput").unwrap();
    assert_eq!((run.phase(), notes(&run)), (Phase::Parked, vec![]));
    // As long as one of them waits it is parked.
    run.apply(Event::RetryRequested { step: Some(run.path("ship[0]/label")), input: None })
        .unwrap();
    assert_eq!((run.phase(), notes(&run)), (Phase::Parked, vec!["resumed", "parked"]));
    run.complete("ship[0]/label", r#"{"code":"A"}"#).unwrap();
    // A person gives the result.
    run.complete("ship[2]/label", r#"{"code":"C"}"#).unwrap();
    assert_eq!((run.phase(), notes(&run)), (Phase::Running, vec!["resumed"]));
    assert_eq!(run.effects(), [r#"dispatch close #1 {"codes":["A","B","C"]}"#]);
}

#[test]
fn a_parked_instance_stops_what_goes_on_in_it_when_a_person_gives_it_up() {
    for (command, effects) in [
        (Event::UndoRequested, vec!["cancel ship[1]/label"]),
        (Event::FailRequested { reason: String::new() }, vec!["cancel ship[1]/label"]),
    ] {
        let mut run = shipping();
        run.fail("ship[0]/label", 1, "InvalidInput").unwrap();
        run.apply(command).unwrap();
        assert_eq!(run.effects()[..1], effects);
        assert_ne!(run.phase(), Phase::Parked);
        let _ = run.complete("ship[1]/label", r#"{"code":"B"}"#);
        assert!(run.open().iter().all(|open| open == "reserve/undo #1"), "{:?}", run.open());
    }
}

#[test]
fn a_full_journal_holds_everything_up_beside_a_step_that_waits_for_a_person() {
    let mut run = shipping();
    run.fail("ship[0]/label", 1, "InvalidInput").unwrap();
    run.apply(Event::ParkRequested { failure: Failure::new("JournalFull", "full") }).unwrap();
    run.complete("ship[1]/label", r#"{"code":"B"}"#).unwrap();
    assert!(run.effects().is_empty(), "{:?}", run.effects());
    run.apply(Event::RetryRequested { step: None, input: None }).unwrap();
    assert_eq!(
        run.effects(),
        [
            r#"dispatch ship[0]/label #2 {"line":"a","order":"7"}"#,
            r#"dispatch ship[2]/label #1 {"line":"c","order":"7"}"#
        ]
    );
    assert_eq!(run.phase(), Phase::Running);
}

#[test]
fn while_paused_results_are_recorded_and_nothing_starts() {
    let mut run = reserved(SMALL);
    run.apply(Event::PauseRequested).unwrap();
    run.complete("look/seo", r#"{"title":"t"}"#).unwrap();
    assert!(run.effects().is_empty());
    assert!(run.open().is_empty(), "{:?}", run.open());
    assert_eq!(run.fire("look", Timer::Timeout), Err(RejectReason::NotOpen));
    run.apply(Event::ResumeRequested).unwrap();
    assert_eq!(run.open(), ["ship[0]/label #1", "ship[1]/label #1"]);
}
