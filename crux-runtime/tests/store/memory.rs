//! What the memory store does on purpose.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crux_runtime::store::memory::{Call, CallOutcome, Faults, Memory};
use crux_runtime::store::{Appended, Error, Settled, Store};

use crate::harness::{Harness, assert_rows, done, id, next, one, start};

fn harness() -> Harness {
    let disk = Memory::default();
    Harness::new(move || disk.reopen())
}

crate::suite! { harness() }

/// The outcomes of the next calls, last one first.
#[derive(Default)]
struct Script {
    outcomes: Mutex<Vec<CallOutcome>>,
    delay_ms: Mutex<(u64, u64)>,
}

impl Faults for Script {
    fn outcome(&self, call: Call) -> CallOutcome {
        if call == Call::Append {
            self.outcomes.lock().unwrap().pop().unwrap_or(CallOutcome::Done)
        } else {
            CallOutcome::Done
        }
    }

    fn delay_ms(&self, call: Call) -> (u64, u64) {
        if call == Call::Append { *self.delay_ms.lock().unwrap() } else { (0, 0) }
    }
}

#[tokio::test]
async fn an_append_can_be_done_and_its_answer_lost() {
    let script = Arc::new(Script::default());
    let store = Memory::new(script.clone());
    done(&store, vec![start(id(1)), start(id(2)), start(id(3))]).await;
    *script.outcomes.lock().unwrap() =
        vec![CallOutcome::Full, CallOutcome::Lost, CallOutcome::Unanswered];
    let batch = vec![next(id(1), 2), next(id(2), 2), next(id(3), 2)];
    let results = store.append(batch.clone()).await;
    assert!(
        matches!(
            results[..],
            [Err(Error::Unavailable(_)), Err(Error::Unavailable(_)), Err(Error::Full(_))]
        ),
        "{results:?}"
    );
    let results = store.append(batch).await;
    assert!(
        matches!(results[..], [Ok(Appended::Same), Ok(Appended::Done), Ok(Appended::Done)]),
        "{results:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_what_was_done_and_nothing_of_what_was_delayed() {
    let script = Arc::new(Script::default());
    let store = Memory::new(script.clone());
    done(&store, vec![start(id(1)), start(id(2)), start(id(3))]).await;
    let settled = |n| Settled { instance: id(n), seq: 1, wake_at: None };
    store.settle(vec![settled(1), settled(2)]).await.unwrap();

    *script.delay_ms.lock().unwrap() = (0, 50);
    let (done_late, lost) = (store.append(vec![next(id(3), 2)]), {
        *script.delay_ms.lock().unwrap() = (50, 0);
        store.append(vec![next(id(2), 2)])
    });
    let pending = tokio::spawn(async { tokio::join!(done_late, lost) });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let restarted = store.crash(|instance| instance == id(1));
    *script.delay_ms.lock().unwrap() = (0, 0);
    let (done_late, lost) = pending.await.unwrap();
    assert!(matches!(done_late[..], [Ok(Appended::Done)]));
    assert!(matches!(lost[..], [Err(Error::Unavailable(_))]));
    assert!(matches!(one(&store, next(id(1), 2)).await, Err(Error::Unavailable(_))));

    assert_rows(&restarted, id(1), 1).await;
    assert_rows(&restarted, id(2), 1).await;
    assert_rows(&restarted, id(3), 2).await;
    assert_eq!(restarted.unsettled(None, 10).await.unwrap(), [id(2), id(3)]);
}
