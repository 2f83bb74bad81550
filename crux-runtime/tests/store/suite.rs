//! What every store must do, as its callers notice it.

use crux_runtime::id::InstanceId;
use crux_runtime::machine::Time;
use crux_runtime::store::{
    Append, Appended, Count, Error, Filter, InUse, KeptEvent, RecordChange, Settled, Status,
};

use crate::harness::{
    Harness, T0, all_rows, assert_rows, done, end, event, id, new_instance, next, one, request,
    requested, start, subscription, text,
};

/// Makes a test of each function here for one kind of store; `ignore "needs NAME",` before the harness
/// marks them with what they need.
#[macro_export]
macro_rules! suite {
    (@each ignore $why:literal, $harness:expr => $($test:ident)*) => {
        $(#[tokio::test]
        #[ignore = $why]
        async fn $test() {
            $crate::suite::$test(&$harness).await;
        })*
    };
    (@each $harness:expr => $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::suite::$test(&$harness).await;
        })*
    };
    (@all $($harness:tt)*) => {
        $crate::suite! { @each $($harness)* =>
            a_journal_grows_row_by_row
            a_row_that_comes_too_late_gets_what_came_before
            the_same_append_again_is_distinguished_from_a_foreign_one
            a_conflict_in_a_batch_stays_alone
            an_append_that_cannot_follow_is_refused
            a_request_id_starts_one_instance
            rows_come_in_pages
            a_record_follows_its_instance
            lists_are_newest_first_filtered_and_in_pages
            settling_clears_the_mark_unless_the_journal_has_grown
            unsettled_instances_come_in_pages_by_id
            instances_that_crowd_in_one_partition_come_in_pages_too
            due_instances_come_in_pages_earliest_first
            an_append_with_nothing_to_do_is_settled_immediately
            subscribers_are_found_by_value_and_by_any
            events_are_kept_once_until_their_time_and_until_delivered
            definitions_are_kept_once
            what_is_old_goes_and_its_request_id_with_it
            everything_is_there_after_a_restart
            a_closed_store_says_so
        }
    };
    (ignore $why:literal, $harness:expr) => {
        $crate::suite! { @all ignore $why, $harness }
    };
    ($harness:expr) => {
        $crate::suite! { @all $harness }
    };
}

pub async fn a_journal_grows_row_by_row(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1)), start(id(2))]).await;
    done(&*store, vec![next(id(1), 2)]).await;
    done(&*store, vec![next(id(1), 3), next(id(2), 2)]).await;
    assert_rows(&*store, id(1), 3).await;
    assert_rows(&*store, id(2), 2).await;
    assert_eq!(all_rows(&*store, id(3)).await, []);
}

pub async fn a_row_that_comes_too_late_gets_what_came_before(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1))]).await;
    done(&*store, vec![next(id(1), 2)]).await;
    done(&*store, vec![next(id(1), 3)]).await;
    let Ok(Appended::Behind(rows)) = one(&*store, next(id(1), 2)).await else {
        panic!("it was not behind")
    };
    assert_eq!(
        rows.iter().map(|row| (row.seq, row.row.to_string())).collect::<Vec<_>>(),
        [(2, text(id(1), 2)), (3, text(id(1), 3))]
    );
    let Ok(Appended::Behind(rows)) = one(&*store, start(id(1))).await else {
        panic!("it was not behind")
    };
    assert_eq!(rows.len(), 3);
    assert_rows(&*store, id(1), 3).await;
}

pub async fn the_same_append_again_is_distinguished_from_a_foreign_one(harness: &Harness) {
    let store = (harness.open)().await;
    let first = Append { start: Some(with_request("r", 1)), ..start(id(1)) };
    let second = next(id(1), 2);
    done(&*store, vec![first.clone()]).await;
    assert!(matches!(one(&*store, first.clone()).await, Ok(Appended::Same)));
    done(&*store, vec![second.clone()]).await;
    assert!(matches!(one(&*store, second.clone()).await, Ok(Appended::Same)));
    done(&*store, vec![next(id(1), 3)]).await;
    assert!(matches!(one(&*store, second).await, Ok(Appended::Same)));
    assert!(matches!(one(&*store, first).await, Ok(Appended::Same)));
    assert_rows(&*store, id(1), 3).await;
}

pub async fn a_conflict_in_a_batch_stays_alone(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1)), start(id(2)), start(id(3))]).await;
    done(&*store, vec![next(id(2), 2)]).await;
    let results =
        store.append(vec![next(id(1), 2), next(id(2), 2), next(id(9), 2), next(id(3), 2)]).await;
    assert!(
        matches!(&results[..], [Ok(Appended::Done), Ok(Appended::Behind(_)), gap, Ok(Appended::Done)] if is_gap(gap)),
        "{results:?}"
    );
    for n in 1..=3 {
        assert_rows(&*store, id(n), 2).await;
    }
}

pub async fn an_append_that_cannot_follow_is_refused(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1))]).await;
    assert!(is_gap(&one(&*store, next(id(1), 3)).await));
    assert!(is_gap(&one(&*store, next(id(2), 1)).await));
    assert!(matches!(one(&*store, next(id(1), 0)).await, Err(Error::Broken(_))));
    assert_rows(&*store, id(1), 1).await;
    assert!(store.record(id(2)).await.unwrap().is_none());
}

/// Either a bug, or a store that can lose what it has answered and says so.
fn is_gap(answer: &Result<Appended, Error>) -> bool {
    matches!(answer, Err(Error::Broken(_)) | Ok(Appended::Lost { .. }))
}

fn with_request(request_id: &str, input: u8) -> Box<crux_runtime::store::NewInstance> {
    let mut new = new_instance("order");
    new.request = Some(request(request_id, input));
    new
}

pub async fn a_request_id_starts_one_instance(harness: &Harness) {
    let store = (harness.open)().await;
    // Instances of one request id are in its partition.
    let id = |n| if n == 3 { requested(n, "other") } else { requested(n, "r") };
    let with = |n, request_id: &str, input| Append {
        start: Some(with_request(request_id, input)),
        ..start(id(n))
    };
    // Both concurrently: one of them is first.
    let results = store.append(vec![with(1, "r", 1), with(2, "r", 1), with(3, "other", 1)]).await;
    assert!(
        matches!(results[..], [Ok(Appended::Done), Ok(Appended::Used { instance, same_input: true }), Ok(Appended::Done)] if instance == id(1)),
        "{results:?}"
    );
    assert!(
        matches!(one(&*store, with(4, "r", 2)).await, Ok(Appended::Used { instance, same_input: false }) if instance == id(1))
    );
    for n in [2, 4] {
        assert!(store.record(id(n)).await.unwrap().is_none());
        assert_eq!(all_rows(&*store, id(n)).await, []);
    }
    // Another client's or workflow's id is another.
    let mut new = with_request("r", 1);
    new.request.as_mut().unwrap().scope = "client/other".to_owned();
    done(&*store, vec![Append { start: Some(new), ..start(id(5)) }]).await;
}

pub async fn rows_come_in_pages(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1))]).await;
    for seq in 2..=25 {
        done(&*store, vec![Append { settled: seq - 2, ..next(id(1), seq) }]).await;
    }
    let mut seen = Vec::new();
    loop {
        let page = store.rows(id(1), seen.last().copied().unwrap_or(0), 10).await.unwrap();
        assert!(page.iter().all(|row| row.settled == row.seq.saturating_sub(2)));
        seen.extend(page.iter().map(|row| row.seq));
        if page.len() < 10 {
            break;
        }
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
    assert_eq!(store.rows(id(1), 25, 10).await.unwrap(), []);
    assert_eq!(store.rows(id(1), 90, 10).await.unwrap(), []);
    assert_eq!(store.rows(id(1), 3, 0).await.unwrap(), []);
}

pub async fn a_record_follows_its_instance(harness: &Harness) {
    let store = (harness.open)().await;
    let mut new = new_instance("order");
    new.owner = "ann".to_owned();
    done(&*store, vec![Append { start: Some(new), ..start(id(1)) }]).await;
    let record = store.record(id(1)).await.unwrap().unwrap();
    assert_eq!((record.instance, record.workflow.as_str(), record.version), (id(1), "order", 1));
    assert_eq!((record.definition.as_str(), record.owner.as_str()), ("hash of order", "ann"));
    assert_eq!((record.status, record.started_at, record.ended_at), (Status::Processing, T0, None));

    done(&*store, vec![next(id(1), 2)]).await;
    assert_eq!(store.record(id(1)).await.unwrap().unwrap().status, Status::Processing);
    done(&*store, vec![end(id(1), 3, Status::Failed, Time(T0.0 + 5), 1_000)]).await;
    let record = store.record(id(1)).await.unwrap().unwrap();
    assert_eq!((record.status, record.ended_at), (Status::Failed, Some(Time(T0.0 + 5))));

    // A failed one can be retried.
    let again = RecordChange { status: Status::Processing, ended: None };
    done(&*store, vec![Append { record: Some(again), ..next(id(1), 4) }]).await;
    let record = store.record(id(1)).await.unwrap().unwrap();
    assert_eq!((record.status, record.ended_at), (Status::Processing, None));
    assert_eq!(store.expire(Time(T0.0 + 1_000_000), 10).await.unwrap(), 0);
    assert_rows(&*store, id(1), 4).await;
}

pub async fn lists_are_newest_first_filtered_and_in_pages(harness: &Harness) {
    let store = (harness.open)().await;
    // 1..=60: workflows a, b, c in turn; every fifth is ann's; every fourth has completed, every
    // tenth failed.
    for n in 1..=60 {
        let mut new = new_instance(["a", "b", "c"][(n % 3) as usize]);
        new.version = 1 + u32::try_from(n % 2).unwrap();
        if n % 5 == 0 {
            new.owner = "ann".to_owned();
        }
        done(&*store, vec![Append { start: Some(new), ..start(id(n)) }]).await;
        let status = if n % 10 == 0 { Status::Failed } else { Status::Completed };
        if n % 4 == 0 || n % 10 == 0 {
            done(&*store, vec![end(id(n), 2, status, T0, 1)]).await;
        }
    }
    let status_of = |n: u64| match n {
        _ if n.is_multiple_of(10) => Status::Failed,
        _ if n.is_multiple_of(4) => Status::Completed,
        _ => Status::Processing,
    };
    for workflow in [None, Some("a"), Some("c"), Some("none")] {
        for status in [
            None,
            Some(Status::Completed),
            Some(Status::Failed),
            Some(Status::Processing),
            Some(Status::Parked),
        ] {
            for owner in [None, Some("ann"), Some(""), Some("bob")] {
                let expected: Vec<InstanceId> = (1..=60)
                    .rev()
                    .filter(|n| {
                        workflow
                            .is_none_or(|workflow| workflow == ["a", "b", "c"][(n % 3) as usize])
                    })
                    .filter(|n| status.is_none_or(|status| status == status_of(*n)))
                    .filter(|n| {
                        owner.is_none_or(|owner| owner == if n % 5 == 0 { "ann" } else { "" })
                    })
                    .map(id)
                    .collect();
                let mut listed = Vec::new();
                loop {
                    let after = listed.last().copied();
                    let (workflow, owner) = (workflow.map(str::to_owned), owner.map(str::to_owned));
                    let page = store
                        .list(Filter { workflow, status, owner, after, limit: 7 })
                        .await
                        .unwrap();
                    listed.extend(page.iter().map(|record| record.instance));
                    if page.len() < 7 {
                        break;
                    }
                }
                assert_eq!(listed, expected, "{workflow:?} {status:?} {owner:?}");
            }
        }
    }
    assert_eq!(store.list(Filter::default()).await.unwrap(), []);
}

pub async fn settling_clears_the_mark_unless_the_journal_has_grown(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1)), start(id(2))]).await;
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(1), id(2)]);
    done(&*store, vec![next(id(2), 2)]).await;
    let settled = |n, seq| Settled { instance: id(n), seq, wake_at: None };
    store.settle(vec![settled(1, 1), settled(2, 1), settled(3, 1)]).await.unwrap();
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(2)]);
    for (n, settled) in [(1, true), (2, false)] {
        assert_eq!(store.record(id(n)).await.unwrap().unwrap().settled, settled, "{n}");
    }
    store.settle(vec![settled(2, 2)]).await.unwrap();
    assert_eq!(store.unsettled(None, 10).await.unwrap(), []);
    assert!(store.record(id(2)).await.unwrap().unwrap().settled);
    // The next append sets it again.
    done(&*store, vec![next(id(1), 2)]).await;
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(1)]);
    assert_rows(&*store, id(1), 2).await;
}

pub async fn unsettled_instances_come_in_pages_by_id(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, (1..=25).map(|n| start(id(n))).collect()).await;
    store.settle(vec![Settled { instance: id(13), seq: 1, wake_at: None }]).await.unwrap();
    let mut seen = Vec::new();
    loop {
        let page = store.unsettled(seen.last().copied(), 10).await.unwrap();
        seen.extend(&page);
        if page.len() < 10 {
            break;
        }
    }
    assert_eq!(seen, (1..=25).filter(|n| *n != 13).map(id).collect::<Vec<_>>());
}

pub async fn instances_that_crowd_in_one_partition_come_in_pages_too(harness: &Harness) {
    let store = (harness.open)().await;
    let id = |n: u64| if n.is_multiple_of(8) { id(n) } else { requested(n, "same") };
    done(&*store, (1..=80).map(|n| start(id(n))).collect()).await;
    let all: Vec<InstanceId> = (1..=80).map(id).collect();
    for limit in [1, 9, 1000] {
        let mut seen = Vec::new();
        loop {
            let page = store.unsettled(seen.last().copied(), limit).await.unwrap();
            seen.extend(&page);
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(seen, all, "{limit} at a time");
    }
    let mut listed = Vec::new();
    while listed.len() < 80 {
        let filter = Filter { after: listed.last().copied(), limit: 10, ..Filter::default() };
        listed.extend(store.list(filter).await.unwrap().iter().map(|record| record.instance));
    }
    listed.reverse();
    assert_eq!(listed, all);
}

pub async fn due_instances_come_in_pages_earliest_first(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, (1..=6).map(|n| start(id(n))).collect()).await;
    let settled = |n, at| Settled { instance: id(n), seq: 1, wake_at: Some(Time(at)) };
    store
        .settle(vec![
            settled(1, 400),
            settled(2, 300),
            settled(3, 100),
            settled(4, 200),
            settled(5, 900),
            settled(6, 300),
        ])
        .await
        .unwrap();
    let due = async |until, limit| {
        let mut found: Vec<(Time, InstanceId)> = Vec::new();
        loop {
            let page = store.due(found.last().copied(), Time(until), limit).await.unwrap();
            found.extend(&page);
            if page.len() < limit {
                return found;
            }
        }
    };
    let all = [(100, 3), (200, 4), (300, 2), (300, 6), (400, 1), (900, 5)]
        .map(|(at, n)| (Time(at), id(n)));
    for limit in [1, 2, 10] {
        assert_eq!(due(99, limit).await, []);
        assert_eq!(due(100, limit).await, all[..1]);
        assert_eq!(due(300, limit).await, all[..4]);
        assert_eq!(due(1_000, limit).await, all);
    }
    // One that goes on is not due any more, one that is settled again is so anew.
    done(&*store, vec![next(id(3), 2), next(id(4), 2)]).await;
    store
        .settle(vec![Settled { instance: id(4), seq: 2, wake_at: Some(Time(350)) }])
        .await
        .unwrap();
    store.settle(vec![Settled { instance: id(2), seq: 1, wake_at: None }]).await.unwrap();
    assert_eq!(due(360, 10).await, [(Time(300), id(6)), (Time(350), id(4))]);
}

pub async fn an_append_with_nothing_to_do_is_settled_immediately(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1)), start(id(2))]).await;
    done(&*store, vec![Append { settled: 2, ..end(id(1), 2, Status::Completed, T0, 1_000) }]).await;
    done(&*store, vec![Append { settled: 1, ..end(id(2), 2, Status::Completed, T0, 1_000) }]).await;
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(2)]);
    assert_rows(&*store, id(1), 2).await;
    // It need not be an end.
    done(&*store, vec![start(id(4))]).await;
    store.settle(vec![Settled { instance: id(4), seq: 1, wake_at: Some(Time(9)) }]).await.unwrap();
    done(&*store, vec![Append { settled: 2, ..next(id(4), 2) }]).await;
    assert_eq!(store.due(None, Time(9), 10).await.unwrap(), []);
    // One row can be a whole life.
    let ended = RecordChange { status: Status::Failed, ended: Some((T0, 1_000)) };
    done(&*store, vec![Append { settled: 1, record: Some(ended), ..start(id(3)) }]).await;
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(2)]);
    assert_rows(&*store, id(3), 1).await;
    assert_eq!(store.record(id(3)).await.unwrap().unwrap().status, Status::Failed);
}

pub async fn subscribers_are_found_by_value_and_by_any(harness: &Harness) {
    let store = (harness.open)().await;
    let valued: Vec<_> =
        (1..=7).map(|n| subscription("paid", Some("o-1"), id(n), "wait")).collect();
    let any: Vec<_> = (3..=5).map(|n| subscription("paid", None, id(n), "other")).collect();
    let empty = subscription("paid", Some(""), id(9), "empty");
    let two = subscription("paid", Some("o-1"), id(7), "wait2");
    store.subscribe([&valued[..], &any[..], std::slice::from_ref(&empty)].concat()).await.unwrap();
    store
        .subscribe(vec![
            valued[0].clone(),
            two.clone(),
            subscription("sent", Some("o-1"), id(1), "wait"),
        ])
        .await
        .unwrap();
    let find = async |value: Option<&str>, limit| {
        let mut found = Vec::new();
        loop {
            let value = value.map(str::to_owned);
            let page = store
                .subscribers("paid".to_owned(), value, found.last().cloned(), limit)
                .await
                .unwrap();
            found.extend(page.iter().cloned());
            if page.len() < limit {
                return found;
            }
        }
    };
    for limit in [1, 2, 3, 100] {
        let mut found = find(Some("o-1"), limit).await;
        assert_eq!(found.len(), 11, "{found:?}");
        found.sort_by_key(|one| (one.value.is_none(), one.instance, one.path.clone()));
        assert_eq!(found, [&valued[..], std::slice::from_ref(&two), &any[..]].concat());
        assert_eq!(find(Some("o-2"), limit).await.len(), 3);
        assert_eq!(find(Some(""), limit).await.len(), 4);
        assert_eq!(find(None, limit).await.len(), 3);
    }
    store
        .unsubscribe(vec![
            valued[2].clone(),
            any[0].clone(),
            subscription("paid", None, id(1), "wait"),
        ])
        .await
        .unwrap();
    store.unsubscribe(vec![valued[2].clone()]).await.unwrap();
    assert_eq!(find(Some("o-1"), 100).await.len(), 9);
    assert_eq!(find(None, 100).await, any[1..]);
}

pub async fn events_are_kept_once_until_their_time_and_until_delivered(harness: &Harness) {
    let store = (harness.open)().await;
    let first = event("paid", Some("o-1"), "e-1", 10, 100);
    let second = event("paid", Some("o-2"), "e-2", 11, 100);
    let third = event("paid", Some("o-1"), "e-3", 12, 50);
    let other = event("sent", None, "e-1", 13, 100);
    let kept = store.keep(vec![first.clone(), second.clone(), first.clone()]).await.unwrap();
    assert_eq!(kept, [true, true, false]);
    let changed = event("paid", Some("o-9"), "e-1", 99, 999);
    assert_eq!(
        store.keep(vec![changed, third.clone(), other.clone()]).await.unwrap(),
        [false, true, true]
    );
    let find = |name: &str, value: Option<&str>, now| {
        store.kept(name.to_owned(), value.map(str::to_owned), Time(now))
    };
    assert_eq!(find("paid", Some("o-1"), 20).await.unwrap(), [first.clone(), third.clone()]);
    assert_eq!(find("paid", Some("o-1"), 50).await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(
        find("paid", None, 20).await.unwrap(),
        [first.clone(), second.clone(), third.clone()]
    );
    assert_eq!(find("sent", None, 20).await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(find("sent", Some("o-1"), 20).await.unwrap(), []);

    let undelivered = async |after, limit| store.undelivered(after, limit).await.unwrap();
    let events = async |limit| {
        undelivered(None, limit)
            .await
            .into_iter()
            .map(|undelivered| undelivered.event)
            .collect::<Vec<_>>()
    };
    assert_eq!(events(2).await, [first.clone(), second.clone()]);
    let place = undelivered(None, 2).await.pop().unwrap().place;
    let rest: Vec<KeptEvent> = undelivered(Some(place), 10)
        .await
        .into_iter()
        .map(|undelivered| undelivered.event)
        .collect();
    assert_eq!(rest, [third.clone(), other.clone()]);
    // What it starts has started; the rest stays to be done, however late that is.
    store.started(vec![("paid".to_owned(), "e-2".to_owned())]).await.unwrap();
    let started: Vec<bool> = undelivered(None, 10)
        .await
        .into_iter()
        .map(|undelivered| undelivered.has_started)
        .collect();
    assert_eq!(started, [false, true, false, false]);
    store
        .delivered(vec![
            ("paid".to_owned(), "e-1".to_owned()),
            ("sent".to_owned(), "e-1".to_owned()),
        ])
        .await
        .unwrap();
    assert_eq!(events(10).await, [second.clone(), third.clone()]);
    // Delivered ones are still found by waits that come later.
    assert_eq!(find("paid", Some("o-1"), 20).await.unwrap(), [first.clone(), third.clone()]);

    // What is delivered and past its time goes; what nobody has got yet stays.
    store.delivered(vec![("paid".to_owned(), "e-3".to_owned())]).await.unwrap();
    store.expire(Time(60), 10).await.unwrap();
    assert_eq!(find("paid", Some("o-1"), 0).await.unwrap(), [first]);
    store.expire(Time(100), 10).await.unwrap();
    assert_eq!(find("paid", None, 0).await.unwrap(), std::slice::from_ref(&second));
    assert_eq!(events(10).await, std::slice::from_ref(&second));
    store.delivered(vec![("paid".to_owned(), "e-2".to_owned())]).await.unwrap();
    store.expire(Time(100), 10).await.unwrap();
    assert_eq!((events(10).await, find("paid", None, 0).await.unwrap()), (vec![], vec![]));
    assert_eq!(store.keep(vec![third]).await.unwrap(), [true]);
}

pub async fn definitions_are_kept_once(harness: &Harness) {
    let store = (harness.open)().await;
    assert_eq!(store.definition("h".to_owned()).await.unwrap(), None);
    store.define("h".to_owned(), "{}".to_owned()).await.unwrap();
    store.define("h".to_owned(), "{}".to_owned()).await.unwrap();
    assert_eq!(store.definition("h".to_owned()).await.unwrap().as_deref(), Some("{}"));
}

pub async fn what_is_old_goes_and_its_request_id_with_it(harness: &Harness) {
    let store = (harness.open)().await;
    // 1 and 11 are of request id r1, and so on.
    let id = |n: u64| requested(n, &format!("r{}", n % 10));
    let at = |ms: i64| Time(T0.0 + ms);
    let settled = |n, seq| Settled { instance: id(n), seq, wake_at: None };
    for n in 1..=6 {
        done(
            &*store,
            vec![Append { start: Some(with_request(&format!("r{n}"), 1)), ..start(id(n)) }],
        )
        .await;
    }
    // 1 and 2 are over at 100, 3 at 200, 4 has not ended, 5 still has effects to be done, 6 is
    // settled with its last row.
    let ends = [(1, 100), (2, 100), (3, 200), (5, 100)]
        .map(|(n, keep_ms)| end(id(n), 2, Status::Completed, at(0), keep_ms));
    done(&*store, ends.to_vec()).await;
    done(&*store, vec![Append { settled: 2, ..end(id(6), 2, Status::Completed, at(0), 100) }])
        .await;
    store.settle(vec![settled(1, 2), settled(2, 2), settled(3, 2), settled(4, 1)]).await.unwrap();
    let there = async |wanted: &[u64]| {
        for n in 1..=6 {
            let is = store.record(id(n)).await.unwrap().is_some();
            assert_eq!(is, wanted.contains(&n), "instance {n}");
            assert_eq!(all_rows(&*store, id(n)).await.is_empty(), !is, "rows of {n}");
        }
        assert_eq!(
            store.list(Filter { limit: 10, ..Filter::default() }).await.unwrap().len(),
            wanted.len()
        );
    };
    assert_eq!(store.expire(at(99), 10).await.unwrap(), 0);
    there(&[1, 2, 3, 4, 5, 6]).await;
    // At most so many at a time; clearing marks is lazy, so that it may take a while until they may
    // go.
    let mut gone = 0;
    for _ in 0..100 {
        let count = store.expire(at(150), 2).await.unwrap();
        assert!(count <= 2);
        gone += count;
        if gone == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(gone, 3);
    there(&[3, 4, 5]).await;
    let again =
        |n, request_id: &str| Append { start: Some(with_request(request_id, 1)), ..start(id(n)) };
    done(&*store, vec![again(11, "r1")]).await;
    assert!(
        matches!(one(&*store, again(13, "r3")).await, Ok(Appended::Used { instance, .. }) if instance == id(3))
    );
}

pub async fn everything_is_there_after_a_restart(harness: &Harness) {
    let id = |n: u64| requested(n, &format!("r{n}"));
    let store = (harness.open)().await;
    for n in 1..=5 {
        done(
            &*store,
            vec![Append { start: Some(with_request(&format!("r{n}"), 1)), ..start(id(n)) }],
        )
        .await;
        done(&*store, vec![next(id(n), 2)]).await;
    }
    let settled = |n, wake_at| Settled { instance: id(n), seq: 2, wake_at };
    store.settle(vec![settled(1, None), settled(2, Some(Time(70)))]).await.unwrap();
    done(&*store, vec![end(id(3), 3, Status::Completed, T0, 1_000), next(id(4), 3)]).await;
    store.subscribe(vec![subscription("paid", None, id(1), "wait")]).await.unwrap();
    store.keep(vec![event("paid", None, "e", 1, 100)]).await.unwrap();
    store.define("h".to_owned(), "{}".to_owned()).await.unwrap();
    let open = |instances| {
        vec![Count { workflow: "order".to_owned(), status: Status::Processing, instances }]
    };
    let workflows = || vec!["order".to_owned(), "refund".to_owned()];
    assert_eq!(store.count(workflows()).await.unwrap(), open(4));
    store.close().await.unwrap();
    drop(store);

    let store = (harness.open)().await;
    for (n, rows) in [(1, 2), (2, 2), (3, 3), (4, 3), (5, 2)] {
        assert_rows(&*store, id(n), rows).await;
    }
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(3), id(4), id(5)]);
    assert_eq!(store.due(None, Time(70), 10).await.unwrap(), [(Time(70), id(2))]);
    assert_eq!(store.record(id(3)).await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(store.subscribers("paid".to_owned(), None, None, 10).await.unwrap().len(), 1);
    assert_eq!(store.undelivered(None, 10).await.unwrap().len(), 1);
    let of_order = InUse {
        workflow: "order".to_owned(),
        version: 1,
        definition: "hash of order".to_owned(),
        instances: 4,
    };
    assert_eq!(store.in_use().await.unwrap(), [of_order]);
    assert_eq!(store.count(workflows()).await.unwrap(), open(4));
    assert_eq!(store.count(vec!["refund".to_owned()]).await.unwrap(), []);
    assert_eq!(store.definition("h".to_owned()).await.unwrap().as_deref(), Some("{}"));
    // What the previous process owned is this one's now.
    assert_eq!(store.claim(vec![id(4), id(5)]).await.unwrap(), [id(4), id(5)]);
    done(&*store, vec![next(id(1), 3), next(id(4), 4), next(id(5), 3)]).await;
    assert!(
        matches!(one(&*store, next(id(2), 2)).await, Ok(Appended::Behind(rows)) if rows.len() == 1)
    );
    let used =
        one(&*store, Append { start: Some(with_request("r3", 1)), ..start(requested(6, "r3")) })
            .await;
    assert!(matches!(used, Ok(Appended::Used { instance, same_input: true }) if instance == id(3)));
    store.close().await.unwrap();
    drop(store);

    let store = (harness.open)().await;
    for (n, rows) in [(1, 3), (2, 2), (3, 3), (4, 4), (5, 3)] {
        assert_rows(&*store, id(n), rows).await;
    }
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [id(1), id(3), id(4), id(5)]);
    assert_eq!(store.claim(vec![id(5)]).await.unwrap(), [id(5)]);
    done(&*store, vec![end(id(5), 4, Status::Completed, T0, 1_000)]).await;
    assert_eq!(store.count(workflows()).await.unwrap(), open(3));
}

pub async fn a_closed_store_says_so(harness: &Harness) {
    let store = (harness.open)().await;
    done(&*store, vec![start(id(1))]).await;
    store.close().await.unwrap();
    assert!(matches!(one(&*store, next(id(1), 2)).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.record(id(1)).await, Err(Error::Unavailable(_))));
    assert!(matches!(store.close().await, Err(Error::Unavailable(_))));
}
