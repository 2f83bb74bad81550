//! Answers that are lost, servers that die and come back, and settings that lose what was answered.

use std::time::Duration;

use crux_runtime::machine::Time;
use crux_runtime::store::redis::{Options, Redis};
use crux_runtime::store::{Append, Appended, Error, Filter, Settled, Store};

use super::{eventually, open, options};
use crate::harness::{
    assert_rows, done, event, id, new_instance, next, one, request, requested, start,
};
use crate::redis_server;

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_append_that_was_done_after_the_timeout_is_recognized_by_its_token() {
    let server = redis_server::Redis::start();
    let store = open(Options { timeout: Duration::from_secs(1), ..options(server.url()) }).await;
    // The server knows the script.
    done(&store, vec![start(id(2))]).await;
    let mut new = new_instance("order");
    new.request = Some(request("r", 1));
    let first = Append { start: Some(new), ..start(requested(1, "r")) };
    let second = next(requested(1, "r"), 2);
    // The server has the question, and works on it when nobody listens any more.
    for append in [first.clone(), second.clone()] {
        server.hang(true);
        let answer = one(&store, append.clone()).await;
        server.hang(false);
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        let answer = one(&store, append).await;
        assert!(matches!(answer, Ok(Appended::Same)), "{answer:?}");
    }
    assert_rows(&store, requested(1, "r"), 2).await;
    // Another's append under that number is distinguished.
    assert!(
        matches!(one(&store, next(requested(1, "r"), 2)).await, Ok(Appended::Behind(rows)) if rows.len() == 1)
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_was_answered_is_there_after_the_server_was_killed() {
    let mut server = redis_server::Redis::start();
    let store = open(Options { timeout: Duration::from_secs(1), ..options(server.url()) }).await;
    done(&store, vec![start(id(1)), start(id(2))]).await;
    done(&store, vec![next(id(1), 2)]).await;
    store.keep(vec![event("paid", Some("o-1"), "e-1", 1, i64::MAX)]).await.unwrap();
    server.kill();
    assert!(matches!(one(&store, next(id(1), 3)).await, Err(Error::Unavailable(_))));
    server.restart();
    // The same opening goes on by itself; the server has lost its scripts.
    super::eventually("the store does not come back", async || {
        one(&store, next(id(2), 2)).await.ok()
    })
    .await;
    assert_rows(&store, id(1), 2).await;
    assert_rows(&store, id(2), 2).await;
    assert_eq!(store.undelivered(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = redis_server::Redis::start();
    let store = open(options(server.url())).await;
    done(&store, (1..=20).map(|n| start(id(n))).collect()).await;
    server.command(&["SCRIPT", "FLUSH"]);
    done(&store, (1..=20).map(|n| next(id(n), 2)).collect()).await;
    server.command(&["SCRIPT", "FLUSH"]);
    assert_eq!(store.claim(vec![id(1)]).await.unwrap(), [id(1)]);
    assert_eq!(store.keep(vec![event("paid", None, "e-1", 1, 2)]).await.unwrap(), [true]);
    for n in 1..=20 {
        assert_rows(&store, id(n), 2).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn memory_that_is_used_up_is_reported_and_nothing_is_half_written() {
    let server = redis_server::Redis::start_with(&[("maxmemory", "20mb"), ("appendonly", "yes")]);
    let store = open(options(server.url())).await;
    assert!(store.free_bytes().is_some_and(|free| free < 20 << 20), "{:?}", store.free_bytes());
    done(&store, vec![start(id(1))]).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1000"]);
    let results = store.append(vec![next(id(1), 2), start(id(2))]).await;
    assert!(matches!(results[..], [Err(Error::Full(_)), Err(Error::Full(_))]), "{results:?}");
    assert_rows(&store, id(1), 1).await;
    assert!(store.record(id(2)).await.unwrap().is_none());
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    done(&store, vec![next(id(1), 2), start(id(2))]).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_would_lose_answers_is_refused_where_that_matters() {
    let server = redis_server::Redis::start_with(&[("maxmemory-policy", "allkeys-lru")]);
    let options = options(server.url());
    // A warning only.
    open(options.clone()).await.close().await.unwrap();
    let Err(error) = Redis::open(Options { require_durable: true, ..options.clone() }).await else {
        panic!("it was opened")
    };
    let error = error.to_string();
    for word in ["appendonly", "maxmemory-policy", "allkeys-lru", "require_durable"] {
        assert!(error.contains(word), "{error}");
    }
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.command(&["CONFIG", "SET", "appendonly", "yes"]);
    open(Options { require_durable: true, ..options }).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn an_append_waits_for_replicas_if_told_to() {
    let server = redis_server::Redis::start();
    let store = open(Options { wait_replicas: 1, ..options(server.url()) }).await;
    let first = start(id(1));
    let answer = one(&store, first.clone()).await;
    assert!(
        matches!(&answer, Err(Error::Unavailable(text)) if text.contains("wait_replicas")),
        "{answer:?}"
    );
    let port = server.port().to_string();
    let replica = redis_server::Redis::start_with(&[("replicaof", &format!("127.0.0.1 {port}"))]);
    super::eventually("no replica", async || {
        server.command(&["INFO", "replication"]).contains("state=online").then_some(())
    })
    .await;
    assert!(matches!(one(&store, first).await, Ok(Appended::Same)));
    done(&store, vec![next(id(1), 2)]).await;
    assert!(!replica.command(&["KEYS", "*:journal:*"]).is_empty());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_is_wrong_with_the_place_is_said() {
    let error = |url: &str| {
        let options = Options { timeout: Duration::from_millis(500), ..Options::new(url) };
        async move {
            Redis::open(options).await.err().map(|error| error.to_string()).unwrap_or_default()
        }
    };
    let nobody = error("redis://127.0.0.1:1").await;
    assert!(nobody.contains("127.0.0.1:1") && nobody.contains("cannot be reached"), "{nobody}");
    let wrong = error("http://127.0.0.1").await;
    assert!(wrong.contains("redis.url"), "{wrong}");
    let server = redis_server::Redis::start_with(&[("requirepass", "secret")]);
    let locked = error(&server.url().replace("//", "//:wrong@")).await;
    assert!(locked.to_lowercase().contains("password") || locked.contains("WRONGPASS"), "{locked}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_failover_that_loses_rows_is_reported() {
    let mut primary = redis_server::Redis::start();
    let port = primary.port();
    let replica = redis_server::Redis::start_with(&[
        ("replicaof", &format!("127.0.0.1 {port}")),
        ("appendonly", "yes"),
    ]);
    super::eventually("no replica", async || {
        primary.command(&["INFO", "replication"]).contains("state=online").then_some(())
    })
    .await;
    let proxy = Proxy::start(port).await;
    let store = open(Options {
        timeout: Duration::from_secs(1),
        ..options(format!("redis://127.0.0.1:{}", proxy.port))
    })
    .await;
    done(&store, vec![start(id(1))]).await;
    super::eventually("not replicated", async || {
        (!replica.command(&["KEYS", "*:journal:*"]).is_empty()).then_some(())
    })
    .await;
    // What comes now reaches the replica no more.
    replica.command(&["REPLICAOF", "NO", "ONE"]);
    done(&store, vec![next(id(1), 2), start(id(2))]).await;
    done(&store, vec![next(id(1), 3)]).await;
    primary.kill();
    proxy.lead_to(replica.port());
    let lost = super::eventually("the store does not come back", async || {
        one(&store, next(id(1), 4)).await.ok()
    })
    .await;
    assert!(matches!(lost, Appended::Lost { have: 1 }), "{lost:?}");
    assert!(matches!(one(&store, next(id(2), 2)).await, Ok(Appended::Lost { have: 0 })));
    assert_rows(&store, id(1), 1).await;
    done(&store, vec![next(id(1), 2)]).await;
}

/// Passes bytes on to a server, and from some moment on to another: what a fail-over looks like
/// from outside.
struct Proxy {
    port: u16,
    target: std::sync::Arc<std::sync::atomic::AtomicU16>,
}

impl Proxy {
    async fn start(target: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(target));
        let now = target.clone();
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let target = now.load(std::sync::atomic::Ordering::SeqCst);
                tokio::spawn(async move {
                    let Ok(mut to) = tokio::net::TcpStream::connect(("127.0.0.1", target)).await
                    else {
                        return;
                    };
                    // Either of the two has gone.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { port, target }
    }

    fn lead_to(&self, target: u16) {
        self.target.store(target, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_store_that_was_emptied_is_reported_and_not_written_to_by_those_that_knew_it() {
    let server = redis_server::Redis::start();
    let options = Options { lease: Duration::from_millis(600), ..options(server.url()) };
    let store = open(options.clone()).await;
    done(&store, vec![start(id(1))]).await;
    assert_eq!(store.problem(), None);
    // A partition without its data, and with them again.
    let key = |tag: u8| format!("{}:{{{tag}}}:birth", options.prefix);
    let problem = async |wanted: Option<&str>| {
        let is_so = |problem: &Option<String>| match (problem, wanted) {
            (Some(problem), Some(text)) => problem.contains(text),
            (problem, wanted) => problem.is_some() == wanted.is_some(),
        };
        eventually("the problem is not reported", async || Some(store.problem()).filter(is_so))
            .await
    };
    server.command(&["RENAME", &key(77), "elsewhere"]);
    problem(Some("1 of 256 partitions in Redis were emptied, `{77}` the first of them")).await;
    done(&store, vec![next(id(1), 2)]).await;
    server.command(&["RENAME", "elsewhere", &key(77)]);
    problem(None).await;

    server.command(&["FLUSHALL"]);
    problem(Some("Redis was emptied")).await;
    let results = store.append(vec![start(id(2))]).await;
    assert!(
        matches!(&results[..], [Err(Error::Unavailable(text))] if text.contains("emptied")),
        "{results:?}"
    );
    assert_eq!(server.command(&["DBSIZE"]).trim(), "0");
    // Who starts anew accepts it; who knew another store does not.
    let anew = open(options).await;
    assert_eq!(anew.problem(), None);
    done(&anew, vec![start(id(2))]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.problem().is_some());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_takes_no_writes_is_reported_and_so_is_that_it_does_again() {
    let server = redis_server::Redis::start();
    let store = open(Options { lease: Duration::from_millis(600), ..options(server.url()) }).await;
    for (off, on) in [
        (
            &["CONFIG", "SET", "min-replicas-to-write", "1"][..],
            &["CONFIG", "SET", "min-replicas-to-write", "0"][..],
        ),
        (&["CONFIG", "SET", "maxmemory", "1000"], &["CONFIG", "SET", "maxmemory", "0"]),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
    ] {
        server.command(off);
        let problem =
            eventually("nobody says that nothing can be written", async || store.problem()).await;
        assert!(problem.contains("could not renew its lease"), "{problem}");
        assert!(store.list(Filter { limit: 1, ..Filter::default() }).await.is_ok());
        server.command(on);
        eventually("it is reported forever", async || store.problem().is_none().then_some(()))
            .await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn foreign_data_breaks_only_what_it_belongs_to() {
    let server = redis_server::Redis::start();
    let options = options(server.url());
    let store = open(options.clone()).await;
    // In one partition, so that one script is asked about all of them.
    let [broken, cut, whole] = [1, 2, 3].map(|n| requested(n, "same"));
    done(&store, vec![start(broken), start(cut), start(whole)]).await;
    let base = format!("{}:{{{}}}", options.prefix, broken.partition() % 256);
    let over = |key: &str| {
        server.command(&["DEL", key]);
        server.command(&["SET", key, "mine"]);
    };
    over(&format!("{base}:instance:{broken}"));
    over(&format!("{base}:journal:{cut}"));
    assert!(matches!(store.record(broken).await, Err(Error::Broken(_))));
    assert!(matches!(store.rows(cut, 0, 10).await, Err(Error::Broken(_))));
    let results = store.append(vec![next(broken, 2), next(cut, 2), next(whole, 2)]).await;
    assert!(
        matches!(results[..], [Err(Error::Broken(_)), Err(Error::Broken(_)), Ok(Appended::Done)]),
        "{results:?}"
    );
    let listed = store.list(Filter { limit: 10, ..Filter::default() }).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.instance).collect::<Vec<_>>(), [whole, cut]);
    let settled = |instance, seq| Settled { instance, seq, wake_at: Some(Time(5)) };
    store.settle(vec![settled(broken, 1), settled(cut, 1), settled(whole, 2)]).await.unwrap();
    assert_eq!(store.due(None, Time(10), 10).await.unwrap(), [(Time(5), whole)]);
    assert_eq!(store.claim(vec![broken, whole]).await.unwrap(), [whole]);
    // An index: what it held is left out, and everything else is there.
    let far = requested(4, "elsewhere");
    assert_ne!(far.partition() % 256, whole.partition() % 256);
    done(&store, vec![start(far)]).await;
    over(&format!("{base}:all"));
    over(&format!("{base}:unsettled"));
    let listed = store.list(Filter { limit: 10, ..Filter::default() }).await.unwrap();
    assert_eq!(listed.iter().map(|record| record.instance).collect::<Vec<_>>(), [far]);
    assert_eq!(store.unsettled(None, 10).await.unwrap(), [far]);
}
