//! Several nodes on one store: leases, what the dead leave behind, and what they may not do any
//! more.

use std::time::Duration;

use crux_runtime::machine::Time;
use crux_runtime::store::redis::{Options, Redis};
use crux_runtime::store::{Appended, Error, Membership, Settled, Store};
use tokio::sync::watch;

use super::{eventually, open, options, shared};
use crate::harness::{assert_rows, done, id, next, one, start};

fn quick() -> Options {
    Options { lease: Duration::from_millis(1_500), ..options(shared()) }
}

async fn departures(store: &Redis, more_than: u64) -> u64 {
    let ask = async || {
        Some(store.membership().borrow().departures).filter(|departures| *departures > more_than)
    };
    eventually("nobody notices that a node is gone", ask).await
}

async fn holds(membership: &mut watch::Receiver<Membership>, wanted: bool) {
    let waiting = membership.wait_for(|membership| membership.holds_lease == wanted);
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_a_living_node_carries_is_nobody_elses() {
    let options = quick();
    let (a, b) = (open(options.clone()).await, open(options).await);
    done(&a, vec![start(id(1)), start(id(2))]).await;
    a.settle(vec![Settled { instance: id(2), seq: 1, wake_at: Some(Time(70)) }]).await.unwrap();
    // For longer than a lease: it is renewed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(b.claim(vec![id(1)]).await.unwrap(), []);
    assert_eq!(a.claim(vec![id(1)]).await.unwrap(), [id(1)]);
    // What is due belongs to the node that is first.
    assert_eq!(b.claim(vec![id(2), id(3)]).await.unwrap(), [id(2)]);
    assert_eq!(a.claim(vec![id(2)]).await.unwrap(), []);
    assert_eq!(a.due(None, Time(70), 10).await.unwrap(), []);
    assert_eq!(a.unsettled(None, 10).await.unwrap(), [id(1), id(2)]);
    // Until it is settled again, without a new row.
    b.settle(vec![Settled { instance: id(2), seq: 1, wake_at: Some(Time(80)) }]).await.unwrap();
    assert_eq!(a.due(None, Time(80), 10).await.unwrap(), [(Time(80), id(2))]);
    // Nobody else appends to it, until it is settled; then an append makes it the appender's.
    let later = next(id(1), 2);
    assert!(matches!(one(&b, later.clone()).await, Ok(Appended::OwnedElsewhere { .. })));
    assert_rows(&b, id(1), 1).await;
    a.settle(vec![Settled { instance: id(1), seq: 1, wake_at: None }]).await.unwrap();
    assert!(matches!(one(&b, later).await, Ok(Appended::Done)));
    assert_eq!(a.claim(vec![id(1)]).await.unwrap(), []);
    assert!(matches!(one(&a, next(id(1), 3)).await, Ok(Appended::OwnedElsewhere { .. })));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_a_dead_node_carried_is_claimed_by_one_other() {
    let options = quick();
    let (a, b, c) = (open(options.clone()).await, open(options.clone()).await, open(options).await);
    done(&a, (1..=40).map(|n| start(id(n))).collect()).await;
    drop(a);
    let all: Vec<_> = (1..=40).map(id).collect();
    assert_eq!(b.claim(all.clone()).await.unwrap(), []);
    departures(&b, 0).await;
    departures(&c, 0).await;
    let found = b.unsettled(None, 100).await.unwrap();
    assert_eq!(found, all);
    let (mut of_b, of_c) = tokio::join!(b.claim(all.clone()), c.claim(all.clone()));
    let (of_b, of_c) = (of_b.as_mut().unwrap(), of_c.unwrap());
    of_b.extend(of_c);
    of_b.sort();
    assert_eq!(*of_b, all, "each is claimed once");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_node_that_leaves_is_replaced_immediately() {
    let options = Options { lease: Duration::from_secs(60), ..quick() };
    let a = open(options.clone()).await;
    done(&a, vec![start(id(1))]).await;
    a.close().await.unwrap();
    let b = open(options).await;
    assert_eq!(b.claim(vec![id(1)]).await.unwrap(), [id(1)]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_node_that_was_taken_for_dead_writes_nothing_and_comes_back_as_another() {
    let server = crate::redis_server::Redis::start();
    let options = Options { lease: Duration::from_millis(1_500), ..options(server.url()) };
    let (a, b) = (open(options.clone()).await, open(options.clone()).await);
    done(&a, vec![start(id(1)), start(id(2))]).await;
    // The others believe that it is gone; it does not know that yet.
    server.command(&["ZREM", &format!("{}:{{0}}:nodes", options.prefix), "1"]);
    server.command(&["SADD", &format!("{}:{{0}}:gone", options.prefix), "1"]);
    let mut membership = a.membership();
    departures(&b, 0).await;
    let late = next(id(1), 2);
    let answer = one(&a, late.clone()).await;
    if membership.borrow().departures == 0 {
        assert!(matches!(answer, Err(Error::Unavailable(_))), "{answer:?}");
        tokio::time::timeout(Duration::from_secs(10), membership.changed()).await.unwrap().unwrap();
    }
    // The same append again, as another node: what it owned before may be taken over by any node,
    // also itself.
    assert!(matches!(one(&a, late.clone()).await, Ok(Appended::OwnedElsewhere { .. })));
    assert_eq!(a.claim(vec![id(1)]).await.unwrap(), [id(1)]);
    assert!(matches!(one(&a, late).await, Ok(Appended::Done)));
    assert_rows(&b, id(1), 2).await;
    assert_eq!(b.claim(vec![id(1), id(2)]).await.unwrap(), [id(2)]);
    assert_eq!(a.claim(vec![id(1), id(2)]).await.unwrap(), [id(1)]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_node_says_that_it_cannot_renew_before_its_lease_is_over() {
    let mut server = crate::redis_server::Redis::start();
    let lease = Duration::from_secs(5);
    let store =
        open(Options { lease, timeout: Duration::from_millis(300), ..options(server.url()) }).await;
    done(&store, vec![start(id(1))]).await;
    let mut membership = store.membership();
    let died = std::time::Instant::now();
    server.kill();
    holds(&mut membership, false).await;
    assert!(died.elapsed() < lease, "{:?}", died.elapsed());
    assert!(matches!(one(&store, next(id(1), 2)).await, Err(Error::Unavailable(_))));
    server.restart();
    holds(&mut membership, true).await;
    done(&store, vec![next(id(1), 2)]).await;
    assert_rows(&store, id(1), 2).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_user_without_the_channels_gets_an_error_that_names_them() {
    let redis = crate::redis_server::Redis::start();
    // As docs/redis.md says, but for the channels.
    let rules = "on >secret ~mine:* +@all -@admin -@dangerous +info +config|get";
    let set_user = |more: &[&str]| {
        let words: Vec<&str> = ["ACL", "SETUSER", "crux"]
            .into_iter()
            .chain(rules.split(' '))
            .chain(more.iter().copied())
            .collect();
        assert_eq!(redis.command(&words), "OK");
    };
    let user = Some("crux".to_owned());
    let options = Options {
        prefix: "mine".to_owned(),
        username: user,
        password: Some("secret".to_owned()),
        ..Options::new(redis.url())
    };
    set_user(&[]);
    let refused =
        Redis::open(options.clone()).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("&mine:*"), "{refused}");
    set_user(&["&mine:*"]);
    let store = open(options).await;
    done(&store, vec![start(id(1))]).await;
    assert_rows(&store, id(1), 1).await;
}
