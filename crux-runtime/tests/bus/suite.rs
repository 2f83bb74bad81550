//! The contract of buses as tests. The first part holds for all of them, the second for those over
//! a broker.

use std::time::Duration;

use crux_runtime::bus::{Disposition, PublishOutcome};
use crux_runtime::machine::Outcome;
use crux_runtime::task::Reported;
use serde_json::json;
use tokio::sync::mpsc;

use crate::harness::{
    COMPLETED, NEWS, Open, RecordingHandler, TRACE, WORK, message, publish, reported, soon, task,
};

/// Makes a test of each function here for one kind of bus.
#[macro_export]
macro_rules! suite {
    (@each ignore $why:literal, $open:expr => $($test:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[ignore = $why]
        async fn $test() {
            $crate::suite::$test(&$open).await;
        })*
    };
    (@each $open:expr => $($test:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            $crate::suite::$test(&$open).await;
        })*
    };
    (@all $($open:tt)*) => {
        $crate::suite! { @each $($open)* =>
            a_task_comes_as_it_was_sent
            a_task_without_a_service_says_under_which_key_nobody_listens
            a_task_that_nobody_waits_for_is_not_sent
            each_listener_gets_a_message_once
            a_message_that_nobody_wants_is_done
            many_tasks_are_delivered_each_once
            what_was_handed_in_before_the_end_is_out_at_the_end
        }
    };
    (local $open:expr) => {
        $crate::suite! { @all $open }
    };
    (broker $needs:literal, $open:expr) => {
        $crate::suite! { @all ignore $needs, $open }
        $crate::suite! { @each ignore $needs, $open =>
            what_comes_goes_to_the_door_once
            what_is_refused_is_dead_lettered_with_its_reason
            what_has_to_wait_is_offered_again
            what_waits_for_its_instance_is_parked_and_comes_back
        }
    };
}

pub async fn a_task_comes_as_it_was_sent(open: &Open) {
    let harness = open(&[(WORK, "one")]).await;
    let (reports, mut receiver) = mpsc::channel(8);
    let (task, _cancellation) = task(1);
    let (id, step) = (task.instance.to_string(), task.step_id().to_string());
    assert!(harness.bus.dispatch(task, &reports).is_ok());
    assert!(matches!(reported(&mut receiver).await, Reported::Delivered));
    let got = soon(harness.far.next(WORK, "one")).await;
    assert_eq!((got.correlation_id.as_str(), got.traceparent.as_str()), ("req-1", TRACE));
    let expected = json!({
        "workflow_id": id, "step_id": step, "step_type": "work", "attempt": 2, "key": format!("{id}/look/work"),
        "input": {"image": "a.png"}, "payload": {"name": "chair"},
    });
    assert_eq!(got.body, expected);
    if let Some(broker) = &harness.broker {
        broker.consume(RecordingHandler::answering(&[]));
    }
    let healthy = async {
        while harness.bus.health().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(healthy).await;
    assert_eq!(harness.bus.delay(Some("work")), None);
}

pub async fn a_task_without_a_service_says_under_which_key_nobody_listens(open: &Open) {
    let harness = open(&[]).await;
    let (reports, mut receiver) = mpsc::channel(8);
    assert!(harness.bus.dispatch(task(1).0, &reports).is_ok());
    let Reported::Undelivered { reason, .. } = reported(&mut receiver).await else {
        panic!("nobody can have it")
    };
    assert!(reason.contains("no service listens on step.work"), "{reason}");
}

pub async fn a_task_that_nobody_waits_for_is_not_sent(open: &Open) {
    let harness = open(&[(WORK, "one")]).await;
    let (reports, mut receiver) = mpsc::channel(8);
    let (cancelled, cancellation) = task(1);
    cancellation.cancel();
    assert!(harness.bus.dispatch(cancelled, &reports).is_ok());
    let Reported::Failed(failed) = reported(&mut receiver).await else {
        panic!("it did not begin")
    };
    assert_eq!((failed.outcome, failed.failure.name.as_ref()), (Outcome::Failed, "Cancelled"));
    assert!(harness.bus.dispatch(task(2).0, &reports).is_ok());
    assert_eq!(soon(harness.far.next(WORK, "one")).await.correlation_id, "req-2");
}

pub async fn each_listener_gets_a_message_once(open: &Open) {
    let harness = open(&[(NEWS, "mail"), (NEWS, "audit")]).await;
    assert!(harness.bus.wants(NEWS));
    for id in ["m-1", "m-2"] {
        assert_eq!(publish(&*harness.bus, message(id)).await, PublishOutcome::Confirmed);
    }
    for listener in ["mail", "audit"] {
        let mut got = Vec::new();
        for _ in 0..2 {
            let message = soon(harness.far.next(NEWS, listener)).await;
            assert_eq!(
                (message.correlation_id.as_str(), message.traceparent.as_str()),
                ("req-1", TRACE)
            );
            got.push(message.body["id"].as_str().unwrap().to_owned());
        }
        got.sort();
        assert_eq!(got, ["m-1", "m-2"], "{listener}");
    }
}

pub async fn a_message_that_nobody_wants_is_done(open: &Open) {
    let harness = open(&[]).await;
    // A bus that knows it says so; a message published all the same is not kept.
    if harness.bus.wants(NEWS) {
        assert_eq!(publish(&*harness.bus, message("m-1")).await, PublishOutcome::Confirmed);
    }
}

pub async fn many_tasks_are_delivered_each_once(open: &Open) {
    let harness = open(&[(WORK, "one")]).await;
    let (reports, mut receiver) = mpsc::channel(8);
    let telling = async {
        for _ in 0..200 {
            assert!(matches!(reported(&mut receiver).await, Reported::Delivered));
        }
    };
    let sending = async {
        for n in 0..200 {
            let mut next = task(n).0;
            while let Err(back) = harness.bus.dispatch(next, &reports) {
                next = back;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let taking = async {
        let mut got = Vec::new();
        for _ in 0..200 {
            got.push(soon(harness.far.next(WORK, "one")).await.body["workflow_id"].to_string());
        }
        got.sort();
        got.dedup();
        got.len()
    };
    let ((), (), count) = tokio::join!(telling, sending, taking);
    assert_eq!(count, 200);
}

pub async fn what_was_handed_in_before_the_end_is_out_at_the_end(open: &Open) {
    let harness = open(&[(WORK, "one")]).await;
    let (reports, mut receiver) = mpsc::channel(64);
    for n in 0..20 {
        assert!(harness.bus.dispatch(task(n).0, &reports).is_ok());
    }
    // Only then a broker's publisher has seen them all, or they are on their way.
    soon(harness.bus.close()).await;
    for _ in 0..20 {
        assert!(matches!(reported(&mut receiver).await, Reported::Delivered));
        soon(harness.far.next(WORK, "one")).await;
    }
}

pub async fn what_comes_goes_to_the_door_once(open: &Open) {
    let harness = open(&[]).await;
    let handler = RecordingHandler::answering(&[]);
    harness.broker.as_ref().unwrap().consume(handler.clone());
    for n in 0..100 {
        harness.far.send(COMPLETED, &format!("m-{n}"), &n.to_string()).await;
    }
    let mut bodies: Vec<u32> =
        handler.bodies(100).await.iter().map(|body| body.parse().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..100).collect::<Vec<u32>>());
    let first = handler
        .came
        .lock()
        .unwrap()
        .iter()
        .find(|incoming| &*incoming.body == b"0")
        .unwrap()
        .clone();
    assert_eq!((first.routing_key.as_str(), first.message_id.as_deref()), (COMPLETED, Some("m-0")));
    // What was acknowledged does not come again, to nobody.
    soon(harness.bus.close()).await;
    assert_eq!(handler.came.lock().unwrap().len(), 100);
}

pub async fn what_is_refused_is_dead_lettered_with_its_reason(open: &Open) {
    let harness = open(&[]).await;
    let handler =
        RecordingHandler::answering(&[Disposition::DeadLetter("no such thing".to_owned())]);
    harness.broker.as_ref().unwrap().consume(handler.clone());
    harness.far.send(COMPLETED, "m-1", "nonsense").await;
    assert_eq!(soon(harness.far.dead()).await, ("nonsense".to_owned(), "no such thing".to_owned()));
    harness.far.send(COMPLETED, "m-2", "sense").await;
    assert_eq!(handler.bodies(2).await, ["nonsense", "sense"]);
    let dead = harness.bus.metrics().into_iter().find(|metric| metric.name == "bus_dead").unwrap();
    assert_eq!(dead.value, 1);
}

pub async fn what_has_to_wait_is_offered_again(open: &Open) {
    let harness = open(&[]).await;
    let handler = RecordingHandler::answering(&[
        Disposition::RetryLater("not now".to_owned()),
        Disposition::Ack,
        Disposition::Ack,
    ]);
    harness.broker.as_ref().unwrap().consume(handler.clone());
    harness.far.send(COMPLETED, "m-1", "patient").await;
    handler.bodies(1).await;
    // It holds up nobody else.
    harness.far.send(COMPLETED, "m-2", "other").await;
    let mut bodies = handler.bodies(3).await;
    bodies.sort();
    assert_eq!(bodies, ["other", "patient", "patient"]);
}

pub async fn what_waits_for_its_instance_is_parked_and_comes_back(open: &Open) {
    let harness = open(&[]).await;
    let held = || Disposition::WaitForInstance("nobody has its definition".to_owned());
    let handler = RecordingHandler::answering(&[held(), held(), held()]);
    harness.broker.as_ref().unwrap().consume(handler.clone());
    assert_eq!(harness.bus.parked(), None);
    for n in ["1", "2", "3"] {
        harness.far.send(COMPLETED, &format!("m-{n}"), n).await;
    }
    handler.bodies(3).await;
    // One waits in memory, the others are parked: they take no places from what can be taken.
    harness.far.send(COMPLETED, "m-4", "other").await;
    let count = || {
        harness.bus.metrics().into_iter().find(|metric| metric.name == "bus_parked").unwrap().value
    };
    soon(async {
        while count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let problem = harness.bus.parked().unwrap();
    assert!(
        problem.contains("parked") && problem.ends_with("nobody has its definition"),
        "{problem}"
    );
    // Each comes again by itself, as it was.
    let mut bodies = handler.bodies(7).await;
    bodies.sort();
    assert_eq!(bodies, ["1", "1", "2", "2", "3", "3", "other"]);
    let came = handler.came.lock().unwrap().clone();
    for incoming in came.iter().filter(|incoming| &*incoming.body != b"other") {
        let id = format!("m-{}", std::str::from_utf8(&incoming.body).unwrap());
        assert_eq!(
            (incoming.routing_key.as_str(), incoming.message_id.as_deref()),
            (COMPLETED, Some(id.as_str()))
        );
    }
    // They were taken, and are nowhere any more: what is parked after them comes back, and they do
    // not.
    *handler.answers.lock().unwrap() = vec![held(), held()];
    for n in ["5", "6"] {
        harness.far.send(COMPLETED, &format!("m-{n}"), n).await;
    }
    let mut bodies = handler.bodies(11).await.split_off(7);
    bodies.sort();
    assert_eq!(bodies, ["5", "5", "6", "6"]);
    assert_eq!((handler.came.lock().unwrap().len(), count()), (11, 3));
    // That messages are parked is said for a while longer.
    soon(async {
        while harness.bus.parked().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
