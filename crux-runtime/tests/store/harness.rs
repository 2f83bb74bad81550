//! What the tests of stores share: a store that can be opened again, and short ways to make its
//! records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crux_runtime::id::InstanceId;
use crux_runtime::machine::Time;
use crux_runtime::store::{
    Append, Appended, Error, KeptEvent, NewInstance, RecordChange, RequestKey, Seq, Status, Store,
    Stored, Subscription,
};

/// A place where a store is. Opening it again is what a restart does.
pub struct Harness {
    pub open: Box<dyn Fn() -> Opening>,
}

pub type Opening = std::pin::Pin<Box<dyn Future<Output = Arc<dyn Store>>>>;

impl Harness {
    /// Of a store that opens immediately.
    pub fn new<S: Store>(open: impl Fn() -> S + 'static) -> Self {
        Self {
            open: Box::new(move || -> Opening {
                let store: Arc<dyn Store> = Arc::new(open());
                Box::pin(std::future::ready(store))
            }),
        }
    }
}

pub const T0: Time = Time(1_764_000_000_000);

/// Instance number `n` of a test: greater numbers are younger.
pub fn id(n: u64) -> InstanceId {
    instance(n, None)
}

/// As [`id`], in the partition of that request id.
pub fn requested(n: u64, request_id: &str) -> InstanceId {
    instance(n, Some(request_id))
}

fn instance(n: u64, request_id: Option<&str>) -> InstanceId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    InstanceId::new(Time(T0.0 + i64::try_from(n).unwrap()), random, request_id)
}

pub fn token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX - 1_000_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub fn text(instance: InstanceId, seq: Seq) -> String {
    format!(r#"{{"v":1,"at":1764000000000,"events":[],"of":"{instance}","seq":{seq}}}"#)
}

pub fn new_instance(workflow: &str) -> Box<NewInstance> {
    Box::new(NewInstance {
        workflow: workflow.to_owned(),
        version: 1,
        definition: format!("hash of {workflow}"),
        owner: String::new(),
        started_at: T0,
        request: None,
    })
}

pub fn request(id: &str, input: u8) -> RequestKey {
    RequestKey { scope: "client/order".to_owned(), id: id.to_owned(), input_hash: [input; 32] }
}

pub fn start(instance: InstanceId) -> Append {
    Append {
        instance,
        seq: 1,
        token: token(),
        row: text(instance, 1).into(),
        settled: 0,
        start: Some(new_instance("order")),
        record: Some(RecordChange { status: Status::Processing, ended: None }),
    }
}

pub fn next(instance: InstanceId, seq: Seq) -> Append {
    Append {
        instance,
        seq,
        token: token(),
        row: text(instance, seq).into(),
        settled: 0,
        start: None,
        record: None,
    }
}

pub fn end(instance: InstanceId, seq: Seq, status: Status, at: Time, keep_ms: u64) -> Append {
    Append {
        record: Some(RecordChange { status, ended: Some((at, keep_ms)) }),
        ..next(instance, seq)
    }
}

pub fn subscription(
    event: &str,
    value: Option<&str>,
    instance: InstanceId,
    path: &str,
) -> Subscription {
    Subscription {
        event: event.to_owned(),
        value: value.map(str::to_owned),
        instance,
        path: path.to_owned(),
    }
}

pub fn event(name: &str, value: Option<&str>, id: &str, at: i64, keep_until: i64) -> KeptEvent {
    KeptEvent {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        id: id.to_owned(),
        data: format!(r#"{{"id":"{id}"}}"#),
        owner: "ann".to_owned(),
        traceparent: format!("trace-{id}"),
        at: Time(at),
        keep_until: Time(keep_until),
    }
}

pub async fn one(store: &dyn Store, append: Append) -> Result<Appended, Error> {
    let mut results = store.append(vec![append]).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Appends that must be done.
pub async fn done(store: &dyn Store, batch: Vec<Append>) {
    for result in store.append(batch).await {
        assert!(matches!(result, Ok(Appended::Done)), "{result:?}");
    }
}

pub async fn all_rows(store: &dyn Store, instance: InstanceId) -> Vec<Stored> {
    store.rows(instance, 0, usize::MAX).await.unwrap()
}

/// The journal of `instance` holds exactly these rows of the test's own.
pub async fn assert_rows(store: &dyn Store, instance: InstanceId, count: Seq) {
    let rows = all_rows(store, instance).await;
    let expected: Vec<(Seq, String)> = (1..=count).map(|seq| (seq, text(instance, seq))).collect();
    assert_eq!(
        rows.into_iter().map(|row| (row.seq, row.row.to_string())).collect::<Vec<_>>(),
        expected
    );
}
