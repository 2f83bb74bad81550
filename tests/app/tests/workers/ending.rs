//! Workers that are told to end.

use std::time::Duration;

use crate::bed::Bed;
use crate::kit::eventually;

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn a_worker_that_is_told_to_end_finishes_what_it_runs_and_leaves_the_rest_to_others() {
    let bed = Bed::new();
    let mut first = bed.worker(&["--concurrency", "2"]);
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(bed.start(if n % 2 == 0 { "vow" } else { "toil" }, 700).await);
    }
    eventually("two have begun", async || (bed.whole_ledger().len() >= 2).then_some(())).await;
    first.tell_to_end();
    let status = first.ended().await;
    assert!(status.success(), "{status}: {}", first.log());
    let done: Vec<String> =
        bed.whole_ledger().into_iter().filter(|line| line.0 == "end").map(|line| line.2).collect();
    let begun = bed.whole_ledger().into_iter().filter(|line| line.0 == "begin").count();
    assert!(begun == done.len() && (2..=4).contains(&begun), "{:?}", bed.whole_ledger());
    for id in &done {
        bed.server.client().until(id, "completed").await;
    }
    bed.sees(&[]).await;
    assert_eq!(
        bed.workers().await["remote"].as_array().map(Vec::len),
        Some(0),
        "it said that it ends"
    );
    let _second = bed.worker(&["--concurrency", "5"]);
    for id in &ids {
        bed.server.client().until(id, "completed").await;
        assert_eq!(bed.ledger(id).len(), 2, "each once");
        assert!(!bed.events(id).await.contains(&"task_lost".to_owned()));
    }
}

#[tokio::test]
#[ignore = "needs rabbitmq-server"]
async fn what_does_not_finish_in_time_is_lost_and_done_by_another() {
    let bed = Bed::new();
    let mut first = bed.worker_with(&[("CRUX_SERVER__SHUTDOWN", "300ms")], &[]);
    let id = bed.start("toil", 2000).await;
    bed.begun(&id, 1).await;
    first.tell_to_end();
    let second = bed.worker(&[]);
    assert!(tokio::time::timeout(Duration::from_secs(5), first.ended()).await.unwrap().success());
    assert_eq!(bed.server.client().until(&id, "completed").await["output"]["pid"], second.pid());
}
