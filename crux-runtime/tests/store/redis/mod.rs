//! What only the Redis store has to do, on servers that the tests start themselves.

mod nodes;
mod outages;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crux_runtime::store::Store;
use crux_runtime::store::redis::{Options, Redis};

use crate::harness::{Harness, Opening};
use crate::redis_server;

/// A separate store on a server that tests share.
fn options(url: String) -> Options {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Options { prefix, ..Options::new(url) }
}

fn harness(url: String) -> Harness {
    let options = options(url);
    let open = move || -> Opening {
        let options = options.clone();
        Box::pin(async move {
            let store: Arc<dyn Store> = Arc::new(open(options).await);
            store
        })
    };
    Harness { open: Box::new(open) }
}

async fn open(options: Options) -> Redis {
    Redis::open(options).await.unwrap()
}

/// The server that tests share; it ends with the process.
fn shared() -> String {
    static SERVER: OnceLock<redis_server::Redis> = OnceLock::new();
    SERVER.get_or_init(redis_server::Redis::start).url()
}

mod single {
    crate::suite! { ignore "needs redis-server", super::harness(super::shared()) }
}

mod cluster {
    use std::sync::OnceLock;

    use crux_runtime::store::Error;
    use crux_runtime::store::redis::Options;

    use crate::harness::{assert_rows, id, one, start};
    use crate::redis_server::Cluster;

    fn shared() -> String {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(Cluster::start).url()
    }

    crate::suite! { ignore "needs redis-server", super::harness(shared()) }

    #[tokio::test]
    #[ignore = "needs redis-server"]
    async fn what_is_so_on_each_master_is_known() {
        let options =
            Options { require_durable: true, wait_replicas: 1, ..super::options(shared()) };
        let store = super::open(options).await;
        // No master has a replica.
        let answer = one(&store, start(id(1))).await;
        assert!(
            matches!(&answer, Err(Error::Unavailable(text)) if text.contains("0 of 1 replicas")),
            "{answer:?}"
        );
        assert_rows(&store, id(1), 1).await;
    }
}

/// Waits for what must come soon.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..1000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 10 s");
}
